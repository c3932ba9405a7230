"""Whether a change of this tree breaks orders in flight, events on their way, or clients: all that can be told without a running
platform. `python -m cli.release.gate`.

The saga's modules are imported only after the measuring of what histories reach has begun.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.release.coverage import Reached

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Finding:
    """Something that this tree breaks."""

    check: str
    """`promises`, `events`, `replay`, `content`, `stored`, `coverage` or `api`."""
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

    def __init__(self, root: Path = ROOT, *, with_api: bool = True) -> None:
        self._root, self._with_api, self._first_only = root, with_api, False
        self._reached = Reached(root)

    def verdict(self, *, first_only: bool = False) -> Verdict:
        """Of all checks, the cheap ones first. `first_only` ends with the first that finds something."""
        from cli.release.releases import accepted

        reasons, verdict = accepted(self._root), Verdict()
        self._first_only = first_only
        checks: list[Callable[[], Iterator[Finding]]] = [self.promises, self.events, self.replays, self.coverage]
        for check in [*checks, self.api] if self._with_api else checks:
            for finding in check():
                is_accepted = any(finding.what == change or finding.what.startswith(f"{change}:") for change in reasons)
                (verdict.accepted if is_accepted else verdict.findings).append(finding)
                if verdict.findings and first_only:
                    return verdict
        return verdict

    def promises(self) -> Iterator[Finding]:
        """What orders in flight and other processes rely on, against the last release."""
        from cli.release.compare import compare_surfaces
        from cli.release.releases import latest
        from cli.release.surface import surface

        for difference in compare_surfaces(latest(self._root).document("surface"), surface().document()):
            yield Finding("promises", difference)

    def events(self) -> Iterator[Finding]:
        """What consumers rely on, against the last release."""
        from cli.release.compare import compare_events
        from cli.release.documents import asyncapi
        from cli.release.releases import latest

        for difference in compare_events(latest(self._root).document("asyncapi"), asyncapi()):
            yield Finding("events", difference)

    def api(self) -> Iterator[Finding]:
        """What clients rely on, against the last release."""
        from cli.release.compare import compare_apis
        from cli.release.documents import openapi
        from cli.release.releases import latest

        for difference in compare_apis(latest(self._root).document("openapi"), openapi()):
            yield Finding("api", difference)

    def replays(self) -> Iterator[Finding]:
        """Every recorded history, of this tree's branches and of each release that is kept."""
        found: dict[tuple[str, str], Finding] = {}
        for finding in asyncio.run(self._replayed()):
            known = found.setdefault((finding.check, finding.what), finding)
            if known is not finding:
                known.histories += finding.histories
        yield from found.values()

    async def _replayed(self) -> list[Finding]:
        from cli.release.contents import differences, unreadable
        from cli.release.recorded import commands_in
        from cli.release.releases import kept_histories
        from cli.release.replaying import replay_each

        found: list[Finding] = []
        async for kept, replayed in replay_each(kept_histories(self._root), lambda kept: kept.history):
            if replayed.failure is not None:
                found.append(Finding("replay", replayed.failure, [kept.name]))
            else:
                recorded = [*commands_in(replayed.history), *kept.local]
                found += [Finding("content", what, [kept.name]) for what in differences(recorded, replayed.commands)]
            found += [Finding("stored", what, [kept.name]) for what in unreadable(replayed.history)]
            if found and self._first_only:
                break
        return found

    def coverage(self) -> Iterator[Finding]:
        """What of the saga's code no history reaches. To be asked after the replays."""
        yield from (Finding("coverage", missed) for missed in self._reached.stop())


def main() -> None:
    """Exit code 1: something would break."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--first", action="store_true", help="stop at the first that would break")
    asked = parser.parse_args()
    verdict = Gate().verdict(first_only=asked.first)
    if asked.json:
        print(json.dumps(asdict(verdict), indent=1))
    else:
        for finding in verdict.findings:
            print(finding)
        print(f"{len(verdict.findings)} would break, {len(verdict.accepted)} accepted")
    sys.exit(1 if verdict.findings else 0)


if __name__ == "__main__":
    main()
