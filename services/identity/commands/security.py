"""The security log: what strangers cause is written within a budget."""

from uuid import UUID

from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.origin import Origin
from services.identity.model import Budget, SecurityEvent, SecurityRecord

dropped_total = Counter("security_records_dropped_total", "Refusals that were too many to be written down.", ["kind"])


class SecurityLog:
    """Writes down what was refused."""

    def __init__(self) -> None:
        self._budget = Budget()

    def add(
        self,
        session: AsyncSession,
        kind: SecurityEvent,
        origin: Origin,
        *,
        account: str | None = None,
        user_id: UUID | None = None,
        detail: str = "",
    ) -> None:
        """In the transaction of `session`, which has to commit although the request is refused."""
        if not self._budget.allows(origin.network):
            dropped_total.labels(kind).inc()
            return
        session.add(SecurityRecord(kind=kind, account=account, user_id=user_id, address=origin.address, detail=detail[:500]))
