"""What the gateway counts."""

from prometheus_client import Counter, Histogram

requests_total = Counter("gateway_requests_total", "Requests answered.", ["route", "service", "method", "status"])
request_seconds = Histogram(
    "gateway_request_seconds",
    "From the request's head to the response's end.",
    ["route", "service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
rate_limited_total = Counter("gateway_rate_limited_total", "Requests refused by a rate limit.", ["policy"])
rate_limit_unavailable_total = Counter(
    "gateway_rate_limit_unavailable_total", "Requests let through uncounted because Redis did not answer."
)
upstream_errors_total = Counter("gateway_upstream_errors_total", "Requests that a service did not answer.", ["service", "kind"])
