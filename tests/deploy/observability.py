"""What deploy/observability/ has: alerts, their tests and dashboards, and the metrics that they ask for."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.platform import ROOT

FOLDER = ROOT / "deploy" / "observability"
ALERTS = FOLDER / "prometheus" / "alerts.yml"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
"""Prometheus's own tool, if this machine has it: of Debian's package `prometheus`, for one."""
_DETAILS = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on) *\([^)]*\)|\b\d\w*')
_WORDS = re.compile(r"\b\w+(?= *\()|\b(or|and|unless|offset)\b")


def alerts() -> list[dict[str, Any]]:
    """All alerting rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """A dashboard's panels, rows among them."""
    found: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return found


def asked_for() -> dict[str, set[str]]:
    """The metrics that each expression of an alert or a panel asks for, by where it stands."""
    expressions = {f"alert {alert['alert']}": alert["expr"] for alert in alerts()}
    for dashboard in DASHBOARDS:
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                expressions[f"{dashboard.stem}: {panel['title']}: {target['refId']}"] = target["expr"]
    return {place: metrics_in(expression) for place, expression in expressions.items()}


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression."""
    return set(re.findall(r"[a-z_]\w+", _WORDS.sub(" ", _DETAILS.sub(" ", expression))))
