"""What a rule has to say of a history."""

from dataclasses import dataclass

from testing.histories import Call


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept: `what` in plain words, with the calls that show it."""

    rule: str
    what: str
    calls: tuple[Call, ...]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.what}", *map(str, self.calls)])
