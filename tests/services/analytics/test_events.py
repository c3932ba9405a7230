"""Events through the real handlers: each counts once, in whatever order they come."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chassis.database import Database
from chassis.statements import sql
from contracts.errors import ErrorCode
from contracts.events import CloudEvent, OrderAmended, UserRegistered, event_of
from contracts.money import Money
from contracts.pricing import LineAmounts
from contracts.returns import ReturnKind, ReturnReason
from services.analytics import queries
from services.analytics.queries import Period
from services.analytics.schemas import ProductOrder
from tests.conftest import Databases, changing
from tests.services.analytics.conftest import Order, at, consume, envelope, line, order

OCTOBER = Period(date(2026, 10, 1), date(2026, 10, 31))


async def reports(database: Database) -> dict[str, Any]:
    """All that the reports tell of October."""
    days = await queries.sales_by_day(database, OCTOBER, currency=None, cursor=None, limit=200)
    products = [
        await queries.top_products(database, OCTOBER, currency=currency, by=by, cursor=None, limit=200)
        for currency in ("USD", "EUR")
        for by in ProductOrder
    ]
    customers = [await queries.customers(database, currency=currency, cursor=None, limit=200) for currency in ("USD", "EUR")]
    details = [
        await queries.customer(database, customer_id)
        for customer_id in sorted({item.customer_id for page in customers for item in page.items})
    ]
    return {
        "days": days.model_dump(),
        "products": [page.model_dump() for page in products],
        "customers": [page.model_dump() for page in customers],
        "details": [detail.model_dump() for detail in details],
        "summary": (await queries.summary(database, OCTOBER)).model_dump(),
    }


def a_month() -> list[CloudEvent]:
    """Orders with every fate: completed, under way, refused, cancelled before and after they were confirmed, lost;
    two currencies."""
    ann, bob = UUID(int=1), UUID(int=2)
    done = order(line("milk", 2, "1.50"), line("bread", 1, "3.00"), customer_id=ann)
    under_way = order(line("milk", 5, "1.50"), customer_id=bob)
    refused = order(line("bread", 9, "3.00"), customer_id=bob)
    paid_in_vain = order(line("bread", 2, "3.00"), customer_id=ann)
    regretted = order(line("milk", 3, "1.50"), line("wine", 1, "20.00"), customer_id=ann)
    lost = order(line("wine", 3, "18.00", "EUR"), customer_id=bob)
    abroad = order(line("wine", 2, "18.00", "EUR"), customer_id=ann)
    return [
        done.created(at(1)), done.confirmed(at(1, 13)), done.completed(at(4), refunded=Money(amount=Decimal("1.50"))),
        under_way.created(at(1, 23)), under_way.confirmed(at(2, 0)),
        refused.created(at(2)), refused.cancelled(at(2), was_confirmed=False, code=ErrorCode.OUT_OF_STOCK),
        paid_in_vain.created(at(2)),
        paid_in_vain.cancelled(at(2), was_confirmed=False, refunded=paid_in_vain.total, code=ErrorCode.ADDRESS_UNDELIVERABLE),
        regretted.created(at(2)), regretted.confirmed(at(2)),
        regretted.cancelled(at(5), was_confirmed=True, refunded=regretted.total),
        abroad.created(at(3)), abroad.confirmed(at(3)),
        lost.created(at(3)), lost.confirmed(at(3)), lost.refunded(at(9)),
    ]  # fmt: skip


async def test_a_month_adds_up(database: Database) -> None:
    await consume(database, a_month())
    told = await reports(database)
    days = {(str(item["day"])[-2:], item["currency"]): item for item in told["days"]["items"]}
    counts = {key: (d["placed"], d["confirmed"], d["cancelled"], d["completed"], d["undelivered"]) for key, d in days.items()}
    assert counts == {
        ("01", "USD"): (2, 1, 0, 0, 0),
        ("02", "USD"): (3, 2, 2, 0, 0),
        ("03", "EUR"): (2, 2, 0, 0, 0),
        ("04", "USD"): (0, 0, 0, 1, 0),
        ("05", "USD"): (0, 0, 1, 0, 0),
        ("09", "EUR"): (0, 0, 0, 0, 1),
    }
    money = {key: (str(d["gross"]), str(d["refunds"]), str(d["net"])) for key, d in days.items()}
    assert money[("01", "USD")] == ("6.00", "0.00", "6.00")
    assert money[("02", "USD")] == ("32.00", "0.00", "32.00")
    assert money[("03", "EUR")] == ("90.00", "0.00", "90.00")
    assert money[("09", "EUR")] == ("0.00", "54.00", "-54.00")
    assert money[("04", "USD")] == ("0.00", "1.50", "-1.50")  # for a part of it that did not arrive
    assert money[("05", "USD")] == ("0.00", "24.50", "-24.50")
    # What was cancelled after it had been confirmed is not among the products any more.
    [by_revenue, by_quantity, in_euro, _] = told["products"]
    top = [(item["product_id"], item["name"], item["quantity"], str(item["revenue"])) for item in by_revenue["items"]]
    assert top == [("milk", "Milk", 7, "10.50"), ("bread", "Bread", 1, "3.00")]
    assert [item["product_id"] for item in by_quantity["items"]] == ["milk", "bread"]
    assert [(item["product_id"], item["quantity"]) for item in in_euro["items"]] == [("wine", 2)]
    [dollars, _] = told["customers"]
    values = [(item["customer_id"].int, item["orders"], str(item["revenue"]), str(item["value"])) for item in dollars["items"]]
    assert values == [(2, 2, "7.50", "7.50"), (1, 3, "30.50", "4.50")]
    assert (dollars["items"][1]["first_order_at"], dollars["items"][1]["last_order_at"]) == (at(1), at(2))
    cancellations = {item["code"]: item["orders"] for item in told["summary"]["cancellations"]}
    assert cancellations == {"out_of_stock": 1, "address_undeliverable": 1, "cancelled_by_request": 1}
    sales = {item["currency"]: (str(item["net"]), str(item["average_order"])) for item in told["summary"]["sales"]}
    assert sales == {"EUR": ("36.00", "45.00"), "USD": ("12.00", "12.67")}


def returns_and_parts() -> list[CloudEvent]:
    """A part is cancelled of an order, and of the rest some is returned and some claimed; of another all is cancelled then."""
    eve = UUID(int=3)
    bought = order(line("milk", 4, "2.00", "EUR"), line("wine", 2, "10.00", "EUR"), customer_id=eve)
    regretted = order(line("bread", 3, "1.00", "EUR"), customer_id=eve)
    two_reasons = [(1, 0, 1, ReturnReason.WRONG_SIZE), (1, 1, 1, ReturnReason.DEFECTIVE)]
    return [
        bought.created(at(10)), bought.confirmed(at(10)), bought.part_cancelled(at(11), 1, 3, 1, "2.00"),
        bought.completed(at(12), refunded=Money(amount="2.00", currency="EUR")),
        bought.returned(at(15), 1, two_reasons, "3.50"),
        bought.returned(at(20), 2, [(2, 0, 1, ReturnReason.DAMAGED)], "10.00", ReturnKind.CLAIM),
        bought.returned(at(21), 3, [], "0"),
        regretted.created(at(13)), regretted.confirmed(at(13)), regretted.part_cancelled(at(13), 1, 0, 1, "1.00"),
        regretted.cancelled(at(14), was_confirmed=True, refunded=Money(amount="3.00", currency="EUR")),
    ]  # fmt: skip


async def test_i10_revenue_and_units_are_net_of_returns_and_of_parts_that_were_cancelled(database: Database) -> None:
    await consume(database, returns_and_parts())
    told = await reports(database)
    [sales] = told["summary"]["sales"]
    counts = (sales["confirmed"], sales["completed"], sales["cancelled"], sales["returned"])
    assert counts == (2, 1, 1, 3)
    # Of the parts nothing counts twice: 2.00 at the completion, 3.00 at the cancellation, and 13.50 by returns.
    assert [str(sales[name]) for name in ("gross", "refunds", "returned_amount", "net")] == ["31.00", "18.50", "13.50", "12.50"]
    days = {str(item["day"])[-2:]: (str(item["refunds"]), str(item["returned_amount"])) for item in told["days"]["items"]}
    assert {day: sums for day, sums in days.items() if sums[0] != "0.00"} == {
        "12": ("2.00", "0.00"), "14": ("3.00", "0.00"), "15": ("3.50", "3.50"), "20": ("10.00", "10.00"),
    }  # fmt: skip
    rates = {
        item["product_id"]: (item["quantity"], str(item["revenue"]), item["returned"], str(item["return_rate"]))
        for item in told["products"][2]["items"]
    }
    assert rates == {"milk": (1, "2.00", 2, "0.6667"), "wine": (1, "10.00", 1, "0.5000")}
    assert {(row["kind"], row["reason"]): (row["returns"], row["units"]) for row in told["summary"]["returns"]} == {
        ("return", "wrong_size"): (1, 1), ("return", "defective"): (1, 1), ("claim", "damaged"): (1, 1),
    }  # fmt: skip
    [eve] = told["details"]
    assert [str(value["value"]) for value in eve["values"]] == ["12.50"]
    backs = {(str(each["refunded"]), str(each["returned"])) for each in eve["recent_orders"]}
    assert backs == {("2.00", "13.50"), ("3.00", "0.00")}


async def test_i10_units_of_a_line_are_taken_off_at_their_share_of_what_it_was_sold_for(database: Database) -> None:
    amounts = LineAmounts(items=300, discount=100, shipping=0, tax=0)
    sold = order(line("milk", 3, "1.00").model_copy(update={"line_id": 1, "amounts": amounts}), customer_id=UUID(int=1))
    revenues = []
    for event in (
        sold.confirmed(at(1)),
        *(sold.returned(at(2), n + 1, [(1, n, 1, ReturnReason.DEFECTIVE)], "0.66") for n in range(3)),
    ):
        await consume(database, [event])
        [milk] = (await reports(database))["products"][0]["items"]
        revenues.append((milk["quantity"], str(milk["revenue"]), milk["returned"]))
    assert revenues == [(3, "2.00", 0), (2, "1.34", 1), (1, "0.67", 2), (0, "0.00", 3)]


MONTH = a_month() + returns_and_parts()


@given(st.permutations(range(len(MONTH))), st.lists(st.integers(0, len(MONTH) - 1), max_size=6), st.integers(1, len(MONTH)))
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_order_any_batches_and_any_duplicates_give_the_same_reports(
    database: Database, places: list[int], duplicates: list[int], batch: int
) -> None:
    told = []
    for order_of_telling in ([*range(len(MONTH))], [*places, *duplicates]):
        async with changing(database) as work:
            await work.rows(sql("truncate orders, sales_by_day, products_by_day, customers, returns, returns_by_day, inbox"))
        envelopes = [MONTH[place] for place in order_of_telling]
        for start in range(0, len(envelopes), batch):
            await consume(database, envelopes[start : start + batch])
        told.append(await reports(database))
    assert told[0] == told[1]


async def test_who_tells_a_fact_a_second_time_changes_nothing(database: Database) -> None:
    await consume(database, MONTH)
    before = await reports(database)
    await consume(database, [each.model_copy(update={"id": UUID(int=n)}) for n, each in enumerate(MONTH)])
    assert await reports(database) == before


@dataclass
class Expected:
    """The same sums, the slow and plain way."""

    placed: int = 0
    confirmed: int = 0
    cancelled: int = 0
    completed: int = 0
    undelivered: int = 0
    gross: Decimal = Decimal(0)
    refunds: Decimal = Decimal(0)
    sold: Counter[str] = field(default_factory=Counter)


def many_orders(seed: int) -> tuple[list[CloudEvent], Expected]:
    chance, events, expected = random.Random(seed), [], Expected()
    for _ in range(60):
        lines = [line(f"p{n}", chance.randint(1, 5), f"{chance.randint(1, 9)}.25") for n in chance.sample(range(8), 3)]
        bought = order(*lines, customer_id=UUID(int=chance.randint(1, 5)))
        fate = chance.choice(["refused", "confirmed", "completed", "regretted", "lost"])
        day = chance.randint(1, 28)
        events.append(bought.created(at(day)))
        expected.placed += 1
        if fate == "refused":
            events.append(bought.cancelled(at(day), was_confirmed=False))
            expected.cancelled += 1
            continue
        events.append(bought.confirmed(at(day)))
        expected.confirmed += 1
        expected.gross += bought.total.amount
        if fate == "regretted":
            events.append(bought.cancelled(at(day + 1), was_confirmed=True, refunded=bought.total))
            expected.cancelled += 1
            expected.refunds += bought.total.amount
            continue
        if fate == "lost":
            events.append(bought.refunded(at(day + 2)))
            expected.undelivered += 1
            expected.refunds += bought.total.amount
            continue
        expected.sold.update({each.product_id: each.quantity for each in lines})
        if fate == "completed":
            events.append(bought.completed(at(day + 3)))
            expected.completed += 1
    chance.shuffle(events)
    return events, expected


async def test_sums_are_right_when_several_processes_apply_events_at_once(database: Database) -> None:
    events, expected = many_orders(seed=7)
    shares = [events[n::4] for n in range(4)]
    with capture_logs() as logs:
        await asyncio.gather(*[consume(database, share) for share in shares], *[consume(database, shares[0][::-1])])
    assert not [entry for entry in logs if entry["event"] in ("batch_failed", "event_failed")]
    [sales] = (await queries.summary(database, OCTOBER)).sales
    for name in ("placed", "confirmed", "cancelled", "completed", "undelivered", "gross", "refunds"):
        assert getattr(sales, name) == getattr(expected, name), name
    top = await queries.top_products(database, OCTOBER, currency="USD", by=ProductOrder.QUANTITY, cursor=None, limit=100)
    assert {item.product_id: item.quantity for item in top.items} == dict(expected.sold)
    worth = await queries.customers(database, currency="USD", cursor=None, limit=100)
    assert sum(item.value for item in worth.items) == expected.gross - expected.refunds
    assert sum(item.orders for item in worth.items) == 60


async def test_events_it_does_not_need_are_passed_over(database: Database) -> None:
    registered = UserRegistered(customer_id=UUID(int=1))
    await consume(database, [envelope(registered, at(1))])
    assert (await queries.summary(database, OCTOBER)).sales == []


def test_the_month_tells_of_real_events() -> None:
    assert {type(event_of(each)).__name__ for each in MONTH} == {
        "OrderCreated", "OrderConfirmed", "OrderPartCancelled", "OrderCancelled", "OrderRefunded", "OrderCompleted",
        "ReturnCompleted",
    }  # fmt: skip


async def test_a_yen_has_no_cents_and_a_dinar_has_three_digits(database: Database) -> None:
    for currency, price, shown in (("JPY", "100", "300"), ("KWD", "1.125", "3.375")):
        bought: Order = order(line("tea", 3, price, currency))
        await consume(database, [bought.created(at(1)), bought.confirmed(at(1))])
        page = await queries.sales_by_day(database, OCTOBER, currency=currency, cursor=None, limit=1)
        assert str(page.items[0].gross) == shown
        assert Money(amount=page.items[0].gross, currency=currency) == bought.total


async def test_a_product_was_sold_for_what_its_discount_left(database: Database) -> None:
    amounts = LineAmounts(items=300, discount=45, shipping=590, tax=18)
    sold = order(line("milk", 2, "1.50").model_copy(update={"line_id": 1, "amounts": amounts}), customer_id=UUID(int=1))
    await consume(database, [sold.created(at(1)), sold.confirmed(at(1, 13))])
    [milk] = (await reports(database))["products"][0]["items"]
    assert (milk["quantity"], str(milk["revenue"])) == (2, "2.55")


async def test_an_amended_order_counts_as_what_it_is_now_in_whatever_order_that_is_told(databases: Databases) -> None:
    first = order(line("milk", 2, "1.50"), line("bread", 1, "3.00"), customer_id=UUID(int=1))
    second = Order(first.customer_id, (line("milk", 3, "1.50"),), first.order_id)
    third = Order(first.customer_id, (line("milk", 3, "1.50"), line("oil", 1, "5.00")), first.order_id)

    def amended(number: int, before: Order, after: Order) -> CloudEvent:
        event = OrderAmended(
            order_id=first.order_id,
            customer_id=first.customer_id,
            number=number,
            lines=after.lines,
            total=after.total,
            lines_before=before.lines,
            total_before=before.total,
            charged=Money.zero(),
            given_back=Money.zero(),
        )
        return envelope(event, at(3))

    told = [first.confirmed(at(1)), amended(1, first, second), amended(2, second, third)]
    for sequence in permutations(told):
        database = Database(await databases.new("analytics"))
        await consume(database, [first.created(at(1))])
        for each in sequence:
            await consume(database, [each])
            await consume(database, [each])
        report = await reports(database)
        [sales] = report["summary"]["sales"]
        assert (str(sales["gross"]), sales["confirmed"]) == ("9.50", 1)
        assert {item["product_id"]: item["quantity"] for item in report["products"][0]["items"] if item["quantity"]} == {
            "milk": 3,
            "oil": 1,
        }
        assert str(report["customers"][0]["items"][0]["value"]) == "9.50"
        await consume(database, [third.cancelled(at(4), was_confirmed=True, refunded=third.total)])
        report = await reports(database)
        assert str(report["customers"][0]["items"][0]["value"]) == "0.00"
        assert [item["quantity"] for item in report["products"][0]["items"] if item["quantity"]] == []
        await database.close()
