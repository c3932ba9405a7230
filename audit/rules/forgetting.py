"""Forgetting: of a customer whom identity has forgotten nothing personal is left once the orders have ended, and no key."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from audit.books import ForgottenRow, OrderRow, Source
from audit.rule import rule
from audit.verdict import Check, InFlight
from audit.world import World
from contracts.orders import FINAL_STATUSES

UNDER_WAY = timedelta(minutes=1)
"""How long the last step may take after the one before: the event, the job of the order service, the events that it sends."""


@rule("Identity's account of a forgotten customer is blank", Source.IDENTITY)
def forgotten_accounts_are_blank(world: World, check: Check) -> None:
    for row in world.books.forgotten:
        check.equal(row.customer_id, "what is left of the account", "nothing", row.left or "nothing")


@rule("An order of a forgotten customer names nobody once it has ended", Source.IDENTITY, Source.ORDER)
def forgotten_orders_are_blank(world: World, check: Check) -> None:
    for customer, order in _ended(world):
        if order.names_person and _is_under_way(world, customer, order):
            check.in_flight.append(_moving(customer, order, "to be forgotten"))
        else:
            check.equal(order.order_id, f"{order.status}: names a person", False, order.names_person, order.order_id)


@rule("Nor do its payments", Source.IDENTITY, Source.ORDER, Source.PAYMENT)
def forgotten_payments_are_blank(world: World, check: Check) -> None:
    told_later = {event.key for event in world.unapplied[Source.PAYMENT]}
    for customer, order in _ended(world):
        if str(order.order_id) in told_later or (order.names_person and _is_under_way(world, customer, order)):
            continue
        named = [row.reference for row in world.payments.get(order.order_id, ()) if row.names_person]
        check.equal(order.order_id, "payments that know the card or the address", "none", _listed(named), order.order_id)


@rule("Nor do its parcels", Source.IDENTITY, Source.ORDER, Source.SHIPPING)
def forgotten_parcels_are_blank(world: World, check: Check) -> None:
    told_later = {event.key for event in world.unapplied[Source.SHIPPING]}
    for customer, order in _ended(world):
        if str(order.order_id) in told_later or (order.names_person and _is_under_way(world, customer, order)):
            continue
        ours = (*world.shipments.get(order.order_id, ()), *world.labels_of.get(order.order_id, ()))
        named = [row.tracking_number or f"parcel {row.parcel}" for row in ours if row.names_person]
        check.equal(order.order_id, "parcels that say where they went", "none", _listed(named), order.order_id)


@rule("The key of a forgotten customer goes with the last order", Source.IDENTITY, Source.ORDER)
def forgotten_keys_are_destroyed(world: World, check: Check) -> None:
    keys = {key.customer_id: key for key in world.books.keys}
    orders: dict[UUID, list[OrderRow]] = defaultdict(list)
    for order in world.books.orders:
        orders[order.customer_id].append(order)
    for row in world.books.forgotten:
        key = keys.get(row.customer_id)
        asked = key is not None and key.forget_requested_at is not None
        if not asked and not _is_old(world, row.forgotten_at):
            check.in_flight.append(InFlight(str(row.customer_id), "the order service is to hear of it", row.forgotten_at))
            continue
        check.equal(row.customer_id, "takes orders", False, not asked)
        of_customer = orders[row.customer_id]
        if any(order.status not in FINAL_STATUSES or order.names_person for order in of_customer):
            check.compared += 1
            if key and key.is_forgotten:
                check.fails(row.customer_id, "key, while an order needs it", "kept", "destroyed")
        elif key and key.is_live and not _is_old(world, max((row.forgotten_at, *(order.updated_at for order in of_customer)))):
            check.in_flight.append(InFlight(str(row.customer_id), "its key is to be destroyed", row.forgotten_at))
        else:
            check.equal(row.customer_id, "has a live key", False, bool(key and key.is_live))


def _ended(world: World) -> Iterator[tuple[ForgottenRow, OrderRow]]:
    """Orders that have ended, of customers who are forgotten."""
    forgotten = {row.customer_id: row for row in world.books.forgotten}
    for order in world.books.orders:
        if (customer := forgotten.get(order.customer_id)) is not None and order.status in FINAL_STATUSES:
            yield customer, order


def _is_under_way(world: World, customer: ForgottenRow, order: OrderRow) -> bool:
    """Whether it has only just ended, or its saga has not; or the customer was only just forgotten."""
    return world.is_running(order.order_id) or not _is_old(world, max(customer.forgotten_at, order.updated_at))


def _is_old(world: World, at: datetime) -> bool:
    return at < world.books.taken_at - UNDER_WAY


def _moving(customer: ForgottenRow, order: OrderRow, why: str) -> InFlight:
    return InFlight(str(order.order_id), f"{order.status}, {why}", max(customer.forgotten_at, order.updated_at), order.order_id)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
