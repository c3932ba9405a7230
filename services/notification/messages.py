"""From a notification to the message that one channel sends."""

from collections.abc import Mapping
from uuid import UUID

from contracts.notifications import NotificationKind
from services.notification import layout
from services.notification.channels import Channel, Message
from services.notification.kinds import KINDS, is_refusable
from services.notification.links import Links, Unsubscribing
from services.notification.model import languages_of
from services.notification.protocols.segments import shortened
from services.notification.rendering import Source, Text, render

Texts = Mapping[tuple[NotificationKind, Channel, str], Source]
"""The live templates by kind, channel and language."""
SMS_PARTS = 3
"""Of the longest text message that goes out of itself."""
_SHORT = (Channel.SMS, Channel.PUSH)


def find(texts: Texts, kind: NotificationKind, channel: Channel, language: str) -> tuple[Source, Channel]:
    """The template for a channel, and whose it is: an SMS or a push message without one of its own says what stands in the inbox.
    LookupError: there is none."""
    channels = (channel, Channel.INBOX) if channel in _SHORT else (channel,)
    for each in languages_of(language):
        for own in channels:
            if source := texts.get((kind, own, each)):
                return source, own
    raise LookupError(f"{kind} has no text for {channel}")


def written(texts: Texts, kind: NotificationKind, channel: Channel, language: str, values: Mapping[str, str]) -> Text:
    """What a person reads. Raises TemplateError and LookupError."""
    source, own = find(texts, kind, channel, language)
    text = render(kind, source, values)
    if channel is Channel.SMS and own is not channel:  # which has no title
        return text._replace(body=f"{text.subject}. {text.body}")
    return text


def message(
    message_id: UUID,
    channel: Channel,
    to: str,
    text: Text,
    *,
    kind: NotificationKind,
    language: str,
    person_id: UUID | None,
    links: Links,
    values: Mapping[str, str],
) -> Message:
    """A message with all that is around its text. `values`: what the text may name; a push message leads to where there is
    something to be done, or else to its order."""
    if channel is Channel.SMS:
        return Message(message_id, channel, to, "", shortened(text.body.strip(), SMS_PARTS))
    if channel is not Channel.EMAIL:
        order_id = values.get("order_id")
        url = values.get("url") or (links.order_url(order_id) if order_id else None)
        return Message(message_id, channel, to, text.subject, text.body.strip(), url=url)
    headers: dict[str, str] = {}
    url = None
    if person_id is not None and is_refusable(kind):
        url = links.unsubscribe_url(Unsubscribing(person_id, KINDS[kind].group, channel))
        headers = {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    content = text.html if text.html is not None else layout.paragraphs(text.body)
    html = layout.page(text.subject, content, language=language, unsubscribe_url=url)
    return Message(message_id, channel, to, text.subject, layout.with_footer(text.body, url), html, headers)
