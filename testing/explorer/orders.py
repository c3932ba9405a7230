"""Which order is played: what is on the shelves for it, what of it comes later, and what its shop and its customer allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import uuid5

from contracts.address import Address
from contracts.ids import ORDERS
from contracts.inventory import WhenShort
from contracts.money import Money
from contracts.orders import CaptureAt, Delivery, OrderLine, PlaceOrder
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus
from contracts.payment_actions import ActionKind
from contracts.pricing import LineAmounts
from testing.explorer.adversary import USUAL, Choices
from testing.explorer.clock import START

MILK, CHEESE = 3, 1
"""Units of the order's two lines."""
PRICES = {"USD": ("2.70", "18.00"), "EUR": ("2.49", "16.99"), "JPY": ("300", "1999"), "KWD": ("0.825", "5.500")}
CURRENCIES = ("EUR", "JPY", "KWD")
Stock = Mapping[str, int]
PLENTY: Stock = {"milk": 1000, "cheese": 1000}
SHELVES: Mapping[str, Mapping[str, Stock]] = {
    USUAL: {"410": PLENTY},
    "a warehouse for each line": {"1": {"milk": 10}, "2": {"cheese": 10}},
    "a line in two warehouses": {"1": {"milk": 2, "cheese": 10}, "2": {"milk": 1}},
    "three warehouses": {"1": {"milk": 2}, "2": {"milk": 1}, "3": {"cheese": 1}},
    "no cheese": {"1": {"milk": 10}},
    "too little milk": {"1": {"milk": 2, "cheese": 10}},
    "too little in two warehouses": {"1": {"milk": 1}, "2": {"milk": 1}},
    "nothing at all": {"1": {}},
}
"""What each warehouse has."""
DAY = 86_400.0
GOODS: Mapping[str, Sequence[tuple[float, Stock]]] = {
    USUAL: ((2 * DAY, {"milk": 10, "cheese": 10}),),
    "at once": ((0.02, {"milk": 10, "cheese": 10}),),
    "within a minute": ((40.0, {"milk": 10, "cheese": 10}),),
    "after the deadline": ((DAY, {"milk": 10, "cheese": 10}),),
    "after 40 days": ((40 * DAY, {"milk": 10, "cheese": 10}),),
    "bit by bit": ((1800.0, {"cheese": 1}), (DAY, {"milk": 1}), (5 * DAY, {"milk": 10, "cheese": 10})),
}
"""What arrives at every warehouse, each that long after the order was placed."""
ANNOUNCED: Mapping[str, Mapping[str, int]] = {
    USUAL: {},
    "milk first": {"milk": 2, "cheese": 5},
    "cheese first": {"milk": 5, "cheese": 2},
    "on one day": {"milk": 2, "cheese": 2},
}
"""After how many days ten of each are announced, at the first warehouse; whether they come then is another question."""
CHARGES = ("discount, shipping and tax", "the cheese is free", "everything is free")
HOUR = timedelta(hours=1)
HOLDS = {USUAL: 168 * HOUR, "for a day": 24 * HOUR, "for an hour": HOUR, "for long": None}
"""How long the bank holds money that is taken as parcels leave, as it says."""
LOST = {USUAL: None, "after a minute": timedelta(minutes=1), "after an hour": HOUR, "after 4 days": 96 * HOUR}
"""When it lets go of it before that."""
EXPIRES = {USUAL: None, "after a second": timedelta(seconds=1), "after an hour": HOUR, "after 2 days": 48 * HOUR}
"""When the first card is declined from."""
CARDS = {USUAL: 0, "the first is declined": 1, "two are declined": 2, "five are declined": 5, "all are declined": 100}

ASKS = {
    USUAL: frozenset[int](),
    "about the first card": frozenset({1}),
    "about the others": frozenset(range(2, 100)),
    "about all cards": frozenset(range(1, 100)),
    "for a transfer": frozenset({1}),
}
"""For which of its customer's cards the bank wants the customer to do something first."""
RETURN_URL = "https://shop.example/thanks"


@dataclass(frozen=True)
class Bank:
    """How it treats money that is held."""

    holds_for: timedelta | None
    loses_after: timedelta | None
    card_expires_after: timedelta | None
    takes_in_parts: bool


@dataclass(frozen=True)
class Plot:
    """An order, and what there is for it."""

    order: PlaceOrder
    shelves: Mapping[str, Stock]
    goods: Sequence[tuple[float, Stock]]
    announced: Mapping[str, int]
    """After how many days ten of each product are announced."""
    declined_cards: int
    """So many of its customer's cards are declined."""
    bank: Bank | None
    """If the money is taken as parcels leave."""
    asked_cards: frozenset[int]
    """About these of its customer's cards the bank asks."""
    asks: ActionKind
    """What it wants then."""


def plot(choices: Choices) -> Plot:
    """By seed or story. Most orders are one parcel from one warehouse, paid for with one card."""
    currency = choices.choose("currency", 0.5, CURRENCIES)
    currency = "USD" if currency == USUAL else currency
    share = choices.mood("parts", (0.0, 0.0, 0.9))
    shelves = choices.choose("shelves", share, [name for name in SHELVES if name != USUAL])
    in_parts = shelves != USUAL
    lines = lines_in(currency, charges=choices.choose("charges", 0.4, CHARGES))
    patience = choices.choose("pay again", 0.3, ["for 15 minutes"]) != USUAL
    cards = choices.choose("cards", 0.6 if patience else 0.0, [name for name in CARDS if name != USUAL])
    when_short = choices.choose("when short", 0.8 if in_parts else 0.0, ["drop", "wait", "wait", "ask", "ask"])
    together = choices.choose("delivery", 0.3 if in_parts else 0.0, ["all together"]) != USUAL
    bank = _bank(choices) if choices.choose("money is taken", 0.3, ["as parcels leave"]) != USUAL else None
    is_there = choices.choose("the customer is there", 0.4, ["to confirm"]) != USUAL
    may_ask = [*(name for name in ASKS if name != USUAL), *["for a transfer"] * 3]
    asks = choices.choose("the bank asks", 0.6 if is_there else 0.05, may_ask)
    if asks == "for a transfer":
        bank = None  # of a transfer nothing is held
    may_split = in_parts and choices.choose("from one warehouse", 0.2, ["only"]) == USUAL
    order = PlaceOrder(
        order_id=uuid5(ORDERS, "explored"),
        customer_id=uuid5(ORDERS, "customer"),
        lines=lines,
        total=Money.from_minor(price_of(lines, _everything()), currency),
        ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        payment_token="card_1",  # noqa: S106 (a name of a test card)
        needs_review=choices.choose("review", 0.3, ["asked for by us"]) != USUAL,
        review_seconds=7200,
        may_split=may_split,
        day_by_day=may_split and not together,
        when_short=WhenShort.REFUSE if when_short == USUAL else WhenShort(when_short),
        delivery=Delivery.ALL_TOGETHER if together else Delivery.AS_AVAILABLE,
        pay_again_seconds=900 if patience else 0,
        return_url=RETURN_URL if is_there else None,
        action_seconds=600,
        capture_at=CaptureAt.DISPATCH if bank else CaptureAt.CONFIRMATION,
        placed_at=START,
    )
    goods = choices.choose("goods arrive", 0.7 if in_parts else 0.0, [name for name in GOODS if name != USUAL])
    announced = choices.choose("announced", 0.6 if in_parts else 0.0, [name for name in ANNOUNCED if name != USUAL])
    return Plot(
        order,
        SHELVES[shelves],
        GOODS[goods] if in_parts else (),
        ANNOUNCED[announced],
        CARDS[cards],
        bank,
        ASKS[asks],
        ActionKind.TRANSFER if asks == "for a transfer" else ActionKind.REDIRECT,
    )


def _bank(choices: Choices) -> Bank:
    holds, loses, expires = (
        choices.choose(name, share, [option for option in options if option != USUAL])
        for name, share, options in (
            ("the bank holds it", 0.6, HOLDS),
            ("the bank lets go of it", 0.4, LOST),
            ("the first card expires", 0.4, EXPIRES),
        )
    )
    in_parts = choices.choose("the bank takes it", 0.3, ["once"]) == USUAL
    return Bank(HOLDS[holds], LOST[loses], EXPIRES[expires], in_parts)


def price_of(lines: Sequence[OrderLine], parts: Sequence[ParcelLine]) -> int:
    """What these units cost their customer, in minor units."""
    by_id = {line.line_id: line for line in lines}
    return sum(_price(by_id[part.line_id], part) for part in parts)


def whole_parcel(number: int, status: ParcelStatus) -> OrderParcel:
    """The only parcel of an order."""
    return OrderParcel(parcel=number, status=status, lines=_everything())


def _price(line: OrderLine, part: ParcelLine) -> int:
    if line.amounts is None:
        return (line.unit_price * part.quantity).minor
    units = [line.amounts.of(line.quantity, part.first + unit, 1).total for unit in range(part.quantity)]
    return sum(units)


def _everything() -> tuple[ParcelLine, ...]:
    return (
        ParcelLine(line_id=1, product_id="milk", quantity=MILK),
        ParcelLine(line_id=2, product_id="cheese", quantity=CHEESE),
    )


def lines_in(currency: str, *, charges: str) -> tuple[OrderLine, ...]:
    """Milk and cheese. With `charges` no unit has an even share of its line's amounts."""
    shared, is_free = charges != USUAL, charges in ("the cheese is free", "everything is free")
    milk, cheese = (Money(amount=Decimal(price), currency=currency) for price in PRICES[currency])
    cheese_amounts = LineAmounts(items=cheese.minor * CHEESE, shipping=100, tax=131)
    milk_amounts = LineAmounts(items=milk.minor * MILK, discount=100, shipping=199, tax=50)
    free = LineAmounts(items=cheese.minor * CHEESE, discount=cheese.minor * CHEESE)
    if charges == "everything is free":
        milk_amounts = LineAmounts(items=milk.minor * MILK, discount=milk.minor * MILK)
    return (
        OrderLine(
            line_id=1,
            product_id="milk",
            name="Milk",
            quantity=MILK,
            unit_price=milk,
            weight_grams=1000,
            amounts=milk_amounts if shared else None,
        ),
        OrderLine(
            line_id=2,
            product_id="cheese",
            name="Cheese",
            quantity=CHEESE,
            unit_price=cheese,
            weight_grams=400,
            amounts=(free if is_free else cheese_amounts) if shared else None,
        ),
    )
