"""What becomes of messages. docs/metrics.md lists it."""

from prometheus_client import Counter, Gauge

messages_total = Counter("messages_total", "Tries to send a message, by what became of them.", ["channel", "kind", "outcome"])
streams_open = Gauge("inbox_streams_open", "Live streams of the inbox that clients have open.")
