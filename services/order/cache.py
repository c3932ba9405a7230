"""What the order service remembers of the shipping service for a while: what parcels to a place cost."""

import time

from chassis.clients import ServiceClient, Unavailable
from chassis.logs import logger
from contracts.shipments import LookUpTariff, Tariff

LIVES_SECONDS = 300.0
"""A changed tariff is charged everywhere after this."""
log = logger(__name__)


class Tariffs:
    """The tariffs of places. Each is asked for once in a while. While shipping cannot be asked, the one that was known last
    holds, so that orders to known places are taken without it."""

    def __init__(self, shipping: ServiceClient, *, lives_s: float = LIVES_SECONDS, at_most: int = 10_000) -> None:
        self._shipping = shipping
        self._lives_s = lives_s
        self._at_most = at_most
        self._known: dict[LookUpTariff, tuple[float, Tariff]] = {}
        """When each was asked for, and the answer."""

    async def of(self, place: LookUpTariff) -> Tariff:
        """What parcels there cost. Raises Unavailable, of a place that was not asked about before."""
        asked_at, known = self._known.get(place, (0.0, None))
        now = time.monotonic()
        if known and now - asked_at < self._lives_s:
            return known
        try:
            tariff = await self._shipping.post("/internal/v1/shipping/tariff", place, Tariff)
        except Unavailable as error:
            if known is None:
                raise
            log.warning("old_tariff_holds", country=place.country, error=str(error))
            return known
        if len(self._known) >= self._at_most:
            self._known.clear()
        self._known[place] = now, tariff
        return tariff
