"""What a mail server tells of mails later: delivery status notifications (RFC 3464) and complaints (RFC 5965)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from email.utils import formatdate, make_msgid
from typing import Literal

Kind = Literal["delivered", "failed", "delayed", "complaint"]


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of mails to an address, in this order."""

    kinds: tuple[Kind, ...]
    status: str = "5.1.1"
    """The enhanced status code of a failure."""
    words: str = "550 5.1.1 {to}: Recipient address rejected: User unknown"


COURSES = {
    "bounce": Course(("failed",)),
    "full": Course(("failed",), "5.2.2", "552 5.2.2 {to}: mailbox is full"),
    "delay": Course(("delayed", "delivered")),
    "complain": Course(("delivered", "complaint")),
}
"""By what stands before the @, up to a + in it."""
DELIVERED = Course(("delivered",))


def course_of(address: str) -> Course:
    return COURSES.get(address.rpartition("@")[0].partition("+")[0].casefold(), DELIVERED)


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a mail came."""

    sender: str
    envelope_id: str | None
    notify: frozenset[str]
    """NOTIFY of RFC 3461, in capitals; without one, failures and delays are told."""
    headers: str
    """The mail's own, which go back."""

    def wants(self, kind: Kind) -> bool:
        if kind == "complaint":
            return True
        asked = self.notify or {"FAILURE", "DELAY"}
        return {"delivered": "SUCCESS", "failed": "FAILURE", "delayed": "DELAY"}[kind] in asked


def reports_of(envelope: Envelope, to: str, host: str) -> list[str]:
    """All that will be told of this mail to this recipient, each a mail of its own."""
    course = course_of(to)
    return [_report(envelope, to, kind, course, host) for kind in course.kinds if envelope.sender and envelope.wants(kind)]


def _report(envelope: Envelope, to: str, kind: Kind, course: Course, host: str) -> str:
    boundary = f"report-{secrets.token_hex(8)}"
    is_complaint = kind == "complaint"
    told = _complaint(envelope) if is_complaint else _status(envelope, to, kind, course, host)
    words = "This is a complaint about a message." if is_complaint else f"This is the mail system. Your message: {kind}."
    parts = (
        f"Content-Type: text/plain; charset=utf-8\n\n{words}\n",
        f"Content-Type: message/{'feedback-report' if is_complaint else 'delivery-status'}\n\n{told}",
        f"Content-Type: text/rfc822-headers\n\n{envelope.headers}",
    )
    head = (
        f"From: MAILER-DAEMON@{host}\nTo: {envelope.sender}\nDate: {formatdate()}\nMessage-ID: {make_msgid(domain=host)}\n"
        f"Subject: {'Complaint' if is_complaint else f'Delivery Status Notification ({kind})'}\nAuto-Submitted: auto-replied\n"
        f"MIME-Version: 1.0\nContent-Type: multipart/report;"
        f' report-type={"feedback-report" if is_complaint else "delivery-status"};\n\tboundary="{boundary}"\n\n'
    )
    return head + "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}--\n"


def _status(envelope: Envelope, to: str, kind: Kind, course: Course, host: str) -> str:
    status, words = {
        "delivered": ("2.0.0", "250 2.0.0 Ok"),
        "delayed": ("4.4.1", "451 4.4.1 connection timed out"),
        "failed": (course.status, course.words.format(to=f"<{to}>")),
    }[kind]
    identified = f"Original-Envelope-Id: {envelope.envelope_id}\n" if envelope.envelope_id else ""
    return (
        f"Reporting-MTA: dns; {host}\n{identified}Arrival-Date: {formatdate()}\n\n"
        f"Final-Recipient: rfc822; {to}\nAction: {kind}\nStatus: {status}\nDiagnostic-Code: smtp; {words}\n"
        f"Last-Attempt-Date: {formatdate()}\n"
    )


def _complaint(envelope: Envelope) -> str:
    return f"Feedback-Type: abuse\nUser-Agent: mail-sink/1.0\nVersion: 1\nOriginal-Mail-From: <{envelope.sender}>\n"
