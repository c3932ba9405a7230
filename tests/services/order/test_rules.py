"""The rules of placing an order, without any I/O."""

from uuid import uuid4

import pytest

from contracts.address import Address
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import AdvanceOrder, LineRequest, OrderStatus, Outcome, PlaceOrder, PlaceOrderRequest
from services.order.api import wants_async
from services.order.commands import canceller
from services.order.model import Order
from services.order.model.placing import KnownPlaces, Terms, priced, require_form
from services.order.schemas import OrderView
from tests.conftest import ADMIN
from tests.services.order.conftest import SHIP_TO, S, new_order

TERMS = Terms(Money.model_validate({"amount": "250"}), 3600, 7200, 1800, 900)


def product(product_id: str, price: str, currency: str = "USD") -> CatalogProduct:
    money = Money.model_validate({"amount": price, "currency": currency})
    return CatalogProduct(product_id=product_id, name=f"The {product_id}", price=money, weight_grams=700)


def price(*products: CatalogProduct, **quantities: int) -> PlaceOrder:
    lines = [LineRequest(product_id=product_id, quantity=quantity) for product_id, quantity in quantities.items()]
    request = PlaceOrderRequest(lines=lines, ship_to=SHIP_TO, payment_token="tok_visa", warehouse_id="w1")
    return priced(request, products, order_id=uuid4(), customer_id=uuid4(), fingerprint="f", terms=TERMS)


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
        return require_form(address)
    with pytest.raises(Refusal) as refused:
        require_form(address)
    assert fields(refused) == wrong
    return None


def test_a_known_place_is_all_that_the_form_of_an_address_depends_on() -> None:
    places = KnownPlaces(at_most=2)
    places.add(SHIP_TO)
    for change, is_known in (
        ({"name": "Bob", "line1": "2 Market Street", "line2": "Flat 3"}, True),
        ({"postal_code": "10001"}, False),
        ({"region": "NY"}, False),
        ({"region": None}, False),
        ({"city": "Oakland"}, False),
        ({"country": "CA"}, False),
    ):
        assert (Address.model_validate(SHIP_TO.model_dump() | change) in places) is is_known
    oakland, fresno = [SHIP_TO.model_copy(update={"city": city}) for city in ("Oakland", "Fresno")]
    places.add(oakland)
    places.add(fresno)
    assert [address in places for address in (SHIP_TO, oakland, fresno)] == [False, False, True]


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
    ("status", "code", "stays"),
    [(S.IN_REVIEW, None, False), (S.CONFIRMED, None, True), (S.CANCELLING, ErrorCode.OUT_OF_STOCK, True)],
)
def test_an_outcome_that_is_held_for_review_is_open(status: OrderStatus, code: ErrorCode | None, stays: bool) -> None:
    assert Outcome(order_id=uuid4(), status=status, code=code).is_definite is stays


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
