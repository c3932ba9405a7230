"""What the carriers ask for a parcel: pure rules.

A price is for a zone and for pounds begun: of the weight, or of the dimensional weight if that is more, which is the volume in
cubic inches by the carrier's divisor. `PRICES` has the first pound and each further one at zone 4; other zones cost 5% of it more
or less for each zone between. Zones 1 to 8 go by how far the first three digits of the postal codes are apart, 9 is what lies
overseas: Alaska, Hawaii, the territories, military mail. Abroad has three zones of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Any

from simulators.easypost.addresses import AMERICAN, Address, is_undeliverable

OUNCES_OF_POUND = 16
HEAVIEST_OUNCES = 5_291.1
"""150 kg, to a tenth of an ounce, as exactly as weights are told."""
CURRENCY = "USD"
EMBARGOED = frozenset({"BY", "CU", "IR", "KP", "RU", "SY"})
_EUROPE = frozenset({
    "AD", "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE", "IS", "IT", "LI",
    "LT", "LU", "LV", "MC", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "SM", "VA",
})  # fmt: skip
_MILITARY = frozenset({"AA", "AE", "AP"})
_OVERSEAS_ZIP = ("006", "007", "008", "009", "09", "340", "962", "963", "964", "965", "966", "967", "968", "969",
                 "995", "996", "997", "998", "999")  # fmt: skip
_APART = (1, 10, 25, 100, 250, 450, 650)
"""How far apart the first three digits of two postal codes are at most, in zones 1 to 7."""
OVERSEAS, NEIGHBOUR, EUROPE, WORLD = 9, 10, 11, 12
_GROUND_DAYS = (2, 2, 2, 3, 3, 4, 5, 5, 8)


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    first: int
    """Cents, for the first pound at zone 4; abroad at zone 10."""
    further: int
    days: int | None
    """None: on the ground, by zone."""


@dataclass(frozen=True, slots=True)
class Carrier:
    name: str
    account_id: str
    heaviest: float
    """In ounces."""
    divisor: int
    small: int
    """Up to this volume, in cubic inches, only the weight counts."""
    domestic: tuple[Service, ...]
    abroad: tuple[Service, ...]
    is_post: bool = False
    """Only the post goes to soldiers."""


USPS = Carrier(
    "USPS", "ca_b25657e9896e4d63ac8151ac346ac41e", 1_120, 166, 1_728,
    (Service("Express", 3415, 260, 1), Service("Priority", 742, 110, 2), Service("GroundAdvantage", 607, 70, None)),
    (Service("ExpressMailInternational", 5820, 740, 5), Service("PriorityMailInternational", 4135, 560, 8),
     Service("FirstClassPackageInternationalService", 1520, 480, 14)),
    is_post=True,
)  # fmt: skip
UPS = Carrier(
    "UPSDAP", "ca_1e8c1f0f5ba94d4ab7a1f1b1c9f6f0a2", HEAVIEST_OUNCES, 139, 0,
    (Service("NextDayAir", 3890, 310, 1), Service("2ndDayAir", 1935, 190, 2), Service("Ground", 785, 75, None)),
    (Service("UPSSaver", 6110, 820, 3), Service("Expedited", 5240, 690, 6)),
)  # fmt: skip
FEDEX = Carrier(
    "FedExDefault", "ca_7c1d7c2f4c0e4f0d9a5f3e2b8d6a9b31", HEAVIEST_OUNCES, 139, 0,
    (Service("STANDARD_OVERNIGHT", 3720, 300, 1), Service("FEDEX_2_DAY", 1880, 185, 2), Service("FEDEX_GROUND", 810, 72, None)),
    (Service("INTERNATIONAL_PRIORITY", 5990, 800, 3), Service("INTERNATIONAL_ECONOMY", 4980, 640, 7)),
)  # fmt: skip
CARRIERS = (USPS, UPS, FEDEX)


@dataclass(frozen=True, slots=True)
class Quote:
    carrier: Carrier
    service: str
    cents: int
    days: int


Message = dict[str, str | None]


def quotes(
    origin: Address | None,
    destination: Address | None,
    parcel: dict[str, Any] | None,
    *,
    has_customs: bool,
    down: Collection[str] = (),
) -> tuple[list[Quote], list[Message]]:
    """What each carrier offers; of those that offer nothing, why not."""
    if origin is None or destination is None or parcel is None:
        return [], [_message(None, "A to_address, from_address and parcel are required for rating.")]
    found: list[Quote] = []
    told: list[Message] = []
    for carrier in CARRIERS:
        why = "Unable to connect to the carrier." if carrier.name in down else None
        why = why or _refusal(carrier, origin, destination, parcel, has_customs=has_customs)
        if why:
            told.append(_message(carrier, why))
        else:
            found += _offers(carrier, zone_between(origin, destination), pounds(carrier, parcel))
    return found, told


def unavailable(carrier: Carrier) -> Message:
    """Of a carrier that answered, but knows no rates."""
    return _message(carrier, "No rates are available.")


def _message(carrier: Carrier | None, message: str) -> Message:
    name, account = (carrier.name, carrier.account_id) if carrier else (None, None)
    return {"carrier": name, "carrier_account_id": account, "type": "rate_error", "message": message}


def _refusal(carrier: Carrier, origin: Address, destination: Address, parcel: dict[str, Any], *, has_customs: bool) -> str | None:
    countries = {origin["country"], destination["country"]}
    if is_undeliverable(destination) or is_undeliverable(origin):
        return "Unable to deliver: address not found."
    if countries & EMBARGOED or not countries & AMERICAN:
        return f"No service between {origin['country']} and {destination['country']}."
    if parcel["weight"] > carrier.heaviest:
        return f"The weight of the parcel exceeds the maximum of {carrier.heaviest:.0f} oz."
    if not countries <= AMERICAN and not has_customs:
        return "Customs information is required for international shipments."
    if not carrier.is_post and {(each["state"] or "").upper() for each in (origin, destination)} & _MILITARY:
        return "No service to military addresses."
    return None


def zone_between(origin: Address, destination: Address) -> int:
    abroad = next((each["country"] for each in (destination, origin) if each["country"] not in AMERICAN), None)
    if abroad is not None:
        return NEIGHBOUR if abroad in {"CA", "MX"} else EUROPE if abroad in _EUROPE else WORLD
    if any(_is_overseas(each) for each in (origin, destination)):
        return OVERSEAS
    apart: int = abs(int(origin["zip"][:3]) - int(destination["zip"][:3]))
    return next((zone for zone, most in enumerate(_APART, 1) if apart < most), len(_APART) + 1)


def _is_overseas(address: Address) -> bool:
    return address["country"] != "US" or (address["zip"] or "").startswith(_OVERSEAS_ZIP)


def pounds(carrier: Carrier, parcel: dict[str, Any]) -> int:
    """Those that are paid for."""
    weight: float = parcel["weight"] / OUNCES_OF_POUND
    volume = (parcel["length"] or 0) * (parcel["width"] or 0) * (parcel["height"] or 0)
    if volume > carrier.small:
        weight = max(weight, volume / carrier.divisor)
    return max(1, ceil(weight))


def _offers(carrier: Carrier, zone: int, weight: int) -> list[Quote]:
    if zone > OVERSEAS:
        factor, offered = 100 + 25 * (zone - NEIGHBOUR), carrier.abroad
    else:
        factor, offered = 80 + 5 * zone, carrier.domestic
    return [
        Quote(
            carrier,
            service.name,
            (service.first + service.further * (weight - 1)) * factor // 100,
            _GROUND_DAYS[zone - 1] if service.days is None else service.days + (2 if zone == OVERSEAS else 0),
        )
        for service in offered
    ]
