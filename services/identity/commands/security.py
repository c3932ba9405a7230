"""The security log: what strangers cause is written within a budget."""

from uuid import UUID

from chassis.database import Database
from chassis.origin import Origin
from chassis.store import UnitOfWork, transaction
from services.identity import figures
from services.identity.model import Budget, SecurityEvent, SecurityRecord


class SecurityLog:
    """Writes down what was refused."""

    def __init__(self) -> None:
        self._budget = Budget()

    async def record(
        self,
        database: Database,
        kind: SecurityEvent,
        origin: Origin,
        *,
        account: str | None = None,
        user_id: UUID | None = None,
        detail: str = "",
    ) -> None:
        """In a transaction of its own, after what had to be changed because of the refusal."""
        if self._budget.allows(origin.network):
            await _add(database, kind, origin, account, user_id, detail)
        else:
            figures.dropped_total.labels(kind).inc()


@transaction
async def _add(
    work: UnitOfWork, kind: SecurityEvent, origin: Origin, account: str | None, user_id: UUID | None, detail: str
) -> None:
    work.add(SecurityRecord(kind=kind, account=account, user_id=user_id, address=origin.address, detail=detail[:500]))
