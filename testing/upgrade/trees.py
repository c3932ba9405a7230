"""Two next builds of the saga, as edits of a copy of this tree: one that could go on with every order in flight, and the same
without the care that this takes."""

from testing.edited_tree import Edit


def _before(marker: str, new: str) -> tuple[str, str]:
    """Something new before what is there."""
    return marker, new + marker


# What both builds have: code that no order in flight has met, so that it breaks none by itself.
ADDED = (
    Edit(
        "activities/inventory.py",
        *_before(
            '    @activity.defn(name="ReleaseInventory")\n',
            '    @activity.defn(name="CheckReservation")\n'
            "    async def check(self, command: ReserveInventory) -> Reservation:\n"
            '        """Before a parcel is booked: is all of it still reserved?"""\n'
            '        return await self._calls.post("/internal/v1/reservations", command, Reservation)\n\n',
        ),
        why="an activity for the new step",
    ),
    Edit(
        "workflows/order_steps.py",
        *_before(
            "def release_plan(",
            "def check_reservation(order: PlaceOrder) -> Step[ReserveInventory, Reservation]:\n"
            "    command = reserve_inventory(order).argument\n"
            '    return Step(InventoryActivities.check, command, "Check reservation")\n\n\n',
        ),
        why="the new step",
    ),
    Edit(
        "contracts/shipments.py",
        "    ship_to: Address\n    weight_grams: Weight\n",
        "    ship_to: Address\n    weight_grams: Weight\n    gift: bool = False\n",
        why="a new field with a default",
    ),
    Edit(
        "workflows/order.py",
        "from workflows.amending import Amending\n",
        "from workflows.amending import Amending\nfrom workflows.saga import Undo\n",
        why="the payment, first",
    ),
)
_CHECK = "await progress.do(steps.check_reservation(order))\n"
_BOOK = "        for parcel in self._parcels.to_book():\n            saga.add("
_RESERVE = "            saga.add(steps.release_plan(order))\n"
_PAY = "            self._saga.add(Undo(steps.refund_payment(self._order)))\n"


def _paid_first(step: str) -> str:
    """The payment, where the goods are not reserved yet."""
    return (
        "self._saga.add(Undo(steps.refund_payment(order)))\n                "
        f"self._taken = await progress.do(steps.{step}(order, order.total, order.payment_token))\n"
    )


GOOD = (
    *ADDED,
    Edit(
        "workflows/order.py",
        _BOOK,
        f'        if workflow.patched("check-reservation"):\n            {_CHECK}{_BOOK}',
        why="the new step, for new orders",
    ),
    Edit(
        "workflows/order.py",
        _RESERVE,
        f'            if workflow.patched("pay-first"):\n                {_paid_first("take_payment")}{_RESERVE}',
        why="two steps swapped, one of them under another name, for new orders",
    ),
    Edit(
        "workflows/payment.py",
        _PAY,
        f'            if workflow.patched("pay-first"):\n                return self._taken\n{_PAY}',
        why="what was paid is not paid again",
    ),
    Edit(
        "contracts/payments.py",
        *_before(
            "class CapturePayment(Command):",
            "class TakePayment(ProcessPayment):\n"
            '    """The same, stricter: it says where the order was placed. Idempotent by order and attempt."""\n\n'
            "    channel: Annotated[str, StringConstraints(min_length=1, max_length=20)]\n\n\n",
        ),
        why="a stricter contract, for the new name only",
    ),
    Edit(
        "activities/payment.py",
        "ProcessPayment, RefundPayment, ReleaseHold\n",
        "ProcessPayment, RefundPayment, ReleaseHold, TakePayment\n",
        why="the renamed activity",
    ),
    Edit(
        "activities/payment.py",
        *_before(
            '    @activity.defn(name="CapturePayment")\n',
            '    @activity.defn(name="TakePayment")\n'
            "    async def take(self, command: TakePayment) -> Payment:\n"
            '        """Take the money, or hold it for a review: what `process` is called from now on."""\n'
            '        return await self._calls.post("/internal/v1/payments/process", command, Payment)\n\n',
        ),
        why="the renamed activity, beside its old name",
    ),
    Edit(
        "workflows/order_steps.py",
        "ProcessPayment, RefundPayment, ReleaseHold\n",
        "ProcessPayment, RefundPayment, ReleaseHold, TakePayment\n",
        why="the renamed step",
    ),
    Edit(
        "workflows/order_steps.py",
        *_before(
            "def capture_payment(",
            "def take_payment(order: PlaceOrder, amount: Money, card: str) -> Step[TakePayment, Payment]:\n"
            '    command = TakePayment(**process_payment(order, amount, card).argument.model_dump(), channel="web")\n'
            '    return Step(PaymentActivities.take, command, "Take payment")\n\n\n',
        ),
        why="the renamed step",
    ),
)
"""Every order in flight could go on with this build."""

BAD = (
    *ADDED,
    Edit("workflows/order.py", _BOOK, f"        {_CHECK}{_BOOK}", why="the new step, for every order"),
    Edit(
        "workflows/order.py",
        _RESERVE,
        f"            if True:\n                {_paid_first('process_payment')}{_RESERVE}",
        why="two steps swapped, for every order",
    ),
    Edit("workflows/payment.py", _PAY, f"            return self._taken\n{_PAY}", why="what was paid is not paid again"),
    Edit("activities/payment.py", 'name="ProcessPayment"', 'name="TakePayment"', why="an activity renamed, its old name gone"),
    Edit(
        "contracts/payments.py",
        "    reason: Told\n\n\nclass ReleaseHold(Command):",
        "    reason: Told\n    channel: str\n\n\nclass ReleaseHold(Command):",
        why="a required field, in what stuck undos hold",
    ),
    Edit(
        "workflows/order_steps.py",
        "currency=order.total.currency, reason=reason)",
        'currency=order.total.currency, reason=reason, channel="web")',
        why="the required field",
    ),
    Edit(
        "workflows/order_steps.py",
        "currency=order.total.currency, reason=reason\n",
        'currency=order.total.currency, reason=reason, channel="web"\n',
        why="the required field, of refunds in part",
    ),
)
"""No order in flight could: not one of these edits is made for new orders only. New orders go well with it."""
