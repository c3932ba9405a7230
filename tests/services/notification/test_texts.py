"""Templates over HTTP: per channel and language, in versions, with preview and test message; and how they look."""

from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.notification import layout, rendering
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.channels import Channel
from services.notification.messages import message
from services.notification.rendering import Source
from tests.conftest import TokenMint
from tests.services.notification.conftest import LINKS, Mailbox, People, Phones
from tests.services.notification.test_delivery import Reception, receiving

TEMPLATES = "/api/v1/notifications/templates"
SHIPPED = f"{TEMPLATES}/order_shipped/email/en"
NEW = {"kind": "order_shipped", "channel": "sms", "language": "de-AT", "subject": "x", "body": "Unterwegs: {{ tracking_number }}"}
TEXT = {"subject": "Sent!", "body": "Order {{ order_id }} left."}


async def test_a_text_for_another_channel_or_language_is_written_once(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN, subject=(admin_id := uuid4()))
    made = await client.post(TEMPLATES, json=NEW, headers=admin)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert (made.json()["unused"], made.json()["latest"], made.json()["live"]["created_by"]) == (["order_id"], 1, str(admin_id))
    assert (await client.get(f"{TEMPLATES}/order_shipped/sms/de-AT", headers=admin)).json() == made.json()
    assert (await client.post(TEMPLATES, json=NEW, headers=admin)).json() == made.json()  # the same once more
    other = await client.post(TEMPLATES, json=NEW | {"body": "anders"}, headers=admin)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    listed = (await client.get(TEMPLATES, params={"kind": "order_shipped"}, headers=admin)).json()["items"]
    assert [(item["channel"], item["language"]) for item in listed] == [("email", "en"), ("inbox", "en"), ("sms", "de-AT")]
    assert (await client.get(f"{TEMPLATES}/order_shipped/push/en", headers=admin)).status_code == 404


async def test_all_texts_come_in_pages(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    support, keys, cursor = mint.headers(Role.SUPPORT), [], None
    while True:
        params = {"limit": "17"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(TEMPLATES, params=params, headers=support)).json()
        keys += [(item["kind"], item["channel"], item["language"]) for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) > len(NotificationKind)


async def test_every_edit_is_a_version_and_an_older_one_can_live_again(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    first = await client.get(SHIPPED, headers=admin)
    edited = await client.put(SHIPPED, json=TEXT, headers=admin | {"If-Match": first.headers["etag"]})
    assert (edited.json()["live"]["number"], edited.json()["live"]["body"]) == (2, TEXT["body"])
    versions = (await client.get(f"{SHIPPED}/versions", headers=admin)).json()["items"]
    assert [version["number"] for version in versions] == [2, 1]
    assert (await client.get(f"{SHIPPED}/versions/1", headers=admin)).json()["body"] == first.json()["live"]["body"]
    stale = await client.post(f"{SHIPPED}/live", json={"number": 1}, headers=admin | {"If-Match": first.headers["etag"]})
    assert (stale.status_code, stale.json()["current"]) == (412, edited.json())
    back = await client.post(f"{SHIPPED}/live", json={"number": 1}, headers=admin | {"If-Match": edited.headers["etag"]})
    assert (back.json()["live"], back.json()["latest"]) == (first.json()["live"], 2)
    none = await client.post(f"{SHIPPED}/live", json={"number": 3}, headers=admin | {"If-Match": back.headers["etag"]})
    assert none.status_code == 404
    after = await client.put(SHIPPED, json=TEXT, headers=admin | {"If-Match": back.headers["etag"]})
    assert after.json()["live"]["number"] == 3
    page = (await client.get(f"{SHIPPED}/versions", params={"limit": 1}, headers=admin)).json()
    rest = (await client.get(f"{SHIPPED}/versions", params={"cursor": page["next_cursor"]}, headers=admin)).json()
    assert [version["number"] for version in (*page["items"], *rest["items"])] == [3, 2, 1]


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        ({"body": "{{ total }}"}, "body", "'total' is undefined"),
        ({"body": "{% if tracking_number %}x{% else %}{{ nmae }}{% endif %}"}, "body", "'nmae' is undefined"),
        ({"html": "<p>{{ order_id|safe }}</p>"}, "html", "No filter named 'safe'"),
        ({"html": "<p>{% for x in order_id %}{% endfor %}</p>"}, "html", "for is not available"),
        ({"body": ""}, "body", "renders to nothing"),
    ],
)
async def test_a_text_that_is_no_good_is_refused(
    client: httpx2.AsyncClient, mint: TokenMint, change: dict[str, str], part: str, words: str
) -> None:
    admin = mint.headers(Role.ADMIN)
    admin["If-Match"] = (await client.get(SHIPPED, headers=admin)).headers["etag"]
    for answer in (
        await client.put(SHIPPED, json=TEXT | change, headers=admin),
        await client.post(f"{SHIPPED}/preview", json=TEXT | change, headers=admin),
    ):
        if change == {"body": ""} and answer.request.method == "POST":
            continue  # what is not said is as it is now
        assert (answer.status_code, answer.json()["code"], answer.json()["part"]) == (422, "template_invalid", part)
        assert words in answer.json()["detail"]
    assert (await client.get(SHIPPED, headers=admin)).headers["etag"] == admin["If-Match"]


async def test_only_mails_have_html(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    refused = await client.post(TEMPLATES, json=NEW | {"html": "<p>x</p>"}, headers=mint.headers(Role.ADMIN))
    assert (refused.status_code, refused.json()["part"]) == (422, "html")


async def test_a_preview_shows_what_would_be_sent(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    support = mint.headers(Role.SUPPORT)
    shown = (await client.post(f"{SHIPPED}/preview", json={}, headers=support)).json()
    assert shown["subject"] == "Your order is on its way"
    assert "TRK123456" in shown["text"]
    assert "TRK123456" in shown["html"]
    assert "nsubscribe" in shown["html"]
    draft = {"html": "<p>Order <b>{{ order_id }}</b></p>", "body": "", "values": {"order_id": "<script>alert(1)</script>"}}
    shown = (await client.post(f"{SHIPPED}/preview", json=draft, headers=support)).json()
    assert "<script>" not in shown["html"]
    assert "&lt;script&gt;" in shown["html"]
    assert shown["text"].startswith("Order <script>alert(1)</script>\n")  # in plain text it is only text
    unknown = await client.post(f"{SHIPPED}/preview", json={"values": {"total": "1"}}, headers=support)
    assert (unknown.status_code, unknown.json()["part"]) == (422, "values")
    sms = (await client.post(f"{TEMPLATES}/order_shipped/inbox/en/preview", json={}, headers=support)).json()
    assert sms["html"] is None


async def test_a_test_message_goes_to_my_own_address_only_and_not_for_ever(
    client: httpx2.AsyncClient, mint: TokenMint, people: People, mailbox: Mailbox, phones: Phones
) -> None:
    admin_id = people.customer("admin@shop.example")
    admin = mint.headers(Role.ADMIN, subject=admin_id)
    sent = await client.post(f"{SHIPPED}/test", json={"subject": "Draft {{ order_id }}", "body": "Draft"}, headers=admin)
    assert (sent.status_code, sent.json()) == (200, {"channel": "email", "provider_id": None})
    [mail] = await mailbox.mails()
    assert (mail["to"], mail["subject"][:6]) == (["admin@shop.example"], "Draft ")
    elsewhere = await client.post(f"{SHIPPED}/test", json={"to": "victim@example.org"}, headers=admin)
    assert elsewhere.status_code == 422
    unproven = await client.post(f"{SHIPPED}/test", json={}, headers=mint.headers(Role.ADMIN))
    assert (unproven.status_code, unproven.json()["code"]) == (409, "channel_unavailable")
    assert (await client.post(f"{TEMPLATES}/phone_code/sms/en/test", json={}, headers=admin)).status_code == 409  # no number
    await mailbox.faults(down=True)
    away = await client.post(f"{SHIPPED}/test", json={}, headers=admin)
    assert (away.status_code, away.json()["code"]) == (409, "channel_unavailable")
    await mailbox.faults(down=False)
    answers = [(await client.post(f"{SHIPPED}/test", json={}, headers=admin)).status_code for _ in range(19)]
    assert answers == [200] * 18 + [429]
    assert phones.messages == []


def shown(source: Source, **values: str) -> Any:
    text = rendering.render(NotificationKind.ORDER_SHIPPED, source, values)
    return message(
        uuid4(), Channel.EMAIL, "zoe@example.org", text,
        kind=NotificationKind.ORDER_SHIPPED, language="en", person_id=uuid4(), links=LINKS, values=values,
    )  # fmt: skip


def test_a_plain_text_becomes_html_in_which_nothing_is_markup() -> None:
    made = shown(
        Source("A <b> subject", "Hello & welcome,\n\n<i>{{ order_id }}</i>\nline two: https://shop.example/x?a=1&b=2.\n"),
        order_id='"><x>',
    )
    assert "<h1" in made.html
    assert "A &lt;b&gt; subject" in made.html
    assert "Hello &amp; welcome,</p>" in made.html
    assert "&lt;i&gt;&quot;&gt;&lt;x&gt;&lt;/i&gt;<br>" in made.html
    assert 'href="https://shop.example/x?a=1&amp;b=2"' in made.html
    assert made.text.startswith('Hello & welcome,\n\n<i>"><x></i>\nline two')


def test_html_becomes_a_plain_text() -> None:
    html = """<style>p { color: red }</style><h1>Hello</h1><p>Your   order
      has <b>left</b>.</p><ul><li>one</li><li>two</li></ul><p><a href="https://shop.example/x">Follow it</a> &amp; wait</p>"""
    assert layout.as_text(html) == (
        "Hello\n\nYour order has left.\n\n- one\n- two\n\nFollow it (https://shop.example/x) & wait\n"
    )


async def test_both_parts_arrive_as_they_were_written() -> None:
    reception = Reception()
    body = "Größe: 🙂\n.\n..dots\n" + "a long line " * 200 + "\n"
    made = shown(Source("Größe", body))
    async with receiving(reception) as port:
        mailer = SmtpMailer(SmtpSettings(smtp_port=port))
        await mailer.send(made)
        await mailer.close()
    mail = message_from_bytes(reception.taken[0], policy=policy.default)
    assert max(map(len, reception.taken[0].split(b"\r\n"))) < 998
    assert mail.get_content_type() == "multipart/alternative"
    plain, html = mail.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().replace("\r\n", "\n") == made.text
    assert html.get_content().replace("\r\n", "\n") == made.html
    assert not any(mail[name].defects for name in mail)
    assert mail.defects == []
