"""An order is amended before anything of it has left: all of it, or nothing.

    reserve what is more → hold the difference → call off the labels that change → take the difference → book the new labels
    ── from here on it is amended ──
    tell the record → release what is less, give back what is too much

Whatever is refused before that line undoes what was done: the order is as before, perhaps with other labels. The carrier's word
decides who was first, the amendment or the warehouse. All of it follows from an update, so every step of it is durable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import (
        Actor,
        Amendment,
        AmendmentOutcome,
        AmendReply,
        Delivery,
        OrderRun,
        OrderStatus,
        Wait,
    )
    from contracts.parcels import ParcelLine, ParcelStatus
    from contracts.payments import Payment
    from temporal.names import ORDER_TOTAL
    from temporal.refusals import as_failure, reason_of
    from workflows import order_steps as steps
    from workflows.amendment_plan import AmendmentPlan, plan_of
    from workflows.parcels import Parcel, weight_of
    from workflows.saga import Undo

from workflows.messages import MOST_ATTEMPTS, MOST_PARCELS, TOO_LATE, AmendmentWish
from workflows.units import CancellingUnits

NOT_NOW = Refusal(ErrorCode.NOT_AMENDABLE, "Only an order that is confirmed, and that nothing else is done with, can be amended.")
UNDER_WAY = Refusal(ErrorCode.CONFLICT, "Another amendment of the order is being carried out.")
CHANGED = Refusal(ErrorCode.CONFLICT, "The order has changed since the amendment was priced; ask for a new preview.")
TOO_OFTEN = Refusal(ErrorCode.NOT_AMENDABLE, "The order was changed too often; cancel it, and order anew.")
NEEDS_STAFF = Refusal(ErrorCode.AMENDMENT_NEEDS_STAFF, "Somebody of the shop has to make this amendment.")


@dataclass
class _Undertaking:
    """An amendment that is being carried out, and what was done for it so far."""

    amendment: Amendment
    amended: OrderRun
    plan: AmendmentPlan
    more: Parcel | None
    """What it has in addition; not among the order's parcels before the order is amended."""
    undos: list[Undo] = field(default_factory=list)
    payment: Payment | None = None
    """What holds the difference; or all of it, if the money is taken as the parcels leave."""
    used_up: set[int] = field(default_factory=set)
    """Parcels whose labels were called off: a number is booked with the carrier once only."""
    not_sent: list[Parcel] = field(default_factory=list)
    """Parcels that the carrier refused when others of them had left already."""

    @property
    def due(self) -> Money:
        """What it costs in addition; below zero: what is too much."""
        return self.amendment.total - self.amendment.owed_before


class Amending(CancellingUnits):
    """The part of an order's workflow that amends it."""

    @workflow.update(description="Amend an order before anything of it has left: number, lines, total, ship_to, shipping, by")
    async def amend(self, amendment: Amendment) -> AmendReply:
        """Returns what was charged or goes back. Raises why the order is as before: out_of_stock, purchase_limit,
        payment_declined, already_dispatched, address_undeliverable, parcel_too_heavy, amendment_needs_staff, not_amendable,
        conflict."""
        wish = AmendmentWish(amendment)
        self._amendment = wish
        await workflow.wait_condition(lambda: wish.answer is not None or self._over)
        answer = wish.answer or NOT_NOW
        if isinstance(answer, Refusal):
            raise as_failure(answer)
        return answer

    @amend.validator
    def _validate_amend(self, amendment: Amendment) -> None:
        refusal = UNDER_WAY if self._amendment is not None else self._not_to_be_amended(amendment)
        if refusal is not None:
            raise as_failure(refusal)

    def _not_to_be_amended(self, amendment: Amendment) -> Refusal | None:
        """Why the order cannot be amended so; None if it may be tried."""
        parcels, order = self._parcels, self._order
        if parcels.may_leave:
            return TOO_LATE
        decided = self._parcel_decision or self._shortage_answer or self._splits or self._units
        busy = decided or self._cancellation or self._offer or self._hold.due
        if self._progress.status != OrderStatus.CONFIRMED or busy or not parcels.never_left or order.replaces:
            return NOT_NOW
        if amendment.number <= self._progress.amendment or amendment.owed_before != parcels.owed():
            return CHANGED
        has_room = parcels.tried + plan_of(order, parcels, amendment).numbers <= MOST_PARCELS
        return None if has_room and self._attempt < MOST_ATTEMPTS else TOO_OFTEN

    async def _amend(self, wish: AmendmentWish) -> None:
        amendment = wish.amendment
        self._progress.wait_for(f"amendment {amendment.number} to be carried out")
        # What was under way when it came has been done since.
        refusal = self._not_to_be_amended(amendment)
        if refusal is None:
            answer = await self._carry_out_amendment(amendment)
        else:
            answer = await self._came_to_nothing(amendment, refusal)
        wish.answer, self._amendment = answer, None

    async def _carry_out_amendment(self, amendment: Amendment) -> AmendReply | Refusal:
        order = self._order
        plan = plan_of(order, self._parcels, amendment)
        more = self._parcels.new(plan.more) if plan.more else None
        what = _Undertaking(amendment, _amended(order, amendment), plan, more)
        refusal = await self._reserve_and_hold(what)
        refusal = refusal or await self._call_off_labels(what)
        refusal = refusal or await self._take_difference(what)
        refusal = refusal or await self._book_anew(what)
        if refusal is None:
            return await self._settle_amendment(what)
        return await self._restore(what, refusal)

    def _waits_of_amendment(self, since: datetime) -> tuple[Wait, ...]:
        """That one is under way; nothing, if none is."""
        if self._amendment is None:
            return ()
        what = f"amendment {self._amendment.amendment.number} to be carried out, or undone"
        return (Wait(part="order", waiting_for=what, since=since, who=(Actor.PLATFORM,)),)

    # ── While it can be undone ───────────────────────────────────────────────────────────────────────────────────────────

    async def _reserve_and_hold(self, what: _Undertaking) -> Refusal | None:
        """The goods and the money that it needs in addition; why they are not to be had."""
        more, card = what.more, self._card_for(what.amendment)
        try:
            if more:
                what.undos.append(steps.release_inventory(what.amended, more, _named(more)))
                reservation = await steps.reserve_more(what.amended, more).run_durably()
                more.warehouse_id = reservation.warehouse_id
            if what.due.minor > 0:
                self._attempt += 1
                what.undos.append(Undo(steps.refund_payment(what.amended, self._attempt, "the order is not amended")))
                # One attempt holds all that is taken as the parcels leave.
                amount = what.amendment.total if self._hold.is_by_parcel else what.due
                what.payment = await steps.hold_payment(what.amended, amount, card, self._attempt).run_durably()
                if what.payment.review and not what.amendment.by_staff:
                    return NEEDS_STAFF
        except FailureError as failure:
            return reason_of(failure)
        return None

    def _card_for(self, amendment: Amendment) -> str:
        """What pays the difference: another card, or the one that paid for the order."""
        return amendment.payment_token or self._card

    async def _call_off_labels(self, what: _Undertaking) -> Refusal | None:
        """Those that have to be other ones; why not, if a parcel has left."""
        booked = [change.parcel for change in what.plan.changes if change.parcel.status == ParcelStatus.BOOKED]
        left = await self._without_labels(what, booked)
        return next(iter(left.values()), None)

    async def _take_difference(self, what: _Undertaking) -> Refusal | None:
        """Unless it is taken when the parcels leave; why not."""
        if what.payment and not self._hold.is_by_parcel:
            try:
                await steps.capture_payment(what.amended, self._attempt).run_durably()
            except FailureError as failure:
                return reason_of(failure)
        return None

    async def _book_anew(self, what: _Undertaking) -> Refusal | None:
        """Put what is kept of the parcels under new numbers, and book it, and what is more. Why not, if none of it has left."""
        try:
            fresh = [await self._under_a_new_number(change.parcel, change.kept) for change in what.plan.changes if change.kept]
        except FailureError as failure:
            return reason_of(failure)
        fresh += [what.more] if what.more else []
        shrunk = [change.parcel for change in what.plan.changes if change.removed]
        counting = [parcel for parcel in self._parcels.counting if parcel not in shrunk] + ([what.more] if what.more else [])
        is_awaited = any(parcel.status == ParcelStatus.AWAITED for parcel in counting)
        if is_awaited and what.amended.delivery == Delivery.ALL_TOGETHER:
            return None
        to_book = [parcel for parcel in fresh if parcel.status == ParcelStatus.RESERVED]
        for parcel in to_book:
            step = steps.create_shipment(what.amended, parcel, weight_of(what.amended, parcel), len(counting))
            try:
                shipment = await step.run_durably()
            except FailureError as failure:
                return await self._not_booked(what, to_book, reason_of(failure))
            parcel.tracking_number, parcel.status = shipment.tracking_number, ParcelStatus.BOOKED
            parcel.quiet_since = workflow.now()
        return None

    async def _not_booked(self, what: _Undertaking, parcels: Sequence[Parcel], refusal: Refusal) -> Refusal | None:
        """The carrier refuses one of these parcels. If none of the others has left, the order can be as before; else it goes on
        as amended, without what is not sent."""
        left = await self._without_labels(what, parcels)
        if not left:
            return refusal
        what.not_sent += [parcel for parcel in parcels if parcel.number not in left]
        for parcel in parcels:
            if parcel.number in left:
                told = left[parcel.number].extra.get("tracking_number")
                parcel.status, parcel.tracking_number = ParcelStatus.BOOKED, parcel.tracking_number or told
        return None

    async def _under_a_new_number(self, parcel: Parcel, kept: Sequence[ParcelLine]) -> Parcel:
        """What is kept of a parcel, in another one at the same warehouse. Nothing is left of the parcel, or what is not kept."""
        other = self._parcels.new(kept, parcel)
        if tuple(kept) == parcel.lines:
            await steps.move_reservation(self._order, parcel, other).run_durably()
        else:
            await steps.split_reservation(self._order, parcel, other).run_durably()
        self._parcels.put_apart(parcel, other)
        return other

    async def _without_labels(self, what: _Undertaking, parcels: Iterable[Parcel]) -> dict[int, Refusal]:
        """Call labels off; why not, of the parcels that have left, by their numbers."""
        self._saga.forget()
        self._saga.add(*[steps.cancel_shipment(self._order, parcel.number, _named(parcel)) for parcel in parcels])
        left = await self._saga.call_off()
        for parcel in parcels:
            if parcel.number not in left:
                parcel.status, parcel.tracking_number = ParcelStatus.RESERVED, None
                what.used_up.add(parcel.number)
        return left

    async def _restore(self, what: _Undertaking, refusal: Refusal) -> Refusal:
        """Undo it. What was called off is booked again, as the order was before."""
        self._saga.forget()
        self._saga.add(*what.undos)
        back = _taken_and_given_back(await self._saga.compensate(), self._order)
        for parcel in [parcel for parcel in self._parcels if parcel.number in what.used_up]:
            if parcel.status == ParcelStatus.RESERVED:
                await self._under_a_new_number(parcel, parcel.lines)
        self._register_undos()
        await self._book_what_may_leave()
        return await self._came_to_nothing(what.amendment, refusal, back)

    async def _came_to_nothing(self, amendment: Amendment, refusal: Refusal, back: Money | None = None) -> Refusal:
        """Tell so. `back`: what was taken for it and went back."""
        progress, nothing = self._progress, Money.zero(amendment.total.currency)
        progress.note("An amendment came to nothing", refusal.detail, for_staff=f"amendment {amendment.number}: {refusal.code}")
        progress.not_amended(amendment.number, back or nothing)
        outcome = AmendmentOutcome(
            number=amendment.number,
            code=refusal.code,
            detail=refusal.detail,
            charged=nothing,
            given_back=nothing,
            closed=back or nothing,
        )
        await progress.tell(durably=True, amendment=outcome)
        return refusal

    # ── When it is certain ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _settle_amendment(self, what: _Undertaking) -> AmendReply:
        """The order is the amended one from here on: everybody is told, and what is too much goes back."""
        amendment, progress, saga = what.amendment, self._progress, self._saga
        nothing = Money.zero(amendment.total.currency)
        charged = what.due if what.due.minor > 0 else nothing
        given_back = nothing - what.due if what.due.minor < 0 and not self._hold.is_by_parcel else nothing
        removed = [change.parcel for change in what.plan.changes if change.removed]
        for parcel in removed:
            parcel.status = ParcelStatus.CANCELLED
        closed = (progress.refunded or nothing) + given_back
        self._order = what.amended
        self._parcels.amended(what.amended, what.more)
        progress.amended(what.amended, amendment.number, closed)
        progress.note(
            f"Amended: {amendment.total} instead of {amendment.owed_before}",
            for_staff=f"amendment {amendment.number} by {amendment.by}",
        )
        progress.list_as(ORDER_TOTAL.value_set(float(amendment.total.amount)))
        outcome = AmendmentOutcome(number=amendment.number, charged=charged, given_back=given_back, closed=closed)
        await progress.tell(durably=True, amendment=outcome)
        saga.forget()
        saga.add(*[steps.release_inventory(self._order, parcel, _named(parcel)) for parcel in removed])
        if given_back.minor:
            key = f"amendment-{amendment.number}"
            saga.add(Undo(steps.give_back(self._order, given_back, key, "the order was amended")))
        await saga.compensate()
        self._register_undos()
        if what.payment and self._hold.is_by_parcel:
            await self._let_go("the amended order is held by another attempt")
            self._hold.begin(self._attempt, self._card_for(amendment), what.payment.held_until, workflow.now())
        if what.not_sent:
            await self._give_back(what.not_sent, "The parcel could not be sent.")
        await progress.tell(durably=True)
        return AmendReply(
            order_id=self._order.order_id,
            number=amendment.number,
            status=progress.status,
            total=amendment.total,
            charged=charged,
            given_back=given_back,
        )


def _amended(order: OrderRun, amendment: Amendment) -> OrderRun:
    """The order as it is from then on."""
    names = ("lines", "total", "charges", "ship_to", "shipping")
    return order.model_copy(update={name: getattr(amendment, name) for name in names})


def _taken_and_given_back(undone: Mapping[str, Any], order: OrderRun) -> Money:
    """What undos gave back that had been taken."""
    back = Money.zero(order.total.currency)
    for result in undone.values():
        if isinstance(result, Payment):
            back = back + result.refunded
    return back


def _named(parcel: Parcel) -> str:
    """What tells its steps from those of others."""
    return f" of parcel {parcel.number}"
