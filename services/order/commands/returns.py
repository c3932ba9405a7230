"""Returns: asked for, decided about, received; what their sagas tell; and the orders that they bring. No network call is made
inside of a transaction."""

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, select

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.logs import logger
from chassis.statements import locked, sql
from chassis.store import UnitOfWork, transaction
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.ids import replacement_id_for
from contracts.money import Money
from contracts.orders import CancelRequest, Decision, LineRequest, QuoteRequest, Speed
from contracts.pricing import OrderCharges
from contracts.returns import (
    AdvanceReturn,
    PlaceReplacement,
    ReceivedLine,
    ReplacementPlaced,
    ReturnAdvanced,
    ReturnReceipt,
    ReturnRequest,
    ReturnState,
    settlement_of,
)
from services.order.commands.orders import OrderService, canceller, update_id
from services.order.commands.records import HAND_OVER_BATCH, LEASE, accept_order, find_order, order_for
from services.order.model import Order, Return, existing, idempotency, outbox, return_within_reach, within_reach
from services.order.model.placing import replacement
from services.order.model.pricing import Priced, as_it_was, with_credit
from services.order.model.returns import (
    Previewed,
    ReturnableLine,
    ReturnRules,
    account_ended,
    existing_return,
    lines_of,
    planned,
    require_paid,
    returnable_lines,
)
from temporal.returns import ReturnSagas

log = logger(__name__)

_OF_ORDER = locked(Return, col(Return.order_id) == bindparam("order_id"))
_TO_HAND_OVER = locked(
    Return,
    col(Return.hand_over_at) <= bindparam("now"),
    order_by=col(Return.hand_over_at),
    limit=HAND_OVER_BATCH,
    skip_locked=True,
)
_ORDERS = locked(Order, col(Order.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_WISHES_TO_BE_FORGOTTEN = sql("""
    select customer_id from customer_keys where customer_id = :customer_id and forget_requested_at is not null for share""")


@dataclass(frozen=True)
class ReturnService:
    """What customers and staff may ask for about returns, across the catalogue, shipping, the return's saga and its record."""

    database: Database
    orders: OrderService
    sagas: ReturnSagas
    rules: ReturnRules

    async def request(self, order_id: UUID, request: ReturnRequest, caller: Grant, key: IdempotencyKey) -> tuple[Return, bool]:
        """Accept a return, or find the one that this key asked for before; whether it was there before.

        Once its row is written it is accepted, whatever is down. Refusals: not_found, idempotency_key_reused, not_returnable,
        customer_forgotten, validation_failed, product_unknown, address_undeliverable. Raises Unavailable, if what is wanted
        instead cannot be priced.
        """
        order = await order_for(self.database, order_id, caller)
        cost: Money | Refusal | Unavailable | None = None
        try:
            cost = (await self._instead(order, request.exchange_for)).charges.total if request.exchange_for else None
        except (Refusal, Unavailable) as error:
            cost = error  # who repeats a request that was accepted is told so, whatever would be wrong with it now
        accepted, is_new = await request_return(self.database, order_id, request, caller, key, self.rules, cost)
        if is_new:
            log.info("return_requested", order_id=order_id, return_number=accepted.number, by=str(caller.subject))
        try:
            await self._start(accepted)
        except Unavailable as error:
            log.warning("return_waits_for_saga", order_id=order_id, return_number=accepted.number, error=str(error))
        return accepted, not is_new

    async def preview(self, order_id: UUID, request: ReturnRequest, caller: Grant) -> Previewed:
        """What a return would come to, if all of it came in good condition. Nothing is written.

        Refusals: not_found, not_returnable, customer_forgotten, validation_failed, product_unknown, address_undeliverable.
        Raises Unavailable."""
        order, returns = await with_returns(self.database, order_id, caller)
        run = planned(order, returns, request, self.rules, utc_now())
        settlement = settlement_of(run)
        if not run.exchange_for:
            return Previewed(run, settlement, None)
        instead = await self._instead(order, run.exchange_for)
        return Previewed(run, settlement, with_credit(instead, settlement.value.minor))

    async def returnable(self, order_id: UUID, caller: Grant) -> list[ReturnableLine]:
        """What of an order may be returned now. Refusal: not_found."""
        order, returns = await with_returns(self.database, order_id, caller)
        return returnable_lines(order, returns, self.rules, utc_now())

    async def decide(
        self, order_id: UUID, number: int, approve: bool, reason: str, caller: Grant, seen: int | None
    ) -> ReturnState:
        """Approve or reject a return. Refusals: not_found, own_order, stale_version, return_not_open. Raises Unavailable."""
        await self._require_decidable(order_id, number, caller, seen)
        decision, what = Decision(by=str(caller.subject), reason=reason), "approve" if approve else "reject"
        tell = self.sagas.approve if approve else self.sagas.reject
        state = _told(await tell(order_id, number, decision, _same_again(what, decision.by, reason)))
        log.info("return_decided", order_id=order_id, return_number=number, decision=what, by=decision.by)
        return state

    async def cancel(self, order_id: UUID, number: int, reason: str, caller: Grant, seen: int | None) -> ReturnState:
        """Call a return off, before anything came. Refusals: not_found, stale_version, return_not_open. Raises Unavailable."""
        found = await self._for(order_id, number, caller, seen)
        await self._start(found)
        request = CancelRequest(reason=reason, requested_by=canceller(found.customer_id, caller))
        again = _same_again("cancel", request.requested_by, reason)
        state = _told(await self.sagas.cancel(order_id, number, request, again))
        log.info("return_cancelled", order_id=order_id, return_number=number, by=request.requested_by)
        return state

    async def receive(
        self,
        order_id: UUID,
        number: int,
        lines: tuple[ReceivedLine, ...],
        warehouse_id: str | None,
        reason: str,
        caller: Grant,
        key: IdempotencyKey,
        seen: int | None,
    ) -> ReturnState:
        """Say what of a return has come, by line and condition; none: nothing did. Staff of a warehouse may say so of those that
        are expected there.

        Refusals: not_found, own_order, stale_version, not_returnable, return_not_open. Raises Unavailable; then the same request
        may be sent again."""
        found = await self._require_decidable(order_id, number, caller, seen)
        where = warehouse_id or found.warehouse_id
        if not caller.reaches(warehouse=where):
            raise Refusal(ErrorCode.NOT_FOUND, "You do not work for that warehouse.")
        found.require_announced(lines)
        receipt = ReturnReceipt(by=str(caller.subject), reason=reason, lines=lines, warehouse_id=where)
        state = _told(await self.sagas.receive(order_id, number, receipt, update_id("receive", key)))
        log.info("return_received", order_id=order_id, return_number=number, by=str(caller.subject))
        return state

    async def replace(self, command: PlaceReplacement) -> ReplacementPlaced:
        """Place the order that a return brings, and start its saga; or tell of the one that was placed before.

        Refusals: order_unknown, product_unknown, validation_failed, address_undeliverable, customer_forgotten, conflict. Raises
        Unavailable."""
        order = await find_order(self.database, command.replacement_id)
        if order is None:
            try:
                order = await self._place(command)
            except Refusal as refusal:
                # Another request for the same may be under way: from here on it cannot place the order any more.
                kept = await refuse_replacement(self.database, command, refusal)
                if isinstance(kept, Refusal):
                    raise kept from refusal
                order = kept
        try:
            await self.orders.start(order)
        except Unavailable as error:
            log.warning("order_waits_for_saga", order_id=order.order_id, error=str(error))
        charges = order.order_charges
        credit = charges.credit if charges and charges.credit else Money.zero(order.currency)
        return ReplacementPlaced(replacement_id=order.order_id, total=order.total, credit=credit)

    async def hand_over(self) -> bool:
        """Start the sagas of returns that were accepted while they could not be started.

        Returns whether there may be more to do now. Raises Unavailable if one of them could not be started."""
        returns = await take_returns_to_hand_over(self.database)
        told = await asyncio.gather(*map(self._start, returns), return_exceptions=True)
        for failure in filter(None, told):
            raise failure
        return len(returns) == HAND_OVER_BATCH

    async def _start(self, accepted: Return) -> None:
        """Start its saga, unless it is known to run. Raises Unavailable."""
        if run := accepted.to_start:
            await self.sagas.start(run)
            await note_return_handed_over(self.database, accepted.order_id, accepted.number)

    async def _instead(self, order: Order, wanted: list[LineRequest] | tuple[LineRequest, ...]) -> Priced:
        """What other goods cost now, to the order's address. Refusals: validation_failed, also for another currency;
        product_unknown, address_undeliverable. Raises Unavailable."""
        request = QuoteRequest(lines=list(wanted), ship_to=Address.model_validate(order.ship_to))
        priced = await self.orders.priced(request, order.customer_id)
        if priced.charges.total.currency != order.currency:
            raise Refusal(ErrorCode.VALIDATION_FAILED, f"The order was paid in {order.currency}; that is not sold in it.")
        return priced

    async def _place(self, command: PlaceReplacement) -> Order:
        order = await find_order(self.database, command.order_id)
        if order is None or command.replacement_id != replacement_id_for(command.order_id, command.number):
            raise Refusal(ErrorCode.ORDER_UNKNOWN, "There is no such order, or it has no such return.")
        if order.forgotten_at:
            raise account_ended()
        if self.orders.keys:
            await self.orders.keys.for_an_order(order.customer_id)
        if command.lines:
            speed, priced = Speed.STANDARD, await self._instead(order, command.lines)
            credit = command.credit.minor
        else:
            speed, priced = (
                _speed_of(order.order_charges),
                as_it_was(tuple(lines_of(order).values()), command.units, order.order_charges),
            )
            credit = priced.charges.total.minor
        fingerprint = hashlib.sha256(f"return {command.order_id} {command.number}".encode()).hexdigest()
        placement = replacement(order, command, with_credit(priced, credit), speed, self.orders.terms, fingerprint)
        return await accept_order(self.database, placement, allowed=partial(_require_replaceable, command=command))

    async def _for(self, order_id: UUID, number: int, caller: Grant, seen: int | None) -> Return:
        """Refusals: not_found, stale_version."""
        found = return_within_reach(await find_return(self.database, order_id, number), caller)
        found.require_version(seen)
        return found

    async def _require_decidable(self, order_id: UUID, number: int, caller: Grant, seen: int | None) -> Return:
        """The return, whose saga runs. Refusals: not_found, own_order, stale_version. Raises Unavailable."""
        found = return_within_reach(await find_return(self.database, order_id, number), caller)
        if caller.subject == found.customer_id:
            raise Refusal(ErrorCode.OWN_ORDER, "A colleague has to decide about a return of yours.")
        found.require_version(seen)
        await self._start(found)
        return found


async def find_return(database: Database, order_id: UUID, number: int) -> Return | None:
    """The return's row, whoever asks."""
    async with database.reading() as session:
        return await session.get(Return, (order_id, number))


async def with_returns(database: Database, order_id: UUID, caller: Grant) -> tuple[Order, list[Return]]:
    """An order within the caller's reach, and its returns. Refusal: not_found."""
    order = await order_for(database, order_id, caller)
    return order, await returns_of(database, order_id)


@transaction
async def request_return(
    work: UnitOfWork,
    order_id: UUID,
    request: ReturnRequest,
    caller: Grant,
    key: IdempotencyKey,
    rules: ReturnRules,
    cost: Money | Refusal | Unavailable | None,
) -> tuple[Return, bool]:
    """Write a new return down; whether it is new. Two at once for the same units come one after the other.

    `cost`: of what is wanted instead, or why nobody can say. Refusals: not_found, idempotency_key_reused, not_returnable,
    customer_forgotten, validation_failed."""
    order = within_reach(await work.get(Order, order_id), caller)
    if earlier := await idempotency.earlier_reply(work, key):
        return existing_return(await work.read(Return, order_id, earlier["number"])), False
    if isinstance(cost, Refusal | Unavailable):
        raise cost
    if await work.rows(_WISHES_TO_BE_FORGOTTEN, customer_id=order.customer_id):
        raise account_ended()
    run = planned(order, await work.all(_OF_ORDER, order_id=order_id), request, rules, utc_now())
    if cost is not None:
        require_paid(settlement_of(run).value, cost, request)
    accepted = Return.requested(run, request.comment)
    work.add(accepted)
    outbox.add(work, accepted.asked_for())
    await idempotency.remember(work, key, {"number": run.number})
    return accepted, True


@transaction
async def advance_return(work: UnitOfWork, command: AdvanceReturn) -> ReturnAdvanced:
    """Note how far a return got, and with its order what went back for it. Refusals: order_unknown, illegal_transition."""
    order = await work.get(Order, command.order_id)
    found = await work.get(Return, command.order_id, command.number) if order else None
    if order is None or found is None:
        raise Refusal(ErrorCode.ORDER_UNKNOWN, "There is no such return.")
    before = found.refunded_minor
    outbox.add(work, *found.advance(command))
    if found.refunded_minor > before:
        settlement = found.settled
        own = settlement.of_payment.minor if settlement and order.replaced else found.refunded_minor
        # What the order's own payment cannot give back of a return comes from the payment of the order that it replaced.
        of_own = min(found.refunded_minor, own) - min(before, own)
        order.give_back_for_return(of_own)
        if order.replaced and (of_credit := found.refunded_minor - before - of_own):
            existing(await work.get(Order, order.replaced.order_id)).give_back_for_return(of_credit)
    work.when_committed(
        partial(log.info, "return_status_reached", order_id=command.order_id, return_number=command.number, status=found.status)
    )
    return found.advanced()


@transaction
async def refuse_replacement(work: UnitOfWork, command: PlaceReplacement, refusal: Refusal) -> Order | Refusal:
    """No order is placed for a return any more, since its saga is told so and gives the money back; what it is told, or was told
    first. Or the order, if it was placed at the same moment after all."""
    found = await work.get(Return, command.order_id, command.number)
    if placed := await work.read(Order, command.replacement_id):
        return placed
    return found.refuse_replacement(refusal) if found else refusal


async def _require_replaceable(work: UnitOfWork, command: PlaceReplacement) -> None:
    """Refusals: order_unknown, and that which the return's saga was told."""
    found = await work.get(Return, command.order_id, command.number)
    if found is None:
        raise Refusal(ErrorCode.ORDER_UNKNOWN, "There is no such return.")
    if found.why_not_replaced:
        raise found.why_not_replaced


@transaction
async def take_returns_to_hand_over(work: UnitOfWork) -> list[Return]:
    """Returns whose sagas are not known to run; no other process gets the same ones for the time of LEASE."""
    returns = await work.all(_TO_HAND_OVER, now=utc_now())
    for each in returns:
        each.hand_over_at = utc_now() + LEASE
    return returns


@transaction
async def note_return_handed_over(work: UnitOfWork, order_id: UUID, number: int) -> None:
    """The return's saga runs. Refusal: not_found."""
    existing_return(await work.get(Return, order_id, number)).handed_over()


async def returns_of(database: Database, order_id: UUID) -> list[Return]:
    """All returns of an order, by number."""
    async with database.reading() as session:
        return list((await session.exec(select(Return).where(Return.order_id == order_id).order_by(col(Return.number)))).all())


def _speed_of(charges: OrderCharges | None) -> Speed:
    """How fast an order was sent."""
    services = [parcel.service for parcel in charges.parcels] if charges else []
    return Speed.EXPRESS if Speed.EXPRESS in services else Speed.STANDARD


def _same_again(what: str, by: str, reason: str) -> str:
    """Of an update: the same person with the same reason asks the same thing, and joins what is under way."""
    return f"{what}-{hashlib.sha256(f'{by} {reason}'.encode()).hexdigest()}"


def _told(state: ReturnState | None) -> ReturnState:
    """Refusal: return_not_open, if no saga runs."""
    if state is None:
        raise Refusal(ErrorCode.RETURN_NOT_OPEN, "Nothing more can be done about the return.")
    return state
