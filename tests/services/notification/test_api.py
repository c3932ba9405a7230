"""Notification's API: who may see what, templates and their versions, pages."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2

from chassis.database import Database
from contracts.events import AccountMailRequested
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.notification import commands
from tests.conftest import TokenMint, changing

TEMPLATE = "/api/v1/notification-templates/order_shipped"
TEXT = {"subject": "Sent!", "body": "Hello, {{ order_id }} left."}


async def queue(client: httpx2.AsyncClient, mint: TokenMint, customer_id: UUID) -> httpx2.Response:
    order_id = uuid4()
    body: dict[str, Any] = {"kind": "order_confirmed", "customer_id": str(customer_id), "order_id": str(order_id), "values": {}}
    return await client.post(
        "/internal/v1/notifications", json=body | {"key": f"{order_id}:order_confirmed"}, headers=mint.headers(Role.SERVICE)
    )


async def test_only_the_platform_may_queue(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    response = await client.post("/internal/v1/notifications", json={}, headers=mint.headers(Role.ADMIN))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert (await queue(client, mint, uuid4())).status_code == 200


async def test_customers_see_their_own_mails_and_staff_all(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    mine, other = uuid4(), uuid4()
    first = (await queue(client, mint, mine)).json()["notification_id"]
    second = (await queue(client, mint, other)).json()["notification_id"]

    async def seen(headers: dict[str, str], **query: str) -> list[str]:
        page = (await client.get("/api/v1/notifications", params=query, headers=headers)).json()
        return [item["notification_id"] for item in page["items"]]

    me, support = mint.headers(Role.CUSTOMER, subject=mine), mint.headers(Role.SUPPORT)
    assert (await client.get("/api/v1/notifications")).status_code == 401
    assert await seen(me) == [first]
    assert await seen(support) == [second, first]
    assert await seen(support, status="SENT") == []
    view = (await client.get(f"/api/v1/notifications/{first}", headers=me)).json()
    assert (view["status"], view["kind"], view["attempts"]) == ("PENDING", "order_confirmed", 0)
    assert await seen(me, order_id=view["order_id"]) == [first]
    theirs = await client.get(f"/api/v1/notifications/{second}", headers=me)
    assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found")
    assert (await client.get(f"/api/v1/notifications/{second}", headers=support)).status_code == 200
    assert (await client.get(f"/api/v1/notifications/{uuid4()}", headers=support)).status_code == 404


async def test_a_mail_of_which_nobody_may_know_whose_it_is_is_for_staff_alone(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    async with changing(database) as work:
        await commands.queue_account_mail(work, AccountMailRequested(request_id=uuid4(), kind=NotificationKind.PASSWORD_RESET))
    [seen] = (await client.get("/api/v1/notifications", headers=mint.headers(Role.SUPPORT))).json()["items"]
    assert (seen["customer_id"], seen["order_id"], seen["kind"]) == (None, None, "password_reset")
    path = f"/api/v1/notifications/{seen['notification_id']}"
    assert (await client.get(path, headers=mint.headers(Role.SUPPORT))).status_code == 200
    assert (await client.get(path, headers=mint.headers(Role.CUSTOMER))).status_code == 404


async def test_the_log_comes_in_pages_newest_first(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    customer_id = uuid4()
    queued = [(await queue(client, mint, customer_id)).json()["notification_id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/notifications", params=params, headers=mint.headers(Role.SUPPORT))).json()
        seen += [item["notification_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == queued[::-1]


async def test_templates_are_there_from_the_start_and_staff_read_them(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    page = (await client.get("/api/v1/notification-templates", headers=mint.headers(Role.SUPPORT))).json()
    mailed = sorted({item["kind"] for item in page["items"]})
    assert [item["kind"] for item in page["items"]] == mailed
    assert set(NotificationKind) - set(mailed) == {"phone_code", "customer_unreached", "product_withdrawn"}
    assert {item["kind"]: item["values"] for item in page["items"]}["order_shipped"] == ["order_id", "tracking_number"]
    page = (await client.get("/api/v1/notification-templates?limit=8", headers=mint.headers(Role.SUPPORT))).json()
    rest = await client.get(f"/api/v1/notification-templates?cursor={page['next_cursor']}", headers=mint.headers(Role.SUPPORT))
    assert [item["kind"] for item in rest.json()["items"]] == mailed[8:]
    assert (await client.get(TEMPLATE, headers=mint.headers(Role.CUSTOMER))).status_code == 403


async def test_the_texts_that_we_ship_are_valid(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    for item in (await client.get("/api/v1/notification-templates", headers=admin)).json()["items"]:
        text = {"subject": item["subject"], "body": item["body"]}
        path = f"/api/v1/notification-templates/{item['kind']}"
        assert (await client.put(path, json=text, headers=admin | {"If-Match": f'"{item["version"]}"'})).status_code == 200


async def test_an_admin_edits_what_he_has_seen_and_nothing_newer(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    etag = (await client.get(TEMPLATE, headers=admin)).headers["etag"]
    edited = await client.put(TEMPLATE, json=TEXT, headers=admin | {"If-Match": etag})
    assert edited.status_code == 200
    assert edited.json()["body"] == TEXT["body"]
    assert edited.headers["etag"] == (await client.get(TEMPLATE, headers=admin)).headers["etag"] != etag
    stale = await client.put(TEMPLATE, json={"subject": "Late", "body": "Late."}, headers=admin | {"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    now = (await client.get(TEMPLATE, headers=admin)).json()
    assert (stale.json()["current"], stale.json()["current_version"]) == (now, now["version"])
    assert now == edited.json()
    blind = await client.put(TEMPLATE, json=TEXT, headers=admin)
    assert (blind.status_code, blind.json()["errors"][0]["field"]) == (422, "If-Match")
    support = await client.put(TEMPLATE, json=TEXT, headers=mint.headers(Role.SUPPORT) | {"If-Match": etag})
    assert support.status_code == 403


async def test_of_two_admins_who_edit_at_once_one_is_shown_what_the_other_wrote(
    client: httpx2.AsyncClient, mint: TokenMint
) -> None:
    admin = mint.headers(Role.ADMIN)
    seen = admin | {"If-Match": (await client.get(TEMPLATE, headers=admin)).headers["etag"]}
    texts = [TEXT | {"subject": f"Sent by {name}"} for name in ("Ann", "Bob")]
    answers = await asyncio.gather(*[client.put(TEMPLATE, json=text, headers=seen) for text in texts])
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 412)
    assert lost.json()["current"] == won.json() == (await client.get(TEMPLATE, headers=admin)).json()


async def test_a_template_that_does_not_render_is_refused_and_changes_nothing(
    client: httpx2.AsyncClient, mint: TokenMint
) -> None:
    admin = mint.headers(Role.ADMIN)
    admin["If-Match"] = (await client.get(TEMPLATE, headers=admin)).headers["etag"]
    response = await client.put(TEMPLATE, json=TEXT | {"body": "Hello {{ nmae }}"}, headers=admin)
    assert (response.status_code, response.json()["code"], response.json()["part"]) == (422, "template_invalid", "body")
    assert "'nmae' is undefined" in response.json()["detail"]
    assert (await client.get(TEMPLATE, headers=admin)).headers["etag"] == admin["If-Match"]
    for customers_own in ("name", "reason"):
        response = await client.put(TEMPLATE, json=TEXT | {"body": f"Hello {{{{ {customers_own} }}}}"}, headers=admin)
        assert response.json()["code"] == "template_invalid"
    too_long = await client.put(TEMPLATE, json=TEXT | {"body": "x" * 20_001}, headers=admin)
    assert too_long.json()["code"] == "validation_failed"
