"""What mail servers tell: their reports in the forms that they have in the world, and whatever else may come."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.notification.channels import DeliveryState
from services.notification.protocols.dsn import LARGEST, UnreadableReport, envelope_sender, news_in

REPORTS = Path(__file__).parent / "reports"
MESSAGE_ID = UUID("0192f0a1-7b3c-7def-8123-456789abcdef")
NOW = datetime(2026, 11, 27, 20, tzinfo=UTC)
BOUNCED, DELIVERED, DELAYED = DeliveryState.BOUNCED, DeliveryState.DELIVERED, DeliveryState.DELAYED


def report(name: str) -> bytes:
    return (REPORTS / f"{name}.eml").read_bytes()


@pytest.mark.parametrize(
    ("name", "state", "permanent", "reason"),
    [
        ("postfix_unknown_user", BOUNCED, True, "5.1.1 550 5.1.1 *** Recipient address rejected: User unknown in virtual"),
        ("postfix_delayed", DELAYED, False, "4.4.1 connect to mx.customer.example[192.0.2.7]:25"),
        ("postfix_delivered", DELIVERED, False, "2.0.0 250 2.0.0 Ok"),
        ("exim_unroutable", BOUNCED, False, "5.0.0 550 Mailbox quota exceeded for ***"),
        ("exim_old_text", BOUNCED, False, "returned without"),
        ("exchange_mailbox_full", BOUNCED, False, "5.2.2 554 5.2.2 mailbox full"),
        ("gmail_not_found", BOUNCED, True, "5.1.1 550-5.1.1 The email account that you tried to reach does not exist."),
        ("complaint", DeliveryState.COMPLAINED, True, "a complaint: abuse"),
        ("global_address", BOUNCED, True, "5.1.10 550 5.1.10 ***"),
    ],
)
def test_reports_of_the_worlds_mail_servers(name: str, state: DeliveryState, permanent: bool, reason: str) -> None:
    [news] = news_in(report(name), NOW)
    assert (news.state, news.permanent, news.message_id) == (state, permanent, MESSAGE_ID)
    assert (news.reason or "").startswith(reason)
    assert "@" not in (news.reason or "")
    assert NOW - timedelta(hours=11) < news.occurred_at < NOW
    assert news_in(report(name), NOW + timedelta(days=1))[0].id == news.id


@pytest.mark.parametrize("name", ["postfix_relayed", "no_complaint", "holiday_note"])
def test_what_is_no_news(name: str) -> None:
    assert news_in(report(name), NOW) == []


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_line_ends_do_not_matter(line_end: bytes) -> None:
    assert len(news_in(report("gmail_not_found").replace(b"\n", line_end), NOW)) == 1


def test_the_mail_is_known_by_its_envelope_alone() -> None:
    """Whatever the server sends back: by the address that the report came to, which only this mail had."""
    assert envelope_sender("bounces@shop.example", MESSAGE_ID) == f"bounces+{MESSAGE_ID.hex}@shop.example"
    mail = report("postfix_unknown_user").replace(str(MESSAGE_ID).encode(), b"somebody-elses")
    assert news_in(mail, NOW) == []
    returned = envelope_sender("bounces@shop.example", MESSAGE_ID).encode()
    [news] = news_in(mail.replace(b"To: shop@shop.example", b"To: <" + returned + b">", 1), NOW)
    assert news.message_id == MESSAGE_ID


def test_a_time_that_cannot_be_is_not_believed() -> None:
    for wrong in (b"Fri, 27 Nov 2099 10:00:05 +0000", b"Fri, 27 Nov 1970 10:00:05 +0000", b"soon", b"27 Nov 2026 99:99:99 +9999"):
        mail = report("global_address").replace(b"Fri, 27 Nov 2026 10:00:05 +0000", wrong)
        assert news_in(mail, NOW)[0].occurred_at == NOW


NESTED = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(5_000))


@pytest.mark.parametrize(
    "raw",
    [
        bytes(LARGEST + 1),
        NESTED,
        b"\n" * 100_000,
        b"Content-Type: text/plain" + b";a" * 100_000 + b"\n\n",
        b"Content-Type: text/plain;\n" + b" a=b;\n" * 20_000 + b"\n\n",
        b"Subject: " + b"=?utf-8?q?a?= " * 20_000 + b"\n\n",
    ],
    ids=["large", "nested", "lines", "parameters", "folded", "words"],
)
def test_what_would_keep_the_parser_busy_is_not_parsed(raw: bytes) -> None:
    began = time.process_time()
    with pytest.raises(UnreadableReport):
        news_in(raw, NOW)
    assert time.process_time() - began < 10  # parsed, each would take minutes


def _readable(raw: bytes) -> None:
    try:
        found = news_in(raw, NOW)
    except UnreadableReport:
        return
    assert all(len(news.reason or "") <= 300 and "@" not in (news.reason or "") for news in found)


@given(some.binary(max_size=2000))
def test_nothing_else_is_raised_for_bytes(raw: bytes) -> None:
    _readable(raw)


_LINES = some.sampled_from(
    [
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b",
        b"Content-Type: multipart/mixed; boundary*=utf-8''b",
        b"Content-Type: message/delivery-status",
        b"Content-Type: message/global-delivery-status",
        b"Content-Type: message/feedback-report",
        b"Content-Type: message/rfc822",
        b"Content-Type: text/rfc822-headers",
        b"Content-Type: text/plain; charset=nobody-knows",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: x-uuencode",
        b"begin 666 x",
        b"--b",
        b"--b--",
        b"",
        b"Final-Recipient: rfc822; zoe@customer.example",
        b"Action: failed",
        b"Status: 5.1.1",
        b"Diagnostic-Code: smtp; 550 zo\xc3\xab@customer.example \xff",
        b"Original-Envelope-Id: 0192f0a1-7b3c-7def-8123-456789abcdef",
        b"Message-ID: <0192f0a1-7b3c-7def-8123-456789abcdef@shop.example>",
        b"X-Failed-Recipients: zoe@customer.example",
        b"Feedback-Type: abuse",
        b"Date: \xff 27 Nov 2026 10:00:05 +0000",
        b" folded",
        b": nothing",
    ]
)


@given(some.lists(_LINES, max_size=60))
def test_nothing_else_is_raised_for_what_looks_like_a_report(lines: list[bytes]) -> None:
    _readable(b"\n".join(lines))


@given(some.sampled_from(sorted(REPORTS.glob("*.eml"))), some.data())
def test_nothing_else_is_raised_for_a_damaged_report(file: Path, data: some.DataObject) -> None:
    raw = bytearray(file.read_bytes())
    for place in data.draw(some.lists(some.integers(0, len(raw) - 1), max_size=20)):
        raw[place] = data.draw(some.integers(0, 255))
    _readable(bytes(raw[: data.draw(some.integers(0, len(raw)))]))
