"""Amendments of orders: what one would come to, and asking the order's saga for it. No network call is made inside of a
transaction."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from chassis.access import Grant
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.logs import logger
from contracts.address import Address
from contracts.catalog import CatalogProduct, LookUpProducts, ProductsFound
from contracts.errors import ErrorCode, Refusal
from contracts.orders import AmendmentRequest, AmendmentTerms
from services.order.commands.amendment_records import (
    amendments_of,
    ask_amendment,
    find_amendment,
    note_refused,
    reductions_of,
)
from services.order.commands.orders import OrderService, update_id
from services.order.commands.records import order_for
from services.order.model import Order, OrderAmendment
from services.order.model.amending import AmendmentStatus, PreviewedAmendment, amended, require_amendable

log = logger(__name__)
CUSTOMER = "customer"


@dataclass(frozen=True)
class AmendmentService:
    """What customers and support may ask for about amendments, across catalogue, shipping, the order's saga and its record."""

    database: Database
    orders: OrderService

    async def preview(self, order_id: UUID, terms: AmendmentTerms, caller: Grant) -> PreviewedAmendment:
        """What it would come to. Nothing is written.

        Refusals: not_found, already_dispatched, not_amendable, validation_failed, product_unknown, address_undeliverable. Raises
        Unavailable."""
        order = await order_for(self.database, order_id, caller)
        return await self._previewed(order, terms)

    async def amend(
        self, order_id: UUID, request: AmendmentRequest, caller: Grant, key: IdempotencyKey, seen: int | None = None
    ) -> tuple[OrderAmendment, bool]:
        """Carry out an amendment, or find the one that this key has asked for; and whether it was answered before. It is ASKED
        still, if that takes longer than a client waits.

        Refusals: not_found, stale_version, idempotency_key_reused, amendment_needs_staff, those of `preview`, and those of the
        order's saga, after which the order is as before: out_of_stock, purchase_limit, payment_declined, parcel_too_heavy,
        conflict (the order has changed meanwhile). Raises Unavailable; then the same request may be sent again."""
        order = await order_for(self.database, order_id, caller)
        asked = await find_amendment(self.database, order_id, key)
        if asked is None:
            order.require_version(seen)
            previewed = await self._previewed(order, request)
            by = CUSTOMER if caller.subject == order.customer_id else str(caller.subject)
            if previewed.needs_staff and by == CUSTOMER:
                raise Refusal(
                    ErrorCode.AMENDMENT_NEEDS_STAFF,
                    f"An order of {previewed.amended.priced.charges.total} is looked at by the shop first; ask its support.",
                )
            asked = await ask_amendment(self.database, order, previewed.amended, caller, key, by)
            log.info("amendment_asked", order_id=order_id, number=asked.number, by=by)
        if asked.status != AmendmentStatus.ASKED:
            return _answered(asked), True
        return await self._carried_out(asked, request, key), False

    async def _carried_out(self, asked: OrderAmendment, request: AmendmentRequest, key: IdempotencyKey) -> OrderAmendment:
        """What its saga makes of it. Raises the refusal. The card is told to the saga alone."""
        amendment = asked.amendment.model_copy(update={"payment_token": request.payment_token})
        sagas = self.orders.sagas
        try:
            await sagas.amend(asked.order_id, amendment, update_id("amend", key), self.orders.wait)
        except Refusal as refusal:
            known = await note_refused(self.database, asked.order_id, asked.number, refusal)
            log.info("amendment_refused", order_id=asked.order_id, number=asked.number, code=refusal.code)
            if known.status == AmendmentStatus.REFUSED:
                raise
            return known
        return await find_amendment(self.database, asked.order_id, key) or asked

    async def _previewed(self, order: Order, terms: AmendmentTerms) -> PreviewedAmendment:
        require_amendable(order)
        orders = self.orders
        destination = await orders.destination(terms.ship_to or Address.model_validate(order.ship_to))
        tariff, taxes, products, reductions, earlier = await asyncio.gather(
            orders.tariffs.of(destination.tariff),
            orders.taxes.rates(destination.country, destination.region),
            self._products(terms),
            reductions_of(self.database, order),
            amendments_of(self.database, order.order_id),
        )
        found = amended(
            order, terms, products, tariff=tariff, taxes=taxes, terms=orders.terms, reductions=reductions, earlier=earlier
        )
        needs_staff = orders.terms.needs_review(found.priced.charges.total) and not order.needs_review
        return PreviewedAmendment(order, found, needs_staff)

    async def _products(self, terms: AmendmentTerms) -> list[CatalogProduct]:
        """Those of new lines that are on sale."""
        wanted = [line.product_id for line in terms.lines if line.product_id]
        if not wanted:
            return []
        found = await self.orders.catalog.post("/internal/v1/products/lookup", LookUpProducts(product_ids=wanted), ProductsFound)
        return [*found.products]


def _answered(amendment: OrderAmendment) -> OrderAmendment:
    """Raises why it came to nothing, if it did."""
    if refusal := amendment.refusal:
        raise refusal
    return amendment
