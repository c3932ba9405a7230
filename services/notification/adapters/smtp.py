"""Mail over SMTP."""

import asyncio
from base64 import encodebytes
from contextlib import suppress
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.policy import SMTP as SMTP_POLICY
from email.policy import SMTPUTF8, EmailPolicy
from email.utils import format_datetime, parseaddr
from typing import Annotated, Any, Literal

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.clock import utc_now
from chassis.logs import mask
from services.notification.channels import SEND_SECONDS, Channel, Deferred, Message, ProviderAway, Receipt, Refused
from services.notification.protocols.dsn import envelope_sender

_LONGEST_LINE = 900
"""In a mail; 998 by RFC 5322, 2.1.1, with the name of the header."""
_NO_SUCH_MAILBOX = ("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1")
"""Enhanced status codes (RFC 3463, 7505) of an address that nothing will ever arrive at."""
_TAKEN = Receipt()
"""A mail server names a mail by the Message-ID that we gave it."""
_SERVER_AWAY = frozenset({421, 530, 535})
"""Shutting down or out of capacity; and what it answers to everybody who may not send here at all (RFC 4954)."""


class SmtpSettings(BaseSettings):
    """How the mail server is reached."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    smtp_host: str = "127.0.0.1"
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 1025
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: Annotated[str, Field(pattern=r"^[^\r\n]*[^\s@<]+@[^\s@>]+>?$")] = "Shop <shop@shop.example>"
    mail_bounces: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$")] = None
    """Where mails come back to, with `+` and the mail's id before the @, which the mailbox must take; None: to `mail_from`."""


def server_of(settings: SmtpSettings) -> SMTP:
    """The mail server, not yet connected to."""
    return SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        use_tls=settings.smtp_tls == "tls",
        start_tls=settings.smtp_tls == "starttls",
        local_hostname=parseaddr(settings.mail_from)[1].rpartition("@")[2],  # else the library asks DNS for our name
        timeout=SEND_SECONDS,
    )


class SmtpMailer:
    """Sends over one connection, which it opens at the first mail and again when it was lost."""

    channel = Channel.EMAIL

    def __init__(self, settings: SmtpSettings) -> None:
        self._sender = parseaddr(settings.mail_from)[1]
        self._domain = self._sender.rpartition("@")[2]
        self._bounces = settings.mail_bounces
        self._same_in_all = (
            _header("From", settings.mail_from, SMTP_POLICY if self._sender.isascii() else SMTPUTF8),
            "Auto-Submitted: auto-generated",  # keeps holiday notes from answering
            "MIME-Version: 1.0",
        )
        self._smtp = server_of(settings)

    async def send(self, message: Message) -> Receipt:
        try:
            to = str(Address(addr_spec=message.to))
        except (HeaderParseError, ValueError, IndexError) as error:
            raise Refused("the address cannot stand in a mail", gone=True) from error
        mail = self._mail(message, to)
        options = [] if mail.isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._connect()
                sender = envelope_sender(self._bounces, message.message_id) if self._bounces else self._sender
                told = ["NOTIFY=SUCCESS,FAILURE,DELAY"] if self._smtp.supports_extension("dsn") else []
                if told:  # the server tells later what became of it (RFC 3461), with the id and our headers
                    options += [f"ENVID={message.message_id}", "RET=HDRS"]
                await self._smtp.sendmail(sender, [to], mail, mail_options=options, rcpt_options=told)
        except SMTPRecipientsRefused as error:
            raise _verdict(error.recipients[0]) from error
        except SMTPResponseException as error:
            raise _verdict(error) from error
        except SMTPNotSupported as error:
            raise Refused(f"the mail server cannot take it: {error}") from error
        except (SMTPException, OSError) as error:  # timeouts included; whether it has taken the mail is unknown
            self._smtp.close()
            raise Deferred(f"the connection to the mail server was lost: {type(error).__name__}") from error
        return _TAKEN

    async def close(self) -> None:
        with suppress(SMTPException, OSError):
            async with asyncio.timeout(5):
                if self._smtp.is_connected:
                    await self._smtp.quit()
        self._smtp.close()

    async def _connect(self) -> None:
        if self._smtp.is_connected:
            return
        try:
            await self._smtp.connect()
            if self._smtp.last_ehlo_response is None:
                await self._smtp.ehlo()  # which tells what the server can do
        except (SMTPException, OSError) as error:
            self._smtp.close()
            raise ProviderAway(f"the mail server does not let us in: {mask(str(error))}") from error

    def _mail(self, message: Message, to: str) -> bytes:
        """The mail in full (RFC 5322). It is put together here because the standard library parses each header that it is given,
        which takes longer than all else that is done for a mail. Only a foreign address makes it more than ASCII."""
        subject = message.subject
        head = (
            *self._same_in_all,
            f"To: {to}",
            f"Subject: {subject}" if _is_plain(subject) else _header("Subject", subject, SMTP_POLICY),
            f"Message-ID: <{message.message_id}@{self._domain}>",
            f"Date: {format_datetime(utc_now())}",
            *(f"{name}: {value}" for name, value in message.headers.items()),
        )
        if message.html is None:
            return "\r\n".join((*head, *_part("plain", message.text))).encode()
        # Made of an id that nobody knows before, so that no text has it.
        boundary = f"=_{message.message_id.hex}"
        parts = [
            line
            for kind, text in (("plain", message.text), ("html", message.html))
            for line in (f"--{boundary}", *_part(kind, text))
        ]
        lines = (*head, f'Content-Type: multipart/alternative; boundary="{boundary}"', "", *parts, f"--{boundary}--", "")
        return "\r\n".join(lines).encode()


def _is_plain(text: str) -> bool:
    """Whether it may stand in a header as it is."""
    return text.isascii() and text.isprintable() and len(text) <= _LONGEST_LINE


def _header(name: str, text: str, policy: "EmailPolicy[Any]") -> str:
    """A header with what RFC 2047 asks for."""
    folded: str = policy.header_factory(name, text).fold(policy=policy)
    return folded.removesuffix("\r\n")


def _part(kind: str, text: str) -> tuple[str, ...]:
    """The headers of a text and the text."""
    encoding, body = _encoded(text)
    return f'Content-Type: text/{kind}; charset="utf-8"', f"Content-Transfer-Encoding: {encoding}", "", body


def _encoded(body: str) -> tuple[str, str]:
    """How the body is encoded, and what comes of it: as it is, if every server takes it so."""
    if body.isascii() and max(map(len, body.split("\n"))) <= _LONGEST_LINE:
        return "7bit", body
    return "base64", encodebytes(body.encode()).decode()


def _verdict(error: SMTPResponseException) -> Refused | Deferred | ProviderAway:
    """What a server's answer means. Its text often repeats the address, which is nobody's business in a log."""
    told = mask(f"{error.code} {error.message}")
    if error.code in _SERVER_AWAY:
        return ProviderAway(told)
    if 500 <= error.code < 600:
        return Refused(told, gone=error.message.startswith(tuple(f"{code} " for code in _NO_SUCH_MAILBOX)))
    return Deferred(told, not_taken=True)
