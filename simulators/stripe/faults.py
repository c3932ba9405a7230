"""Failure on demand, of this company in particular."""

from __future__ import annotations

from dataclasses import dataclass

from simulators._faults import HttpFaults


@dataclass(slots=True)
class StripeFaults(HttpFaults):
    break_next: int = 0
    """This many POSTs are carried out and answered 500, whenever their idempotency key comes again, too."""
    limit_next: int = 0
    """429 to this many requests, which then have done nothing."""
    fail_reversals: bool = False
    """503 to every request that cancels or refunds, which then has done nothing."""
    refund_ms: int = 2_000
    """How long a refund takes that does not succeed at once, or that fails after it has."""
    webhooks_early: bool = False
    """An answer waits until its webhook has arrived."""
    webhooks_late_ms: int = 0
    """Waited before each webhook."""
    webhooks_twice: bool = False
    webhooks_held: bool = False
    """No webhook goes out until this is switched off."""
    webhooks_newest_first: bool = False
    """They go out one by one, the newest of those that wait first."""
