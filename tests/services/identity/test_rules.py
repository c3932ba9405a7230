"""Rules that need no database: passwords, tokens, families, the guard, roles, settings."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import argon2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr, ValidationError

from chassis.clock import utc_now
from chassis.origin import Origin
from chassis.tokens import TokenVerifier
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.identity.app import IdentitySettings
from services.identity.model import FORGOTTEN_AFTER, PER_GUESSER, Budget, LoginGuard, Session, User, secret_tokens, security
from services.identity.passwords import Passwords
from services.identity.schemas import RolesRequest
from services.identity.tokens import TokenIssuer


def user(*roles: Role) -> User:
    return User(email="ada@example.com", email_verified_at=utc_now(), name="Ada", password_hash="h1", roles=list(roles))


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
    subject, session_id = uuid4(), uuid4()
    token = issuer.access_token(subject, [Role.CUSTOMER, Role.SUPPORT], session_id)
    (key,) = issuer.jwks["keys"]
    public = json.dumps({name: key[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(public.encode()).digest()).rstrip(b"=").decode()
    assert jwt.get_unverified_header(token)["kid"] == key["kid"] == thumbprint
    assert not {"d", "p", "q"} & key.keys()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 300
    assert claims["sid"] == str(session_id)
    assert "warehouses" not in claims
    assert claims["jti"] != jwt.decode(issuer.access_token(subject, [], session_id), options={"verify_signature": False})["jti"]
    principal = await TokenVerifier("distributed-commerce", "commerce", issuer.keys).verify(token)
    assert (principal.subject, principal.roles) == (subject, frozenset({Role.CUSTOMER, Role.SUPPORT}))


async def test_after_a_rotation_the_tokens_of_the_previous_key_still_verify(issuer: TokenIssuer) -> None:
    old_token = issuer.access_token(uuid4(), [Role.CUSTOMER], uuid4())
    old_public = jwt.PyJWK(issuer.jwks["keys"][0]).key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    new_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = new_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    # As an environment file holds it: on one line. And given twice by mistake.
    names = {"issuer": "distributed-commerce", "audience": "commerce"}
    one_line = old_public.decode().replace("\n", "\\n")
    rotated = TokenIssuer(SecretStr(pem.replace("\n", "\\n")), one_line * 2, **names)
    assert len(rotated.jwks["keys"]) == 2
    verifier = TokenVerifier("distributed-commerce", "commerce", rotated.keys)
    await verifier.verify(old_token)
    await verifier.verify(rotated.access_token(uuid4(), [], uuid4()))


def test_g12_a_service_token_names_the_services_it_is_for_and_a_subject_of_its_own(issuer: TokenIssuer) -> None:
    def claims(client_id: str) -> dict[str, object]:
        token = issuer.service_token(client_id)
        assert token.expires_in == 600
        found: dict[str, object] = jwt.decode(token.access_token, options={"verify_signature": False})
        return found

    worker, order = claims("worker"), claims("order")
    assert worker["roles"] == order["roles"] == ["service"]
    assert worker["sub"] == claims("worker")["sub"] != order["sub"]
    assert (worker["aud"], order["aud"]) == (
        ["order", "inventory", "payment", "shipping", "notification"],
        ["catalog", "shipping"],
    )
    assert "sid" not in worker


def test_only_the_last_refresh_token_of_a_session_is_good_and_only_its_hash_is_kept() -> None:
    login = Session(user_id=uuid4())
    first = login.first_token()
    second = login.next_token(first)
    assert (login.is_last(first), login.is_last(second)) == (False, True)
    assert secret_tokens.id_in(first) == secret_tokens.id_in(second) == login.session_id
    assert login.gave_out(first)
    assert login.gave_out(second)
    assert not login.gave_out(Session(user_id=uuid4(), session_id=login.session_id).first_token())
    for nonsense in ("no token", "\ud800"):
        assert secret_tokens.id_in(nonsense) is None
    assert second not in repr(login.model_dump())
    assert login.is_live
    assert not Session(user_id=uuid4(), expires_at=utc_now() + timedelta(days=1), ended_at=utc_now()).is_live
    assert not Session(user_id=uuid4(), expires_at=utc_now() - timedelta(seconds=1)).is_live


def test_g5_each_wrong_guess_costs_twice_the_pause_of_the_one_before() -> None:
    guard = LoginGuard(key="k", failures=PER_GUESSER.free - 1, failed_at=utc_now())
    guard.check(PER_GUESSER)
    pauses = []
    for _ in range(8):
        guard.count_failure()
        with pytest.raises(Refusal) as refused:
            guard.check(PER_GUESSER)
        assert refused.value.code == ErrorCode.RATE_LIMITED
        pauses.append(refused.value.extra["retry_after"])
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900]
    guard.failures = 10**9
    guard.failed_at -= PER_GUESSER.longest_pause
    guard.check(PER_GUESSER)


def test_failures_of_long_ago_are_forgotten() -> None:
    guard = LoginGuard(key="k", failures=50, failed_at=utc_now() - FORGOTTEN_AFTER)
    guard.count_failure()
    assert guard.failures == 1


def test_guesses_are_counted_by_network() -> None:
    assert Origin("192.0.2.1").network == "192.0.2.1"
    assert Origin("2001:db8:1:2:aaaa::1").network == Origin("2001:db8:1:2:bbbb::2").network == "2001:db8:1:2::"
    assert Origin("::ffff:192.0.2.1").network == "192.0.2.1"


def test_strangers_share_a_budget_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "time", SimpleNamespace(monotonic=lambda: 600.0))
    budget = Budget()
    assert [budget.allows("a") for _ in range(Budget.PER_NETWORK + 5)].count(True) == Budget.PER_NETWORK
    assert [budget.allows(f"network {n}") for n in range(Budget.IN_ALL)].count(True) == Budget.IN_ALL - Budget.PER_NETWORK
    monkeypatch.setattr(security, "time", SimpleNamespace(monotonic=lambda: 660.0))
    assert budget.allows("a")


def test_only_who_holds_the_address_becomes_staff_and_an_admin_stays_one() -> None:
    someone, by = user(Role.CUSTOMER), uuid4()
    event = someone.set_roles([Role.WAREHOUSE, Role.CUSTOMER], ["w2", "w1"], by=by)
    assert (someone.roles, someone.warehouses) == (["customer", "warehouse"], ["w1", "w2"])
    assert event is not None
    assert (event.roles, event.warehouses, event.by) == ((Role.CUSTOMER, Role.WAREHOUSE), ("w1", "w2"), by)
    assert someone.set_roles([Role.WAREHOUSE, Role.CUSTOMER], ["w1", "w2"], by=by) is None
    someone.email_verified_at = None
    with pytest.raises(Refusal) as refused:  # whoever opened the account may have entered anybody's address
        someone.set_roles([Role.SUPPORT], None, by=by)
    assert refused.value.code == ErrorCode.CONFLICT
    someone.set_roles([Role.CUSTOMER], None, by=by)
    admin = user(Role.ADMIN)
    with pytest.raises(Refusal) as refused:
        admin.set_roles([Role.CUSTOMER], None, by=admin.user_id)
    assert refused.value.code == ErrorCode.CONFLICT
    with pytest.raises(Refusal) as refused:
        admin.disable(by=admin.user_id)
    assert refused.value.code == ErrorCode.CONFLICT


def test_warehouses_are_for_the_role_warehouse() -> None:
    RolesRequest(roles=frozenset({Role.WAREHOUSE}), warehouses=frozenset({"w1"}))
    for wrong in ({"roles": ["support"], "warehouses": ["w1"]}, {"roles": ["warehouse"], "warehouses": []}):
        with pytest.raises(ValidationError):
            RolesRequest.model_validate(wrong)


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
        {"service_client_secret_worker": "too-short"},
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(
    settings: Callable[..., IdentitySettings], wrong: dict[str, str]
) -> None:
    with pytest.raises(ValidationError):
        settings("postgresql://nowhere/identity", **wrong)
