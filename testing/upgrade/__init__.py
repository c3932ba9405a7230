"""The drill of an upgrade: a good and a bad build of the saga come beside the one that runs, while customers go on ordering.

`trees.py` has the two builds as edits, `orders.py` the orders that are in flight when it happens, `terminal.py` the operator,
`drill.py` what is done, in its order, and what must be so afterwards. `make upgrade-drill`.
"""
