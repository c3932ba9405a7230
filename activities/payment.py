"""Money: take it, give it back."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.payments import CapturePayment, GiveBack, GivenBack, Payment, ProcessPayment, RefundPayment, ReleaseHold


class PaymentActivities(ServiceActivities):
    service = "payment"

    @activity.defn(name="ProcessPayment")
    async def process(self, command: ProcessPayment) -> Payment:
        """Take the money, or hold it for a review."""
        return await self._calls.post("/internal/v1/payments/process", command, Payment)

    @activity.defn(name="CapturePayment")
    async def capture(self, command: CapturePayment) -> Payment:
        """Take the money that is held."""
        return await self._calls.post("/internal/v1/payments/capture", command, Payment)

    @activity.defn(name="RefundPayment")
    async def refund(self, command: RefundPayment) -> Payment:
        """Undo of process: refund, void or forbid it."""
        return await self._calls.post("/internal/v1/payments/refund", command, Payment)

    @activity.defn(name="GiveBack")
    async def give_back(self, command: GiveBack) -> GivenBack:
        """Give back some of what was taken for an order, whichever of its attempts took it."""
        return await self._calls.post("/internal/v1/payments/give-back", command, GivenBack)

    @activity.defn(name="ReleaseHold")
    async def release_hold(self, command: ReleaseHold) -> Payment:
        """Let go of what is held and not taken."""
        return await self._calls.post("/internal/v1/payments/release-hold", command, Payment)
