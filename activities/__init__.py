"""The calls that a saga makes: one module per service, one activity per command. They call, and nothing else.

What they raise is translated once, in temporal/refusals.py: a refusal is final, anything else is retried.
"""
