"""The codec server: what is encrypted in histories, in clear, for those who may read it."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.json_format import MessageToJson, Parse
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import WorkflowSerializationContext

from console.api import MAX_BODY
from contracts.identity import Role
from services.order.model import CustomerKey
from temporal.codec import ENCRYPTED, KEY, WORKFLOW, HistoryCodec
from temporal.keys import name_of
from tests.conftest import changing
from tests.console.conftest import Console, Shop

JSON = {"Content-Type": "application/json"}


def clear(words: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(words).encode())


async def encrypted(shop: Shop, words: str, customer_id: UUID) -> Payload:
    """As it stands in the history of one of this customer's orders."""
    workflow_id = f"order-{uuid4()}"
    codec = shop.codec()
    codec.belongs_to(workflow_id, customer_id)
    bound = codec.with_context(WorkflowSerializationContext("default", workflow_id))
    (payload,) = await bound.encode([clear(words)])
    assert payload.metadata["encoding"] == ENCRYPTED
    assert words.encode() not in payload.data
    return payload


async def answer(running: Console, what: str, payloads: Sequence[Payload], headers: dict[str, str] | None = None) -> Any:
    body = MessageToJson(Payloads(payloads=payloads))
    return await running.http.post(f"/codec/{what}", content=body, headers=JSON | (headers or {}))


async def decoded(running: Console, payloads: Sequence[Payload]) -> list[str]:
    told = await answer(running, "decode", payloads)
    assert told.status_code == 200, told.text
    assert told.headers["cache-control"] == "no-store"
    return [json.loads(payload.data) for payload in Parse(told.content, Payloads()).payloads]


async def test_staff_read_what_is_encrypted(running: Console, shop: Shop) -> None:
    customers = [uuid4() for _ in range(3)]
    payloads = [await encrypted(shop, f"1 Market Street {number}", customer) for number, customer in enumerate(customers)]
    for role in (Role.SUPPORT, Role.ADMIN):
        await running.log_in(role)
        told = await decoded(running, [*payloads, clear("was never encrypted"), payloads[0]])
        assert told == [
            "1 Market Street 0", "1 Market Street 1", "1 Market Street 2", "was never encrypted", "1 Market Street 0"
        ]  # fmt: skip
    assert await decoded(running, []) == []


async def test_nobody_else_does(running: Console, shop: Shop) -> None:
    payload = await encrypted(shop, "1 Market Street", uuid4())
    for what in ("decode", "encode"):
        assert (await answer(running, what, [payload])).status_code == 401
        assert (await answer(running, what, [payload], {"Authorization": "Bearer x"})).status_code == 401
        for role, status in ((Role.CUSTOMER, 403), (Role.WAREHOUSE, 403), (Role.SUPPORT, 200), (Role.ADMIN, 200)):
            token = await shop.token(role)
            told = await answer(running, what, [payload], {"Authorization": f"Bearer {token}"})
            assert told.status_code == status, (what, role)
            if status != 200:
                assert told.json()["code"] == "forbidden"


async def test_one_that_nobody_can_read_does_not_spoil_the_others(running: Console, shop: Shop) -> None:
    forgotten, known = uuid4(), uuid4()
    gone, kept = await encrypted(shop, "gone", forgotten), await encrypted(shop, "kept", known)
    async with changing(shop.orders) as work:
        key = await work.get(CustomerKey, forgotten)
        assert key
        key.destroy()
    changed, moved, of_nobody, nameless, cut = (Payload.FromString(kept.SerializeToString()) for _ in range(5))
    changed.data = bytes([*changed.data[:-1], changed.data[-1] ^ 1])
    moved.metadata[WORKFLOW] = b"order-of-another"
    of_nobody.metadata[KEY] = name_of(uuid4())
    nameless.metadata[KEY] = b"\xff"
    cut.data = b"x"
    bare = Payload(metadata={"encoding": ENCRYPTED})
    await running.log_in(Role.SUPPORT)
    told = await decoded(running, [gone, changed, moved, of_nobody, nameless, cut, bare, kept])
    assert told[-1] == "kept"
    assert told[0] == "(the customer was forgotten: nobody can read this any more)"
    assert all(words.startswith("(cannot be read: ") for words in told[1:-1]), told


async def test_what_the_command_line_sends_is_encrypted_under_the_shops_key(running: Console, shop: Shop) -> None:
    await running.log_in(Role.SUPPORT)
    told = await answer(running, "encode", [clear("still wanted")])
    (payload,) = Parse(told.content, Payloads()).payloads
    assert dict(payload.metadata) == {"encoding": ENCRYPTED, KEY: b"shop", WORKFLOW: b""}
    reader: HistoryCodec = shop.codec().with_context(WorkflowSerializationContext("default", f"order-{uuid4()}"))
    assert await reader.decode([payload]) == [clear("still wanted")]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"1", b'"x"', b"[1]", b"\xff", b'{"payloads": 3}', b'{"payloads": [3]}', b'{"payloads": [null]}',
        b'{"x": 1}', b"[" * 100_000, b'{"payloads": [{"metadata": {"encoding": 1}}]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_what_is_no_list_of_payloads_is_refused(running: Console, body: bytes, kind: str) -> None:
    await running.log_in(Role.SUPPORT)
    for what in ("decode", "encode"):
        told = await running.http.post(f"/codec/{what}", content=body, headers={"Content-Type": kind})
        assert (told.status_code, told.json()["code"]) == (400, "malformed_request"), told.text
        assert told.headers["content-type"] == "application/problem+json"


async def test_a_body_has_a_bound(running: Console) -> None:
    await running.log_in(Role.SUPPORT)
    told = await running.http.post("/codec/decode", content=b" " * (MAX_BODY + 1), headers=JSON)
    assert (told.status_code, told.json()["code"]) == (413, "payload_too_large")


async def test_without_the_order_service_the_page_says_so_and_works_again_later(without_orders: Console, shop: Shop) -> None:
    await without_orders.log_in(Role.SUPPORT)
    told = await answer(without_orders, "decode", [await encrypted(shop, "1 Market Street", uuid4())])
    assert (told.status_code, told.json()["code"]) == (503, "service_unavailable")
    assert await decoded(without_orders, [clear("was never encrypted")]) == ["was never encrypted"]
