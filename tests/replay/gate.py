"""Whether a change of this tree breaks orders in flight, events on their way, or clients: all that can be told without a running
platform. `python -m tests.replay.gate`.

The saga's modules are imported only after the measuring of what histories reach has begun.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.release.releases import ROOT, Kept, Release, accepted, is_accepted, kept_histories, latest
from tests.replay.reached import UNREACHED, Reached


@dataclass
class Finding:
    """Something that this tree breaks."""

    check: str
    """`promises`, `events`, `replay`, `coverage` or `api`."""
    what: str
    histories: list[str] = field(default_factory=list)
    """In which of the recorded histories it shows."""

    def __str__(self) -> str:
        names, more = self.histories[:3], len(self.histories) - 3
        shown = f" ({', '.join(names)}{f' and {more} more' if more > 0 else ''})" if names else ""
        return f"{self.check}: {self.what}{shown}"


@dataclass
class Verdict:
    """What the gate says of a tree."""

    findings: list[Finding] = field(default_factory=list)
    """What nobody has accepted."""
    accepted: list[Finding] = field(default_factory=list)


class Gate:
    """The checks of the tree that runs."""

    def __init__(
        self,
        histories: Iterable[Kept],
        last: Release,
        *,
        tree: Path = ROOT,
        measures: bool = True,
        compares_api: bool = True,
    ) -> None:
        self._histories, self._last = histories, last
        self._reached = Reached(tree, ROOT / UNREACHED) if measures else None
        self._compares_api, self._first_only = compares_api, False

    def verdict(self, *, first_only: bool = False) -> Verdict:
        """Of all checks, the cheap ones first. `first_only`: none after the first that finds something."""
        reasons, verdict = accepted(), Verdict()
        self._first_only = first_only
        api: list[Callable[[], Iterator[Finding]]] = [self.api] if self._compares_api else []
        for check in [self.promises, self.events, *api, self.replays, self.coverage]:
            for finding in check():
                (verdict.accepted if is_accepted(finding.what, reasons) else verdict.findings).append(finding)
            if verdict.findings and first_only:
                break
        return verdict

    def promises(self) -> Iterator[Finding]:
        """What orders in flight and other processes rely on, against the last release."""
        from cli.release.promises import surface_differences

        yield from (Finding("promises", difference) for difference in surface_differences(self._last))

    def events(self) -> Iterator[Finding]:
        """What consumers rely on, against the last release."""
        from cli.release.promises import event_differences

        yield from (Finding("events", difference) for difference in event_differences(self._last))

    def api(self) -> Iterator[Finding]:
        """What clients rely on, against the last release."""
        from cli.release.promises import api_differences

        yield from (Finding("api", difference) for difference in api_differences(self._last))

    def replays(self) -> Iterator[Finding]:
        """Every recorded history, of this tree's branches and of each release that is kept."""
        found: dict[tuple[str, str], Finding] = {}
        for finding in asyncio.run(self._replayed()):
            known = found.setdefault((finding.check, finding.what), finding)
            if known is not finding:
                known.histories += finding.histories
        yield from found.values()

    async def _replayed(self) -> list[Finding]:
        from cli.release.contents import broken
        from cli.release.replaying import Command, replay_each

        found: list[Finding] = []
        async with aclosing(replay_each(self._histories, lambda kept: kept.history)) as results:
            async for kept, replayed in results:
                local = [Command("local activity", name, {"argument": argument}) for name, argument in kept.local]
                found += [Finding("replay", what, [kept.name]) for what in broken(replayed, local)]
                if found and self._first_only:
                    break
        return found

    def coverage(self) -> Iterator[Finding]:
        """What of the saga's code no history reaches. To be asked after the replays."""
        if self._reached:
            yield from (Finding("coverage", missed) for missed in self._reached.stop())


def main() -> None:
    """Exit code 1: something would break."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--first", action="store_true", help="stop at the first that would break")
    asked = parser.parse_args()
    verdict = Gate(kept_histories(), latest()).verdict(first_only=asked.first)
    if asked.json:
        print(json.dumps(asdict(verdict), indent=1))
    else:
        for finding in verdict.findings:
            print(finding)
        print(f"{len(verdict.findings)} would break, {len(verdict.accepted)} accepted")
    sys.exit(1 if verdict.findings else 0)


if __name__ == "__main__":
    main()
