"""The push service, as its standards have it. What notification makes of it is in tests/services/notification/channels/."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from services.notification.protocols.webpush import SubscriptionKeys, VapidKey, encoded, encrypt, new_private_key, point
from simulators.push_service.app import create_app

pytestmark = pytest.mark.asyncio

KEY = VapidKey(new_private_key())
BROWSER = ec.generate_private_key(ec.SECP256R1())
KEYS = SubscriptionKeys(p256dh=encoded(point(BROWSER.public_key())), auth=encoded(bytes(16)))
ORIGIN = "http://push"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(tmp_path)
    async with app.running(), httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ORIGIN) as client:
        yield client


async def push(client: httpx2.AsyncClient, url: str, body: bytes | None = None, **changes: Any) -> httpx2.Response:
    headers = {"Authorization": KEY.authorization(ORIGIN, "mailto:a@b.example"), "TTL": "60", "Content-Encoding": "aes128gcm"}
    return await client.post(url, content=encrypt(b"{}", KEYS) if body is None else body, headers=headers | changes)


async def subscribe(client: httpx2.AsyncClient, key: str | None = None) -> str:
    endpoint: str = (await client.post("/_control/subscriptions", json={"vapid_key": key})).json()["endpoint"]
    return endpoint


async def test_a_message_is_taken(client: httpx2.AsyncClient) -> None:
    taken = await push(client, await subscribe(client, KEY.public))
    assert taken.status_code == 201
    assert taken.headers["location"].startswith(f"{ORIGIN}/message/")
    assert (await client.get("/_control/ledger")).json()["messages"] == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"TTL": ""}, 400),
        ({"TTL": "soon"}, 400),
        ({"Urgency": "now"}, 400),
        ({"Topic": "a" * 33}, 400),
        ({"Content-Encoding": "gzip"}, 400),
        ({"Authorization": ""}, 401),
        ({"Authorization": KEY.authorization("http://another", "mailto:a@b.example")}, 403),
        ({"Authorization": KEY.authorization(ORIGIN, "mailto:a@b.example", now=time.time() - 86_400)}, 403),
        ({"Authorization": KEY.authorization(ORIGIN, "mailto:a@b.example", now=time.time() + 86_400)}, 403),
        ({"Authorization": KEY.authorization(ORIGIN, "nobody")}, 403),
        ({"Authorization": f"vapid t={jwt.encode({'aud': ORIGIN}, 'x' * 32, 'HS256')}, k={KEY.public}"}, 403),
    ],
)
async def test_what_is_not_as_it_must_be(client: httpx2.AsyncClient, changes: dict[str, Any], status: int) -> None:
    assert (await push(client, await subscribe(client), **changes)).status_code == status
    assert (await client.get("/_control/ledger")).json()["messages"] == 0


async def test_sizes_and_what_is_not_encrypted(client: httpx2.AsyncClient) -> None:
    url = await subscribe(client)
    assert (await push(client, url, bytes(4097))).status_code == 413
    assert (await push(client, url, b"in clear" * 100)).status_code == 400


async def test_another_senders_subscription_and_one_that_ended(client: httpx2.AsyncClient) -> None:
    assert (await push(client, await subscribe(client, VapidKey(new_private_key()).public))).status_code == 403
    url = await subscribe(client)
    await client.post(f"/_control/subscriptions/{url.rpartition('/')[2]}/gone")
    assert (await push(client, url)).status_code == 410
    assert (await push(client, f"{ORIGIN}/push/unknown")).status_code == 404


async def test_too_many(client: httpx2.AsyncClient) -> None:
    url = await subscribe(client)
    await client.post("/_control/faults", json={"too_many_next": 1, "retry_after_s": 7})
    refused = await push(client, url)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert (await push(client, url)).status_code == 201
