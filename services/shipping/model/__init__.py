"""Shipping's state and rules: parcels (shipment.py), their packages and labels (package.py), boxes (packing.py), which rate is
bought (choosing.py), the tariff (rates.py), postal addresses (addresses.py)."""

from services.shipping.model.base import inbox, metadata, outbox
from services.shipping.model.package import LabelPicture, LabelRefund, Package
from services.shipping.model.shipment import Shipment, TrackingEvent, unknown_shipment

__all__ = [
    "LabelPicture",
    "LabelRefund",
    "Package",
    "Shipment",
    "TrackingEvent",
    "inbox",
    "metadata",
    "outbox",
    "unknown_shipment",
]
