"""The explorer: the real workflow against the model of the services, with an adversary that chooses what goes wrong.

    python -m testing.explorer --seeds 2000

`engine` is Temporal in memory: it drives the SDK's own workflow instances as the SDK's core and the server do, with a clock of
its own, so that a run takes milliseconds and is repeated exactly. `adversary` chooses, `run` plays one order, `checks` judges it,
`shrink` makes a short story of a run that failed.
"""
