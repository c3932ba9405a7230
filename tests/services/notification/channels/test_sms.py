"""SMS from the queue to what Twilio tells of them, over real sockets."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.identity import Role
from services.notification.channels import Channel
from services.notification.model import DeliveryStatus
from services.notification.protocols.twilio import signature
from simulators.twilio.app import incoming
from tests.conftest import TokenMint, eventually
from tests.services.notification.channels.conftest import ACCOUNT, OLD_TOKEN, TOKEN, Shop, Twilio
from tests.services.notification.conftest import deliveries

WEBHOOK = "/api/v1/notifications/webhooks/twilio"
NUMBER = "+491701234567"
SID = "SM" + "0" * 32


async def ask_for_code(shop: Shop, mint: TokenMint, number: str = NUMBER) -> UUID:
    """A message that goes by SMS; whose it is."""
    person_id = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=person_id)
    response = await shop.client.put("/api/v1/notifications/preferences/phone", json={"phone": number}, headers=headers)
    assert response.status_code == 200, response.text
    return person_id


async def status_of_sms(shop: Shop) -> DeliveryStatus:
    [delivery] = await deliveries(shop.database, Channel.SMS)
    return delivery.status


async def becomes(shop: Shop, status: DeliveryStatus) -> None:
    async def has() -> bool:
        return await status_of_sms(shop) is status

    await eventually(has, what=f"the SMS is {status}")


async def test_a_code_is_sent_and_arrives(shop: Shop, mint: TokenMint, twilio: Twilio) -> None:
    await twilio.faults(step_ms=0)
    person_id = await ask_for_code(shop, mint)
    assert await shop.send(Channel.SMS) == 1
    await becomes(shop, DeliveryStatus.DELIVERED)
    [message] = await twilio.messages(To=NUMBER)
    code = "".join(filter(str.isdigit, message["body"]))[:6]
    headers = mint.headers(Role.CUSTOMER, subject=person_id)
    proven = await shop.client.post("/api/v1/notifications/preferences/phone/code", json={"code": code}, headers=headers)
    assert proven.json()["phone"] == NUMBER


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        ("+15005550010", DeliveryStatus.BOUNCED, "30003"),
        ("+15005550011", DeliveryStatus.BOUNCED, "30005"),
        ("+15005550014", DeliveryStatus.BOUNCED, "21610"),
    ],
)
async def test_what_does_not_arrive_is_told(
    shop: Shop, mint: TokenMint, twilio: Twilio, number: str, status: DeliveryStatus, reason: str
) -> None:
    await twilio.faults(step_ms=0)
    await ask_for_code(shop, mint, number)
    await shop.send(Channel.SMS)
    await becomes(shop, status)
    [delivery] = await deliveries(shop.database, Channel.SMS)
    assert (delivery.reason or "").startswith(reason)


@pytest.mark.parametrize(
    "faults",
    [
        {"callbacks_early": True},
        {"callbacks_twice": True},
        {"callbacks_newest_first": True, "callbacks_held": True},
        {"callbacks_late_ms": 300},
    ],
    ids=["early", "twice", "out of order", "late"],
)
async def test_callbacks_come_as_they_like(shop: Shop, mint: TokenMint, twilio: Twilio, faults: dict[str, Any]) -> None:
    await twilio.faults(step_ms=0, **faults)
    await ask_for_code(shop, mint)
    await shop.send(Channel.SMS)
    if faults.get("callbacks_held"):

        async def all_wait() -> bool:
            return bool((await twilio.http.get("/_control/callbacks")).json()["pending"] == 3)

        await eventually(all_wait, what="three callbacks wait")
        await twilio.faults(callbacks_held=False)
    await becomes(shop, DeliveryStatus.DELIVERED)

    async def all_taken() -> bool:
        return bool((await twilio.http.get("/_control/callbacks")).json()["pending"] == 0)

    await eventually(all_taken, what="all callbacks are taken")
    [delivery] = await deliveries(shop.database, Channel.SMS)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.DELIVERED, 1)
    assert delivery.provider_id == (await twilio.messages())[0]["sid"]


async def test_who_has_answered_stop_is_sent_nothing_more(shop: Shop, mint: TokenMint, twilio: Twilio) -> None:
    await twilio.http.post("/_control/opt-outs", json={"number": NUMBER})
    person_id = await ask_for_code(shop, mint)
    await shop.send(Channel.SMS)
    assert await status_of_sms(shop) is DeliveryStatus.FAILED
    headers = mint.headers(Role.CUSTOMER, subject=person_id)
    told = (await shop.client.get("/api/v1/notifications/preferences", headers=headers)).json()["suppressed"]
    assert told["sms"].startswith("21610")


async def answers(shop: Shop, word: str, fields: dict[str, str] | None = None) -> dict[str, str]:
    """Somebody answers an SMS, which Twilio tells the shop; what it tells."""
    fields = fields or incoming(ACCOUNT, NUMBER, word)
    signed = {"X-Twilio-Signature": signature(shop.url + WEBHOOK, list(fields.items()), TOKEN)}
    assert (await shop.client.post(WEBHOOK, data=fields, headers=signed)).status_code == 204
    return fields


async def test_stop_that_is_answered_to_an_sms_counts_until_start(shop: Shop, mint: TokenMint, twilio: Twilio) -> None:
    people = [await ask_for_code(shop, mint) for _ in range(2)]  # who share a telephone
    await shop.send(Channel.SMS)
    texts = [message["body"] for message in await twilio.messages(To=NUMBER)]
    for person_id in people:
        headers = mint.headers(Role.CUSTOMER, subject=person_id)
        for text in texts:
            code = "".join(filter(str.isdigit, text))[:6]
            await shop.client.post("/api/v1/notifications/preferences/phone/code", json={"code": code}, headers=headers)

    async def suppressed() -> list[str | None]:
        found = []
        for person_id in people:
            headers = mint.headers(Role.CUSTOMER, subject=person_id)
            told = (await shop.client.get("/api/v1/notifications/preferences", headers=headers)).json()
            assert told["phone"] == NUMBER
            found.append(told["suppressed"].get("sms"))
        return found

    assert await suppressed() == [None, None]
    await answers(shop, "HELP")
    assert await suppressed() == [None, None]
    stop = await answers(shop, "STOP")
    assert [(why or "")[:5] for why in await suppressed()] == ["21610", "21610"]
    await answers(shop, "START")
    assert await suppressed() == [None, None]
    await answers(shop, "STOP", stop)  # told again, late
    assert await suppressed() == [None, None]


async def test_only_twilio_tells_of_answers(shop: Shop) -> None:
    fields = incoming(ACCOUNT, NUMBER, "STOP")
    signed = {"X-Twilio-Signature": signature(shop.url + WEBHOOK, list(fields.items()), "another")}
    assert (await shop.client.post(WEBHOOK, data=fields, headers=signed)).json()["code"] == "invalid_signature"


async def test_only_twilio_is_believed(shop: Shop) -> None:
    fields = [("MessageSid", SID), ("MessageStatus", "delivered")]
    for token, expected in ((TOKEN, 204), (OLD_TOKEN, 204), ("another", 401)):
        path = f"{WEBHOOK}?message={uuid4()}"
        signed = {"X-Twilio-Signature": signature(shop.url + path, fields, token)}
        response = await shop.client.post(path, data=dict(fields), headers=signed)
        assert response.status_code == expected, response.text
    assert (await shop.client.post(WEBHOOK, data=dict(fields))).json()["code"] == "invalid_signature"
    other = signature(f"{shop.url}{WEBHOOK}?message={uuid4()}", fields, TOKEN)
    path = f"{WEBHOOK}?message={uuid4()}"
    response = await shop.client.post(path, data=dict(fields), headers={"X-Twilio-Signature": other})
    assert response.json()["code"] == "invalid_signature"


async def test_what_twilio_tells_beside_statuses_is_taken_and_ignored(shop: Shop) -> None:
    for fields in ([("Body", "STOP"), ("From", NUMBER)], [("MessageSid", SID), ("MessageStatus", "sent")], []):
        signed = {"X-Twilio-Signature": signature(shop.url + WEBHOOK, fields, TOKEN)}
        assert (await shop.client.post(WEBHOOK, data=dict(fields), headers=signed)).status_code == 204
    response = await shop.client.post(WEBHOOK, content=b"\xff" * 10)
    assert response.json()["code"] == "malformed_request"
