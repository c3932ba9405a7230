"""What a person wants to hear, by which channels, when, and where the person is reached."""

from fastapi import Response

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.etags import OptionalSeenVersion, showing, tagged
from contracts.errors import ErrorCode, Refusal
from services.notification import commands
from services.notification.access import ACCESS
from services.notification.api.dependencies import Others, SignedLinks, Wake
from services.notification.channels import Channel
from services.notification.commands import people
from services.notification.model import nobody_yet
from services.notification.schemas import (
    PhoneCode,
    PhoneRequest,
    PreferencesRequest,
    PreferencesView,
)

preferences = ACCESS.router(prefix="/api/v1/notifications", tags=["notification"])


@preferences.get("/preferences", summary="What I want to hear, and by which channels")
async def get_preferences(db: Db, caller: Caller, response: Response) -> PreferencesView:
    person = (await commands.people_of(db, [caller.subject])).get(caller.subject)
    return tagged(response, PreferencesView.of(person or nobody_yet(caller.subject)))


@preferences.put("/preferences", summary="Choose what I want to hear, and by which channels")
async def put_preferences(
    db: Db, caller: Caller, request: PreferencesRequest, seen: OptionalSeenVersion, response: Response
) -> PreferencesView:
    quiet = request.quiet_hours
    with showing(PreferencesView.of):
        person = await people.choose(
            db,
            caller.subject,
            choices=request.choices,
            language=request.language,
            time_zone=request.time_zone,
            quiet=(quiet.begin, quiet.end) if quiet else None,
            seen=seen,
        )
    return tagged(response, PreferencesView.of(person))


@preferences.put("/preferences/phone", summary="Send a code to my telephone, which proves that it is mine")
async def put_phone(db: Db, caller: Caller, request: PhoneRequest, others: Others, wake: Wake) -> PreferencesView:
    if Channel.SMS not in others.senders:
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, "This shop sends no SMS.")
    person = await people.want_phone(db, caller.subject, request.phone)
    wake.set()
    return PreferencesView.of(person)


@preferences.post("/preferences/phone/code", summary="Prove my telephone with the code that was sent to it")
async def prove_phone(db: Db, caller: Caller, request: PhoneCode, links: SignedLinks) -> PreferencesView:
    return PreferencesView.of(await people.prove_phone(db, caller.subject, request.code, links.secret))


@preferences.delete("/preferences/phone", summary="Send nothing to my telephone any more")
async def delete_phone(db: Db, caller: Caller) -> PreferencesView:
    return PreferencesView.of(await people.forget_phone(db, caller.subject))
