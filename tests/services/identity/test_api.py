"""Identity's API: what goes in and out, who may do what, pages, versions."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import jwt

from chassis.database import Database
from chassis.tokens import TokenVerifier
from contracts.identity import Role, ServiceToken
from services.identity.app import IdentitySettings, build
from services.identity.tokens import TokenIssuer
from tests.conftest import eventually
from tests.services.identity.conftest import CLIENT_SECRETS, PASSWORD, Shop, bearer, session_of


async def test_from_an_account_to_a_token_that_every_service_accepts(shop: Shop) -> None:
    registered = await shop.register("Ada@Example.COM")
    assert (registered.status_code, registered.headers["cache-control"]) == (201, "no-store")
    user = registered.json()["user"]
    assert (user["email"], user["email_verified"], user["roles"]) == ("ada@example.com", False, ["customer"])
    assert "password" not in registered.text
    me = await shop.http.get("/api/v1/users/me", headers=bearer(registered))
    assert me.json() == user
    await shop.follow(await shop.link())

    login = await shop.log_in("ADA@example.com")
    assert (login.status_code, login.headers["cache-control"]) == (200, "no-store")
    pair = login.json()
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 300)
    published = await shop.http.get("/.well-known/jwks.json")
    assert published.headers["cache-control"] == "public, max-age=300"

    async def fetch() -> dict[str, object]:
        keys: dict[str, object] = published.json()
        return keys

    principal = await TokenVerifier("distributed-commerce", "commerce", fetch).verify(pair["access_token"])
    assert (str(principal.subject), principal.roles) == (user["user_id"], frozenset({Role.CUSTOMER}))
    me = await shop.http.get("/api/v1/users/me", headers=bearer(login))
    assert (me.json()["user_id"], me.json()["email_verified"]) == (user["user_id"], True)


async def test_refresh_logout_and_password_over_http(shop: Shop) -> None:
    await shop.customer("ada@example.com")
    first = (await shop.log_in("ada@example.com")).json()
    second = await shop.refresh(first["refresh_token"])
    assert second.headers["cache-control"] == "no-store"
    reused = await shop.refresh(first["refresh_token"])
    assert (reused.status_code, reused.json()["code"]) == (401, "refresh_token_reused")
    for nonsense in ("x", "é" * 30, "x" * 64):
        assert (await shop.refresh(nonsense)).json()["code"] == "unauthenticated"

    login = (await shop.log_in("ada@example.com")).json()
    left = await shop.http.post("/api/v1/auth/logout", json={"refresh_token": login["refresh_token"]})
    assert (left.status_code, left.content) == (204, b"")
    assert (await shop.refresh(login["refresh_token"])).status_code == 401

    headers = bearer(await shop.log_in("ada@example.com"))
    body = {"current_password": PASSWORD, "new_password": "another password"}
    assert (await shop.http.post("/api/v1/auth/password", json=body)).status_code == 401
    assert (await shop.http.post("/api/v1/auth/password", json=body, headers=headers)).status_code == 204
    assert (await shop.log_in("ada@example.com", "another password")).status_code == 200


async def test_a_bad_field_is_named_and_not_echoed(shop: Shop) -> None:
    wrong: list[tuple[str, object]] = [
        ("email", "ada"),
        ("email", "ada\u0000@example.com"),
        ("email", "a" * 300 + "@example.com"),
        ("password", "x" * 9),
        ("password", "x" * 129),
        ("name", "  "),
        ("name", "Ada\r\nBcc: all@example.com"),
        ("name", "Ada\u0000"),
        ("roles", ["admin"]),
    ]
    for field, value in wrong:
        body = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada"} | {field: value}
        response = await shop.http.post("/api/v1/auth/register", json=body)
        assert response.status_code == 422, (field, value)
        assert [error["field"] for error in response.json()["errors"]] == [field]
        assert PASSWORD not in response.text


async def test_after_ten_failures_the_answer_says_when_to_come_back(shop: Shop) -> None:
    for _ in range(10):
        assert (await shop.log_in("ada@example.com", "wrong")).status_code == 401
    response = await shop.log_in("ada@example.com", "wrong")
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert 0 < int(response.headers["retry-after"]) <= 30
    assert (await shop.log_in("ada@example.com", "wrong", address="198.51.100.7")).status_code == 401


async def until_refused(shop: Shop, headers: dict[str, str]) -> None:
    """Within the two seconds that are promised, and some for a slow machine."""

    async def is_refused() -> bool:
        response = await shop.http.get("/api/v1/users/me", headers=headers)
        return response.status_code == 401 and response.json()["code"] == "unauthenticated"

    await eventually(is_refused, what="the token to be worthless")


async def test_logging_out_makes_the_access_token_worthless_and_can_be_repeated(shop: Shop) -> None:
    _, here = await shop.user("ada@example.com")
    elsewhere = bearer(await shop.log_in("ada@example.com"))
    for _ in range(2):
        assert (await shop.http.post("/api/v1/auth/logout", headers=here)).status_code == 204
    await until_refused(shop, here)
    assert (await shop.http.post("/api/v1/auth/logout", headers=here)).status_code == 204
    assert (await shop.http.get("/api/v1/users/me", headers=elsewhere)).status_code == 200
    for nobody in ({}, {"Authorization": "Bearer nonsense"}):
        assert (await shop.http.post("/api/v1/auth/logout", headers=nobody)).json()["code"] == "unauthenticated"
    login = await shop.log_in("ada@example.com")
    body, expired = {"refresh_token": login.json()["refresh_token"]}, {"Authorization": "Bearer expired"}
    assert (await shop.http.post("/api/v1/auth/logout", json=body, headers=expired)).status_code == 204
    await until_refused(shop, bearer(login))


async def test_a_person_sees_and_ends_their_sessions(shop: Shop) -> None:
    first = await shop.customer("ada@example.com")
    logins = [first, *[bearer(await shop.log_in("ada@example.com")) for _ in range(3)]]
    _, bob = await shop.user("bob@example.com")
    here = logins[0]

    async def pages() -> list[dict[str, object]]:
        found, cursor = [], None
        while True:
            params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
            page = (await shop.http.get("/api/v1/users/me/sessions", params=params, headers=here)).json()
            found += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    seen = await pages()
    assert [each["session_id"] for each in seen] == [session_of(headers) for headers in reversed(logins)]
    assert [each["is_current"] for each in seen] == [False, False, False, True]
    assert str(seen[0]["device"]).startswith("python-httpx")
    one = f"/api/v1/users/me/sessions/{session_of(logins[1])}"
    assert (await shop.http.delete(one, headers=bob)).status_code == 404
    for _ in range(2):
        assert (await shop.http.delete(one, headers=here)).status_code == 204
    assert len(await pages()) == 3
    assert (await shop.http.delete("/api/v1/users/me/sessions", headers=here)).status_code == 204
    assert [each["session_id"] for each in await pages()] == [session_of(here)]
    for headers in logins[1:]:
        await until_refused(shop, headers)
    assert (await shop.http.get("/api/v1/users/me", headers=bob)).status_code == 200


async def test_an_admin_sees_and_ends_the_sessions_of_others(shop: Shop) -> None:
    admin = await shop.admin()
    ada, first = await shop.user("ada@example.com")
    second = bearer(await shop.log_in("ada@example.com"))
    sessions = f"/api/v1/users/{ada}/sessions"
    for path in (sessions, f"{sessions}/{session_of(second)}"):
        assert (await shop.http.delete(path, headers=first)).json()["code"] == "forbidden"
    assert (await shop.http.get(sessions, headers=first)).json()["code"] == "forbidden"
    assert len((await shop.http.get(sessions, headers=admin)).json()["items"]) == 2
    assert (await shop.http.delete(f"{sessions}/{session_of(second)}", headers=admin)).status_code == 204
    await until_refused(shop, second)
    assert (await shop.http.delete(sessions, headers=admin)).status_code == 204
    await until_refused(shop, first)
    (record, *_) = (await shop.http.get("/api/v1/security-log", params={"kind": "sessions_ended"}, headers=admin)).json()["items"]
    assert (record["user_id"], record["detail"]) == (ada, "sessions: 1")


async def test_g3_who_is_disabled_is_out_at_once_and_in_again_when_enabled(shop: Shop) -> None:
    admin = await shop.admin()
    ada, headers = await shop.user("ada@example.com")
    user = f"/api/v1/users/{ada}"
    me = (await shop.http.get("/api/v1/users/me", headers=admin)).json()["user_id"]
    assert (await shop.http.post(f"{user}/disable", json={"reason": "x"}, headers=headers)).json()["code"] == "forbidden"
    assert (await shop.http.post(f"/api/v1/users/{me}/disable", json={"reason": "x"}, headers=admin)).status_code == 409
    assert (await shop.http.post(f"{user}/disable", json={}, headers=admin)).status_code == 422
    disabled = await shop.http.post(f"{user}/disable", json={"reason": "Sold stolen goods"}, headers=admin)
    assert disabled.json()["disabled_at"] is not None
    await until_refused(shop, headers)
    refused = await shop.log_in("ada@example.com")
    assert (refused.status_code, refused.json()["code"]) == (403, "account_disabled")
    assert (await shop.http.post(f"{user}/enable", headers=admin)).json()["disabled_at"] is None
    assert (await shop.log_in("ada@example.com")).status_code == 200


async def test_g3_a_change_of_roles_ends_what_the_old_roles_could_do(shop: Shop) -> None:
    admin = await shop.admin()
    other, headers = await shop.user("other@example.com")
    roles = f"/api/v1/users/{other}/roles"
    await shop.http.put(roles, json={"roles": ["admin"]}, headers=admin | {"If-Match": '"2"'})
    await until_refused(shop, headers)
    fallen = bearer(await shop.log_in("other@example.com"))
    await shop.http.put(roles, json={"roles": ["customer"]}, headers=admin | {"If-Match": '"3"'})
    again = await shop.http.put(roles, json={"roles": ["admin"]}, headers=fallen | {"If-Match": '"4"'})
    assert again.json()["code"] in ("forbidden", "unauthenticated")
    await until_refused(shop, fallen)


async def test_g9_admins_search_the_security_log(shop: Shop) -> None:
    admin = await shop.admin()
    ada, headers = await shop.user("ada@example.com")
    await shop.log_in("ada@example.com", "wrong", address="198.51.100.7")
    await shop.log_in("nobody@example.com", "wrong", address="2001:db8::1")
    await shop.http.get("/api/v1/users/me", headers={"Authorization": "Bearer nonsense", "X-Forwarded-For": "198.51.100.8"})
    await shop.http.post(f"/api/v1/users/{ada}/disable", json={"reason": "a thief"}, headers=admin)

    async def found(**filters: str) -> list[tuple[str, str | None]]:
        response = await shop.http.get("/api/v1/security-log", params=filters, headers=admin)
        assert response.status_code == 200, response.text
        return [(item["kind"], item["account"]) for item in response.json()["items"]]

    everything = [
        ("user_disabled", None),
        ("token_refused", None),
        ("login_failed", "nobody@example.com"),
        ("login_failed", "ada@example.com"),
    ]
    assert await found() == everything
    assert await found(kind="login_failed") == everything[2:]
    assert await found(user_id=ada) == [everything[0], everything[3]]
    assert await found(address="198.51.100.8") == [everything[1]]
    assert await found(address="2001:DB8:0::1") == [everything[2]]
    assert await found(since="2100-01-01T00:00:00Z") == []
    assert await found(until="2100-01-01T00:00:00Z", since="2020-01-01T00:00:00Z") == everything
    first = (await shop.http.get("/api/v1/security-log", params={"limit": "3"}, headers=admin)).json()
    assert await found(cursor=first["next_cursor"]) == everything[3:]
    assert (
        await shop.http.get("/api/v1/security-log", params={"since": "0001-01-01T00:00:00Z"}, headers=admin)
    ).status_code == 422
    assert (await shop.http.get("/api/v1/security-log", headers=headers)).status_code in (401, 403)


async def test_customers_see_themselves_only(shop: Shop) -> None:
    ada, ada_headers = await shop.user("ada@example.com")
    bob, _ = await shop.user("bob@example.com")
    assert (await shop.http.get(f"/api/v1/users/{ada}", headers=ada_headers)).json()["email"] == "ada@example.com"
    others = await shop.http.get(f"/api/v1/users/{bob}", headers=ada_headers)
    nobody = await shop.http.get(f"/api/v1/users/{uuid4()}", headers=ada_headers)
    assert others.status_code == nobody.status_code == 404
    assert others.json()["detail"] == nobody.json()["detail"]
    assert (await shop.http.get("/api/v1/users", headers=ada_headers)).json()["code"] == "forbidden"
    mine = await shop.http.put(f"/api/v1/users/{ada}/roles", json={"roles": ["admin"]}, headers=ada_headers | {"If-Match": '"1"'})
    assert mine.json()["code"] == "forbidden"
    assert (await shop.http.get("/api/v1/users/me")).json()["code"] == "unauthenticated"


async def test_support_sees_anybody_and_a_warehouse_nobody_else(shop: Shop, issuer: TokenIssuer) -> None:
    ada, _ = await shop.user("ada@example.com")
    for role, status in ((Role.SUPPORT, 200), (Role.ADMIN, 200), (Role.WAREHOUSE, 404)):
        headers = {"Authorization": f"Bearer {issuer.access_token(uuid4(), [role], uuid4())}"}
        assert (await shop.http.get(f"/api/v1/users/{ada}", headers=headers)).status_code == status, role


async def test_an_admin_sets_roles_on_the_version_that_was_read(shop: Shop) -> None:
    admin = await shop.admin()
    ada, _ = await shop.user("ada@example.com")
    tag = (await shop.http.get(f"/api/v1/users/{ada}", headers=admin)).headers["etag"]

    async def put(*roles: str, **headers: str) -> httpx2.Response:
        return await shop.http.put(f"/api/v1/users/{ada}/roles", json={"roles": roles}, headers=admin | headers)

    changed = await put("support", "customer", **{"If-Match": tag})
    assert changed.json()["roles"] == ["customer", "support"]
    assert changed.headers["etag"] == f'"{changed.json()["version"]}"' != tag
    stale = await put("warehouse", **{"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    assert (stale.json()["current"], stale.json()["current_version"]) == (changed.json(), changed.json()["version"])
    assert (await put("warehouse")).json()["errors"][0]["field"] == "If-Match"
    for roles in (["service"], ["king"], []):
        assert (await put(*roles, **{"If-Match": changed.headers["etag"]})).json()["code"] == "validation_failed"
    login = (await shop.log_in("ada@example.com")).json()
    assert jwt.decode(login["access_token"], options={"verify_signature": False})["roles"] == ["customer", "support"]


async def test_nobody_changes_a_user_that_they_have_not_seen(shop: Shop) -> None:
    admin = await shop.admin()
    ada, headers = await shop.user("ada@example.com")
    seen = await shop.http.get(f"/api/v1/users/{ada}", headers=admin)
    tag = seen.headers["etag"]
    me = await shop.http.get("/api/v1/users/me", headers=headers)
    assert me.headers["etag"] == tag
    profile = {"name": "Ada Lovelace"}
    changed = await shop.http.patch("/api/v1/users/me", json=profile, headers=headers | {"If-Match": tag})
    assert changed.headers["etag"] != tag

    async def refused(method: str, path: str, by: dict[str, str], body: dict[str, Any]) -> None:
        reply = await shop.http.request(method, path, json=body, headers=by | {"If-Match": tag})
        assert (reply.status_code, reply.json()["code"]) == (412, "stale_version"), path
        assert reply.json()["current"] == changed.json(), path
        assert f'"{reply.json()["current_version"]}"' == changed.headers["etag"], path

    await refused("PATCH", "/api/v1/users/me", headers, profile)
    await refused("POST", "/api/v1/users/me/email", headers, {"email": "new@example.com", "current_password": PASSWORD})
    await refused("POST", "/api/v1/auth/password", headers, {"current_password": PASSWORD, "new_password": "another password"})
    await refused("PUT", f"/api/v1/users/{ada}/roles", admin, {"roles": ["support"]})
    await refused("POST", f"/api/v1/users/{ada}/disable", admin, {"reason": "a thief"})
    await refused("POST", f"/api/v1/users/{ada}/enable", admin, {})
    assert (await shop.log_in("ada@example.com")).status_code == 200  # nothing has changed
    disabled = await shop.http.post(
        f"/api/v1/users/{ada}/disable", json={"reason": "x"}, headers=admin | {"If-Match": changed.headers["etag"]}
    )
    enabled = await shop.http.post(f"/api/v1/users/{ada}/enable", headers=admin | {"If-Match": disabled.headers["etag"]})
    assert (disabled.status_code, enabled.status_code, enabled.headers["etag"]) == (200, 200, f'"{enabled.json()["version"]}"')


async def test_who_may_not_change_a_user_does_not_learn_what_it_is_now(shop: Shop) -> None:
    ada, _ = await shop.user("ada@example.com")
    _, bob = await shop.user("bob@example.com")
    reply = await shop.http.put(f"/api/v1/users/{ada}/roles", json={"roles": ["admin"]}, headers=bob | {"If-Match": '"1"'})
    assert (reply.status_code, "current" in reply.json()) == (403, False)


async def test_the_document_says_of_each_change_that_it_may_be_too_late(shop: Shop) -> None:
    document = (await shop.http.get("/openapi.json")).json()
    operations = [
        (method.upper(), path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    conditional = {
        (method, path)
        for method, path, operation in operations
        if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ()))
    }
    assert conditional == {
        ("PATCH", "/api/v1/users/me"),
        ("POST", "/api/v1/users/me/email"),
        ("POST", "/api/v1/auth/password"),
        ("PUT", "/api/v1/users/{user_id}/roles"),
        ("POST", "/api/v1/users/{user_id}/disable"),
        ("POST", "/api/v1/users/{user_id}/enable"),
    }
    assert {(method, path) for method, path, operation in operations if "412" in operation["responses"]} == conditional


async def test_users_come_in_pages(shop: Shop) -> None:
    admin = await shop.admin()
    for name in "abcd":
        await shop.register(f"{name}@example.com")
    seen, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await shop.http.get("/api/v1/users", params=params, headers=admin)).json()
        seen += [item["email"][0] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == ["a", "a", "b", "c", "d"]  # the first admin came first
    bad = await shop.http.get("/api/v1/users", params={"cursor": "nonsense"}, headers=admin)
    assert bad.json()["code"] == "invalid_cursor"


async def test_g12_a_process_gets_its_token_for_its_own_secret_alone(shop: Shop) -> None:
    async def ask(client_id: str, secret: str, address: str = "192.0.2.9") -> httpx2.Response:
        body = {"client_id": client_id, "client_secret": secret}
        return await shop.http.post("/internal/v1/service-tokens", json=body, headers={"X-Forwarded-For": address})

    secrets = {name: secret.get_secret_value() for name, secret in CLIENT_SECRETS.items()}
    response = await ask("worker", secrets["worker"])
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    token = ServiceToken.model_validate(response.json())
    me = await shop.http.get("/api/v1/users/me", headers={"Authorization": f"Bearer {token.access_token}"})
    assert me.status_code == 401  # no process has any business here
    for client_id, secret in (("worker", secrets["order"]), ("audit", secrets["worker"]), ("worker", "ä"), ("worker", "")):
        refused = await ask(client_id, secret)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    assert (await ask("Not A Name", secrets["worker"])).status_code == 422
    for _ in range(8):
        await ask("worker", "a guess", "192.0.2.10")
    assert [(await ask("worker", "a guess", "192.0.2.10")).status_code for _ in range(3)] == [401, 401, 429]
    assert (await ask("worker", secrets["worker"])).status_code == 200
    log = await shop.http.get("/api/v1/security-log?kind=service_token_refused&limit=200", headers=await shop.admin())
    accounts = [item["account"] for item in log.json()["items"]]
    assert (accounts.count("worker"), accounts.count("audit")) == (13, 1)


async def test_a_restart_leaves_the_first_admin_as_it_is(
    shop: Shop, database: Database, settings: Callable[..., IdentitySettings]
) -> None:
    again = build(settings(database.url, admin_email="admin@example.com", admin_password="another password"))
    async with again.opened():
        pass
    await shop.admin()
    assert (await shop.log_in("admin@example.com", "another password")).status_code == 401
