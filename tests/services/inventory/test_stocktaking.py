"""I7: a day in a warehouse over its API: who works there receives, counts, adjusts and transfers, and can prove all of it."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from contracts.identity import Role
from tests.conftest import TokenMint

Json = dict[str, Any]


class Worker:
    """Somebody with a token, who gives every write a key of its own."""

    def __init__(self, client: httpx2.AsyncClient, headers: Mapping[str, str]) -> None:
        self._client, self._headers = client, headers

    async def get(self, path: str, **params: Any) -> httpx2.Response:
        return await self._client.get(f"/api/v1{path}", params=params, headers=self._headers)

    async def post(self, path: str, body: Json, *, key: str | None = None) -> httpx2.Response:
        headers = {**self._headers, "Idempotency-Key": key or uuid4().hex}
        return await self._client.post(f"/api/v1{path}", json=body, headers=headers)

    async def put(self, path: str, *, seen: str | None = None, **params: str) -> httpx2.Response:
        headers = {**self._headers, **({"If-Match": seen} if seen else {})}
        return await self._client.put(f"/api/v1{path}", params=params, headers=headers)


@pytest.fixture
def admin(client: httpx2.AsyncClient, mint: TokenMint) -> Worker:
    return Worker(client, mint.headers(Role.ADMIN))


async def filled(admin: Worker, *warehouses: str, **levels: int) -> None:
    for warehouse in warehouses:
        await admin.put(f"/warehouses/{warehouse}", name=warehouse)
        lines = [{"product_id": product, "quantity": quantity} for product, quantity in levels.items()]
        body = {"warehouse_id": warehouse, "reference": "d1", "lines": lines}
        assert (await admin.post("/stock/receipts", body)).status_code == 201


async def test_i7_stocktaking(client: httpx2.AsyncClient, mint: TokenMint, admin: Worker) -> None:
    await filled(admin, "w1", "w2", milk=10, bread=10)
    subject = uuid4()
    worker = Worker(client, mint.headers(Role.WAREHOUSE, subject=subject, warehouses=["w1", "w2"]))
    reserve = {"order_id": str(uuid4()), "customer_id": str(uuid4()), "lines": [{"product_id": "milk", "quantity": 6}]}
    saga = mint.headers(Role.SERVICE)
    answer = await client.post("/internal/v1/reservations", json=reserve | {"warehouse_id": "w1"}, headers=saga)
    assert answer.status_code == 200

    # Two of the milk are broken.
    broken = {"warehouse_id": "w1", "reason": "dropped", "lines": [{"product_id": "milk", "change": -2}]}
    first = await worker.post("/stock/adjustments", broken, key="a1")
    again = await worker.post("/stock/adjustments", broken, key="a1")
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert [(level["on_hand"], level["reserved"], level["available"]) for level in first.json()] == [(8, 6, 2)]

    # The sheet was printed, then a customer bought; whoever counts by the sheet does not overwrite that.
    sheet = [(await worker.get(f"/stock/w1/{product}")) for product in ("milk", "bread")]
    assert [response.headers["etag"] for response in sheet] == [f'"{response.json()["version"]}"' for response in sheet]
    reserve |= {"order_id": str(uuid4()), "lines": [{"product_id": "milk", "quantity": 1}], "warehouse_id": "w1"}
    await client.post("/internal/v1/reservations", json=reserve, headers=saga)
    lines = [
        {"product_id": response.json()["product_id"], "counted": counted, "version": response.json()["version"]}
        for response, counted in zip(sheet, (7, 12), strict=True)
    ]
    count = {"warehouse_id": "w1", "reason": "inventory day", "reference": "sheet 7", "lines": lines}
    stale = await worker.post("/stock/counts", count)
    now = (await worker.get("/stock/w1/milk")).json()
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]) == (412, "stale_version", now)
    assert (now["on_hand"], now["reserved"]) == (8, 7)
    assert (await worker.get("/stock/w1/bread")).json()["on_hand"] == 10  # all lines or none
    lines[0]["version"] = now["version"]
    counted = await worker.post("/stock/counts", count)
    assert counted.status_code == 201
    assert [(level["product_id"], level["on_hand"], level["available"]) for level in counted.json()] == [
        ("milk", 7, 0),
        ("bread", 12, 12),
    ]

    # What is promised is not given away.
    milk = {"warehouse_id": "w1", "reason": "again", "lines": [{"product_id": "milk", "counted": 6}]}
    refused = await worker.post("/stock/counts", milk)
    assert (refused.status_code, refused.json()["code"]) == (409, "stock_promised")
    assert refused.json()["lines"] == [{"warehouse_id": "w1", "product_id": "milk", "on_hand": 7, "reserved": 7}]

    move = {"from_warehouse_id": "w1", "to_warehouse_id": "w2", "reason": "sold better there"}
    moved = await worker.post("/stock/transfers", move | {"lines": [{"product_id": "bread", "quantity": 5}]})
    assert moved.status_code == 201
    assert [(level["warehouse_id"], level["on_hand"]) for level in moved.json()] == [("w1", 7), ("w2", 15)]

    ledger = (await worker.get("/stock/movements", warehouse_id="w1")).json()["items"]
    assert [(line["kind"], line["product_id"], line["change"], line["reason"], line["reference"]) for line in ledger] == [
        ("TRANSFER", "bread", -5, "sold better there", None),
        ("COUNT", "bread", 2, "inventory day", "sheet 7"),
        ("COUNT", "milk", -1, "inventory day", "sheet 7"),
        ("ADJUSTMENT", "milk", -2, "dropped", None),
        ("RECEIPT", "bread", 10, None, "d1"),
        ("RECEIPT", "milk", 10, None, "d1"),
    ]
    assert {line["actor"] for line in ledger[:4]} == {str(subject)}
    assert ledger[0]["other_warehouse_id"] == "w2"
    mine = (await worker.get("/stock/movements", warehouse_id="w2", product_id="bread", kind="TRANSFER")).json()["items"]
    assert [(line["change"], line["other_warehouse_id"]) for line in mine] == [(5, "w1")]


async def test_i7_the_ledger_comes_in_pages_newest_first(admin: Worker) -> None:
    await filled(admin, "w1", milk=1, bread=2, figs=3)
    seen, cursor = [], None
    while True:
        page = (await admin.get("/stock/movements", limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [line["product_id"] for line in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == ["figs", "bread", "milk"]


async def test_i7_a_transfer_is_within_the_callers_warehouses(client: httpx2.AsyncClient, mint: TokenMint, admin: Worker) -> None:
    await filled(admin, "w1", "w2", milk=10)
    lines = [{"product_id": "milk", "quantity": 5}]
    for mine in ("w1", "w2"):
        worker = Worker(client, mint.headers(Role.WAREHOUSE, warehouses=[mine]))
        move = {"from_warehouse_id": "w1", "to_warehouse_id": "w2", "reason": "mine", "lines": lines}
        response = await worker.post("/stock/transfers", move)
        assert (response.status_code, response.json()["code"]) == (422, "warehouse_unknown")
        other = "w1" if mine == "w2" else "w2"
        assert (await worker.get("/stock/movements", warehouse_id=other)).json()["items"] == []
        assert (await worker.get(f"/stock/{other}/milk")).status_code == 404
        assert (await worker.get(f"/warehouses/{other}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("adjustments", {"warehouse_id": "w1", "reason": "r", "lines": [{"product_id": "milk", "change": 0}]}, "lines.0.change"),
        ("adjustments", {"warehouse_id": "w1", "reason": " ", "lines": [{"product_id": "milk", "change": 1}]}, "reason"),
        ("counts", {"warehouse_id": "w1", "reason": "r", "lines": [{"product_id": "milk", "counted": -1}]}, "lines.0.counted"),
        ("counts", {"warehouse_id": "w1", "reason": "r", "lines": [{"product_id": "milk", "counted": 1}] * 2}, "lines"),
        ("counts", {"warehouse_id": "w1", "reason": "r", "lines": []}, "lines"),
        (
            "transfers",
            {
                "from_warehouse_id": "w1",
                "to_warehouse_id": "w1",
                "reason": "r",
                "lines": [{"product_id": "milk", "quantity": 1}],
            },
            "body",
        ),
    ],
)
async def test_i7_what_makes_no_sense_is_told(admin: Worker, path: str, body: Json, field: str) -> None:
    await filled(admin, "w1", milk=10)
    response = await admin.post(f"/stock/{path}", body)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_warehouse_is_renamed_by_who_has_seen_its_name(admin: Worker) -> None:
    assert (await admin.put("/warehouses/w1", seen='"1"', name="One")).json()["code"] == "not_found"
    added = await admin.put("/warehouses/w1", name="One")
    assert (added.headers["etag"], added.json()["version"]) == ('"1"', 1)
    seen = (await admin.get("/warehouses/w1")).headers["etag"]
    renamed = await admin.put("/warehouses/w1", seen=seen, name="First")
    expected = {"warehouse_id": "w1", "name": "First", "place": None, "version": 2}
    assert (renamed.headers["etag"], renamed.json()) == ('"2"', expected)
    stale = await admin.put("/warehouses/w1", seen=seen, name="Number one")
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    assert (stale.json()["current"], stale.json()["current_version"]) == (renamed.json(), 2)
    assert (await admin.put("/warehouses/w1", name="Number one")).status_code == 200  # whatever it is now
