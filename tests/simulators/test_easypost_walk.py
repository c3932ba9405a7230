"""Whatever is done to the carriers, in whatever order, their books agree with each other and with what they answered."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from simulators.easypost.app import Settings, create_app
from simulators.easypost.world import COMES_FROM
from tests.simulators.easypost import (
    KEY,
    Connect,
    Shop,
    advance,
    drained,
    every,
    hand_over,
    ledger,
    offer,
    pay,
    refund,
    seen,
    switch,
)

Until = Callable[..., Awaitable[Any]]
STEPS = 120
STATUS = {
    "pre_transit": "pre_transit",
    "picked_up": "in_transit",
    "in_transit": "in_transit",
    "out_for_delivery": "out_for_delivery",
    "delivered": "delivered",
    "lost": "failure",
    "returned": "return_to_sender",
}


@dataclass
class Walk:
    """Random steps, and what the answers to them said."""

    carriers: httpx2.AsyncClient
    dice: random.Random
    offers: list[Any] = field(default_factory=list)
    bought: dict[str, Any] = field(default_factory=dict)

    async def step(self) -> None:
        await self.dice.choice([self.offer, self.buy, self.buy, self.refund, self.scan, self.move, self.wait, self.disturb])()

    async def offer(self) -> None:
        shipment = await offer(self.carriers, self.dice.choice([None, "a", "b", "c"]), is_return=self.dice.random() < 0.2)
        if shipment["rates"]:
            self.offers.append(shipment)

    async def buy(self) -> None:
        if self.offers:
            shipment = self.dice.choice(self.offers)
            answer = await pay(self.carriers, shipment, self.dice.randrange(len(shipment["rates"])))
            if answer.status_code == 200:
                assert shipment["id"] not in self.bought
                self.bought[shipment["id"]] = answer.json()

    async def refund(self) -> None:
        if self.offers:
            shipment = self.dice.choice(self.offers)
            answer = await refund(self.carriers, shipment["id"])
            assert answer.status_code in (200, 422)
            assert answer.status_code == 422 or shipment["id"] in self.bought

    async def scan(self) -> None:
        await hand_over(self.carriers, self.name())

    async def move(self) -> None:
        to = self.dice.choice(list(COMES_FROM))
        if self.dice.random() < 0.3:
            await advance(self.carriers, to, all=True)
        else:
            await advance(self.carriers, to, references=[self.name()])

    async def wait(self) -> None:
        await self.carriers.post("/_control/clock", json={"ahead_seconds": self.dice.randrange(86_400 * 10)})

    async def disturb(self) -> None:
        faults = {
            "reject_refunds": self.dice.random() < 0.3,
            "carriers_down": self.dice.choice(["", "", "USPS", "UPSDAP,FedExDefault"]),
            "no_credit": self.dice.random() < 0.1,
            "webhooks_twice": self.dice.random() < 0.3,
        }
        await switch(self.carriers, **faults)

    def name(self) -> str:
        codes: list[str] = [label["tracking_code"] for label in self.bought.values()]
        return self.dice.choice(["a", "b", "c", "unheard-of", *codes])


async def check(carriers: httpx2.AsyncClient, walk: Walk) -> None:
    parcels = await every(carriers, "/_control/parcels")
    entries = await every(carriers, "/_control/entries")
    totals = await ledger(carriers)
    assert [parcel["shipment_id"] for parcel in parcels] == [label["id"] for label in walk.bought.values()]
    assert totals["by_status"] == dict(Counter(parcel["status"] for parcel in parcels))
    refunds = Counter(parcel["refund_status"] for parcel in parcels)
    assert {name: totals[name] for name in ("submitted", "refunded", "rejected")} == {
        name: refunds[name] for name in ("submitted", "refunded", "rejected")
    }
    spent = sum(round(float(entry["amount"]["amount"]) * 100) for entry in entries)
    assert totals["postage"]["amount"] == f"{spent / 100:.2f}"
    for parcel in parcels:
        label = walk.bought[parcel["shipment_id"]]
        mine = [entry["kind"] for entry in entries if entry["tracking_code"] == parcel["tracking_code"]]
        counted = Counter(mine)
        assert (mine[0], counted["label_bought"]) == ("label_bought", 1)
        assert counted["scanned"] == (parcel["scanned_at"] is not None) <= 1
        assert counted["label_refunded"] == (parcel["refund_status"] == "refunded")
        assert counted["refund_submitted"] == (
            counted["label_refunded"] + counted["refund_rejected"] + (parcel["refund_status"] == "submitted")
        )
        moves = ["pre_transit", *(kind.replace("scanned", "picked_up") for kind in mine if kind in {*COMES_FROM, "scanned"})]
        assert all(before in COMES_FROM[after] for before, after in pairwise(moves))
        assert moves[-1] == parcel["status"]
        shipment = await seen(carriers, parcel["shipment_id"])
        assert shipment["tracking_code"] == label["tracking_code"]
        assert shipment["selected_rate"] == label["selected_rate"]
        assert parcel["postage"]["amount"] == shipment["selected_rate"]["rate"]
        assert [detail["status"] for detail in shipment["tracker"]["tracking_details"]] == [STATUS[stage] for stage in moves]
        assert shipment["refund_status"] == parcel["refund_status"]


@pytest.mark.parametrize("seed", range(6))
async def test_a_walk_keeps_the_books_right(tmp_path: Path, connect: Connect, shop: Shop, until: Until, seed: int) -> None:
    settings = Settings(data_dir=tmp_path, api_key=KEY, webhook=shop.target())
    walk, parcels = None, []
    for _ in range(2):  # and a restart goes on where it was
        app = create_app(settings)
        async with app.running(), connect(app) as carriers:
            if walk is None:
                walk = Walk(carriers, random.Random(seed))
            walk.carriers = carriers
            await check(carriers, walk)
            await switch(carriers, refund_ms=random.Random(seed).choice([0, 60_000]))
            for _ in range(STEPS):
                await walk.step()
            await switch(carriers, webhooks_twice=False)
            await until(lambda: drained(carriers))
            await carriers.post("/_control/clock", json={"ahead_seconds": 60})

            async def decided() -> bool:
                return bool((await ledger(carriers))["submitted"] == 0)

            await until(decided)
            await until(lambda: drained(carriers))
            await check(carriers, walk)
            parcels = await every(carriers, "/_control/parcels")
    assert walk is not None
    assert walk.bought
    for parcel in parcels:
        told = [event["result"] for event in shop.accepted if event["result"]["tracking_code"] == parcel["tracking_code"]]
        trackers = [result for result in told if result["object"] == "Tracker"]
        # Whoever goes by the time of each piece of news, and not by when it came, knows where each parcel is.
        assert max(trackers, key=lambda tracker: tracker["updated_at"])["status"] == STATUS[parcel["status"]]
        refunds = {result["status"] for result in told if result["object"] == "Refund"}
        assert refunds == ({"refunded"} if parcel["refund_status"] == "refunded" else set())
