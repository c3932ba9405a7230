"""docs/operations.md: its table of environment variables is that of the settings classes."""

import re
from collections import defaultdict
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from audit.settings import AuditSettings
from tests.deploy.platform import ROOT, SERVICES, SETTINGS, SIMULATED, processes, simulator_source, simulator_variables, variables

PAGE = (ROOT / "docs" / "operations.md").read_text()
READERS = {"gateway" if name == "edge" else name: settings for name, settings in SETTINGS.items()}
"""What the edge app reads, Envoy is told too: together they are the gateway."""
Row = tuple[str, str, str]
"""Variable, processes, default."""


def expected_rows() -> set[Row]:
    readers: dict[tuple[str, str], list[str]] = defaultdict(list)
    readers_of: dict[str, type[BaseSettings]] = {**READERS, "audit": AuditSettings}
    for process, settings in readers_of.items():
        for variable, field in variables(settings).items():
            readers[variable, default_of(settings.model_fields[field])].append(process)
    for process in SIMULATED:
        for variable, required in simulator_variables(process).items():
            readers[variable, "required" if required else simulator_default(process, variable)].append(process)
    return {(variable, named(names), default) for (variable, default), names in readers.items()}


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, float):
        value = f"{value:g}"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in (None, "") else ""


def simulator_default(process: str, variable: str) -> str:
    """As the head of its module tells: `HOST (127.0.0.1)`."""
    told = re.search(rf"\b{variable} \(([^:)\s]+)\)", simulator_source(process))
    return f"`{told[1]}`" if told else ""


def named(names: list[str]) -> str:
    """The processes in a word where there is one."""
    rest = list(names)
    words = []
    for word, group in (("all", READERS), ("services", SERVICES), ("simulators", SIMULATED)):
        if set(group) <= set(rest):
            rest = [name for name in rest if name not in group]
            words.append(word)
    return ", ".join([*words, *rest])


def test_the_table_of_variables_is_complete_and_true() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    found = {(variable, who.strip(), default.strip()) for variable, who, default, _ in rows}
    assert found == expected_rows()
    assert all(meaning.strip() for *_, meaning in rows)
    assert len(rows) == len(found)


@pytest.mark.parametrize("process", [name for name in processes() if name != "migrate"])
def test_every_process_is_in_the_table(process: str) -> None:
    group = "simulators" if process in SIMULATED else "services" if process in SERVICES else "all"
    assert any(process in who or group in who for _, who, _ in expected_rows())


def test_paths_that_the_page_names_exist() -> None:
    for path in re.findall(r"`((?:deploy|docs|cli|tests|services|chassis)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
