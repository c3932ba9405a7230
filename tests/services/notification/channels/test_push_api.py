"""Browsers' subscriptions over HTTP, and push messages from the queue to the simulated push service."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.dependencies import provided
from chassis.health import About
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.notification import commands
from services.notification.app import build
from services.notification.channels import Channel
from services.notification.commands import Staff, Told
from services.notification.model import DeliveryStatus
from services.notification.protocols.webpush import VapidKey, new_private_key
from tests.conftest import TokenMint, changing
from tests.services.notification.channels.conftest import OLD_VAPID_KEY, VAPID_KEY, Browser, PushService, Shop
from tests.services.notification.conftest import deliveries, settings_of

PATH = "/api/v1/notifications/push-subscriptions"
"""Of subscriptions."""


class Person:
    """Somebody who is logged in."""

    def __init__(self, shop: Shop, mint: TokenMint) -> None:
        self.id, self._shop = uuid4(), shop
        self.headers = mint.headers(Role.CUSTOMER, subject=self.id)

    async def subscribe(self, browser: Browser, **more: Any) -> Any:
        return await self._shop.client.post(PATH, json={**browser.subscription, **more}, headers=self.headers)

    async def browsers(self) -> list[str]:
        found = (await self._shop.client.get(PATH, headers=self.headers)).json()
        return [each["subscription_id"] for each in found["items"]]

    async def test(self, subscription_id: str) -> Any:
        return await self._shop.client.post(f"{PATH}/{subscription_id}/test", headers=self.headers)


@pytest.fixture
def zoe(shop: Shop, mint: TokenMint) -> Person:
    return Person(shop, mint)


async def test_a_browser_subscribes_with_our_key_and_gets_a_test_message(
    shop: Shop, zoe: Person, push_service: PushService
) -> None:
    key = (await shop.client.get("/api/v1/notifications/push/key")).json()["public_key"]
    assert key == VapidKey(VAPID_KEY).public
    browser = await push_service.subscribe(key)
    made = await zoe.subscribe(browser, vapid_key=key)
    assert made.status_code == 201
    assert await zoe.browsers() == [made.json()["subscription_id"]]
    assert (await zoe.test(made.json()["subscription_id"])).status_code == 204
    [pushed] = await push_service.messages(browser)
    assert browser.read(pushed["body"])["title"] == "It works"


async def test_a_subscription_of_the_key_before_goes_on_and_one_of_no_key_of_ours_is_refused(
    zoe: Person, push_service: PushService
) -> None:
    old = await push_service.subscribe(VapidKey(OLD_VAPID_KEY).public)
    made = await zoe.subscribe(old, vapid_key=old.vapid_key)
    assert (await zoe.test(made.json()["subscription_id"])).status_code == 204
    other = await push_service.subscribe()
    refused = await zoe.subscribe(other, vapid_key=VapidKey(new_private_key()).public)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://127.0.0.1/x",
        "https://postgres/x",
        "http://push.example/x",
        "https://169.254.169.254/latest",
        "https://x.internal/",
    ],
)
async def test_a_browser_cannot_name_a_server_of_ours(zoe: Person, push_service: PushService, endpoint: str) -> None:
    browser = await push_service.subscribe()
    browser.endpoint = endpoint
    refused = await zoe.subscribe(browser)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "endpoint")
    assert await zoe.browsers() == []


async def test_keys_that_are_none_are_refused(zoe: Person, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    for keys in ({"p256dh": "AAAA", "auth": browser.subscription["keys"]["auth"]}, {}, {"p256dh": "A" * 87, "auth": "A" * 22}):
        assert (await zoe.subscribe(browser, keys=keys)).status_code == 422


async def test_a_browser_belongs_to_who_used_it_last(shop: Shop, zoe: Person, mint: TokenMint, push_service: PushService) -> None:
    """Else one person would read the messages of another who had logged in there before."""
    browser, max_ = await push_service.subscribe(), Person(shop, mint)
    ours = (await zoe.subscribe(browser)).json()["subscription_id"]
    assert (await max_.subscribe(browser)).json()["subscription_id"] == ours
    assert (await zoe.browsers(), await max_.browsers()) == ([], [ours])
    assert (await zoe.test(ours)).status_code == 404


async def test_two_who_take_a_browser_from_each_other_do_not_wait_for_ever(
    shop: Shop, zoe: Person, mint: TokenMint, push_service: PushService
) -> None:
    first, second = await push_service.subscribe(), await push_service.subscribe()
    others = [zoe, Person(shop, mint), Person(shop, mint)]
    for browser in (first, second):
        answers = await asyncio.gather(*(each.subscribe(browser) for each in others for _ in range(3)))
        assert {answer.status_code for answer in answers} == {201}
    owned = [await each.browsers() for each in others]
    assert sorted(map(len, owned)) in ([0, 0, 2], [0, 1, 1])


async def test_a_browser_that_has_given_up_is_forgotten(zoe: Person, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    made = (await zoe.subscribe(browser)).json()["subscription_id"]
    await push_service.gone(browser)
    assert (await zoe.test(made)).status_code == 404
    assert await zoe.browsers() == []


async def test_a_push_service_that_is_down_is_said(zoe: Person, push_service: PushService) -> None:
    made = (await zoe.subscribe(await push_service.subscribe())).json()["subscription_id"]
    await push_service.faults(down=True)
    assert (await zoe.test(made)).json()["code"] == "channel_unavailable"
    assert await zoe.browsers() == [made]


async def test_a_message_of_the_shop_goes_to_all_browsers_and_forgets_those_that_are_gone(
    shop: Shop, zoe: Person, push_service: PushService
) -> None:
    here, gone = await push_service.subscribe(), await push_service.subscribe()
    [kept, _] = [(await zoe.subscribe(browser)).json()["subscription_id"] for browser in (here, gone)]
    await push_service.gone(gone)
    await tell(shop, zoe.id)
    assert await shop.send(Channel.PUSH) == 2
    by_target = {each.target: each.status for each in await deliveries(shop.database, Channel.PUSH)}
    assert by_target.pop(kept) is DeliveryStatus.SENT
    assert list(by_target.values()) == [DeliveryStatus.FAILED]
    assert await zoe.browsers() == [kept]
    [pushed] = await push_service.messages(here)
    [delivery] = [each for each in await deliveries(shop.database, Channel.PUSH) if each.target == kept]
    assert here.read(pushed["body"])["id"] == str(delivery.delivery_id)


async def test_who_is_forgotten_has_no_browsers(shop: Shop, zoe: Person, push_service: PushService) -> None:
    await zoe.subscribe(await push_service.subscribe())
    async with changing(shop.database) as work:
        await commands.forget_customer(work, zoe.id)
    assert await zoe.browsers() == []


async def test_the_page_is_safe_and_complete(shop: Shop) -> None:
    page = await shop.client.get("/api/v1/notifications/push")
    assert "default-src 'none'; script-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    worker = await shop.client.get("/api/v1/notifications/push/sw.js")
    assert worker.headers["service-worker-allowed"] == "/api/v1/notifications/push"
    script = await shop.client.get("/api/v1/notifications/push/page.js")
    for found in (worker, script):
        assert found.headers["content-type"].startswith("text/javascript")
        assert found.headers["x-content-type-options"] == "nosniff"


async def test_channels_that_are_off_say_so(shop: Shop, mint: TokenMint) -> None:
    on = (await shop.client.get("/health/ready")).json()["channels"]
    assert (on["sms"], on["push"]) == ("on, by Twilio", "on")
    off = build(settings_of(shop.database))
    told = provided(off.api, About)["channels"]
    assert told["sms"] == "off: TWILIO_FROM is not set"
    assert told["push"] == "off: VAPID_PRIVATE_KEY is not set"


async def tell(shop: Shop, person_id: UUID) -> None:
    order_id = uuid4()
    async with changing(shop.database) as work:
        told = Told(NotificationKind.ORDER_SHIPPED, str(order_id), {}, customer_id=person_id, order_id=order_id)
        await commands.queue_all(work, Staff(), [told])
