"""The texts: per kind, channel and language, in versions. `mails` is how they were edited before there were other channels."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Path, Response
from jinja2 import TemplateError
from pydantic import BaseModel

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.etags import SeenVersion, tagged
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from chassis.store import StaleVersion
from contracts.errors import ErrorCode, Refusal
from contracts.ids import sample_id
from contracts.notifications import NotificationKind
from contracts.paging import Page
from services.notification import commands, messages, rendering
from services.notification.access import ACCESS
from services.notification.api.dependencies import Others, SignedLinks
from services.notification.channels import Channel, Deferred, Message, ProviderAway, Refused
from services.notification.commands import people
from services.notification.kinds import KINDS
from services.notification.model import DEFAULT_LANGUAGE
from services.notification.queries import templates as queries
from services.notification.rendering import Source
from services.notification.schemas import (
    GoBack,
    Language,
    NewText,
    Preview,
    PreviewRequest,
    TemplateRequest,
    TemplateView,
    TestSent,
    TextRequest,
    TextVersionView,
    TextView,
)

templates = ACCESS.router(prefix="/api/v1/notifications/templates", tags=["notification"])
mails = ACCESS.router(prefix="/api/v1/notification-templates", tags=["notification"])
_ONE = "/{kind}/{channel}/{language}"
Tag = Annotated[Language, Path(examples=["en"])]
Number = Annotated[int, Path(ge=1, le=1_000_000)]


@templates.get("", summary="List templates with their live text")
async def list_texts(
    db: MayLag,
    kind: NotificationKind | None = None,
    channel: Channel | None = None,
    language: Language | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TextView]:
    return await queries.list_texts(db, kind=kind, channel=channel, language=language, cursor=cursor, limit=limit)


@templates.post("", summary="Write a text for a channel or a language that has none", status_code=201)
async def create_text(db: Db, caller: Caller, request: NewText, response: Response) -> TextView:
    _for_mails_alone(request.channel, request)
    made = await commands.create_template(db, request.kind, request.channel, request.language, request.source, caller.subject)
    return tagged(response, TextView.of(*made))


@templates.get(_ONE, summary="One template with its live text")
async def get_text(db: Db, kind: NotificationKind, channel: Channel, language: Tag, response: Response) -> TextView:
    return tagged(response, await queries.get_text(db, kind, channel, language))


@templates.put(_ONE, summary="Replace a text by a new version, which is live at once")
async def put_text(
    db: Db,
    caller: Caller,
    kind: NotificationKind,
    channel: Channel,
    language: Tag,
    request: TextRequest,
    seen: SeenVersion,
    response: Response,
) -> TextView:
    _for_mails_alone(channel, request)
    async with _showing(lambda: queries.get_text(db, kind, channel, language)):
        made = await commands.edit_template(db, kind, channel, language, request.source, seen=seen, by=caller.subject)
    return tagged(response, TextView.of(*made))


@templates.get(_ONE + "/versions", summary="All versions of a template, newest first")
async def list_text_versions(
    db: Db, kind: NotificationKind, channel: Channel, language: Tag, cursor: Cursor = None, limit: Limit = 50
) -> Page[TextVersionView]:
    return await queries.list_versions(db, kind, channel, language, cursor=cursor, limit=limit)


@templates.get(_ONE + "/versions/{number}", summary="One version of a template")
async def get_text_version(db: Db, kind: NotificationKind, channel: Channel, language: Tag, number: Number) -> TextVersionView:
    return await queries.get_version(db, kind, channel, language, number)


@templates.post(_ONE + "/live", summary="Make another version live, e.g. an older one again")
async def choose_version(
    db: Db,
    kind: NotificationKind,
    channel: Channel,
    language: Tag,
    request: GoBack,
    seen: SeenVersion,
    response: Response,
) -> TextView:
    async with _showing(lambda: queries.get_text(db, kind, channel, language)):
        made = await commands.go_back(db, kind, channel, language, request.number, seen=seen)
    return tagged(response, TextView.of(*made))


@templates.post(_ONE + "/preview", summary="What would be sent, with example values")
async def preview_text(
    db: Db,
    caller: Caller,
    links: SignedLinks,
    kind: NotificationKind,
    channel: Channel,
    language: Tag,
    request: PreviewRequest,
) -> Preview:
    drafted = await _drafted(db, kind, channel, language, request)
    shown = _message(drafted, kind, channel, language, dict(request.values), "you@example.org", caller, links)
    return Preview(subject=shown.subject, text=shown.text, html=shown.html)


@templates.post(_ONE + "/test", summary="Send it to my own address, with example values")
async def send_test(
    db: Db,
    caller: Caller,
    links: SignedLinks,
    others: Others,
    kind: NotificationKind,
    channel: Channel,
    language: Tag,
    request: PreviewRequest,
) -> TestSent:
    drafted = await _drafted(db, kind, channel, language, request)
    to = await _own_address(db, caller, others, channel)
    message = _message(drafted, kind, channel, language, dict(request.values), to, caller, links)
    await people.take_test(db, caller.subject)
    sender = others.senders[channel]()
    try:
        receipt = await sender.send(message)
    except (Refused, Deferred) as error:
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, f"The provider did not take it: {error}.") from error
    except ProviderAway as error:
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, "The provider takes nothing at the moment.") from error
    finally:
        await sender.close()
    return TestSent(channel=channel, provider_id=receipt.provider_id)


@asynccontextmanager
async def _showing(read: Callable[[], Awaitable[BaseModel]]) -> AsyncIterator[None]:
    """Who is refused inside because of an old version is told what the template is now."""
    try:
        yield
    except StaleVersion as stale:
        raise StaleVersion(stale.aggregate, (await read()).model_dump(mode="json")) from stale


async def _drafted(db: Db, kind: NotificationKind, channel: Channel, language: str, request: PreviewRequest) -> Source:
    """The live text with what is changed of it. Refusals: template_invalid, not_found."""
    if request.subject is not None and (request.body or request.html):
        source = Source(request.subject, request.body or "", request.html or None)
    else:
        _, live = await queries.live_text(db, kind, channel, language)
        html = live.html if request.html is None else request.html or None
        source = Source(request.subject or live.subject, live.body if request.body is None else request.body, html)
    rendering.check(kind, source)
    return source


def _message(
    source: Source,
    kind: NotificationKind,
    channel: Channel,
    language: str,
    values: dict[str, str],
    to: str,
    caller: Caller,
    links: SignedLinks,
) -> Message:
    if unknown := sorted(set(values) - set(KINDS[kind].values)):
        raise Refusal(ErrorCode.TEMPLATE_INVALID, f"This kind has no value '{unknown[0]}'.", extra={"part": "values"})
    values = {**KINDS[kind].values, **values}
    try:
        text = rendering.render(kind, source, values)
    except TemplateError as error:
        raise Refusal(ErrorCode.TEMPLATE_INVALID, f"It does not render: {error}.", extra={"part": "body"}) from error
    return messages.message(
        sample_id(), channel, to, text, kind=kind, language=language, person_id=caller.subject, links=links, values=values
    )


async def _own_address(db: Db, caller: Caller, others: Others, channel: Channel) -> str:
    """Where the caller is reached: nobody can have a test sent to somebody else. Refusal: channel_unavailable."""
    if channel in others.senders:
        if channel is Channel.EMAIL:
            found = await others.directory.verified([caller.subject])
            if caller.subject in found:
                return found[caller.subject]
        else:
            person = (await commands.people_of(db, [caller.subject])).get(caller.subject)
            address = person.own_address(channel) if person else None
            if address is not None:
                return address
    raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, f"You are not reached by {channel}: prove an address of yours first.")


def _for_mails_alone(channel: Channel, request: TextRequest) -> None:
    if request.html is not None and channel is not Channel.EMAIL:
        raise Refusal(ErrorCode.TEMPLATE_INVALID, "Only mails have HTML.", extra={"part": "html"})


@mails.get("", summary="List the texts of mails", deprecated=True)
async def list_templates(db: MayLag, cursor: Cursor = None, limit: Limit = 50) -> Page[TemplateView]:
    return await queries.list_templates(db, cursor, limit)


@mails.get("/{kind}", summary="The text of one kind of mail", deprecated=True)
async def get_template(db: Db, kind: NotificationKind, response: Response) -> TemplateView:
    return tagged(response, await queries.get_template(db, kind))


@mails.put("/{kind}", summary="Replace the text of one kind of mail", deprecated=True)
async def put_template(
    db: Db, caller: Caller, kind: NotificationKind, request: TemplateRequest, seen: SeenVersion, response: Response
) -> TemplateView:
    source = Source(request.subject, request.body)
    async with _showing(lambda: queries.get_template(db, kind)):
        made = await commands.edit_template(db, kind, Channel.EMAIL, DEFAULT_LANGUAGE, source, seen=seen, by=caller.subject)
    return tagged(response, TemplateView.of(*made))
