"""What a person chooses, and where the person is reached; what the person has read."""

from collections.abc import Mapping
from datetime import time, timedelta
from uuid import UUID, uuid4

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification.channels import Channel
from services.notification.commands.delivering import person_for_change
from services.notification.kinds import GROUPS, Group
from services.notification.model import (
    CODE_TRIES,
    InboxReader,
    Notification,
    Person,
    ReadMark,
    first_delivery,
    nobody_yet,
)

CODES_PER_HOUR = 3
TESTS_PER_HOUR = 20


@transaction
async def choose(
    work: UnitOfWork,
    person_id: UUID,
    *,
    choices: Mapping[Group, Mapping[Channel, bool]],
    language: str | None,
    time_zone: str,
    quiet: tuple[time, time] | None,
    seen: int | None,
) -> Person:
    """Replace what a person has chosen. Refusals: stale_version, validation_failed (something has to reach the person)."""
    person = await work.get(Person, person_id)
    if person is None:
        nobody_yet(person_id).require_version(seen)
        person, is_new = await work.get_or_add(Person(person_id=person_id))
        if not is_new:  # somebody else was faster
            person.require_version(seen)
    else:
        person.require_version(seen)
    person.choose(choices)
    person.language, person.time_zone = language, time_zone
    person.quiet_from, person.quiet_until = quiet or (None, None)
    return person


@transaction
async def unsubscribe(work: UnitOfWork, person_id: UUID, group: Group, channel: Channel) -> None:
    """Send a person nothing of this group by this channel any more. Refusal: conflict, if the person has to hear of it."""
    if GROUPS[group].is_required:
        raise Refusal(ErrorCode.CONFLICT, "This has to reach you; you can choose another channel for it in your account.")
    (await person_for_change(work, person_id)).mute([group], channel)


@transaction
async def want_phone(work: UnitOfWork, person_id: UUID, number: str) -> Person:
    """Send a code to a number, which proves that it is the person's. Refusal: rate_limited."""
    person = await person_for_change(work, person_id)
    person.take("phone codes", CODES_PER_HOUR, timedelta(hours=1))
    person.want_phone(number)
    notification = Notification(key=f"phone:{uuid4()}", kind=NotificationKind.PHONE_CODE, customer_id=person_id)
    if person.language:
        notification.language = person.language
    work.add(notification, first_delivery(notification, Channel.SMS))
    return person


@transaction
async def _prove_phone(work: UnitOfWork, person_id: UUID, code: str, secret: bytes) -> Person | None:
    person = await person_for_change(work, person_id)
    return person if person.prove_phone(code, secret) else None


async def prove_phone(database: Database, person_id: UUID, code: str, secret: bytes) -> Person:
    """Take the code that was sent: the number is the person's from now on. Refusal: code_invalid, for a wrong or old code; a
    wrong one is counted all the same."""
    person = await _prove_phone(database, person_id, code, secret)
    if person is None:
        raise Refusal(
            ErrorCode.CODE_INVALID, f"That is not the code, or no longer. After {CODE_TRIES} wrong ones ask for another."
        )
    return person


@transaction
async def forget_phone(work: UnitOfWork, person_id: UUID) -> Person:
    """Send nothing to the person's telephone any more."""
    person = await person_for_change(work, person_id)
    person.forget_phone()
    return person


@transaction
async def remove_browser(work: UnitOfWork, person_id: UUID, browser_id: str) -> None:
    """Refusal: not_found."""
    person = await person_for_change(work, person_id)
    if not person.remove_browser(browser_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such subscription.")


@transaction
async def take_test(work: UnitOfWork, person_id: UUID) -> None:
    """Count one more test message. Refusal: rate_limited."""
    (await person_for_change(work, person_id)).take("test messages", TESTS_PER_HOUR, timedelta(hours=1))


@transaction
async def mark_read(work: UnitOfWork, person_id: UUID, notification_id: UUID) -> None:
    """Note that somebody has read a notification that is within reach."""
    work.add_missing(ReadMark(person_id=person_id, notification_id=notification_id))


@transaction
async def read_all(work: UnitOfWork, person_id: UUID, up_to: UUID) -> None:
    """Note that somebody has read everything up to this notification."""
    reader, _ = await work.get_or_add(InboxReader(person_id=person_id, read_up_to=up_to))
    reader.read_all(up_to)
