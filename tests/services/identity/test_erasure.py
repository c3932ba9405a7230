"""Erasure: an account ends for good and its person is forgotten; over the API, on a real database."""

from functools import partial
from typing import Any
from uuid import UUID

from sqlmodel import select

from chassis.database import Database
from services.identity.model import SecurityEvent, SecurityRecord, User
from tests.conftest import eventually
from tests.personal import found_in
from tests.services.identity.conftest import PASSWORD, Shop, bearer, session_of
from tests.services.identity.test_accounts import events

ADA, NEXT, STREET, PHONE = "ada.lovelace@example.com", "ada.king@example.com", "12 Saint James's Square", "+442079460958"
DEVICE = "The Analytical Engine"
PERSONAL = ("lovelace", "ada.king", "saint james", "sw1y", "2079460958", "analytical engine", "203.0.113.9")


async def ada(shop: Shop) -> tuple[str, dict[str, str]]:
    """A customer who has left traces everywhere."""
    user_id, _ = await shop.user(ADA)
    logged_in = await shop.http.post(
        "/api/v1/auth/login",
        json={"email": ADA, "password": PASSWORD},
        headers={"User-Agent": DEVICE, "X-Forwarded-For": "203.0.113.9"},
    )
    headers = bearer(logged_in)
    address = {"name": "Ada Lovelace", "line1": STREET, "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
    me = await shop.http.get("/api/v1/users/me", headers=headers)
    profile = {"name": "Ada Lovelace", "phone": PHONE, "addresses": [address], "language": "de"}
    changed = await shop.http.patch("/api/v1/users/me", json=profile, headers=headers | {"If-Match": me.headers["ETag"]})
    assert changed.status_code == 200, changed.text
    asked = await shop.http.post("/api/v1/users/me/email", json={"email": NEXT, "current_password": PASSWORD}, headers=headers)
    reset = await shop.http.post("/api/v1/auth/password-reset", json={"email": ADA})
    assert (asked.status_code, reset.status_code) == (202, 202)
    for password in ("a wrong one", "another wrong one"):
        assert (await shop.log_in(ADA, password, address="203.0.113.9")).status_code == 401
    return user_id, headers


async def is_refused(shop: Shop, headers: dict[str, str]) -> bool:
    return (await shop.http.get("/api/v1/users/me", headers=headers)).status_code == 401


async def erase(shop: Shop, headers: dict[str, str], password: str = PASSWORD) -> Any:
    return await shop.http.post("/api/v1/users/me/erasure", json={"current_password": password}, headers=headers)


async def test_nothing_of_the_person_is_left_but_the_id(shop: Shop, database: Database) -> None:
    user_id, headers = await ada(shop)
    assert {line.split("'")[1] for line in await found_in(database.url, PERSONAL)} == set(PERSONAL)
    erased = await erase(shop, headers)
    assert (erased.status_code, erased.json()["user_id"]) == (202, user_id)
    assert await found_in(database.url, PERSONAL) == []
    assert await events(database, "CustomerForgotten") == [{"customer_id": user_id, "by": user_id}]
    seen = (await shop.http.get(f"/api/v1/users/{user_id}", headers=await shop.admin())).json()
    assert seen["forgotten_at"] == erased.json()["forgotten_at"]
    assert (seen["email"], seen["name"], seen["phone"], seen["addresses"], seen["email_verified"]) == ("", "", None, [], False)


async def test_every_session_of_the_account_ends(shop: Shop, database: Database) -> None:
    user_id, headers = await ada(shop)
    other = bearer(await shop.log_in(ADA))
    assert (await erase(shop, headers)).status_code == 202
    for ended in (headers, other):
        await eventually(partial(is_refused, shop, ended), what="the end of the session")
    ended_now = {event["session_id"] for event in await events(database, "SessionEnded") if event["reason"] == "user_forgotten"}
    assert {session_of(headers), session_of(other)} <= ended_now
    assert (await shop.log_in(ADA)).status_code == 401
    async with database.reading() as session:
        records = (await session.exec(select(SecurityRecord.kind).where(SecurityRecord.user_id == UUID(user_id)))).all()
    assert SecurityEvent.USER_FORGOTTEN in records
    assert SecurityEvent.LOGIN_FAILED in records


async def test_the_address_is_free_for_a_new_account(shop: Shop) -> None:
    user_id, headers = await ada(shop)
    assert (await erase(shop, headers)).status_code == 202
    again, fresh = await shop.user(ADA)
    assert again != user_id
    assert (await shop.http.get("/api/v1/users/me", headers=fresh)).json()["email"] == ADA
    assert (await shop.log_in(ADA)).status_code == 200


async def test_it_takes_the_password(shop: Shop, database: Database) -> None:
    _, headers = await ada(shop)
    refused = await erase(shop, headers, "a wrong one")
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    assert await events(database, "CustomerForgotten") == []


async def test_an_admin_erases_a_user_once(shop: Shop, database: Database) -> None:
    user_id, headers = await ada(shop)
    admin, path = await shop.admin(), f"/api/v1/users/{user_id}/erasure"
    refused = await shop.http.post(path, json={"reason": "Letter of 1 March"}, headers=headers)
    assert refused.status_code == 403
    replies = [await shop.http.post(path, json={"reason": "Letter of 1 March"}, headers=admin) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 202]
    assert replies[0].json() == replies[1].json()
    [event] = await events(database, "CustomerForgotten")
    assert event["by"] != user_id
    log = await shop.http.get(f"/api/v1/security-log?user_id={user_id}&kind=user_forgotten", headers=admin)
    assert [entry["detail"] for entry in log.json()["items"]] == ["Letter of 1 March"]


async def test_a_forgotten_account_stays_ended(shop: Shop) -> None:
    user_id, headers = await ada(shop)
    assert (await erase(shop, headers)).status_code == 202
    admin = await shop.admin()
    for path, body in (("enable", None), ("disable", {"reason": "test"})):
        refused = await shop.http.post(f"/api/v1/users/{user_id}/{path}", json=body, headers=admin)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_the_last_admin_stays(shop: Shop) -> None:
    admin = await shop.admin()
    user_id = (await shop.http.get("/api/v1/users/me", headers=admin)).json()["user_id"]
    refused = await erase(shop, admin, "admin-password")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    refused = await shop.http.post(f"/api/v1/users/{user_id}/erasure", json={"reason": "test"}, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await shop.http.get("/api/v1/users/me", headers=admin)).status_code == 200


async def test_what_admins_write_of_a_user_stands_in_no_event(shop: Shop, database: Database) -> None:
    user_id, _ = await ada(shop)
    admin = await shop.admin()
    words = {"reason": "Ada Lovelace sold stolen goods"}
    assert (await shop.http.post(f"/api/v1/users/{user_id}/disable", json=words, headers=admin)).status_code == 200
    assert "Lovelace" not in str(await events(database, "UserDisabled"))
    log = await shop.http.get(f"/api/v1/security-log?user_id={user_id}&kind=user_disabled", headers=admin)
    assert [entry["detail"] for entry in log.json()["items"]] == ["Ada Lovelace sold stolen goods"]
    assert (await shop.http.post(f"/api/v1/users/{user_id}/erasure", json={"reason": "t"}, headers=admin)).status_code == 202
    assert await found_in(database.url, PERSONAL) == []


def test_whatever_is_added_to_a_user_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {"user_id", "roles", "warehouses", "disabled_at", "created_at", "forgotten_at", "version"}
    blanked = {"email", "email_verified_at", "name", "phone", "addresses", "language", "password_hash"}
    assert set(User.model_fields) == kept | blanked
    user = User(email=ADA, name="Ada", phone=PHONE, addresses=[{"line1": STREET}], language="de", password_hash="h")
    before = user.model_dump()
    user.forget_person(by=user.user_id)
    assert {name for name in before if before[name] != user.model_dump()[name]} == blanked - {"email_verified_at"} | {
        "forgotten_at"
    }
