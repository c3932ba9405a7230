"""What an audit found, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from audit.books import Source
from audit.verdict import InFlight, RuleResult, Violation

CLEAN, VIOLATED, UNREADABLE = 0, 1, 2
IN_FLIGHT_SHOWN = 20


@dataclass(frozen=True)
class AuditReport:
    """The last look of an audit."""

    taken_at: datetime
    seconds: float
    looks: int
    read: Mapping[str, int]
    """How many rows of what."""
    rules: Sequence[RuleResult]
    in_flight: Sequence[InFlight] = ()
    """What still moves, and was not judged."""
    unreadable: Mapping[Source, str] = field(default_factory=dict)
    """What could not be read, and why."""

    @property
    def violations(self) -> list[Violation]:
        return [violation for result in self.rules for violation in result.violations]

    @property
    def violated(self) -> set[str]:
        """The codes of the rules that do not hold."""
        return {violation.rule for violation in self.violations}

    @property
    def exit_code(self) -> int:
        """0: all that could be judged holds. 1: something does not. 2: not everything could be read."""
        if self.violations:
            return VIOLATED
        return UNREADABLE if self.unreadable else CLEAN

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self) | {"exit_code": self.exit_code}, default=str, indent=2)

    def print(self, console: Console) -> None:
        """What was compared, what is in flight, what does not hold."""
        console.print(self._table())
        console.print(
            f"Read {', '.join(f'{count:,} {what}' for what, count in self.read.items())}.", style="dim", highlight=False
        )
        for source, why in self.unreadable.items():
            console.print(f"[bold red]Could not read {source}:[/] {escape(why)}", highlight=False, soft_wrap=True)
        if self.in_flight:
            console.print(f"In flight, not judged: {len(self.in_flight)}", style="yellow")
            for item in self.in_flight[:IN_FLIGHT_SHOWN]:
                since = f" since {item.since:%H:%M:%S} UTC" if item.since else ""
                console.print(f"  {item.subject}: {escape(item.why)}{since}", style="dim", highlight=False, soft_wrap=True)
            if len(self.in_flight) > IN_FLIGHT_SHOWN:
                console.print(f"  and {len(self.in_flight) - IN_FLIGHT_SHOWN} more", style="dim")
        for violation in self.violations:
            subject = violation.subject
            if violation.order_id is not None and str(violation.order_id) not in subject:
                subject = f"order {violation.order_id}, {subject}"
            line = Text.assemble(
                ("✗ ", "bold red"),
                (violation.rule, "bold"),
                f"  {subject}: {violation.what}: ",
                ("expected ", "dim"),
                (violation.expected, "green"),
                (", found ", "dim"),
                (violation.found, "red"),
            )
            console.print(line, soft_wrap=True)
        console.print(self._verdict())

    def _table(self) -> Table:
        table = Table(title=f"Audit of {self.taken_at:%Y-%m-%d %H:%M:%S} UTC", title_justify="left")
        table.add_column("What must hold")
        table.add_column("Compared", justify="right")
        table.add_column("Violations", justify="right")
        for result in self.rules:
            if result.skipped:
                table.add_row(result.title, Text(result.skipped, "yellow"), "—", style="dim")
                continue
            title = Text.assemble(result.title, (f" ({result.note})" if result.note else "", "dim"))
            count = len(result.violations)
            table.add_row(title, f"{result.compared:,}", Text(f"{count:,}", "bold red" if count else "green"))
        return table

    def _verdict(self) -> Text:
        took = f" ({self.seconds:.1f} s{f', {self.looks} looks' if self.looks > 1 else ''})"
        compared = sum(result.compared for result in self.rules)
        match self.exit_code:
            case code if code == VIOLATED:
                verdict = Text(f"Violations: {len(self.violations):,} in {compared:,} comparisons", "bold red")
            case code if code == UNREADABLE:
                verdict = Text(f"Incomplete: no {', no '.join(self.unreadable)}; {compared:,} comparisons hold", "bold yellow")
            case _:
                verdict = Text(f"All {compared:,} comparisons hold", "bold green")
        return verdict.append(took, "dim")
