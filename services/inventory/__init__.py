"""Inventory: warehouses, the stock in each, and reservations for orders. Never sells what is not there."""
