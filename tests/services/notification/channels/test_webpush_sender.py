"""Push messages: the adapter and the simulated push service, over real sockets."""

import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import ThreadedResolver, web
from pydantic import SecretStr, ValidationError

from chassis.clients import Answer, HttpSession
from services.notification.adapters.webpush import PushSettings, WebPushSender, _read
from services.notification.channels import Channel, Deferred, Message, Receipt, Refused
from services.notification.protocols.webpush import Subscribing, Subscription, VapidKey, VapidKeys, new_private_key
from tests.services.notification.channels.conftest import Browser, PushService

KEY, OLD_KEY = new_private_key(), new_private_key()
Made = Callable[..., WebPushSender]


@pytest_asyncio.fixture
async def public_http() -> AsyncIterator[HttpSession]:
    async with HttpSession(public_only=True) as session:
        yield session


@pytest.fixture
def sender(push_service: PushService, http: HttpSession, public_http: HttpSession) -> Made:
    def make(keys: str = f"{KEY},{OLD_KEY}", listed: str | None = None) -> WebPushSender:
        endpoints = push_service.url if listed is None else listed
        settings = PushSettings.model_validate({"vapid_private_key": SecretStr(keys), "push_endpoints": endpoints})
        subscribing = settings.subscribing()
        assert subscribing is not None
        return WebPushSender(http, public_http, subscribing, settings.vapid_subject)

    return make


def push(browser: Browser, **changes: Any) -> Message:
    given: dict[str, Any] = {"subject": "Your order is on its way", "text": "Größe 38 📦", "url": "https://shop.example/orders/1"}
    return Message(uuid4(), Channel.PUSH, browser.address, **(given | changes))


async def test_only_the_browser_reads_it(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe(VapidKey(KEY).public)
    message = push(browser)
    assert await sender().send(message) == Receipt()
    [pushed] = await push_service.messages(browser)
    assert browser.read(pushed["body"]) == {
        "id": str(message.message_id),
        "title": "Your order is on its way",
        "body": "Größe 38 📦",
        "url": "https://shop.example/orders/1",
    }
    assert (pushed["ttl"], pushed["urgency"], pushed["subject"]) == (259_200, "normal", "mailto:shop@shop.example")
    with pytest.raises(ValueError, match="another key"):
        (await push_service.subscribe()).read(pushed["body"])


async def test_a_second_copy_takes_the_place_of_the_first(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    own, message = sender(), push(browser)
    for _ in range(2):
        await own.send(message)
    await own.send(push(browser))
    assert [pushed["is_replaced"] for pushed in await push_service.messages(browser)] == [True, False, False]


async def test_subscriptions_of_the_key_before_go_on(sender: Made, push_service: PushService) -> None:
    old = await push_service.subscribe(VapidKey(OLD_KEY).public)
    await sender().send(push(old))
    with pytest.raises(Refused, match="not ours any more") as refused:
        await sender(KEY).send(push(old))
    assert refused.value.gone
    old.vapid_key = VapidKey(KEY).public  # as if it had been made with another than it was
    with pytest.raises(Refused, match="403") as refused:
        await sender().send(push(old))
    assert not refused.value.gone


async def test_a_subscription_ends(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    await push_service.gone(browser)
    unknown = Browser(browser.endpoint + "x", "", None)
    for each in (browser, unknown):
        with pytest.raises(Refused) as refused:
            await sender().send(push(each))
        assert refused.value.gone


async def test_a_service_that_fails_or_has_too_much_gets_it_later(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    own, message = sender(), push(browser)
    await push_service.faults(too_many_next=1, retry_after_s=70)
    with pytest.raises(Deferred, match="too many") as too_many:
        await own.send(message)
    assert too_many.value.retry_after_s == 70
    await push_service.faults(fail_next=1)
    with pytest.raises(Deferred, match="503"):
        await own.send(message)
    await push_service.faults(lose_replies_next=1)
    with pytest.raises(Deferred, match="no answer"):
        await own.send(message)
    await own.send(message)
    assert [pushed["is_replaced"] for pushed in await push_service.messages(browser)] == [True, False]


async def test_one_service_that_is_down_holds_up_no_other(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    dead = Browser("http://127.0.0.1:9/push/1", "", None)
    own = sender(listed=f"{push_service.url}, http://127.0.0.1:9")
    for _ in range(8):
        with pytest.raises(Deferred):
            await own.send(push(dead))
    await own.send(push(browser))


async def test_a_text_that_is_too_long_is_cut(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    await sender().send(push(browser, text="📦" * 5_000))
    [pushed] = await push_service.messages(browser)
    assert browser.read(pushed["body"])["body"].endswith("📦…")


async def test_what_is_no_subscription_is_forgotten(sender: Made) -> None:
    for to in ("", "{}", "null", '{"endpoint": "https://push.example/1", "keys": {"p256dh": "AAAA", "auth": "AAAA"}}'):
        with pytest.raises(Refused) as refused:
            await sender().send(Message(uuid4(), Channel.PUSH, to, "title", "text"))
        assert refused.value.gone


# ── Nothing is sent into our own network ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_address_that_is_not_listed_is_not_reached(sender: Made, push_service: PushService) -> None:
    browser = await push_service.subscribe()
    with pytest.raises(Refused):
        await sender(listed="").send(push(browser))
    assert await push_service.messages(browser) == []
    keys = VapidKeys([KEY])
    with pytest.raises(ValueError, match="https"):
        Subscribing(keys).check(Subscription.model_validate(browser.subscription))
    Subscribing(keys, (push_service.url,)).check(Subscription.model_validate(browser.subscription))


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["10.0.0.7", "169.254.169.254"], ["::1"], ["::ffff:10.0.0.7"], ["64:ff9b::a00:7"]]
)
async def test_a_public_name_that_stands_for_a_private_address_is_not_reached(
    sender: Made, push_service: PushService, monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    """As DNS may say so at any time, also after the subscription was checked."""
    asked = []

    async def resolve(self: ThreadedResolver, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, object]]:
        asked.append(host)
        return [{"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0} for each in answers]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    browser = Browser("https://push.attacker.example/1", "", None)
    own = sender()
    Subscribing(VapidKeys([KEY])).check(Subscription.model_validate(browser.subscription))
    with pytest.raises(Deferred, match="no answer"):
        await own.send(push(browser))
    assert asked == ["push.attacker.example"]


async def test_a_redirect_is_not_followed_and_an_endless_answer_not_read(sender: Made, push_service: PushService) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        if request.path == "/redirect":
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(64_000))
        except ConnectionError:
            return response

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        own = sender(listed=url)
        with pytest.raises(Refused, match="307"):
            await own.send(push(Browser(f"{url}/redirect", "", None)))
        with pytest.raises(Deferred, match="more than"):
            await own.send(push(Browser(f"{url}/endless", "", None)))
        assert asked == ["/redirect", "/endless"]
    finally:
        await runner.cleanup()


def test_settings() -> None:
    assert PushSettings().subscribing() is None
    subscribing = PushSettings.model_validate({"vapid_private_key": f"{KEY}, {OLD_KEY}"}).subscribing()
    assert subscribing is not None
    assert subscribing.keys.current.public == VapidKey(KEY).public
    for wrong in ({"vapid_private_key": "abc"}, {"vapid_subject": "shop@shop.example"}):
        with pytest.raises(ValidationError) as refused:
            PushSettings.model_validate(wrong)
        assert "abc" not in str(refused.value)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSH_ENDPOINTS", "http://push-service:8000, http://127.0.0.1:8016")
    monkeypatch.setenv("VAPID_PRIVATE_KEY", KEY)
    settings = PushSettings()
    assert settings.push_endpoints == ("http://push-service:8000", "http://127.0.0.1:8016")
    assert settings.subscribing() is not None


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("120", 120, 120),
        (timedelta(hours=1), 3_000, 3_600),
        (timedelta(hours=-1), 0, 0),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("9" * 40, 0, 0),
        (None, 0, 0),
    ],
)
def test_how_long_it_wants_us_to_wait(given: str | timedelta | None, least: float, most: float) -> None:
    """Seconds, or a day and time."""
    said = format_datetime(datetime.now(UTC) + given, usegmt=True) if isinstance(given, timedelta) else given
    deferred = _read(Answer(429, b"", {} if said is None else {"retry-after": said}))
    assert isinstance(deferred, Deferred)
    assert least <= deferred.retry_after_s <= most
