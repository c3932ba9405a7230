"""Discount codes: the rules, their uses on a real database, and what staff do with them over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import UnitOfWork
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderStatus, PlaceOrder
from contracts.pricing import AppliedDiscount, DiscountKind, OrderCharges
from services.order import commands, queries
from services.order.model import Discount, DiscountTerms, DiscountUses, Redemption
from services.order.model.discounts import Standing, give_back, redeem, reductions
from services.order.model.pricing import Reduction
from tests.conftest import TokenMint
from tests.services.order.conftest import S, new_order
from tests.services.order.test_api import body
from tests.services.order.test_quotes import ask
from tests.services.order.test_quotes import order as place

NOW = utc_now()
PERCENT, AMOUNT, FREE_SHIPPING = DiscountKind.PERCENT, DiscountKind.AMOUNT, DiscountKind.FREE_SHIPPING
TEN_PERCENT = DiscountTerms(kind=PERCENT, percent=Decimal(10))


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


def standing(code: str, terms: DiscountTerms = TEN_PERCENT, *, used: int = 0, by_customer: int = 0) -> Standing:
    return Standing(Discount.new(code, terms), used, by_customer)


def ordered_with(*codes: str, customer_id: UUID | None = None, order_id: UUID | None = None) -> PlaceOrder:
    """An order from which each of these codes took a cent off."""
    order = new_order(customer_id, order_id=order_id)
    off = usd("0.01")
    total = order.total - usd(str(Decimal(len(codes)) / 100))
    charges = OrderCharges(
        items=order.total,
        discount=order.total - total,
        shipping=Money.zero(),
        tax=Money.zero(),
        total=total,
        discounts=tuple(AppliedDiscount(code=code, kind=PERCENT, amount=off) for code in codes),
    )
    return order.model_copy(update={"charges": charges, "total": total})


def reasons(refused: pytest.ExceptionInfo[Refusal]) -> dict[str, str]:
    """By field, why codes were refused."""
    assert refused.value.code == ErrorCode.DISCOUNT_REFUSED
    return {error["field"]: error["code"] for error in refused.value.extra["errors"]}


# The rules


def test_codes_take_off_what_their_terms_say_in_the_sequence_of_the_request() -> None:
    combinable = [
        standing("TENTH", DiscountTerms(kind=PERCENT, percent=Decimal("10.25"), combinable=True)),
        standing("FIVER", DiscountTerms(kind=AMOUNT, amount=usd("5"), combinable=True)),
        standing("SENT", DiscountTerms(kind=FREE_SHIPPING, combinable=True)),
    ]
    known = {each.discount.code: each for each in combinable}
    found = reductions(["FIVER", "TENTH", "SENT"], known, usd("20"), NOW)
    assert [(each.code, each.kind, each.percent, each.amount_minor) for each in found] == [
        ("FIVER", AMOUNT, None, 500),
        ("TENTH", PERCENT, Decimal("10.25"), None),
        ("SENT", FREE_SHIPPING, None, None),
    ]
    assert reductions([], {}, usd("20"), NOW) == ()


SOON, LONG_AGO = NOW + timedelta(seconds=1), NOW - timedelta(days=1)


@pytest.mark.parametrize(
    ("terms", "used", "by_customer", "reason"),
    [
        ({}, 10**6, 10**6, None),
        ({"enabled": False}, 0, 0, "disabled"),
        ({"valid_from": SOON}, 0, 0, "not_yet_valid"),
        ({"valid_from": NOW, "valid_until": SOON}, 0, 0, None),
        ({"valid_from": LONG_AGO, "valid_until": NOW}, 0, 0, "expired"),
        ({"minimum": Money(amount=Decimal(20), currency="EUR")}, 0, 0, "other_currency"),
        ({"minimum": usd("20.01")}, 0, 0, "minimum_not_reached"),
        ({"minimum": usd("20")}, 0, 0, None),
        ({"max_uses": 3}, 2, 0, None),
        ({"max_uses": 3}, 3, 0, "used_up"),
        ({"max_uses": 3}, 5, 0, "used_up"),
        ({"max_uses_per_customer": 2}, 9, 1, None),
        ({"max_uses_per_customer": 2}, 9, 2, "used_up_by_customer"),
    ],
)
def test_each_reason_against_a_code_has_a_name(terms: dict[str, Any], used: int, by_customer: int, reason: str | None) -> None:
    code = standing("CODE", DiscountTerms(kind=PERCENT, percent=Decimal(10), **terms), used=used, by_customer=by_customer)
    if reason is None:
        assert len(reductions(["CODE"], {"CODE": code}, usd("20"), NOW)) == 1
        return
    with pytest.raises(Refusal) as refused:
        reductions(["CODE"], {"CODE": code}, usd("20"), NOW)
    assert reasons(refused) == {"discount_codes.0": reason}
    assert "CODE" in refused.value.detail


def test_all_codes_that_an_order_cannot_use_are_named_at_once() -> None:
    alone = standing("ALONE")
    friend = standing("FRIEND", DiscountTerms(kind=FREE_SHIPPING, combinable=True))
    with pytest.raises(Refusal) as refused:
        reductions(["FRIEND", "ALONE", "NOWHERE", "FRIEND"], {"ALONE": alone, "FRIEND": friend}, usd("20"), NOW)
    assert reasons(refused) == {
        "discount_codes.1": "not_combinable",
        "discount_codes.2": "unknown",
        "discount_codes.3": "repeated",
    }


def test_a_minimum_is_told() -> None:
    with pytest.raises(Refusal, match=r"FIFTY is for orders of at least 50\.00 USD\."):
        reductions(["FIFTY"], {"FIFTY": standing("FIFTY", DiscountTerms(PERCENT, Decimal(5), minimum=usd("50")))}, usd("20"), NOW)


def test_a_code_that_took_nothing_off_is_not_used() -> None:
    order = ordered_with("USED")
    used, idle = standing("USED"), standing("IDLE", DiscountTerms(kind=FREE_SHIPPING, max_uses=1), used=1)
    row = DiscountUses(code="USED")
    [redemption] = redeem(order, ["IDLE", "USED"], {"USED": used, "IDLE": idle}, [row])
    assert (redemption.code, redemption.amount, row.times_used) == ("USED", usd("0.01"), 1)


def test_a_refused_code_is_named_by_its_place_in_the_request() -> None:
    row = DiscountUses(code="USED", times_used=1)
    known = {"USED": standing("USED", DiscountTerms(PERCENT, Decimal(10), max_uses=1), used=1)}
    with pytest.raises(Refusal) as refused:
        redeem(ordered_with("USED"), ["IDLE", "USED"], known, [row])
    assert (reasons(refused), row.times_used) == ({"discount_codes.1": "used_up"}, 1)


def test_a_use_is_given_back_once() -> None:
    row = DiscountUses(code="USED", times_used=4)
    redemptions = redeem(ordered_with("USED"), ["USED"], {"USED": standing("USED", used=4)}, [row])
    for _ in range(2):
        give_back(redemptions, [row])
    assert (row.times_used, redemptions[0].given_back_at is None) == (4, False)


@pytest.mark.parametrize(
    "terms",
    [
        DiscountTerms(PERCENT, Decimal("12.34"), minimum=usd("1.50"), valid_from=NOW, valid_until=SOON, max_uses=5),
        DiscountTerms(AMOUNT, amount=Money(amount=Decimal(500), currency="JPY"), max_uses_per_customer=1),
        DiscountTerms(FREE_SHIPPING, combinable=True, enabled=False),
    ],
)
def test_a_code_keeps_its_terms(terms: DiscountTerms) -> None:
    discount = Discount.new("CODE", TEN_PERCENT)
    discount.change(terms)
    assert discount.terms == terms
    changed = discount.updated_at
    discount.change(terms)
    assert discount.updated_at == changed


def test_a_code_has_one_currency() -> None:
    with pytest.raises(ValueError, match="one currency"):
        Discount.new("CODE", DiscountTerms(AMOUNT, amount=usd("5"), minimum=Money(amount=Decimal(50), currency="EUR")))


# Their uses


async def used(database: Database, code: str) -> int:
    return (await queries.get_discount(database, code)).times_used


async def asked(database: Database, code: str, customer_id: UUID) -> Sequence[Reduction]:
    """What a code would take off an order of this customer."""
    return reductions([code], await commands.standings_of(database, [code], customer_id), usd("3"), utc_now())


async def redemptions(database: Database, code: str) -> list[tuple[UUID, bool]]:
    """Which orders use a code, and whether that still counts."""
    page = await queries.list_redemptions(database, code, None, 200)
    return [(row.order_id, row.given_back_at is None) for row in page.items]


async def advance(database: Database, order: PlaceOrder, *path: OrderStatus, after: int = 1, **facts: object) -> None:
    command = AdvanceOrder.model_validate({"order_id": order.order_id, "after": after, "path": path, **facts})
    await commands.advance_order(database, command)


async def test_a_limit_holds_for_many_who_come_at_once(database: Database) -> None:
    await commands.put_discount(database, "FIRST5", DiscountTerms(PERCENT, Decimal(10), max_uses=5))
    orders = [ordered_with("FIRST5") for _ in range(20)]
    told = await asyncio.gather(*[commands.accept_order(database, order, ["FIRST5"]) for order in orders], return_exceptions=True)
    refused = [answer for answer in told if isinstance(answer, Refusal)]
    assert Counter(answer.code for answer in refused) == {"discount_refused": 15}
    assert len(await redemptions(database, "FIRST5")) == await used(database, "FIRST5") == 5
    for order, answer in zip(orders, told, strict=True):  # of those who were refused nothing is kept
        assert (await commands.find_order(database, order.order_id) is None) == isinstance(answer, Refusal)


async def test_a_customers_limit_holds_for_many_orders_at_once(database: Database) -> None:
    await commands.put_discount(database, "TWICE", DiscountTerms(PERCENT, Decimal(10), max_uses_per_customer=2))
    anna, ben = uuid4(), uuid4()
    orders = [ordered_with("TWICE", customer_id=customer) for customer in 5 * (anna, ben)]
    told = await asyncio.gather(*[commands.accept_order(database, order, ["TWICE"]) for order in orders], return_exceptions=True)
    assert Counter(answer.customer_id for answer in told if not isinstance(answer, BaseException)) == {anna: 2, ben: 2}
    assert await used(database, "TWICE") == 4


async def test_a_repeated_request_uses_its_code_once(database: Database) -> None:
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(10), max_uses=1, max_uses_per_customer=1))
    order = ordered_with("ONCE")
    placed = await asyncio.gather(*[commands.accept_order(database, order, ["ONCE"]) for _ in range(10)])
    assert {row.order_id for row in placed} == {order.order_id}
    assert await redemptions(database, "ONCE") == [(order.order_id, True)]
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(10), enabled=False))
    assert (await commands.accept_order(database, order, ["ONCE"])).order_id == order.order_id
    assert await used(database, "ONCE") == 1


async def test_a_cancelled_order_gives_its_codes_back_once(database: Database) -> None:
    for code in ("A1", "B2"):
        await commands.put_discount(database, code, DiscountTerms(PERCENT, Decimal(10), max_uses=1))
    order = ordered_with("B2", "A1")
    await commands.accept_order(database, order, ["B2", "A1"])
    with pytest.raises(Refusal) as refused:
        await commands.accept_order(database, ordered_with("A1"), ["A1"])
    assert reasons(refused) == {"discount_codes.0": "used_up"}
    await advance(database, order, S.RESERVED, S.CANCELLING)
    assert await used(database, "A1") == 1
    for _ in range(3):
        await advance(database, order, S.CANCELLED, after=3, refunded=Money.zero())
    assert (await used(database, "A1"), await used(database, "B2")) == (0, 0)
    assert await redemptions(database, "A1") == [(order.order_id, False)]
    again = ordered_with("A1")
    await commands.accept_order(database, again, ["A1"])
    assert set(await redemptions(database, "A1")) == {(order.order_id, False), (again.order_id, True)}


async def test_an_order_that_was_refunded_has_used_its_code(database: Database) -> None:
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(10), max_uses=1))
    order = ordered_with("ONCE")
    await commands.accept_order(database, order, ["ONCE"])
    path = (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED, S.REFUNDED)
    await advance(database, order, *path, trouble="lost", refunded=order.total)
    assert await used(database, "ONCE") == 1


async def test_a_code_that_was_disabled_after_an_order_was_priced_is_refused(database: Database) -> None:
    await commands.put_discount(database, "STOP", TEN_PERCENT)
    assert await asked(database, "STOP", uuid4())
    await commands.disable_discount(database, "STOP")
    order = ordered_with("STOP")
    with pytest.raises(Refusal) as refused:
        await commands.accept_order(database, order, ["STOP"])
    assert reasons(refused) == {"discount_codes.0": "disabled"}
    assert await commands.find_order(database, order.order_id) is None


async def test_who_asks_what_a_code_takes_off_does_not_use_it_and_is_told_whether_it_is_used_up(database: Database) -> None:
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(10), max_uses_per_customer=1))
    order = ordered_with("ONCE")
    for _ in range(2):
        assert await asked(database, "ONCE", order.customer_id)
    await commands.accept_order(database, order, ["ONCE"])
    with pytest.raises(Refusal) as refused:
        await asked(database, "ONCE", order.customer_id)
    assert reasons(refused) == {"discount_codes.0": "used_up_by_customer"}
    assert await asked(database, "ONCE", uuid4())


async def test_an_order_without_codes_pays_nothing_for_them(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []
    execute = UnitOfWork._statement

    async def counted(work: UnitOfWork, statement: str, *arguments: Any) -> Any:
        executed.append(statement)
        return await execute(work, statement, *arguments)

    await commands.put_discount(database, "SPRING", TEN_PERCENT)
    monkeypatch.setattr(UnitOfWork, "_statement", counted)
    for order in (ordered_with(), new_order()):
        await commands.accept_order(database, order)
        await advance(database, order, S.CANCELLING, S.CANCELLED, refunded=Money.zero())
    assert executed == []  # nothing but the first look and the last write, which go another way
    await commands.accept_order(database, ordered_with("SPRING"), ["SPRING"])
    assert len(executed) == 2


# Over HTTP


async def put(client: httpx2.AsyncClient, headers: dict[str, str], code: str, **terms: object) -> httpx2.Response:
    return await client.put(f"/api/v1/discounts/{code}", json={"kind": "percent", "percent": "10"} | terms, headers=headers)


async def test_staff_add_change_and_disable_codes(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    made = await put(client, admin, "spring")
    assert (made.status_code, made.json()["code"], made.headers["etag"]) == (200, "SPRING", '"1"')
    changed = await put(client, admin | {"If-Match": '"1"'}, "SPRING", percent="12.5", max_uses=3)
    assert (changed.json()["percent"], changed.json()["max_uses"], changed.headers["etag"]) == ("12.5", 3, '"2"')
    stale = await put(client, admin | {"If-Match": '"1"'}, "SPRING", percent="99")
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]["percent"]) == (412, "stale_version", "12.5")
    off = await client.post("/api/v1/discounts/SPRING/disable", headers=admin | {"If-Match": '"2"'})
    assert (off.json()["enabled"], off.headers["etag"]) == (False, '"3"')
    repeated = await client.post("/api/v1/discounts/SPRING/disable", headers=admin)
    assert (repeated.status_code, repeated.headers["etag"]) == (200, '"3"')
    read = await client.get("/api/v1/discounts/spring", headers=mint.headers(Role.SUPPORT))
    assert (read.json()["times_used"], read.json()["version"], read.headers["etag"]) == (0, 3, '"3"')
    for missing in (
        await client.get("/api/v1/discounts/NOWHERE", headers=admin),
        await client.get("/api/v1/discounts/NOWHERE/redemptions", headers=admin),
        await client.post("/api/v1/discounts/NOWHERE/disable", headers=admin),
        await put(client, admin | {"If-Match": '"1"'}, "NOWHERE"),
    ):
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "terms",
    [
        {"percent": None},
        {"percent": "0"},
        {"percent": "100.01"},
        {"percent": "1.005"},
        {"amount": {"amount": "5"}},
        {"kind": "free_shipping"},
        {"kind": "amount", "percent": None},
        {"kind": "amount", "percent": None, "amount": {"amount": "0.001"}},
        {"kind": "amount", "percent": None, "amount": {"amount": "5"}, "minimum": {"amount": "5", "currency": "EUR"}},
        {"max_uses": 0},
        {"valid_from": "2030-01-01T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"},
    ],
)
async def test_terms_that_make_no_sense_are_refused(
    client: httpx2.AsyncClient, mint: TokenMint, terms: dict[str, object]
) -> None:
    response = await put(client, mint.headers(Role.ADMIN), "ODD", **terms)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


async def test_codes_and_their_uses_are_listed_by_pages(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    support = mint.headers(Role.SUPPORT)
    for code in ("C3", "A1", "B2"):
        await commands.put_discount(database, code, TEN_PERCENT)
    orders = [ordered_with("B2") for _ in range(3)]
    for order in orders:
        await commands.accept_order(database, order, ["B2"])

    async def walk(path: str) -> list[dict[str, Any]]:
        found, cursor = [], ""
        while True:
            page = (await client.get(f"{path}?limit=2{cursor}", headers=support)).json()
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert [(each["code"], each["times_used"]) for each in await walk("/api/v1/discounts")] == [("A1", 0), ("B2", 3), ("C3", 0)]
    listed = await walk("/api/v1/discounts/B2/redemptions")
    assert [each["order_id"] for each in listed] == [str(order.order_id) for order in reversed(orders)]
    assert listed[0]["amount"] == {"amount": "0.01", "currency": "USD"}
    assert await walk("/api/v1/discounts/A1/redemptions") == []


async def test_a_redemption_names_nobody_but_by_ids() -> None:
    assert set(Redemption.model_fields) == {
        "order_id", "code", "customer_id", "amount_minor", "currency", "redeemed_at", "given_back_at", "terms",
    }  # fmt: skip


async def test_codes_make_an_order_cheaper(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    terms = DiscountTerms(AMOUNT, amount=usd("1"), minimum=usd("3"), combinable=True)
    await commands.put_discount(database, "DOLLAR", terms)
    await commands.put_discount(database, "SENT", DiscountTerms(FREE_SHIPPING, combinable=True))
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    placed = await place(client, headers, discount_codes=["sent", " dollar "])
    assert placed.status_code == 202
    charges = placed.json()["charges"]
    assert {name: charges[name]["amount"] for name in ("items", "discount", "shipping")} == {
        "items": "3.00", "discount": "1.00", "shipping": "0.00",
    }  # fmt: skip
    assert {each["code"]: each["amount"]["amount"] for each in charges["discounts"]} == {"DOLLAR": "1.00", "SENT": "5.90"}
    [use] = (await queries.list_redemptions(database, "SENT", None, 5)).items
    assert (str(use.order_id), use.amount) == (placed.json()["order_id"], usd("5.90"))
    small = await place(client, headers, lines=[{"product_id": "milk", "quantity": 1}], discount_codes=["SENT", "DOLLAR"])
    assert (small.status_code, small.json()["code"]) == (422, "discount_refused")
    assert [(error["field"], error["code"]) for error in small.json()["errors"]] == [("discount_codes.1", "minimum_not_reached")]
    assert await used(database, "SENT") == 1


async def test_a_quote_does_not_use_a_code_and_keeps_what_it_takes_off(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(50), max_uses=1))
    first, second = mint.headers(Role.CUSTOMER, subject=uuid4()), mint.headers(Role.CUSTOMER, subject=uuid4())
    quotes = [(await ask(client, headers, discount_codes=["ONCE"])).json() for headers in (first, second)]
    assert {quote["charges"]["discount"]["amount"] for quote in quotes} == {"1.50"}
    assert await used(database, "ONCE") == 0
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(1), max_uses=1, valid_until=utc_now()))
    placed = await place(client, first, discount_codes=["ONCE"], quote_id=quotes[0]["quote_id"])
    assert (placed.status_code, placed.json()["charges"]) == (202, quotes[0]["charges"])
    late = await place(client, second, discount_codes=["ONCE"], quote_id=quotes[1]["quote_id"])
    assert (late.status_code, late.json()["code"], late.json()["errors"][0]["code"]) == (422, "discount_refused", "used_up")


async def test_a_repeated_order_is_the_same_whatever_has_become_of_its_code(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    await commands.put_discount(database, "ONCE", DiscountTerms(PERCENT, Decimal(50), max_uses=1))
    headers = mint.headers(Role.CUSTOMER, subject=uuid4()) | {"Idempotency-Key": "k1", "Prefer": "respond-async"}
    first, again = [
        await client.post("/api/v1/orders", json=body() | {"discount_codes": ["ONCE"]}, headers=headers) for _ in range(2)
    ]
    assert (first.status_code, again.status_code, again.json()) == (202, 202, first.json())
    assert await used(database, "ONCE") == 1
