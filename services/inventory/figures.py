"""What inventory is measured by, beside its requests. docs/metrics.md lists it."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from chassis.clock import utc_now


def backorders(waiting: int, since: datetime | None) -> Sequence[Metric]:
    """Parcels that wait for goods, and for how long the first of them has."""
    oldest = max(0.0, (utc_now() - since).total_seconds()) if since else 0.0
    return (
        GaugeMetricFamily("backorders_waiting", "Parcels that wait for goods.", waiting),
        GaugeMetricFamily("backorders_oldest_seconds", "For how long the one that waits longest has.", oldest),
    )
