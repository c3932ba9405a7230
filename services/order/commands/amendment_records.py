"""The record of amendments: that one was asked for, and what came of it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam
from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event
from contracts.orders import AmendmentOutcome
from services.order.commands.discounts import REDEMPTIONS_OF, USES
from services.order.model import Discount, Order, OrderAmendment, Redemption, within_reach
from services.order.model.amending import Amended, FrozenReduction, frozen_reductions, key_hash
from services.order.model.discounts import codes_of, take_over

_OF_ORDER = locked(OrderAmendment, col(OrderAmendment.order_id) == bindparam("order_id"))


async def find_amendment(database: Database, order_id: UUID, key: IdempotencyKey) -> OrderAmendment | None:
    """What this key has asked for. Refusal: idempotency_key_reused, if that was something else."""
    query = select(OrderAmendment).where(OrderAmendment.order_id == order_id, OrderAmendment.key_hash == key_hash(key))
    async with database.reading() as session:
        found = (await session.exec(query)).first()
    if found:
        found.require_asked_by(key.fingerprint)
    return found


async def amendments_of(database: Database, order_id: UUID) -> Sequence[OrderAmendment]:
    """All of an order, by number."""
    query = select(OrderAmendment).where(OrderAmendment.order_id == order_id).order_by(col(OrderAmendment.number))
    async with database.reading() as session:
        return (await session.exec(query)).all()


async def reductions_of(database: Database, order: Order) -> list[FrozenReduction]:
    """What the codes that an order uses take off it."""
    codes = codes_of(order)
    if not codes:
        return []
    async with database.reading() as session:
        redemptions = (await session.exec(select(Redemption).where(Redemption.order_id == order.order_id))).all()
        discounts = (await session.exec(select(Discount).where(col(Discount.code).in_(codes)))).all()
    return frozen_reductions(order, redemptions, {discount.code: discount for discount in discounts})


@transaction
async def ask_amendment(
    work: UnitOfWork, priced_for: Order, amended: Amended, caller: Grant, key: IdempotencyKey, by: str
) -> OrderAmendment:
    """Keep that an amendment is asked for; or what the same key has asked for at the same moment. `priced_for`: the order as it
    was when that was priced.

    Refusals: not_found, conflict (the order has changed since), idempotency_key_reused, not_amendable (there were too many)."""
    order = within_reach(await work.get(Order, priced_for.order_id), caller)
    earlier = await work.all(_OF_ORDER, order_id=order.order_id)
    if known := next((each for each in earlier if each.key_hash == key_hash(key)), None):
        known.require_asked_by(key.fingerprint)
        return known
    if order.version != priced_for.version:
        raise Refusal(ErrorCode.CONFLICT, "The order has changed since the amendment was priced; ask for it again.")
    amendment = OrderAmendment.asked(order, amended, key, earlier, by)
    work.add(amendment)
    return amendment


@transaction
async def note_refused(work: UnitOfWork, order_id: UUID, number: int, refusal: Refusal) -> OrderAmendment:
    """Its saga has refused it, unless it has told the record what came of it."""
    amendment = await work.get(OrderAmendment, order_id, number)
    if amendment is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such amendment.")
    amendment.refuse(refusal)
    return amendment


async def answer_amendment(work: UnitOfWork, order: Order, told: AmendmentOutcome) -> list[Event]:
    """Within the transaction of its saga's word: what came of it. The order is the amended one from now on, if it was carried
    out; the events that tell so."""
    amendment = await work.get(OrderAmendment, order.order_id, told.number)
    if amendment is None or not amendment.answer(told):
        return []
    codes = codes_of(order)
    event = amendment.apply_to(order)
    if codes:
        uses = await work.all(USES, codes=codes)
        take_over(event.charges, await work.all(REDEMPTIONS_OF, order_id=order.order_id), uses)
    return [event]
