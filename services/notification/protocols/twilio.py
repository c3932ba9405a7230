"""Twilio's API for text messages, version 2010-04-01: what its replies, its errors and its webhooks mean.

https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/usage/security
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import ErrorCode, Refusal
from services.notification.channels import Channel, Deferred, DeliveryNews, DeliveryState, OptOut, ProviderAway, Refused

PROVIDER = "twilio"
NUMBER = re.compile(r"\+[1-9]\d{6,14}")
"""E.164."""
Sid = Annotated[str, Field(pattern=r"^(SM|MM)[0-9a-f]{32}$")]
MOST_FIELDS = 100
"""Of a webhook; it has about twenty."""

OPTED_OUT = 21610
"""The reader answered STOP."""
_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
_START = frozenset({"START", "YES", "UNSTOP"})
"""Twilio heeds these words itself, and tells us too."""
_ADDRESS_DEAD = frozenset({21211, 21214, 21217, 21614, OPTED_OUT})
"""No number; cannot be reached; no number; not a mobile one; wants nothing from us."""
_UNDELIVERABLE = frozenset({21408, 21612, 21617, 21635, 21656, 30003, 30005, 30006})
"""This message cannot go: e.g. a country that the account may not send to."""
_HANDSET_DEAD = frozenset({30005, 30006})
"""Of a message that was taken: an unknown handset, a landline. Others may be reached another time (30003: it was off)."""
_WORDS = {
    20003: "the account is not accepted",
    20429: "too many requests",
    21211: "not a telephone number",
    21214: "the number cannot be reached",
    21217: "not a telephone number",
    21408: "the account may not send to this country",
    21606: "the sender's number is not the account's",
    21610: "the reader wants no messages from us",
    21612: "there is no way to this number",
    21614: "not a mobile number",
    21617: "the text is too long",
    21635: "a landline",
    30003: "the handset was off or out of reach",
    30004: "the network blocked the message",
    30005: "the number is unknown or not in service",
    30006: "a landline, or its network cannot be reached",
    30007: "the network took it for unwanted advertising",
    30008: "the network gave no reason",
}
"""Twilio's own words repeat the number, which may stand nowhere."""
_STATES = {
    "delivered": DeliveryState.DELIVERED,
    "read": DeliveryState.DELIVERED,
    "undelivered": DeliveryState.BOUNCED,
    "failed": DeliveryState.BOUNCED,
}
"""The other statuses (accepted, queued, sending, sent) are on the way: no news for anybody."""


class TakenMessage(BaseModel):
    """A message as Twilio has it, of which it says much more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sid: Sid
    status: str
    to: str
    body: str = ""
    date_created: str = ""
    """As in a mail (RFC 2822)."""
    error_code: int | None = None

    @property
    def created_at(self) -> datetime | None:
        """None, if it is no time."""
        try:
            return parsedate_to_datetime(self.date_created)
        except (ValueError, TypeError):
            return None


class MessageList(BaseModel):
    """A page of messages, newest first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: list[TakenMessage]


class Incoming(BaseModel):
    """A message that somebody has sent to our number."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sid: Sid = Field(alias="MessageSid")
    sender: Annotated[str, Field(alias="From", pattern=rf"^{NUMBER.pattern}$")]
    body: Annotated[str, Field(alias="Body", max_length=1600)] = ""
    opt_out_type: Annotated[str, Field(alias="OptOutType", max_length=20)] = ""

    @property
    def answer(self) -> OptOut | None:
        """What its sender wants, in a word that the networks know; None: it says something else."""
        word = (self.opt_out_type or self.body).strip().upper()
        if word not in _STOP | _START:
            return None
        return OptOut(uuid5(NAMESPACE_URL, f"{PROVIDER}:{self.sid}:received"), self.sender, word in _STOP, told(OPTED_OUT))


class StatusCallback(BaseModel):
    """What Twilio tells of a message at each change of its status; in any order, and more than once."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sid: Sid = Field(alias="MessageSid")
    status: Annotated[str, Field(alias="MessageStatus", pattern=r"^[a-z]{2,20}$")]
    error_code: Annotated[int | None, Field(alias="ErrorCode", ge=0, le=99_999)] = None

    def news(self, message_id: UUID | None, now: datetime) -> DeliveryNews | None:
        """None while the message is on its way. `message_id` is ours, where the address of the webhook told it."""
        state = _STATES.get(self.status)
        if state is None:
            return None
        return DeliveryNews(
            id=uuid5(NAMESPACE_URL, f"{PROVIDER}:{self.sid}:{self.status}"),
            provider=PROVIDER,
            channel=Channel.SMS,
            state=state,
            occurred_at=now,
            provider_id=None if message_id else self.sid,
            message_id=message_id,
            reason=told(self.error_code) if self.error_code else None,
            permanent=self.error_code in _HANDSET_DEAD | {OPTED_OUT},
        )


def told(code: int) -> str:
    """An error in words."""
    return f"{code}: {_WORDS.get(code, 'see the list of errors of Twilio')}"


def failure(status: int, content: bytes) -> Refused | Deferred | ProviderAway:
    """What an answer means that is no success."""
    code = _code_in(content)
    if code in _ADDRESS_DEAD:
        return Refused(told(code), gone=True)
    if code in _UNDELIVERABLE:
        return Refused(told(code))
    if status == 400 and code and code // 1000 == 21 and code != 21606:
        return Refused(told(code))
    # All else concerns every message: no login (20003), too much (20429), no sender (21606), Twilio's own faults.
    return ProviderAway(f"Twilio answered {status}" + (f", {told(code)}" if code else ""))


def _code_in(content: bytes) -> int:
    """0, if there is none."""
    try:
        document: Any = json.loads(content)
    except ValueError:
        return 0
    code = document.get("code") if isinstance(document, dict) else None
    return code if isinstance(code, int) and 0 <= code <= 99_999 else 0


def callback_in(body: bytes) -> tuple[list[tuple[str, str]], StatusCallback | Incoming | None]:
    """The fields of a webhook's form, and what it tells: what became of a message, or that one came in; None: something else.
    Refusal: malformed_request."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is not a form.") from error
    given = {name: value for name, value in fields if value}
    try:
        return fields, (StatusCallback if "MessageStatus" in given else Incoming).model_validate(given)
    except ValidationError:
        return fields, None


def verify_signature(given: str | None, url: str, fields: Sequence[tuple[str, str]], tokens: Iterable[str]) -> None:
    """Return if who has one of the auth tokens signed this webhook. `url`: as we gave it to Twilio. Refusal: invalid_signature.

    The signature has no time in it, so that a recording may be played again: who handles it must know it again."""
    wanted = [signature(spelt, fields, token) for token in tokens for spelt in _spellings(url)]
    genuine = [hmac.compare_digest(each.encode(), (given or "").encode()) for each in wanted]
    if not any(genuine):
        raise Refusal(ErrorCode.INVALID_SIGNATURE, "The signature is missing or wrong.")


def signature(url: str, fields: Sequence[tuple[str, str]], token: str) -> str:
    """HMAC-SHA1 over the address and the fields, sorted by name, each different value of a name once."""
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _spellings(url: str) -> set[str]:
    """With its port and without: Twilio leaves out the one that goes without saying, and sometimes others."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    if parts.port is None:
        return {url, parts._replace(netloc=f"{parts.netloc}:{default}").geturl()}
    return {url, parts._replace(netloc=parts.netloc.rpartition(":")[0]).geturl()}
