"""Our own vans, by our own tariff: nobody outside is asked. Staff say when a parcel has left and arrived."""

import asyncio
import hashlib
from collections.abc import Mapping

from contracts.address import Address
from services.shipping import documents
from services.shipping.model import packing, rates
from services.shipping.ports import (
    Capabilities,
    Consignment,
    Label,
    News,
    Offer,
    Picture,
    Rate,
    RefundState,
    TrackerNews,
    Verified,
)

FLEET = "Own fleet"


class OwnFleet:
    """A label of ours costs nothing until it is used, and is the same however often it is bought."""

    name = "tariff"
    capabilities = Capabilities(refunds=False, tracks=False)

    async def offer(self, consignment: Consignment) -> Offer:
        """By the customer's address: warehouses have no zones."""
        address = (consignment.origin if consignment.is_return else consignment.destination).address
        zone = rates.zone_of(address.country, address.region, address.postal_code)
        if zone is None:
            raise rates.not_served()
        grams = packing.billed(consignment.weight_grams, consignment.size, FLEET)
        offered = [Rate(rate.service, FLEET, rate.service, rate.price, rate.days) for rate in rates.rates(zone, grams)]
        return Offer(f"own-{consignment.reference}", offered)

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        number = hashlib.sha256(provider_id.encode()).hexdigest()[:14].upper()
        return Label(f"OWN{number}", FLEET, rate.service, rate.cost)

    async def find(self, provider_id: str) -> Label | None:
        """Nothing is kept outside our own books: to buy again is to ask again."""
        return None

    async def refund(self, provider_id: str) -> RefundState:
        return RefundState.NOT_APPLICABLE

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        return Picture("application/pdf", await asyncio.to_thread(documents.own_label, consignment, label))

    async def track(self, provider_id: str) -> TrackerNews | None:
        return None

    async def verify(self, address: Address) -> Verified | None:
        return None

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        return None
