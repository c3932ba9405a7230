"""The objects of the API, as they are written."""

from __future__ import annotations

import base64
import secrets
import time
from datetime import datetime, timedelta
from typing import Any

from simulators.easypost.addresses import Address
from simulators.easypost.asked import FORMATS, AskedAddress, AskedCustoms, AskedItem, AskedParcel
from simulators.easypost.clock import address_stamp, stamp
from simulators.easypost.tariff import CURRENCY, Quote

MODE = "test"
Object = dict[str, Any]


def new_id(prefix: str) -> str:
    """Ids rise with time: each index of the ledger grows at its end, which costs much less."""
    return f"{prefix}_{time.time_ns():016x}{secrets.token_hex(8)}"


def address_of(asked: AskedAddress, at: datetime) -> Address:
    written = address_stamp(at)
    return {
        "id": new_id("adr"),
        "object": "Address",
        "created_at": written,
        "updated_at": written,
        "name": asked.name,
        "company": asked.company,
        "street1": asked.street1,
        "street2": asked.street2,
        "city": asked.city,
        "state": asked.state,
        "zip": asked.zip,
        "country": asked.country or "US",
        "phone": asked.phone,
        "email": asked.email,
        "mode": MODE,
        "carrier_facility": asked.carrier_facility,
        "residential": asked.residential,
        "federal_tax_id": asked.federal_tax_id,
        "state_tax_id": asked.state_tax_id,
        "verifications": {},
    }


def parcel_of(asked: AskedParcel, at: datetime) -> Object:
    return {
        "id": new_id("prcl"),
        **_dated("Parcel", at),
        "length": asked.length,
        "width": asked.width,
        "height": asked.height,
        "predefined_package": asked.predefined_package,
        "weight": asked.weight,
        "mode": MODE,
    }


def item_of(asked: AskedItem, at: datetime) -> Object:
    return {
        "id": new_id("cstitem"),
        **_dated("CustomsItem", at),
        "description": asked.description,
        "hs_tariff_number": asked.hs_tariff_number,
        "origin_country": asked.origin_country,
        "quantity": asked.quantity,
        "value": str(asked.value) if asked.value is not None else None,
        "weight": asked.weight,
        "code": asked.code,
        "mode": MODE,
        "manufacturer": asked.manufacturer,
        "currency": asked.currency,
        "eccn": asked.eccn,
        "printed_commodity_identifier": asked.printed_commodity_identifier,
    }


def customs_of(asked: AskedCustoms, items: list[Object], at: datetime) -> Object:
    return {
        "id": new_id("cstinfo"),
        **_dated("CustomsInfo", at),
        "contents_explanation": asked.contents_explanation,
        "contents_type": asked.contents_type,
        "customs_certify": asked.customs_certify,
        "customs_signer": asked.customs_signer,
        "eel_pfc": asked.eel_pfc,
        "non_delivery_option": asked.non_delivery_option,
        "restriction_comments": asked.restriction_comments,
        "restriction_type": asked.restriction_type,
        "mode": MODE,
        "declaration": asked.declaration,
        "customs_items": items,
    }


def rate_of(quote: Quote, shipment_id: str, at: datetime) -> Object:
    price = money(quote.cents)
    return {
        "id": new_id("rate"),
        **_dated("Rate", at),
        "mode": MODE,
        "service": quote.service,
        "carrier": quote.carrier.name,
        "rate": price,
        "currency": CURRENCY,
        "retail_rate": money(quote.cents * 13 // 10),
        "retail_currency": CURRENCY,
        "list_rate": money(quote.cents * 11 // 10),
        "list_currency": CURRENCY,
        "billing_type": "easypost",
        "delivery_days": quote.days,
        "delivery_date": None,
        "delivery_date_guaranteed": False,
        "est_delivery_days": quote.days,
        "shipment_id": shipment_id,
        "carrier_account_id": quote.carrier.account_id,
    }


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def cents_of(amount: str) -> int:
    whole, part = amount.split(".")
    return int(whole) * 100 + int(part)


def label_of(file_format: str, path: str, at: datetime) -> Object:
    """`path`: of the file, without its ending."""
    url = f"{path}.{file_format.lower()}"
    return {
        "object": "PostageLabel",
        "id": new_id("pl"),
        "created_at": stamp(at),
        "updated_at": stamp(at),
        "date_advance": 0,
        "integrated_form": "none",
        "label_date": stamp(at),
        "label_resolution": 300,
        "label_size": "4x6",
        "label_type": "default",
        "label_file_type": FORMATS[file_format],
        "label_url": url,
        "label_pdf_url": None,
        "label_zpl_url": None,
        "label_epl2_url": None,
        "label_file": None,
    }


def fees_of(price: str) -> list[Object]:
    fee = {"object": "Fee", "charged": True, "refunded": False}
    return [{**fee, "type": "LabelFee", "amount": "0.00000"}, {**fee, "type": "PostageFee", "amount": f"{price}000"}]


def tracker_of(code: str, carrier: str, at: datetime, *, shipment_id: str | None, is_return: bool) -> Object:
    """A new one: nobody has told anything yet."""
    name = new_id("trk")
    return {
        "id": name,
        "object": "Tracker",
        "mode": MODE,
        "tracking_code": code,
        "status": "unknown",
        "status_detail": "unknown",
        "created_at": stamp(at),
        "updated_at": stamp(at),
        "signed_by": None,
        "weight": None,
        "est_delivery_date": None,
        "shipment_id": shipment_id,
        "carrier": carrier,
        "tracking_details": [],
        "fees": [],
        "carrier_detail": None,
        "delivery_evidence": [],
        "finalized": False,
        "is_return": is_return,
        "public_url": f"https://track.easypost.com/{base64.urlsafe_b64encode(f'v1:{name}'.encode()).decode()}",
    }


def detail_of(tracker: Object, status: str, detail: str, message: str, place: Address | None, at: datetime) -> Object:
    return {
        "object": "TrackingDetail",
        "message": message,
        "description": "",
        "status": status,
        "status_detail": detail,
        "datetime": stamp(at),
        "source": tracker["carrier"],
        "carrier_code": "",
        "tracking_location": place_of(place),
        "est_delivery_date": None,
    }


def place_of(address: Address | None) -> Object:
    found = address or {}
    return {"object": "TrackingLocation", **{name: found.get(name) for name in ("city", "state", "country", "zip")}}


def carrier_detail_of(service: str, origin: Address, destination: Address, due: datetime) -> Object:
    return {
        "object": "CarrierDetail",
        "service": service,
        "container_type": None,
        "est_delivery_date_local": due.date().isoformat(),
        "est_delivery_time_local": None,
        "origin_location": _line(origin),
        "origin_tracking_location": place_of(origin),
        "destination_location": _line(destination),
        "destination_tracking_location": None,
        "guaranteed_delivery_date": None,
        "alternate_identifier": None,
        "initial_delivery_attempt": None,
    }


def _line(address: Address) -> str:
    return f"{address['city']} {address['state'] or address['country']}, {address['zip'] or ''}".upper()


def delivery_due(at: datetime, days: int) -> datetime:
    return (at + timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)


def _dated(kind: str, at: datetime) -> Object:
    written = stamp(at)
    return {"object": kind, "created_at": written, "updated_at": written}
