"""The saga of a return: story.py tells it, messages.py has what it is told, progress.py who it tells, steps.py what it does, and
rules.py what needs no Temporal."""
