"""Event lag from the consumers' own histogram: from the event's record to the commit of its effect."""

import re

_BUCKET = re.compile(r'^event_lag_seconds_bucket\{le="([^"]+)",topic="[^"]+"\} ([\d.e+]+)$', re.MULTILINE)


def buckets(metrics: str) -> dict[float, float]:
    """Cumulative counts by upper bound in seconds, over all topics, from a Prometheus text page."""
    counts: dict[float, float] = {}
    for bound, count in _BUCKET.findall(metrics):
        counts[float(bound)] = counts.get(float(bound), 0.0) + float(count)
    return counts


def quantile_ms(before: dict[float, float], after: dict[float, float], q: float) -> float:
    """The q-quantile in milliseconds of what was observed between two readings, interpolated within its bucket."""
    grown = sorted((bound, count - before.get(bound, 0.0)) for bound, count in after.items())
    wanted = q * grown[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in grown:
        if count >= wanted:
            if bound == float("inf"):
                return lower * 1000
            return (lower + (bound - lower) * (wanted - below) / max(count - below, 1e-9)) * 1000
        lower, below = bound, count
    return lower * 1000
