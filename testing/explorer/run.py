"""One order played against the adversary: its customer, its operators, its carrier; and what they were told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

from contracts.ids import order_workflow_id
from contracts.inventory import ReservationStatus, StockUpdate, WhenShort
from contracts.orders import (
    FINAL_STATUSES,
    AdvanceOrder,
    CancelRequest,
    Decision,
    LineUnits,
    OrderState,
    OrderStatus,
    Outcome,
    ParcelDecision,
    ParcelSplit,
    PayAgain,
    PlaceOrder,
    ShortageAnswer,
    TimelineEntry,
    UndoSettlement,
    status_of,
)
from contracts.parcels import CHOICES, OrderParcel, ParcelChoice, ParcelStatus, Trouble
from contracts.payment_actions import ActionKind
from contracts.payments import AnsweredPayment, FailedRefund, PaymentStatus
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from testing.explorer.adversary import USUAL, Adversary, Choices, Story
from testing.explorer.disputes import Disputes
from testing.explorer.engine import Engine
from testing.explorer.executions import PAYLOADS
from testing.explorer.orders import Bank, plot, price_of
from testing.explorer.playing import AtTheEnd, Playing, Told
from testing.model import World
from testing.model.inventory import Announced
from workflows.order import OrderWorkflow

STATUS = ShipmentStatus
HOUR, DAY = 3600.0, 86_400.0
PATIENCE = 4 * HOUR
"""So long services may be away while one hold takes the place of another."""
CARRIERS: Mapping[str, tuple[tuple[float, ShipmentStatus], ...]] = {
    USUAL: ((HOUR, STATUS.DISPATCHED), (2 * HOUR, STATUS.IN_TRANSIT), (DAY, STATUS.DELIVERED)),
    "is quick": ((0.01, STATUS.DISPATCHED), (2.0, STATUS.DELIVERED)),
    "comes within a minute": ((40.0, STATUS.DISPATCHED), (DAY, STATUS.DELIVERED)),
    "picks up after 20 days": ((20 * DAY, STATUS.DISPATCHED), (DAY, STATUS.DELIVERED)),
    "is silent for 60 days": ((HOUR, STATUS.DISPATCHED), (60 * DAY, STATUS.DELIVERED)),
    "loses it": ((HOUR, STATUS.DISPATCHED), (2 * DAY, STATUS.LOST)),
    "loses it, and finds it": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (2 * DAY, STATUS.DELIVERED)),
    "loses it, and finds it at once": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (0.01, STATUS.DELIVERED)),
    "brings it back": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.IN_TRANSIT), (2 * DAY, STATUS.RETURNED)),
    "loses it, and brings it back": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (5 * DAY, STATUS.RETURNED)),
}
"""What a carrier does to a parcel, each after the one before."""
MESSAGES = (
    "cancel",
    "cancel",
    "cancel",
    "cancel the workflow",
    "cancel by signal",
    "cancel the workflow",
    "approve",
    "approve",
    "reject",
    "approve by signal",
    "reject by signal",
    "decide wait",
    "decide resend",
    "decide refund",
    "decide refund_and_restock",
    "decide refund by signal",
    "place again",
    "place under another id",
    "report all again",
    "report all backwards",
    "report of an unknown parcel",
    "settle an undo",
    "kill the worker",
    "kill the worker",
    "split the milk of parcel 1",
    "cancel 1 milk",
    "cancel 2 milk",
    "cancel 3 milk",
    "cancel 1 cheese",
    "cancel 1 milk and 1 cheese",
    "cancel 1 milk by signal",
    "cancel 1 milk once",
    "cancel 1 milk once",
    "cancel 1 milk once by signal",
    "ask",
    "told of payment 1",
    "told of payment 2",
)
OF_PARTS = (
    "split the milk of parcel 1",
    "split the milk of parcel 2",
    "split the cheese of parcel 1",
    "answer wait",
    "answer drop",
    "answer drop",
    "answer refuse",
    "decide refund parcel 1",
    "decide refund parcel 2",
    "decide resend parcel 2",
    "decide wait parcel 1",
    "decide refund_and_restock parcel 2",
    "decide resend parcel 1 by signal",
    "stock news again",
    "pay",
    "pay",
)
"""Beside the others, of orders that are not one parcel paid for with one card."""
FEWER = ("1 milk", "1 milk once", "2 milk", "3 milk", "1 cheese", "1 milk and 1 cheese", "3 milk and 1 cheese")
"""What a customer cancels of an order that is confirmed."""
AFTER_A_DECLINE = {
    USUAL: (60.0,),
    "does nothing": (),
    "pays at once": (0.0,),
    "pays twice at once": (1.0, 1.0),
    "pays at the last moment": (899.0,),
    "pays at the very last moment": (899.99,),
    "pays too late": (901.0,),
}
"""When the customer brings another card."""
MOST_CARDS = 8
AT_THE_BANK: Mapping[str, tuple[tuple[float, bool], ...]] = {
    USUAL: ((30.0, True),),
    "confirms at once": ((0.0, True),),
    "confirms at the last moment": ((599.0, True),),
    "confirms at the very last moment": ((599.99, True),),
    "confirms too late": ((601.0, True),),
    "refuses": ((30.0, False),),
    "refuses at the last moment": ((599.99, False),),
    "does nothing": (),
    "does nothing, until it is undone": (),
}
"""What the customer does who has to confirm a payment: when, and whether it is a yes."""
TRANSFERS: Mapping[str, tuple[tuple[float, float], ...]] = {
    USUAL: ((30.0, 1.0),),
    "transfers at once": ((0.0, 1.0),),
    "transfers at the last moment": ((599.0, 1.0),),
    "transfers at the very last moment": ((599.99, 1.0),),
    "transfers too late": ((601.0, 1.0),),
    "transfers days later": ((3 * DAY, 1.0),),
    "transfers in two parts": ((30.0, 0.5), (400.0, 0.5)),
    "transfers in two parts, the second too late": ((30.0, 0.5), (601.0, 0.5)),
    "transfers in many parts": ((10.0, 0.1), (20.0, 0.3), (30.0, 0.3), (40.0, 0.3)),
    "transfers some of it": ((30.0, 0.5),),
    "transfers twice": ((30.0, 1.0), (90.0, 1.0)),
    "transfers twice at once": ((30.0, 1.0), (30.0, 1.0)),
    "transfers again after days": ((30.0, 1.0), (3 * DAY, 1.0)),
    "transfers too much": ((30.0, 1.5),),
    "transfers too much in two parts": ((30.0, 0.7), (60.0, 0.7)),
    "does nothing": (),
    "does nothing, until it is undone": (),
}
"""What the customer does who has to transfer the money: when, and how much of it."""
ANSWER = dict[str, Any]
COMMANDS = (
    "ReserveInventory",
    "ReleaseInventory",
    "ShipInventory",
    "RestockInventory",
    "SplitReservation",
    "ProcessPayment",
    "CapturePayment",
    "RefundPayment",
    "GiveBack",
    "ReleaseHold",
    "CreateShipment",
    "CancelShipment",
    "AdvanceOrder",
    "SendNotification",
)
"""At whose calls something may be asked."""
ON_ITS_WAY = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_SHIPPED, OrderStatus.SHIPPED, OrderStatus.UNDELIVERED})


@dataclass
class Played(AtTheEnd[OrderState, TimelineEntry]):
    """What came of a run, for the checks."""

    order: PlaceOrder
    world: World
    adversary: Adversary
    engine: Engine
    told: list[Told]
    advances: list[AdvanceOrder]
    left: dict[int, float]
    """When each parcel left."""
    wrong: list[str]
    """What was seen to be wrong on the way."""
    in_trouble: set[int]
    """Parcels of which the record was told that they do not arrive."""
    acted: dict[int, tuple[float, bool]]
    """When the customer confirmed an attempt to pay, or refused to."""
    came: dict[int, int]
    """What its customer has transferred for each attempt to pay, in minor units."""
    came_back: set[FailedRefund]
    """Refunds that did not arrive after all, and of which the saga was told."""
    given_up: set[str]
    """Steps that staff ended by hand, since the bank had given the money to the customer."""
    known_returned: set[int]
    """Parcels that came back while the saga was there to hear of it."""
    choices: Choices
    log: list[str]

    @property
    def story(self) -> Story:
        return self.choices.made


class Player(Playing):
    """Plays one order."""

    def __init__(self, choices: Choices, world: World | None = None) -> None:
        self._plot = plot(choices)
        self.order = self._plot.order
        super().__init__(choices, world or World(), OrderWorkflow, order_workflow_id(self.order.order_id))
        self.left: dict[int, float] = {}
        self._reports: list[ShipmentUpdate] = []
        self._stock_news: list[StockUpdate] = []
        self._cards = 1
        self._declines = 0
        self._held: set[int] = set()
        """Attempts to pay of which the bank has said when it lets go."""
        self._held_twice_at: float | None = None
        self._acted: dict[int, tuple[float, bool]] = {}
        self._came: dict[int, int] = {}
        self._refunded = 0
        self._came_back: set[FailedRefund] = set()
        self._actions = self._payment_news = 0
        self._is_asked = self._is_split = False
        self._heard: list[AdvanceOrder] = []
        """Words by which the record was told that the order is confirmed."""
        self._decided: set[tuple[int | None, Trouble]] = set()
        self._wrong: list[str] = []
        self._disputes = Disputes(self, self.order.order_id, OrderState, self._settle)
        self._in_trouble: set[int] = set()
        self._returned: set[int] = set()

    def play(self) -> Played:
        """From the order to its end, and until nothing is under way any more."""
        self.world.orders.accept(self.order)
        self.world.shipping.watchers.append(self._parcel_moved)
        self.adversary.on_effect = self._look
        self.adversary.declined_cards = {f"card_{number}" for number in range(1, self._plot.declined_cards + 1)}
        self._fill_shelves()
        if self._plot.bank:
            self._set_up(self._plot.bank)
        self.adversary.asked_cards = {f"card_{number}": self._plot.asks for number in self._plot.asked_cards}
        self.world.payments.watchers.append(self._payment_moved)
        self.world.orders.watchers.append(self._advanced)
        self.clock.after(0.0, self._place)
        is_plain = not self._plot.goods and not self.order.pay_again_seconds and not self._plot.bank
        self._plan_messages(MESSAGES if is_plain else (*MESSAGES, *OF_PARTS), COMMANDS)
        self._to_the_end()
        return self._played()

    # ── The order ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _place(self) -> None:
        self.engine.start(self.order)
        if self.choices.choose("place", 0.2, ["without waiting"]) == USUAL:
            self._send_update("place", "place", "place-1", [], Outcome)

    def _fill_shelves(self) -> None:
        inventory = self.world.inventory
        inventory.shelves.clear()
        for warehouse_id, stock in self._plot.shelves.items():
            inventory.receive(warehouse_id, **stock)
        first, today = next(iter(self._plot.shelves)), self.clock.now.date()
        inventory.announced = [
            Announced(first, product, 10, today + timedelta(days=days)) for product, days in self._plot.announced.items()
        ]
        for after, goods in self._plot.goods:
            self.clock.after(after / 2, self._move_dates)
            self.clock.after(after, partial(self._goods_arrive, goods))

    def _set_up(self, bank: Bank) -> None:
        self.adversary.holds_for = bank.holds_for
        self.world.payments.bank.multi_capture = bank.takes_in_parts
        if bank.loses_after:
            self.clock.after(bank.loses_after.total_seconds(), partial(self._let_go, 1))
        if bank.card_expires_after:
            self.clock.after(bank.card_expires_after.total_seconds(), lambda: self.adversary.declined_cards.add("card_1"))

    def _let_go(self, attempt: int) -> None:
        """The bank does, of what it holds for an attempt to pay."""
        paid = self.world.payments.payments.get((self.order.order_id, attempt))
        if paid and paid.held_minor:
            self.note(f"the bank lets go of what it held for attempt {attempt}")
            self.world.payments.expire(self.order.order_id, attempt)

    def _goods_arrive(self, goods: Mapping[str, int]) -> None:
        self.note(f"goods arrive: {dict(goods)}")
        for warehouse_id in self._plot.shelves:
            self.world.inventory.receive(warehouse_id, **goods)
        self._look()

    def _move_dates(self) -> None:
        """Who waits for goods is told of another day."""
        for (order_id, number), promise in self.world.inventory.promises.items():
            if promise.status == ReservationStatus.AWAITED:
                self.world.inventory.expect(order_id, number, self.clock.now.date() + timedelta(days=3))
        self._look()

    def _look(self) -> None:
        """Something has happened to the services: what is paid must be right, and the saga is told of its stock."""
        self._look_at_payments()
        self._look_at_refunds()
        if self._plot.asks != ActionKind.TRANSFER:  # of which nothing can be disputed
            self._disputes.look()
        news, self.world.inventory.news = self.world.inventory.news, []
        for _, update in news:
            self._stock_news.append(update)
            name = f"news {len(self._stock_news)} of stock"
            how = self.choices.choose(name, 0.2, ["twice", "a minute late", "two hours late", "at once"])
            wait = {"a minute late": 60.0, "two hours late": 7200.0, "at once": 0.0}.get(how, 0.5)
            self.clock.after(wait, partial(self._tell_of_stock, update))
            if how == "twice":
                self.clock.after(wait + 5, partial(self._tell_of_stock, update))

    def _look_at_payments(self) -> None:
        """Of what is paid at once no two attempts are live; what is taken as parcels leave is held anew before that is let go."""
        nothing = (PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED)
        live = {number: paid for (_, number), paid in self.world.payments.payments.items() if paid.status not in nothing}
        if self._plot.bank is None and len(live) > 1:
            self._wrong.append(f"two attempts to pay hold money: {[*live]}")
        taken = sum(paid.captured_minor - paid.refunded_minor for paid in live.values())
        if taken > self.order.total.minor:
            self._wrong.append(f"{taken} are taken, of an order of {self.order.total.minor}")
        if sum(bool(paid.held_minor) for paid in live.values()) < 2:
            self._held_twice_at = None
        elif self._held_twice_at is None:
            self._held_twice_at = self.clock.seconds
        elif self.clock.seconds > self._held_twice_at + PATIENCE:
            self._wrong.append(f"two attempts to pay have held money since {self._held_twice_at:.0f} s")
        for number, paid in live.items():
            if paid.held_minor and paid.held_until and number not in self._held:
                self._held.add(number)
                self.clock.after((paid.held_until - self.clock.now).total_seconds(), partial(self._let_go, number))

    def _tell_of_stock(self, update: StockUpdate) -> None:
        if self.engine.signal("stock_updated", update):
            self.note(f"told of stock: parcel {update.parcel} is {update.status} {update.expected_on or ''}".rstrip())

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, message: str) -> None:
        self.note(f"message: {message}")
        decision = Decision(by="operator", reason="looked at it")
        match message.split():
            case ["cancel"]:
                self._send_update(
                    message, "cancel", None, [CancelRequest(reason="changed my mind", requested_by="customer")], ANSWER
                )
            case ["cancel", "the", "workflow"]:
                if self.engine.cancel():
                    self.told.append(Told(message, self.clock.seconds))
            case ["cancel", quantity, goods, *more] if quantity.isdigit():
                self._send_wish_for_units(message, int(quantity), goods, more)
            case ["cancel", "by", "signal"]:
                self._signal(message, "cancel", CancelRequest(reason="changed my mind", requested_by="operator"))
            case ["approve" | "reject" as name]:
                self._send_update(message, name, None, [decision], ANSWER)
            case ["approve" | "reject" as name, "by", "signal"]:
                self._signal(message, name, decision)
            case ["decide", choice, *how]:
                parcel = int(how[1]) if how[:1] == ["parcel"] else None
                how = how[2:] if parcel else how
                parcel_decision = ParcelDecision(by="operator", reason="looked at it", choice=ParcelChoice(choice), parcel=parcel)
                if not how:
                    self._send_update(message, "decide_parcel", None, [parcel_decision], ANSWER)
                else:
                    self._signal(message, "decide_parcel", parcel_decision)
            case ["place", "again"]:
                self._send_update("place", "place", "place-1", [], Outcome)
            case ["place", *_]:
                self._send_update("place", "place", None, [], Outcome)
            case ["report", "all", how]:
                for update in self._reports[:: 1 if how == "again" else -1]:
                    self.engine.signal("shipment_updated", update)
            case ["report", *_]:
                self.engine.signal("shipment_updated", ShipmentUpdate(parcel=9, status=STATUS.DELIVERED))
            case ["split", _, line, *_, number]:
                units = (LineUnits(line_id=1 if line == "milk" else 2, quantity=1),)
                split = ParcelSplit(by="operator", reason="one is broken", parcel=int(number), lines=units)
                self._send_update(message, "split_parcel", None, [split], ANSWER)
            case ["answer", choice]:
                answer = ShortageAnswer.model_validate({"choice": choice})
                self._send_update(message, "answer_shortage", None, [answer], ANSWER)
            case ["pay"]:
                self._cards += 1
                self._send_update(message, "pay", None, [PayAgain(payment_token=f"card_{self._cards}")], Outcome)
            case ["told", *_, attempt]:
                self.engine.signal("payment_answered", AnsweredPayment(attempt=int(attempt)))
            case ["stock", *_]:
                for news in self._stock_news:
                    self._tell_of_stock(news)
            case ["settle", *_]:
                settlement = UndoSettlement(by="operator", reason="tidying up", undo="Refund payment", done=True)
                self._send_update(message, "settle_undo", None, [settlement], ANSWER)
            case ["kill", *_]:
                self.engine.kill_worker()
            case _:
                self._ask()

    def _send_wish_for_units(self, message: str, quantity: int, goods: str, more: Sequence[str]) -> None:
        """E.g. `cancel 2 milk and 1 cheese`; `once`: whoever says so again means the same wish."""
        units = [LineUnits(line_id=1 if goods == "milk" else 2, quantity=quantity)]
        if more[:1] == ["and"]:
            units.append(LineUnits(line_id=2, quantity=int(more[1])))
        key = "once" if "once" in more else None
        wish = CancelRequest(reason="too many", requested_by="customer", lines=tuple(units), key=key)
        if "signal" not in more:
            self._send_update(message, "cancel", None, [wish], ANSWER)
        else:
            self._signal(message, "cancel", wish)

    def _settle(self, settlement: UndoSettlement) -> None:
        self._send_update(f"settle {settlement.undo}", "settle_undo", None, [settlement], ANSWER)

    def _ask(self) -> None:
        """What the query tells of an order under way: something that it waits for, and of its parcels what follows from them."""
        answer = self.engine.query("status")
        if answer is None or not self.engine.running:
            return
        state = PAYLOADS.from_payload(answer, OrderState)
        if not state.waits and state.status not in FINAL_STATUSES:
            self._wrong.append(f"an order that is {state.status} is said to wait for nothing")
        if state.parcels and state.status in ON_ITS_WAY and status_of(state.parcels) != state.status:
            self._wrong.append(f"the query says {state.status}; its parcels are {_statuses(state.parcels)}")

    def _answered(self, name: str, told: Told) -> None:
        if isinstance(told.answer, Outcome) and told.answer.pay_until:
            self._declined(name)

    def _declined(self, name: str) -> None:
        """The customer is told that the card was declined, and may bring another one."""
        if name == "place" and self._declines:  # told again
            return
        self._declines += 1
        how = self.choices.choose(
            f"customer after decline {self._declines}", 0.4, [name for name in AFTER_A_DECLINE if name != USUAL]
        )
        if self._declines <= MOST_CARDS:
            for after in AFTER_A_DECLINE[how]:
                self.clock.after(after, lambda: self._send("pay"))

    def _to_confirm(self) -> None:
        """The customer sees that a payment has to be confirmed."""
        attempts = [number for (_, number), paid in self.world.payments.payments.items() if paid.action]
        self._actions += 1
        by_transfer = self._plot.asks == ActionKind.TRANSFER
        options = TRANSFERS if by_transfer else AT_THE_BANK
        how = self.choices.choose(f"customer at the bank {self._actions}", 0.6, [name for name in options if name != USUAL])
        if how == "does nothing, until it is undone":
            self.world.payments.bank.confirms_late = True
        if by_transfer:
            for after, share in TRANSFERS[how]:
                for attempt in attempts:
                    self.clock.after(after, partial(self._transfer, attempt, share))
            return
        for after, confirms in AT_THE_BANK[how]:
            for attempt in attempts:
                self.clock.after(after, partial(self._act, attempt, confirms))

    def _act(self, attempt: int, confirms: bool) -> None:
        self.note(f"the customer {'confirms' if confirms else 'refuses'} attempt {attempt} to pay")
        if self.world.payments.payments[self.order.order_id, attempt].action:
            self._acted[attempt] = (self.clock.seconds, confirms)
        self.world.payments.act(self.order.order_id, attempt, confirms=confirms)
        self._look()

    def _transfer(self, attempt: int, share: float) -> None:
        """So much of what is to be paid comes in at the bank, rounded up."""
        paid = self.world.payments.payments[self.order.order_id, attempt]
        minor = ceil(paid.amount.minor * share)
        self.note(f"the customer transfers {paid.money(minor)} for attempt {attempt} to pay")
        self._came[attempt] = self._came.get(attempt, 0) + minor
        was_waiting = paid.action is not None
        self.world.payments.receive(self.order.order_id, attempt, minor)
        if was_waiting and paid.action is None:
            self._acted[attempt] = (self.clock.seconds, True)
        self._look()

    def _look_at_refunds(self) -> None:
        """What has gone back may come back: at once, or days later."""
        if (refunded := sum(paid.refunded_minor for paid in self.world.payments.payments.values())) > self._refunded:
            self._refunded = refunded
            how = self.choices.choose(f"{refunded} that went back", 0.2, ["come back", "come back a day later"])
            if how != USUAL:
                self.clock.after(DAY if "later" in how else 1.0, self._refunds_come_back)

    def _refunds_come_back(self) -> None:
        """What was given back has not arrived: the saga is told of each, as often as it comes."""
        for (_, attempt), paid in self.world.payments.payments.items():
            keys = paid.refunds or ({"undo": paid.refunded_minor} if paid.refunded_minor else {})
            for key, minor in keys.items():
                failed = FailedRefund(attempt=attempt, key=key, amount=paid.money(minor), failure="AC04")
                if self.engine.signal("refund_failed", failed):
                    self._came_back.add(failed)

    def _payment_moved(self, order_id: UUID, attempt: int) -> None:
        self._payment_news += 1
        name = f"news {self._payment_news} of payment"
        how = self.choices.choose(name, 0.4, ["twice", "a minute late", "two hours late", "at once", "lost"])
        wait = {"a minute late": 60.0, "two hours late": 7200.0, "at once": 0.0}.get(how, 0.5)
        news = partial(self.engine.signal, "payment_answered", AnsweredPayment(attempt=attempt))
        if how != "lost":
            self.clock.after(wait, lambda: self.note(f"told of payment {attempt}") if news() else None)
        if how == "twice":
            self.clock.after(wait + 5, lambda: self.note(f"told of payment {attempt}") if news() else None)

    # ── The carrier ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _parcel_moved(self, order_id: UUID, number: int, status: ShipmentStatus) -> None:
        if status == STATUS.BOOKED:
            carrier = self.choices.choose(f"carrier of parcel {number}", 0.5, [name for name in CARRIERS if name != USUAL])
            at = 0.0
            for wait, to in CARRIERS[carrier]:
                at += wait
                self.clock.after(at, partial(self._carry, order_id, number, to))
            return
        if status == STATUS.DISPATCHED:
            self.left[number] = self.clock.seconds
        self.note(f"parcel {number} is {status}")
        update = ShipmentUpdate(parcel=number, status=status, occurred_at=self.clock.now, tracking_number=f"TRK{number}")
        self._reports.append(update)
        name = f"report that parcel {number} is {status}"
        how = self.choices.choose(name, 0.2, ["twice", "a minute late", "two hours late", "at once"])
        wait = {"a minute late": 60.0, "two hours late": 7200.0, "at once": 0.0}.get(how, 0.5)
        self.clock.after(wait, lambda: self._report(update))
        if how == "twice":
            self.clock.after(wait + 5, lambda: self._report(update))

    def _carry(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        self.world.shipping.move(order_id, number, to)

    def _report(self, update: ShipmentUpdate) -> None:
        if self.engine.signal("shipment_updated", update):
            if update.status == STATUS.RETURNED:
                self._returned.add(update.parcel)
            self.note(f"reported: parcel {update.parcel} is {update.status}")

    # ── What the record is told ──────────────────────────────────────────────────────────────────────────────────────────

    def _advanced(self, command: AdvanceOrder) -> None:
        """The record has been told something that is true."""
        record = self.world.orders.records[self.order.order_id]
        if command.parcels:
            self._in_trouble |= {each.parcel for each in command.parcels if each.status == ParcelStatus.UNDELIVERED}
            # A task that is done again tells of what the record knows already, until it comes to what is new.
            is_newest = command.after + len(command.path) == len(record.history)
            if is_newest and record.status in ON_ITS_WAY and status_of(command.parcels) != record.status:
                self._wrong.append(f"the record is {record.status}; its parcels are {_statuses(command.parcels)}")
        elif OrderStatus.UNDELIVERED in command.path:
            self._in_trouble.add(max((number for _, number in self.world.shipping.parcels), default=0))
        if record.status == OrderStatus.UNDELIVERED:
            self._decide(command)
        if command.pay_until and record.status in ON_ITS_WAY:
            self._declined("record")
        if record.status == OrderStatus.ACTION_REQUIRED and command.path:
            self._to_confirm()
        # The same word may arrive once more, late: it was judged when it came first.
        if OrderStatus.CONFIRMED in command.path and OrderStatus.UNDELIVERED not in record.history and command not in self._heard:
            self._heard.append(command)
            self._confirmed(command)

    def _decide(self, command: AdvanceOrder) -> None:
        """An operator sees a parcel in trouble, and may decide about it."""
        troubled: list[tuple[int | None, Trouble | None]] = [
            (each.parcel, each.trouble) for each in command.parcels if each.status == ParcelStatus.UNDELIVERED
        ]
        for parcel, trouble in troubled or [(None, command.trouble)]:
            if trouble is None or (parcel, trouble) in self._decided:
                continue
            self._decided.add((parcel, trouble))
            which = f" parcel {parcel}" if parcel else ""
            options = [f"{choice}, after {after} s" for choice in CHOICES[trouble] for after in (0, 3600)]
            chosen = self.choices.choose(f"the operator, of trouble {len(self._decided)}", 0.5, options)
            if chosen != USUAL:
                choice, _, moment = chosen.partition(", ")
                self.clock.after(
                    float(moment.split()[1]),
                    partial(self._send, f"decide {choice}{which}"),
                )

    def _confirmed(self, command: AdvanceOrder) -> None:
        shipped = self.world.shipping.parcels
        booked = {
            number
            for (_, number), parcel in shipped.items()
            if parcel.status not in (STATUS.PENDING, STATUS.CANCELLED, STATUS.REFUSED)
        }
        said = {each.parcel for each in command.parcels if each.status == ParcelStatus.BOOKED}
        if not (said <= booked if command.parcels else booked):
            self._wrong.append("the record is told that the order is confirmed, but no parcel is booked")
        owed = sum(price_of(self.order.lines, each.lines) for each in command.parcels if each.counts)
        if self._plot.bank is None and self.world.payments.net(self.order.order_id, self.order.total.currency).minor != (
            owed if command.parcels else self.order.total.minor
        ):
            self._wrong.append("the record is told that the order is confirmed, but it is not paid")
        if not self._is_split:
            self._is_split = True
            splits = [
                f"{units}, after {after} s"
                for units in ("the milk of parcel 1", "the milk of parcel 1", "the milk of parcel 2", "the cheese of parcel 1")
                for after in (0, 5, 3599.999)
            ]
            chosen = self.choices.choose("the warehouse sends apart", 0.15, splits)
            if chosen != USUAL:
                units, _, moment = chosen.partition(", ")
                self.clock.after(float(moment.split()[1]), partial(self._send, f"split {units}"))
            for wish in (1, 2):
                wishes = [f"{units}, after {after} s" for units in FEWER for after in (0, 0.001, 0.01, 5, 3599.999)]
                chosen = self.choices.choose(f"the customer wants less, {wish}", 0.2, wishes)
                if chosen != USUAL:
                    units, _, moment = chosen.partition(", ")
                    self.clock.after(float(moment.split()[1]), partial(self._send, f"cancel {units}"))
        waits = any(each.status == ParcelStatus.AWAITED for each in command.parcels)
        if waits and not self._is_asked:
            self._is_asked = True
            answers = [f"{choice}, after {after} s" for choice in ("wait", "drop", "refuse") for after in (5, 3600, 86_399)]
            chosen = self.choices.choose("the customer answers", 0.4 if self.order.when_short == WhenShort.ASK else 0.1, answers)
            if chosen != USUAL:
                choice, _, moment = chosen.partition(", ")
                self.clock.after(float(moment.split()[1]), lambda: self._send(f"answer {choice}"))

    def _played(self) -> Played:
        played = Played(
            self.order,
            self.world,
            self.adversary,
            self.engine,
            self.told,
            self.world.orders.advances,
            self.left,
            self._wrong,
            self._in_trouble,
            self._acted,
            self._came,
            self._came_back,
            self._disputes.settled,
            self._returned,
            self.choices,
            self.log,
        )
        self._ask_at_the_end(played, OrderState, list[TimelineEntry])
        return played


def _statuses(parcels: Sequence[OrderParcel]) -> str:
    return ", ".join(each.status for each in parcels)
