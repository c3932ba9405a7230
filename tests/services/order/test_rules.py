"""The rules of placing an order, without any I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError

from chassis.clock import utc_now
from contracts.address import Address
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import (
    AdvanceOrder,
    AmendmentRequest,
    CaptureAt,
    Delivery,
    LineRequest,
    OrderStatus,
    Outcome,
    PayAgain,
    PlaceOrder,
    PlaceOrderRequest,
    Speed,
)
from contracts.shipments import Tariff
from services.order.api import wants_async
from services.order.commands import canceller
from services.order.model import Order
from services.order.model.placing import Destination, KnownPlaces, Terms, destination_of, placement, priced
from services.order.ports import TaxRate
from services.order.schemas import OrderView
from tests.conftest import ADMIN
from tests.services.order.conftest import SHIP_TO, TARIFF, S, new_order

TERMS = Terms(Money.model_validate({"amount": "250"}), 3600, 7200, 1800, 900, free_shipping_from=Money.zero())
VAT = TaxRate("VAT 19 %", Decimal("0.19"))


def product(product_id: str, price: str, currency: str = "USD") -> CatalogProduct:
    money = Money.model_validate({"amount": price, "currency": currency})
    return CatalogProduct(product_id=product_id, name=f"The {product_id}", price=money, weight_grams=700)


def price(*products: CatalogProduct, **quantities: int) -> PlaceOrder:
    return order_of(products, TERMS, quantities)


def order_of(
    products: Sequence[CatalogProduct],
    terms: Terms,
    quantities: Mapping[str, int],
    *,
    tariff: Tariff = TARIFF,
    taxes: Sequence[TaxRate] = (),
    shipping: Speed = Speed.STANDARD,
    warehouse_id: str | None = "w1",
    delivery: Delivery = Delivery.AS_AVAILABLE,
    payment_token: str = "pm_card_visa",
) -> PlaceOrder:
    lines = [LineRequest(product_id=product_id, quantity=quantity) for product_id, quantity in quantities.items()]
    request = PlaceOrderRequest(
        lines=lines,
        ship_to=SHIP_TO,
        payment_token=payment_token,
        warehouse_id=warehouse_id,
        shipping=shipping,
        delivery=delivery,
    )
    costs = priced(request, products, tariff=tariff, taxes=taxes, terms=terms)
    return placement(request, costs, order_id=uuid4(), customer_id=uuid4(), fingerprint="f", terms=terms)


def fields(refused: pytest.ExceptionInfo[Refusal]) -> list[str]:
    assert refused.value.code == ErrorCode.VALIDATION_FAILED
    return [error["field"] for error in refused.value.extra["errors"]]


def test_names_prices_and_weights_come_from_the_catalogue() -> None:
    order = price(product("bread", "2.25"), product("milk", "1.50"), product("other", "9"), milk=3, bread=1)
    assert [(line.product_id, line.name, line.quantity, str(line.total)) for line in order.lines] == [
        ("milk", "The milk", 3, "4.50 USD"),
        ("bread", "The bread", 1, "2.25 USD"),
    ]
    assert (str(order.total), order.lines[0].weight_grams, order.warehouse_id) == ("6.75 USD", 700, "w1")


def test_the_saga_gets_the_terms_that_an_order_was_placed_under() -> None:
    page = "https://api.shop.example/return"
    terms = replace(TERMS, splits=True, pay_again_seconds=600, action_seconds=60, return_page=page, answer_seconds=300)
    anywhere = order_of([product("milk", "1")], terms, {"milk": 1}, warehouse_id=None)
    assert (anywhere.may_split, anywhere.pay_again_seconds, anywhere.answer_seconds) == (True, 600, 300)
    assert (anywhere.return_url, anywhere.action_seconds) == (page, 60)
    assert not order_of([product("milk", "1")], terms, {"milk": 1}).may_split, "from one warehouse, as it asks"
    assert not order_of([product("milk", "1")], TERMS, {"milk": 1}, warehouse_id=None).may_split, "this shop does not split"


def test_an_order_paid_by_transfer_has_days_for_it_and_is_paid_at_once() -> None:
    terms = replace(TERMS, action_seconds=60, transfer_seconds=86_400, capture_at=CaptureAt.DISPATCH)
    by_transfer = order_of([product("milk", "1")], terms, {"milk": 1}, payment_token="bank_transfer")
    assert (by_transfer.action_seconds, by_transfer.capture_at) == (86_400, CaptureAt.CONFIRMATION)
    by_card = order_of([product("milk", "1")], terms, {"milk": 1})
    assert (by_card.action_seconds, by_card.capture_at) == (60, CaptureAt.DISPATCH)


@pytest.mark.parametrize("kind", [PayAgain, AmendmentRequest])
def test_only_a_new_order_is_paid_by_transfer(kind: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="only a new order can be paid by transfer"):
        kind.model_validate({"payment_token": "bank_transfer"})


SHOPS = replace(
    TERMS,
    return_page="https://api.shop.example/api/v1/payments/return",
    return_origins=frozenset({"https://shop.example", "http://127.0.0.1:3000"}),
)


@pytest.mark.parametrize(
    "url", ["https://shop.example/thanks", "https://SHOP.example", "http://127.0.0.1:3000/orders/1/paid", None]
)
def test_customers_return_from_the_bank_to_a_page_of_the_shop_or_of_the_platform(url: str | None) -> None:
    assert SHOPS.returns_to(url) == (url or SHOPS.return_page)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/thanks",
        "http://shop.example/thanks",
        "https://shop.example:444/thanks",
        "https://shop.example.evil.example",
        "https://evil.example/https://shop.example",
        "https://evil.example\\.shop.example",
        "https://shop.example\\.evil.example",
        "http://127.0.0.1/",
    ],
)
def test_nobody_is_sent_from_the_bank_to_a_page_of_somebody_else(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        SHOPS.returns_to(url)
    assert fields(refused) == ["return_url"]
    with pytest.raises(Refusal):
        TERMS.returns_to(url)


def test_what_is_out_of_stock_comes_day_by_day_if_the_order_may_come_in_parts() -> None:
    splits, milk = replace(TERMS, splits=True), [product("milk", "1")]
    assert order_of(milk, splits, {"milk": 1}, warehouse_id=None).day_by_day
    assert order_of(milk, splits, {"milk": 1}).day_by_day, "from the warehouse that it asks for"
    assert not order_of(milk, splits, {"milk": 1}, delivery=Delivery.ALL_TOGETHER).day_by_day
    assert not order_of(milk, TERMS, {"milk": 1}).day_by_day, "this shop does not split"


def test_a_total_is_what_a_card_can_be_charged() -> None:
    order = price(product("screw", "0.333"), screw=10)
    assert order.total == Money.from_minor(333, "USD")
    assert price(product("tea", "480", "JPY"), tea=2).total == Money.from_minor(960, "JPY")


def test_products_that_are_not_on_sale_are_named() -> None:
    with pytest.raises(Refusal) as refused:
        price(product("milk", "1"), milk=1, gold=1, silver=1)
    assert refused.value.code == ErrorCode.PRODUCT_UNKNOWN
    assert refused.value.extra == {"products": ["gold", "silver"]}


def test_currencies_are_not_mixed_and_sums_have_an_end() -> None:
    with pytest.raises(Refusal) as refused:
        price(product("milk", "1"), product("tea", "480", "JPY"), milk=1, tea=1)
    assert fields(refused) == ["lines.1.product_id"]
    with pytest.raises(Refusal) as refused:
        price(product("ship", "99999999999"), ship=2)
    assert fields(refused) == ["lines"]


@pytest.mark.parametrize(
    ("amount", "currency", "held"),
    [("249.99", "USD", False), ("250.00", "USD", True), ("999", "USD", True), ("1", "EUR", True)],
)
def test_large_orders_and_those_we_cannot_compare_are_held(amount: str, currency: str, held: bool) -> None:
    order = price(product("tv", amount, currency), tv=1)
    assert (order.needs_review, order.review_seconds) == (held, 3600)
    assert (order.decision_seconds, order.dispatch_seconds, order.silence_seconds) == (7200, 1800, 900)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"region": "California"}, []),
        ({"postal_code": "ABC"}, ["ship_to.postal_code"]),
        ({"postal_code": "10001"}, ["ship_to.postal_code"]),  # New York's, not California's
        ({"region": None}, ["ship_to.region"]),
        ({"region": "Bavaria"}, ["ship_to.region"]),
        ({"country": "QQ"}, ["ship_to.country"]),
        ({"country": "DE", "region": None, "city": "Berlin", "postal_code": "10117"}, []),
        ({"country": "DE", "region": None, "city": "Berlin", "postal_code": "1011"}, ["ship_to.postal_code"]),
    ],
)
def test_an_address_has_the_form_of_its_country(change: dict[str, str | None], wrong: list[str]) -> None:
    address = Address.model_validate(SHIP_TO.model_dump() | change)
    if not wrong:
        assert destination_of(address).country == address.country
        return
    with pytest.raises(Refusal) as refused:
        destination_of(address)
    assert fields(refused) == wrong


def test_a_destination_is_written_as_the_post_writes_it() -> None:
    address = SHIP_TO.model_copy(update={"region": "california"})
    assert destination_of(address) == Destination("US", "CA", "94105")


def test_an_order_costs_goods_shipping_and_tax() -> None:
    order = order_of([product("milk", "10")], replace(TERMS, free_shipping_from=None), {"milk": 2}, taxes=[VAT])
    assert order.charges
    assert [str(order.charges.items), str(order.charges.shipping), str(order.charges.tax), str(order.total)] == [
        "20.00 USD", "6.70 USD", "5.07 USD", "31.77 USD",
    ]  # fmt: skip
    assert order.charges.parcels[0].days == 4
    assert order.lines[0].line_id == 1


def test_what_is_free_from_a_sum_is_standard_shipping_alone() -> None:
    terms = replace(TERMS, free_shipping_from=Money(amount=Decimal(20)))
    for shipping, cost in ((Speed.STANDARD, 0), (Speed.EXPRESS, 1650)):
        order = order_of([product("milk", "10")], terms, {"milk": 2}, shipping=shipping)
        assert order.charges
        assert order.charges.shipping.minor == cost


def test_an_order_that_no_parcel_can_carry_is_refused_before_anything_is_done() -> None:
    nowhere = TARIFF.model_copy(update={"services": ()})
    slow = TARIFF.model_copy(update={"services": TARIFF.services[:1]})
    for tariff, code in (nowhere, ErrorCode.ADDRESS_UNDELIVERABLE), (slow, ErrorCode.VALIDATION_FAILED):
        with pytest.raises(Refusal) as refused:
            order_of([product("milk", "1")], TERMS, {"milk": 1}, tariff=tariff, shipping=Speed.EXPRESS)
        assert refused.value.code == code


def test_weights_and_prices_that_no_parcel_costs_are_told() -> None:
    heavy = product("lead", "1").model_copy(update={"weight_grams": 10**12})
    with pytest.raises(Refusal) as refused:
        order_of([heavy], replace(TERMS, free_shipping_from=None), {"lead": 1000})
    assert refused.value.extra["errors"][0]["code"] == "total_too_large"


def test_the_review_threshold_is_compared_with_all_that_is_paid() -> None:
    milk = [product("milk", "249")]
    assert not order_of(milk, TERMS, {"milk": 1}).needs_review
    assert order_of(milk, TERMS, {"milk": 1}, taxes=[VAT]).needs_review


def test_a_known_place_is_all_that_the_form_of_an_address_depends_on() -> None:
    places, there = KnownPlaces(at_most=2), Destination("US", "CA", "94105")
    places.add(SHIP_TO, there)
    for change, is_known in (
        ({"name": "Bob", "line1": "2 Market Street", "line2": "Flat 3"}, True),
        ({"postal_code": "10001"}, False),
        ({"region": "NY"}, False),
        ({"region": None}, False),
        ({"city": "Oakland"}, False),
        ({"country": "CA"}, False),
    ):
        assert places.get(Address.model_validate(SHIP_TO.model_dump() | change)) == (there if is_known else None)
    oakland, fresno = [SHIP_TO.model_copy(update={"city": city}) for city in ("Oakland", "Fresno")]
    places.add(oakland, there)
    places.add(fresno, there)
    assert [places.get(address) for address in (SHIP_TO, oakland, fresno)] == [None, None, there]


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [
        ([], False),
        (["respond-async"], True),
        (["wait=10, Respond-Async; x=1"], True),
        (["wait=10", "respond-async"], True),
        (["respond-asynchronously"], False),
    ],
)
def test_prefer(prefer: list[str], wanted: bool) -> None:
    assert wants_async(prefer) is wanted


@pytest.mark.parametrize(
    ("status", "code", "pay_until", "stays"),
    [
        (S.IN_REVIEW, None, None, False),
        (S.ACTION_REQUIRED, None, None, False),
        (S.CONFIRMED, None, None, True),
        (S.CANCELLING, ErrorCode.OUT_OF_STOCK, None, True),
        (S.PAYMENT_DUE, ErrorCode.PAYMENT_DECLINED, utc_now(), False),
        (S.CONFIRMED, ErrorCode.PAYMENT_DECLINED, utc_now(), False),
    ],
)
def test_an_outcome_is_open_while_somebody_may_still_act(
    status: OrderStatus, code: ErrorCode | None, pay_until: datetime | None, stays: bool
) -> None:
    assert Outcome(order_id=uuid4(), status=status, code=code, pay_until=pay_until).is_definite is stays


def test_an_order_as_it_was_confirmed_is_made_of_what_never_changes() -> None:
    placement = new_order()
    order, later = Order.placed(placement), Order.placed(placement)
    confirmed = Outcome(order_id=order.order_id, status=S.CONFIRMED, tracking_number="T1", warehouse_id="w1", at=order.placed_at)
    later.advance(AdvanceOrder(order_id=order.order_id, after=1, path=(S.RESERVED, S.PAID, S.CONFIRMED), outcome=confirmed))
    later.advance(
        AdvanceOrder(
            order_id=order.order_id,
            after=4,
            path=(S.CANCELLING, S.CANCELLED),
            code=ErrorCode.CANCELLED_BY_REQUEST,
            detail="By mistake.",
            refunded=placement.total,
            warehouse_id="w2",
            tracking_number="T2",
        )
    )
    view = OrderView.confirmed(order, confirmed)
    assert later.kept_outcome == confirmed
    assert OrderView.confirmed(later, confirmed) == view
    assert (view.status, view.tracking_number, view.warehouse_id, view.refunded) == (S.CONFIRMED, "T1", "w1", Money.zero())


def test_g7_staff_cancel_their_own_orders_as_customers_only() -> None:
    assert canceller(ADMIN.subject, ADMIN) == "customer"
    assert canceller(uuid4(), ADMIN) == f"operator {ADMIN.subject}"
