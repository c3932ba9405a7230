"""What becomes of messages. docs/metrics.md lists it."""

from prometheus_client import Counter, Gauge

messages_total = Counter("messages_total", "Tries to send a message, by what became of them.", ["channel", "kind", "outcome"])
news_total = Counter(
    "delivery_news_total",
    "What providers told later of messages, by what it was; `unknown`: of none of ours.",
    ["channel", "state"],
)


def count_news(channel: str, state: str, *, is_known: bool) -> None:
    """Whether anybody waits for it or not."""
    news_total.labels(channel, state if is_known else "unknown").inc()


streams_open = Gauge("inbox_streams_open", "Live streams of the inbox that clients have open.")
