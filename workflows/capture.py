"""How the money of an order is taken as its parcels leave: it is held first, and what a parcel costs is taken when that leaves.

A provider holds for some days only. Before it lets go, what is still to be taken is held anew as the next attempt, with the same
card. Where that, or taking, is declined, the customer is asked for another card; what has not left is called off if none is tried
in time, and what has left stays owed.
"""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import CardDue, Outcome
    from contracts.payments import Payment, PaymentStatus
    from temporal.refusals import as_refusal
    from workflows import order_steps as steps
    from workflows.parcels import Parcel
    from workflows.saga import Undo
    from workflows.steps import Step

from workflows.delivery import Delivery
from workflows.messages import MOST_ATTEMPTS, NOT_DUE, CardOffer

A_DAY = timedelta(days=1)
"""So long another card is waited for, if the shop names no time."""
AN_HOUR = timedelta(hours=1)
"""So long at least, however soon a hold ends."""
MOST_HOLDS = MOST_ATTEMPTS // 2
"""After so many attempts to pay nothing is held anew: the others are kept for charging what leaves, and for other cards."""
TRIED_TOO_OFTEN = Refusal(ErrorCode.PAYMENT_DECLINED, "It was tried to pay too often.")


class Capturing(Delivery):
    """The part of an order's workflow that takes the money of a confirmed order. All that it asks of the payment service is in
    the history before it is asked, for it follows from messages and timers."""

    async def _take(self, parcel: Parcel) -> None:
        """Take what a parcel costs that has left: of what is held, or, if that is gone, with the same card anew."""
        hold, amount = self._hold, self._parcels.price_of([parcel])
        if not hold.is_by_parcel or parcel not in hold.to_take:
            return
        if hold.attempt is not None:
            is_last = hold.to_take == [parcel]
            taken = await self._answer_of(steps.capture_part(self._order, hold.attempt, amount, parcel, is_last=is_last))
            if isinstance(taken, Payment):
                self._is_taken(parcel, amount)
                if is_last:
                    hold.end()
                return
            self._progress.note("The payment is not held any more", for_staff=taken.detail)
            await self._let_go("what was held cannot be taken")
        declined = await self._charge(parcel, amount, hold.card)
        if declined:
            patience = timedelta(seconds=self._order.pay_again_seconds) or A_DAY
            self._wait_for_card(CardDue(parcel=parcel.number, until=workflow.now() + patience), declined)

    async def _mind_the_hold(self) -> None:
        """What is due by now: the hold is renewed, and what another card was waited for is given up."""
        hold, now = self._hold, workflow.now()
        for due in [due for due in hold.due if due.until <= now]:
            hold.due.remove(due)
            if due.parcel is not None:
                self._give_up(due.parcel)
            else:
                await self._call_off(hold.to_take, "No card could be charged for it.", "nobody paid with another card in time")
        if hold.renew_at and hold.renew_at <= now and not self._progress.is_final:
            await self._renew()

    async def _settle_the_hold(self) -> None:
        """Nothing is held, and nobody asked to pay, that is needed no more."""
        hold = self._hold
        if not hold.is_by_parcel:
            return
        counting, to_take = {parcel.number for parcel in self._parcels.counting}, hold.to_take
        hold.due = [due for due in hold.due if (due.parcel in counting if due.parcel is not None else to_take)]
        if not to_take:
            await self._let_go("nothing is to be taken of it any more")

    async def _try_another_card(self, offer: CardOffer) -> None:
        """For all that one is waited for. What is declined goes on waiting, no longer than before."""
        hold, progress = self._hold, self._progress
        if not hold.due:
            offer.answer = NOT_DUE
            return
        declined: Refusal | None = None
        for due in [*hold.due]:
            parcel = self._parcels.find(due.parcel) if due.parcel is not None else None
            hold.due.remove(due)
            refused = (
                await self._hold_anew(offer.card)
                if parcel is None
                else await self._charge(parcel, self._parcels.price_of([parcel]), offer.card)
            )
            if refused:
                declined = refused
                self._wait_for_card(due, refused)
            else:
                hold.card = offer.card
        await self._book_what_may_leave()
        await progress.tell(durably=True)
        if declined:
            outcome = Outcome.refused(self._order.order_id, progress.status, declined)
            offer.answer = outcome.model_copy(update={"pay_until": hold.pay_until})
        else:
            offer.answer = progress.outcome or progress.outcome_confirmed()

    async def _renew(self) -> None:
        """The provider lets go of what is held before all of it is taken: hold what is still to be taken anew. What was held
        many times is charged as it leaves instead."""
        hold = self._hold
        ends, hold.renew_at = hold.until or workflow.now(), None
        if hold.to_take and self._attempt >= MOST_HOLDS:
            self._progress.note("The payment is not held any more", for_staff=f"it was held {self._attempt} times")
            await self._let_go("it was held anew too often")
        elif hold.to_take and (declined := await self._hold_anew(hold.card)):
            self._wait_for_card(CardDue(until=max(ends, workflow.now() + AN_HOUR)), declined)

    async def _hold_anew(self, card: str) -> Refusal | None:
        """Hold what is still to be taken as the next attempt, and let go of what was held before. Why not, if it is declined."""
        amount = self._parcels.price_of(self._hold.to_take)
        payment = await self._next_attempt(amount, card, capture=False)
        if isinstance(payment, Refusal):
            return payment
        await self._let_go("another attempt holds it now")
        self._hold.begin(self._attempt, card, payment.held_until, workflow.now())
        self._progress.note(f"Payment authorised again: {amount}", for_staff=f"attempt {self._attempt}")
        return None

    async def _charge(self, parcel: Parcel, amount: Money, card: str) -> Refusal | None:
        """Take what a parcel costs as the next attempt. Why not, if it is declined."""
        payment = await self._next_attempt(amount, card, capture=True)
        if isinstance(payment, Payment) and payment.status == PaymentStatus.AUTHORIZED:  # too much was bought in a short time
            payment = await self._answer_of(steps.capture_part(self._order, self._attempt, amount, parcel, is_last=True))
        if isinstance(payment, Refusal):
            return payment
        self._is_taken(parcel, amount)
        return None

    async def _next_attempt(self, amount: Money, card: str, *, capture: bool) -> Payment | Refusal:
        if self._attempt >= MOST_ATTEMPTS:
            return TRIED_TOO_OFTEN
        self._attempt += 1
        self._register_undos()
        return await self._answer_of(steps.pay_anew(self._order, amount, card, self._attempt, capture=capture))

    async def _answer_of(self, step: Step[Any, Payment]) -> Payment | Refusal:
        """What became of it. Where somebody has failed the activity from outside, that says nothing, and it is asked again."""
        while True:
            asked = step.start_durably()
            await workflow.wait_condition(asked.done)
            try:
                return await asked
            except FailureError as failure:
                refusal = as_refusal(failure)
            if refusal and refusal.code in steps.CANNOT_BE_TAKEN:
                return refusal

    async def _let_go(self, why: str) -> None:
        """Of what is held and not taken, if anything is."""
        attempt = self._hold.attempt
        if attempt is None:
            return
        self._hold.end()
        self._saga.forget()
        self._saga.add(Undo(steps.release_hold(self._order, attempt, why)))
        await self._saga.compensate()
        self._register_undos()

    def _is_taken(self, parcel: Parcel, amount: Money) -> None:
        self._hold.taken[parcel.number] = amount
        self._progress.note(f"Paid {amount}", for_staff=f"parcel {parcel.number} has left")

    def _wait_for_card(self, due: CardDue, declined: Refusal) -> None:
        self._hold.due.append(due)
        words = f"The card was declined; another one may be tried until {due.until:%Y-%m-%d %H:%M} UTC"
        about = f"parcel {due.parcel} has left" if due.parcel else "to hold what is still to be taken"
        self._progress.note(words, declined.detail, for_staff=about)

    def _give_up(self, number: int) -> None:
        """Nobody has paid for a parcel that has left: it stays owed, and the order goes on."""
        parcel = self._parcels.find(number)
        owed = self._parcels.price_of([parcel] if parcel else [])
        self._hold.taken[number] = Money.zero(owed.currency)
        self._progress.note(f"{owed} were not paid", for_staff=f"parcel {number} has left, and nobody paid for it in time")
        self._progress.gave_up(f"capture {owed} of parcel {number}", "nobody paid with another card in time")
