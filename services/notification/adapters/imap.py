"""The mailbox that mails come back to, read over IMAP."""

import asyncio
import imaplib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, ParamSpec, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.clients import Unavailable
from chassis.webhooks import WebhookSecrets
from services.notification.ports import Handled
from services.notification.protocols.dsn import LARGEST

P = ParamSpec("P")
Value = TypeVar("Value")
CALL_S = 20.0
MOST_AT_ONCE = 100
_FLAGS = {Handled.TAKEN: r"(\Seen \Deleted)", Handled.LEFT: r"(\Seen)"}
_FAULTS = (imaplib.IMAP4.error, OSError, EOFError)


class BounceSettings(BaseSettings):
    """How we hear what became of mails: by a webhook, from a mailbox, or both."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True)

    email_webhook_secret: SecretStr | None = None
    """What the mail server signs its webhook with; several with commas between them, the first is in use. None: no webhook."""
    bounce_mailbox_url: SecretStr | None = None
    """`imaps://user:password@host/INBOX`, `imap://` without TLS; special characters in them as `%40`. None: no mailbox."""
    bounce_poll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60

    @property
    def email_secrets(self) -> WebhookSecrets:
        return WebhookSecrets.of(self.email_webhook_secret or SecretStr(""))

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if any(len(secret) < 16 for secret in self.email_secrets.values):
            raise ValueError("EMAIL_WEBHOOK_SECRET: at least 16 characters each")
        BounceMailbox.of(self)
        return self


class BounceMailbox:
    """One folder of one mailbox. Reports of ours are deleted once they are taken in; all other mails stay, and are seen."""

    def __init__(self, host: str, port: int, *, is_tls: bool, user: str, password: str, folder: str) -> None:
        self._host, self._port, self._is_tls = host, port, is_tls
        self._user, self._password, self._folder = user, password, folder

    @classmethod
    def of(cls, settings: BounceSettings) -> "BounceMailbox | None":
        """None, if the settings name none. ValueError: it is no address of one."""
        if settings.bounce_mailbox_url is None:
            return None
        parts = urlsplit(settings.bounce_mailbox_url.get_secret_value())
        if parts.scheme not in ("imap", "imaps") or not (parts.hostname and parts.username and parts.password):
            raise ValueError("BOUNCE_MAILBOX_URL: imaps://user:password@host/folder")
        is_tls = parts.scheme == "imaps"
        return cls(
            parts.hostname,
            parts.port or (993 if is_tls else 143),
            is_tls=is_tls,
            user=unquote(parts.username),
            password=unquote(parts.password),
            folder=unquote(parts.path.strip("/")) or "INBOX",
        )

    async def read(self, handle: Callable[[bytes], Awaitable[Handled]]) -> int:
        """As ports.py says, a hundred mails at most."""
        box = await _in_thread(self._open)
        try:
            numbers = (await _in_thread(_unseen, box))[:MOST_AT_ONCE]
            for number in numbers:
                handled = await handle(await _in_thread(_content, box, number))
                await _in_thread(_asked, box, "STORE", number, "+FLAGS", _FLAGS[handled])
            await _in_thread(box.expunge)
            return len(numbers)
        finally:
            await asyncio.to_thread(_hang_up, box)

    def _open(self) -> imaplib.IMAP4:
        if self._is_tls:
            context = ssl.create_default_context()
            box: imaplib.IMAP4 = imaplib.IMAP4_SSL(self._host, self._port, ssl_context=context, timeout=CALL_S)
        else:
            box = imaplib.IMAP4(self._host, self._port, timeout=CALL_S)
        try:
            box.login(self._user, self._password)
            if box.select(_quoted(self._folder))[0] != "OK":
                raise imaplib.IMAP4.error("there is no such folder")
        except _FAULTS:
            _hang_up(box)
            raise
        return box


async def _in_thread(work: Callable[P, Value], *args: P.args, **kwargs: P.kwargs) -> Value:
    """The library waits, so it does so in a thread, and for `CALL_S` at most. Raises Unavailable."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except _FAULTS as error:  # its words may repeat the login
        raise Unavailable(f"the mailbox of bounces cannot be read: {type(error).__name__}") from None


def _asked(box: imaplib.IMAP4, *command: str) -> Sequence[object]:
    answer, content = box.uid(*command)
    if answer != "OK":
        raise imaplib.IMAP4.error(f"{command[0]}: {answer}")
    return content


def _unseen(box: imaplib.IMAP4) -> list[str]:
    [found] = _asked(box, "SEARCH", "UNSEEN")
    return found.decode("ascii").split() if isinstance(found, bytes) else []


def _content(box: imaplib.IMAP4, number: str) -> bytes:
    """The beginning of a mail, which is enough of a report; nothing, if it is gone."""
    content = _asked(box, "FETCH", number, f"(BODY.PEEK[]<0.{LARGEST}>)")
    return next((bytes(part[1]) for part in content if isinstance(part, tuple)), b"")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hang_up(box: imaplib.IMAP4) -> None:
    with suppress(*_FAULTS):
        box.logout()
