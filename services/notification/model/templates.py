"""Templates: the texts of one kind, for one channel, in one language. Every edit is a new version, and one of them is live."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification import rendering
from services.notification.channels import Channel
from services.notification.model.tables import Table
from services.notification.rendering import Source

MOST_VERSIONS = 1000


class TextVersion(Table, table=True):
    """A template as it was written once. It never changes."""

    __tablename__ = "text_versions"

    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, primary_key=True))
    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    language: str = Field(primary_key=True, max_length=20)
    number: int = Field(primary_key=True)
    """Rises from 1."""
    subject: str = Field(max_length=rendering.LONGEST_SUBJECT)
    body: str = Field(max_length=rendering.LONGEST_BODY)
    html: str | None = Field(default=None, max_length=rendering.LONGEST_HTML)
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    created_by: UUID | None = None
    """None: it came with the platform."""

    @property
    def source(self) -> Source:
        return Source(self.subject, self.body, self.html)


class Template(Table, Aggregate, table=True):
    """Which version is live."""

    __tablename__ = "texts"

    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, primary_key=True))
    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    language: str = Field(primary_key=True, max_length=20)
    live: int = 1
    latest: int = 1
    updated_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    def edit(self, source: Source, by: UUID | None) -> TextVersion:
        """A new version, which is live from now on. Refusals: template_invalid, conflict (there are too many)."""
        rendering.check(self.kind, source)
        if self.latest >= MOST_VERSIONS:
            raise Refusal(ErrorCode.CONFLICT, f"A template has at most {MOST_VERSIONS} versions.")
        self.latest += 1
        self.live, self.updated_at = self.latest, utc_now()
        return self._version(self.latest, source, by)

    def first_version(self, source: Source, by: UUID | None) -> TextVersion:
        """The first version of a new template. Refusal: template_invalid."""
        rendering.check(self.kind, source)
        return self._version(1, source, by)

    def go_back(self, number: int) -> None:
        """Make an older version live again; or a newer one, after that. Refusal: not_found."""
        if not 1 <= number <= self.latest:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such version.")
        self.live, self.updated_at = number, utc_now()

    def _version(self, number: int, source: Source, by: UUID | None) -> TextVersion:
        return TextVersion(
            kind=self.kind, channel=self.channel, language=self.language, number=number, created_by=by, **source._asdict()
        )
