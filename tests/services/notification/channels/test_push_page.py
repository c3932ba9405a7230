"""The page on which a person allows push messages, in a real browser, with its real service worker.

A real subscription is made at the browser maker's push service, which a test does not reach. So `PushManager.subscribe` alone is
replaced: by one that makes the same keys and subscribes at the simulated push service. What that gets is decrypted with those
keys as the browser would do it, and is handed to the worker by the browser's own tools.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from contracts.identity import Role
from services.notification import commands
from services.notification.protocols.webpush import VapidKey, decoded
from simulators.push_service.encryption import decrypt
from tests.conftest import TokenMint, eventually
from tests.services.notification.channels.conftest import VAPID_KEY, PushService, Shop
from tests.services.notification.channels.devtools import DevTools, browser

PAGE = "/api/v1/notifications/push"
SUBSCRIBE = """
const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const text = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
PushManager.prototype.subscribe = async function (options) {
  const pair = await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, true, ["deriveBits"]);
  const p256dh = text(await crypto.subtle.exportKey("raw", pair.publicKey));
  const auth = text(crypto.getRandomValues(new Uint8Array(16)));
  window.kept = { d: (await crypto.subtle.exportKey("jwk", pair.privateKey)).d, auth, key: text(options.applicationServerKey) };
  window.subscription = {
    options: { applicationServerKey: options.applicationServerKey.buffer ?? options.applicationServerKey },
    toJSON: () => ({ endpoint: ENDPOINT, expirationTime: null, keys: { p256dh, auth } }),
    unsubscribe: async () => { window.subscription = null; return true; },
  };
  return window.subscription;
};
PushManager.prototype.getSubscription = async () => window.subscription ?? null;
"""


@pytest_asyncio.fixture
async def tools(tmp_path: Path) -> AsyncIterator[DevTools]:
    async with browser(tmp_path / "profile") as tools:
        yield tools


class Visitor:
    """A person before the page."""

    def __init__(self, tools: DevTools, session: str) -> None:
        self.tools, self.session = tools, session

    async def look(self, script: str) -> Any:
        return await self.tools.evaluate(self.session, script)

    async def click(self, button: str) -> None:
        await self.look(f"document.getElementById('{button}').click()")

    async def sees(self, text: str) -> None:
        async def is_there() -> bool:
            return text in await self.look("document.body?.innerText ?? ''")

        await eventually(is_there, what=f"{text!r} on the page")

    async def shown(self) -> list[dict[str, Any]]:
        """The notifications that the browser shows."""
        found: list[dict[str, Any]] = json.loads(
            await self.look(
                f"navigator.serviceWorker.getRegistration('{PAGE}').then((one) => one.getNotifications()).then((all) => "
                "JSON.stringify(all.map(({title, body, tag, data}) => ({title, body, tag, data}))))"
            )
        )
        return found


async def open_page(tools: DevTools, shop: Shop, endpoint: str, token: str) -> Visitor:
    session = await tools.attach("page", "")
    await tools.send("Browser.grantPermissions", permissions=["notifications"], origin=shop.url)
    for domain in ("Page", "Runtime", "Log", "Network"):
        await tools.send(f"{domain}.enable", session)
    script = f"const ENDPOINT = {json.dumps(endpoint)};\n{SUBSCRIBE}"
    await tools.send("Page.addScriptToEvaluateOnNewDocument", session, source=script)
    await tools.send("Page.navigate", session, url=f"{shop.url}{PAGE}#token={token}")
    return Visitor(tools, session)


async def deliver(visitor: Visitor, shop: Shop, content: bytes) -> None:
    """As the browser does once it has decrypted a message."""
    await visitor.tools.send("ServiceWorker.enable", visitor.session)

    async def is_known() -> bool:
        return bool(registrations(visitor.tools))

    await eventually(is_known, what="the service worker's registration")
    await visitor.tools.send(
        "ServiceWorker.deliverPushMessage",
        visitor.session,
        origin=shop.url,
        registrationId=registrations(visitor.tools)[-1],
        data=content.decode(),
    )


def registrations(tools: DevTools) -> list[str]:
    told = tools.happened("ServiceWorker.workerRegistrationUpdated")
    return [each["registrationId"] for one in told for each in one["registrations"] if not each["isDeleted"]]


async def test_a_person_allows_messages_gets_one_and_stops_them(
    shop: Shop, mint: TokenMint, push_service: PushService, tools: DevTools
) -> None:
    person_id = uuid4()
    endpoint = await push_service.subscribe(VapidKey(VAPID_KEY).public)
    token = mint.token(Role.CUSTOMER, subject=person_id)
    visitor = await open_page(tools, shop, endpoint.endpoint, token)

    await visitor.sees("Nothing is sent to this device yet.")
    assert await visitor.look("location.href") == f"{shop.url}{PAGE}", "the token stays in no history"
    await visitor.click("allow")
    await visitor.sees("Messages about your orders come to this device")
    [known] = await subscriptions_of(shop, person_id)
    assert known["subscription"]["endpoint"] == endpoint.endpoint

    await visitor.click("test")

    async def has_come() -> bool:
        return bool(await push_service.messages(endpoint))

    await eventually(has_come, what="the test message at the push service")
    [pushed] = await push_service.messages(endpoint)
    kept = await visitor.look("window.kept")
    key = ec.derive_private_key(int.from_bytes(decoded(kept["d"])), ec.SECP256R1())
    content = decrypt(decoded(pushed["body"]), key, decoded(kept["auth"]))
    assert kept["key"] == VapidKey(VAPID_KEY).public

    await deliver(visitor, shop, content)
    await visitor.sees("This is how messages of the shop look on this device.")
    [notification] = await visitor.shown()
    assert (notification["title"], notification["body"]) == ("It works", "This is how messages of the shop look on this device.")
    await deliver(visitor, shop, content)  # a second copy of the same
    assert len(await visitor.shown()) == 1

    await visitor.click("stop")
    await visitor.sees("Nothing is sent to this device yet.")
    assert await subscriptions_of(shop, person_id) == []
    assert [each for each in tools.happened("Log.entryAdded") if each["entry"]["level"] == "error"] == []
    assert tools.happened("Runtime.exceptionThrown") == []


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("https://shop.example/orders/1", "https://shop.example/orders/1"),
        ("/orders/1", "{shop}/orders/1"),
        (None, "{shop}/api/v1/notifications/push"),
        ("javascript:alert(1)", "{shop}/api/v1/notifications/push"),
    ],
)
async def test_a_notification_that_is_touched_leads_where_it_says(
    shop: Shop, mint: TokenMint, push_service: PushService, tools: DevTools, url: str | None, opened: str
) -> None:
    """Nobody can touch the notification of a browser without a screen, so its event is made in the worker; and there alone
    `openWindow` is replaced, which a browser allows after a touch only."""
    visitor = await open_page(tools, shop, "https://push.example/1", "")
    await visitor.sees("Nothing is sent to this device yet.")
    content = {"id": str(uuid4()), "title": "Your order is on its way", "body": "Follow it.", "url": url}
    await deliver(visitor, shop, json.dumps(content).encode())
    await visitor.sees("Your order is on its way")
    await visitor.look("history.pushState(null, '', '/elsewhere')")  # else it is this page that is brought to the front
    worker = await tools.attach("service_worker", f"{shop.url}{PAGE}/sw.js")
    found = await tools.evaluate(
        worker,
        """(async () => {
          const opened = new Promise((resolve) => { self.clients.openWindow = async (url) => resolve(url); });
          const [notification] = await self.registration.getNotifications();
          self.dispatchEvent(new NotificationEvent("notificationclick", { notification }));
          return opened;
        })()""",
    )
    assert found == opened.format(shop=shop.url)

    async def is_closed() -> bool:
        return await visitor.shown() == []

    await eventually(is_closed, what="the notification is closed")


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (b"", "A message of the shop"),
        (b"no JSON", "A message of the shop"),
        (b"[]", "A message of the shop"),
        (b'{"title": 5}', "5"),
    ],
)
async def test_whatever_comes_something_is_shown(shop: Shop, tools: DevTools, content: bytes, title: str) -> None:
    """A browser takes the right to push away from whoever shows nothing."""
    visitor = await open_page(tools, shop, "https://push.example/1", "")
    await visitor.sees("Nothing is sent to this device yet.")
    await deliver(visitor, shop, content)
    await visitor.sees(f"What came\n{title}")
    assert [each["title"] for each in await visitor.shown()] == [title]


async def test_who_is_not_logged_in_is_told(shop: Shop, push_service: PushService, tools: DevTools) -> None:
    endpoint = await push_service.subscribe()
    visitor = await open_page(tools, shop, endpoint.endpoint, "not-a-token")
    await visitor.sees("Nothing is sent to this device yet.")
    await visitor.click("allow")
    await visitor.sees("Log in again: the access token does not count (any more).")


async def subscriptions_of(shop: Shop, person_id: UUID) -> list[dict[str, Any]]:
    person = (await commands.people_of(shop.database, [person_id])).get(person_id)
    return person.browsers if person else []
