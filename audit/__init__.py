"""`commerce audit`: does everything that must always hold, hold? Across all services, the outside ledgers and Temporal.

    report = await run_audit(AuditSettings.of(platform.env), wait_s=30)

It reads the services' databases directly, and only reads; no service may do that, an auditor must.
"""

from audit.command import audit_command, run_audit
from audit.report import AuditReport
from audit.settings import AuditSettings
from audit.verdict import Violation

__all__ = ["AuditReport", "AuditSettings", "Violation", "audit_command", "run_audit"]
