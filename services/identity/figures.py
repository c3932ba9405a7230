"""What the security log leaves out. docs/metrics.md lists it."""

from prometheus_client import Counter

dropped_total = Counter("security_records_dropped_total", "Refusals that were too many to be written down.", ["kind"])
