"""Edits of the saga and of what it promises, as somebody might make them, and what the gate must say to each."""

from dataclasses import dataclass

PASSES = ""


@dataclass(frozen=True)
class Edit:
    """One edit of one file."""

    name: str
    file: str
    old: str
    """Stands there exactly once."""
    new: str
    refused: str = PASSES
    """What the refusal begins with, and what is in it: `promises … required`. Empty: the edit breaks nothing."""
    also: tuple[str, str, str] | None = None
    """A second place: file, old, new."""
    recorded: str | None = None
    """A history that was recorded after the edit, in tests/replay/recorded."""


ORDER, STEPS, SAGA = "workflows/order.py", "workflows/order_steps.py", "workflows/saga.py"
PAYMENT = "workflows/payment.py"
PROGRESS, DELIVERY, MESSAGES = "workflows/progress.py", "workflows/delivery.py", "workflows/messages.py"

PROMISES = [
    Edit(
        "a new field that a command requires",
        "contracts/inventory.py",
        '''of it has come back by a return)."""

    order_id: UUID
''',
        '''of it has come back by a return)."""

    order_id: UUID
    actor: UUID
''',
        "promises: activity RestockInventory argument.actor … required",
        also=(
            STEPS,
            "RestockInventory(order_id=order.order_id, ",
            "RestockInventory(order_id=order.order_id, actor=order.customer_id, ",
        ),
    ),
    Edit(
        "a field of a reply is gone",
        "contracts/payments.py",
        "    provider_id: str | None = None\n",
        "",
        "promises: activity CapturePayment result.provider_id … removed",
    ),
    Edit(
        "a field of a command has another name",
        "contracts/payments.py",
        '''    attempt: Attempt = 1
    amount: Money | None = None
    """None: all that is held and not taken."""
''',
        '''    number: Attempt = 1
    amount: Money | None = None
    """None: all that is held and not taken."""
''',
        "promises: activity CapturePayment argument.attempt … removed",
    ),
    Edit(
        "a value of an enum is gone",
        "contracts/payments.py",
        '    VOIDED = "VOIDED"\n',
        "",
        "promises: activity CapturePayment result.status … VOIDED",
    ),
    Edit(
        "a reply with a value that older workers do not know",
        "contracts/payments.py",
        '    VOIDED = "VOIDED"\n',
        '    VOIDED = "VOIDED"\n    DISPUTED = "DISPUTED"\n',
        "promises: activity CapturePayment result.status … DISPUTED",
    ),
    Edit(
        "a shorter limit",
        "contracts/base.py",
        "Seconds = Annotated[int, Field(ge=1, le=31_536_000)]",
        "Seconds = Annotated[int, Field(ge=1, le=864_000)]",
        "promises: workflow Order argument.decision_seconds … at most",
    ),
    Edit(
        "a stricter pattern",
        "contracts/orders.py",
        'PaymentToken = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{4,100}$")]',
        'PaymentToken = Annotated[str, StringConstraints(pattern=r"^tok_[A-Za-z0-9_-]{4,100}$")]',
        "promises: activity ProcessPayment argument.payment_token … pattern",
    ),
    Edit(
        "another default",
        "contracts/orders.py",
        "    dispatch_seconds: Seconds = 3 * 86_400\n",
        "    dispatch_seconds: Seconds = 5 * 86_400\n",
        "promises: workflow Order argument.dispatch_seconds … by default",
    ),
    Edit(
        "another type",
        "contracts/orders.py",
        "    done: bool\n",
        "    done: str\n",
        "promises: update settle_undo argument.done … string",
    ),
    Edit(
        "a request with a field that older workers refuse",
        "contracts/orders.py",
        '    requested_by: ShortText = "operator"\n',
        '    requested_by: ShortText = "operator"\n    channel: ShortText | None = None\n',
        "promises: signal cancel argument.channel … refused",
    ),
    Edit(
        "an idempotency key is made otherwise",
        "contracts/ids.py",
        'return f"{order_id}:{step}"',
        'return f"{order_id}/{step}"',
        "promises: id step_key …",
    ),
    Edit(
        "an activity has another name",
        "activities/payment.py",
        '@activity.defn(name="CapturePayment")',
        '@activity.defn(name="ChargePayment")',
        "promises: activity CapturePayment … removed",
    ),
    Edit(
        "an activity calls another path",
        "activities/payment.py",
        '"/internal/v1/payments/refund"',
        '"/internal/v1/refunds"',
        "promises: activity RefundPayment, path …",
    ),
    Edit(
        "a signal has another name",
        MESSAGES,
        '@workflow.signal(description="What the carrier reported: status, parcel")',
        '@workflow.signal(name="parcel_moved", description="What the carrier reported: status, parcel")',
        "promises: signal shipment_updated … removed",
    ),
    Edit(
        "an update has another name",
        MESSAGES,
        '@workflow.update(name="decide_parcel", description',
        '@workflow.update(name="decide", description',
        "promises: update decide_parcel … removed",
    ),
    Edit("another task queue", "temporal/names.py", '"orders"', '"orders-2"', "promises: start of an order, task queue …"),
    Edit(
        "a search attribute has another name",
        "temporal/names.py",
        'for_keyword("StuckUndo")',
        'for_keyword("UndoStuck")',
        "promises: search attribute StuckUndo … removed",
    ),
    Edit(
        "a step gives up earlier",
        "temporal/retries.py",
        "give_up_after=timedelta(hours=1)",
        "give_up_after=timedelta(minutes=10)",
        "promises: step reserve-inventory … given up after 600 s",
    ),
    Edit(
        "an undo ends on one more refusal",
        STEPS,
        "ends_on=frozenset({ErrorCode.ALREADY_DISPATCHED})",
        "ends_on=frozenset({ErrorCode.ALREADY_DISPATCHED, ErrorCode.SHIPMENT_CANCELLED})",
        "promises: step cancel-shipment … shipment_cancelled",
    ),
    Edit(
        "an event loses a field",
        "contracts/events.py",
        "class ShipmentCreated(_ShipmentEvent):\n    warehouse_id: str\n",
        "class ShipmentCreated(_ShipmentEvent):\n    pass\n",
        "events: event ShipmentCreated.data.warehouse_id … removed",
    ),
    Edit(
        "an event is kept in order by something else",
        "contracts/events.py",
        'return f"{self.warehouse_id}/{self.product_id}"',
        "return self.product_id",
        "events: event LowStockAlert, key …",
    ),
    Edit(
        "an answer in another unit",
        "services/identity/schemas.py",
        '"""Seconds, of the access token."""',
        '"""Milliseconds, of the access token."""',
        "api: POST /api/v1/auth/login answer 200.expires_in … milliseconds",
    ),
]
"""Seen without a replay."""

REPLAYS = [
    Edit(
        "another amount",
        STEPS,
        "        amount=amount,\n        payment_token=card,\n",
        "        amount=order.lines[0].total,\n        payment_token=card,\n",
        "replay: local activity ProcessPayment.argument.amount …",
    ),
    Edit(
        "another currency, in a step that only orders in euros show",
        STEPS,
        "attempt=attempt, currency=order.total.currency, reason=reason",
        'attempt=attempt, currency="USD", reason=reason',
        "replay: activity RefundPayment.argument.currency …",
    ),
    Edit(
        "another key of a step",
        STEPS,
        "        key=step_key(order.order_id, NotificationKind.ORDER_CONFIRMED),\n",
        '        key=step_key(order.order_id, "confirmed"),\n',
        "replay: local activity SendNotification.argument.key …",
    ),
    Edit(
        "a timer of another length",
        SAGA,
        "STUCK_AFTER = timedelta(seconds=30)",
        "STUCK_AFTER = timedelta(seconds=60)",
        "replay: timer.seconds …",
    ),
    Edit(
        "another value of a search attribute",
        PROGRESS,
        "FAILURE_REASON.value_set(reason.code)",
        "FAILURE_REASON.value_set(reason.code.upper())",
        "replay: attributes.FailureReason …",
    ),
    Edit(
        "the next run is told less",
        DELIVERY,
        "            quiet_since=(current.quiet_since if current else None) or self._began,\n",
        "",
        "replay: next run.argument.so_far.quiet_since …",
    ),
    Edit(
        "two steps are swapped",
        PAYMENT,
        """            paid = await self._paid_by(progress.do(self._charging()))
""",
        """            [parcel] = self._parcels
            await progress.do(steps.create_shipment(self._order, parcel, self._parcels.weight_of(parcel)))
            paid = await self._paid_by(progress.do(self._charging()))
""",
        "replay: …",
    ),
    Edit(
        "a step is gone",
        DELIVERY,
        "            await self._progress.do(steps.ship_inventory(self._order, parcel))\n",
        "            self._progress.note('Left')\n",
        "replay: …",
    ),
    Edit(
        "a pause for all orders",
        ORDER,
        "            saga.add(steps.release_plan(order))\n",
        "            await workflow.sleep(1)\n            saga.add(steps.release_plan(order))\n",
        "replay: …",
    ),
    Edit(
        "a new step behind a condition that no order fulfilled",
        PAYMENT,
        "            self._saga.add(Undo(steps.refund_payment(self._order)))\n",
        "            if len(self._order.lines) > 90:\n"
        "                await progress.do(steps.capture_payment(self._order))\n"
        "            self._saga.add(Undo(steps.refund_payment(self._order)))\n",
        "coverage: workflows/payment.py … no history comes here",
    ),
    Edit(
        "an undo that somebody failed is dropped",
        SAGA,
        "                # Somebody has failed the activity from outside: that undoes nothing, so it begins again.\n",
        "                return None\n",
        "replay: …",
    ),
    Edit(
        "a cancel that comes too late while placing",
        ORDER,
        "            progress.pass_through(OrderStatus.RESERVED, OrderStatus.PAID)\n",
        "            progress.pass_through(OrderStatus.RESERVED, OrderStatus.PAID)\n            await progress.tell()\n",
        "replay: …",
    ),
    Edit(
        "a later undo that is stuck is not reported",
        SAGA,
        "            self._report(tuple(name for name, task in running.items() if not task.done()))\n",
        '            self._report(tuple(name for name in running if name == "refund-payment"))\n',
        "replay: …",
    ),
    Edit(
        "money that is held is taken within the task",
        ORDER,
        "            await steps.capture_payment(order, self._attempt).run_durably()\n",
        "            await progress.do(steps.capture_payment(order, self._attempt))\n",
        "replay: …",
    ),
    Edit(
        "a step that was given up is undone by half",
        ORDER,
        "            if self._cancellation or as_refusal(stop) is None:\n".replace("            if", "                if"),
        "                if self._cancellation:\n",
        "replay: …",
    ),
]
"""Seen when histories are replayed."""

PATCHED = """            if workflow.patched("pause-first"):  # orders placed since 2026-12
                await workflow.sleep(1)
            saga.add(steps.release_plan(order))
"""

HARMLESS = [
    Edit("a text of the timeline", ORDER, '"Goods reserved"', '"Goods set aside"'),
    Edit("a summary", ORDER, 'timeout_summary="Review deadline"', 'timeout_summary="Deadline of the review"'),
    Edit("a text for staff", ORDER, 'f"Rejected by {decision.by}: ', 'f"Turned down by {decision.by}: '),
    Edit("a reason in words", STEPS, 'reason="the parcel came back"', 'reason="the parcel has come back"'),
    Edit("current details", PROGRESS, 'f"**{self.status}**, waiting for {what}"', 'f"**{self.status}**: waits for {what}"'),
    Edit(
        "a log line",
        DELIVERY,
        "        watching = asyncio.create_task(self._watch())\n",
        '        workflow.logger.info("on its way")\n        watching = asyncio.create_task(self._watch())\n',
    ),
    Edit(
        "a new optional field of a command",
        "contracts/inventory.py",
        '''Refusals: not_found, reservation_released, conflict (it waits for its goods)."""

    order_id: UUID
    parcel: ParcelNumber = 1
''',
        '''Refusals: not_found, reservation_released, conflict (it waits for its goods)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    carrier: str | None = None
''',
    ),
    Edit(
        "a new optional field of a reply",
        "contracts/payments.py",
        "    provider_id: str | None = None\n",
        "    provider_id: str | None = None\n    method: str | None = None\n",
    ),
    Edit(
        "a new optional field of an event",
        "contracts/events.py",
        "    was_confirmed: bool\n",
        "    was_confirmed: bool\n    by: str | None = None\n",
    ),
    Edit(
        "a higher limit of a command",
        "contracts/payments.py",
        "Attempt = Annotated[int, Field(ge=1, le=20)]",
        "Attempt = Annotated[int, Field(ge=1, le=30)]",
    ),
    Edit(
        "a new query",
        MESSAGES,
        '    @workflow.query(description="Where the order is, and what it waits for")\n',
        '    @workflow.query(description="Which parcel is on its way")\n'
        "    def parcel(self) -> int:\n"
        "        return self._parcels.tried\n\n"
        '    @workflow.query(description="Where the order is, and what it waits for")\n',
    ),
    Edit(
        "the same in other words",
        ORDER,
        '    by_total = ["total: reached the threshold"] if order.needs_review else []\n'
        '    return "; ".join([*by_total, *payment.review]) or "the payment provider wants it to be looked at"\n',
        '    reasons = [*(["total: reached the threshold"] if order.needs_review else []), *payment.review]\n'
        '    return "; ".join(reasons or ["the payment provider wants it to be looked at"])\n',
    ),
    Edit(
        "a step is tried for longer",
        "temporal/retries.py",
        "give_up_after=timedelta(hours=1)",
        "give_up_after=timedelta(hours=2)",
    ),
    Edit(
        "a new step for new orders only",
        ORDER,
        "            saga.add(steps.release_plan(order))\n",
        PATCHED,
        recorded="delivered_after_a_pause",
    ),
    Edit("an activity in other words", "activities/inventory.py", '"""Undo of reserve."""', '"""Undoes a reservation."""'),
    Edit("a rule of a service", "services/inventory/model/reservation.py", "PROMISED_UNITS = 100", "PROMISED_UNITS = 200"),
]

NOT_RECORDED = [
    Edit(
        "a new step for new orders only, of which there is no history yet",
        ORDER,
        "            saga.add(steps.release_plan(order))\n",
        PATCHED,
        "coverage: workflows/order.py … no history comes here: await workflow.sleep(1)",
    ),
]

EDITS = [*PROMISES, *REPLAYS, *HARMLESS, *NOT_RECORDED]
