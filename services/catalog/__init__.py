"""Catalog: products, their categories and prices. What an order costs is decided here."""
