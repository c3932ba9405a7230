"""The order API: who may do what, what errors look like, pages; placing and asking while nobody works on the sagas."""

import asyncio
import hashlib
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from temporalio.client import Client

from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.ids import order_id_for, order_workflow_id
from contracts.orders import OpenOrder, OrderStatus, PlaceOrder
from services.order import commands
from temporal.names import ORDER_WORKFLOW, PLACED_BY
from tests.conftest import TokenMint
from tests.services.order.conftest import RUN, SHIP_TO, Catalogue, S, new_order, stored

TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)


def body(**quantities: int) -> dict[str, Any]:
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in (quantities or {"milk": 2}).items()]
    return {"lines": lines, "ship_to": SHIP_TO.model_dump(), "payment_token": "tok_visa"}


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
    assert (order["total"], len(order["lines"])) == ({"amount": "5.25", "currency": "USD"}, 2)
    assert response.headers["location"] == f"/api/v1/orders/{order_id}"
    # The saga exists, with everything it needs.
    handle = temporal_client.get_workflow_handle(order_workflow_id(order_id))
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    [sent] = await temporal_client.data_converter.decode(started.input.payloads, [PlaceOrder])
    assert (sent.customer_id, str(sent.total), sent.payment_token) == (customer, "5.25 USD", "tok_visa")
    assert (sent.needs_review, sent.review_seconds) == (False, 86_400)


async def test_who_does_not_want_to_wait_finds_the_order_afterwards(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    """The saga writes the order down a moment after it was placed."""
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    placing = asyncio.create_task(place(client, headers))
    order = new_order(customer, order_id=order_id_for(customer, "k1"))
    await asyncio.wait([placing], timeout=0.3)
    await commands.open_order(database, OpenOrder(order=order, workflow_run_id=RUN))
    response = await placing
    assert (response.status_code, response.headers["preference-applied"]) == (202, "respond-async")
    assert (await client.get(response.headers["location"], headers=headers)).json() == response.json()


async def test_the_same_key_with_another_body_is_refused(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    first, again, other = [await place(client, headers, prefer="", milk=n) for n in (1, 1, 2)]
    assert first.status_code == again.status_code == 202
    assert first.json()["order_id"] == again.json()["order_id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    # Another customer's key is another key.
    assert (await place(client, mint.headers(Role.CUSTOMER), prefer="", milk=2)).status_code == 202


async def test_five_at_once_are_one_order(client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    responses = await asyncio.gather(*[place(client, headers, prefer="") for _ in range(5)])
    assert {response.status_code for response in responses} == {202}
    [order_id] = {response.json()["order_id"] for response in responses}
    history = await temporal_client.get_workflow_handle(f"order-{order_id}").fetch_history()
    assert len([event for event in history.events if event.HasField("workflow_execution_started_event_attributes")]) == 1


async def test_a_request_that_finds_the_saga_before_its_update_joins_it(
    client: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client
) -> None:
    """Temporal knows the saga a moment before it knows the update that came with its start."""
    customer = uuid4()
    fingerprint = hashlib.sha256(client.build_request("POST", "/", json=body()).content).hexdigest()
    order = new_order(customer, order_id=order_id_for(customer, "k1"), fingerprint=fingerprint)
    await temporal_client.start_workflow(
        ORDER_WORKFLOW,
        order,
        id=order_workflow_id(order.order_id),
        task_queue="nobody-works-here",
        memo={PLACED_BY: f"place-{fingerprint}"},
    )
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    again = await place(client, headers, prefer="")
    assert (again.status_code, again.json().get("order_id")) == (202, str(order.order_id))
    other = await place(client, headers, prefer="", milk=7)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_held_order_says_so_to_its_saga(
    client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint, temporal_client: Client
) -> None:
    catalogue.put("tv", "250.00")
    response = await place(client, mint.headers(Role.CUSTOMER), prefer="", tv=1)
    handle = temporal_client.get_workflow_handle(f"order-{response.json()['order_id']}")
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    [sent] = await temporal_client.data_converter.decode(started.input.payloads, [PlaceOrder])
    assert sent.needs_review


async def placed_before(
    client: httpx2.AsyncClient, database: Database, customer: UUID, *path: OrderStatus, **facts: Any
) -> PlaceOrder:
    """An order that `place(client, …)` finds again: the fingerprint is that of the body as the client sends it."""
    fingerprint = hashlib.sha256(client.build_request("POST", "/", json=body()).content).hexdigest()
    order = new_order(customer, order_id=order_id_for(customer, "k1"), fingerprint=fingerprint)
    return await stored(database, *path, order=order, **facts)


async def test_a_repeated_request_gets_its_order_also_when_the_product_is_gone(
    client: httpx2.AsyncClient, database: Database, catalogue: Catalogue, mint: TokenMint
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    await placed_before(client, database, customer, *TO_CONFIRMED)
    catalogue.products.clear()
    again = await place(client, headers)
    assert (again.status_code, again.json()["status"]) == (201, "CONFIRMED")
    catalogue.away = True
    assert (await place(client, headers)).status_code == 201
    other = await place(client, headers, milk=3)
    assert (other.status_code, other.json()["code"]) == (503, "service_unavailable")
    assert (await place(client, headers, key="k2")).status_code == 503


async def test_while_temporal_is_away_known_orders_are_answered_and_new_ones_told_to_wait(
    lonely_client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    lost = {"code": ErrorCode.PAYMENT_DECLINED, "detail": "Declined."}
    order = await placed_before(lonely_client, database, customer, S.CANCELLING, S.CANCELLED, **lost)
    again = await place(lonely_client, headers)
    assert (again.status_code, again.json()["code"], again.json()["order_id"]) == (422, "payment_declined", str(order.order_id))
    new = await place(lonely_client, headers, key="k2")
    assert (new.status_code, new.json()["code"], new.headers["retry-after"]) == (503, "service_unavailable", "1")
    assert (await lonely_client.get(f"/api/v1/orders/{order.order_id}", headers=headers)).json()["status"] == "CANCELLED"
    timeline = (await lonely_client.get(f"/api/v1/orders/{order.order_id}/timeline", headers=headers)).json()
    assert (timeline["source"], timeline["entries"][-1]["detail"]) == ("history", "Declined.")
    cancel = await lonely_client.post(f"/api/v1/orders/{order.order_id}/cancel", json={"reason": "x"}, headers=headers)
    assert cancel.status_code == 503
    assert (await lonely_client.get("/health/ready")).status_code == 200


# Reading


async def test_an_order_is_seen_by_its_customer_and_staff_only(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    order = await stored(database, *TO_CONFIRMED, tracking_number="T1")
    url = f"/api/v1/orders/{order.order_id}"
    for headers in (mint.headers(Role.CUSTOMER, subject=order.customer_id), mint.headers(Role.WAREHOUSE)):
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
    peek = await client.get("/api/v1/orders", params={"customer_id": str(theirs.customer_id)}, headers=own)
    assert (peek.status_code, peek.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("cursor", ["nonsense", "WyIyMDI2LTAxLTAxIiwgIngiXQ", "WzEsIDJd", "NQ"])
async def test_a_forged_cursor_is_refused(client: httpx2.AsyncClient, mint: TokenMint, cursor: str) -> None:
    response = await client.get("/api/v1/orders", params={"cursor": cursor}, headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_the_record_tells_the_timeline_when_the_saga_does_not_answer(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    placed = await place(client, headers, prefer="")  # its saga exists, but no worker runs it
    order_id = placed.json()["order_id"]
    await stored(database, S.RESERVED, order=new_order(customer, order_id=UUID(order_id)))
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


async def test_only_operators_decide_and_only_about_held_orders(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client
) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    order_id = UUID((await place(client, headers, prefer="")).json()["order_id"])
    order = await stored(database, S.RESERVED, order=new_order(customer, order_id=order_id))
    url, reason = f"/api/v1/orders/{order_id}", {"reason": "known customer"}
    operator = uuid4()
    support = mint.headers(Role.SUPPORT, subject=operator)
    for role in (Role.CUSTOMER, Role.WAREHOUSE, Role.SERVICE):
        assert (await client.post(f"{url}/approve", json=reason, headers=mint.headers(role, subject=customer))).status_code == 403
    early = await client.post(f"{url}/approve", json=reason, headers=support)
    assert (early.status_code, early.json()["code"]) == (409, "not_in_review")
    await stored(database, S.RESERVED, S.IN_REVIEW, order=order)
    for decision in ("approve", "reject"):
        response = await client.post(f"{url}/{decision}", json=reason, headers=support)
        assert (response.status_code, response.json()) == (202, {"order_id": str(order_id), "status": "IN_REVIEW"})
    history = await temporal_client.get_workflow_handle(order_workflow_id(order_id)).fetch_history()
    signals = [
        event.workflow_execution_signaled_event_attributes
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert [signal.signal_name for signal in signals] == ["approve", "reject"]
    [decided] = await temporal_client.data_converter.decode(signals[0].input.payloads)
    assert decided == {"by": str(operator), "reason": "known customer"}
    forgotten = await stored(database, S.RESERVED, S.IN_REVIEW)
    gone = await client.post(f"/api/v1/orders/{forgotten.order_id}/approve", json=reason, headers=support)
    assert (gone.status_code, gone.json()["code"]) == (409, "not_in_review")


async def test_g7_staff_do_not_decide_about_their_own_orders(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, temporal_client: Client
) -> None:
    clerk = uuid4()
    order_id = UUID((await place(client, mint.headers(Role.CUSTOMER, subject=clerk), prefer="")).json()["order_id"])
    await stored(database, S.RESERVED, S.IN_REVIEW, order=new_order(clerk, order_id=order_id))
    url, reason = f"/api/v1/orders/{order_id}", {"reason": "it is fine"}
    for role, decision in product((Role.SUPPORT, Role.ADMIN), ("approve", "reject")):
        own = await client.post(f"{url}/{decision}", json=reason, headers=mint.headers(role, subject=clerk))
        assert (own.status_code, own.json()["code"]) == (403, "own_order")
    history = await temporal_client.get_workflow_handle(order_workflow_id(order_id)).fetch_history()
    assert not [event for event in history.events if event.HasField("workflow_execution_signaled_event_attributes")]
    colleague = await client.post(f"{url}/approve", json=reason, headers=mint.headers(Role.SUPPORT))
    assert colleague.status_code == 202


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
        told[who] = (await client.get(url, headers=headers)).json()["review_reason"]
        assert ("20 orders" in (await client.get(f"{url}/timeline", headers=headers)).text) is False
    assert told == {"customer": None, "support": "card: more than 20 orders within 24 hours", "support's own": None}
    await stored(database, S.RESERVED, S.IN_REVIEW, S.PAID, S.CONFIRMED, order=order)
    again = await client.get(url, headers=mint.headers(Role.ADMIN))
    assert again.json()["review_reason"] == "card: more than 20 orders within 24 hours"


# The saga's commands


async def test_only_the_platform_opens_and_advances(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    order = new_order()
    opening = OpenOrder(order=order, workflow_run_id=RUN).model_dump(mode="json")
    advancing = {"order_id": str(order.order_id), "path": ["RESERVED"]}
    for path, command in (("open", opening), ("advance", advancing)):
        response = await client.post(f"/internal/v1/orders/{path}", json=command, headers=mint.headers(Role.ADMIN))
        assert response.status_code == 403
    saga = mint.headers(Role.SERVICE)
    unknown = await client.post("/internal/v1/orders/advance", json=advancing, headers=saga)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "order_unknown")
    opened = await client.post("/internal/v1/orders/open", json=opening, headers=saga)
    assert opened.json() == {"order_id": str(order.order_id), "status": "PENDING"}
    advanced = await client.post("/internal/v1/orders/advance", json=advancing, headers=saga)
    assert advanced.json()["status"] == "RESERVED"
    wrong = await client.post("/internal/v1/orders/advance", json=advancing | {"path": ["COMPLETED"]}, headers=saga)
    assert (wrong.status_code, wrong.json()["code"]) == (409, "illegal_transition")
