"""What becomes of mails. docs/metrics.md lists it."""

from prometheus_client import Counter

mails_total = Counter("mails_total", "Tries to send a mail, by what became of them.", ["kind", "outcome"])
