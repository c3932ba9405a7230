"""Each case of the tables: what the services received, and what the client got. In between, another client is served."""

import asyncio
import hashlib
import json
from collections.abc import Iterable

import pytest

from contracts.errors import ErrorCode
from tests.gateway.hostile import callers, framing, targets
from tests.gateway.hostile.cases import HOST, Case, Expected, head
from tests.gateway.hostile.conftest import Door
from tests.gateway.hostile.services import Arrival
from tests.gateway.hostile.wire import Answer, exchange

TABLES = {
    f"{module.__name__.rpartition('.')[2]}.{name.lower()}": table
    for module in (framing, targets, callers)
    for name, table in vars(module).items()
    if name.isupper() and isinstance(table, tuple) and isinstance(table[0], Case)
}


@pytest.mark.parametrize("table", TABLES)
async def test_requests(door: Door, table: str) -> None:
    """G1, G4: nothing but what a case allows reaches a service, as its sender; nobody gets another's answer."""
    failures = []
    for case in TABLES[table]:
        try:
            await _check(door, case)
        except (AssertionError, TimeoutError) as error:
            failures.append(f"{case.name}: {type(error).__name__} {error}\nsent: {case.sent!r}")
    assert not failures, f"{len(failures)} of {len(TABLES[table])} cases\n\n" + "\n\n".join(failures)


async def test_g1_logins_are_answered_to_who_logged_in(door: Door) -> None:
    """G1: with a request hidden in a body, 13 of 14 logins were answered to the wrong client."""
    hidden = head(b"POST /api/v1/auth/login HTTP/1.1", HOST, b"Content-Length: 300") + b"evil"
    line = b"POST /api/v1/auth/login HTTP/1.1"
    attack = head(line, HOST, b"Connection: content-length", b"Content-Length: %d" % len(hidden)) + hidden
    bodies = [b'{"email": "customer-%d@shop.example"}' % number for number in range(14)]
    logins = [head(line, HOST, b"Content-Length: %d" % len(body)) + body for body in bodies]
    sent = [request for login in logins for request in (attack, login)]
    answered = await asyncio.gather(*(exchange(door.port, request, answers=1) for request in sent))
    told = [json.loads(answers[0].body)["sha256"] for answers in answered]
    assert told == [hashlib.sha256(body).hexdigest() for own in bodies for body in (hidden, own)]
    assert sorted(arrival.body for arrival in door.record.arrivals) == sorted([hidden] * 14 + bodies)


async def _check(door: Door, case: Case) -> None:
    door.record.clear()
    sent = [door.people.fill(piece) for piece in case.sent]
    answers = await exchange(door.port, *sent, answers=len(case.answers), to_head=case.to_head, pause_s=0.02)
    # Whatever is left of it on the way to a service would be found by the next one who asks.
    other = Expected("DELETE", "/api/v1/products/7", runs_as="admin")
    asked = door.people.fill(head(b"DELETE /api/v1/products/7 HTTP/1.1", HOST, b"Authorization: Bearer <admin>"))
    others = await exchange(door.port, asked, asked, answers=2)

    assert [answer.status for answer in answers] == list(case.answers)
    assert [answer.status for answer in others] == [200, 200]
    assert not door.record.unreadable
    assert door.record.begun == len(door.record.arrivals)
    assert [_seen(door, arrival) for arrival in door.record.arrivals] == [*case.arrives, other, other]
    _assert_own_answers([*answers, *others], door.record.arrivals, to_head=case.to_head)
    for arrival in door.record.arrivals:
        arrival.assert_plain()
        assert not case.without or not [line for line in arrival.headers if case.without in line[1]]


def _seen(door: Door, arrival: Arrival) -> Expected:
    return Expected(arrival.method, arrival.target, arrival.body, door.people.name(arrival.runs_as))


def _assert_own_answers(answers: Iterable[Answer], arrivals: list[Arrival], *, to_head: bool) -> None:
    """Each answer is to the request that it belongs to; what the front door refuses itself is a problem of ours."""
    serials = iter(arrivals)
    for answer in answers:
        if answer.status == 200:
            arrival = next(serials)
            assert (to_head and arrival.method == "HEAD") or json.loads(answer.body)["serial"] == arrival.serial
        elif answer.status >= 400:
            assert answer.all("content-type") == ["application/problem+json"], answer
            if not to_head:
                problem = json.loads(answer.body)
                assert problem["status"] == answer.status
                ErrorCode(problem["code"])
