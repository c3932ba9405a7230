"""Identity's API: what goes in and out, who may do what, pages, versions."""

from collections.abc import Callable
from uuid import uuid4

import httpx2
import jwt

from chassis.database import Database
from chassis.tokens import TokenVerifier
from contracts.identity import Role, ServiceToken
from services.identity.app import IdentitySettings, build
from services.identity.tokens import TokenIssuer
from tests.services.identity.conftest import CLIENT_SECRET, PASSWORD, Shop, bearer


async def test_from_an_account_to_a_token_that_every_service_accepts(shop: Shop) -> None:
    registered = await shop.register("Ada@Example.COM")
    assert (registered.status_code, registered.headers["cache-control"]) == (201, "no-store")
    user = registered.json()["user"]
    assert (user["email"], user["email_verified"], user["roles"]) == ("ada@example.com", False, ["customer"])
    assert "password" not in registered.text
    me = await shop.http.get("/api/v1/users/me", headers=bearer(registered.json()["tokens"]))
    assert me.json() == user
    await shop.follow(await shop.link())

    login = await shop.log_in("ADA@example.com")
    assert (login.status_code, login.headers["cache-control"]) == (200, "no-store")
    pair = login.json()
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 900)
    published = await shop.http.get("/.well-known/jwks.json")
    assert published.headers["cache-control"] == "public, max-age=300"

    async def fetch() -> dict[str, object]:
        keys: dict[str, object] = published.json()
        return keys

    principal = await TokenVerifier("distributed-commerce", "commerce", fetch).verify(pair["access_token"])
    assert (str(principal.subject), principal.roles) == (user["user_id"], frozenset({Role.CUSTOMER}))
    me = await shop.http.get("/api/v1/users/me", headers=bearer(pair))
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

    headers = {"Authorization": f"Bearer {login['access_token']}"}
    body = {"current_password": PASSWORD, "new_password": "another password"}
    assert (await shop.http.post("/api/v1/auth/password", json=body)).status_code == 401
    assert (await shop.http.post("/api/v1/auth/password", json=body, headers=headers)).status_code == 204
    wrong = await shop.http.post("/api/v1/auth/password", json=body, headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
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
    assert 890 < int(response.headers["retry-after"]) <= 900


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
    for role, status in ((Role.SUPPORT, 200), (Role.ADMIN, 200), (Role.WAREHOUSE, 404), (Role.SERVICE, 404)):
        headers = {"Authorization": f"Bearer {issuer.access_token(uuid4(), [role])}"}
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
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_version")
    assert (await put("warehouse")).json()["errors"][0]["field"] == "If-Match"
    for roles in (["service"], ["king"], []):
        assert (await put(*roles, **{"If-Match": changed.headers["etag"]})).json()["code"] == "validation_failed"
    login = (await shop.log_in("ada@example.com")).json()
    assert jwt.decode(login["access_token"], options={"verify_signature": False})["roles"] == ["customer", "support"]


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


async def test_a_process_gets_its_token_for_the_secret_alone(shop: Shop) -> None:
    async def ask(secret: str, client_id: str = "worker") -> httpx2.Response:
        body = {"client_id": client_id, "client_secret": secret}
        return await shop.http.post("/internal/v1/service-tokens", json=body)

    response = await ask(CLIENT_SECRET.get_secret_value())
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    token = ServiceToken.model_validate(response.json())
    me = await shop.http.get("/api/v1/users/me", headers={"Authorization": f"Bearer {token.access_token}"})
    assert me.status_code == 404
    refused = await ask("wrong")
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    assert (await ask(CLIENT_SECRET.get_secret_value(), "Not A Name")).status_code == 422


async def test_a_restart_leaves_the_first_admin_as_it_is(
    shop: Shop, database: Database, settings: Callable[..., IdentitySettings]
) -> None:
    again = build(settings(database.url, admin_email="admin@example.com", admin_password="another password"))
    async with again.opened():
        pass
    await shop.admin()
    assert (await shop.log_in("admin@example.com", "another password")).status_code == 401
