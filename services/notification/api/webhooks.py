"""Where providers tell what became of messages. Each proves itself by a signature; what is told twice is taken in once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request

from chassis.clock import utc_now
from chassis.dependencies import Db, from_app
from chassis.webhooks import WebhookSecrets, verify_signature
from contracts.errors import ErrorCode, Refusal
from services.notification import commands, figures
from services.notification.access import ACCESS
from services.notification.channels import DeliveryNews
from services.notification.protocols import dsn, twilio

webhooks = ACCESS.router(prefix="/api/v1/notifications/webhooks", tags=["notification"])


@dataclass(frozen=True)
class WebhookKeys:
    """What webhooks are signed with. Of several the first is in use, and the others count while it is changed."""

    twilio_url: str
    """Where Twilio was told to send them, without the query: its signature is over this."""
    twilio_tokens: Sequence[str]
    email_secrets: WebhookSecrets


Keys = Annotated[WebhookKeys, from_app(WebhookKeys)]


async def signed_by_mail_server(
    request: Request,
    keys: Keys,
    signature: Annotated[
        str | None, Header(alias="X-Email-Signature", max_length=1000, description="`t=<unix time>,v1=<HMAC-SHA256>`")
    ] = None,
) -> None:
    """Refusal: invalid_signature."""
    verify_signature(signature, await request.body(), keys.email_secrets, time.time())


@webhooks.post("/twilio", status_code=204, summary="Twilio tells what became of an SMS, or that somebody answers STOP")
async def twilio_webhook(
    db: Db,
    keys: Keys,
    request: Request,
    message: Annotated[UUID | None, Query(description="Our id of it, as we put it into the address.")] = None,
    signature: Annotated[str | None, Header(alias="X-Twilio-Signature", max_length=200)] = None,
) -> None:
    query = request.url.query
    fields, callback = twilio.callback_in(await request.body())
    twilio.verify_signature(signature, f"{keys.twilio_url}?{query}" if query else keys.twilio_url, fields, keys.twilio_tokens)
    match callback:
        case twilio.StatusCallback() if news := callback.news(message, utc_now()):
            await _apply(db, news)
        case twilio.Incoming() if answer := callback.answer:
            await commands.heed_opt_out(db, answer)


@webhooks.post(
    "/email",
    status_code=204,
    dependencies=[Depends(signed_by_mail_server)],
    summary="A mail server tells what became of a mail",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A report as it came (RFC 3464, RFC 5965); any other mail is taken and ignored.",
            "content": {"message/rfc822": {"schema": {"type": "string", "maxLength": 1_000_000}}},
        }
    },
)
async def email_webhook(db: Db, request: Request) -> None:
    try:
        told = dsn.news_in(await request.body(), utc_now())
    except dsn.UnreadableReport as error:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, f"This is {error}.") from error
    for news in told:
        await _apply(db, news)


async def _apply(db: Db, news: DeliveryNews) -> None:
    is_known = await commands.apply_delivery_news(db, news)
    figures.count_news(news.channel, news.state, is_known=is_known)
