"""How an order is paid for: with the card that came with it, or, if that is declined and the shop waits for it, another one."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.orders import OrderRun, OrderStatus
    from contracts.payments import Payment
    from temporal.refusals import as_failure, as_refusal
    from workflows import order_steps as steps
    from workflows.saga import Undo

from workflows.capture import Capturing


class Paying(Capturing):
    """The part of an order's workflow that takes the money, or holds it."""

    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)
        declined = self._progress.declined
        self._pay_until = declined.pay_until if declined else None
        """Until when another card may be tried."""

    async def _pay(self) -> Payment:
        """Take the money, or hold it. If the card is declined, and the shop waits for that, the goods are kept until another one
        is tried."""
        order, progress, amount = self._order, self._progress, self._parcels.owed()
        if progress.status == OrderStatus.RESERVED:
            self._saga.add(Undo(steps.refund_payment(order)))
            try:
                return await progress.do(steps.process_payment(order, amount, order.payment_token))
            except FailureError as failure:
                declined = self._declined(failure)
            await self._ask_for_another_card(declined, workflow.now() + timedelta(seconds=order.pay_again_seconds))
        while True:
            card = self._hold.card = await self._another_card()
            self._attempt += 1
            self._saga.add(Undo(steps.refund_payment(order, self._attempt)))
            try:
                # Durably, because it follows from a message: that it was tried is in the history before the card is charged.
                return await steps.process_payment(order, amount, card, self._attempt).run_durably()
            except FailureError as failure:
                declined = self._declined(failure)
            assert self._pay_until is not None
            await self._ask_for_another_card(declined, self._pay_until)

    def _declined(self, failure: FailureError) -> Refusal:
        """Why the card was declined. Raises what failed, if it was anything else, or if no other card can be tried."""
        refusal = as_refusal(failure)
        if refusal is None or refusal.code != ErrorCode.PAYMENT_DECLINED or not self._order.pay_again_seconds:
            raise failure
        return refusal

    async def _ask_for_another_card(self, declined: Refusal, until: datetime) -> None:
        progress = self._progress
        outcome = progress.is_due(declined, until)
        self._pay_until, self._other_card = until, None
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
