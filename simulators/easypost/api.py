"""The API itself: what is asked over HTTP, and what is answered."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simulators._ledger import transaction
from simulators._refusals import LostReply, Unavailable
from simulators.easypost.asked import (
    Buy,
    CreateAddress,
    CreateCustoms,
    CreateItem,
    CreateParcel,
    CreateShipment,
    CreateTracker,
    CreateWebhook,
    TrackerBatch,
    read,
)
from simulators.easypost.lists import listed
from simulators.easypost.news import CarrierFaults, Hooks, News
from simulators.easypost.objects import Objects
from simulators.easypost.refusals import Refusal, not_found, required
from simulators.easypost.shipments import FILES, Shipments, shown_refund
from simulators.easypost.trackers import Trackers
from simulators.easypost.wire import Object

BASE = "/v2"


class ApiRoute(Route):
    """Refuses what is no method of its path as everything else is refused."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            raise Refusal(405, "METHOD_NOT_ALLOWED", f"The method {scope['method']} is not supported for this resource.")
        await super().handle(scope, receive, send)


class Api:
    def __init__(
        self,
        ledger: sqlite3.Connection,
        objects: Objects,
        shipments: Shipments,
        trackers: Trackers,
        news: News,
        hooks: Hooks,
        faults: CarrierFaults,
    ) -> None:
        self._ledger, self._objects, self._shipments, self._trackers = ledger, objects, shipments, trackers
        self._news, self._hooks, self._faults = news, hooks, faults

    def routes(self) -> list[Route]:
        # `:path`, because a reference may hold a slash, sent as such or as %2F
        one = f"{BASE}/shipments/{{name:path}}"
        return [
            ApiRoute(f"{BASE}/shipments", self.create_shipment, methods=["POST"]),
            ApiRoute(f"{BASE}/shipments", self.list_shipments, methods=["GET"]),
            ApiRoute(f"{one}/buy", self.buy, methods=["POST"]),
            ApiRoute(f"{one}/refund", self.refund, methods=["POST"]),
            ApiRoute(f"{one}/rerate", self.rerate, methods=["POST"]),
            ApiRoute(f"{one}/label", self.convert_label, methods=["GET"]),
            Route(one, self.show_shipment, methods=["GET"]),
            ApiRoute(f"{BASE}/addresses", self.create_address, methods=["POST"]),
            ApiRoute(f"{BASE}/addresses", self.list_addresses, methods=["GET"]),
            ApiRoute(f"{BASE}/addresses/create_and_verify", self.create_and_verify, methods=["POST"]),
            ApiRoute(f"{BASE}/addresses/{{id}}/verify", self.verify_address, methods=["GET"]),
            ApiRoute(f"{BASE}/addresses/{{id}}", self.show_address, methods=["GET"]),
            ApiRoute(f"{BASE}/parcels", self.create_parcel, methods=["POST"]),
            ApiRoute(f"{BASE}/parcels/{{id}}", self.show_parcel, methods=["GET"]),
            ApiRoute(f"{BASE}/customs_infos", self.create_customs, methods=["POST"]),
            ApiRoute(f"{BASE}/customs_infos/{{id}}", self.show_customs, methods=["GET"]),
            ApiRoute(f"{BASE}/customs_items", self.create_item, methods=["POST"]),
            ApiRoute(f"{BASE}/customs_items/{{id}}", self.show_item, methods=["GET"]),
            ApiRoute(f"{BASE}/trackers", self.create_tracker, methods=["POST"]),
            ApiRoute(f"{BASE}/trackers", self.list_trackers, methods=["GET"]),
            ApiRoute(f"{BASE}/trackers/batch", self.track_many, methods=["POST"]),
            ApiRoute(f"{BASE}/trackers/{{id}}", self.show_tracker, methods=["GET"]),
            ApiRoute(f"{BASE}/refunds", self.list_refunds, methods=["GET"]),
            ApiRoute(f"{BASE}/refunds/{{id}}", self.show_refund, methods=["GET"]),
            ApiRoute(f"{BASE}/events", self.list_events, methods=["GET"]),
            ApiRoute(f"{BASE}/events/{{id}}", self.show_event, methods=["GET"]),
            ApiRoute(f"{BASE}/events/{{id}}/payloads/{{payload}}", self.show_payload, methods=["GET"]),
            ApiRoute(f"{BASE}/webhooks", self.create_webhook, methods=["POST"]),
            ApiRoute(f"{BASE}/webhooks", self.list_webhooks, methods=["GET"]),
            ApiRoute(f"{BASE}/webhooks/{{id}}", self.show_webhook, methods=["GET"]),
            ApiRoute(f"{BASE}/webhooks/{{id}}", self.delete_webhook, methods=["DELETE"]),
            ApiRoute(f"{FILES}/{{day}}/{{file}}.{{ending}}", self.file, methods=["GET"]),
        ]

    # ── Shipments ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_shipment(self, request: Request) -> Response:
        asked = await read(request, CreateShipment)
        return created(self._shipments.create(asked.shipment), "shipments")

    async def list_shipments(self, request: Request) -> Response:
        bought = request.query_params.get("purchased", "true").casefold() != "false"
        where = "tracking_code IS NOT NULL" if bought else "TRUE"
        rows, more = listed(self._ledger, request, "shipments", where)
        return reply({"shipments": [seen(self._shipments.shown(row), request) for row in rows], "has_more": more})

    async def show_shipment(self, request: Request) -> Response:
        return reply(seen(self._shipments.get(request.path_params["name"]), request))

    async def rerate(self, request: Request) -> Response:
        shipment = self._shipments.rerate(request.path_params["name"])
        return reply({"rates": shipment["rates"]})

    async def buy(self, request: Request) -> Response:
        rate = (await read(request, Buy)).rate
        bought = self._shipments.buy(request.path_params["name"], rate.id)
        if bought.is_first and bought.town == "slowville":
            await asyncio.sleep(self._faults.slow_ms / 1000)
        if bought.is_first and bought.town == "lostville":
            raise LostReply
        return reply(seen(bought.shipment, request))

    async def refund(self, request: Request) -> Response:
        if self._faults.fail_cancels:
            raise Unavailable
        return reply(seen(self._shipments.refund(request.path_params["name"]), request))

    async def convert_label(self, request: Request) -> Response:
        wanted = request.query_params.get("file_format")
        if not wanted:
            raise required("file_format")
        return reply(seen(self._shipments.convert(request.path_params["name"], wanted), request))

    async def file(self, request: Request) -> Response:
        """Of a label: whoever knows its address may have it, as at EasyPost."""
        ending = request.path_params["ending"]
        if ending not in ("png", "pdf", "zpl"):
            raise not_found()
        shipment = self._shipments.of_file(request.path_params["file"])
        if ending == "png":  # takes so long that others would wait; all else is done before a thread has begun
            body, media_type = await asyncio.to_thread(_rendered, shipment, ending)
        else:
            body, media_type = _rendered(shipment, ending)
        return Response(body, media_type=media_type)

    # ── Addresses, parcels, customs ──────────────────────────────────────────────────────────────────────────────────────

    async def create_address(self, request: Request) -> Response:
        asked = await read(request, CreateAddress)
        with transaction(self._ledger):
            address = self._objects.address(asked.address, verify=asked.verify, strict=asked.verify_strict)
        return created(address, "addresses")

    async def create_and_verify(self, request: Request) -> Response:
        asked = await read(request, CreateAddress)
        with transaction(self._ledger):
            address = self._objects.address(asked.address, strict=True)
        return reply({"address": address}, headers=location(address, "addresses"))

    async def verify_address(self, request: Request) -> Response:
        with transaction(self._ledger):
            address = self._objects.verified(request.path_params["id"])
        return reply({"address": address})

    async def show_address(self, request: Request) -> Response:
        return self._shown(request, "adr")

    async def list_addresses(self, request: Request) -> Response:
        rows, more = listed(self._ledger, request, "objects", "kind = 'adr'")
        return reply({"addresses": [from_json(row["body"]) for row in rows], "has_more": more})

    async def create_parcel(self, request: Request) -> Response:
        asked = await read(request, CreateParcel)
        with transaction(self._ledger):
            parcel = self._objects.parcel(asked.parcel)
        return created(parcel, "parcels")

    async def show_parcel(self, request: Request) -> Response:
        return self._shown(request, "prcl")

    async def create_customs(self, request: Request) -> Response:
        asked = await read(request, CreateCustoms)
        with transaction(self._ledger):
            customs = self._objects.customs(asked.customs_info)
        return created(customs, "customs_infos")

    async def show_customs(self, request: Request) -> Response:
        return self._shown(request, "cstinfo")

    async def create_item(self, request: Request) -> Response:
        asked = await read(request, CreateItem)
        with transaction(self._ledger):
            item = self._objects.item(asked.customs_item)
        return created(item, "customs_items")

    async def show_item(self, request: Request) -> Response:
        return self._shown(request, "cstitem")

    def _shown(self, request: Request, kind: str) -> Response:
        return reply(self._objects.get(request.path_params["id"], kind))

    # ── Trackers, refunds, events, webhooks ──────────────────────────────────────────────────────────────────────────────

    async def create_tracker(self, request: Request) -> Response:
        asked = (await read(request, CreateTracker)).tracker
        with transaction(self._ledger):
            tracker, is_new = self._trackers.create(asked.tracking_code, asked.carrier)
        return reply(tracker, 201 if is_new else 200, location(tracker, "trackers"))

    async def track_many(self, request: Request) -> Response:
        asked = await read(request, TrackerBatch)
        with transaction(self._ledger):
            trackers = [self._trackers.create(code, None)[0] for code in asked.tracking_codes]
        return reply({"trackers": trackers, "has_more": False})

    async def show_tracker(self, request: Request) -> Response:
        return reply(self._trackers.get(request.path_params["id"]))

    async def list_trackers(self, request: Request) -> Response:
        code, carrier = request.query_params.get("tracking_code"), request.query_params.get("carrier")
        where = "(?1 IS NULL OR tracking_code = ?1) AND (?2 IS NULL OR carrier = ?2)"
        rows, more = listed(self._ledger, request, "trackers", where, code, carrier)
        return reply({"trackers": [from_json(row["body"]) for row in rows], "has_more": more})

    async def list_refunds(self, request: Request) -> Response:
        table = "(SELECT *, refund_id AS id, refund_asked AS created FROM labels WHERE refund_id IS NOT NULL)"
        rows, more = listed(self._ledger, request, table)
        return reply({"refunds": [shown_refund(row) for row in rows], "has_more": more})

    async def show_refund(self, request: Request) -> Response:
        return reply(self._shipments.refund_named(request.path_params["id"]))

    async def list_events(self, request: Request) -> Response:
        rows, more = listed(self._ledger, request, "events")
        return reply({"events": [self._news.shown(row) for row in rows], "has_more": more})

    async def show_event(self, request: Request) -> Response:
        row = self._ledger.execute("SELECT * FROM events WHERE id = ?", (request.path_params["id"],)).fetchone()
        if row is None:
            raise not_found()
        return reply(self._news.shown_in_full(row))

    async def show_payload(self, request: Request) -> Response:
        """Nothing is kept of what was answered to webhooks."""
        raise Refusal(404, "PAYLOAD.NOT_FOUND", "The payload(s) could not be found.")

    async def create_webhook(self, request: Request) -> Response:
        asked = await read(request, CreateWebhook)
        return reply(self._hooks.register(asked.webhook).shown(), 201)

    async def list_webhooks(self, request: Request) -> Response:
        return reply({"webhooks": [hook.shown() for hook in self._hooks.all()]})

    async def show_webhook(self, request: Request) -> Response:
        return reply(self._hooks.get(request.path_params["id"]).shown())

    async def delete_webhook(self, request: Request) -> Response:
        self._hooks.remove(request.path_params["id"])
        return reply({})


def _rendered(shipment: Object, ending: str) -> tuple[bytes, str]:
    # Only now: what draws takes a second to load, and most simulators never draw.
    from simulators.easypost.labels import rendered

    return rendered(shipment, ending)


def reply(content: Object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json; charset=utf-8")


def created(made: Object, resource: str) -> Response:
    return reply(made, 201, location(made, resource))


def location(made: Object, resource: str) -> dict[str, str]:
    return {"location": f"/api/v2/{resource}/{made['id']}"}


def seen(shipment: Object, request: Request) -> Object:
    """With the addresses of its label's files, as whoever asks can reach them."""
    label: dict[str, Any] | None = shipment["postage_label"]
    if label is None:
        return shipment
    base = str(request.base_url).rstrip("/")
    files = {name: f"{base}{path}" for name, path in label.items() if name.endswith("_url") and path}
    return {**shipment, "postage_label": {**label, **files}}
