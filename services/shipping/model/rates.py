"""The tariff: what a parcel costs the customer, by weight and zone. Pure rules; every warehouse is in the United States.

| zone      | where                                                                            |
|-----------|----------------------------------------------------------------------------------|
| domestic  | United States: the 48 states and DC                                              |
| remote    | Alaska, Hawaii, Puerto Rico and the other territories, military mail             |
| neighbour | Canada without its territories, Mexico                                           |
| europe    | European Economic Area, United Kingdom, Switzerland, the small states among them |
| world     | what else the carrier serves, and the far ends of the countries above            |

Price = the first kilogram + each further one begun; TARIFFS has the amounts. Express does not go to remote places.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

from contracts.base import Contract
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.shipments import LookUpTariff, ServiceTariff, Tariff

HEAVIEST_GRAMS = 150_000
CURRENCY = "USD"


class Zone(StrEnum):
    """What distance a parcel is priced by."""

    DOMESTIC = "domestic"
    REMOTE = "remote"
    NEIGHBOUR = "neighbour"
    EUROPE = "europe"
    WORLD = "world"


class ServiceLevel(StrEnum):
    """How fast. Orders are sent by standard."""

    STANDARD = "standard"
    EXPRESS = "express"


class Rate(Contract):
    """What one way of sending a parcel costs."""

    service: ServiceLevel
    price: Money
    days: int
    """Working days until delivery, at most."""


def _tariff(service: ServiceLevel, first: str, further: str, days: int) -> ServiceTariff:
    first_kilogram, further_kilogram = (Money(amount=Decimal(amount), currency=CURRENCY) for amount in (first, further))
    return ServiceTariff(service=service, first_kilogram=first_kilogram, further_kilogram=further_kilogram, days=days)


_STANDARD, _EXPRESS = ServiceLevel.STANDARD, ServiceLevel.EXPRESS
TARIFFS: Mapping[Zone, tuple[ServiceTariff, ...]] = {
    Zone.DOMESTIC: (_tariff(_STANDARD, "5.90", "0.80", 4), _tariff(_EXPRESS, "14.90", "1.60", 1)),
    Zone.REMOTE: (_tariff(_STANDARD, "9.90", "1.90", 9),),
    Zone.NEIGHBOUR: (_tariff(_STANDARD, "14.90", "2.40", 8), _tariff(_EXPRESS, "34.90", "4.20", 3)),
    Zone.EUROPE: (_tariff(_STANDARD, "24.90", "5.50", 10), _tariff(_EXPRESS, "54.90", "8.90", 4)),
    Zone.WORLD: (_tariff(_STANDARD, "34.90", "8.50", 15), _tariff(_EXPRESS, "79.90", "13.50", 6)),
}


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DOMESTIC = frozenset({"US"})
_US_TERRITORIES = _codes("AS GU MP PR UM VI")
_NEIGHBOURS = frozenset({"CA", "MX"})
_EUROPE = _codes("AD AT BE BG CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MC MT NL NO PL PT RO SE SI SK SM VA")
_WORLD = _codes(
    "AE AG AI AL AM AO AR AU AW AX AZ BA BB BD BF BH BI BJ BL BM BN BO BQ BR BS BT BW BZ CC CD CG CI CK CL CM CN CO CR CV CW CX "
    "DJ DM DO DZ EC EG ER ET FJ FK FM FO GA GD GE GF GG GH GI GL GM GN GP GQ GT GW GY HK HN HT ID IL IM IN IQ JE JM JO JP KE KG "
    "KH KI KM KN KR KW KY KZ LA LB LC LK LR LS MA MD ME MF MG MH MK ML MM MN MO MQ MR MS MU MV MW MY MZ NA NC NE NF NG NI NP NR "
    "NU NZ OM PA PE PF PG PH PK PM PN PS PW PY QA RE RS RW SA SB SC SG SH SJ SL SN SR SS ST SV SX SZ TC TD TG TH TJ TK TL TM TN "
    "TO TR TT TV TW TZ UA UG UY UZ VC VE VG VN VU WF WS XK YT ZA ZM ZW"
)
"""Countries not named anywhere here are not served: those under embargo, and those where nobody lives."""

_REMOTE_ZIP = ("006", "007", "008", "009", "090", "091", "092", "093", "094", "095", "096", "097", "098", "340",
               "962", "963", "964", "965", "966", "967", "968", "969", "995", "996", "997", "998", "999")  # fmt: skip
"""ZIP codes of Puerto Rico and the Virgin Islands, military mail, Hawaii, Guam and Samoa, Alaska."""
_REMOTE_REGIONS = _codes("AA AE AK AP AS FM GU HI MH MP PR PW VI")
_OUTLYING_POSTAL_CODES: Mapping[str, tuple[str, ...]] = {
    "CA": ("X", "Y"),  # Northwest Territories, Nunavut, Yukon
    "ES": ("35", "38", "51", "52"),  # Canary Islands, Ceuta, Melilla
    "FR": ("97", "98"),  # overseas departments and territories
    "PT": ("90", "91", "92", "93", "94", "95", "96", "97", "98", "99"),  # Madeira, Azores
}
"""Postal codes that belong to a near country and are priced as the rest of the world."""


def zone_of(country: str, region: str | None, postal_code: str) -> Zone | None:
    """The zone of a place; None where no parcel of ours goes."""
    postal_code = postal_code.replace(" ", "").upper()
    if country in _DOMESTIC:
        is_remote = postal_code.startswith(_REMOTE_ZIP) or (region or "").upper() in _REMOTE_REGIONS
        return Zone.REMOTE if is_remote else Zone.DOMESTIC
    if country in _US_TERRITORIES:
        return Zone.REMOTE
    if postal_code.startswith(_OUTLYING_POSTAL_CODES.get(country, ())):
        return Zone.WORLD
    if country in _NEIGHBOURS:
        return Zone.NEIGHBOUR
    if country in _EUROPE:
        return Zone.EUROPE
    return Zone.WORLD if country in _WORLD else None


def rates(zone: Zone, weight_grams: int) -> list[Rate]:
    """Each way to send a parcel of this weight there, cheapest first. Refusal: parcel_too_heavy."""
    if weight_grams > HEAVIEST_GRAMS:
        raise too_heavy()
    offered = [
        Rate(service=ServiceLevel(tariff.service), price=tariff.price(weight_grams), days=tariff.days) for tariff in TARIFFS[zone]
    ]
    return sorted(offered, key=lambda rate: rate.price.amount)


def days_of(zone: Zone | None, service: str) -> int | None:
    """What the tariff promises, in working days; None where it has no such service."""
    return next((tariff.days for tariff in TARIFFS[zone] if tariff.service == service), None) if zone else None


def tariff_of(question: LookUpTariff) -> Tariff:
    """What parcels of all weights cost there."""
    zone = zone_of(question.country, question.region, question.postal_prefix)
    return Tariff(services=TARIFFS[zone] if zone else ())


def too_heavy() -> Refusal:
    return Refusal(ErrorCode.PARCEL_TOO_HEAVY, f"A parcel may weigh {HEAVIEST_GRAMS // 1000} kg at most.")


def not_served() -> Refusal:
    return Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "No carrier of ours delivers to that country.")
