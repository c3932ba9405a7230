"""Accounts: registering, verifying and changing an address, getting back in, the profile; over the API, on a real database."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import col, select, update

from chassis.clock import utc_now
from chassis.database import Database
from chassis.origin import Origin
from chassis.statements import sql
from contracts.accounts import AccountMail
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.identity.api import pages
from services.identity.commands import accounts
from services.identity.model import AccountLink, MailGuard, User, outbox
from services.identity.passwords import COMMON, Passwords
from services.identity.tokens import TokenIssuer
from tests.conftest import changing, eventually
from tests.services.identity.conftest import PASSWORD, Shop, bearer

ADA = "ada.lovelace@example.com"
NEW_PASSWORD = "a new good password"


def token_of(mail: AccountMail) -> str:
    return parse_qs(urlsplit(mail.link).query)["token"][0]


async def published(database: Database) -> str:
    """All that identity told Kafka."""
    async with database.reading() as session:
        return json.dumps((await session.execute(select(outbox.table.c.envelope))).scalars().all())


async def events(database: Database, kind: str) -> list[dict[str, Any]]:
    """The data of all events of a kind, oldest first."""
    async with database.reading() as session:
        rows = (await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))).scalars()
        return [row["data"] for row in rows if row["type"] == kind]


async def requests(database: Database) -> list[UUID]:
    """The mails that were asked for, oldest first."""
    return [UUID(event["request_id"]) for event in await events(database, "AccountMailRequested")]


async def reset(shop: Shop, token: str, password: str = NEW_PASSWORD) -> httpx2.Response:
    return await shop.http.post("/api/v1/auth/password-reset/confirm", json={"token": token, "new_password": password})


async def me(shop: Shop, headers: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = (await shop.http.get("/api/v1/users/me", headers=headers)).json()
    return found


# ── Passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "weak", ["1234567890", " " * 10, "QwertyUIOP", "aaaaaaaaaaaa", ADA.upper(), "ada.lovelace", "Ada Lovelace"]
)
async def test_g12_weak_passwords_are_refused(shop: Shop, weak: str) -> None:
    person = {"email": ADA, "password": weak, "name": "Ada Lovelace"}
    refused = await shop.http.post("/api/v1/auth/register", json=person)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    [error] = refused.json()["errors"]
    assert (error["field"], error["code"].partition("_")[0]) == ("password", "password")
    assert weak not in refused.text


async def test_g12_a_weak_password_is_refused_when_it_is_changed_and_when_it_is_reset(shop: Shop) -> None:
    headers = await shop.customer(ADA)
    change = {"current_password": PASSWORD, "new_password": "1234567890"}
    changed = await shop.http.post("/api/v1/auth/password", json=change, headers=headers)
    await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    token = token_of(await shop.link())
    for refused in (changed, await reset(shop, token, "1234567890")):
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "new_password")
    assert (await reset(shop, token)).status_code == 204  # the refusal did not use the link up


def test_the_list_of_common_passwords_has_ten_thousand() -> None:
    assert 9_900 < len(COMMON) <= 10_000


# ── Whose address it is ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_g12_registration_does_not_tell_which_address_exists(shop: Shop, database: Database) -> None:
    await shop.customer(ADA)
    known, unknown = await shop.register(ADA), await shop.register("nobody@example.com")
    assert known.status_code == unknown.status_code == 201
    assert known.json().keys() == unknown.json().keys()
    assert known.json()["user"].keys() == unknown.json()["user"].keys()
    *_, first, second = await requests(database)
    mails = [await shop.link(first), await shop.link(second)]
    assert [mail.kind for mail in mails] == [NotificationKind.ACCOUNT_EXISTS, NotificationKind.VERIFY_EMAIL]


async def test_g12_registration_hashes_once_and_asks_for_one_mail_whether_the_address_exists_or_not(
    database: Database, passwords: Passwords, issuer: TokenIssuer, shop: Shop
) -> None:
    await shop.customer(ADA)
    for email in (ADA, "nobody@example.com"):
        before = len(await requests(database))
        await accounts.register(
            database, passwords, issuer, Origin("192.0.2.1"), email=email, password=SecretStr(PASSWORD), name="Ada"
        )
        assert len(await requests(database)) == before + 1


async def test_a_login_needs_the_verified_account_and_one_answer_serves_all_who_have_none(shop: Shop) -> None:
    await shop.register(ADA)
    answers = [await shop.log_in(ADA), await shop.log_in("nobody@example.com"), await shop.log_in(ADA, "a wrong guess")]
    assert {(each.status_code, each.json()["code"], each.json()["detail"]) for each in answers} == {
        (401, "invalid_credentials", "The e-mail or the password is wrong.")
    }
    assert (await shop.follow(await shop.link())).status_code == 200
    assert (await shop.log_in(ADA)).status_code == 200


async def test_a_stranger_who_registers_my_address_gets_nothing(shop: Shop, database: Database) -> None:
    stranger = bearer(await shop.register(ADA, "a strangers password"))
    theirs = await shop.link()
    mine = await shop.customer(ADA)
    assert (await shop.follow(theirs)).status_code == 422  # their link cannot take my address from me
    assert (await me(shop, stranger))["email_verified"] is False
    assert (await me(shop, mine))["email_verified"] is True
    assert (await shop.log_in(ADA, "a strangers password")).status_code == 401
    admin = await shop.admin()
    their_id = (await me(shop, stranger))["user_id"]
    roles = await shop.http.put(
        f"/api/v1/users/{their_id}/roles", json={"roles": ["support"]}, headers=admin | {"If-Match": '"1"'}
    )
    assert (roles.status_code, roles.json()["code"]) == (409, "conflict")


async def test_of_two_who_verify_one_address_at_once_one_holds_it(shop: Shop, database: Database) -> None:
    for _ in range(4):
        await shop.register(ADA)
    tokens = [token_of(await shop.link(request)) for request in await requests(database)]
    verify = [shop.http.post("/api/v1/auth/verify-email", json={"token": token}) for token in tokens]
    assert sorted(reply.status_code for reply in await asyncio.gather(*verify)) == [204, 422, 422, 422]
    assert len(await events(database, "EmailVerified")) == 1


# ── Links ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_link_works_once(shop: Shop) -> None:
    await shop.register(ADA)
    token = token_of(await shop.link())
    replies = [await shop.http.post("/api/v1/auth/verify-email", json={"token": token}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [204, 422]
    assert replies[1].json()["code"] == "link_invalid"
    with pytest.raises(Refusal):
        await shop.link()  # a mail that is tried again would have nothing to send


async def test_a_link_is_good_for_its_own_purpose_and_its_own_time(shop: Shop, database: Database) -> None:
    await shop.customer(ADA)
    await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    token = token_of(await shop.link())
    verify = await shop.http.post("/api/v1/auth/verify-email", json={"token": token})
    assert verify.json()["code"] == "link_invalid"
    async with database.reading() as session:
        [link] = (await session.exec(select(AccountLink))).all()
    assert timedelta(minutes=59) < link.expires_at - utc_now() <= timedelta(hours=1)
    async with changing(database) as work:
        await work.rows(update(AccountLink).values(expires_at=utc_now()))
    assert (await reset(shop, token)).json()["code"] == "link_invalid"
    await accounts.forget_expired(database)
    async with database.reading() as session:
        assert (await session.exec(select(AccountLink))).all() == []


async def test_the_last_link_counts_and_no_secret_is_kept(shop: Shop, database: Database) -> None:
    headers = bearer(await shop.register(ADA))
    first = await shop.link()
    again = await shop.link()  # the same mail, tried once more
    await shop.http.post("/api/v1/auth/verify-email/resend", headers=headers)
    newest = await shop.link()
    for old in (first, again):
        assert (await shop.follow(old)).status_code == 422
    async with database.reading() as session:
        [link] = (await session.exec(select(AccountLink))).all()
    assert token_of(newest) not in link.model_dump_json()
    assert token_of(newest) not in await published(database)
    assert (await shop.follow(newest)).status_code == 200
    assert (await shop.http.post("/api/v1/auth/verify-email/resend", headers=headers)).status_code == 202
    assert len(await requests(database)) == 2  # verified already: no third mail


async def test_nobody_is_flooded_and_nobody_is_told(shop: Shop, database: Database) -> None:
    await shop.customer(ADA)
    for _ in range(4):
        await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    last = await shop.link()
    for _ in range(5):
        assert (await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})).status_code == 202
    assert len(await requests(database)) == 5
    assert (await reset(shop, token_of(last))).status_code == 204  # what came last stays good
    async with changing(database) as work:
        await work.rows(update(MailGuard).values(since=utc_now() - timedelta(hours=1)))
    await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    assert len(await requests(database)) == 6


async def test_one_account_cannot_flood_many_addresses(shop: Shop, database: Database) -> None:
    headers = await shop.customer(ADA)
    for n in range(6):
        body = {"email": f"victim-{n}@example.com", "current_password": PASSWORD}
        assert (await shop.http.post("/api/v1/users/me/email", json=body, headers=headers)).status_code == 202
    assert len(await requests(database)) == 1 + 4 * 2


# ── The password is lost ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reset_sets_the_password_and_ends_every_login(shop: Shop, database: Database) -> None:
    await shop.customer(ADA)
    login = (await shop.log_in(ADA)).json()
    assert (await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA.upper()})).status_code == 202
    mail = await shop.link()
    assert (mail.kind, mail.email) == (NotificationKind.PASSWORD_RESET, ADA)
    assert (await reset(shop, token_of(mail))).status_code == 204
    assert (await shop.refresh(login["refresh_token"])).status_code == 401
    assert (await shop.log_in(ADA)).status_code == 401
    assert (await shop.log_in(ADA, NEW_PASSWORD)).status_code == 200
    assert (await reset(shop, token_of(mail))).json()["code"] == "link_invalid"
    assert len(await events(database, "PasswordChanged")) == 1


async def test_g12_asking_for_a_reset_does_not_tell_which_address_exists(shop: Shop, database: Database) -> None:
    await shop.customer(ADA)
    await shop.register("unverified@example.com")
    replies = []
    for email in (ADA, "unverified@example.com", "nobody@example.com"):
        replies.append(await shop.http.post("/api/v1/auth/password-reset", json={"email": email}))
        assert (await events(database, "AccountMailRequested"))[-1].keys() == {"request_id", "customer_id", "kind"}
        assert (await events(database, "AccountMailRequested"))[-1]["customer_id"] is None
    assert {(reply.status_code, reply.content) for reply in replies} == {(202, replies[0].content)}
    *_, known, unverified, unknown = await requests(database)
    assert (await shop.link(known)).email == ADA
    for request in (unverified, unknown):  # who has proven nothing gets no mail but the verification
        with pytest.raises(Refusal) as refused:
            await shop.link(request)
        assert refused.value.code == ErrorCode.LINK_INVALID


async def test_the_mail_that_says_you_have_an_account_leads_back_into_it(shop: Shop) -> None:
    await shop.customer(ADA)
    await shop.register(ADA, "forgot that I had one")
    mail = await shop.link()
    assert (mail.kind, mail.email) == (NotificationKind.ACCOUNT_EXISTS, ADA)
    done = await shop.follow(mail, new_password=NEW_PASSWORD)
    assert (done.status_code, "Your password is changed" in done.text) == (200, True)
    assert (await shop.log_in(ADA, NEW_PASSWORD)).status_code == 200


# ── Another address ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def change_of(shop: Shop, database: Database, headers: dict[str, str], email: str) -> tuple[AccountMail, AccountMail]:
    """The mails to the old and to the new address."""
    body = {"email": email, "current_password": PASSWORD}
    assert (await shop.http.post("/api/v1/users/me/email", json=body, headers=headers)).status_code == 202
    *_, old, new = await requests(database)
    return await shop.link(old), await shop.link(new)


@pytest.mark.parametrize("old_first", [True, False])
async def test_an_address_changes_once_both_have_agreed(shop: Shop, database: Database, old_first: bool) -> None:
    headers = await shop.customer(ADA)
    old, new = await change_of(shop, database, headers, "countess@example.com")
    assert (old.email, old.kind) == (ADA, NotificationKind.EMAIL_CHANGE_OLD)
    assert (new.email, new.kind) == ("countess@example.com", NotificationKind.EMAIL_CHANGE_NEW)
    first, second = (old, new) if old_first else (new, old)
    assert "as soon as the other address agrees" in (await shop.follow(first)).text
    assert (await shop.follow(first)).status_code == 422
    assert (await me(shop, headers))["email"] == ADA
    assert "Your e-mail is changed" in (await shop.follow(second)).text
    assert ((await me(shop, headers))["email"], (await me(shop, headers))["email_verified"]) == ("countess@example.com", True)
    assert (await shop.log_in("countess@example.com")).status_code == 200
    assert (await shop.log_in(ADA)).status_code == 401
    assert len(await events(database, "EmailChanged")) == 1


async def test_both_addresses_may_agree_at_once(shop: Shop, database: Database) -> None:
    headers = await shop.customer(ADA)
    mails = await change_of(shop, database, headers, "countess@example.com")
    replies = await asyncio.gather(*[shop.follow(mail) for mail in mails])
    assert [reply.status_code for reply in replies] == [200, 200]
    assert (await me(shop, headers))["email"] == "countess@example.com"


async def test_the_old_address_stops_it_and_the_new_one_cannot(shop: Shop, database: Database) -> None:
    headers = await shop.customer(ADA)
    old, new = await change_of(shop, database, headers, "countess@example.com")
    assert (await shop.follow(new, action="stop")).status_code == 422
    assert "The change is stopped" in (await shop.follow(old, action="stop")).text
    assert (await shop.follow(new)).status_code == 422
    assert (await me(shop, headers))["email"] == ADA


async def test_an_address_that_somebody_holds_cannot_be_taken_and_nobody_is_told(shop: Shop, database: Database) -> None:
    await shop.customer("bob@example.com")
    headers = await shop.customer(ADA)
    old, new = await change_of(shop, database, headers, "bob@example.com")
    assert (new.kind, new.email) == (NotificationKind.ACCOUNT_EXISTS, "bob@example.com")
    assert (await shop.follow(old)).status_code == 200  # as with any other address
    assert (await me(shop, headers))["email"] == ADA


async def test_a_change_needs_the_password(shop: Shop, database: Database) -> None:
    headers = await shop.customer(ADA)
    body = {"email": "countess@example.com", "current_password": "a wrong guess"}
    refused = await shop.http.post("/api/v1/users/me/email", json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    assert len(await requests(database)) == 1


async def test_a_mistyped_address_is_corrected_before_it_is_verified(shop: Shop) -> None:
    headers = bearer(await shop.register("ada@exmaple.com"))
    mistyped = await shop.link()
    body = {"email": ADA, "current_password": PASSWORD}
    assert (await shop.http.post("/api/v1/users/me/email", json=body, headers=headers)).status_code == 202
    mail = await shop.link()
    assert (mail.kind, mail.email) == (NotificationKind.VERIFY_EMAIL, ADA)
    assert (await shop.follow(mistyped)).status_code == 422
    assert (await shop.follow(mail)).status_code == 200
    assert (await shop.log_in(ADA)).status_code == 200


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_opening_a_page_uses_nothing_up(shop: Shop) -> None:
    await shop.register(ADA)
    mail = await shop.link()
    path = mail.link.removeprefix("https://shop.example")
    for _ in range(3):
        assert (await shop.http.get(path)).status_code == 200
    assert (await shop.http.head(path)).status_code in (200, 405)
    assert (await shop.follow(mail)).status_code == 200


@pytest.mark.parametrize("page", ["verify-email", "password-reset", "email-change"])
async def test_a_page_loads_nothing_tells_nobody_and_escapes_what_it_shows(shop: Shop, page: str) -> None:
    shown = await shop.http.get(f"/api/v1/auth/links/{page}", params={"token": '"><script>alert(1)</script>'})
    assert "<script>" not in shown.text
    assert "http" not in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert (shown.headers["referrer-policy"], shown.headers["cache-control"]) == ("no-referrer", "no-store")


async def test_a_page_says_what_is_wrong_and_lets_one_try_again(shop: Shop) -> None:
    await shop.customer(ADA)
    await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    mail = await shop.link()
    for weak, told in (("short", "10 to 128 characters"), ("1234567890", "most common passwords")):
        refused = await shop.follow(mail, new_password=weak)
        assert (refused.status_code, told in refused.text, token_of(mail) in refused.text) == (422, True, True)
    assert (await shop.follow(mail, new_password=NEW_PASSWORD)).status_code == 200
    assert (await shop.http.get("/api/v1/auth/links/elsewhere")).status_code == 404
    for nonsense in (b"", b"\xff\xfe", b"&".join(b"a=1" for _ in range(50)), b"token=%ff&action=confirm"):
        assert (await shop.http.post("/api/v1/auth/links/verify-email", content=nonsense)).status_code in (200, 422)


def test_every_link_has_a_page() -> None:
    assert set(accounts.PAGES.values()) == set(pages._FORMS)


# ── What others may know ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_g10_events_hold_no_personal_data(shop: Shop, database: Database) -> None:
    headers = await shop.customer(ADA)
    profile = {"name": "Countess", "phone": "+442071234567"}
    tag = f'"{(await me(shop, headers))["version"]}"'
    assert (await shop.http.patch("/api/v1/users/me", json=profile, headers=headers | {"If-Match": tag})).status_code == 200
    for mail in await change_of(shop, database, headers, "countess@example.com"):
        await shop.follow(mail)
    await shop.http.post("/api/v1/auth/password-reset", json={"email": "countess@example.com"})
    assert (await reset(shop, token_of(await shop.link()))).status_code == 204
    envelopes = await published(database)
    for kind in ("UserRegistered", "EmailVerified", "EmailChanged", "PasswordChanged", "AccountMailRequested"):
        assert kind in envelopes
    for personal in ("lovelace", "example.com", "countess", '"Ada"', "Countess", "2071234567", PASSWORD):
        assert personal not in envelopes


async def test_only_the_platform_asks_where_people_are_reached(shop: Shop, issuer: TokenIssuer) -> None:
    headers = await shop.customer(ADA)
    verified = (await me(shop, headers))["user_id"]
    unverified = (await shop.register("other@example.com")).json()["user"]["user_id"]
    body = {"customer_ids": [verified, unverified, str(uuid4())]}
    paths = {"contacts/lookup": body, "account-mails": {"request_id": str(uuid4())}}
    for path, content in paths.items():
        for caller, status in ((headers, 403), (await shop.admin(), 403), ({}, 401)):
            reply = await shop.http.post(f"/internal/v1/{path}", json=content, headers=caller)
            assert reply.status_code == status, path
    service = {"Authorization": f"Bearer {issuer.service_token('notification').access_token}"}
    found = await shop.http.post("/internal/v1/contacts/lookup", json=body, headers=service)
    assert found.json() == {"contacts": [{"customer_id": verified, "email": ADA}]}
    unknown = await shop.http.post("/internal/v1/account-mails", json=paths["account-mails"], headers=service)
    assert (unknown.status_code, unknown.json()["code"]) == (422, "link_invalid")


# ── Profile ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

HOME = {"name": "Ada", "line1": "1 Main St", "city": "Springfield", "region": "IL", "postal_code": "62701", "country": "US"}


async def test_a_profile_changes_on_the_version_that_was_read(shop: Shop) -> None:
    headers = await shop.customer(ADA)
    tag = (await shop.http.get("/api/v1/users/me", headers=headers)).headers["etag"]

    async def patch(changes: dict[str, Any], if_match: str) -> httpx2.Response:
        return await shop.http.patch("/api/v1/users/me", json=changes, headers=headers | {"If-Match": if_match})

    changed = await patch({"phone": "+442071234567", "language": "de", "addresses": [HOME, HOME | {"city": "Chicago"}]}, tag)
    assert changed.status_code == 200
    user = changed.json()
    assert (user["name"], user["phone"], user["language"]) == ("Ada", "+442071234567", "de")
    assert [(each["city"], each["is_default"]) for each in user["addresses"]] == [("Springfield", True), ("Chicago", False)]
    stale = await patch({"name": "Ada L"}, tag)
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]) == (412, "stale_version", user)

    chicago = user["addresses"][1] | {"is_default": True}
    moved = (await patch({"addresses": [chicago], "phone": None}, changed.headers["etag"])).json()
    assert (moved["addresses"], moved["phone"], moved["language"]) == ([chicago], None, "de")
    assert await me(shop, headers) == moved


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phone", "0301234567"),
        ("phone", "+12"),
        ("phone", "+1234567890123456"),
        ("language", "tlh"),
        ("name", "Ada\nBcc: all@example.com"),
        ("name", None),
        ("addresses", [HOME] * 21),
        ("addresses", [HOME | {"is_default": True}] * 2),
        ("addresses", [HOME | {"address_id": "6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11"}] * 2),
        ("addresses", [HOME | {"country": "usa"}]),
        ("email", "other@example.com"),
        ("roles", ["admin"]),
    ],
)
async def test_a_bad_profile_is_refused_and_its_field_named(shop: Shop, field: str, value: object) -> None:
    headers = bearer(await shop.register(ADA))
    refused = await shop.http.patch("/api/v1/users/me", json={field: value}, headers=headers | {"If-Match": '"1"'})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert {error["field"].partition(".")[0] for error in refused.json()["errors"]} == {field}
    assert (await me(shop, headers))["version"] == 1


async def test_the_first_admin_and_who_verifies_that_address_take_turns(shop: Shop, database: Database) -> None:
    await shop.register(ADA)
    token = token_of(await shop.link())

    async def wait_at_locks(how_many: int) -> bool:
        waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        async with database.reading() as session:
            return bool((await session.execute(text(waiting))).scalar_one() == how_many)

    async with changing(database) as work:
        await work.rows(sql("lock table outbox in share mode"))  # nobody commits before this does
        admin = asyncio.create_task(
            accounts.ensure_admin(database, Passwords(), email=ADA, password=SecretStr(PASSWORD), name="Admin")
        )
        await eventually(lambda: wait_at_locks(1), what="the admin's account at the lock")
        verified = asyncio.create_task(accounts.verify_email(database, token))
        await eventually(lambda: wait_at_locks(2), what="the verification at a lock")
    await admin
    with pytest.raises(Refusal) as refused:
        await verified
    assert refused.value.code == ErrorCode.LINK_INVALID


async def test_the_first_admin_holds_its_address(shop: Shop, database: Database) -> None:
    assert (await me(shop, await shop.admin()))["email_verified"] is True
    async with database.reading() as session:
        [admin] = (await session.exec(select(User).where(col(User.email_verified_at).is_not(None)))).all()
    assert admin.roles == [Role.ADMIN]
