"""Reads of texts."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Text, any_, bindparam, cast
from sqlalchemy import select as statement
from sqlmodel import col, select

from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.statements import prepared
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from contracts.paging import Page
from services.notification.channels import Channel
from services.notification.messages import Texts
from services.notification.model import DEFAULT_LANGUAGE, Template, TextVersion
from services.notification.rendering import Source
from services.notification.schemas import TemplateView, TextVersionView, TextView

_IS_LIVE = (
    (col(TextVersion.kind) == col(Template.kind))
    & (col(TextVersion.channel) == col(Template.channel))
    & (col(TextVersion.language) == col(Template.language))
    & (col(TextVersion.number) == col(Template.live))
)
_SHOWN: tuple[Any, ...] = (
    *(Template.kind, Template.channel, Template.language),
    *(TextVersion.subject, TextVersion.body, TextVersion.html),
)
_LIVE = prepared(
    statement(*[col(column) for column in _SHOWN])
    .join(TextVersion, _IS_LIVE)
    .where(col(Template.kind) == any_(bindparam("kinds", type_=ARRAY(Text))))
)


async def live_texts(database: Reader, kinds: Collection[NotificationKind]) -> Texts:
    """The live texts of these kinds, with which messages are written now."""
    rows = await database.rows(_LIVE, kinds=[str(kind) for kind in kinds])
    return {
        (NotificationKind(kind), Channel(channel), language): Source(subject, body, html)
        for kind, channel, language, subject, body, html in rows
    }


@may_lag
async def list_texts(
    database: Reader,
    *,
    kind: NotificationKind | None,
    channel: Channel | None,
    language: str | None,
    cursor: str | None,
    limit: int,
) -> Page[TextView]:
    """Templates with their live text, by kind, channel and language."""
    key = (col(Template.kind), col(Template.channel), col(Template.language))
    query = select(Template, TextVersion).join(TextVersion, _IS_LIVE).order_by(*key).limit(limit + 1)
    for column, wanted in zip(key, (kind, channel, language), strict=True):
        if wanted is not None:
            query = query.where(column == wanted)
    if after := decode_cursor(cursor, KeyPart.TEXT, KeyPart.TEXT, KeyPart.TEXT):
        a, b, c = key
        query = query.where(
            (a > after[0]) | ((a == after[0]) & (b > after[1])) | ((a == after[0]) & (b == after[1]) & (c > after[2]))
        )
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: TextView.of(*row), lambda row: (row[0].kind, row[0].channel, row[0].language))


async def get_text(database: Database, kind: NotificationKind, channel: Channel, language: str) -> TextView:
    """A template with its live text. Refusal: not_found."""
    return TextView.of(*await live_text(database, kind, channel, language))


async def live_text(database: Database, kind: NotificationKind, channel: Channel, language: str) -> tuple[Template, TextVersion]:
    """Refusal: not_found."""
    this = (col(Template.kind) == kind) & (col(Template.channel) == channel) & (col(Template.language) == language)
    async with database.reading() as session:
        found = (await session.exec(select(Template, TextVersion).join(TextVersion, _IS_LIVE).where(this))).first()
    if found is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such template.")
    return found[0], found[1]


async def get_version(
    database: Database, kind: NotificationKind, channel: Channel, language: str, number: int
) -> TextVersionView:
    """One version. Refusal: not_found."""
    async with database.reading() as session:
        version = await session.get(TextVersion, (kind, channel, language, number))
    if version is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such version.")
    return TextVersionView.of(version)


async def list_versions(
    database: Database, kind: NotificationKind, channel: Channel, language: str, *, cursor: str | None, limit: int
) -> Page[TextVersionView]:
    """All that a template ever was, newest first."""
    this = (col(TextVersion.kind) == kind) & (col(TextVersion.channel) == channel) & (col(TextVersion.language) == language)
    query = select(TextVersion).where(this).order_by(col(TextVersion.number).desc()).limit(limit + 1)
    if before := decode_cursor(cursor, KeyPart.NUMBER):
        query = query.where(cast(col(TextVersion.number), BigInteger) < before[0])  # the cursor may have any number
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, TextVersionView.of, lambda row: (row.number,))


@may_lag
async def list_templates(database: Reader, cursor: str | None, limit: int) -> Page[TemplateView]:
    """The texts of mails in the shop's own language, by kind."""
    is_mail = (col(Template.channel) == Channel.EMAIL) & (col(Template.language) == DEFAULT_LANGUAGE)
    query = select(Template, TextVersion).join(TextVersion, _IS_LIVE).where(is_mail)
    query = query.order_by(col(Template.kind)).limit(limit + 1)
    if after := decode_cursor(cursor, KeyPart.TEXT):
        query = query.where(col(Template.kind) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: TemplateView.of(*row), lambda row: (row[0].kind,))


async def get_template(database: Database, kind: NotificationKind) -> TemplateView:
    """The text of one kind of mail in the shop's own language. Refusal: not_found."""
    return TemplateView.of(*await live_text(database, kind, Channel.EMAIL, DEFAULT_LANGUAGE))
