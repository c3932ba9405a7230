"""What a verifier accepts: whose token, for whom, by which clock, and until its session ends."""

import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chassis.sessions import EndedSessions
from chassis.tokens import ALGORITHM, TokenVerifier
from contracts.errors import ErrorCode, Refusal
from contracts.identity import EndedSessionList, Role

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def keys() -> dict[str, Any]:
    return {"keys": [RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k", "alg": ALGORITHM}]}


def signed(seconds_from_now: float = 0, **others: object) -> str:
    """A customer's token that was issued then, for five minutes."""
    now = time.time() + seconds_from_now
    claims = {"iss": "shop", "aud": "commerce", "sub": str(uuid4()), "sid": str(uuid4()), "roles": [Role.CUSTOMER]}
    return jwt.encode(claims | {"iat": now, "exp": now + 300} | others, KEY, ALGORITHM, headers={"kid": "k"})


def verifier(**options: Any) -> TokenVerifier:
    return TokenVerifier("shop", "commerce", keys, **options)


async def code_of(token: str, by: TokenVerifier) -> ErrorCode | None:
    try:
        await by.verify(token)
    except Refusal as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize(
    ("seconds_from_now", "code"),
    [
        (50, None),
        (-350, None),
        (-370, ErrorCode.UNAUTHENTICATED),
        (70, ErrorCode.CLOCK_FAULT),
    ],
)
async def test_g13_clocks_may_differ_by_a_minute_and_more_is_a_fault_of_ours(
    seconds_from_now: float, code: ErrorCode | None
) -> None:
    assert await code_of(signed(seconds_from_now), verifier()) == code


async def test_g13_a_forged_token_from_the_future_is_no_clock_fault() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = jwt.decode(signed(3600), options={"verify_signature": False})
    assert await code_of(jwt.encode(claims, other, ALGORITHM, headers={"kid": "k"}), verifier()) == ErrorCode.UNAUTHENTICATED


async def test_a_token_that_was_accepted_is_refused_once_its_session_has_ended() -> None:
    here, elsewhere = uuid4(), uuid4()
    told: list[EndedSessionList] = [EndedSessionList(position=1, session_ids=[])]

    async def tell(since: int) -> EndedSessionList:
        return told[-1]

    ended = EndedSessions(tell)
    gate = verifier(ended=ended)
    subject = str(uuid4())
    first, second, other = (signed(sub=subject, sid=str(sid)) for sid in (here, here, elsewhere))
    assert [await code_of(token, gate) for token in (first, other)] == [None, None]
    told.append(EndedSessionList(position=2, session_ids=[here]))
    await ended._ask()
    assert [await code_of(token, gate) for token in (first, second, other)] == [ErrorCode.UNAUTHENTICATED] * 2 + [None]
    assert (await gate.read(first)).session_id == here


async def test_g12_the_token_of_a_process_passes_only_at_the_services_it_names() -> None:
    process: dict[str, Any] = {"roles": [Role.SERVICE], "sid": None}
    token = signed(aud=["inventory", "payment"], **process)
    assert await code_of(token, verifier(service="payment")) is None
    for gate in (verifier(service="order"), verifier()):
        assert await code_of(token, gate) == ErrorCode.UNAUTHENTICATED
    for_people = signed(aud="commerce", **process)
    assert await code_of(for_people, verifier(service="payment")) == ErrorCode.UNAUTHENTICATED


async def test_a_person_needs_the_audience_of_people_and_a_session() -> None:
    assert await code_of(signed(), verifier(service="payment")) is None
    assert await code_of(signed(aud="payment"), verifier(service="payment")) == ErrorCode.UNAUTHENTICATED
    assert await code_of(signed(sid=None), verifier()) == ErrorCode.UNAUTHENTICATED


async def test_warehouses_are_all_unless_they_are_named() -> None:
    assert (await verifier().verify(signed())).warehouses is None
    assert (await verifier().verify(signed(warehouses=["w1"]))).warehouses == frozenset({"w1"})
