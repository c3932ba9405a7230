"""What the edge app counts. Requests are counted by Envoy, under /metrics of its own."""

from prometheus_client import Counter

shared_limits_unavailable_total = Counter(
    "gateway_shared_limits_unavailable_total",
    "Exchanges in which Redis did not answer or refused; each gateway counts by itself.",
)
rate_limited_total = Counter("gateway_rate_limited_total", "Requests that a rate limit refused.", ["policy"])
