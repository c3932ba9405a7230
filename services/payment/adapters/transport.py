"""How Stripe's own library reaches Stripe: by our outbound client, with its time limit, its breakers and its metrics."""

from collections.abc import Mapping
from typing import Any

import stripe

from chassis.clients import Answer, OutboundClient, Unavailable, fault

NAME = "payment-provider"
REPLAYED = "idempotent-replayed"
"""Header of an answer that was given before, under the same key."""
_BUSY = 409
"""Another request under the same key, or of the same object, is under way."""


class ReplayedFailure(Unavailable):
    """What the provider kept under this key is a failure of its own, and it will answer so for a day: ask where things are."""


class Transport(stripe.HTTPClient):
    """Failures never get as far as the library, which would make an error of its own of them: they are `Unavailable`."""

    name = "commerce"

    def __init__(self, client: OutboundClient, base_url: str) -> None:
        super().__init__()
        self._client, self._base = client, base_url.rstrip("/")

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        path = url.removeprefix(self._base)
        data = post_data.encode() if post_data else None
        is_repeatable = data is None or "Idempotency-Key" in headers
        answer = await self._client.call(
            _call(method, path), method.upper(), path, _read, body=data, headers=headers, is_repeatable=is_repeatable
        )
        return answer.content, answer.status, _Headers(answer.headers)

    async def close_async(self) -> None:
        """The connections are the process's."""

    def sleep_async(self, secs: float) -> Any:
        raise AssertionError("the library has nothing to wait for: it repeats no request")


class _Headers(dict[str, str]):
    """The library asks for `Request-Id`; ours are in lower case."""

    def __missing__(self, name: str) -> str:
        if name == name.lower():
            raise KeyError(name)
        return self[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


def _read(answer: Answer) -> Answer:
    if answer.status == _BUSY:
        raise Unavailable(f"{NAME} is still busy with an earlier request of the same")
    if answer.is_failure:
        if answer.headers.get(REPLAYED) == "true":
            raise ReplayedFailure(f"{NAME} repeats that it failed ({answer.status})")
        raise fault(NAME, answer, "it failed")
    return answer


def _call(method: str, path: str) -> str:
    """What kind of call it is: each has a breaker of its own. `confirm`, `capture`, `cancel`; else `post refunds`."""
    parts = path.partition("?")[0].strip("/").split("/")
    if len(parts) > 3:
        return parts[3]
    return f"{method.lower()} {parts[1] if len(parts) > 1 else path}"
