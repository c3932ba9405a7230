"""After all journeys (this file is the last of them) the books must agree; and whoever falsifies one is found out."""

from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from audit import AuditReport, AuditSettings, run_audit
from contracts.platform import CLIENT_SECRETS
from testing.checker import check
from testing.scenarios import orders as plays
from testing.stage import Stage
from tests.audit.tampering import tamperings

FALSIFIED = (
    "the provider took a coin more than the order's total",
    "a unit of stock vanished",
    "the carrier picked the cancelled order's parcel up",
)
"""A ledger, a stock row, a shipment. Each other kind of book has its turn in tests/audit."""


async def audit(stage: Stage, wait_s: float = 0) -> AuditReport:
    return await run_audit(AuditSettings.of(stage.platform.env), wait_s=wait_s)


def told(report: AuditReport) -> list[str]:
    return [str(violation) for violation in report.violations]


def test_what_clients_were_told_fits_together(stage: Stage) -> None:
    assert stage.history.calls
    assert [str(violation) for violation in check(stage.history.calls)] == []


async def test_the_audit_finds_nothing_until_somebody_tampers(stage: Stage) -> None:
    confirmed = await stage.tells(await stage.placed(), "Confirmation queued")
    cancelled = await stage.ended(await stage.placed(plays.cancelled_in_time))

    clean = await audit(stage, wait_s=120)
    assert not told(clean)
    assert clean.exit_code == 0
    assert clean.read["orders"] >= 2

    known = {
        tampering.name: tampering
        for tampering in tamperings(stage.platform.env, confirmed=UUID(confirmed), cancelled=UUID(cancelled))
    }
    async with AsyncExitStack() as stack:
        for name in FALSIFIED:
            await stack.enter_async_context(known[name].done())
        falsified = await audit(stage)
    for name in FALSIFIED:
        assert known[name].rules <= falsified.violated, name
    assert falsified.exit_code == 1

    assert not told(await audit(stage, wait_s=120))


async def test_personal_data_and_secrets_are_in_no_log(stage: Stage) -> None:
    """Addresses, e-mails, cards and passwords of the journeys."""
    customer = stage.purchases[0].customer
    secrets = [
        customer.email.partition("@")[0] + "@",
        stage.purchases[0].body["ship_to"]["line1"],
        "password-",
        "pm_card_riskLevelElevated",
    ]
    secrets += [stage.platform.env[name] for name in ("ADMIN_PASSWORD", *CLIENT_SECRETS, "CARRIER_WEBHOOK_SECRET")]
    found = [
        f"{file.name}: {secret}"
        for file in sorted((stage.platform.data_dir / "logs").glob("*.log"))
        for secret in secrets
        if secret in file.read_text(errors="replace")
    ]
    if found:
        pytest.fail(", ".join(found))
