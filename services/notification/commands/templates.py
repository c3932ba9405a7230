"""To write the texts."""

from uuid import UUID

from chassis.database import Database
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification.channels import Channel
from services.notification.model import Template, TextVersion
from services.notification.rendering import Source


@transaction
async def _create(
    work: UnitOfWork, kind: NotificationKind, channel: Channel, language: str, source: Source, by: UUID
) -> tuple[Template, TextVersion]:
    template = Template(kind=kind, channel=channel, language=language)
    version = template.first_version(source, by)
    work.add(template, version)
    return template, version


async def create_template(
    database: Database, kind: NotificationKind, channel: Channel, language: str, source: Source, by: UUID
) -> tuple[Template, TextVersion]:
    """Write the first text of a kind for a channel in a language. Refusals: template_invalid, conflict (there is another one)."""
    try:
        return await _create(database, kind, channel, language, source, by)
    except AlreadyThere as error:
        if again := await _same(database, kind, channel, language, source):
            return again
        raise Refusal(ErrorCode.CONFLICT, "There is such a template already; edit it.") from error


@transaction
async def _same(
    work: UnitOfWork, kind: NotificationKind, channel: Channel, language: str, source: Source
) -> tuple[Template, TextVersion] | None:
    """The template, if it has this text and never had another."""
    template = await work.read(Template, kind, channel, language)
    version = await work.read(TextVersion, kind, channel, language, 1)
    if template is None or version is None or template.latest > 1 or version.source != source:
        return None
    return template, version


@transaction
async def edit_template(
    work: UnitOfWork,
    kind: NotificationKind,
    channel: Channel,
    language: str,
    source: Source,
    *,
    seen: int,
    by: UUID | None = None,
) -> tuple[Template, TextVersion]:
    """Replace a text by a new version, which is live at once. Refusals: stale_version, template_invalid, not_found."""
    template = await _template(work, kind, channel, language, seen)
    version = template.edit(source, by)
    work.add(version)
    return template, version


@transaction
async def go_back(
    work: UnitOfWork, kind: NotificationKind, channel: Channel, language: str, number: int, *, seen: int
) -> tuple[Template, TextVersion]:
    """Make another version live. Refusals: stale_version, not_found."""
    template = await _template(work, kind, channel, language, seen)
    template.go_back(number)
    version = await work.read(TextVersion, kind, channel, language, number)
    if version is None:
        raise LookupError(f"version {number} of {kind} is not there")
    return template, version


async def _template(work: UnitOfWork, kind: NotificationKind, channel: Channel, language: str, seen: int) -> Template:
    template = await work.get(Template, kind, channel, language)
    if template is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such template.")
    template.require_version(seen)
    return template
