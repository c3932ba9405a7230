"""Shipping's state and rules: parcels (shipment.py), the tariff (rates.py), postal addresses (addresses.py)."""

from services.shipping.model.shipment import Asked, Shipment, TrackingEvent, inbox, metadata, outbox, unknown_shipment

__all__ = ["Asked", "Shipment", "TrackingEvent", "inbox", "metadata", "outbox", "unknown_shipment"]
