"""Preferences over HTTP: what a person chooses, a telephone that is proven, browsers, and the link that unsubscribes."""

import asyncio
from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.events import CustomerForgotten
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.notification import commands
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.channels import Channel
from services.notification.delivery import DeliveryJob
from services.notification.kinds import Group
from services.notification.links import Links, Unsubscribing
from tests.conftest import TokenMint
from tests.personal import found_in
from tests.services.notification.conftest import LINKS, Mailbox, People, Phones
from tests.services.notification.test_channels import job, tell
from tests.services.notification.test_delivery import Reception, receiving
from tests.services.notification.test_queue import consume

PREFERENCES = "/api/v1/notifications/preferences"
NIGHT = {"begin": "22:00:00", "end": "07:00:00"}
CHOICE = {"choices": {"deliveries": {"email": False}}, "language": "de", "time_zone": "Europe/Berlin", "quiet_hours": NIGHT}
SUBSCRIPTION = {
    "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk",
    "expirationTime": None,
    "keys": {
        "p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",
        "auth": "tBHItJI5svbpez7KI4CCXg",
    },
}


def channels(view: dict[str, Any], group: str) -> dict[str, bool]:
    found: dict[str, bool] = next(each["channels"] for each in view["groups"] if each["group"] == group)
    return found


async def test_what_is_chosen_is_kept_and_whoever_has_seen_an_older_choice_is_told(
    client: httpx2.AsyncClient, mint: TokenMint
) -> None:
    me = mint.headers(Role.CUSTOMER, subject=uuid4())
    before = await client.get(PREFERENCES, headers=me)
    assert channels(before.json(), "deliveries") == {"email": True, "sms": False, "push": True, "inbox": True}
    assert [group["group"] for group in before.json()["groups"]] == ["orders", "deliveries", "returns", "reminders"]
    put = await client.put(PREFERENCES, json=CHOICE, headers=me | {"If-Match": before.headers["etag"]})
    assert put.status_code == 200, put.text
    view = (await client.get(PREFERENCES, headers=me)).json()
    assert view == put.json()
    assert (view["language"], view["time_zone"], view["quiet_hours"]) == ("de", "Europe/Berlin", NIGHT)
    assert channels(view, "deliveries")["email"] is False
    stale = await client.put(PREFERENCES, json={}, headers=me | {"If-Match": before.headers["etag"]})
    assert (stale.status_code, stale.json()["current"]) == (412, view)
    again = await client.put(PREFERENCES, json=CHOICE, headers=me)  # whatever it is now
    assert again.json() == view


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"choices": {"orders": {"email": False}}}, "choices.orders"),
        ({"choices": {"account": {"email": False}}}, "choices.account.[key]"),
        ({"choices": {"orders": {"pigeon": True}}}, "choices.orders.pigeon.[key]"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"language": "Deutsch, bitte"}, "language"),
        ({"quiet_hours": {"begin": "22:00", "end": "22:00"}}, "quiet_hours"),
        ({"quiet_hours": {"begin": "25:00", "end": "07:00"}}, "quiet_hours.begin"),
        ({"quiet_hours": {"begin": "22:00", "end": "07:00Z"}}, "quiet_hours.end"),
        ({"quiet_hours": {"begin": "22:00", "end": "07:00:00.5"}}, "quiet_hours.end"),
        ({"quiet_hours": {"begin": 79_200, "end": "07:00"}}, "quiet_hours.begin"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_with_its_field(
    client: httpx2.AsyncClient, mint: TokenMint, body: dict[str, Any], field: str
) -> None:
    response = await client.put(PREFERENCES, json=body, headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


async def test_a_telephone_is_proven_by_the_code_that_came_there(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, people: People, phones: Phones
) -> None:
    me = mint.headers(Role.CUSTOMER, subject=(customer_id := people.customer()))
    for wrong in ("030 123456", "+49", "+49301234567890123", "+4930123456\n"):
        assert (await client.put(f"{PREFERENCES}/phone", json={"phone": wrong}, headers=me)).status_code == 422
    asked = await client.put(f"{PREFERENCES}/phone", json={"phone": "+4930123456"}, headers=me)
    assert (asked.json()["phone"], asked.json()["phone_to_prove"]) == (None, "+4930123456")
    await job(database, people, phones, Channel.SMS).send_due()
    code = phones.messages[0].text[:6]
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    refused = await client.post(f"{PREFERENCES}/phone/code", json={"code": wrong}, headers=me)
    assert (refused.status_code, refused.json()["code"]) == (409, "code_invalid")
    other = mint.headers(Role.CUSTOMER, subject=people.customer())
    assert (await client.post(f"{PREFERENCES}/phone/code", json={"code": code}, headers=other)).status_code == 409
    proven = await client.post(f"{PREFERENCES}/phone/code", json={"code": code}, headers=me)
    assert (proven.json()["phone"], proven.json()["phone_to_prove"]) == ("+4930123456", None)
    only_sms = {"choices": {"orders": {"email": False, "sms": True}}}
    assert (await client.put(PREFERENCES, json=only_sms, headers=me)).status_code == 200
    assert (await client.delete(f"{PREFERENCES}/phone", headers=me)).json()["phone"] is None
    person = (await commands.people_of(database, [customer_id]))[customer_id]
    assert person.code_digest is None


async def test_wrong_codes_that_come_at_once_are_all_counted(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, people: People, phones: Phones
) -> None:
    me = mint.headers(Role.CUSTOMER, subject=people.customer())
    await client.put(f"{PREFERENCES}/phone", json={"phone": "+4930123456"}, headers=me)
    await job(database, people, phones, Channel.SMS).send_due()
    code = phones.messages[0].text[:6]
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    guesses = [client.post(f"{PREFERENCES}/phone/code", json={"code": wrong}, headers=me) for _ in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*guesses)} == {409}
    assert (await client.post(f"{PREFERENCES}/phone/code", json={"code": code}, headers=me)).status_code == 409


async def test_codes_are_sent_three_times_an_hour(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    me = mint.headers(Role.CUSTOMER, subject=uuid4())
    answers = [await client.put(f"{PREFERENCES}/phone", json={"phone": f"+493012345{n}"}, headers=me) for n in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 3000 < int(answers[-1].headers["retry-after"]) <= 3600


async def test_a_browser_is_added_once_and_removed(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    me = mint.headers(Role.CUSTOMER, subject=uuid4())
    path = "/api/v1/notifications/push-subscriptions"
    first, second = [await client.post(path, json=SUBSCRIPTION, headers=me) for _ in range(2)]
    assert (first.status_code, first.json()) == (201, second.json())
    [shown] = (await client.get(PREFERENCES, headers=me)).json()["browsers"]
    assert shown["subscription_id"] == first.json()["subscription_id"]
    assert set(shown) == {"subscription_id", "added_at"}  # what it is encrypted with is nobody's business
    for wrong in ("ftp://push.example/1", "https://user:word@push.example/1", "https://push.example/#x", "x" * 2000):
        assert (await client.post(path, json=SUBSCRIPTION | {"endpoint": wrong}, headers=me)).status_code == 422
    one = f"{path}/{first.json()['subscription_id']}"
    assert (await client.delete(one, headers=mint.headers(Role.CUSTOMER))).status_code == 404
    assert [(await client.delete(one, headers=me)).status_code for _ in range(2)] == [204, 404]


async def test_a_mail_that_may_be_refused_says_how_and_its_link_does_it(
    client: httpx2.AsyncClient, database: Database, people: People
) -> None:
    """RFC 8058: the mail program posts to the address in the header."""
    customer_id = people.customer()
    await tell(database, customer_id)
    reception = Reception()
    async with receiving(reception) as port:
        mailer = SmtpMailer(SmtpSettings(smtp_port=port))
        await DeliveryJob(database, people, mailer, LINKS, asyncio.Event(), attempts=1).send_due()
    mail = message_from_bytes(reception.taken[0], policy=policy.default)
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = mail["List-Unsubscribe"].strip("<>")
    plain, html = [part.get_content() for part in mail.iter_parts()]
    assert url in plain
    assert url in html
    path = url.removeprefix("https://shop.example")

    page = await client.get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Where your parcels are" in page.text
    assert customer_id not in await commands.people_of(database, [customer_id])  # to look changes nothing

    pressed = await client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert (pressed.status_code, "You are unsubscribed" in pressed.text) == (200, True)
    assert (await client.post(path, files={"List-Unsubscribe": (None, "One-Click")})).status_code == 200
    person = (await commands.people_of(database, [customer_id]))[customer_id]
    assert person.choices == {"deliveries": {"email": False}}


async def test_a_mail_that_must_be_has_no_such_link(client: httpx2.AsyncClient, database: Database, people: People) -> None:
    await tell(database, people.customer(), NotificationKind.ORDER_CANCELLED)
    reception = Reception()
    async with receiving(reception) as port:
        mailer = SmtpMailer(SmtpSettings(smtp_port=port))
        await DeliveryJob(database, people, mailer, LINKS, asyncio.Event(), attempts=1).send_due()
    mail = message_from_bytes(reception.taken[0], policy=policy.default)
    assert mail["List-Unsubscribe"] is None
    assert "nsubscribe" not in mail.as_string()
    made_up = LINKS.unsubscribe_url(Unsubscribing(uuid4(), Group.ORDERS, Channel.EMAIL)).removeprefix("https://shop.example")
    assert (await client.post(made_up)).status_code == 409


async def test_only_our_own_links_unsubscribe(client: httpx2.AsyncClient, database: Database) -> None:
    what = Unsubscribing(uuid4(), Group.DELIVERIES, Channel.EMAIL)
    good = LINKS.unsubscribe_url(what).partition("token=")[2]
    strangers = Links("https://shop.example", [b"another secret"]).unsubscribe_url(what).partition("token=")[2]
    for token in ("", "x", "ä", good[:-1], good[:-2] + "AA", "A" * 200, strangers, f"{good}AAAA"):
        for method in ("GET", "POST"):
            response = await client.request(method, "/api/v1/notifications/unsubscribe", params={"token": token})
            assert (response.status_code, "This does not work" in response.text) == (422, True), (method, token)
    assert await commands.people_of(database, [what.person_id]) == {}


def test_a_link_of_an_older_secret_is_still_good() -> None:
    what = Unsubscribing(uuid4(), Group.REMINDERS, Channel.EMAIL)
    token = Links("https://shop.example/", [b"old"]).unsubscribe_url(what).partition("token=")[2]
    assert Links("https://shop.example", [b"new", b"old"]).read(token) == what
    with pytest.raises(Refusal) as refused:
        Links("https://shop.example", [b"new"]).read(token)
    assert refused.value.code == ErrorCode.LINK_INVALID


async def test_with_a_person_all_of_it_is_forgotten(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, people: People, phones: Phones, mailbox: Mailbox
) -> None:
    customer_id = people.customer("ada@example.org")
    me = mint.headers(Role.CUSTOMER, subject=customer_id)
    await client.put(f"{PREFERENCES}/phone", json={"phone": "+4930777777"}, headers=me)
    await job(database, people, phones, Channel.SMS).send_due()
    await client.post(f"{PREFERENCES}/phone/code", json={"code": phones.messages[0].text[:6]}, headers=me)
    await client.put(f"{PREFERENCES}/phone", json={"phone": "+4930888888"}, headers=me)
    await client.post("/api/v1/notifications/push-subscriptions", json=SUBSCRIPTION, headers=me)
    await client.put(PREFERENCES, json=CHOICE | {"time_zone": "Antarctica/Troll"}, headers=me)
    await tell(database, customer_id)
    await client.post("/api/v1/notifications/inbox/read-all", json={}, headers=me)
    words = ["+4930777777", "+4930888888", "gAAAAABk", "Antarctica/Troll"]
    assert len(await found_in(database.url, words)) >= len(words)
    await consume(database, CustomerForgotten(customer_id=customer_id, by=customer_id))
    assert await found_in(database.url, words) == []
    view = (await client.get(PREFERENCES, headers=me)).json()
    assert (view["phone"], view["browsers"], view["time_zone"], view["language"]) == (None, [], "UTC", None)
    assert (await client.get("/api/v1/notifications/inbox", headers=me)).json()["items"] == []
