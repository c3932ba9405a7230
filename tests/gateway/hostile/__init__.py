"""Hostile HTTP against the real front door, judged by what the services behind it received.

A new case is one line in a table: `framing.py` (where requests end), `targets.py` (paths, methods, versions, hosts),
`callers.py` (who a request runs as), `answers.py` (what services may do wrong).
"""
