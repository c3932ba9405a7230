"""One order, placed and delivered: its trace in a collector, and its way through the logs of all processes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from cli.main import app
from contracts.ids import order_workflow_id
from testing.stage import Stage
from tests.collector import Collector, Span
from tests.conftest import eventually

STEPS = {
    "ReserveInventory": ("inventory", "POST /internal/v1/reservations", "inventory-events"),
    "ProcessPayment": ("payment", "POST /internal/v1/payments/process", "payment-events"),
    "CreateShipment": ("shipping", "POST /internal/v1/shipments/create", "shipping-events"),
    "AdvanceOrder": ("order", "POST /internal/v1/orders/advance", "order-events"),
}
"""Each step until an order is confirmed: who is asked, and where it becomes known."""
PLACED_BY = [("gateway", "/api/v1/orders"), ("order", "POST /api/v1/orders")]


@dataclass
class Followed:
    """The order, what was recorded of it, and what was logged."""

    order_id: str
    spans: Sequence[Span]
    logs: Path
    data: Path

    @property
    def of_workflow(self) -> list[Span]:
        workflow_id = order_workflow_id(UUID(self.order_id))
        return [span for span in self.spans if span.attributes.get("temporalWorkflowID") == workflow_id]

    @property
    def placing(self) -> list[Span]:
        """The trace in which it was placed."""
        (start,) = [span for span in self.of_workflow if span.name == "RunWorkflow:Order"]
        return [span for span in self.spans if span.trace_id == start.trace_id]

    def lines(self) -> list[dict[str, Any]]:
        """All that is logged with its id."""
        found = []
        for file in self.logs.glob("*.log"):
            with file.open(errors="replace") as lines:
                found += [json.loads(line) for line in lines if self.order_id in line and '"labels.order_id"' in line]
        return sorted(found, key=lambda line: str(line["@timestamp"]))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def followed(stage: Stage, collector: Collector) -> Followed:
    order_id = await stage.delivered(await stage.placed())
    workflow_id = order_workflow_id(UUID(order_id))

    async def is_told() -> bool:
        ours = [span for span in collector.spans if span.attributes.get("temporalWorkflowID") == workflow_id]
        names = {span.name for trace in {span.trace_id for span in ours} for span in collector.trace(trace)}
        return {"RunWorkflow:Order", "HandleSignal:shipment_updated", "apply OrderCompleted", "send by email"} <= names

    await eventually(is_told, what="the spans of the order to arrive")

    async def is_whole() -> bool:
        """Whether the parent of everything has come, too: a span is sent when it ends, and each process sends for itself."""
        ours = {span.trace_id for span in collector.spans if span.attributes.get("temporalWorkflowID") == workflow_id}
        return not [span for trace in ours for span in _without_parent(collector.trace(trace)) if span.parent]

    await eventually(is_whole, what="the parents of all spans of the order to arrive")
    folder = stage.platform.data_dir
    return Followed(order_id, list(collector.spans), folder / "logs", folder)


def _without_parent(trace: Sequence[Span]) -> list[Span]:
    known = {span.span_id for span in trace}
    return [span for span in trace if span.parent not in known]


def _way(trace: Sequence[Span], span: Span) -> list[tuple[str, str]]:
    """From the root to this span."""
    by_id = {other.span_id: other for other in trace}
    way = [span]
    while way[-1].parent in by_id:
        way.append(by_id[way[-1].parent])
    return [(span.service, span.name) for span in reversed(way)]


def _ways_to(trace: Sequence[Span], service: str, name: str) -> list[list[tuple[str, str]]]:
    return [_way(trace, span) for span in trace if (span.service, span.name) == (service, name)]


def test_p4_an_order_is_one_trace(followed: Followed) -> None:
    """From the gateway through the saga to whoever consumes what became known of it (review 1, P4)."""
    trace = followed.placing
    assert [(root.service, root.name) for root in _without_parent(trace)] == [("gateway", "/api/v1/orders")]
    workflow = [
        *PLACED_BY,
        ("order", "StartUpdateWithStartWorkflow:Order"),
        ("worker", "RunWorkflow:Order"),
    ]
    for activity, (service, command, topic) in STEPS.items():
        path = command.partition(" ")[2]
        step = [*workflow, ("worker", f"RunActivity:{activity}"), ("worker", f"{service} {path}"), (service, command)]
        assert step in _ways_to(trace, service, command), activity
        published = [*step, (service, f"publish {topic}")]
        assert published in _ways_to(trace, service, f"publish {topic}"), topic
    assert [*published, ("analytics", "apply OrderConfirmed")] in _ways_to(trace, "analytics", "apply OrderConfirmed")
    for (service, name), count in _counted(trace).items():
        if name.startswith(("RunWorkflow", "HandleUpdate")) or service == "gateway":
            assert count == 1, name


def _counted(trace: Sequence[Span]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for span in trace:
        counts[span.service, span.name] = counts.get((span.service, span.name), 0) + 1
    return counts


def test_sql_belongs_to_the_step_that_it_serves(followed: Followed) -> None:
    sql = [span for span in followed.placing if "db.statement" in span.attributes or "db.query.text" in span.attributes]
    assert {span.service for span in sql} >= {"order", "inventory", "payment", "shipping"}


def test_what_happens_later_is_a_trace_of_its_own_with_a_link(followed: Followed) -> None:
    (placing,) = {span.trace_id for span in followed.placing}
    later = [span for span in followed.of_workflow if span.trace_id != placing]
    signals = [span for span in later if span.name == "HandleSignal:shipment_updated"]
    assert signals
    assert {span.links for span in signals} == {(placing,)}
    assert not [span for span in followed.placing if span.name.startswith("HandleSignal")]
    dispatched = [span for span in later if span.name == "RunActivity:ShipInventory"]
    assert dispatched, "what follows from the carrier's word belongs to its trace"
    for span in [*signals, *dispatched]:
        trace = [other for other in followed.spans if other.trace_id == span.trace_id]
        assert _way(trace, span)[0][0] == "gateway"


def test_no_trace_begins_in_the_middle(followed: Followed) -> None:
    """Each root is a request of somebody outside (other journeys ask services directly), or has a link to what caused it long
    before; nothing that runs by itself makes traces."""
    whole = {trace.trace_id for trace in followed.of_workflow}
    roots = [span for span in followed.spans if not span.parent]
    asked = ("GET ", "POST ", "PUT ", "PATCH ", "DELETE ")
    inside = {str(span) for span in roots if span.service != "gateway" and not span.name.startswith(asked) and not span.links}
    assert not inside, inside
    orphans = [span for trace in whole for span in _without_parent([s for s in followed.spans if s.trace_id == trace])]
    assert not [str(span) for span in orphans if span.parent]


def test_p5_an_order_that_goes_well_is_followed_through_the_logs(followed: Followed) -> None:
    """Every process says what it did, with order, trace and request (review 1, P5)."""
    lines = followed.lines()
    placing = followed.placing[0].trace_id
    of_placing = [line for line in lines if line["trace.id"] == placing]
    did = [(line["service.name"], line["event.action"], line.get("labels.step")) for line in of_placing]
    for step in (*STEPS, "SendNotification"):
        assert did.count(("worker", "step_done", step)) == 1, step
    for service, action in {
        "order": "order_created",
        "inventory": "inventory_reserved",
        "payment": "payment_processed",
        "shipping": "shipment_created",
        "notification": "notification_sent",
    }.items():
        assert did.count((service, action, None)) == 1, action
    assert did.count(("order", "order_status_reached", None)) == 1
    later = [(line["service.name"], line["event.action"]) for line in lines if line["trace.id"] != placing]
    assert {("shipping", "shipment_dispatched"), ("order", "saga_told"), ("order", "order_completed")} <= set(later)
    for line in of_placing:
        assert line["labels.order_id"] == followed.order_id
        assert line["log.level"] == "info"
    # A mail is sent by a job, some time after the request.
    requests = {line.get("http.request.id") for line in of_placing if line["service.name"] != "notification"}
    assert len(requests) == 1
    (request_id,) = requests
    gateway = [json.loads(line) for line in (followed.logs / "gateway.log").read_text().splitlines() if str(request_id) in line]
    assert [(line["url.path"], line["http.response.status_code"]) for line in gateway] == [("/api/v1/orders", 201)]
    assert gateway[0]["trace.id"] == placing


def test_commerce_logs_shows_one_order_across_all_processes(followed: Followed) -> None:
    shown = CliRunner().invoke(app, ["logs", followed.order_id, "--data", str(followed.data)])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert "gateway" in lines[0]
    assert "POST /api/v1/orders 201" in lines[0]
    processes = {line.split()[1] for line in lines}
    assert processes >= {"gateway", "order", "worker", "inventory", "payment", "shipping", "notification"}
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    raw = CliRunner().invoke(app, ["logs", followed.order_id, "--json", "--data", str(followed.data)])
    assert len(raw.output.splitlines()) == len(lines)
    assert all(json.loads(line)["@timestamp"] for line in raw.output.splitlines())


@pytest.mark.parametrize("name", ["logs", "nothing"])
def test_it_says_if_nothing_is_found(followed: Followed, tmp_path: Path, name: str) -> None:
    data = followed.data if name == "logs" else tmp_path
    shown = CliRunner().invoke(app, ["logs", str(uuid4()), "--data", str(data)])
    assert shown.exit_code == (1 if name == "logs" else 2)
    assert "says anything of order" in shown.output or "no platform has run" in shown.output
