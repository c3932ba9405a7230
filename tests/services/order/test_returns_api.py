"""Returns over HTTP: what customers, support and warehouses are told and may do, while a scripted saga answers."""

from uuid import UUID

import httpx2
from temporalio.client import Client

from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.ids import return_workflow_id
from contracts.orders import PlaceOrder
from contracts.returns import ReturnStatus
from services.order.commands import ReturnService
from tests.conftest import TokenMint, eventually
from tests.services.order.conftest import Catalogue
from tests.services.order.scripted import ReturnScript, ScriptedReturn
from tests.services.order.test_returns import asked, delivered, row, tell

ONE = {"lines": [{"line_id": 1, "quantity": 1, "reason": "wrong_size"}], "comment": "Too small for Mabel"}


class Desk:
    """One delivered order, and who asks about it."""

    def __init__(self, client: httpx2.AsyncClient, mint: TokenMint, order: PlaceOrder) -> None:
        self.client, self.order = client, order
        self.customer = mint.headers(Role.CUSTOMER, subject=order.customer_id)
        self.support = mint.headers(Role.SUPPORT)
        self.warehouse = mint.headers(Role.WAREHOUSE, warehouses=["367"])
        self.elsewhere = mint.headers(Role.WAREHOUSE, warehouses=["410"])

    async def post(self, path: str, body: object, who: dict[str, str], **headers: str) -> httpx2.Response:
        return await self.client.post(f"/api/v1/orders/{self.order.order_id}/{path}", json=body, headers=who | headers)

    async def get(self, path: str, who: dict[str, str]) -> httpx2.Response:
        return await self.client.get(f"/api/v1/orders/{self.order.order_id}/{path}", headers=who)


async def test_a_customer_asks_for_a_return_and_reads_it(
    patient_client: httpx2.AsyncClient, mint: TokenMint, database: Database
) -> None:
    desk = Desk(patient_client, mint, await delivered(database))
    keyed = {"Idempotency-Key": "once"}
    made = await desk.post("returns", ONE, desk.customer, **keyed)
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["number"], view["status"], view["warehouse_id"], view["send_back"]) == (1, "REQUESTED", "367", "label")
    assert view["estimate"]["value"] == {"amount": "1.50", "currency": "USD"}
    assert "comment" not in view
    assert made.headers["Location"] == f"/api/v1/orders/{desk.order.order_id}/returns/1"
    again = await desk.post("returns", ONE, desk.customer, **keyed)
    assert (again.status_code, again.json()["number"], again.headers["Idempotent-Replayed"]) == (201, 1, "true")
    other = await desk.post("returns", ONE | {"comment": "else"}, desk.customer, **keyed)
    assert other.json()["code"] == "idempotency_key_reused"
    read = await desk.get("returns/1", desk.customer)
    assert read.headers["ETag"] == f'"{read.json()["version"]}"'
    assert "waiting_for" not in read.json()
    by_staff = (await desk.get("returns/1", desk.support)).json()
    assert (by_staff["comment"], by_staff["waiting_for"]) == ("Too small for Mabel", "the goods to come")
    [listed] = (await desk.get("returns", desk.customer)).json()["items"]
    assert listed["lines"] == [{"line_id": 1, "product_id": "milk", "quantity": 1, "parcel": 1, "reason": "wrong_size"}]
    assert (await row(database, desk.order, 1)).run is None  # its saga runs


async def test_what_may_be_returned_is_told_before_and_refused_by_field(
    client: httpx2.AsyncClient, mint: TokenMint, database: Database
) -> None:
    desk = Desk(client, mint, await delivered(database, ("milk", 2, 150)))
    [line] = (await desk.get("returnable", desk.customer)).json()["lines"]
    assert (line["returns"]["quantity"], line["claims"]["quantity"], line["returns"]["why_not"]) == (2, 2, None)
    assert line["returns"]["until"] < line["claims"]["until"]
    three = {"lines": [{"line_id": 1, "quantity": 3, "reason": "changed_mind"}]}
    refused = await desk.post("returns", three, desk.customer, **{"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_returnable")
    assert refused.json()["errors"] == [{"field": "lines.0.quantity", "code": "too_many", "detail": "Returnable now: 2."}]
    preview = await desk.post("returns/preview", three, desk.customer)
    assert preview.json()["errors"] == refused.json()["errors"]
    mixed = ONE | {"kind": "claim"}
    assert (await desk.post("returns/preview", mixed, desk.customer)).json()["code"] == "validation_failed"


async def test_an_exchange_is_previewed_and_wants_a_card_for_the_rest(
    client: httpx2.AsyncClient, mint: TokenMint, database: Database, catalogue: Catalogue
) -> None:
    catalogue.put("cheese", "60.00")
    desk = Desk(client, mint, await delivered(database))
    dearer = ONE | {"resolution": "exchange", "exchange_for": [{"product_id": "cheese", "quantity": 1}]}
    preview = await desk.post("returns/preview", dearer, desk.customer)
    assert preview.status_code == 200, preview.text
    charges = preview.json()["charges"]
    assert charges["credit"] == {"amount": "1.50", "currency": "USD"}
    assert preview.json()["goes_back"] == {"amount": "0.00", "currency": "USD"}
    refused = await desk.post("returns", dearer, desk.customer, **{"Idempotency-Key": "a"})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "payment_token"
    unknown = dearer | {"exchange_for": [{"product_id": "nothing", "quantity": 1}]}
    assert (await desk.post("returns", unknown, desk.customer, **{"Idempotency-Key": "b"})).json()["code"] == "product_unknown"
    keyed = {"Idempotency-Key": "c"}
    assert (await desk.post("returns", dearer | {"payment_token": "pm_card_visa"}, desk.customer, **keyed)).status_code == 201
    catalogue.away = True  # what was accepted stays so
    assert (await desk.post("returns", dearer | {"payment_token": "pm_card_visa"}, desk.customer, **keyed)).status_code == 201


async def test_staff_decide_and_the_warehouse_receives(
    patient_client: httpx2.AsyncClient, mint: TokenMint, database: Database, temporal_client: Client
) -> None:
    order = await delivered(database)
    desk = Desk(patient_client, mint, order)
    await asked(database, order, 2)
    why = {"reason": "Known customer"}
    own = mint.headers(Role.CUSTOMER, Role.SUPPORT, subject=order.customer_id)
    assert (await desk.post("returns/1/approve", why, own)).json()["code"] == "own_order"
    stale = await desk.post("returns/1/approve", why, desk.support, **{"If-Match": '"7"'})
    assert (stale.status_code, stale.json()["current"]["status"]) == (412, "REQUESTED")
    approved = await desk.post("returns/1/approve", why, desk.support)
    assert (approved.status_code, approved.json()["status"]) == (200, "APPROVED"), approved.text
    assert approved.headers["ETag"]

    listed = await patient_client.get("/api/v1/returns", headers=desk.warehouse)
    assert [each["number"] for each in listed.json()["items"]] == [1]
    nothing = await patient_client.get("/api/v1/returns", headers=desk.elsewhere)
    assert nothing.json()["items"] == []

    keyed = {"Idempotency-Key": "scan-1"}
    lines = [{"line_id": 1, "quantity": 1, "condition": "good"}, {"line_id": 1, "quantity": 2, "condition": "damaged"}]
    too_many = await desk.post("returns/1/receive", {"lines": lines}, desk.warehouse, **keyed)
    assert too_many.json()["errors"] == [{"field": "lines.1.quantity", "code": "too_many", "detail": "Announced: 2."}]
    lines[1]["quantity"] = 1
    hidden = await desk.post("returns/1/receive", {"lines": lines}, desk.elsewhere, **keyed)
    assert hidden.status_code == 404
    at_another = {"lines": lines, "warehouse_id": "410"}
    assert (await desk.post("returns/1/receive", at_another, desk.warehouse, **keyed)).status_code == 404
    for _ in range(2):
        received = await desk.post("returns/1/receive", {"lines": lines}, desk.warehouse, **keyed)
        assert (received.status_code, received.json()["status"]) == (200, "RECEIVED"), received.text

    handle = temporal_client.get_workflow_handle(return_workflow_id(order.order_id, 1))
    told = await handle.query(ScriptedReturn.asked)
    assert [each.split()[0] for each in told] == ["approve", "receive"]
    assert told[1] == "receive at 367: 1 good of line 1, 1 damaged of line 1"
    timeline = (await desk.get("returns/1/timeline", desk.support)).json()
    assert (timeline["source"], timeline["entries"][0]["for_staff"]) == ("workflow", "by its saga")
    assert "for_staff" not in (await desk.get("returns/1/timeline", desk.customer)).json()["entries"][0]


async def test_a_refusal_of_its_saga_reaches_who_asked(
    patient_client: httpx2.AsyncClient, mint: TokenMint, database: Database, returns: ReturnService, temporal_client: Client
) -> None:
    order = await delivered(database)
    desk = Desk(patient_client, mint, order)
    await asked(database, order)
    why = {"reason": "Changed my mind again"}
    assert (await desk.post("returns/1/cancel", why, desk.customer)).json()["status"] == "CANCELLED"
    handle = temporal_client.get_workflow_handle(return_workflow_id(order.order_id, 1))
    await handle.signal(ScriptedReturn.script, ReturnScript(refusal=ErrorCode.RETURN_NOT_OPEN))
    late = await desk.post("returns/1/cancel", {"reason": "Another reason"}, desk.customer)
    assert (late.status_code, late.json()["code"]) == (409, "return_not_open")
    await handle.signal(ScriptedReturn.script, ReturnScript(over=True))

    async def has_ended() -> bool:
        return not await returns.sagas.is_running(order.order_id, 1)

    await eventually(has_ended)
    gone = await desk.post("returns/1/reject", why, desk.support)
    assert (gone.status_code, gone.json()["code"]) == (409, "return_not_open")


async def test_while_temporal_is_away_a_return_is_accepted_and_told_by_its_record(
    lonely_client: httpx2.AsyncClient, mint: TokenMint, database: Database
) -> None:
    desk = Desk(lonely_client, mint, await delivered(database))
    made = await desk.post("returns", ONE, desk.customer, **{"Idempotency-Key": "k"})
    assert made.status_code == 201, made.text
    assert (await desk.post("returns/1/approve", {"reason": "fine"}, desk.support)).status_code == 503
    await tell(database, desk.order, 1, ReturnStatus.APPROVED, for_staff="Nobody looked")
    timeline = (await desk.get("returns/1/timeline", desk.support)).json()
    assert (timeline["source"], [each["status"] for each in timeline["entries"]]) == ("history", ["REQUESTED", "APPROVED"])
    by_staff = (await desk.get("returns/1", desk.support)).json()
    assert (by_staff["for_staff"], by_staff["waiting_for"]) == ("Nobody looked", None)


async def test_the_list_is_filtered_and_paged(client: httpx2.AsyncClient, mint: TokenMint, database: Database) -> None:
    orders = [await delivered(database) for _ in range(3)]
    for order in orders:
        await asked(database, order)
    await tell(database, orders[0], 1, ReturnStatus.CANCELLED)
    support = mint.headers(Role.SUPPORT)

    async def listed(**filters: str | int | None) -> tuple[list[UUID], str | None]:
        page = (await client.get("/api/v1/returns", params=filters, headers=support)).json()
        return [UUID(each["order_id"]) for each in page["items"]], page["next_cursor"]

    newest_first = [order.order_id for order in reversed(orders)]
    assert await listed() == (newest_first, None)
    first, cursor = await listed(limit=2)
    assert first == newest_first[:2]
    assert await listed(limit=2, cursor=cursor) == (newest_first[2:], None)
    assert await listed(status="CANCELLED") == ([orders[0].order_id], None)
    assert await listed(customer_id=str(orders[1].customer_id)) == ([orders[1].order_id], None)
    assert await listed(warehouse_id="410") == ([], None)
    own = mint.headers(Role.CUSTOMER, subject=orders[2].customer_id)
    mine = (await client.get("/api/v1/returns", headers=own)).json()["items"]
    assert [UUID(each["order_id"]) for each in mine] == [orders[2].order_id]
