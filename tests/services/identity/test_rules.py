"""Rules that need no database: passwords, tokens, families, the guard, roles, settings."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import argon2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr, ValidationError

from chassis.clock import utc_now
from chassis.tokens import TokenVerifier
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role, ServiceTokenRequest
from services.identity.app import IdentitySettings
from services.identity.model import FAILURE_WINDOW, FAILURES_ALLOWED, LoginGuard, RefreshFamily, User
from services.identity.passwords import Passwords
from services.identity.tokens import TokenIssuer
from tests.services.identity.conftest import CLIENT_SECRET


def user(*roles: Role) -> User:
    return User(email="ada@example.com", name="Ada", password_hash="h1", roles=list(roles), version=3)


async def test_a_hash_is_argon2id_with_owasp_parameters(passwords: Passwords) -> None:
    found = argon2.extract_parameters(await passwords.hash(SecretStr("correct horse")))
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (argon2.Type.ID, 19 * 1024, 2, 1)


async def test_a_hash_made_with_other_parameters_is_renewed(passwords: Passwords) -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse")
    kept = await passwords.verify(SecretStr("correct horse"), old)
    assert kept is not None
    assert argon2.extract_parameters(kept).memory_cost == 19 * 1024
    assert await passwords.verify(SecretStr("correct horse"), kept) == kept
    assert await passwords.verify(SecretStr("wrong horse"), old) is None
    assert await passwords.verify(SecretStr("correct horse"), None) is None


async def test_any_text_may_be_a_password(passwords: Passwords) -> None:
    for odd in ("päss wörd ☃", "\ud800 half a pair", "nul \0 inside"):
        assert await passwords.verify(SecretStr(odd), await passwords.hash(SecretStr(odd)))
    assert await passwords.verify(SecretStr("nul \0 outside"), await passwords.hash(SecretStr("nul \0 inside"))) is None


async def test_the_key_id_is_the_thumbprint_and_verifiers_accept_the_token(issuer: TokenIssuer) -> None:
    subject = uuid4()
    token = issuer.access_token(subject, [Role.CUSTOMER, Role.SUPPORT])
    (key,) = issuer.jwks["keys"]
    public = json.dumps({name: key[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(public.encode()).digest()).rstrip(b"=").decode()
    assert jwt.get_unverified_header(token)["kid"] == key["kid"] == thumbprint
    assert not {"d", "p", "q"} & key.keys()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900
    assert claims["jti"] != jwt.decode(issuer.access_token(subject, []), options={"verify_signature": False})["jti"]
    principal = await TokenVerifier("distributed-commerce", "commerce", issuer.keys).verify(token)
    assert (principal.subject, principal.roles) == (subject, frozenset({Role.CUSTOMER, Role.SUPPORT}))


async def test_after_a_rotation_the_tokens_of_the_previous_key_still_verify(issuer: TokenIssuer) -> None:
    old_token = issuer.access_token(uuid4(), [Role.CUSTOMER])
    old_public = jwt.PyJWK(issuer.jwks["keys"][0]).key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    new_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = new_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    # As an environment file holds it: on one line. And given twice by mistake.
    names = {"issuer": "distributed-commerce", "audience": "commerce", "client_secret": CLIENT_SECRET}
    one_line = old_public.decode().replace("\n", "\\n")
    rotated = TokenIssuer(SecretStr(pem.replace("\n", "\\n")), one_line * 2, **names)  # type: ignore[arg-type]
    assert len(rotated.jwks["keys"]) == 2
    verifier = TokenVerifier("distributed-commerce", "commerce", rotated.keys)
    await verifier.verify(old_token)
    await verifier.verify(rotated.access_token(uuid4(), []))


def test_a_service_token_has_the_role_service_and_a_subject_of_its_own(issuer: TokenIssuer) -> None:
    def ask(client_id: str, secret: str = CLIENT_SECRET.get_secret_value()) -> dict[str, object]:
        token = issuer.service_token(ServiceTokenRequest(client_id=client_id, client_secret=SecretStr(secret)))
        assert token.expires_in == 600
        claims: dict[str, object] = jwt.decode(token.access_token, options={"verify_signature": False})
        return claims

    worker = ask("worker")
    assert worker["roles"] == ["service"]
    assert worker["sub"] == ask("worker")["sub"] != ask("order")["sub"]
    for wrong in ("", "a-secret-of-the-platforn", "ä"):
        with pytest.raises(Refusal) as refused:
            ask("worker", wrong)
        assert refused.value.code == ErrorCode.INVALID_CREDENTIALS


def test_only_the_last_token_of_a_family_is_good_and_only_its_hash_is_kept() -> None:
    family = RefreshFamily(user_id=uuid4())
    first = family.next_token()
    second = family.next_token()
    assert (family.is_last(first), family.is_last(second)) == (False, True)
    assert RefreshFamily.id_in(first) == RefreshFamily.id_in(second) == family.family_id
    assert RefreshFamily.id_in("no token") is None
    assert second not in repr(family.model_dump())
    assert family.is_live
    revoked = RefreshFamily(user_id=uuid4())
    revoked.next_token()
    revoked.revoke()
    assert not revoked.is_live
    idle = RefreshFamily(user_id=uuid4(), expires_at=utc_now() - timedelta(seconds=1))
    assert not idle.is_live


def test_the_guard_refuses_after_ten_failures_until_the_window_has_passed() -> None:
    guard = LoginGuard(email="ada@example.com")
    for _ in range(FAILURES_ALLOWED):
        guard.check()
        guard.count_failure()
    with pytest.raises(Refusal) as refused:
        guard.check()
    assert refused.value.code == ErrorCode.RATE_LIMITED
    assert 895 <= refused.value.extra["retry_after"] <= 900
    guard.since -= FAILURE_WINDOW
    guard.check()
    guard.count_failure()
    assert guard.failures == 1


def test_roles_are_set_on_the_version_that_was_read_and_an_admin_stays_one() -> None:
    someone, by = user(Role.CUSTOMER), uuid4()
    someone.set_roles([Role.SUPPORT, Role.CUSTOMER], by=by, version=3)
    assert someone.roles == ["customer", "support"]
    with pytest.raises(Refusal) as refused:
        someone.set_roles([Role.CUSTOMER], by=by, version=2)
    assert refused.value.code == ErrorCode.STALE_VERSION
    admin = user(Role.ADMIN)
    with pytest.raises(Refusal) as refused:
        admin.set_roles([Role.CUSTOMER], by=admin.user_id, version=3)
    assert refused.value.code == ErrorCode.CONFLICT


def test_a_password_proven_against_an_older_hash_changes_nothing() -> None:
    someone = user(Role.CUSTOMER)
    someone.change_password("h1", "h2")
    for late in (someone.log_in, someone.change_password):
        with pytest.raises(Refusal) as refused:
            late("h1", "h3")
        assert refused.value.code == ErrorCode.INVALID_CREDENTIALS
    assert someone.password_hash == "h2"


@pytest.mark.parametrize(
    "wrong",
    [
        {"admin_email": "admin@example.com"},
        {"admin_email": "admin@example.com", "admin_password": "short"},
        {"service_client_secret": ""},
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(
    settings: Callable[..., IdentitySettings], wrong: dict[str, str]
) -> None:
    with pytest.raises(ValidationError):
        settings("postgresql://nowhere/identity", **wrong)
