"""Bodies of notification's public endpoints: what became of notifications, templates, the inbox."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from re import fullmatch
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from contracts.base import LINES, NO_CONTROLS, Contract, Request
from contracts.notifications import NotificationKind
from contracts.paging import Page
from services.notification.channels import Channel
from services.notification.kinds import CHOSEN_GROUPS, GROUPS, KINDS, Group
from services.notification.model.notifications import Audience, DeliveryStatus, Outcome
from services.notification.protocols.webpush import LONGEST_ENDPOINT, PublicKey, SubscriptionKeys
from services.notification.rendering import LONGEST_BODY, LONGEST_HTML, LONGEST_SUBJECT, Source, unused

if TYPE_CHECKING:
    from services.notification.model import Attempt, Delivery, Notification, Person, Template, TextVersion

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$", max_length=20)]
"""A language tag (BCP 47), e.g. `de` or `de-AT`."""

_S = DeliveryStatus
_BEST_FIRST = (_S.DELIVERED, _S.SENT, _S.PENDING, _S.WAITING, _S.BOUNCED, _S.FAILED, _S.SUPPRESSED)


class AttemptView(Contract):
    """One try to send a message."""

    number: int
    outcome: Outcome
    reason: str | None = None
    at: datetime


class DeliveryView(Contract):
    """A notification on its way by one channel."""

    delivery_id: UUID
    channel: Channel
    status: DeliveryStatus
    attempts: int
    reason: str | None = None
    provider_id: str | None = None
    """The provider's own name for the message."""
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    """When it arrived or came back, as the provider told."""

    @classmethod
    def of(cls, delivery: "Delivery") -> Self:
        return cls.model_validate(delivery.model_dump())


class NotificationView(Contract):
    """What somebody was told, and what became of it. `status`, `attempts`, `reason` and `sent_at` are those of the delivery that
    came furthest; one that stands in the inbox alone has arrived."""

    notification_id: UUID
    order_id: UUID | None
    """None for one about an account."""
    customer_id: UUID | None
    kind: NotificationKind
    audience: Audience = Audience.CUSTOMER
    status: str
    """PENDING, WAITING (for the end of quiet hours), SENT (the provider took it), DELIVERED, BOUNCED, FAILED, or SUPPRESSED (not
    to be sent, e.g. to an unverified address)."""
    attempts: int
    reason: str | None = None
    """Why the last try failed, or why it is not to be sent."""
    created_at: datetime
    sent_at: datetime | None = None
    deliveries: Annotated[list[DeliveryView], Field(default_factory=list)]

    @classmethod
    def of(cls, notification: "Notification", deliveries: Sequence["Delivery"]) -> Self:
        return cls.model_validate(_facts(notification, deliveries))


class DeliveryDetail(DeliveryView):
    tries: Annotated[list[AttemptView], Field(default_factory=list)]


class NotificationDetail(NotificationView):
    deliveries: Annotated[list[DeliveryDetail], Field(default_factory=list)]  # type: ignore[assignment]

    @classmethod
    def with_attempts(cls, notification: "Notification", deliveries: Sequence["Delivery"], attempts: Sequence["Attempt"]) -> Self:
        tries: dict[UUID, list[dict[str, object]]] = defaultdict(list)
        for attempt in attempts:
            tries[attempt.delivery_id].append(attempt.model_dump())
        facts = _facts(notification, deliveries)
        found = [each.model_dump() | {"tries": tries[each.delivery_id]} for each in deliveries]
        return cls.model_validate(facts | {"deliveries": found})


def _facts(notification: "Notification", deliveries: Sequence["Delivery"]) -> dict[str, object]:
    best = min(deliveries, key=lambda delivery: _BEST_FIRST.index(delivery.status), default=None)
    told: dict[str, object] = {"status": _S.DELIVERED, "attempts": 0}
    if best is not None:
        told = best.model_dump(include={"status", "attempts", "reason", "sent_at"})
    return notification.model_dump() | told | {"deliveries": [delivery.model_dump() for delivery in deliveries]}


class TextRequest(Request):
    """A text, in Jinja2 without loops, calls and assignments. `html` is for mails alone; without it the HTML part is made of
    `body`, and without `body` the plain-text part is made of `html`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subject": "Your order is on its way",
                    "body": "Hello,\n\nOrder {{ order_id }} has left.\n"
                    "{% if tracking_number %}Follow it: {{ tracking_number }}\n{% endif %}",
                }
            ]
        }
    )

    subject: Annotated[str, Field(min_length=1, max_length=LONGEST_SUBJECT, pattern=NO_CONTROLS)]
    body: Annotated[str, Field(max_length=LONGEST_BODY, pattern=LINES)] = ""
    html: Annotated[str, Field(min_length=1, max_length=LONGEST_HTML, pattern=LINES)] | None = None

    @property
    def source(self) -> Source:
        return Source(self.subject, self.body, self.html)


class NewText(TextRequest):
    """A template that there is not yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "order_shipped",
                    "channel": "sms",
                    "language": "de",
                    "subject": "Ihre Bestellung",
                    "body": "Ihre Bestellung {{ order_id }} ist unterwegs.",
                }
            ]
        }
    )

    kind: NotificationKind
    channel: Channel
    language: Language


class GoBack(Request):
    """Which version is to be live."""

    number: Annotated[int, Field(ge=1, le=1_000_000)]


class TextVersionView(Contract):
    """A template as it was written once."""

    number: int
    subject: str
    body: str
    html: str | None = None
    created_at: datetime
    created_by: UUID | None = None
    """The admin; None: it came with the platform."""

    @classmethod
    def of(cls, version: "TextVersion") -> Self:
        return cls.model_validate(version.model_dump())


class TextView(Contract):
    """A template: the text of one kind, for one channel, in one language."""

    kind: NotificationKind
    channel: Channel
    language: str
    live: TextVersionView
    latest: int
    """How many versions there are."""
    values: dict[str, str]
    """What the text may name, with an example."""
    unused: list[str]
    """Those of them that it does not name."""
    updated_at: datetime
    version: int
    """Of the template as a whole: also the ETag; send it back as If-Match."""

    @classmethod
    def of(cls, template: "Template", live: "TextVersion") -> Self:
        values = KINDS[template.kind].values
        told = {"live": TextVersionView.of(live), "values": dict(values), "unused": unused(template.kind, live.source)}
        return cls.model_validate(template.model_dump() | told)


class PreviewRequest(Request):
    """A text that is not saved yet; what is missing is as it is now. `values`: in place of the examples."""

    subject: Annotated[str, Field(min_length=1, max_length=LONGEST_SUBJECT, pattern=NO_CONTROLS)] | None = None
    body: Annotated[str, Field(max_length=LONGEST_BODY, pattern=LINES)] | None = None
    html: Annotated[str, Field(max_length=LONGEST_HTML, pattern=LINES)] | None = None
    values: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[str, Field(max_length=2000, pattern=LINES)]],
        Field(max_length=20, default_factory=dict),
    ]


class Preview(Contract):
    """What would be sent."""

    subject: str
    text: str
    html: str | None = None


class TestSent(Contract):
    """A provider took the test message."""

    channel: Channel
    provider_id: str | None = None


class TemplateRequest(Request):
    """A mail's text, in Jinja2 without loops, calls and assignments."""

    model_config = TextRequest.model_config

    subject: Annotated[str, Field(min_length=1, max_length=LONGEST_SUBJECT, pattern=NO_CONTROLS)]
    body: Annotated[str, Field(min_length=1, max_length=LONGEST_BODY, pattern=LINES)]


class TemplateView(Contract):
    """The text of one kind of mail, in the shop's own language."""

    kind: NotificationKind
    subject: str
    body: str
    values: list[str]
    """What the text may name."""
    updated_at: datetime
    version: int
    """Also the ETag; send it back as If-Match."""

    @classmethod
    def of(cls, template: "Template", live: "TextVersion") -> Self:
        told = {"subject": live.subject, "body": live.body, "values": sorted(KINDS[template.kind].values)}
        return cls.model_validate(template.model_dump() | told)


class InboxItem(Contract):
    """Something that a person, or the staff, is told in the shop's own pages."""

    notification_id: UUID
    kind: NotificationKind
    audience: Audience
    """`customer`: for you alone; otherwise for all of the staff who do this work."""
    order_id: UUID | None = None
    warehouse_id: str | None = None
    title: str
    text: str
    created_at: datetime
    is_read: bool = False


class InboxPage(Page[InboxItem]):
    unread: int
    """How many are unread, on all pages; at most 1000 are counted."""


class ReadAll(Request):
    """Mark as read what came up to this notification; None: all."""

    up_to: UUID | None = None


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is no time zone of the IANA database, such as Europe/Berlin")
    return name


def _chosen_group(group: Group) -> Group:
    if group not in CHOSEN_GROUPS:
        raise ValueError(f"nobody chooses this; there are {', '.join(CHOSEN_GROUPS)}")
    return group


def _clock_time(value: object) -> object:
    if not isinstance(value, time) and not (isinstance(value, str) and fullmatch(CLOCK_TIME, value)):
        raise ValueError("must be a time of day without a time zone, e.g. 22:00")
    return value


CLOCK_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?"
ClockTime = Annotated[time, BeforeValidator(_clock_time), WithJsonSchema({"type": "string", "pattern": f"^{CLOCK_TIME}$"})]
"""As a clock on the wall shows it. `format: time` of JSON Schema would want a time zone."""


class QuietHours(Request):
    """From when until when telephones make no noise, by the person's own clock; over midnight if `end` is earlier."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"begin": "22:00", "end": "07:00"}]})

    begin: ClockTime
    end: ClockTime

    @model_validator(mode="after")
    def _is_some_time(self) -> Self:
        if self.begin == self.end:
            raise ValueError("begin and end are the same")
        return self


class PreferencesRequest(Request):
    """All of it: what is not said is as for somebody who has chosen nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "choices": {"deliveries": {"email": False, "push": True}},
                    "language": "de",
                    "time_zone": "Europe/Berlin",
                    "quiet_hours": {"begin": "22:00", "end": "07:00"},
                }
            ]
        }
    )

    choices: Annotated[
        dict[Annotated[Group, AfterValidator(_chosen_group)], Annotated[dict[Channel, bool], Field(max_length=len(Channel))]],
        Field(max_length=len(CHOSEN_GROUPS), default_factory=dict),
    ]
    """Of a group, by which channels it is wanted, and by which not."""
    language: Language | None = None
    time_zone: Annotated[str, Field(max_length=60), AfterValidator(_known_zone)] = "UTC"
    quiet_hours: QuietHours | None = None
    """SMS and push messages wait until they end, unless they are urgent. Mails make no noise and do not wait."""


class GroupView(Contract):
    """Kinds of notifications that are chosen together."""

    group: Group
    about: str
    is_required: bool
    """Whether at least one of email, sms and push has to stay on."""
    kinds: list[NotificationKind]
    channels: dict[Channel, bool]


class BrowserView(Contract):
    """A browser that push messages go to."""

    subscription_id: UUID
    added_at: datetime

    @classmethod
    def of(cls, browser: Mapping[str, Any]) -> Self:
        return cls(subscription_id=browser["id"], added_at=browser["added_at"])


class PreferencesView(Contract):
    groups: list[GroupView]
    language: str | None
    time_zone: str
    quiet_hours: QuietHours | None
    phone: str | None
    """The number that SMS go to; it is proven to be yours."""
    phone_to_prove: str | None
    """A number to which a code was sent that has not come back yet."""
    browsers: list[BrowserView]
    suppressed: dict[Channel, str]
    """Channels by which nothing is sent, because the address there is dead, and why."""
    version: int
    """Also the ETag; you may send it back as If-Match."""

    @classmethod
    def of(cls, person: "Person") -> Self:
        quiet = None
        if person.quiet_from is not None and person.quiet_until is not None:
            quiet = QuietHours(begin=person.quiet_from, end=person.quiet_until)
        return cls(
            groups=[_group_view(person, group) for group in CHOSEN_GROUPS],
            language=person.language,
            time_zone=person.time_zone,
            quiet_hours=quiet,
            phone=person.phone,
            phone_to_prove=person.wanted_phone,
            browsers=[BrowserView.of(one) for one in person.browsers],
            suppressed={Channel(channel): why for channel, why in person.suppressed.items()},
            version=person.version,
        )


def _group_view(person: "Person", group: Group) -> GroupView:
    kinds = [kind for kind, policy in KINDS.items() if policy.group is group]
    channels = {channel: person.wants(kinds[0], channel) for channel in Channel}
    policy = GROUPS[group]
    return GroupView(group=group, about=policy.about, is_required=policy.is_required, kinds=kinds, channels=channels)


class PhoneRequest(Request):
    """A telephone number with its country, e.g. `+4930123456` (E.164)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"phone": "+4930123456"}]})

    phone: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{7,14}$")]


class PhoneCode(Request):
    """The code that was sent to the number."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "204816"}]})

    code: Annotated[str, Field(pattern=r"^[0-9]{6}$")]


class PushSubscription(Request):
    """What `PushManager.subscribe()` gives, as `JSON.stringify` writes it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk",
                    "expirationTime": None,
                    "keys": {
                        "p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",
                        "auth": "tBHItJI5svbpez7KI4CCXg",
                    },
                }
            ]
        }
    )

    endpoint: Annotated[str, Field(max_length=LONGEST_ENDPOINT, pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$")]
    expirationTime: Annotated[float, Field(ge=0, le=8.64e15)] | None = None  # noqa: N815 - the browser's name, in ms
    keys: SubscriptionKeys
    vapid_key: PublicKey | None = None
    """Our key that it was made with, as `GET /push/key` told it; without it, the one that is in use."""

    @property
    def as_browser_wrote_it(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class PushKey(Contract):
    """For `applicationServerKey` of `PushManager.subscribe()`."""

    public_key: str
    """P-256, base64url."""


class SubscriptionAdded(Contract):
    subscription_id: UUID
    """For `DELETE`."""
