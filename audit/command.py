"""`commerce audit`: looks until things are quiet, judges, tells."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from audit.books import Books
from audit.reader import Reader
from audit.report import UNREADABLE, AuditReport
from audit.rules import judge, unsettled
from audit.settings import AuditSettings
from audit.verdict import InFlight, Judgement, RuleResult
from audit.world import ALIVE
from chassis.clock import utc_now
from cli.operators import DEFAULT_DATA, Data, environment

PAUSE_S = 1.0
"""Between two looks; also how long a violation must stand before it counts."""
EXTRA_LOOKS = 2
"""After the wait, to see whether what is wrong stands."""


@dataclass(frozen=True)
class _Look:
    books: Books
    judgement: Judgement

    @property
    def wrong(self) -> set[tuple[str, str, str]]:
        return {violation.key for violation in self.judgement.violations}

    @property
    def is_quiet(self) -> bool:
        """Nothing more is to be expected: all was read, and nothing moves."""
        return not self.judgement.in_flight and not self.books.unreadable


async def run_audit(settings: AuditSettings, *, wait_s: float = 0) -> AuditReport:
    """Look until nothing moves and nothing is wrong, at most for `wait_s`, and judge what was seen last.

    The books are kept in many places, which no look sees in one instant; so a violation counts if two looks in a row show it.
    Without a wait, what is in flight is told and not judged; with one, what moved all that time and got nowhere is a violation.
    """
    began_at, began = utc_now(), time.monotonic()
    looks: list[_Look] = []
    extra = 0
    async with Reader(settings) as reader:
        while True:
            look = await _look(reader)
            before = looks[-1] if looks else None
            looks.append(look)
            stands = before is not None and look.wrong <= before.wrong
            if look.is_quiet and (stands or not look.wrong):
                break
            remaining = wait_s - (time.monotonic() - began)
            if remaining <= 0:
                if stands or not look.wrong or extra == EXTRA_LOOKS:
                    break
                extra += 1
            await asyncio.sleep(min(PAUSE_S, remaining) if remaining > 0 else PAUSE_S)
    results, in_flight = _standing(looks)
    if wait_s > 0:
        results.append(unsettled([look.judgement.in_flight for look in looks], began_at))
    return AuditReport(
        taken_at=looks[-1].books.taken_at,
        seconds=time.monotonic() - began,
        looks=len(looks),
        read=_counts(looks[-1].books),
        rules=results,
        in_flight=in_flight,
        unreadable=dict(looks[-1].books.unreadable),
    )


def audit_command(
    wait: Annotated[float, typer.Option(help="Seconds to wait, at most, until nothing moves any more.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Compare all services' books, the outside ledgers and Temporal; 1 if something is wrong, 2 if something cannot be read."""
    console, complaints = Console(), Console(stderr=True)
    try:
        settings = AuditSettings.of(environment(data))
    except ValidationError as error:
        missing = ", ".join(str(item["loc"][0]).upper() for item in error.errors())
        complaints.print(f"No platform runs on {data}, and the environment does not say where one is: {missing}", soft_wrap=True)
        raise typer.Exit(UNREADABLE) from None
    report = asyncio.run(run_audit(settings, wait_s=wait))
    if as_json:
        typer.echo(report.as_json())
    else:
        report.print(console)
    raise typer.Exit(report.exit_code)


async def _look(reader: Reader) -> _Look:
    """Read and judge. Where something is wrong with an order whose saga runs, ask whether the saga is just at work on it."""
    books = await reader.read()
    judgement = judge(books)
    running = {workflow.order_id for workflow in books.workflows if workflow.status in ALIVE}
    suspects = {violation.order_id for violation in judgement.violations if violation.order_id} & running
    if suspects:
        books.busy = await reader.busy(order_id for order_id in suspects if order_id)
        judgement = judge(books) if books.busy else judgement
    return _Look(books, judgement)


def _standing(looks: list[_Look]) -> tuple[list[RuleResult], list[InFlight]]:
    """The last look's results with what the look before showed as well; what only the last one shows is in flight."""
    last = looks[-1].judgement
    known = looks[-2].wrong if len(looks) > 1 else set()
    results, in_flight = [], list(last.in_flight)
    for result in last.results:
        stands = [violation for violation in result.violations if violation.key in known]
        results.append(replace(result, violations=stands))
        in_flight += [
            InFlight(
                violation.subject, f"{violation.rule}: {violation.what} differed in the last look only", None, violation.order_id
            )
            for violation in result.violations
            if violation.key not in known
        ]
    return results, in_flight


def _counts(books: Books) -> dict[str, int]:
    return {
        "orders": len(books.orders),
        "prices of products": len(books.prices),
        "payments": len(books.payments),
        "charges at the provider": len(books.charges),
        "stock rows": len(books.stock),
        "reservations": len(books.reservations),
        "shipments": len(books.shipments),
        "parcels at the carrier": len(books.parcels),
        "workflows": len(books.workflows),
        "events": books.outbox_rows,
        "dead letters": len(books.dead_letters),
        "effects of events": sum(map(len, books.inboxes.values())),
        "notifications": len(books.notifications),
        "deliveries": len(books.deliveries),
        "mails at the mail server": len(books.mails),
        "messages at the SMS provider": len(books.sms),
        "messages at the push service": len(books.pushed),
        "orders in reports": len(books.facts),
    }
