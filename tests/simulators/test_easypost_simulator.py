"""The carriers: two purchases are two labels, no money back for what has left, and news that always arrives."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from PIL import Image

from simulators._refusals import LostReply
from simulators.easypost.app import Settings, create_app
from tests.simulators.easypost import (
    CUSTOMER,
    CUSTOMS,
    KEY,
    LISBON,
    PARCEL,
    WAREHOUSE,
    Connect,
    advance,
    buy,
    every,
    hand_over,
    ledger,
    offer,
    pay,
    refund,
    refusal,
    seen,
    switch,
)

Until = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def carriers(tmp_path: Path, connect: Connect) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Settings(data_dir=tmp_path, api_key=KEY))
    async with app.running(), connect(app) as client:
        yield client


async def refunded(carriers: httpx2.AsyncClient, name: str) -> Any:
    """What became of its refund, if that is decided."""
    status = (await seen(carriers, name))["refund_status"]
    return None if status == "submitted" else status


# ── Buying ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_twenty_requests_with_one_reference_are_twenty_labels(carriers: httpx2.AsyncClient) -> None:
    """Nothing here is idempotent: who does not want two labels must not buy two."""
    labels = await asyncio.gather(*(buy(carriers) for _ in range(20)))
    assert len({label["tracking_code"] for label in labels}) == 20
    first = min(labels, key=lambda label: label["id"])
    assert (await seen(carriers, "order-1"))["id"] == first["id"]
    totals = await ledger(carriers)
    assert (totals["shipments"], totals["bought"], totals["attempts"]) == (20, 20, 20)
    assert totals["postage"] == {"amount": f"{20 * float(first['selected_rate']['rate']):.2f}", "currency": "USD"}


async def test_one_of_twenty_purchases_of_a_shipment_succeeds(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers)
    answers = await asyncio.gather(*(pay(carriers, shipment) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200, *[422] * 19]
    refused = {refusal(answer) for answer in answers if answer.status_code != 200}
    assert refused == {(422, "SHIPMENT.POSTAGE.EXISTS")}
    assert (await ledger(carriers))["bought"] == 1


async def test_a_purchase_shows_its_label_and_a_tracker_that_knows_nothing_yet(carriers: httpx2.AsyncClient) -> None:
    label = await buy(carriers, rate=0)
    assert label["selected_rate"]["id"] in {rate["id"] for rate in label["rates"]}
    assert label["status"] == label["tracker"]["status"] == "unknown"
    assert label["tracker"]["tracking_details"] == []
    assert [(fee["type"], fee["amount"]) for fee in label["fees"]] == [
        ("LabelFee", "0.00000"),
        ("PostageFee", f"{label['selected_rate']['rate']}000"),
    ]
    assert (label["to_address"]["name"], label["to_address"]["zip"][:6]) == ("ELIZABETH SWAN", "90277-")
    later = await seen(carriers, label["id"])
    assert later["status"] == later["tracker"]["status"] == "pre_transit"
    assert later["tracker"]["id"] == label["tracker"]["id"]


async def test_rates_of_another_time_or_another_shipment_cannot_be_bought(carriers: httpx2.AsyncClient) -> None:
    old, other = await offer(carriers), await offer(carriers)
    rerated = (await carriers.post(f"/v2/shipments/{old['id']}/rerate")).json()
    assert not {rate["id"] for rate in old["rates"]} & {rate["id"] for rate in rerated["rates"]}
    assert (await seen(carriers, old["id"]))["rates"] == rerated["rates"]
    for rates in (old["rates"], other["rates"]):
        assert refusal(await pay(carriers, {**old, "rates": rates})) == (422, "SHIPMENT.MISSING_RATE")
    assert (await pay(carriers, {**old, **rerated})).status_code == 200
    assert refusal(await carriers.post(f"/v2/shipments/{old['id']}/rerate")) == (422, "SHIPMENT.POSTAGE.EXISTS")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"to_address": {**CUSTOMER, "zip": "00000-1"}}, "address not found"),
        ({"to_address": {**CUSTOMER, "city": "Nowhere"}}, "address not found"),
        ({"to_address": CUSTOMER, "from_address": {**WAREHOUSE, "city": "Nowhere"}}, "address not found"),
        ({"to_address": {**LISBON, "country": "KP"}, "customs_info": CUSTOMS}, "No service"),
        ({"to_address": LISBON}, "Customs information is required"),
        ({"parcel": {"weight": 5_292}}, "exceeds the maximum"),
        ({"parcel": None}, "are required for rating"),
    ],
)
async def test_says_why_no_carrier_takes_a_parcel(carriers: httpx2.AsyncClient, changes: Any, says: str) -> None:
    shipment = await offer(carriers, **changes)
    assert shipment["rates"] == []
    assert all(says in message["message"] and message["type"] == "rate_error" for message in shipment["messages"])
    assert {message["carrier"] for message in shipment["messages"]} in ({"USPS", "UPSDAP", "FedExDefault"}, {None})
    better = await offer(carriers)  # a better request may follow
    assert better["rates"]


async def test_carriers_differ_in_what_they_take(carriers: httpx2.AsyncClient) -> None:
    async def who(**changes: Any) -> set[str]:
        return {rate["carrier"] for rate in (await offer(carriers, **changes))["rates"]}

    assert await who() == {"USPS", "UPSDAP", "FedExDefault"}
    assert await who(parcel={"weight": 1_121}) == {"UPSDAP", "FedExDefault"}
    assert await who(parcel={"weight": 5_291.1}) == {"UPSDAP", "FedExDefault"}
    assert await who(to_address={**CUSTOMER, "city": "APO", "state": "AE", "zip": "09012"}) == {"USPS"}
    assert await who(to_address=LISBON, customs_info=CUSTOMS) == {"USPS", "UPSDAP", "FedExDefault"}


async def test_far_heavy_and_big_parcels_cost_more(carriers: httpx2.AsyncClient) -> None:
    async def price(**changes: Any) -> float:
        rates = (await offer(carriers, **changes))["rates"]
        return next(float(rate["rate"]) for rate in rates if rate["service"] == "GroundAdvantage")

    near = await price(to_address={**CUSTOMER, "zip": "94110"})
    usual = await price()
    far = await price(to_address={**CUSTOMER, "zip": "10001", "city": "New York", "state": "NY"})
    overseas = await price(to_address={**CUSTOMER, "zip": "96801", "city": "Honolulu", "state": "HI"})
    assert near < usual < far < overseas
    assert await price(parcel={**PARCEL, "weight": 160}) > usual
    assert await price(parcel={**PARCEL, "length": 40, "width": 30, "height": 20}) > usual  # dimensional weight


@pytest.mark.parametrize(
    ("wanted", "status", "field"),
    [
        ({"parcel": {"weight": 0}}, 422, "shipment.parcel.weight"),
        ({"parcel": {"length": 3}}, 422, "weight"),
        ({"to_address": "Lisbon"}, 422, "shipment.to_address"),
        ({"to_address": {"id": "adr_unheard_of"}}, 422, "to_address"),
        ({"reference": "x" * 201}, 422, "shipment.reference"),
        ({"customs_info": {"customs_items": [{"quantity": 1}]}}, 422, "description"),
    ],
)
async def test_tells_which_field_is_wrong(carriers: httpx2.AsyncClient, wanted: Any, status: int, field: str) -> None:
    answer = await carriers.post("/v2/shipments", json={"shipment": {"from_address": WAREHOUSE, **wanted}})
    assert answer.status_code == status
    assert answer.json()["error"]["code"].startswith("PARAMETER.")
    assert answer.json()["error"]["errors"][0]["field"] == field
    assert (await ledger(carriers))["shipments"] == 0
    assert (await carriers.get("/v2/addresses")).json()["addresses"] == []  # nothing is left behind


async def test_what_was_made_before_is_named_by_its_id(carriers: httpx2.AsyncClient) -> None:
    made: dict[str, Any] = {
        "to_address": (await carriers.post("/v2/addresses", json={"address": LISBON})).json(),
        "parcel": (await carriers.post("/v2/parcels", json={"parcel": PARCEL})).json(),
        "customs_info": (await carriers.post("/v2/customs_infos", json={"customs_info": CUSTOMS})).json(),
    }
    named: dict[str, Any] = {name: {"id": part["id"]} for name, part in made.items()}
    shipment = await offer(carriers, **named)
    assert {name: shipment[name] for name in made} == made
    for path, name in (("addresses", "to_address"), ("parcels", "parcel"), ("customs_infos", "customs_info")):
        assert (await carriers.get(f"/v2/{path}/{made[name]['id']}")).json() == made[name]
    item = made["customs_info"]["customs_items"][0]
    assert (await carriers.get(f"/v2/customs_items/{item['id']}")).json() == item
    assert refusal(await carriers.get("/v2/parcels/prcl_unheard_of")) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("format_", "kind"), [("PNG", "image/png"), ("PDF", "application/pdf"), ("ZPL", "application/zpl")])
async def test_labels_are_files_that_a_printer_takes(carriers: httpx2.AsyncClient, format_: str, kind: str) -> None:
    label = await buy(carriers, to_address={**CUSTOMER, "name": "Łukasz Żółć"}, options={"label_format": format_})
    assert label["postage_label"]["label_file_type"] == kind
    async with httpx2.AsyncClient(transport=carriers._transport) as anybody:  # whoever has the address, without a key
        file = await anybody.get(label["postage_label"]["label_url"])
    assert (file.status_code, file.headers["content-type"].split(";")[0]) == (200, kind)
    if format_ == "PNG":
        assert Image.open(io.BytesIO(file.content)).size == (1200, 1800)
    elif format_ == "PDF":
        assert file.content.startswith(b"%PDF-")
    else:
        assert label["tracking_code"].encode() in file.content
    converted = (await carriers.get(f"/v2/shipments/{label['id']}/label", params={"file_format": "PDF"})).json()
    assert (await carriers.get(converted["postage_label"]["label_pdf_url"])).content.startswith(b"%PDF-")


async def test_a_label_that_there_is_not_has_no_file(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers)
    answer = await carriers.get(f"/v2/shipments/{shipment['id']}/label", params={"file_format": "PDF"})
    assert refusal(answer) == (422, "SHIPMENT.POSTAGE.REQUIRED")
    assert refusal(await carriers.get("/files/postage_label/20261127/guess.png")) == (404, "NOT_FOUND")
    answer = await carriers.post("/v2/shipments", json={"shipment": {"to_address": CUSTOMER, "options": {"label_format": "GIF"}}})
    assert refusal(answer) == (422, "SHIPMENT.POSTAGE.INVALID_FORMAT")


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_addresses_are_verified_and_written_as_the_post_does(carriers: httpx2.AsyncClient) -> None:
    soft = await carriers.post("/v2/addresses", json={"address": {**CUSTOMER, "city": "Nowhere"}, "verify": True})
    assert soft.status_code == 201
    assert soft.json()["verifications"]["delivery"]["success"] is False
    strict = await carriers.post("/v2/addresses", json={"address": {**CUSTOMER, "zip": "00000"}, "verify_strict": True})
    assert refusal(strict) == (422, "ADDRESS.VERIFY.FAILURE")
    good = (await carriers.post("/v2/addresses", json={"address": LISBON, "verify": True})).json()
    assert good["verifications"]["delivery"]["success"] is True
    assert (good["street1"], good["city"], good["zip"]) == ("1 LONG STREET", "LISBON", "1100-001")
    nested = await carriers.post(
        "/v2/shipments",
        json={"shipment": {"to_address": {**CUSTOMER, "city": "Nowhere", "verify_strict": ["delivery"]}, "parcel": PARCEL}},
    )
    assert refusal(nested) == (422, "ADDRESS.VERIFY.FAILURE")
    made = (await carriers.post("/v2/addresses", json={"address": CUSTOMER})).json()
    verified = (await carriers.get(f"/v2/addresses/{made['id']}/verify")).json()["address"]
    assert verified["name"] == "ELIZABETH SWAN"
    assert (await carriers.get(f"/v2/addresses/{made['id']}")).json() == verified


# ── Giving back ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_unscanned_label_is_given_back(carriers: httpx2.AsyncClient, until: Until) -> None:
    await switch(carriers, refund_ms=20)
    label = await buy(carriers)
    for _ in range(2):
        assert (await refund(carriers, label["id"])).json()["refund_status"] == "submitted"
    assert await until(lambda: refunded(carriers, label["id"])) == "refunded"
    assert (await refund(carriers, label["id"])).json()["refund_status"] == "refunded"
    assert all(fee["refunded"] for fee in (await seen(carriers, label["id"]))["fees"])
    kinds = [entry["kind"] for entry in await every(carriers, "/_control/entries")]
    assert kinds == ["label_bought", "refund_submitted", "label_refunded"]
    assert (await ledger(carriers))["postage"]["amount"] == "0.00"
    told = (await carriers.get("/v2/refunds")).json()["refunds"]
    assert [(each["tracking_code"], each["status"]) for each in told] == [(label["tracking_code"], "refunded")]
    assert (await carriers.get(f"/v2/refunds/{told[0]['id']}")).json() == told[0]


async def test_nothing_is_given_back_of_what_was_not_bought(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers)
    assert refusal(await refund(carriers, shipment["id"])) == (422, "SHIPMENT.POSTAGE.REQUIRED")
    assert refusal(await refund(carriers, "unheard-of")) == (404, "NOT_FOUND")


@pytest.mark.parametrize("progress", [None, "in_transit", "out_for_delivery", "delivered", "lost", "returned"])
async def test_nothing_is_given_back_of_what_was_scanned(carriers: httpx2.AsyncClient, progress: str | None) -> None:
    label = await buy(carriers)
    await hand_over(carriers, "order-1")
    if progress:
        assert (await advance(carriers, progress, all=True))["advanced"] == 1
    assert refusal(await refund(carriers, label["id"])) == (422, "SHIPMENT.REFUND.UNAVAILABLE")
    assert (await seen(carriers, label["id"]))["refund_status"] is None


async def test_a_scan_before_the_decision_decides(carriers: httpx2.AsyncClient, until: Until) -> None:
    await switch(carriers, refund_ms=30_000)
    label = await buy(carriers)
    await refund(carriers, label["id"])
    assert (await hand_over(carriers, "order-1"))["handed_over"] == 1  # the driver does not ask
    await carriers.post("/_control/clock", json={"ahead_seconds": 30})
    assert await until(lambda: refunded(carriers, label["id"])) == "rejected"
    totals = await ledger(carriers)
    assert (totals["rejected"], totals["postage"]["amount"]) == (1, label["selected_rate"]["rate"])


async def test_a_refunded_label_is_carried_all_the_same(carriers: httpx2.AsyncClient, until: Until) -> None:
    await switch(carriers, refund_ms=0)
    label = await buy(carriers)
    await refund(carriers, label["id"])
    assert await until(lambda: refunded(carriers, label["id"])) == "refunded"
    assert (await hand_over(carriers, "order-1"))["handed_over"] == 1
    assert (await advance(carriers, "delivered", all=True))["advanced"] == 1
    assert (await seen(carriers, label["id"]))["status"] == "delivered"
    assert (await ledger(carriers))["carried_refunded"] == 1


async def test_who_was_rejected_may_ask_again(carriers: httpx2.AsyncClient, until: Until) -> None:
    await switch(carriers, refund_ms=0, reject_refunds=True)
    label = await buy(carriers)
    await refund(carriers, label["id"])
    assert await until(lambda: refunded(carriers, label["id"])) == "rejected"
    await switch(carriers, reject_refunds=False)
    assert (await refund(carriers, label["id"])).json()["refund_status"] == "submitted"
    assert await until(lambda: refunded(carriers, label["id"])) == "refunded"


@pytest.mark.parametrize(
    ("carrier", "days", "status"), [("USPS", 31, "rejected"), ("UPSDAP", 31, "refunded"), ("UPSDAP", 91, "rejected")]
)
async def test_old_labels_are_not_given_back(
    carriers: httpx2.AsyncClient, until: Until, carrier: str, days: int, status: str
) -> None:
    await switch(carriers, refund_ms=0)
    shipment = await offer(carriers)
    number = next(number for number, rate in enumerate(shipment["rates"]) if rate["carrier"] == carrier)
    label = (await pay(carriers, shipment, number)).json()
    await carriers.post("/_control/clock", json={"ahead_seconds": days * 86_400})
    await refund(carriers, label["id"])
    assert await until(lambda: refunded(carriers, label["id"])) == status


# ── Parcels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_scanned_parcels_advance(carriers: httpx2.AsyncClient) -> None:
    await buy(carriers)
    await offer(carriers, "order-2")
    answer = await advance(carriers, "delivered", references=["order-1", "order-2", "unheard-of"])
    assert answer == {
        "advanced": 0,
        "references": [],
        "skipped": {"order-1": "pre_transit", "order-2": "not_bought", "unheard-of": "unknown"},
    }


async def test_a_parcel_goes_its_way(carriers: httpx2.AsyncClient) -> None:
    label = await buy(carriers)
    for to, status in (
        ("picked_up", "in_transit"),
        ("in_transit", "in_transit"),
        ("out_for_delivery", "out_for_delivery"),
        ("delivered", "delivered"),
    ):
        assert (await advance(carriers, to, tracking_codes=[label["tracking_code"]]))["advanced"] == 1
        tracker = (await carriers.get(f"/v2/trackers/{label['tracker']['id']}")).json()
        assert tracker["status"] == (await seen(carriers, label["id"]))["status"] == status
    details = tracker["tracking_details"]
    assert [(detail["status"], detail["status_detail"]) for detail in details] == [
        ("pre_transit", "label_created"),
        ("in_transit", "arrived_at_facility"),
        ("in_transit", "departed_facility"),
        ("out_for_delivery", "out_for_delivery"),
        ("delivered", "arrived_at_destination"),
    ]
    times = [detail["datetime"] for detail in details]
    assert times == sorted(set(times))  # whoever sorts them by time gets their order
    assert details[1]["tracking_location"]["city"] == "San Francisco"
    assert details[4]["tracking_location"]["city"] == "REDONDO BEACH"


@pytest.mark.parametrize("found", ["in_transit", "delivered", "returned"])
@pytest.mark.parametrize("where", ["picked_up", "in_transit"])
async def test_s10_a_lost_parcel_may_turn_up(carriers: httpx2.AsyncClient, where: str, found: str) -> None:
    label = await buy(carriers)
    await hand_over(carriers, "order-1")
    if where == "in_transit":
        await advance(carriers, where, all=True)
    assert (await advance(carriers, "lost", all=True))["advanced"] == 1
    assert (await seen(carriers, label["id"]))["status"] == "failure"
    for to in ("lost", "delivered", "returned"):
        assert (await advance(carriers, to, all=True))["advanced"] == 0  # it is not under way
    assert (await advance(carriers, "lost", references=["order-1"]))["skipped"] == {"order-1": "lost"}
    assert (await advance(carriers, found, references=["order-1"]))["advanced"] == 1
    assert (await ledger(carriers))["by_status"] == {found: 1}


async def test_s10_a_parcel_that_came_back_or_arrived_is_at_its_end(carriers: httpx2.AsyncClient) -> None:
    for end in ("returned", "delivered"):
        await buy(carriers, end)
        await hand_over(carriers, end)
        await advance(carriers, end, references=[end])
        for to in ("picked_up", "in_transit", "out_for_delivery", "delivered", "lost", "returned"):
            answer = await advance(carriers, to, references=[end])
            assert answer == {"advanced": 0, "references": [], "skipped": {end: end}}


async def test_a_return_goes_the_other_way_when_its_customer_hands_it_in(carriers: httpx2.AsyncClient) -> None:
    label = await buy(carriers, "order-1-return-1", is_return=True)
    assert (label["to_address"]["city"], label["from_address"]["city"]) == ("REDONDO BEACH", "San Francisco")
    assert (await advance(carriers, "picked_up", all=True))["advanced"] == 0  # nobody fetches it unasked
    await advance(carriers, "picked_up", references=["order-1-return-1"])
    await advance(carriers, "delivered", all=True)
    details = (await seen(carriers, label["id"]))["tracker"]["tracking_details"]
    assert [detail["tracking_location"]["city"] for detail in details] == [None, "REDONDO BEACH", "San Francisco"]


async def test_of_two_labels_with_one_reference_the_one_on_the_parcel_moves(carriers: httpx2.AsyncClient) -> None:
    await switch(carriers, refund_ms=60_000)
    first, second, third = [await buy(carriers) for _ in range(3)]
    await refund(carriers, first["id"])
    await hand_over(carriers, "order-1")
    await advance(carriers, "delivered", references=["order-1"])
    statuses = [(await seen(carriers, label["id"]))["status"] for label in (first, second, third)]
    assert statuses == ["pre_transit", "delivered", "pre_transit"]
    assert (await hand_over(carriers, third["tracking_code"]))["handed_over"] == 1
    parcels = await every(carriers, "/_control/parcels")
    assert [(parcel["status"], parcel["refund_status"]) for parcel in parcels] == [
        ("pre_transit", "submitted"),
        ("delivered", None),
        ("picked_up", None),
    ]


async def test_all_unscanned_labels_that_are_not_given_back_are_picked_up(carriers: httpx2.AsyncClient) -> None:
    await switch(carriers, refund_ms=60_000)
    kept, given = await buy(carriers, "kept"), await buy(carriers, "given")
    await refund(carriers, given["id"])
    assert (await advance(carriers, "picked_up", all=True))["references"] == [kept["tracking_code"]]


async def test_scans_and_delivers_by_itself_when_asked_to(tmp_path: Path, connect: Connect, until: Until) -> None:
    settings = Settings(data_dir=tmp_path, api_key=KEY, scan_after=timedelta(seconds=0.01), deliver_after=timedelta(seconds=0.01))
    app = create_app(settings)
    async with app.running(), connect(app) as carriers:
        label, back = await buy(carriers), await buy(carriers, "back", is_return=True)

        async def delivered() -> bool:
            return bool((await seen(carriers, label["id"]))["status"] == "delivered")

        await until(delivered)
        assert (await seen(carriers, back["id"]))["status"] == "pre_transit"


# ── Trackers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_test_codes_are_in_their_state_for_ever(carriers: httpx2.AsyncClient) -> None:
    states = []
    for number in range(1, 8):
        answer = await carriers.post("/v2/trackers", json={"tracker": {"tracking_code": f"EZ{number}00000000{number}"}})
        assert answer.status_code == 201
        states.append(answer.json()["status"])
        assert (answer.json()["signed_by"] == "John Tester") == (number == 4)
    assert states == [
        "pre_transit",
        "in_transit",
        "out_for_delivery",
        "delivered",
        "return_to_sender",
        "failure",
        "unknown",
    ]


async def test_the_same_tracker_for_three_months(carriers: httpx2.AsyncClient) -> None:
    label = await buy(carriers)
    body = {"tracker": {"tracking_code": label["tracking_code"], "carrier": "FedExDefault"}}
    answer = await carriers.post("/v2/trackers", json=body)
    assert (answer.status_code, answer.json()["id"]) == (200, label["tracker"]["id"])
    test = {"tracker": {"tracking_code": "EZ1000000001"}}
    first = (await carriers.post("/v2/trackers", json=test)).json()
    await carriers.post("/_control/clock", json={"ahead_seconds": 89 * 86_400})
    assert (await carriers.post("/v2/trackers", json=test)).json()["id"] == first["id"]
    await carriers.post("/_control/clock", json={"ahead_seconds": 2 * 86_400})
    assert (await carriers.post("/v2/trackers", json=test)).json()["id"] != first["id"]
    strange = await carriers.post("/v2/trackers", json={"tracker": {"tracking_code": "1Z999"}})
    assert refusal(strange) == (422, "TRACKER.INVALID_TEST_CODE")


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_flaky_town_and_failing_refunds(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers, to_address={**CUSTOMER, "city": "Flakytown"})
    assert [(await pay(carriers, shipment)).status_code for _ in range(4)] == [503, 503, 503, 200]
    await switch(carriers, fail_cancels=True)
    assert (await refund(carriers, shipment["id"])).status_code == 503
    await carriers.delete("/_control/faults")
    assert (await refund(carriers, shipment["id"])).status_code == 200


async def test_flaky_town_counts_the_purchases_of_a_reference(carriers: httpx2.AsyncClient) -> None:
    statuses = []
    for _ in range(4):
        shipment = await offer(carriers, to_address={**CUSTOMER, "city": "Flakytown"})
        statuses.append((await pay(carriers, shipment)).status_code)
    assert statuses == [503, 503, 503, 200]


async def test_lost_in_lostville(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers, to_address={**CUSTOMER, "city": "Lostville"})
    with pytest.raises(LostReply):
        await pay(carriers, shipment)
    found = await seen(carriers, "order-1")
    assert (found["id"], found["selected_rate"]["id"]) == (shipment["id"], shipment["rates"][-1]["id"])
    assert refusal(await pay(carriers, shipment)) == (422, "SHIPMENT.POSTAGE.EXISTS")
    again = await buy(carriers, to_address={**CUSTOMER, "city": "Lostville"})  # a second label, and answered
    assert again["tracking_code"] != found["tracking_code"]


async def test_slowville_answers_late_once(carriers: httpx2.AsyncClient) -> None:
    await switch(carriers, slow_ms=60_000)
    shipment = await offer(carriers, to_address={**CUSTOMER, "city": "Slowville"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await pay(carriers, shipment)
    assert (await seen(carriers, "order-1"))["tracking_code"] is not None
    await buy(carriers, to_address={**CUSTOMER, "city": "Slowville"})


async def test_carriers_that_are_down_offer_and_sell_nothing(carriers: httpx2.AsyncClient) -> None:
    before = await offer(carriers)
    await switch(carriers, carriers_down="USPS, FedExDefault")
    shipment = await offer(carriers)
    assert {rate["carrier"] for rate in shipment["rates"]} == {"UPSDAP"}
    assert {message["carrier"] for message in shipment["messages"]} == {"USPS", "FedExDefault"}
    assert refusal(await pay(carriers, before, 0)) == (422, "SHIPMENT.POSTAGE.FAILURE")
    await carriers.delete("/_control/faults")
    assert (await pay(carriers, before, 0)).status_code == 200
    await switch(carriers, fail_rates=True)
    assert ((await offer(carriers))["rates"], len((await offer(carriers))["messages"])) == ([], 3)


async def test_limits_credit_and_failures_on_demand(carriers: httpx2.AsyncClient) -> None:
    shipment = await offer(carriers)
    await switch(carriers, limit_next=1)
    assert refusal(await pay(carriers, shipment)) == (429, "RATE_LIMITED")
    await switch(carriers, no_credit=True)
    assert refusal(await pay(carriers, shipment)) == (402, "PAYMENT_REQUIRED")
    await switch(carriers, no_credit=False, fail_next=1)
    answer = await pay(carriers, shipment)
    assert refusal(answer) == (503, "SERVICE_UNAVAILABLE")
    assert answer.json()["error"]["errors"] == []
    assert (await pay(carriers, shipment)).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}", 200),
        (f"Basic {base64.b64encode(f'{KEY}:password'.encode()).decode()}", 401),
        ("Bearer wrong", 401),
        ("", 401),
    ],
)
async def test_takes_the_key_in_both_ways(carriers: httpx2.AsyncClient, header: str, status: int) -> None:
    answer = await carriers.get("/v2/shipments", headers={"Authorization": header})
    assert answer.status_code == status
    assert len(answer.headers["x-ep-request-uuid"]) == 32
    if status == 401:
        assert answer.json()["error"] == {"code": "UNAUTHORIZED", "message": answer.json()["error"]["message"], "errors": []}


async def test_refuses_what_it_does_not_have_in_its_own_shape(carriers: httpx2.AsyncClient) -> None:
    assert refusal(await carriers.get("/v2/claims")) == (404, "NOT_FOUND")
    assert refusal(await carriers.delete("/v2/shipments")) == (405, "METHOD_NOT_ALLOWED")
    assert refusal(await carriers.post("/v2/shipments", content=b"{")) == (400, "BAD_REQUEST")
    assert refusal(await carriers.get("/v2/shipments", params={"page_size": 101})) == (422, "PARAMETER.INVALID")
    assert refusal(await carriers.get("/v2/shipments", params={"before_id": "shp_1"})) == (422, "PARAMETER.INVALID")


async def test_lists_turn_their_pages_from_the_newest(carriers: httpx2.AsyncClient) -> None:
    for number in range(5):
        await buy(carriers, f"order-{number}")
    await offer(carriers, "not bought")

    async def page(**params: Any) -> tuple[list[str], bool, list[str]]:
        found = (await carriers.get("/v2/shipments", params={"page_size": 2, **params})).json()
        references = [shipment["reference"] for shipment in found["shipments"]]
        return references, found["has_more"], [shipment["id"] for shipment in found["shipments"]]

    first, more, ids = await page()
    assert (first, more) == (["order-4", "order-3"], True)
    second, more, ids = await page(before_id=ids[-1])
    assert (second, more) == (["order-2", "order-1"], True)
    assert (await page(before_id=ids[-1]))[:2] == (["order-0"], False)
    assert (await page(after_id=ids[0]))[:2] == (["order-4", "order-3"], False)
    assert (await page(after_id=ids[-1], page_size=1))[:2] == (["order-2"], True)
    assert (await page(purchased="false"))[0] == ["not bought", "order-4"]
    assert (await page(start_datetime="2100-01-01T00:00:00Z"))[:2] == ([], False)
