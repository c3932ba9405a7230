"""A catalogue and baskets to play with: `baskets.py` reads them, `catalogue.py` makes products of the catalogue from them.

Their origin and licence are told in `complete_journey/`.
"""
