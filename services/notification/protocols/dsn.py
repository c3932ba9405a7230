"""What mail servers tell of mails later: delivery status notifications (RFC 3464, 6533) and complaints (ARF, RFC 5965).

Whoever knows the address of the bounce mailbox can send anything to it. So what comes is bounded before it is parsed, since the
standard library's parser takes long for what is nested deeply or has very long headers, and the only error is `UnreadableReport`.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, message_from_string
from email.message import Message as Part
from email.utils import parsedate_to_datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from contracts.base import told
from services.notification.channels import Channel, DeliveryNews, DeliveryState

PROVIDER = "smtp"
LARGEST = 512 * 1024
_MOST_LINES, _MOST_BOUNDARIES, _LONGEST_HEADER = 20_000, 30, 32 * 1024
_MOST_RECIPIENTS = 20
_OLDEST = timedelta(days=30)

_STATES = {
    "delivered": DeliveryState.DELIVERED,
    "delayed": DeliveryState.DELAYED,
    "failed": DeliveryState.BOUNCED,
}
"""What was `relayed` or `expanded` went on to where nobody tells of it: no news."""
_COMPLAINTS = frozenset({"abuse", "fraud", "virus", "opt-out", "opt-out-list", "miscategorized", "other"})
_ADDRESS_DEAD = re.compile(r"5\.(1\.([1236]|10)|2\.1|4\.4)")
"""No such mailbox, no such domain, a mailbox that was closed (RFC 3463, 7505). A full mailbox or a policy may change."""
_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_ADDRESS = re.compile(r"\S*@\S*")
"""Servers repeat it; it may stand nowhere."""
_UUID = "[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}"
_OUR_MESSAGE_ID = re.compile(rf"<\s*({_UUID})[^<>\s]*@[^<>\s]+>", re.IGNORECASE)
_OUR_ENVELOPE_ID = re.compile(rf"\s*<?({_UUID})\b", re.IGNORECASE)
_OUR_SENDER = re.compile(rf"\+({_UUID})@", re.IGNORECASE)
_MESSAGE_ID_IN_TEXT = re.compile(rf"^message-id:\s*<({_UUID})[^<>\s]*@", re.IGNORECASE | re.MULTILINE)


class UnreadableReport(ValueError):
    """This can be no report that we should read."""


def envelope_sender(bounces: str, message_id: UUID) -> str:
    """The address that bounces of this one mail come back to (VERP): `bounces+<id>@shop.example`."""
    name, _, domain = bounces.partition("@")
    return f"{name}+{message_id.hex}@{domain}"


def news_in(raw: bytes, now: datetime) -> list[DeliveryNews]:
    """What a mail tells of mails of ours; nothing, if it is no report, or of no mail of ours. Raises UnreadableReport."""
    _require_harmless(raw)
    try:
        return list(_news(message_from_bytes(raw), now))
    except Exception as error:  # the parser promises nothing about what it is given
        raise UnreadableReport("not a mail that can be read") from error


def _require_harmless(raw: bytes) -> None:
    if len(raw) > LARGEST or raw.count(b"\n") > _MOST_LINES or raw.lower().count(b"boundary") > _MOST_BOUNDARIES:
        raise UnreadableReport("too large for a report")
    length = 0
    for line in raw.splitlines():
        length = length + len(line) if line[:1] in (b" ", b"\t") else len(line)
        if length > _LONGEST_HEADER:
            raise UnreadableReport("a header is too long")


def _news(mail: Part, now: datetime) -> Iterator[DeliveryNews]:
    parts = list(mail.walk())
    by_type = {part.get_content_type(): part for part in reversed(parts)}
    returned = _message_id_of_returned(parts) or _message_id_in_headers(mail)
    if status := by_type.get("message/delivery-status") or by_type.get("message/global-delivery-status"):
        common, *recipients = _blocks(status) or [Part()]
        message_id = _first(_OUR_ENVELOPE_ID, _field(common, "Original-Envelope-Id")) or returned
        for recipient in recipients[:_MOST_RECIPIENTS]:
            if message_id and (news := _of_recipient(recipient, message_id, _time(mail, recipient, now))):
                yield news
    elif feedback := by_type.get("message/feedback-report"):
        fields = _blocks(feedback) or [Part()]
        kind = _field(fields[0], "Feedback-Type").strip().lower()
        message_id = _first(_OUR_ENVELOPE_ID, _field(fields[0], "Original-Envelope-Id")) or returned
        if message_id and kind in _COMPLAINTS:
            yield _told(message_id, DeliveryState.COMPLAINED, f"a complaint: {kind}", True, _time(mail, fields[0], now))
    elif _field(mail, "X-Failed-Recipients"):  # as Exim and Gmail mark even what is in no form
        message_id = returned or _message_id_in_text(parts)
        if message_id:
            yield _told(message_id, DeliveryState.BOUNCED, "returned without a reason in due form", False, _time(mail, mail, now))


def _of_recipient(fields: Part, message_id: UUID, at: datetime) -> DeliveryNews | None:
    state = _STATES.get(_field(fields, "Action").strip().lower())
    if state is None:
        return None
    diagnosis = _field(fields, "Diagnostic-Code").partition(";")[2].strip()
    code = _STATUS.search(_field(fields, "Status")) or _STATUS.search(diagnosis)
    is_dead = state is DeliveryState.BOUNCED and code is not None and _ADDRESS_DEAD.fullmatch(code[1]) is not None
    reason = " ".join(filter(None, (code[1] if code else "", _ADDRESS.sub("***", told(diagnosis, 1000)))))
    return _told(message_id, state, reason, is_dead, at)


def _told(message_id: UUID, state: DeliveryState, reason: str, permanent: bool, at: datetime) -> DeliveryNews:
    return DeliveryNews(
        id=uuid5(NAMESPACE_URL, f"{PROVIDER}:{message_id}:{state}"),
        provider=PROVIDER,
        channel=Channel.EMAIL,
        state=state,
        occurred_at=at,
        message_id=message_id,
        reason=told(reason, 300) or None,
        permanent=permanent,
    )


# ── Which mail it is about ───────────────────────────────────────────────────────────────────────────────────────────────────


def _message_id_of_returned(parts: Iterable[Part]) -> UUID | None:
    """From the headers of our mail, which come back in a part of their own."""
    for part in parts:
        kind, found = part.get_content_type(), None
        if kind in _WITH_HEADERS and (mail := _mail_in(part)) is not None:
            found = _first(_OUR_MESSAGE_ID, _field(mail, "Message-ID"))
        elif kind == "text/rfc822-headers":
            found = _message_id_in_text([part])
        if found:
            return found
    return None


_WITH_HEADERS = frozenset({"message/rfc822", "message/global", "message/global-headers"})


def _mail_in(part: Part) -> Part | None:
    """The mail that a part is, or whose headers it is."""
    inner: object = part.get_payload()
    return inner[0] if isinstance(inner, list) and inner and isinstance(inner[0], Part) else None


def _message_id_in_headers(mail: Part) -> UUID | None:
    """From the address that the report came to, which is the envelope sender of our mail; or from what it says it answers."""
    for name in ("To", "Delivered-To", "X-Original-To", "Envelope-To"):
        if found := _first(_OUR_SENDER, _field(mail, name)):
            return found
    return _first(_OUR_MESSAGE_ID, _field(mail, "In-Reply-To")) or _first(_OUR_MESSAGE_ID, _field(mail, "References"))


def _message_id_in_text(parts: Iterable[Part]) -> UUID | None:
    for part in parts:
        if not part.is_multipart() and (found := _first(_MESSAGE_ID_IN_TEXT, _text(part))):
            return found
    return None


def _first(pattern: re.Pattern[str], text: str) -> UUID | None:
    found = pattern.search(text)
    return UUID(found[1]) if found else None


# ── The parser's results, made plain ─────────────────────────────────────────────────────────────────────────────────────────


def _blocks(part: Part) -> list[Part]:
    """The groups of fields of a report. The parser knows them in `message/delivery-status` alone; of others it makes a mail with
    the first group as its headers."""
    inner: object = part.get_payload()
    if not isinstance(inner, list):
        return _parsed_blocks(_text(part))
    if part.get_content_type() == "message/delivery-status":
        return [each for each in inner if each.keys()]
    return [inner[0], *_parsed_blocks(_text(inner[0]))] if inner else []


def _parsed_blocks(text: str) -> list[Part]:
    blocks = re.split(r"\r?\n[ \t]*\r?\n", text)[: _MOST_RECIPIENTS + 1]
    return [parsed for parsed in map(message_from_string, blocks) if parsed.keys()]


def _text(part: Part) -> str:
    content = part.get_payload(decode=True)
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else ""


def _field(part: Part, name: str) -> str:
    """A header's value on one line; nothing, if there is none."""
    return " ".join(told(str(part.get(name, "")), 2000).split())


def _time(mail: Part, fields: Part, now: datetime) -> datetime:
    """When it happened; now, where that is not told or cannot be."""
    for part, name in ((fields, "Last-Attempt-Date"), (fields, "Arrival-Date"), (mail, "Date")):
        try:
            at = parsedate_to_datetime(_field(part, name))
        except (ValueError, TypeError, OverflowError):
            continue
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        if now - _OLDEST <= at <= now:
            return at.astimezone(UTC)
    return now
