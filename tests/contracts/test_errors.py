"""The table of error codes that clients rely on is complete and says the right status."""

import re
from pathlib import Path

from chassis.problems import status_of
from contracts.errors import ErrorCode

TABLE = Path(__file__).parent.parent.parent / "docs" / "errors.md"


def test_the_documented_codes_are_those_that_exist() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", TABLE.read_text(), re.MULTILINE))
    assert documented == {code.value: str(int(status_of(code))) for code in ErrorCode}
