"""Push messages to browsers, each through the push service that its subscription names."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chassis.clients import Answer, HttpSession, OutboundClient, Unavailable
from chassis.clock import utc_now
from services.notification.channels import Channel, Deferred, Message, Receipt, Refused
from services.notification.protocols.webpush import (
    CLAIM_S,
    Endpoint,
    Subscribing,
    Subscription,
    VapidKey,
    VapidKeys,
    encrypt,
    payload,
)

CALL_S = 10.0
LARGEST_ANSWER = 64_000
"""What a push service answers is not read; whoever names one could be anybody."""
TTL_S = 3 * 24 * 3600
"""How long a push service keeps a message for a browser that is not running. Later it is no news."""
_TAKEN = Receipt()
_MOST_ORIGINS = 200
_RENEW_S = 3600


class PushSettings(BaseSettings):
    """Our keys. Without one there are no push messages."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True)

    vapid_private_key: SecretStr | None = None
    """P-256, 32 bytes in base64url. Several with commas between them: browsers subscribe with the first, and subscriptions made
    with another go on."""
    vapid_subject: Annotated[str, Field(pattern=r"^(mailto:[^\s@]+@[^\s@]+|https://\S+)$")] = "mailto:shop@shop.example"
    """Whom a push service may turn to about us."""
    push_endpoints: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of push services that may be reached although they are not at a public host with https."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if isinstance(given, dict) and isinstance(listed := given.get("push_endpoints"), str):
            return given | {"push_endpoints": tuple(filter(None, map(str.strip, listed.split(","))))}
        return given

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        self.subscribing()
        return self

    def subscribing(self) -> Subscribing | None:
        """None: there are no keys. ValueError: one that is none."""
        text = self.vapid_private_key.get_secret_value() if self.vapid_private_key else ""
        try:
            keys = VapidKeys([key.strip() for key in text.split(",")]) if text.strip() else None
            return Subscribing(keys, self.push_endpoints) if keys else None
        except ValueError:
            raise ValueError("VAPID_PRIVATE_KEY: keys of P-256, 32 bytes in base64url") from None


@dataclass(slots=True)
class _Origin:
    """One push service: it has a breaker of its own, and knows us by a signature of its own."""

    client: OutboundClient
    signed: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By our public key: the header, and until when it is used."""


class WebPushSender:
    """Sends to every push service. What one of them does concerns only the messages to its own browsers: none is ever `away`."""

    channel = Channel.PUSH

    def __init__(self, listed_http: HttpSession, public_http: HttpSession, subscribing: Subscribing, subject: str) -> None:
        """`listed_http`: for the origins that the settings name; `public_http`: for all others, reaches public hosts alone.
        `subject`: whom a push service may turn to about us."""
        self._subscribing, self._subject = subscribing, subject
        self._listed_http, self._public_http = listed_http, public_http
        self._origins: OrderedDict[str, _Origin] = OrderedDict()

    async def send(self, message: Message) -> Receipt:
        try:
            subscription = Subscription.model_validate_json(message.to)
            endpoint, key = self._subscribing.check(subscription)
        except ValidationError as error:
            raise Refused("not a subscription", gone=True) from error
        except ValueError as error:
            raise Refused(f"nothing can be sent there: {error}", gone=True) from error
        text = payload(message_id=str(message.message_id), title=message.subject, body=message.text, url=message.url)
        origin = self._origin(endpoint)
        headers = {
            "Authorization": self._authorization(origin, endpoint, key),
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "aes128gcm",
            "TTL": str(TTL_S),
            "Urgency": "normal",
            "Topic": message.message_id.hex,  # a second copy takes the place of the first, if that has not been fetched
        }
        body = encrypt(text, subscription.keys)
        try:
            outcome = await origin.client.call(
                "push", "POST", endpoint.path, _read, body=body, headers=headers, largest=LARGEST_ANSWER
            )
        except Unavailable as error:
            raise Deferred(str(error)) from error
        if outcome is not None:
            raise outcome
        return _TAKEN

    async def close(self) -> None:
        """Nothing to hang up: connections belong to the process."""

    def _origin(self, endpoint: Endpoint) -> _Origin:
        origin = self._origins.get(endpoint.origin)
        if origin is None:
            http = self._listed_http if endpoint.is_listed else self._public_http
            # One name for all: a stranger's origin belongs in no metric.
            origin = self._origins[endpoint.origin] = _Origin(
                OutboundClient("push service", endpoint.origin, http, timeout_s=CALL_S)
            )
        self._origins.move_to_end(endpoint.origin)
        if len(self._origins) > _MOST_ORIGINS:
            self._origins.popitem(last=False)
        return origin

    def _authorization(self, origin: _Origin, endpoint: Endpoint, key: VapidKey) -> str:
        header, until = origin.signed.get(key.public, ("", 0.0))
        if time.time() >= until:
            header, until = key.authorization(endpoint.origin, self._subject), time.time() + CLAIM_S - _RENEW_S
            origin.signed[key.public] = header, until
        return header


def _read(answer: Answer) -> Refused | Deferred | None:
    """What an answer means; None: it has the message. Raises Unavailable."""
    match answer.status:
        case 200 | 201 | 202:
            return None
        case 404 | 410:
            return Refused("the browser has given up the subscription", gone=True)
        case 413:
            return Refused("the push service finds it too long")
        case 429:
            return Deferred("the push service has had too many messages", retry_after_s=_retry_after(answer))
        case status if answer.is_failure:
            raise Unavailable(f"the push service answered {status}")
        case status:
            return Refused(f"the push service answered {status}")


def _retry_after(answer: Answer) -> float:
    """How many seconds it wants us to wait; 0, if it does not say so (RFC 9110: seconds, or a date)."""
    given = answer.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit() and len(given) <= 9:
        return float(given)
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return 0.0
    return max(0.0, (until - utc_now()).total_seconds()) if until.tzinfo else 0.0
