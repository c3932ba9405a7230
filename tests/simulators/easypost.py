"""The carriers' simulator as its tests use it: an order's two calls, the world beside the API, and a shop that hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from aiohttp import web

from simulators._webhooks import WebhookTarget
from simulators.easypost.news import SIGNATURE, sign_with

SPEC = Path(__file__).parents[2] / "simulators" / "easypost" / "spec" / "exchanges.json"
KEY = "test-key"
SECRET = "sécret"
WAREHOUSE: dict[str, Any] = {
    "company": "The shop",
    "street1": "388 Townsend St",
    "street2": "Apt 20",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94107",
    "country": "US",
    "phone": "5555555555",
}
CUSTOMER: dict[str, Any] = {
    "name": "Elizabeth Swan",
    "street1": "179 N Harbor Dr",
    "city": "Redondo Beach",
    "state": "CA",
    "zip": "90277",
    "country": "US",
}
LISBON = {"name": "A. Customer", "street1": "1 Long Street", "city": "Lisbon", "zip": "1100-001", "country": "PT"}
PARCEL = {"length": 10, "width": 8, "height": 4, "weight": 15.4}
CUSTOMS = {
    "contents_type": "merchandise",
    "eel_pfc": "NOEEI 30.37(a)",
    "customs_certify": True,
    "customs_signer": "Steve Brule",
    "customs_items": [
        {
            "description": "Sweet shirts",
            "quantity": 2,
            "weight": 11,
            "value": 23.25,
            "hs_tariff_number": "654321",
            "origin_country": "US",
            "currency": "USD",
        }
    ],
}
Connect = Callable[[Any], httpx2.AsyncClient]


async def offer(http: httpx2.AsyncClient, reference: str | None = "order-1", **changes: Any) -> Any:
    """A new shipment with its rates."""
    wanted = {"from_address": WAREHOUSE, "to_address": CUSTOMER, "parcel": PARCEL, "reference": reference, **changes}
    answer = await http.post("/v2/shipments", json={"shipment": wanted})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def pay(http: httpx2.AsyncClient, shipment: Any, rate: int = -1) -> httpx2.Response:
    return await http.post(f"/v2/shipments/{shipment['id']}/buy", json={"rate": {"id": shipment["rates"][rate]["id"]}})


async def buy(http: httpx2.AsyncClient, reference: str | None = "order-1", rate: int = -1, **changes: Any) -> Any:
    """A label."""
    answer = await pay(http, await offer(http, reference, **changes), rate)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def seen(http: httpx2.AsyncClient, name: str) -> Any:
    return (await http.get(f"/v2/shipments/{name}")).json()


async def refund(http: httpx2.AsyncClient, name: str) -> httpx2.Response:
    return await http.post(f"/v2/shipments/{name}/refund", json={})


async def hand_over(http: httpx2.AsyncClient, *references: str) -> Any:
    return (await http.post("/_control/hand-over", json={"references": references})).json()


async def advance(http: httpx2.AsyncClient, to: str, **which: object) -> Any:
    return (await http.post("/_control/advance", json={"to": to, **which})).json()


async def switch(http: httpx2.AsyncClient, **faults: object) -> None:
    assert (await http.post("/_control/faults", json=faults)).status_code == 200


async def ledger(http: httpx2.AsyncClient) -> Any:
    return (await http.get("/_control/ledger")).json()


async def every(http: httpx2.AsyncClient, path: str) -> list[Any]:
    """All rows of one of our own lists."""
    cursor: str | None = "0"
    rows: list[Any] = []
    while cursor is not None:
        page = (await http.get(path, params={"limit": 7, "cursor": cursor})).json()
        rows += page["data"]
        cursor = page["next_cursor"]
    return rows


def refusal(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def drained(http: httpx2.AsyncClient) -> bool:
    """Whether all news has arrived."""
    return bool((await http.get("/_control/webhooks")).json()["pending"] == 0)


class Shop:
    """A webhook receiver on a real socket, that refuses news of a status as it is told to."""

    def __init__(self) -> None:
        self.refusals: dict[str, list[int]] = {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.accepted: list[dict[str, Any]] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        event = json.loads(body)
        if refusals := self.refusals.get(event["result"]["status"]):
            return web.Response(status=refusals.pop())
        self.accepted.append(event)
        return web.Response(status=204)

    def target(self) -> WebhookTarget:
        return WebhookTarget(url=self.url, sign=sign_with(SECRET), first_wait=0.01, longest_wait=0.02)

    def statuses(self, *of: str) -> list[str]:
        """Of what was told of parcels after their purchase, in the order of its arrival; `of` these references' trackers."""
        return [
            event["result"]["status"]
            for event in self.accepted
            if event["description"] == "tracker.updated" and (not of or event["result"]["tracking_code"] in of)
        ]


def header(request: tuple[dict[str, str], bytes]) -> str:
    return request[0][SIGNATURE]
