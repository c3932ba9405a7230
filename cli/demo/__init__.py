"""`commerce demo`: real baskets through the whole platform, with every trouble that an order can meet.

`scenarios.py` says which baskets meet what, and what must come of it; `shop.py` is the platform as the players see it.
"""
