"""Text messages over Twilio's API.

Twilio has no idempotency key for messages: what is sent twice arrives twice. So where an answer got lost, Twilio is asked for its
list of messages to this number before anything is sent again. What this process has forgotten when it was killed is sent again
all the same: a message that comes twice is a nuisance, one that never comes is worse.
"""

from datetime import datetime, timedelta
from typing import Annotated, Self
from urllib.parse import quote, urlencode
from uuid import UUID

from aiohttp import encode_basic_auth
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.clients import Answer, HttpSession, OutboundClient, Unavailable, model_in
from chassis.clock import utc_now
from services.notification.channels import Channel, Deferred, Message, ProviderAway, Receipt, Refused
from services.notification.protocols.segments import MOST_SEGMENTS, segments
from services.notification.protocols.twilio import NUMBER, MessageList, TakenMessage, failure

CALL_S = 10.0
"""Two of them, and a message is through or given back before `SEND_SECONDS` are over."""
LARGEST_ANSWER = 1_000_000
_MOST_UNSURE = 1_000
_CLOCKS_DIFFER = timedelta(minutes=2)
_FAILED = frozenset({"failed", "undelivered", "canceled"})


class TwilioSettings(BaseSettings):
    """Our account. Without a sender there are no text messages."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True)

    twilio_url: Annotated[str, Field(pattern=r"^https?://")] = "https://api.twilio.com"
    twilio_account_sid: Annotated[str | None, Field(pattern=r"^AC[0-9a-f]{32}$")] = None
    twilio_auth_token: SecretStr | None = None
    """Several with commas between them: the first is used, and webhooks signed with any of them are believed."""
    twilio_from: Annotated[str | None, Field(pattern=r"^(\+[1-9]\d{6,14}|MG[0-9a-f]{32}|[A-Za-z0-9 ]{1,11})$")] = None
    """A telephone number of ours, a messaging service of the account, or a name."""
    twilio_status_url: Annotated[str | None, Field(pattern=r"^https?://[^?#]+$")] = None
    """Where Twilio tells what became of a message; None: under `public_url`."""

    @property
    def twilio_tokens(self) -> list[str]:
        found = self.twilio_auth_token.get_secret_value().split(",") if self.twilio_auth_token else []
        return [token.strip() for token in found if token.strip()]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.twilio_from and not (self.twilio_account_sid and self.twilio_tokens):
            raise ValueError("TWILIO_FROM needs TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN")
        return self


class TwilioSender:
    """Sends through one account."""

    channel = Channel.SMS

    def __init__(self, http: HttpSession, settings: TwilioSettings, status_url: str) -> None:
        """ValueError: the settings name no sender."""
        if not settings.twilio_from or not settings.twilio_account_sid:
            raise ValueError("TWILIO_FROM is not set")
        self._client = OutboundClient("twilio", settings.twilio_url, http, timeout_s=CALL_S)
        self._path = f"/2010-04-01/Accounts/{settings.twilio_account_sid}/Messages.json"
        self._authorization = encode_basic_auth(settings.twilio_account_sid, settings.twilio_tokens[0])
        kind = "MessagingServiceSid" if settings.twilio_from.startswith("MG") else "From"
        self._sender = {kind: settings.twilio_from}
        self._status_url = status_url
        self._unsure: dict[UUID, datetime] = {}
        """Messages that Twilio may have taken, and since when it may have."""

    async def send(self, message: Message) -> Receipt:
        if not NUMBER.fullmatch(message.to):
            raise Refused("not a telephone number", gone=True)
        if not message.text or segments(message.text).count > MOST_SEGMENTS:
            raise Refused(f"a text message has 1 to {MOST_SEGMENTS} parts")
        if message.message_id in self._unsure and (found := await self._find(message)):
            return found
        began = utc_now()
        try:
            outcome = await self._post(message)
        except ProviderAway:
            raise  # it answered, and took nothing
        except Unavailable as error:
            self._remember(message.message_id, began)
            if found := await self._find(message):
                return found
            raise Deferred("Twilio gave no answer, and has no such message", not_taken=True) from error
        if isinstance(outcome, Refused):
            raise outcome
        self._unsure.pop(message.message_id, None)
        return Receipt(outcome.sid)

    async def close(self) -> None:
        """Nothing to hang up: connections belong to the process."""

    async def _post(self, message: Message) -> TakenMessage | Refused:
        callback = f"{self._status_url}?{urlencode({'message': str(message.message_id)})}"
        form = {"To": message.to, **self._sender, "Body": message.text, "StatusCallback": callback}
        headers = {"Authorization": self._authorization, "Content-Type": "application/x-www-form-urlencoded"}

        def read(answer: Answer) -> TakenMessage | Refused:
            if answer.status in (200, 201):
                return model_in(answer, TakenMessage, "twilio")
            if answer.status >= 500:  # whether it has taken the message is unknown
                raise Unavailable(f"twilio answered {answer.status}")
            problem = failure(answer.status, answer.content)
            if isinstance(problem, Refused):
                return problem  # an answer, and no failure of Twilio's
            raise problem

        body = urlencode(form).encode()
        return await self._client.call("send", "POST", self._path, read, body=body, headers=headers, largest=LARGEST_ANSWER)

    async def _find(self, message: Message) -> Receipt | None:
        """The message in Twilio's list, if it took it although its answer got lost. Raises ProviderAway: nobody can tell."""

        def read(answer: Answer) -> MessageList:
            if answer.status == 200:
                return model_in(answer, MessageList, "twilio")
            raise Unavailable(f"twilio answered {answer.status}")

        path = f"{self._path}?To={quote(message.to, safe='')}&PageSize=50"
        headers = {"Authorization": self._authorization}
        try:
            listed = await self._client.call("list", "GET", path, read, headers=headers, largest=LARGEST_ANSWER)
        except Unavailable as error:
            raise ProviderAway(f"nobody can tell whether Twilio has a message: {error}") from error
        since = self._unsure[message.message_id] - _CLOCKS_DIFFER
        for taken in listed.messages:
            is_ours = taken.to == message.to and taken.body.strip().endswith(message.text.strip())  # a trial account adds a word
            if is_ours and taken.status not in _FAILED and taken.created_at and taken.created_at >= since:
                del self._unsure[message.message_id]
                return Receipt(taken.sid)
        return None

    def _remember(self, message_id: UUID, began: datetime) -> None:
        self._unsure.setdefault(message_id, began)
        while len(self._unsure) > _MOST_UNSURE:
            del self._unsure[next(iter(self._unsure))]
