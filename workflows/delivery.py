"""What happens to an order from its confirmation until each of its parcels has ended: goods that arrive late, the carrier's
reports, and the parcels that do not arrive.

A parcel that is lost, comes back, is never handed over or is silent for too long waits for somebody to decide. If nobody does,
the first of its CHOICES is carried out. All that happens to one order is done one after another, here.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.inventory import ReservationStatus, StockUpdate, WhenShort
    from contracts.money import Money
    from contracts.orders import CancelRequest, OrderRun, OrderStatus, Outcome, UndoSettlement
    from contracts.parcels import CHOICES, ParcelChoice, ParcelStatus, Trouble
    from contracts.payments import GivenBack, Payment
    from contracts.shipments import CreateShipment, Shipment, ShipmentStatus, ShipmentUpdate
    from temporal.refusals import reason_of, words_of
    from temporal.retries import OUTSIDE, Preset
    from workflows import order_steps as steps
    from workflows.parcels import Parcel
    from workflows.saga import Undo
    from workflows.shields import shielded
    from workflows.steps import Step

from workflows.messages import MOST_PARCELS, NOT_TO_BE_SPLIT, AmendmentWish, CardOffer, OrderMessages, Split, UnitsWish

ON_THE_WAY = frozenset({ShipmentStatus.DISPATCHED, ShipmentStatus.IN_TRANSIT, ShipmentStatus.DELIVERED})
WHAT_HAPPENED = {
    Trouble.NOT_PICKED_UP: "The parcel has not been handed over to the carrier yet",
    Trouble.SILENT: "Nothing was heard of the parcel for long",
    Trouble.LOST: "The carrier has lost the parcel",
    Trouble.RETURNED: "The parcel came back",
}
AFTER_A_YEAR = timedelta(days=365)


class Delivery(OrderMessages):
    """The part of an order's workflow that follows its parcels."""

    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)
        self._began = workflow.now()
        self._is_overdue = False
        self._workflow_cancellation_heeded = False
        self._notifying: asyncio.Task[None] | None = None

    @abstractmethod
    async def _cancel(self, reason: Refusal, for_staff: str) -> None:
        """Undo everything; or, if parcels turn out to have left, what has not, and go on."""

    @abstractmethod
    async def _cancel_units(self, wish: UnitsWish) -> None:
        """Some units of it are not wanted any more."""

    @abstractmethod
    async def _amend(self, wish: AmendmentWish) -> None:
        """Carry it out, or undo what was done for it."""

    @abstractmethod
    async def _take(self, parcel: Parcel) -> None:
        """A parcel has left: take what it costs, if that is not taken already."""

    @abstractmethod
    async def _try_another_card(self, offer: CardOffer) -> None:
        """For what could not be held or taken."""

    @abstractmethod
    async def _mind_the_hold(self) -> None:
        """Do what is due by now about what is held."""

    @abstractmethod
    async def _settle_the_hold(self) -> None:
        """Nothing is held, and nobody asked to pay, that is needed no more."""

    async def _deliver(self) -> None:
        """Follow the parcels, or a wish to cancel, until nothing more can happen."""
        for parcel in self._parcels:
            parcel.quiet_since = workflow.now() if self._notifying else parcel.quiet_since or self._began
        watching = asyncio.create_task(self._watch())
        while not self._progress.is_final:
            self._heed_workflow_cancellation()
            self._progress.wait_for(self._what_it_waits_for())
            try:
                await workflow.wait_condition(self._has_something_to_do)
            except asyncio.CancelledError:
                self._heed_workflow_cancellation()
            await shielded(self._do_next())
            if not self._progress.is_final:
                await shielded(self._keep_the_hold())
            self._is_signalled = False
            if self._is_long() and not self._has_message() and self._is_notified():
                await self._go_on_in_another_run()
        watching.cancel()
        while self._reports:  # that came while the order ended: what comes back is put on the shelf
            await shielded(self._heed(self._reports.pop(0)))
        if self._notifying:
            await shielded(_finished(self._notifying))

    async def _do_next(self) -> None:
        if self._progress.status == OrderStatus.DELIVERED and not self._hold.due:
            await self._complete()
        elif self._reports:
            await self._heed(self._reports.pop(0))
        elif self._stock_news:
            await self._hear_of_stock(self._stock_news.pop(0))
        elif self._cancellation:
            await self._cancel(Refusal(ErrorCode.CANCELLED_BY_REQUEST, "Cancelled."), "")
        elif self._offer:
            offer, self._offer = self._offer, None
            await self._try_another_card(offer)
        elif self._parcel_decision:
            decision, self._parcel_decision = self._parcel_decision, None
            await self._carry_out(self._parcel_meant(decision), decision.choice, f"{decision.by}: {decision.reason}")
        elif self._splits:
            await self._split(self._splits.pop(0))
        elif self._units:
            await self._cancel_units(self._units.pop(0))
        elif self._amendment:
            await self._amend(self._amendment)
        elif self._shortage_answer:
            answer, self._shortage_answer = self._shortage_answer, None
            await self._carry_out_shortage(answer.choice)
        elif self._is_overdue:
            self._is_overdue = False
            for parcel in [*self._parcels]:
                if self._due_of(parcel) <= workflow.now() and not self._progress.is_final:
                    await self._nothing_happened(parcel)
            if not self._progress.is_final:
                await self._mind_the_hold()

    # ── What the carrier reports ─────────────────────────────────────────────────────────────────────────────────────────

    async def _heed(self, report: ShipmentUpdate) -> None:
        """Reports may be repeated, late, or skip one another."""
        parcel = self._parcels.find(report.parcel)
        if parcel is None or not parcel.counts:
            self._progress.note("News of another parcel", for_staff=f"parcel {report.parcel}: {report.status}")
            if report.status == ShipmentStatus.RETURNED:  # one that was lost before another was sent, or its price given back
                await steps.restock_inventory(self._order, parcel or Parcel(report.parcel, ())).run_durably()
            return
        parcel.quiet_since = workflow.now()
        if report.status in ON_THE_WAY:
            await self._moved(parcel, report.status)
        elif report.status == ShipmentStatus.LOST:
            await self._is_in_trouble(parcel, Trouble.LOST)
        elif report.status == ShipmentStatus.RETURNED:
            await self._is_in_trouble(parcel, Trouble.RETURNED)

    async def _moved(self, parcel: Parcel, status: ShipmentStatus) -> None:
        is_in_trouble = parcel.status == ParcelStatus.UNDELIVERED
        was_lost = is_in_trouble and parcel.has_left
        if is_in_trouble and (parcel.trouble == Trouble.RETURNED or (was_lost and status == ShipmentStatus.DISPATCHED)):
            return  # an old report, or one that is repeated: what was reported since is newer
        if parcel.status == ParcelStatus.DELIVERED:
            return
        await self._require_shipped(parcel)
        if parcel.status != ParcelStatus.SHIPPED:
            parcel.status, parcel.trouble = ParcelStatus.SHIPPED, None
            self._derive("Parcel found" if was_lost else "Parcel dispatched", parcel)
            self._list_troubles()
            await self._progress.tell()
        if status == ShipmentStatus.DELIVERED:
            parcel.status, parcel.delivered_at = ParcelStatus.DELIVERED, workflow.now()
            if self._parcels.status == OrderStatus.DELIVERED:
                await self._complete()
            else:
                self._derive("Parcel delivered", parcel)
                await self._progress.tell()

    async def _complete(self) -> None:
        """Every parcel that counts has arrived. It is over, unless another card is still waited for."""
        progress = self._progress
        if progress.status != OrderStatus.DELIVERED:
            progress.become(OrderStatus.DELIVERED, "Parcel delivered")
        if self._hold.due:
            await progress.tell(durably=True)
            return
        progress.become(OrderStatus.COMPLETED, "Completed")
        progress.list_as()
        await progress.tell()

    async def _is_in_trouble(self, parcel: Parcel, trouble: Trouble) -> None:
        is_known = parcel.status == ParcelStatus.UNDELIVERED and parcel.trouble in (trouble, Trouble.RETURNED)
        if is_known or parcel.status == ParcelStatus.DELIVERED:
            return
        if trouble in (Trouble.LOST, Trouble.RETURNED):
            await self._require_shipped(parcel)
        parcel.status, parcel.trouble = ParcelStatus.UNDELIVERED, trouble
        self._derive(WHAT_HAPPENED[trouble], parcel)
        self._list_troubles()
        await self._progress.tell()

    async def _keep_the_hold(self) -> None:
        """Whatever has happened: nothing is held, and nobody asked to pay, that is needed no more."""
        await self._settle_the_hold()
        if self._hold.is_by_parcel:
            await self._progress.tell(durably=True)

    async def _require_shipped(self, parcel: Parcel) -> None:
        """What has left is no longer reserved, and is to be paid."""
        if not parcel.has_left:
            await self._progress.do(steps.ship_inventory(self._order, parcel))
            await self._take(parcel)

    # ── Goods that arrive late ───────────────────────────────────────────────────────────────────────────────────────────

    async def _hear_of_stock(self, news: StockUpdate) -> None:
        """Goods have arrived for a parcel that waits for them, or their date has moved."""
        parcel = self._parcels.find(news.parcel)
        if parcel is None or parcel.status != ParcelStatus.AWAITED:
            return
        if news.status != ReservationStatus.RESERVED:
            parcel.expected_on = news.expected_on
            self._progress.note(f"Goods expected {_on(news)}", for_staff=f"parcel {parcel.number}")
            await self._progress.tell(durably=True)
            return
        parcel.status, parcel.warehouse_id = ParcelStatus.RESERVED, news.warehouse_id
        parcel.answer_until = parcel.expected_on = None
        self._progress.note("Goods have arrived", for_staff=f"parcel {parcel.number} at warehouse {news.warehouse_id}")
        self._register_undos()
        await self._book_what_may_leave()

    async def _book_what_may_leave(self, preset: Preset = OUTSIDE) -> None:
        """Book what was waiting. One that the carrier refuses is called off, and its price goes back. Nothing is booked while it
        cannot be held."""
        progress = self._progress
        for parcel in self._parcels.to_book() if not self._hold.is_due else ():
            try:
                shipment = await self._booking_of(parcel, preset).run_durably()
            except FailureError as failure:
                progress.note("The parcel could not be sent", for_staff=f"parcel {parcel.number}: {words_of(failure)}")
                await self._call_off([parcel], "The parcel could not be sent.", words_of(failure))
                continue
            parcel.tracking_number, parcel.status = shipment.tracking_number, ParcelStatus.BOOKED
            parcel.quiet_since = workflow.now()
            self._derive("Parcel booked", parcel)
        await progress.tell(durably=True)

    async def _split(self, wish: Split) -> None:
        """Fewer units than planned can be sent: the others go in a parcel of their own."""
        parcel = self._parcels.find(wish.request.parcel)
        other = parcel and parcel.is_in_the_house and self._parcels.part_of(parcel, wish.request.lines)
        if not parcel or not other or self._parcels.tried >= MOST_PARCELS:
            wish.answer = NOT_TO_BE_SPLIT
            return
        try:
            await steps.split_reservation(self._order, parcel, other).run_durably()
        except FailureError as failure:
            wish.answer = reason_of(failure)
            return
        self._parcels.split(parcel, other)
        why = f"by {wish.request.by}: {wish.request.reason}"
        self._progress.note(
            "Some of it goes in another parcel", for_staff=f"parcel {other.number} of parcel {parcel.number}, {why}"
        )
        self._register_undos()
        await self._book_what_may_leave()
        wish.answer = "done"

    async def _carry_out_shortage(self, choice: WhenShort) -> None:
        """What the customer wants of goods that are out of stock."""
        awaited = self._parcels.awaited
        if not awaited:
            self._progress.note("The goods had arrived already")
            return
        for parcel in awaited:
            parcel.answer_until = None
        if choice == WhenShort.WAIT:
            self._progress.note("The customer waits for the goods")
        elif choice == WhenShort.DROP and len(awaited) < len(self._parcels.counting):
            self._progress.note("The customer does without the goods that are out of stock")
            await self._call_off(awaited, "Out of stock.", "")
            await self._book_what_may_leave()
        else:
            self._wish_to_cancel(CancelRequest(reason="Goods are out of stock.", requested_by="customer"))

    # ── What is decided ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _nothing_happened(self, parcel: Parcel) -> None:
        """Nothing was heard, or decided, for too long."""
        parcel.quiet_since = workflow.now()
        if parcel.answer_until is not None:
            await self._carry_out_shortage(WhenShort.DROP)
        elif parcel.status == ParcelStatus.UNDELIVERED and parcel.trouble is not None:
            await self._carry_out(parcel, CHOICES[parcel.trouble][0], "nobody decided in time")
        elif parcel.status == ParcelStatus.BOOKED:
            await self._is_in_trouble(parcel, Trouble.NOT_PICKED_UP)
        elif parcel.status == ParcelStatus.SHIPPED:
            await self._is_in_trouble(parcel, Trouble.SILENT)

    async def _carry_out(self, parcel: Parcel | None, choice: ParcelChoice, why: str) -> None:
        """What follows from a decision is done by durable activities only, so that the decision is in the history first."""
        progress, trouble = self._progress, parcel.trouble if parcel else None
        if parcel is None or trouble is None or choice not in CHOICES[trouble]:
            progress.note("A decision came to nothing", for_staff=f"{choice} ({why}): the parcel has moved meanwhile")
            return
        parcel.quiet_since = workflow.now()
        progress.note("Decided about the parcel", for_staff=f"{choice}, {why}")
        if choice == ParcelChoice.WAIT:
            await self._wait_longer(parcel, trouble)
        elif choice == ParcelChoice.RESEND and self._parcels.tried >= MOST_PARCELS:
            progress.note("It cannot be sent again", f"An order has no more than {MOST_PARCELS} parcels.")
        elif choice == ParcelChoice.RESEND:
            await self._resend(parcel, trouble)
        elif trouble == Trouble.NOT_PICKED_UP:
            await self._give_up_sending(parcel, why)
        else:
            await self._refund(parcel, trouble, restock=choice == ParcelChoice.REFUND_AND_RESTOCK)

    async def _wait_longer(self, parcel: Parcel, trouble: Trouble) -> None:
        if trouble == Trouble.NOT_PICKED_UP:
            parcel.status, words = ParcelStatus.BOOKED, "Waiting for the parcel to be handed over"
        elif trouble == Trouble.SILENT:
            parcel.status, words = ParcelStatus.SHIPPED, "Waiting for news of the parcel"
        else:
            return  # it stays in trouble; there is time again to decide about it
        self._derive(words, parcel)
        self._list_troubles()
        await self._progress.tell(durably=True)

    async def _resend(self, parcel: Parcel, trouble: Trouble) -> None:
        """Send the goods once more. If that is refused, the parcel stays in trouble."""
        order, progress, saga = self._order, self._progress, self._saga
        if trouble == Trouble.RETURNED:
            await steps.restock_inventory(order, parcel).run_durably()
        other = self._parcels.next_to(parcel)
        saga.forget()
        label = self._label(other)
        saga.add(steps.release_inventory(order, other, label), steps.cancel_shipment(order, other.number, label))
        try:
            reservation = await steps.reserve_again(order, other).run_durably()
            other.warehouse_id = reservation.warehouse_id
            shipment = await self._booking_of(other).run_durably()
            other.tracking_number = shipment.tracking_number
        except FailureError as failure:
            left = await saga.call_off()
            if not left:
                await saga.compensate()
                progress.note("The parcel could not be sent again", for_staff=words_of(failure))
                self._register_undos()
                return
            other.tracking_number = next(iter(left.values())).extra.get("tracking_number")
            other.warehouse_id = other.warehouse_id or parcel.warehouse_id
        other.status, other.quiet_since = ParcelStatus.BOOKED, workflow.now()
        self._parcels.replace(parcel, other)
        self._hold.replace(parcel, other)
        self._register_undos()
        self._derive("Another parcel is sent", other, for_staff=f"parcel {other.number}: {other.tracking_number}")
        self._list_troubles()
        await progress.tell()

    async def _give_up_sending(self, parcel: Parcel, why: str) -> None:
        """It was never handed over, and is not to be any more."""
        await self._call_off([parcel], "The parcel could not be sent.", why)

    async def _refund(self, parcel: Parcel, trouble: Trouble, *, restock: bool) -> None:
        """Give the money back for goods that did not arrive; those that came back go on the shelf."""
        saga = self._saga
        worth = self._paid_for([parcel])
        saga.forget()
        saga.add(*self._refunds_of([parcel], f"parcel {trouble}"))
        if restock:
            saga.add(Undo(steps.restock_inventory(self._order, parcel)))
        done = await saga.compensate()
        parcel.status = ParcelStatus.REFUNDED
        self._note_refund(done)
        if self._parcels.counting:
            self._register_undos()
            self._derive(f"Refunded {worth}", parcel)
            self._list_troubles()
        else:
            self._progress.become(OrderStatus.REFUNDED, f"Refunded {self._progress.refunded}")
            self._progress.list_as()
        await self._settle_status()

    async def _call_off(self, parcels: Sequence[Parcel], why: str, for_staff: str) -> None:
        """Parcels that have not left come to nothing; of those that turn out to have left, nothing is undone."""
        if len(parcels) == len(self._parcels.counting):
            await self._cancel(Refusal(ErrorCode.CANCELLED_BY_REQUEST, why), for_staff)
            return
        left = await self._ask_the_carrier(parcels)
        for number, refusal in left.items():
            self._progress.note("Cannot be cancelled any more", refusal.detail, for_staff=f"parcel {number}")
        await self._give_back([parcel for parcel in parcels if parcel.number not in left], why)
        await self._settle_status()

    async def _ask_the_carrier(self, parcels: Sequence[Parcel]) -> dict[int, Refusal]:
        """Call parcels off at the carrier; why not, of those that have left, by their numbers."""
        booked = [parcel for parcel in parcels if parcel.status != ParcelStatus.AWAITED]
        self._saga.forget()
        self._saga.add(*[steps.cancel_shipment(self._order, parcel.number, self._label(parcel)) for parcel in booked])
        return await self._saga.call_off()

    async def _give_back(self, parcels: Sequence[Parcel], why: str) -> None:
        """The goods and the price of parcels that were called off at the carrier."""
        if not parcels:
            self._register_undos()
            return
        saga, worth = self._saga, self._paid_for(parcels)
        saga.forget()
        saga.add(*[steps.release_inventory(self._order, parcel, self._label(parcel)) for parcel in parcels])
        saga.add(*self._refunds_of(parcels, why))
        done = await saga.compensate()
        for parcel in parcels:
            parcel.status, parcel.answer_until = ParcelStatus.CANCELLED, None  # nobody is asked about it any more
        self._note_refund(done)
        self._register_undos()
        self._derive(f"{_named(parcels)} cancelled; refunded {worth}", None, detail=why)
        self._list_troubles()

    def _refunds_of(self, parcels: Sequence[Parcel], why: str) -> list[Undo]:
        """What gives back the price of these parcels, or all that was paid if there are no others; nothing, if they were free."""
        order, attempt = self._order, self._attempt
        if not self._parcels.is_parted and not self._hold.is_by_parcel:
            return [Undo(steps.refund_payment(order, attempt, why))]
        key = "-".join(["parcel", *(str(parcel.number) for parcel in parcels)])
        price = self._paid_for(parcels)
        if not price.minor:
            return []
        if self._hold.is_by_parcel or self._progress.amendment:  # several attempts may have taken it
            return [Undo(steps.give_back(order, price, key, why))]
        return [Undo(steps.refund_part(order, attempt, price, key, why))]

    def _paid_for(self, parcels: Sequence[Parcel]) -> Money:
        """What the customer has paid for them so far."""
        return self._hold.taken_of(parcels) if self._hold.is_by_parcel else self._parcels.price_of(parcels)

    def _note_refund(self, done: Mapping[str, Any]) -> None:
        """Keep what went back, by the results of undos."""
        progress, nothing = self._progress, Money.zero(self._order.total.currency)
        closed = progress.closed or nothing
        told = refunded_of(done, (progress.refunded or nothing) + closed)
        progress.refunded = told - closed if told >= closed else nothing

    async def _settle_status(self) -> None:
        """An order whose last open parcel has ended is over."""
        await self._settle_the_hold()
        if self._progress.is_final:
            await self._progress.tell()
        elif self._parcels.status == OrderStatus.DELIVERED:
            await self._complete()
        else:
            await self._progress.tell(durably=True)

    def _register_undos(self) -> None:
        """All that may have to be undone of an order whose parcels are booked, or may be."""
        order, in_the_house = self._order, [parcel for parcel in self._parcels if parcel.is_in_the_house]
        self._saga.forget()
        if self._parcels.is_parted:
            self._saga.add(*[steps.release_inventory(order, parcel, self._label(parcel)) for parcel in in_the_house])
        elif self._parcels.current:
            self._saga.add(steps.release_inventory(order, self._parcels.current))
        else:
            self._saga.add(steps.release_plan(order))
        self._saga.add(*[Undo(steps.refund_payment(order, attempt)) for attempt in range(1, self._attempt + 1)])
        if self._parcels.is_parted:
            booked = [parcel for parcel in in_the_house if parcel.status != ParcelStatus.AWAITED]
            self._saga.add(*[steps.cancel_shipment(order, parcel.number, self._label(parcel)) for parcel in booked])
        else:
            self._saga.add(steps.cancel_shipment(order, self._parcels.current.number if self._parcels.current else 1))

    # ── What is told of it ───────────────────────────────────────────────────────────────────────────────────────────────

    def _derive(self, what: str, parcel: Parcel | None, *, detail: str | None = None, for_staff: str | None = None) -> None:
        """Something happened to a parcel: the order is where its parcels are."""
        progress, status = self._progress, self._parcels.status
        if self._parcels.is_parted and parcel is not None:
            for_staff = for_staff or f"parcel {parcel.number}"
        if status in (progress.status, OrderStatus.DELIVERED, OrderStatus.CANCELLED, OrderStatus.REFUNDED):
            progress.note(what, detail, for_staff=for_staff)  # how it ends is told when all of it has ended
        else:
            progress.become(status, what, detail, for_staff=for_staff)

    def _list_troubles(self) -> None:
        """Let operators find the order by what is wrong with its parcels."""
        self._progress.list_trouble(next((parcel.trouble for parcel in self._parcels.in_trouble), None))

    def _booking_of(self, parcel: Parcel, preset: Preset = OUTSIDE) -> Step[CreateShipment, Shipment]:
        parcels = self._parcels
        return steps.create_shipment(self._order, parcel, parcels.weight_of(parcel), len(parcels.counting), preset)

    def _label(self, parcel: Parcel) -> str:
        """What tells its steps from those of others."""
        return f" of parcel {parcel.number}" if self._parcels.is_parted else ""

    # ── What wakes it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _has_message(self) -> bool:
        told = self._reports or self._stock_news or self._shortage_answer or self._splits or self._units
        wished = self._offer or self._amendment or self._cancellation
        return bool(told or wished or self._parcel_decision or self._is_overdue)

    def _has_something_to_do(self) -> bool:
        is_delivered = self._progress.status == OrderStatus.DELIVERED and not self._hold.due
        return self._has_message() or self._is_signalled or is_delivered

    def _is_notified(self) -> bool:
        return self._notifying is None or self._notifying.done()

    def _is_long(self) -> bool:
        """Whether the history should go on in another run. To be asked after a signal or a timer; as a condition to wait for, it
        would depend on updates that were rejected, and those are in no history."""
        return workflow.info().is_continue_as_new_suggested()

    async def _go_on_in_another_run(self, *, review_until: datetime | None = None, pay_until: datetime | None = None) -> None:
        """Does not return, unless something else has to be done first."""
        is_free = workflow.all_handlers_finished
        await workflow.wait_condition(lambda: is_free() or self._has_message() or self._is_decided())
        if self._has_message() or self._is_decided():
            return
        current = self._parcels.current
        so_far = self._progress.so_far(
            review_until=review_until,
            pay_until=pay_until,
            attempt=self._attempt,
            quiet_since=(current.quiet_since if current else None) or self._began,
            cancelled_units=self._units_cancelled(),
        )
        card = {"payment_token": self._card, "return_url": self._return_url}
        workflow.continue_as_new(self._order.model_copy(update={"so_far": so_far, **card}))

    def _is_decided(self) -> bool:
        """Whether what it waited for before it was confirmed has come."""
        match self._progress.status:
            case OrderStatus.IN_REVIEW:
                return self._approval is not None
            case OrderStatus.ACTION_REQUIRED:
                return self._attempt in self._answered_attempts
        return False

    async def _watch(self) -> None:
        """Wake the story when nothing was heard of a parcel, or decided about it, for too long."""
        while True:
            await self._until(self._due())
            self._is_overdue = workflow.now() >= self._due()
            await workflow.wait_condition(lambda: not self._is_overdue)

    async def _until(self, due: datetime) -> None:
        """Return then, or when it turns out to be due earlier."""
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._due() < due,
                timeout=max(due - workflow.now(), timedelta(seconds=1)),
                timeout_summary="Until somebody has to look at the parcel",
            )

    def _due(self) -> datetime:
        """When somebody has to look at one of the parcels, or at what is held for them."""
        of_parcels = min(map(self._due_of, self._parcels), default=self._began + AFTER_A_YEAR)
        return min(of_parcels, self._hold.wakes_at or of_parcels)

    def _due_of(self, parcel: Parcel) -> datetime:
        due = None if self._progress.status == OrderStatus.CANCELLING else parcel.due(self._order)
        return due or (parcel.quiet_since or self._began) + AFTER_A_YEAR

    def _what_it_waits_for(self) -> str:
        if until := self._hold.pay_until:
            return f"the customer to pay with another card by {until:%Y-%m-%d %H:%M} UTC"
        if troubled := self._parcels.in_trouble:
            first = min(troubled, key=self._due_of)
            return f"somebody to decide about the parcel ({first.trouble}) by {self._due_of(first):%Y-%m-%d %H:%M} UTC"
        if self._progress.status == OrderStatus.SHIPPED:
            return "the carrier to deliver"
        return "goods to arrive" if self._parcels.awaited else "the warehouse to dispatch"

    def _heed_workflow_cancellation(self) -> None:
        """`temporal workflow cancel` is a wish to cancel like any other, whenever it comes."""
        if not self._workflow_cancellation_heeded and workflow.cancellation_reason() is not None:
            self._workflow_cancellation_heeded = True
            self._wish_to_cancel(CancelRequest(reason="The workflow was cancelled."))

    def _answer(self, outcome: Outcome) -> None:
        """Let the client of `place` know."""
        self._answered = outcome


def refunded_of(undone: Mapping[str, Any], before: Money) -> Money:
    """What the customer got back in all, by the results of the undos; `before`: before them. What returns gave back is no part
    of it: they tell it themselves."""
    refunds = [result for name, result in undone.items() if name.startswith("refund-")]
    by_hand = [result.refunded for result in refunds if isinstance(result, UndoSettlement) and result.refunded]
    given_back = [result.amount for result in refunds if isinstance(result, GivenBack)]
    parts = [result.moved for result in refunds if isinstance(result, Payment) and result.moved]
    whole = [result.refunded for result in refunds if isinstance(result, Payment) and not result.moved]
    told = reduce(add, whole) if whole else before
    return reduce(add, [*by_hand, *given_back, *parts], told if told >= before else before)


def _on(news: StockUpdate) -> str:
    return f"on {news.expected_on:%Y-%m-%d}" if news.expected_on else "later; nobody knows when"


def _named(parcels: Iterable[Parcel]) -> str:
    numbers = [str(parcel.number) for parcel in parcels]
    return f"Parcel {numbers[0]}" if len(numbers) == 1 else f"Parcels {', '.join(numbers)}"


async def _finished(task: asyncio.Task[None]) -> None:
    await task
