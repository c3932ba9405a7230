"""docs/metrics.md: its table is that of the metrics in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.platform import ROOT

KINDS = {"Counter": "counter", "Gauge": "gauge", "GaugeMetricFamily": "gauge", "Histogram": "histogram"}
FOLDERS = ("chassis", "gateway", "services")
Row = tuple[str, str, tuple[str, ...]]
"""Name, kind, labels."""


def table() -> list[list[str]]:
    page = (ROOT / "docs" / "metrics.md").read_text()
    section = page.partition("\n## Ours\n")[2].partition("\n#")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")]


def of_the_code() -> Iterator[Row]:
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield from metrics_of(file)


def metrics_of(file: Path) -> Iterator[Row]:
    for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
        kind = KINDS.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if kind and len(call.args) > 1:  # otherwise it is Python's own Counter
            lists = [*call.args[2:3], *[keyword.value for keyword in call.keywords if keyword.arg in ("labels", "labelnames")]]
            labels = [ast.literal_eval(given) for given in lists if isinstance(given, ast.List)]
            name = ast.literal_eval(call.args[0])
            told = f"{name.removesuffix('_total')}_total" if kind == "counter" else name  # prometheus_client adds it
            yield told, kind, tuple(label for given in labels for label in given)


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    told = [(name.strip("`"), kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in table()]
    assert sorted(told) == sorted(of_the_code())
    assert len(told) > 20


def test_units_are_those_of_the_names() -> None:
    """As Prometheus wants them: a counter's name ends in `_total`, that of seconds says so."""
    for name, kind, _, unit, *_ in table():
        assert (kind == "counter") == name.strip("`").endswith("_total"), name
        assert (unit in ("seconds", "Unix time")) == name.strip("`").endswith("_seconds"), name


def test_no_label_has_a_value_for_each_order_customer_or_product() -> None:
    labels = {label for _, _, labels in of_the_code() for label in labels}
    assert not [label for label in labels if re.search("order|customer|user|product|address|email", label)]
