"""Shipping: rates and address checks, and one parcel per order, from its booking with the carrier to the door."""
