"""Who carries parcels: carriers by EasyPost's API (easypost.py), and our own vans (tariff.py)."""

from services.shipping.adapters.easypost import EasyPost
from services.shipping.adapters.tariff import OwnFleet

__all__ = ["EasyPost", "OwnFleet"]
