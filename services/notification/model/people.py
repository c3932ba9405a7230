"""People as notification knows them: by which channels they want to hear what, when, and where they are reached beside mail.

Nothing of it outlives the account."""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from json import dumps
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from sqlalchemy import Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from chassis.store import Aggregate
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.notifications import NotificationKind
from services.notification.channels import Channel
from services.notification.kinds import GROUPS, KINDS, Group
from services.notification.model.notifications import DEFAULT_LANGUAGE
from services.notification.model.tables import Table

MOST_BROWSERS = 10
CODE_LASTS = timedelta(minutes=10)
CODE_TRIES = 5
SUBSCRIPTIONS = UUID("0c7a4a3e-8b51-5c1e-9a0b-5d1c3f0e7a21")
"""Of the ids of browsers' subscriptions: the same for the same browser."""
REACHING = (Channel.EMAIL, Channel.SMS, Channel.PUSH)
"""Channels that reach a person who does not look. The inbox does not."""
QUIET = frozenset({Channel.SMS, Channel.PUSH})
"""Those that make a noise, and so wait while a person has quiet hours. A mail lies until it is read."""


def _json(default: str) -> "Column[Any]":
    return Column(JSONB, nullable=False, server_default=text(f"'{default}'"))


class Person(Table, Aggregate, table=True):
    """What one person has chosen, and the person's addresses that are not identity's.

    `choices`: of a group, whether a channel is wanted; what is not in it is as the kinds say. `suppressed`: channels by which
    nothing is sent any more, because the address there is dead; with the reason. `allowances`: how often something was asked for
    of late that may not be asked for often."""

    __tablename__ = "people"
    __table_args__ = (
        Index("ix_people_browsers", "browsers", postgresql_using="gin", postgresql_ops={"browsers": "jsonb_path_ops"}),
        Index("ix_people_phone", "phone", postgresql_where=text("phone is not null")),
    )

    person_id: UUID = Field(primary_key=True)
    language: str | None = Field(default=None, max_length=20)
    time_zone: str = Field(default="UTC", max_length=60)
    quiet_from: time | None = None
    quiet_until: time | None = None
    choices: dict[str, dict[str, bool]] = Field(default_factory=dict, sa_column=_json("{}"))
    phone: str | None = Field(default=None, max_length=16)
    """A telephone number that is proven to be the person's (E.164)."""
    wanted_phone: str | None = Field(default=None, max_length=16)
    """One that is to be proven by a code."""
    code_digest: bytes | None = None
    code_expires_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    code_tries: int = 0
    browsers: list[dict[str, Any]] = Field(default_factory=list, sa_column=_json("[]"))
    """Push subscriptions: `id`, `subscription` (the browser's own JSON), `added_at`."""
    suppressed: dict[str, str] = Field(default_factory=dict, sa_column=_json("{}"))
    email_verified_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When identity last told that the address is the person's; news of mails that were sent before is about another address."""
    allowances: dict[str, dict[str, Any]] = Field(default_factory=dict, sa_column=_json("{}"))

    # ── What is wanted ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def wants(self, kind: NotificationKind, channel: Channel) -> bool:
        """Whether a kind goes by a channel, as far as the person has a say."""
        policy = KINDS[kind]
        if not GROUPS[policy.group].is_chosen:
            return channel in policy.channels
        return self.choices.get(policy.group, {}).get(channel, channel in policy.channels)

    def routes(self, kind: NotificationKind) -> list[tuple[Channel, str]]:
        """By which channels a kind is sent, and to which of several addresses. What the person has to hear is mailed if nothing
        else is left."""
        found = [route for channel in REACHING if self.wants(kind, channel) for route in self.targets(channel, kind)]
        if not found and GROUPS[KINDS[kind].group].is_required and kind is not NotificationKind.PHONE_CODE:
            return [(Channel.EMAIL, "")]
        return found

    def targets(self, channel: Channel, kind: NotificationKind) -> list[tuple[Channel, str]]:
        """Where a person is reached by a channel; nowhere, if there is no address, or a dead one."""
        if channel is Channel.EMAIL:
            return [(channel, "")]  # identity knows the address; whether it is dead is looked at when it is sent
        if channel in self.suppressed:
            return []
        if channel is Channel.SMS:
            has_number = self.wanted_phone if kind is NotificationKind.PHONE_CODE else self.phone
            return [(channel, "")] if has_number else []
        return [(channel, browser["id"]) for browser in self.browsers]

    def choose(self, choices: Mapping[Group, Mapping[Channel, bool]]) -> None:
        """Replace what was chosen. Refusal: validation_failed, if nothing were left of a group that the person has to hear."""
        for group, wanted in choices.items():
            if not GROUPS[group].is_required:
                continue
            kinds = [kind for kind, policy in KINDS.items() if policy.group is group]
            left = [
                channel
                for channel in REACHING
                if self.targets(channel, kinds[0]) and wanted.get(channel, channel in KINDS[kinds[0]].channels)
            ]
            if not left:
                raise _invalid(
                    f"choices.{group}",
                    f"This has to reach you: {GROUPS[group].about.lower()}. Leave e-mail on, or what else you are reached by.",
                )
        self.choices = {group: {channel: bool(on) for channel, on in wanted.items()} for group, wanted in choices.items()}

    def mute(self, groups: Iterable[Group], channel: Channel) -> None:
        """Send nothing of these groups by this channel any more."""
        muted: dict[str, dict[str, bool]] = {group: {**self.choices.get(group, {}), channel: False} for group in groups}
        self.choices = {**self.choices, **muted}

    def held_until(self, kind: NotificationKind, channel: Channel, now: datetime) -> datetime | None:
        """When a message may be sent that comes at a time of quiet; None: at once."""
        if channel not in QUIET or KINDS[kind].is_urgent or self.quiet_from is None or self.quiet_until is None:
            return None
        zone = ZoneInfo(self.time_zone)
        here = now.astimezone(zone)
        clock = here.time().replace(tzinfo=None)
        if self.quiet_from <= self.quiet_until:
            is_quiet = self.quiet_from <= clock < self.quiet_until
        else:  # over midnight
            is_quiet = clock >= self.quiet_from or clock < self.quiet_until
        if not is_quiet:
            return None
        day = here.date() + timedelta(days=self.quiet_until <= clock)
        return datetime.combine(day, self.quiet_until, zone).astimezone(now.tzinfo)

    # ── Where the person is reached ──────────────────────────────────────────────────────────────────────────────────────────

    def want_phone(self, number: str) -> None:
        """This number is to be proven; the one that is proven stays until then."""
        self.wanted_phone, self.code_digest, self.code_expires_at, self.code_tries = number, None, None, 0

    def new_code(self, secret: bytes) -> tuple[str, str]:
        """The number that is to be proven, and a new code for it, which makes the one before it worthless. Refusal: not_found, if
        none is to be proven."""
        if self.wanted_phone is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no number to be proven.")
        code = f"{secrets.randbelow(1_000_000):06}"
        self.code_digest, self.code_expires_at = self._digest(code, secret), utc_now() + CODE_LASTS
        return self.wanted_phone, code

    def prove_phone(self, code: str, secret: bytes) -> bool:
        """Whether the code is the one that was sent; then the number is the person's. A wrong one counts, and after five none is
        accepted."""
        expected = self.code_digest
        if expected is None or self.code_expires_at is None or self.code_expires_at <= utc_now() or self.code_tries >= CODE_TRIES:
            return False
        if not hmac.compare_digest(expected, self._digest(code, secret)):
            self.code_tries += 1
            return False
        self.phone = self.wanted_phone
        self.suppressed = {channel: why for channel, why in self.suppressed.items() if channel != Channel.SMS}
        self.wanted_phone = self.code_digest = self.code_expires_at = None
        self.code_tries = 0
        return True

    def forget_phone(self) -> None:
        self.phone = self.wanted_phone = self.code_digest = self.code_expires_at = None

    def _digest(self, code: str, secret: bytes) -> bytes:
        return hmac.digest(secret, f"{self.person_id}:{self.wanted_phone}:{code}".encode(), "sha256")

    def add_browser(self, endpoint: str, subscription: Mapping[str, Any]) -> str:
        """Push messages go to this browser too, once however often it is added; its id. Of more than ten the oldest goes."""
        browser_id = browser_id_of(endpoint)
        kept = [browser for browser in self.browsers if browser["id"] != browser_id]
        added = {"id": browser_id, "subscription": dict(subscription), "added_at": utc_now().isoformat()}
        self.browsers = [*kept, added][-MOST_BROWSERS:]
        return browser_id

    def remove_browser(self, browser_id: str) -> bool:
        """Whether it was there."""
        kept = [browser for browser in self.browsers if browser["id"] != browser_id]
        was_there, self.browsers = len(kept) < len(self.browsers), kept
        return was_there

    def browser(self, browser_id: str) -> dict[str, Any] | None:
        """The subscription of a browser."""
        return next((browser["subscription"] for browser in self.browsers if browser["id"] == browser_id), None)

    def own_address(self, channel: Channel) -> str | None:
        """Where the person is reached by SMS, or in the browser that was added last."""
        if channel is Channel.SMS:
            return self.phone
        return dumps(self.browsers[-1]["subscription"]) if channel is Channel.PUSH and self.browsers else None

    def address_is_dead(self, channel: Channel, target: str, why: str, sent_at: datetime | None) -> None:
        """Send nothing more there until the address is proven again. Of a browser: forget it."""
        if channel is Channel.PUSH:
            self.remove_browser(target)
            return
        is_another = channel is Channel.EMAIL and sent_at and self.email_verified_at and sent_at < self.email_verified_at
        if not is_another:
            self.suppressed = {**self.suppressed, channel: why[:200]}

    def wants_sms_again(self, why: str) -> None:
        """Whoever wanted no SMS for this reason does now; a number that is dead for another stays so."""
        if self.suppressed.get(Channel.SMS) == why:
            self.suppressed = {channel: reason for channel, reason in self.suppressed.items() if channel != Channel.SMS}

    def email_verified(self, at: datetime) -> None:
        """The address is the person's, and perhaps a new one."""
        self.email_verified_at = at
        self.suppressed = {channel: why for channel, why in self.suppressed.items() if channel != Channel.EMAIL}

    # ── What may not be asked for often ──────────────────────────────────────────────────────────────────────────────────────

    def take(self, what: str, most: int, within: timedelta) -> None:
        """Count one more. Refusal: rate_limited, if there were `most` already within this time."""
        now = utc_now()
        known = self.allowances.get(what, {})
        began = datetime.fromisoformat(known["since"]) if known else now
        if now - began >= within:
            known, began = {}, now
        used = int(known.get("used", 0))
        if used >= most:
            seconds = max(1, int((began + within - now).total_seconds()))
            raise Refusal(
                ErrorCode.RATE_LIMITED,
                f"That is enough for now; try again in {seconds} seconds.",
                extra={"retry_after": seconds},
            )
        self.allowances = {**self.allowances, what: {"since": began.isoformat(), "used": used + 1}}


def browser_id_of(endpoint: str) -> str:
    """The same for the same browser."""
    return str(uuid5(SUBSCRIPTIONS, endpoint))


def nobody_yet(person_id: UUID) -> Person:
    """Somebody of whom there is no row: its version is 0."""
    return Person(person_id=person_id, version=0)


def languages_of(wanted: str | None) -> list[str]:
    """In which languages a text is looked for: `de-AT`, `de`, and the shop's own."""
    chain = [wanted, wanted.partition("-")[0]] if wanted else []
    return list(dict.fromkeys([*chain, DEFAULT_LANGUAGE]))


def _invalid(field: str, detail: str) -> Refusal:
    error = FieldError(field=field, code="value_error", detail=detail)
    return Refusal(
        ErrorCode.VALIDATION_FAILED, "Some fields are not as they must be.", extra={"errors": [error.model_dump(mode="json")]}
    )


class InboxReader(Table, Aggregate, table=True):
    """How far somebody has read the inbox: everything up to this notification."""

    __tablename__ = "inbox_readers"

    person_id: UUID = Field(primary_key=True)
    read_up_to: UUID

    def read_all(self, up_to: UUID) -> None:
        """Never less than before."""
        self.read_up_to = max(self.read_up_to, up_to)


class ReadMark(Table, table=True):
    """One notification that a person has read in the inbox, beyond those that `InboxReader` tells of."""

    __tablename__ = "read_marks"

    person_id: UUID = Field(primary_key=True)
    notification_id: UUID = Field(primary_key=True)
