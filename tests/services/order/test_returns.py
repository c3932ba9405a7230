"""Returns: which units may come back, and their record on a real database, whatever is repeated, late or at once."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.access import Grant, Reach
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.ids import replacement_id_for
from contracts.money import Money
from contracts.orders import AdvanceOrder, LineRequest, OrderLine, PlaceOrder, Replaces
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus
from contracts.pricing import LineAmounts
from contracts.returns import (
    AdvanceReturn,
    Condition,
    PlaceReplacement,
    ReceivedLine,
    Resolution,
    ReturnedUnits,
    ReturnKind,
    ReturnLineRequest,
    ReturnReason,
    ReturnRequest,
    ReturnStatus,
    settlement_of,
    units_that_came,
)
from services.order import commands
from services.order.commands import ReturnService
from services.order.commands.returns import refuse_replacement, request_return, returns_of
from services.order.model import Order, Return
from services.order.model.returns import ReturnRules, WhyNot, planned, returnable_lines
from tests.conftest import changing
from tests.services.order.conftest import Catalogue, S, new_order, stored
from tests.services.order.test_record import events, record

R = ReturnStatus
NOW = utc_now()
RULES = ReturnRules()
DELIVERED = (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)


def money(minor: int) -> Money:
    return Money.from_minor(minor, "USD")


def placement(*lines: tuple[str, int, int], customer_id: UUID | None = None, credit: int = 0, **facts: Any) -> PlaceOrder:
    """Of lines of so many units at so many cents, of which so much was paid with credit."""
    made = tuple(
        OrderLine(
            line_id=n,
            product_id=product,
            name=product.title(),
            quantity=quantity,
            unit_price=money(cents),
            weight_grams=500,
            amounts=LineAmounts(items=cents * quantity, credit=credit if n == 1 else 0),
        )
        for n, (product, quantity, cents) in enumerate(lines or (("milk", 3, 150),), start=1)
    )
    total = money(sum(line.amounts.total for line in made if line.amounts))
    return new_order(customer_id).model_copy(update={"lines": made, "total": total, **facts})


async def delivered(database: Database, *lines: tuple[str, int, int], warehouse: str = "367", **facts: Any) -> PlaceOrder:
    """An order that was delivered in one parcel just now."""
    return await stored(database, *DELIVERED, order=placement(*lines, **facts), warehouse_id=warehouse)


def asking(quantity: int = 1, line_id: int = 1, **facts: Any) -> ReturnRequest:
    kind = facts.get("kind", ReturnKind.RETURN)
    reason = facts.pop("reason", ReturnReason.CHANGED_MIND if kind == ReturnKind.RETURN else ReturnReason.DAMAGED)
    lines = [ReturnLineRequest(line_id=line_id, quantity=quantity, reason=reason)]
    return ReturnRequest(lines=lines, **facts)


def customer(order: PlaceOrder) -> Grant:
    return Grant(Principal(order.customer_id, frozenset(), expires_at=0), frozenset({Reach.OWN}))


def new_key() -> IdempotencyKey:
    return IdempotencyKey("tests", str(uuid4()), "body")


async def asked(
    database: Database, order: PlaceOrder, quantity: int = 1, *, key: IdempotencyKey | None = None, **facts: Any
) -> int:
    """Ask for a return; its number."""
    request = asking(quantity, **facts)
    found, _ = await request_return(database, order.order_id, request, customer(order), key or new_key(), RULES, None)
    return found.number


async def tell(
    database: Database, order: PlaceOrder, number: int, *path: ReturnStatus, after: int | None = None, **facts: object
) -> ReturnStatus:
    """The next word of a return's saga; with `after`, one that may have been told before."""
    found = await row(database, order, number)
    command = {"order_id": order.order_id, "number": number, "path": path, "as_of": utc_now()} | facts
    command["after"] = len(found.history) if after is None else after
    return (await commands.advance_return(database, AdvanceReturn.model_validate(command))).status


async def row(database: Database, order: PlaceOrder, number: int) -> Return:
    found = await commands.find_return(database, order.order_id, number)
    assert found
    return found


def refusal_of(error: pytest.ExceptionInfo[Refusal]) -> tuple[str, list[tuple[str, str, str]]]:
    told = error.value.extra.get("errors", [])
    return error.value.code, [(each["field"], each["code"], each["detail"]) for each in told]


# ── Which units ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def parcel(
    number: int, first: int, quantity: int, *, days_ago: float, status: ParcelStatus = ParcelStatus.DELIVERED
) -> OrderParcel:
    at = NOW - timedelta(days=days_ago)
    lines = (ParcelLine(line_id=1, product_id="milk", quantity=quantity, first=first),)
    return OrderParcel(parcel=number, status=status, lines=lines, warehouse_id=f"w{number}", delivered_at=at)


def in_parcels(*parcels: OrderParcel, quantity: int = 6) -> Order:
    order = Order.placed(placement(("milk", quantity, 150)))
    order.parcels = [each.model_dump(mode="json") for each in parcels]
    return order


def test_units_of_the_parcel_that_came_first_are_returned_first() -> None:
    order = in_parcels(parcel(1, 0, 2, days_ago=1), parcel(2, 2, 2, days_ago=9), parcel(3, 4, 2, days_ago=5))
    run = planned(order, [], asking(5), RULES, NOW)
    assert [(line.parcel, line.first, line.quantity) for line in run.lines] == [(2, 2, 2), (3, 4, 2), (1, 0, 1)]
    assert (run.warehouse_id, run.number) == ("w2", 1)
    assert settlement_of(run).value == money(5 * 150)


def test_only_delivered_units_come_back_and_only_in_time() -> None:
    order = in_parcels(
        parcel(1, 0, 1, days_ago=31), parcel(2, 1, 2, days_ago=29), parcel(3, 3, 3, days_ago=0, status=ParcelStatus.SHIPPED)
    )
    [line] = returnable_lines(order, [], RULES, NOW)
    assert (line.returns.quantity, line.claims.quantity) == (2, 3)
    assert line.returns.until == NOW + timedelta(days=1)
    assert line.claims.until == NOW + timedelta(days=29)
    with pytest.raises(Refusal) as refused:
        planned(order, [], asking(3), RULES, NOW)
    assert refusal_of(refused) == ("not_returnable", [("lines.0.quantity", "too_many", "Returnable now: 2.")])
    claim = planned(order, [], asking(3, kind=ReturnKind.CLAIM), RULES, NOW)
    assert [(part.parcel, part.first, part.quantity) for part in claim.lines] == [(1, 0, 1), (2, 1, 2)]
    assert claim.terms.needs_approval


def test_what_came_in_too_many_parts_is_returned_in_two() -> None:
    """11 lines, of which each has a unit in each of 20 parcels: more parts than a saga is started with."""
    order = Order.placed(placement(*[(f"tea-{n}", 20, 150) for n in range(11)]))
    in_each = [
        OrderParcel(
            parcel=number,
            status=ParcelStatus.DELIVERED,
            lines=tuple(ParcelLine(line_id=n + 1, product_id=f"tea-{n}", quantity=1, first=number - 1) for n in range(11)),
            warehouse_id="w1",
            delivered_at=NOW,
        )
        for number in range(1, 21)
    ]
    order.parcels = [each.model_dump(mode="json") for each in in_each]
    lines = [ReturnLineRequest(line_id=n + 1, quantity=20, reason=ReturnReason.CHANGED_MIND) for n in range(11)]
    with pytest.raises(Refusal) as refused:
        planned(order, [], ReturnRequest(lines=lines), RULES, NOW)
    assert refused.value.code == ErrorCode.NOT_RETURNABLE
    assert len(planned(order, [], ReturnRequest(lines=lines[:10]), RULES, NOW).lines) == 200


def test_whoever_may_return_nothing_is_told_why() -> None:
    late = in_parcels(parcel(1, 0, 6, days_ago=400))
    assert returnable_lines(late, [], RULES, NOW)[0].returns.why_not == WhyNot.TOO_LATE
    on_its_way = in_parcels(parcel(1, 0, 6, days_ago=0, status=ParcelStatus.SHIPPED))
    assert returnable_lines(on_its_way, [], RULES, NOW)[0].claims.why_not == WhyNot.NOT_DELIVERED
    back = in_parcels(parcel(1, 0, 6, days_ago=1))
    all_of_it = Return.requested(planned(back, [], asking(6), RULES, NOW))
    assert returnable_lines(back, [all_of_it], RULES, NOW)[0].returns.why_not == WhyNot.RETURNED
    with pytest.raises(Refusal) as refused:
        planned(back, [all_of_it], asking(1), RULES, NOW)
    expected = ("lines.0.quantity", "returned", "Returnable now: 0; all of it is in other returns.")
    assert refusal_of(refused) == ("not_returnable", [expected])
    with pytest.raises(Refusal) as refused:
        planned(back, [], asking(1, line_id=7), RULES, NOW)
    assert refusal_of(refused)[1][0][:2] == ("lines.0.line_id", "unknown_line")


@pytest.mark.parametrize(
    ("status", "free"),
    [(R.REQUESTED, [4, 5]), (R.REJECTED, [0, 1, 2, 3, 4, 5]), (R.CANCELLED, [0, 1, 2, 3, 4, 5]), (R.COMPLETED, [1, 2, 3, 4, 5])],
)
def test_units_are_free_again_if_nothing_came_of_their_return(status: ReturnStatus, free: list[int]) -> None:
    order = in_parcels(parcel(1, 0, 6, days_ago=1))
    earlier = Return.requested(planned(order, [], asking(4), RULES, NOW))
    earlier.status = status
    came = units_that_came(earlier.return_lines, [ReceivedLine(line_id=1, quantity=1, condition=Condition.DAMAGED)])
    earlier.came = [units.model_dump(mode="json") for units in came]
    run = planned(order, [earlier], asking(len(free)), RULES, NOW)
    assert [n for line in run.lines for n in range(line.first, line.first + line.quantity)] == free
    assert run.number == 2


def test_what_came_for_an_earlier_return_is_not_exchanged_again() -> None:
    order = in_parcels(parcel(1, 0, 6, days_ago=1))
    first_order = uuid4()
    order.replaces = Replaces(order_id=first_order, number=1).model_dump(mode="json")
    wanted = [LineRequest(product_id="bread", quantity=1)]
    with pytest.raises(Refusal) as refused:
        planned(order, [], asking(resolution=Resolution.EXCHANGE, exchange_for=wanted), RULES, NOW)
    assert refusal_of(refused)[1][0][:2] == ("resolution", "is_replacement")
    assert planned(order, [], asking(), RULES, NOW).credit_order_id == first_order


def test_terms_are_by_what_it_is_worth() -> None:
    order = in_parcels(parcel(1, 0, 6, days_ago=1))
    rules = ReturnRules(approval_from=money(450), restocking_percent=10, label_cost=money(50))
    assert not planned(order, [], asking(2), rules, NOW).terms.needs_approval
    run = planned(order, [], asking(3), rules, NOW)
    assert run.terms.needs_approval
    settlement = settlement_of(run)
    assert (settlement.restocking, settlement.label, settlement.value) == (money(45), money(50), money(355))
    in_euro = ReturnRules(approval_from=Money.from_minor(10**6, "EUR"))
    assert planned(order, [], asking(1), in_euro, NOW).terms.needs_approval


# ── The record ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_return_is_asked_for_once_under_its_key(database: Database) -> None:
    order, key = await delivered(database), new_key()
    numbers = await asyncio.gather(*[asked(database, order, key=key) for _ in range(5)])
    assert numbers == [1] * 5
    told = [event for event in await events(database) if event["type"] == "ReturnRequested"]
    assert [event["data"]["number"] for event in told] == [1]
    assert told[0]["partitionkey"] == str(order.order_id)


async def test_two_at_once_never_get_the_same_unit(database: Database) -> None:
    order = await delivered(database, ("milk", 3, 150))
    asks = await asyncio.gather(*[asked(database, order, 2) for _ in range(5)], return_exceptions=True)
    assert sorted(str(each) for each in asks) == ["1", *4 * ["Not all of that can be returned."]]
    assert await asked(database, order, 1) == 2
    units = [n for each in await returns_of(database, order.order_id) for line in each.standing for n in
             range(line.first, line.first + line.quantity)]  # fmt: skip
    assert sorted(units) == [0, 1, 2]


async def test_an_order_delivered_in_one_parcel_is_returned_by_its_history(database: Database) -> None:
    order = await delivered(database)
    found = await record(database, order)
    [one] = found.order_parcels
    assert found.delivery_of(one) == datetime.fromisoformat(
        next(entry["at"] for entry in found.history if entry["status"] == "DELIVERED")
    )


async def test_its_saga_tells_each_status_once(database: Database) -> None:
    order = await delivered(database)
    number = await asked(database, order, 2)
    due = utc_now() + timedelta(days=21)
    assert await tell(database, order, number, R.APPROVED, due_at=due, tracking_number="T1") == R.APPROVED
    assert await tell(database, order, number, R.APPROVED, after=1, due_at=due) == R.APPROVED  # repeated
    when = utc_now()
    for _ in range(2):
        await tell(database, order, number, is_reminder=True, as_of=when)
    found = await row(database, order, number)
    assert (found.run, found.hand_over_at, found.tracking_number, found.due_at) == (None, None, "T1", due)
    line = found.return_lines[0].model_copy(update={"quantity": 1})
    came = (ReturnedUnits(line=line, condition=Condition.GOOD),)
    await tell(database, order, number, R.RECEIVED, came=came, warehouse_id="410")
    settlement = found.estimated.model_copy(update={"goods": money(150), "value": money(150)})
    for after in (3, 3):
        await tell(database, order, number, R.SETTLING, R.COMPLETED, after=after, settlement=settlement, refunded=money(150))
    told = {event["type"]: event["data"] for event in await events(database)}
    types = [event["type"] for event in await events(database)]
    assert types[-5:] == ["ReturnRequested", "ReturnApproved", "ReturnReminded", "ReturnReceived", "ReturnCompleted"]
    assert (told["ReturnApproved"]["tracking_number"], told["ReturnReceived"]["warehouse_id"]) == ("T1", "410")
    assert told["ReturnCompleted"]["refunded"] == {"amount": "1.50", "currency": "USD"}
    assert [line["quantity"] for line in told["ReturnCompleted"]["lines"]] == [1]
    after_all = await record(database, order)
    assert (after_all.refunded, after_all.refunded_without_returns) == (money(150), money(0))
    assert await asked(database, order, 2) == 2  # the one that did not come is free again


async def test_what_goes_back_counts_once_whoever_tells_it_how_often(database: Database) -> None:
    order = await delivered(database)
    number = await asked(database, order, 2)
    settlement = (await row(database, order, number)).estimated
    await tell(database, order, number, R.APPROVED)
    facts = {"settlement": settlement, "refunded": money(300), "as_of": utc_now()}
    words = [tell(database, order, number, R.RECEIVED, R.SETTLING, R.COMPLETED, after=2, **facts) for _ in range(6)]
    assert await asyncio.gather(*words) == [R.COMPLETED] * 6
    assert (await record(database, order)).refunded == money(300)
    # A late word of the order's own saga does not take that away.
    late = AdvanceOrder(order_id=order.order_id, after=7, path=(), refunded=money(50), as_of=utc_now())
    await commands.advance_order(database, late)
    assert (await record(database, order)).refunded == money(350)


async def test_credit_goes_back_from_the_order_that_was_replaced(database: Database) -> None:
    first = await delivered(database)
    replaces = Replaces(order_id=first.order_id, number=1)
    second = await delivered(database, ("milk", 2, 300), credit=200, replaces=replaces)
    number = await asked(database, second, 2)
    settlement = (await row(database, second, number)).estimated
    assert (settlement.of_credit, settlement.of_payment) == (money(200), money(400))
    await tell(database, second, number, R.APPROVED, R.RECEIVED, R.SETTLING, settlement=settlement, refunded=money(400))
    assert [(await record(database, each)).refunded.minor for each in (first, second)] == [0, 400]
    await tell(database, second, number, R.COMPLETED, settlement=settlement, refunded=money(600))
    assert [(await record(database, each)).refunded.minor for each in (first, second)] == [200, 400]


async def test_an_unknown_return_and_an_illegal_step_are_refused(database: Database) -> None:
    order = await delivered(database)
    command = AdvanceReturn(order_id=order.order_id, number=1, after=1, path=(R.APPROVED,), as_of=utc_now())
    with pytest.raises(Refusal) as refused:
        await commands.advance_return(database, command)
    assert refused.value.code == ErrorCode.ORDER_UNKNOWN
    number = await asked(database, order)
    for path, after in (((R.RECEIVED,), 1), ((R.APPROVED,), 3)):
        with pytest.raises(Refusal) as refused:
            await tell(database, order, number, *path, after=after)
        assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION


# ── The order that a return brings ───────────────────────────────────────────────────────────────────────────────────────────


def replacing(order: PlaceOrder, found: Return, credit: int, **facts: Any) -> PlaceReplacement:
    replacement_id = replacement_id_for(order.order_id, found.number)
    return PlaceReplacement(
        order_id=order.order_id, number=found.number, replacement_id=replacement_id, credit=money(credit), **facts
    )


async def test_what_is_sent_once_more_costs_nothing(database: Database, returns: ReturnService) -> None:
    order = await delivered(database, ("milk", 3, 150), ("bread", 1, 225))
    number = await asked(database, order, 2, kind=ReturnKind.CLAIM, resolution=Resolution.RESEND)
    found = await row(database, order, number)
    command = replacing(order, found, 300, units=found.return_lines)
    placed = await asyncio.gather(*[returns.replace(command) for _ in range(3)])
    assert {(each.total, each.credit) for each in placed} == {(money(0), money(300))}
    again = await commands.find_order(database, command.replacement_id)
    assert again
    assert (again.replaced, again.total) == (Replaces(order_id=order.order_id, number=1), money(0))
    assert [(line.product_id, line.quantity, line.amounts and line.amounts.credit) for line in again.order_lines] == [
        ("milk", 2, 300)
    ]
    assert again.ship_to == order.ship_to.model_dump(mode="json")
    assert [event["type"] for event in await events(database)].count("OrderCreated") == 2


async def test_an_exchange_is_paid_with_credit_and_the_card_pays_the_rest(
    database: Database, returns: ReturnService, catalogue: Catalogue
) -> None:
    catalogue.put("cheese", "60.00")
    order = await delivered(database)
    dearer = {"lines": (LineRequest(product_id="cheese", quantity=1),)}
    without_card = await row(database, order, await asked(database, order))
    with pytest.raises(Refusal) as refused:
        await returns.replace(replacing(order, without_card, 150, **dearer))
    assert refused.value.code == ErrorCode.CONFLICT
    found = await row(database, order, await asked(database, order))
    placed = await returns.replace(replacing(order, found, 150, **dearer, payment_token="pm_card_visa"))
    again = await commands.find_order(database, placed.replacement_id)
    assert again
    charges = again.order_charges
    assert charges
    assert placed.credit == charges.credit == money(150)
    assert again.total == placed.total == charges.items + charges.shipping + charges.tax - money(150)
    assert again.placement is None or again.placement["payment_token"] == "pm_card_visa"


async def test_what_costs_less_takes_less_credit(database: Database, returns: ReturnService) -> None:
    order = await delivered(database, ("milk", 1, 9000))
    number = await asked(database, order)
    command = replacing(order, await row(database, order, number), 9000, lines=(LineRequest(product_id="bread", quantity=1),))
    placed = await returns.replace(command)
    assert placed.total == money(0)
    assert 225 < placed.credit.minor < 9000


async def test_what_was_refused_once_is_never_sent(database: Database, returns: ReturnService, catalogue: Catalogue) -> None:
    """Its saga gives the money back then: an order that is placed after all would be a gift."""
    order = await delivered(database)
    command = replacing(
        order, await row(database, order, await asked(database, order)), 150, lines=(LineRequest(product_id="tea", quantity=1),)
    )
    codes = []
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await returns.replace(command)
        codes.append(refused.value.code)
        catalogue.put("tea", "1.00")  # it is on sale again
    assert codes == [ErrorCode.PRODUCT_UNKNOWN] * 2
    assert await commands.find_order(database, command.replacement_id) is None


@pytest.mark.parametrize("attempt", range(5))
async def test_an_order_and_its_refusal_at_once_have_one_answer(database: Database, returns: ReturnService, attempt: int) -> None:
    order = await delivered(database)
    command = replacing(
        order, await row(database, order, await asked(database, order)), 150, lines=(LineRequest(product_id="bread", quantity=1),)
    )
    gone = Refusal(ErrorCode.PRODUCT_UNKNOWN, "Not on sale: bread.")
    placed, told = await asyncio.gather(
        returns.replace(command.model_copy(update={"payment_token": "pm_card_visa"})),
        refuse_replacement(database, command, gone),
        return_exceptions=True,
    )
    kept = await commands.find_order(database, command.replacement_id)
    if isinstance(placed, Refusal):
        assert kept is None
        assert isinstance(told, Refusal)
        assert placed.code == told.code == gone.code
    else:
        assert kept is not None
        assert isinstance(told, Order)


async def test_nothing_is_sent_for_a_return_that_there_is_not(database: Database, returns: ReturnService) -> None:
    order = await delivered(database)
    command = PlaceReplacement(order_id=order.order_id, number=1, replacement_id=uuid4(), credit=money(1))
    with pytest.raises(Refusal) as refused:
        await returns.replace(command)
    assert refused.value.code == ErrorCode.ORDER_UNKNOWN


async def test_a_return_is_accepted_while_temporal_is_away_and_started_by_the_job(
    database: Database, returns: ReturnService
) -> None:
    order = await delivered(database)
    number = await asked(database, order)
    async with changing(database) as work:
        waiting = await work.get(Return, order.order_id, number)
        assert waiting
        assert waiting.to_start
        waiting.hand_over_at = utc_now()
    await returns.hand_over()
    found = await row(database, order, number)
    assert (found.to_start, found.hand_over_at) == (None, None)
    assert await returns.sagas.is_running(order.order_id, number)
