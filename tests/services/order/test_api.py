"""The order API: who may do what, what errors look like, pages; placing and asking while nobody works on the sagas."""

import asyncio
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import select, text
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.identity import Role
from contracts.ids import order_id_for, order_workflow_id
from contracts.money import Money
from contracts.orders import AdvanceOrder, CancelReply, CancelRequest, OrderState, OrderStatus, Outcome, PlaceOrder, TimelineEntry
from services.order import commands
from services.order.commands import OrderService
from services.order.model import outbox
from tests.conftest import TokenMint, changing, eventually
from tests.services.order.conftest import SHIP_TO, Catalogue, S, new_order, stored
from tests.services.order.scripted import Script

TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)


def body(**quantities: int) -> dict[str, Any]:
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in (quantities or {"milk": 2}).items()]
    return {"lines": lines, "ship_to": SHIP_TO.model_dump(), "payment_token": "pm_card_visa"}


async def place(
    client: httpx2.AsyncClient, headers: dict[str, str], key: str = "k1", prefer: str = "respond-async", **quantities: int
) -> httpx2.Response:
    headers = headers | {"Idempotency-Key": key} | ({"Prefer": prefer} if prefer else {})
    return await client.post("/api/v1/orders", json=body(**quantities), headers=headers)


# Placing


async def test_a_bad_order_is_told_all_that_is_wrong(client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)
    response = await client.post("/api/v1/orders", json=body(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_missing")

    async def wrong(**change: object) -> list[str]:
        keyed = headers | {"Idempotency-Key": str(uuid4())}
        response = await client.post("/api/v1/orders", json=body() | change, headers=keyed)
        assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
        assert "94105" not in response.text
        return [error["field"] for error in response.json()["errors"]]

    milk = {"product_id": "milk", "quantity": 1}
    assert await wrong(lines=[milk | {"price": "0.01"}]) == ["lines.0.price"]
    assert await wrong(lines=[]) == ["lines"]
    assert await wrong(lines=[milk, milk]) == ["body"]
    assert await wrong(lines=[milk | {"quantity": 0}]) == ["lines.0.quantity"]
    assert await wrong(ship_to=SHIP_TO.model_dump() | {"postal_code": "nope"}) == ["ship_to.postal_code"]
    assert await wrong(return_url="https://evil.example/") == ["return_url"]
    assert await wrong(return_url="javascript:alert(1)") == ["return_url"]
    assert catalogue.lookups == []
    unknown = await place(client, headers, milk=1, gold=1)
    assert (unknown.status_code, unknown.json()["code"], unknown.json()["products"]) == (422, "product_unknown", ["gold"])
    assert catalogue.lookups == [["milk", "gold"]]


async def test_strangers_and_machines_place_no_orders(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    assert (await place(client, {})).status_code == 401
    assert (await place(client, mint.headers(Role.SERVICE))).status_code == 403


async def test_an_order_is_accepted_while_nobody_works_on_it(
    client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client
) -> None:
    customer = uuid4()
    response = await place(client, mint.headers(Role.CUSTOMER, subject=customer), prefer="", milk=2, bread=1)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers
    order = response.json()
    order_id = order_id_for(customer, "k1")
    assert (order["order_id"], order["status"], order["customer_id"]) == (str(order_id), "PENDING", str(customer))
    assert (order["total"], len(order["lines"])) == ({"amount": "12.33", "currency": "USD"}, 2)
    sums = {name: order["charges"][name]["amount"] for name in ("items", "discount", "shipping", "tax")}
    assert sums == {"items": "5.25", "discount": "0.00", "shipping": "6.70", "tax": "0.38"}
    assert [line["amounts"]["shipping"] for line in order["lines"]] == [447, 223]
    assert response.headers["location"] == f"/api/v1/orders/{order_id}"
    # The saga exists, with everything it needs.
    handle = temporal_client.get_workflow_handle(order_workflow_id(order_id))
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    [sent] = await temporal_client.data_converter.decode(started.input.payloads, [PlaceOrder])
    assert (sent.customer_id, str(sent.total), sent.payment_token) == (customer, "12.33 USD", "pm_card_visa")
    assert (sent.needs_review, sent.review_seconds) == (False, 86_400)


async def test_who_does_not_want_to_wait_finds_the_order_afterwards(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    response = await place(client, headers)
    assert (response.status_code, response.headers["preference-applied"]) == (202, "respond-async")
    assert (await client.get(response.headers["location"], headers=headers)).json() == response.json()


async def test_s9_a_repeated_request_never_needs_the_catalogue(
    client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint
) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    first = await place(client, headers, prefer="")

    async def repeat() -> None:
        again = await place(client, headers, prefer="")
        assert (again.status_code, again.json()) == (202, first.json())
        other = await place(client, headers, prefer="", milk=3)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    await repeat()
    catalogue.put("milk", "9.99")
    await repeat()
    catalogue.away = True
    await repeat()
    catalogue.away = False
    catalogue.products.clear()
    await repeat()
    # Another customer's key is another key.
    stranger = await place(client, mint.headers(Role.CUSTOMER), prefer="")
    assert (stranger.status_code, stranger.json()["code"]) == (422, "product_unknown")


async def test_five_at_once_are_one_order(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client
) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    responses = await asyncio.gather(*[place(client, headers, prefer="") for _ in range(5)])
    assert {response.status_code for response in responses} == {202}
    [order_id] = {response.json()["order_id"] for response in responses}
    history = await temporal_client.get_workflow_handle(f"order-{order_id}").fetch_history()
    assert len([event for event in history.events if event.HasField("workflow_execution_started_event_attributes")]) == 1
    async with database.reading() as session:
        assert len((await session.execute(select(outbox.table.c.event_id))).all()) == 1


async def test_a_held_order_says_so_to_its_saga(
    client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint, temporal_client: Client
) -> None:
    catalogue.put("tv", "250.00")
    response = await place(client, mint.headers(Role.CUSTOMER), prefer="", tv=1)
    handle = temporal_client.get_workflow_handle(f"order-{response.json()['order_id']}")
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    [sent] = await temporal_client.data_converter.decode(started.input.payloads, [PlaceOrder])
    assert sent.needs_review


# What was accepted


async def script(temporal_client: Client, order_id: str, **answers: Any) -> None:
    """Let the order's saga answer this from now on, as soon as there is one."""
    handle = temporal_client.get_workflow_handle(f"order-{order_id}")

    async def told() -> bool:
        try:
            await handle.signal("script", Script.model_validate(answers))
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    await eventually(told)


async def asked(temporal_client: Client, order_id: str) -> list[str]:
    found: list[str] = await temporal_client.get_workflow_handle(f"order-{order_id}").query("asked")
    return found


def without_trace(response: httpx2.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    body.pop("trace_id", None)
    return body


REFUSED = {"code": "out_of_stock", "detail": "No milk.", "lines": [{"product_id": "milk", "requested": 2, "available": 1}]}


@pytest.mark.parametrize(
    ("told", "path", "status"),
    [
        ({"status": "CONFIRMED", "tracking_number": "T1", "warehouse_id": "w1", "at": "2026-11-26T12:00:00Z"}, TO_CONFIRMED, 201),
        ({"status": "CANCELLING", **REFUSED}, (S.CANCELLING,), 409),
        ({"status": "CANCELLING", "code": "payment_declined", "detail": "No.", "decline_code": "lost"}, (S.CANCELLING,), 422),
    ],
)
async def test_outcome_is_repeated_word_for_word(
    patient_client: httpx2.AsyncClient,
    database: Database,
    catalogue: Catalogue,
    mint: TokenMint,
    temporal_client: Client,
    told: dict[str, Any],
    path: tuple[OrderStatus, ...],
    status: int,
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    order_id = order_id_for(customer, "k1")
    outcome = Outcome.model_validate({"order_id": order_id, **told})
    placing = [asyncio.create_task(place(patient_client, headers, prefer="")) for _ in range(2)]
    await script(temporal_client, str(order_id), outcome=outcome)
    first, joined = await asyncio.gather(*placing)
    assert (first.status_code, joined.status_code) == (status, status)
    assert without_trace(joined) == without_trace(first)
    assert "idempotent-replayed" not in first.headers
    assert first.json()["order_id"] == str(order_id)
    # Whatever became of it since: sent from elsewhere, cancelled; products gone, catalogue away.
    facts = {"warehouse_id": "w2", "tracking_number": "T2", "code": "cancelled_by_request", "detail": "Never mind."}
    ended = (*path, S.CANCELLED) if S.CANCELLING in path else (*path, S.CANCELLING, S.CANCELLED)
    for words in (
        {"path": path, "outcome": outcome},
        {"path": ended, **facts, "refunded": Money.model_validate({"amount": "3"})},
    ):
        await commands.advance_order(database, AdvanceOrder.model_validate({"order_id": order_id, "after": 1, **words}))
    catalogue.away = True
    assert (await patient_client.get(f"/api/v1/orders/{order_id}", headers=headers)).json()["status"] == "CANCELLED"
    for prefer in ("", "respond-async"):
        again = await place(patient_client, headers, prefer=prefer)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (status, "true")
        assert without_trace(again) == without_trace(first)
        assert again.headers.get("location") == first.headers.get("location")


async def test_a_repeated_request_waits_for_what_the_saga_tells_the_record(
    client: httpx2.AsyncClient, patient_client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    """The payment token has gone with the saga's first word, so the record is all there is to ask."""
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    order_id = order_id_for(customer, "k1")
    assert (await place(client, headers)).status_code == 202
    await commands.advance_order(database, AdvanceOrder(order_id=order_id, after=1, path=(S.RESERVED,)))
    assert (await place(client, headers, prefer="")).json()["status"] == "RESERVED"
    again = asyncio.create_task(place(patient_client, headers, prefer=""))
    await commands.advance_order(
        database, AdvanceOrder(order_id=order_id, after=2, path=(S.IN_REVIEW,), detail="Held for review.")
    )
    held = await again
    assert (held.status_code, held.json()["status"], held.json()["detail"]) == (202, "IN_REVIEW", "Held for review.")
    confirmed = Outcome(order_id=order_id, status=S.CONFIRMED)
    await commands.advance_order(
        database, AdvanceOrder(order_id=order_id, after=3, path=(S.PAID, S.CONFIRMED), outcome=confirmed)
    )
    assert (await place(client, headers)).status_code == 201


async def test_s8_what_was_accepted_is_known_while_temporal_is_away(
    lonely_client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    for prefer, key in (("", "k1"), ("respond-async", "k2")):
        placed = await place(lonely_client, headers, key=key, prefer=prefer)
        assert placed.status_code == 202
        url = placed.headers["location"]
        assert (await lonely_client.get(url, headers=headers)).json() == placed.json()
        listed = (await lonely_client.get("/api/v1/orders", headers=headers)).json()["items"]
        assert listed[0]["order_id"] == placed.json()["order_id"]
        timeline = (await lonely_client.get(f"{url}/timeline", headers=headers)).json()
        assert (timeline["source"], [entry["what"] for entry in timeline["entries"]]) == ("history", ["Order received"])
        assert (await place(lonely_client, headers, key=key, prefer=prefer)).json() == placed.json()
        cancel = await lonely_client.post(f"{url}/cancel", json={"reason": "mistake"}, headers=headers)
        assert (cancel.status_code, cancel.headers["location"]) == (202, url)
        assert cancel.json() == {"order_id": placed.json()["order_id"], "status": "PENDING"}
    staff = await lonely_client.get(url, headers=mint.headers(Role.SUPPORT))
    assert (staff.status_code, staff.json()["waiting_for"]) == (200, None)
    assert (await lonely_client.get("/health/ready")).status_code == 200


async def let_all_be_due(database: Database) -> None:
    """The job need not wait."""
    async with changing(database) as work:
        await work.rows(text("update orders set hand_over_at = now()"))


async def test_s8_the_job_starts_what_was_accepted_and_passes_on_the_wish_to_cancel(
    lonely_client: httpx2.AsyncClient,
    patient_client: httpx2.AsyncClient,
    database: Database,
    mint: TokenMint,
    temporal_client: Client,
    orders: OrderService,
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    started, wished = [order_id_for(customer, key) for key in ("k1", "k2")]
    for key in ("k1", "k2"):
        assert (await place(lonely_client, headers, key=key)).status_code == 202
    cancel = await lonely_client.post(f"/api/v1/orders/{wished}/cancel", json={"reason": "mistake"}, headers=headers)
    assert cancel.status_code == 202
    await let_all_be_due(database)
    answering = asyncio.create_task(
        script(
            temporal_client,
            str(wished),
            reply=CancelReply(order_id=wished, status=S.CANCELLED, refunded=Money.zero(), detail="-"),
        )
    )
    await asyncio.gather(*[orders.hand_over() for _ in range(3)])
    await answering
    assert await asked(temporal_client, str(wished)) == ["cancel customer: mistake"]
    assert await asked(temporal_client, str(started)) == []
    for order_id in (started, wished):
        row = await commands.find_order(database, order_id)
        assert row
        assert (row.placement, row.cancel_wish, row.hand_over_at) == (None, None, None)


async def test_s8_what_cannot_be_handed_over_is_tried_again(
    lonely_client: httpx2.AsyncClient, database: Database, mint: TokenMint, lonely_orders: OrderService
) -> None:
    customer = uuid4()
    assert (await place(lonely_client, mint.headers(Role.CUSTOMER, subject=customer))).status_code == 202
    assert not await lonely_orders.hand_over()  # not yet due
    await let_all_be_due(database)
    with pytest.raises(Unavailable):
        await lonely_orders.hand_over()
    row = await commands.find_order(database, order_id_for(customer, "k1"))
    assert row
    assert row.to_start
    assert row.hand_over_at
    assert row.hand_over_at > utc_now()


async def test_s8_a_wish_to_cancel_outlives_a_lost_saga(database: Database, orders: OrderService) -> None:
    lost = await stored(database, S.RESERVED)
    over = await stored(database, S.RESERVED, S.CANCELLING, S.CANCELLED)
    for order in (lost, over):
        await commands.wish_to_cancel(database, order.order_id, CancelRequest(reason="mistake", requested_by="customer"))
    with pytest.raises(Unavailable):
        await orders.hand_over()
    kept, dropped = [await commands.find_order(database, order.order_id) for order in (lost, over)]
    assert kept
    assert kept.wish_to_cancel
    assert dropped
    assert not dropped.wish_to_cancel


async def test_a_new_order_needs_the_catalogue(client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint) -> None:
    catalogue.away = True
    response = await place(client, mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (503, "service_unavailable", "1")


# Reading


async def test_an_order_is_seen_by_its_customer_and_support_only(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    order = await stored(database, *TO_CONFIRMED, tracking_number="T1")
    url = f"/api/v1/orders/{order.order_id}"
    for headers in (mint.headers(Role.CUSTOMER, subject=order.customer_id), mint.headers(Role.SUPPORT)):
        found = (await client.get(url, headers=headers)).json()
        assert (found["order_id"], found["status"], found["tracking_number"]) == (str(order.order_id), "CONFIRMED", "T1")
        assert (found["total"], found["refunded"]) == (
            {"amount": "3.00", "currency": "USD"},
            {"amount": "0.00", "currency": "USD"},
        )
        assert "payment_token" not in found
    stranger = mint.headers(Role.CUSTOMER)
    for path in ("", "/timeline"):
        response = await client.get(url + path, headers=stranger)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert (await client.post(f"{url}/cancel", json={"reason": "x"}, headers=stranger)).status_code == 404
    assert (await client.get(url)).status_code == 401


async def test_lists_are_ones_own_newest_first_in_pages(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    customer = uuid4()
    mine = [await stored(database, order=new_order(customer), age_s=age) for age in (5, 1, 3)]
    theirs = await stored(database, S.RESERVED, S.IN_REVIEW, age_s=2)

    async def listed(headers: dict[str, str], **params: str) -> list[str]:
        seen, cursor = [], None
        while True:
            query = {"limit": "2", **params} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/api/v1/orders", params=query, headers=headers)).json()
            seen += [item["order_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if not cursor:
                return seen

    own, support = mint.headers(Role.CUSTOMER, subject=customer), mint.headers(Role.SUPPORT)
    newest_first = [str(mine[n].order_id) for n in (1, 2, 0)]
    assert await listed(own) == newest_first
    assert await listed(own, status="IN_REVIEW") == []
    assert await listed(support) == [newest_first[0], str(theirs.order_id), *newest_first[1:]]
    assert await listed(support, status="IN_REVIEW") == [str(theirs.order_id)]
    assert await listed(support, customer_id=str(customer), status="PENDING") == newest_first
    assert await listed(own, customer_id=str(theirs.customer_id)) == []


@pytest.mark.parametrize("cursor", ["nonsense", "WyIyMDI2LTAxLTAxIiwgIngiXQ", "WzEsIDJd", "NQ"])
async def test_a_forged_cursor_is_refused(client: httpx2.AsyncClient, mint: TokenMint, cursor: str) -> None:
    response = await client.get("/api/v1/orders", params={"cursor": cursor}, headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_the_record_tells_the_timeline_when_the_saga_does_not_answer(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    placed = await place(client, headers, prefer="")  # its saga exists, but no worker runs it
    order_id = placed.json()["order_id"]
    await commands.advance_order(database, AdvanceOrder(order_id=UUID(order_id), after=1, path=(S.RESERVED,)))
    timeline = (await client.get(f"/api/v1/orders/{order_id}/timeline", headers=headers)).json()
    assert timeline["source"] == "history"
    assert [entry["what"] for entry in timeline["entries"]] == ["Order received", "Goods reserved"]


# Cancelling and deciding


async def test_when_the_saga_has_ended_the_record_answers_a_cancellation(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    support = mint.headers(Role.SUPPORT)

    async def cancel(order: PlaceOrder, headers: dict[str, str]) -> httpx2.Response:
        return await client.post(f"/api/v1/orders/{order.order_id}/cancel", json={"reason": "mistake"}, headers=headers)

    cancelled = await stored(database, *TO_CONFIRMED, S.CANCELLING, S.CANCELLED, detail="By mistake.", refunded=new_order().total)
    reply = await cancel(cancelled, mint.headers(Role.CUSTOMER, subject=cancelled.customer_id))
    assert reply.json() == {
        "order_id": str(cancelled.order_id),
        "status": "CANCELLED",
        "refunded": {"amount": "3.00", "currency": "USD"},
        "detail": "By mistake.",
    }
    done = await stored(database, *TO_CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)
    late = await cancel(done, support)
    assert (late.status_code, late.json()["code"]) == (409, "already_dispatched")
    orphan = await stored(database, *TO_CONFIRMED)
    lost = await cancel(orphan, support)
    assert (lost.status_code, lost.json()["code"]) == (409, "conflict")
    assert (await cancel(orphan, mint.headers(Role.WAREHOUSE))).json()["code"] == "forbidden"


async def test_s12_a_cancel_that_is_being_settled_says_so(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client, worker: None
) -> None:
    order_id, customer = await at_work(client, mint, temporal_client)
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    url = f"/api/v1/orders/{order_id}"

    async def cancel(reason: str = "mistake") -> httpx2.Response:
        return await client.post(f"{url}/cancel", json={"reason": reason}, headers=headers)

    async def settled() -> bool:
        response = await cancel()
        return response.status_code == 200 and response.json() == reply.model_dump(mode="json")

    pending = await cancel()
    assert (pending.status_code, pending.headers["location"]) == (202, url)
    assert pending.json() == {"order_id": order_id, "status": "PENDING"}
    reply = CancelReply(order_id=UUID(order_id), status=S.CANCELLED, refunded=new_order().total, detail="By mistake.")
    await script(temporal_client, order_id, reply=reply)
    await eventually(settled)
    # The same wish is told its saga once, however often it is repeated.
    assert await asked(temporal_client, order_id) == ["cancel customer: mistake"]


async def test_some_units_are_cancelled_and_a_repeated_request_joins_the_first(
    patient_client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client, worker: None
) -> None:
    order_id, customer = await at_work(patient_client, mint, temporal_client)
    headers = mint.headers(Role.CUSTOMER, subject=customer)

    async def cancel(*lines: tuple[int, int], key: str | None = None) -> httpx2.Response:
        units = [{"line_id": line_id, "quantity": quantity} for line_id, quantity in lines]
        more = {"Idempotency-Key": key} if key else {}
        body = {"reason": "too many", "lines": units}
        return await patient_client.post(f"/api/v1/orders/{order_id}/cancel", json=body, headers=headers | more)

    reply = CancelReply(order_id=UUID(order_id), status=S.CONFIRMED, refunded=Money.zero(), detail="Cancelled: 1 of Milk.")
    await script(temporal_client, order_id, reply=reply)
    for _ in range(2):
        response = await cancel((1, 1))
        assert (response.status_code, response.json()) == (200, reply.model_dump(mode="json"))
    for _ in range(2):
        assert (await cancel((1, 1), key="once-more")).status_code == 200
    assert (await cancel()).status_code == 422  # nothing is not everything
    for wrong, field in (((9, 1), "lines.0.line_id"), ((1, 1000), "lines.0.quantity"), ((1, 1001), "lines.0.quantity")):
        refused = await cancel(wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    twice = await cancel((1, 1), (1, 1000))
    assert [error["field"] for error in twice.json()["errors"]] == ["lines.1.quantity"]
    assert await asked(temporal_client, order_id) == ["cancel 1 of line 1, customer: too many"] * 2


async def test_a_wish_for_some_units_waits_while_temporal_is_away_and_is_passed_on_once(
    lonely_client: httpx2.AsyncClient,
    patient_client: httpx2.AsyncClient,
    database: Database,
    mint: TokenMint,
    temporal_client: Client,
    orders: OrderService,
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    order_id = order_id_for(customer, "k1")
    assert (await place(lonely_client, headers, key="k1")).status_code == 202

    async def wish(reason: str) -> httpx2.Response:
        body = {"reason": reason, "lines": [{"line_id": 1, "quantity": 1}]}
        return await lonely_client.post(f"/api/v1/orders/{order_id}/cancel", json=body, headers=headers)

    for _ in range(2):
        assert (await wish("too many")).status_code == 202
    another = await wish("still too many")
    assert (another.status_code, another.json()["code"]) == (503, "service_unavailable")
    await let_all_be_due(database)
    reply = CancelReply(order_id=order_id, status=S.CONFIRMED, refunded=Money.zero(), detail="-")
    answering = asyncio.create_task(script(temporal_client, str(order_id), reply=reply))
    await asyncio.gather(*[orders.hand_over() for _ in range(3)])
    await answering
    assert await asked(temporal_client, str(order_id)) == ["cancel 1 of line 1, customer: too many"]
    row = await commands.find_order(database, order_id)
    assert row
    assert (row.cancel_wish, row.hand_over_at) == (None, None)


async def test_s12_a_cancel_that_comes_too_late_is_refused(
    client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client, worker: None
) -> None:
    order_id, customer = await at_work(client, mint, temporal_client, refusal="already_dispatched")

    async def refused() -> bool:
        headers = mint.headers(Role.CUSTOMER, subject=customer)
        late = await client.post(f"/api/v1/orders/{order_id}/cancel", json={"reason": "mistake"}, headers=headers)
        return (late.status_code, late.json().get("code")) == (409, "already_dispatched")

    await eventually(refused)


async def at_work(client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client, **answers: Any) -> tuple[str, UUID]:
    """An order whose saga is at work, and its customer."""
    customer = uuid4()
    order_id = (await place(client, mint.headers(Role.CUSTOMER, subject=customer))).json()["order_id"]
    await script(temporal_client, order_id, **answers)
    return order_id, customer


def state(order_id: str, status: OrderStatus, **more: Any) -> OrderState:
    return OrderState.model_validate({"order_id": order_id, "status": status, "waiting_for": "the next step", **more})


async def test_s7_a_decision_has_a_definite_answer(
    patient_client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client
) -> None:
    order_id, customer = await at_work(patient_client, mint, temporal_client)
    url, reason = f"/api/v1/orders/{order_id}", {"reason": "known customer"}
    operator = uuid4()
    support = mint.headers(Role.SUPPORT, subject=operator)
    for role in (Role.CUSTOMER, Role.WAREHOUSE, Role.SERVICE):
        for decision in ("approve", "reject", "parcel-decision"):
            headers = mint.headers(role, subject=customer)
            assert (await patient_client.post(f"{url}/{decision}", json=reason, headers=headers)).status_code == 403
    await script(temporal_client, order_id, state=state(order_id, S.IN_REVIEW))
    for decision in ("approve", "reject"):
        decided = await patient_client.post(f"{url}/{decision}", json=reason, headers=support)
        assert (decided.status_code, decided.json()["status"]) == (200, "IN_REVIEW")
    await script(temporal_client, order_id, refusal="not_in_review")
    late = await patient_client.post(f"{url}/approve", json=reason, headers=support)
    assert (late.status_code, late.json()["code"]) == (409, "not_in_review")
    told = [f"approve {operator}: known customer", f"reject {operator}: known customer"]
    assert await asked(temporal_client, order_id) == told


async def test_s7_what_is_done_about_a_parcel_has_a_definite_answer(
    patient_client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client
) -> None:
    order_id, _ = await at_work(patient_client, mint, temporal_client)
    operator = uuid4()
    url, support = f"/api/v1/orders/{order_id}/parcel-decision", mint.headers(Role.SUPPORT, subject=operator)
    resend = {"choice": "resend", "reason": "still wanted"}
    await script(temporal_client, order_id, state=state(order_id, S.CONFIRMED))
    decided = await patient_client.post(url, json=resend, headers=support)
    assert (decided.status_code, decided.json()["status"]) == (200, "CONFIRMED")
    for code in ("no_decision_pending", "choice_not_possible"):
        await script(temporal_client, order_id, refusal=code)
        refused = await patient_client.post(url, json=resend, headers=support)
        assert (refused.status_code, refused.json()["code"]) == (409, code)
    wrong = await patient_client.post(url, json={"choice": "burn", "reason": "x"}, headers=support)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    assert await asked(temporal_client, order_id) == [f"resend {operator}: still wanted"]


async def test_s7_nothing_is_decided_where_no_saga_runs(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    forgotten = await stored(database, S.RESERVED, S.IN_REVIEW)
    url, support = f"/api/v1/orders/{forgotten.order_id}", mint.headers(Role.SUPPORT)
    gone = await client.post(f"{url}/approve", json={"reason": "x"}, headers=support)
    assert (gone.status_code, gone.json()["code"]) == (409, "not_in_review")
    gone = await client.post(f"{url}/parcel-decision", json={"choice": "wait", "reason": "x"}, headers=support)
    assert (gone.status_code, gone.json()["code"]) == (409, "no_decision_pending")


async def test_g7_staff_do_not_decide_about_their_own_orders(
    patient_client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client
) -> None:
    order_id, clerk = await at_work(patient_client, mint, temporal_client)
    await script(temporal_client, order_id, state=state(order_id, S.IN_REVIEW))
    url, body = f"/api/v1/orders/{order_id}", {"reason": "it is fine"}
    for role, decision in product((Role.SUPPORT, Role.ADMIN), ("approve", "reject", "parcel-decision")):
        sent = body | ({"choice": "refund"} if decision == "parcel-decision" else {})
        own = await patient_client.post(f"{url}/{decision}", json=sent, headers=mint.headers(role, subject=clerk))
        assert (own.status_code, own.json()["code"]) == (403, "own_order")
    assert await asked(temporal_client, order_id) == []
    colleague = await patient_client.post(f"{url}/approve", json=body, headers=mint.headers(Role.SUPPORT))
    assert colleague.status_code == 200


# Only what was seen is changed


async def test_an_order_has_a_version_that_rises(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    placed = await place(client, headers)
    assert (placed.headers["etag"], placed.json()["version"]) == ('"1"', 1)
    url, order_id = placed.headers["location"], UUID(placed.json()["order_id"])
    seen = await client.get(url, headers=headers)
    assert (seen.headers["etag"], seen.json()) == ('"1"', placed.json())
    for _ in range(2):  # the second time it changes nothing
        await commands.advance_order(database, AdvanceOrder(order_id=order_id, after=1, path=(S.RESERVED,)))
        for who in (headers, mint.headers(Role.SUPPORT)):
            seen = await client.get(url, headers=who)
            assert (seen.headers["etag"], seen.json()["version"]) == ('"2"', 2)


async def test_an_order_that_changed_meanwhile_is_not_changed(
    patient_client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client
) -> None:
    order_id, customer = await at_work(patient_client, mint, temporal_client)
    await script(temporal_client, order_id, state=state(order_id, S.IN_REVIEW))
    own, support = mint.headers(Role.CUSTOMER, subject=customer), mint.headers(Role.SUPPORT)
    url = f"/api/v1/orders/{order_id}"

    async def send(action: str, headers: dict[str, str], version: str | None) -> httpx2.Response:
        sent = {"reason": "seen"} | ({"choice": "wait"} if action == "parcel-decision" else {})
        match = {"If-Match": version} if version else {}
        return await patient_client.post(f"{url}/{action}", json=sent, headers=headers | match)

    old = (await patient_client.get(url, headers=own)).headers["etag"]
    words = {"path": (S.RESERVED, S.IN_REVIEW), "for_staff": "stolen card", "review_reason": "stolen card"}
    await commands.advance_order(database, AdvanceOrder.model_validate({"order_id": order_id, "after": 1, **words}))
    for action, headers in product(("cancel", "approve", "reject", "parcel-decision"), (own, support)):
        if headers is own and action != "cancel":
            continue
        stale = await send(action, headers, old)
        assert (stale.status_code, stale.json()["code"], stale.json()["current_version"]) == (412, "stale_version", 2)
        current = stale.json()["current"]
        assert (current["status"], current["version"]) == ("IN_REVIEW", 2)
        assert ("stolen" in stale.text) is (headers is support)
        shown = (await patient_client.get(url, headers=headers)).json()
        assert current == shown | {name: empty for name, empty in NOT_ASKED.items() if name in shown}
    assert await asked(temporal_client, order_id) == []
    for wrong in ("2", "*", 'W/"2"'):
        assert (await send("cancel", own, wrong)).status_code == 422
    for action in ("approve", "reject", "parcel-decision"):
        done = await send(action, support, '"2"')
        assert (done.status_code, done.headers["etag"]) == (200, '"2"')
    # The saga has the last word: what it refuses stays refused for who has seen all that the record knows.
    await script(temporal_client, order_id, refusal="not_in_review")
    late = await send("approve", support, '"2"')
    assert (late.status_code, late.json()["code"]) == (409, "not_in_review")
    assert len(await asked(temporal_client, order_id)) == 3


async def test_a_stranger_is_not_told_what_changed(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    order = await stored(database, S.RESERVED)
    url = f"/api/v1/orders/{order.order_id}/cancel"
    stale = await client.post(url, json={"reason": "x"}, headers=mint.headers(Role.CUSTOMER) | {"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (404, "not_found")
    own = mint.headers(Role.SUPPORT, subject=order.customer_id) | {"If-Match": '"1"'}
    refused = await client.post(f"/api/v1/orders/{order.order_id}/approve", json={"reason": "x"}, headers=own)
    assert (refused.status_code, refused.json()["code"]) == (403, "own_order")


async def test_a_repeated_cancel_is_told_how_far_it_got_whatever_was_seen(
    client: httpx2.AsyncClient, lonely_client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    """RFC 9110, 13.1.1: a change that was made already may be answered as such."""
    order = await stored(database, *TO_CONFIRMED, S.CANCELLING, S.CANCELLED, detail="By mistake.", refunded=new_order().total)
    seen = mint.headers(Role.CUSTOMER, subject=order.customer_id) | {"If-Match": '"1"'}
    done = await client.post(f"/api/v1/orders/{order.order_id}/cancel", json={"reason": "x"}, headers=seen)
    assert (done.status_code, done.json()["status"], done.headers["etag"]) == (200, "CANCELLED", '"2"')
    # One that could not be passed on yet is known to the record only.
    customer = mint.headers(Role.CUSTOMER, subject=uuid4())
    url = (await place(lonely_client, customer)).headers["location"]
    for _ in range(2):
        wish = await lonely_client.post(f"{url}/cancel", json={"reason": "x"}, headers=customer | {"If-Match": '"1"'})
        assert (wish.status_code, wish.headers["etag"]) == (202, '"2"')


async def test_the_documentation_tells_of_versions(client: httpx2.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    for action in ("cancel", "approve", "reject", "parcel-decision"):
        operation = described["paths"][f"/api/v1/orders/{{order_id}}/{action}"]["post"]
        [shown] = operation["responses"]["412"]["content"].values()
        assert shown["schema"]["$ref"].endswith("/StaleOrder")
        assert "If-Match" in [parameter["name"] for parameter in operation["parameters"]]
        assert "last" in operation["description"]


# Who sees what

NOT_ASKED: dict[str, object] = {"waiting_for": None, "choices": [], "stuck_undos": [], "given_up": []}
"""What a saga tells, in a view for which it was not asked."""
SECRET = "stolen card, says ann at http://payment:8003"
FOR_STAFF = {"review_reason", "for_staff", "trouble", "waiting_for", "choices", "stuck_undos"}


async def test_s11_customers_read_no_internals(
    patient_client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client
) -> None:
    order_id, customer = await at_work(patient_client, mint, temporal_client)
    entry = TimelineEntry(at=utc_now(), what="Not approved", status=S.IN_REVIEW, for_staff=SECRET)
    told = state(
        order_id, S.UNDELIVERED, waiting_for=SECRET, stuck_undos=[SECRET], detail=SECRET, trouble="lost", choices=["resend"]
    )
    await script(temporal_client, order_id, state=told, entries=[entry])
    words = {"path": (S.RESERVED, S.IN_REVIEW), "detail": "Held for review.", "for_staff": SECRET, "review_reason": SECRET}
    await commands.advance_order(database, AdvanceOrder.model_validate({"order_id": order_id, "after": 1, **words}))
    url = f"/api/v1/orders/{order_id}"
    for headers in (mint.headers(Role.CUSTOMER, subject=customer), mint.headers(Role.SUPPORT, subject=customer)):
        view = (await patient_client.get(url, headers=headers)).json()
        assert not FOR_STAFF & set(view)
        assert view["detail"] == "Held for review."
        timeline = (await patient_client.get(f"{url}/timeline", headers=headers)).json()
        assert timeline["source"] == "workflow"
        assert [set(item) for item in timeline["entries"]] == [{"at", "what", "status", "detail"}]
        for path in (url, f"{url}/timeline", "/api/v1/orders"):
            assert "stolen" not in (await patient_client.get(path, headers=headers)).text
    staff = (await patient_client.get(url, headers=mint.headers(Role.SUPPORT))).json()
    assert set(staff) > FOR_STAFF
    assert (staff["waiting_for"], staff["for_staff"], staff["review_reason"]) == (SECRET, SECRET, SECRET)
    assert (staff["choices"], staff["stuck_undos"]) == (["resend"], [SECRET])
    timeline = (await patient_client.get(f"{url}/timeline", headers=mint.headers(Role.SUPPORT))).json()
    assert timeline["entries"][0]["for_staff"] == SECRET


async def test_s11_nor_when_the_record_tells_them(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    order = await stored(database, *TO_CONFIRMED, S.SHIPPED, S.UNDELIVERED, trouble="lost", detail="Lost.", for_staff=SECRET)
    url = f"/api/v1/orders/{order.order_id}"
    own = mint.headers(Role.CUSTOMER, subject=order.customer_id)
    for path in (url, f"{url}/timeline"):
        assert "stolen" not in (await client.get(path, headers=own)).text
    staff = (await client.get(url, headers=mint.headers(Role.SUPPORT))).json()
    assert (staff["trouble"], staff["for_staff"], staff["waiting_for"]) == ("lost", SECRET, None)
    timeline = (await client.get(f"{url}/timeline", headers=mint.headers(Role.SUPPORT))).json()
    assert (timeline["source"], timeline["entries"][-1]["for_staff"]) == ("history", SECRET)


async def test_why_an_order_is_held_is_told_to_staff_and_not_to_its_customer(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    order = await stored(database, S.RESERVED, S.IN_REVIEW, review_reason="card: more than 20 orders within 24 hours")
    url = f"/api/v1/orders/{order.order_id}"
    told = {}
    for who, role, subject in (
        ("customer", Role.CUSTOMER, order.customer_id),
        ("support", Role.SUPPORT, uuid4()),
        ("support's own", Role.SUPPORT, order.customer_id),
    ):
        headers = mint.headers(role, subject=subject)
        told[who] = (await client.get(url, headers=headers)).json().get("review_reason")
        assert ("20 orders" in (await client.get(f"{url}/timeline", headers=headers)).text) is False
    assert told == {"customer": None, "support": "card: more than 20 orders within 24 hours", "support's own": None}
    path = (S.PAID, S.CONFIRMED)
    await commands.advance_order(database, AdvanceOrder(order_id=order.order_id, after=3, path=path))
    again = await client.get(url, headers=mint.headers(Role.ADMIN))
    assert again.json()["review_reason"] == "card: more than 20 orders within 24 hours"


# The saga's commands


async def test_only_the_platform_advances(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    order = new_order()
    advancing = {"order_id": str(order.order_id), "after": 1, "path": ["RESERVED"]}
    url = "/internal/v1/orders/advance"
    assert (await client.post(url, json=advancing, headers=mint.headers(Role.ADMIN))).status_code == 403
    saga = mint.headers(Role.SERVICE)
    unknown = await client.post(url, json=advancing, headers=saga)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "order_unknown")
    await stored(database, order=order)
    advanced = await client.post(url, json=advancing, headers=saga)
    assert advanced.json() == {"order_id": str(order.order_id), "status": "RESERVED", "outcome": None}
    wrong = await client.post(url, json=advancing | {"path": ["COMPLETED"]}, headers=saga)
    assert (wrong.status_code, wrong.json()["code"]) == (409, "illegal_transition")
