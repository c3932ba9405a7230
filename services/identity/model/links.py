"""Single-use links that prove who reads an address: verification, password reset, change of e-mail."""

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID, uuid4

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from contracts.errors import ErrorCode, Refusal
from contracts.events import AccountMailRequested
from contracts.notifications import NotificationKind
from services.identity.model import secret_tokens
from services.identity.model.tables import Table
from services.identity.model.users import User

REQUEST_LASTS = timedelta(days=1)
"""How long a mail that was asked for may wait to be sent."""
MAILS_ALLOWED = 5
MAIL_WINDOW = timedelta(hours=1)


class LinkPurpose(StrEnum):
    """What a link is for."""

    VERIFY_EMAIL = "verify_email"
    PASSWORD_RESET = "password_reset"  # noqa: S105
    EMAIL_CHANGE_OLD = "email_change_old"
    EMAIL_CHANGE_NEW = "email_change_new"

    @property
    def lasts(self) -> timedelta:
        return timedelta(days=1) if self is LinkPurpose.VERIFY_EMAIL else timedelta(hours=1)


EMAIL_CHANGE = frozenset({LinkPurpose.EMAIL_CHANGE_OLD, LinkPurpose.EMAIL_CHANGE_NEW})


class AccountLink(Table, table=True):
    """A link that was asked for. It gets its token only when its mail is sent, and only the token's hash is kept.

    There is one for each purpose and subject: asking again replaces it.
    """

    __tablename__ = "account_links"
    __table_args__ = (UniqueConstraint("purpose", "subject"),)

    request_id: UUID = Field(default_factory=uuid4, primary_key=True)
    purpose: LinkPurpose = Field(sa_column=enum_column(LinkPurpose))
    subject: str = Field(max_length=254)
    """The user's id; of a reset, which is asked for without one, the address."""
    email: str = Field(max_length=254)
    """Where it is sent."""
    user_id: UUID | None = Field(default=None, foreign_key="users.user_id", index=True)
    """Of a reset: known once the mail is sent, if the address has an account at all."""
    token_hash: str | None = Field(default=None, max_length=64, unique=True)
    confirmed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Of a change of e-mail, which two addresses confirm."""
    expires_at: datetime = Field(default_factory=lambda: utc_now() + REQUEST_LASTS, sa_column=time_column(index=True))

    @classmethod
    def of_user(cls, user: User, purpose: LinkPurpose, email: str | None = None) -> Self:
        """A link for a user, by default to their own address."""
        return cls(purpose=purpose, subject=str(user.user_id), email=email or user.email, user_id=user.user_id)

    @classmethod
    def of_reset(cls, email: str, user_id: UUID | None = None) -> Self:
        """A link that resets the password of whoever holds the address."""
        return cls(purpose=LinkPurpose.PASSWORD_RESET, subject=email, email=email, user_id=user_id)

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= utc_now()

    def requested(self) -> AccountMailRequested:
        """The event that asks for its mail."""
        customer_id = None if self.purpose is LinkPurpose.PASSWORD_RESET else self.user_id
        return AccountMailRequested(
            request_id=self.request_id, customer_id=customer_id, kind=NotificationKind(self.purpose.value)
        )

    def new_token(self) -> str:
        """The token of the mail that is sent now; the one before it is worthless."""
        token = secrets.token_urlsafe(32)
        self.token_hash, self.expires_at = secret_tokens.hash_of(token), utc_now() + self.purpose.lasts
        return token

    def confirm(self) -> None:
        """It was followed, and another link must be too."""
        self.token_hash, self.confirmed_at = None, utc_now()


class MailGuard(Table, table=True):
    """Mails that were asked for in one window, to one address or for one account: nobody is flooded through us."""

    __tablename__ = "mail_guards"

    key: str = Field(primary_key=True, max_length=254)
    """The hash of an address, which need not be readable, or a user's id."""
    mails: int = 0
    since: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))

    def allows_one_more(self) -> bool:
        """Whether another mail may be asked for; a window that has passed is forgotten."""
        if self.since + MAIL_WINDOW <= utc_now():
            self.mails, self.since = 0, utc_now()
        return self.mails < MAILS_ALLOWED


def invalid_link() -> Refusal:
    return Refusal(ErrorCode.LINK_INVALID, "This link was used, replaced or has expired. Ask for a new one.")
