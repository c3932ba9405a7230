"""How an order is paid for: with the card that came with it, or, if that is declined and the shop waits for it, another one.
Where the customer has to do something first, e.g. confirm the payment at the bank, that is waited for."""

from collections.abc import Awaitable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.orders import OrderRun, OrderStatus
    from contracts.payment_actions import PaymentAction
    from contracts.payments import Payment, PaymentStatus, ProcessPayment
    from temporal.refusals import as_failure, as_refusal
    from workflows import order_steps as steps
    from workflows.saga import Undo
    from workflows.steps import Step

from workflows.capture import Capturing

NOT_CONFIRMED = Refusal(ErrorCode.PAYMENT_NOT_CONFIRMED, "The payment was not confirmed in time.")


class Paying(Capturing):
    """The part of an order's workflow that takes the money, or holds it."""

    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)
        declined, so_far = self._progress.declined, order.so_far
        self._pay_until = declined.pay_until if declined else so_far.pay_until if so_far else None
        """Until when another card may be tried."""

    async def _pay(self) -> Payment:
        """Take the money, or hold it. While the customer has to confirm that, or if the card is declined and the shop waits for
        another one, the goods are kept."""
        progress = self._progress
        paid: Payment | None = None
        if progress.status == OrderStatus.RESERVED:
            self._saga.add(Undo(steps.refund_payment(self._order)))
            paid = await self._paid_by(progress.do(self._charging()))
        elif progress.status == OrderStatus.ACTION_REQUIRED:
            paid = await self._paid_by(self._asked_again())
        while paid is None:
            self._hold.card = await self._another_card()
            self._attempt += 1
            self._saga.add(Undo(steps.refund_payment(self._order, self._attempt)))
            # Durably, because it follows from a message: that it was tried is in the history before the card is charged.
            paid = await self._paid_by(self._charging().run_durably())
        return paid

    async def _paid_by(self, asked: Awaitable[Payment]) -> Payment | None:
        """What a card is charged, once its customer has done what that needs; None if it was declined, and another one is waited
        for. Raises what failed, if that was anything else."""
        try:
            payment = await asked
            while payment.status == PaymentStatus.ACTION_REQUIRED:
                assert payment.action is not None
                await self._ask_to_act(payment.action)
                payment = await self._asked_again()
        except FailureError as failure:
            await self._ask_for_another_card(self._declined(failure))
            return None
        return payment

    def _charging(self) -> Step[ProcessPayment, Payment]:
        """Charge the newest card; or ask what became of that."""
        return steps.process_payment(self._order, self._parcels.owed(), self._card, self._attempt, self._return_url)

    # ── What the customer has to do first ────────────────────────────────────────────────────────────────────────────────

    async def _ask_to_act(self, action: PaymentAction) -> None:
        """Tell the customer what to do, and until when; of what was told before, only what is new."""
        progress = self._progress
        is_new = progress.status != OrderStatus.ACTION_REQUIRED
        progress.needs_action(action, workflow.now() + timedelta(seconds=self._order.action_seconds))
        await progress.tell()
        if is_new:
            progress.list_as()
            self._answer(progress.outcome_to_confirm())

    async def _asked_again(self) -> Payment:
        """What the payment is once the customer has acted, or time is up. Raises payment_not_confirmed, if it waits even then."""
        is_late = not await self._has_acted()
        self._answered_attempts.discard(self._attempt)
        # Durably, because it follows from a message.
        payment = await self._charging().run_durably()
        if is_late and payment.status == PaymentStatus.ACTION_REQUIRED:
            raise as_failure(NOT_CONFIRMED)
        return payment

    async def _has_acted(self) -> bool:
        """Wait until the customer has; False if that does not come in time."""
        progress, action = self._progress, self._progress.action
        until = action.until if action else workflow.now()
        progress.wait_for(f"the customer to confirm the payment by {until:%Y-%m-%d %H:%M} UTC")
        while self._attempt not in self._answered_attempts and workflow.now() < until:
            if self._is_signalled:
                self._is_signalled = False
                if self._is_long():
                    self._reports.clear()  # there is no parcel yet
                    await self._go_on_in_another_run(pay_until=self._pay_until)
            try:
                await workflow.wait_condition(
                    lambda: self._attempt in self._answered_attempts or self._is_signalled,
                    timeout=until - workflow.now(),
                    timeout_summary="Until the customer has to confirm the payment",
                )
            except TimeoutError:
                return False
        return workflow.now() < until

    # ── Another card ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _declined(self, failure: FailureError) -> Refusal:
        """Why the card was declined. Raises what failed, if it was anything else, or if no other card can be tried."""
        refusal = as_refusal(failure)
        if refusal is None or refusal.code != ErrorCode.PAYMENT_DECLINED or not self._order.pay_again_seconds:
            raise failure
        return refusal

    async def _ask_for_another_card(self, declined: Refusal) -> None:
        progress = self._progress
        self._pay_until = self._pay_until or workflow.now() + timedelta(seconds=self._order.pay_again_seconds)
        self._other_card = None
        outcome = progress.is_due(declined, self._pay_until)
        await progress.tell()
        progress.list_as()
        self._answer(outcome)

    async def _another_card(self) -> str:
        """Wait for it. Raises the refusal of the last one, if none comes in time."""
        progress, until = self._progress, self._pay_until or workflow.now()
        progress.wait_for(f"the customer to pay with another card by {until:%Y-%m-%d %H:%M} UTC")
        try:
            await workflow.wait_condition(
                lambda: self._other_card is not None,
                timeout=max(until - workflow.now(), timedelta(seconds=1)),
                timeout_summary="Until another card may be tried",
            )
        except TimeoutError:
            raise as_failure(progress.last_decline) from None
        assert self._other_card is not None
        return self._other_card
