"""Every request that the adapter makes is one that Stripe's description allows; and, where Go is installed, Stripe's own mock."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import httpx2
import pytest
import pytest_asyncio

from services.payment.adapters import StripePayments
from services.payment.adapters.transport import Transport
from services.payment.model import charge_request
from tests.conftest import eventually
from tests.services.payment.conftest import Simulator, pay
from tests.services.payment.test_provider import usd
from tests.simulators.stripe_client import problems, request_schema

STRIPE_MOCK = "github.com/stripe/stripe-mock@v0.203.0"
"""The version whose description of the API ours is taken from."""


class Asked(NamedTuple):
    method: str
    path: str
    body: str


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What the adapter asked for, as it went over the wire."""
    found: list[Asked] = []
    ask = Transport.request_async

    async def record(self: Transport, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None) -> Any:
        found.append(Asked(method.upper(), httpx2.URL(url).raw_path.decode(), post_data or ""))
        return await ask(self, method, url, headers, post_data)

    monkeypatch.setattr(Transport, "request_async", record)
    return found


async def lead_a_whole_life(provider: StripePayments, simulator: Simulator) -> None:
    """Every call of the port, in every form that it can take."""
    for wanted in (
        charge_request(pay()),
        charge_request(pay(return_url=None)),
        charge_request(pay("pm_card_authenticationRequired")),
        charge_request(pay("pm_card_visa_chargeDeclined")),
        charge_request(pay(capture=False, return_url=None)),
    ):
        opened = await provider.open(wanted)
        assert opened.provider_id is not None
        await provider.charge(opened.provider_id, wanted)
        await provider.look(opened.provider_id)
        if not wanted.capture:
            await provider.capture(opened.provider_id, amount=usd("5.00"), key="parcel-1", is_last=False)
            await provider.capture(opened.provider_id, amount=usd("2.00"), key="parcel-2", is_last=True)
            await provider.refund(opened.provider_id, amount=usd("1.00"), key="line-1", reason="broken")
        await provider.reverse(opened.provider_id, "cancelled")
    held = charge_request(pay(capture=False))
    name = (await provider.open(held)).provider_id
    assert name is not None
    await provider.charge(name, held)
    await provider.release(name, "held anew")


async def test_every_request_is_in_stripe_s_own_description(
    provider: StripePayments, simulator: Simulator, asked: list[Asked]
) -> None:
    await lead_a_whole_life(provider, simulator)
    kinds = set()
    for each in asked:
        path, _, query = each.path.partition("?")
        schema, template = request_schema(each.method, path)
        kinds.add((each.method, template))
        if each.method == "POST":
            assert problems(schema, decoded(each.body)) == [], each
        else:
            assert not set(dict(parse_qsl(query))) - schema.keys(), each
    assert kinds >= {
        ("POST", "/v1/payment_intents"),
        ("POST", "/v1/payment_intents/{intent}/confirm"),
        ("POST", "/v1/payment_intents/{intent}/capture"),
        ("POST", "/v1/payment_intents/{intent}/cancel"),
        ("GET", "/v1/payment_intents/{intent}"),
        ("POST", "/v1/refunds"),
        ("GET", "/v1/refunds"),
        ("POST", "/v1/customers"),
    }


@pytest_asyncio.fixture
async def stripe_mock(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Its address."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: Stripe's own mock cannot be built")
    binaries = tmp_path_factory.mktemp("go")
    build = await asyncio.create_subprocess_exec(
        *("go", "install", STRIPE_MOCK), env={**os.environ, "GOBIN": str(binaries)}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await build.communicate()
    if build.returncode != 0:
        pytest.skip(f"Stripe's own mock cannot be built: {said.decode()[-200:]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with (Path(binaries) / "log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            str(binaries / "stripe-mock"), "-http-addr", f"127.0.0.1:{port}", stdout=log, stderr=log
        )
    try:

        async def is_up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await eventually(is_up, what="stripe-mock")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()


@pytest.mark.timeout(0)  # to build it from nothing takes as long as it takes
async def test_stripe_s_own_mock_takes_every_request(
    stripe_mock: str, provider: StripePayments, simulator: Simulator, asked: list[Asked]
) -> None:
    await lead_a_whole_life(provider, simulator)
    form = {"Authorization": "Bearer sk_test_123", "Content-Type": "application/x-www-form-urlencoded"}
    async with httpx2.AsyncClient(base_url=stripe_mock, headers=form) as http:
        for each in asked:
            response = await http.request(each.method, each.path, content=each.body.encode())
            assert response.status_code == 200, (each, response.text)
        refused = await http.post("/v1/payment_intents", content=b"amount=1&currency=usd&no_such_parameter=1")
        assert refused.status_code == 400  # it does look


def decoded(body: str) -> dict[str, Any]:
    """A form's brackets as nested values; what looks like a number or a boolean is one."""
    found: dict[str, Any] = {}
    for name, text in parse_qsl(body, keep_blank_values=True):
        *within, last = name.replace("]", "").split("[")
        place = found
        for part in within:
            place = place.setdefault(part, {})
        place[last] = int(text) if text.isdigit() else {"true": True, "false": False}.get(text, text)
    return {name: _shaped(name, value) for name, value in found.items()}


def _shaped(name: str, value: Any) -> Any:
    """Numbered values are a list; metadata is text, whatever it looks like."""
    if not isinstance(value, dict):
        return value
    if all(key.isdigit() for key in value):
        return list(value.values())
    return {key: str(each) if name == "metadata" else _shaped(key, each) for key, each in value.items()}
