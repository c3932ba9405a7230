"""`commerce notifications`: who is told what, and how, as the tables in docs/notifications.md."""

from collections.abc import Iterator

from services.notification.kinds import GROUPS, KINDS, KindPolicy
from services.notification.told import TOLD, Acts, Nobody, Row


def tables() -> str:
    """Both tables, in Markdown."""
    return f"{''.join(_kinds())}\n{''.join(_events())}"


def _kinds() -> Iterator[str]:
    yield "| kind | group | goes by | if that fails | urgent | its texts may name |\n|---|---|---|---|---|---|\n"
    for kind, policy in KINDS.items():
        urgent, values = "yes" if policy.is_urgent else "", ", ".join(f"`{name}`" for name in policy.values)
        yield f"| `{kind}` | {policy.group} | {_channels(policy)} | {', '.join(policy.fallback)} | {urgent} | {values} |\n"


def _channels(policy: KindPolicy) -> str:
    chosen = ", or as chosen" if GROUPS[policy.group].is_chosen else ""
    return ", ".join(policy.channels) + chosen


def _events() -> Iterator[str]:
    yield "| topic | event | who | is told what |\n|---|---|---|---|\n"
    for event, row in TOLD.items():
        for who, what in _told(row):
            yield f"| {event.topic} | `{event.__name__}` | {who} | {what} |\n"


def _told(row: Row) -> Iterator[tuple[str, str]]:
    if isinstance(row, Nobody):
        yield "nobody", row.why
    elif isinstance(row, Acts):
        yield "", row.what
    else:
        for one in row:
            yield one.audience, f"`{one.kind}`" + (f", if {one.when.said}" if one.when else "")
