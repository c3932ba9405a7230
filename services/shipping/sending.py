"""How parcels are sent: in which boxes, from where, by whom, and who is asked if the first one cannot."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Counter

from chassis.clients import NotUnderstood, Unavailable
from chassis.clock import utc_now
from chassis.logs import logger
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from services.shipping.model.choosing import Choice, Offered, Preference, choose
from services.shipping.model.packing import BOXES, Box
from services.shipping.ports import Carrier, Consignment, News, Place

log = logger(__name__)
fallbacks_total = Counter(
    "carrier_fallbacks_total", "Packages that the first carrier did not get, by who got them.", ["to", "why"]
)
ANYWHERE = "*"
SAMPLE = Place(
    Address(name="Shop", line1="417 Montgomery Street", city="San Francisco", region="CA", postal_code="94104", country="US"),
    company="Distributed Commerce",
    phone="4155555555",
)
"""Where parcels leave from if nobody says where."""


@dataclass(frozen=True)
class Sending:
    """What the commands need to send parcels. The order of the carriers is that in which they are asked."""

    carriers: Sequence[Carrier]
    boxes: Sequence[Box] = BOXES
    preference: Preference = Preference.PRICE
    fallback_after: timedelta = timedelta(minutes=2)
    """How long a parcel waits for a carrier that gives no answer before the next one is asked."""
    warehouses: Mapping[str, Place] | None = None
    """Where they are, by their ids, `*` for all others; None: nobody has said."""

    def carrier(self, name: str) -> Carrier:
        """Raises NotUnderstood: it is not in use any more, and somebody has to put it back."""
        for carrier in self.carriers:
            if carrier.name == name:
                return carrier
        raise NotUnderstood(f"there are parcels of carrier {name}, which CARRIERS does not name")

    def place_of(self, warehouse_id: str | None) -> Place:
        """Where a warehouse is. Refusal: warehouse_unknown."""
        if self.warehouses is None:
            return SAMPLE
        place = self.warehouses.get(warehouse_id or "") or self.warehouses.get(ANYWHERE)
        if place is None:
            raise Refusal(ErrorCode.WAREHOUSE_UNKNOWN, "Nobody has said where this warehouse is.")
        return place

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        """What a webhook of a carrier tells. Refusals: invalid_signature, validation_failed."""
        for carrier in self.carriers:
            if carrier.capabilities.tracks:
                return carrier.news(headers, body)
        raise Refusal(ErrorCode.INVALID_SIGNATURE, "No carrier tells us anything.")

    async def offered_all(self, consignments: Sequence[Consignment], days: int | None, since: datetime) -> list[Offered]:
        """One for each. `days`: what was promised; `since`: when it was first asked for. Refusals: address_undeliverable,
        parcel_too_heavy. Raises Unavailable."""
        return list(await asyncio.gather(*[self._offered(each, days, since) for each in consignments]))

    async def _offered(self, consignment: Consignment, days: int | None, since: datetime) -> Offered:
        """Nothing was bought for it yet, so that the next carrier may be asked whatever the one before has done."""
        why = ""
        for number, carrier in enumerate(self.carriers, start=1):
            try:
                offer = await carrier.offer(consignment)
            except Unavailable:
                if number == len(self.carriers) or utc_now() - since < self.fallback_after:
                    raise
                why = f"{carrier.name} gives no answer"
                continue
            choice = choose(offer.rates, consignment.service, days, self.preference)
            if choice is not None:
                if why:
                    fallbacks_total.labels(carrier.name, "away" if "answer" in why else "no rates").inc()
                    log.warning("carrier_fallback", reference=consignment.reference, to=carrier.name, why=why)
                    choice = Choice(choice.rate, f"{why}; {choice.reason}")
                return Offered(carrier.name, offer, choice)
            why = f"{carrier.name} offers nothing"
            log.info("carrier_offers_nothing", reference=consignment.reference, carrier=carrier.name, messages=offer.messages)
        raise Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "No carrier offers to take it there.")
