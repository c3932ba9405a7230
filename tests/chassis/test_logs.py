"""What stands in the logs, and under which names: docs/logs.md."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from opentelemetry import context
from temporalio import activity, workflow

from chassis.logs import ALWAYS, ECS, ECS_VERSION, MASKED_KEYS, SOMETIMES, configure_logging, logger, mask
from chassis.telemetry import REQUEST_HEADER, context_of
from gateway.envoy.listener import ACCESS_LOG
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "logs.md"
OURS = ("chassis", "services", "gateway", "temporal", "worker.py")
LEVELS = ("debug", "info", "warning", "error")
ORDER = UUID("12345678-1234-4234-8234-123456789012")
"""All digits: they are no card number."""


@contextmanager
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged inside, as a process logs it."""
    found: list[dict[str, Any]] = []
    root, output = logging.getLogger(), io.StringIO()
    before = root.handlers, root.level, structlog.get_config()
    sdk = logging.getLogger("temporalio.activity")
    sdk_level = sdk.level
    try:
        with redirect_stdout(output):
            configure_logging("test")
            structlog.configure(cache_logger_on_first_use=False)
            yield found
    finally:
        root.handlers, root.level = before[0], before[1]
        sdk.setLevel(sdk_level)
        structlog.configure(**before[2])
        found += map(json.loads, output.getvalue().splitlines())


def test_a_line_has_the_names_of_the_schema() -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00", REQUEST_HEADER: "asked-1"}
    with lines() as found:
        token = context.attach(context_of(headers))
        try:
            logger("some.module").info("parcel_booked", order_id=ORDER, parcel=2, durable=True, duration_ms=1.5, path="/x")
        finally:
            context.detach(token)
    (line,) = found
    assert line.pop("@timestamp").endswith("+00:00")
    assert line == {
        "log.level": "info",
        "message": "parcel booked",
        "event.action": "parcel_booked",
        "event.duration": 1_500_000,
        "ecs.version": ECS_VERSION,
        "service.name": "test",
        "log.logger": "some.module",
        "trace.id": "a" * 32,
        "span.id": "b" * 16,
        "http.request.id": "asked-1",
        "url.path": "/x",
        "labels.order_id": str(ORDER),
        "labels.parcel": "2",
        "labels.durable": "true",
    }


def test_an_error_has_its_type_its_message_and_its_stack() -> None:
    with lines() as found:
        try:
            raise ValueError("ann@example.com is wrong")
        except ValueError as error:
            logger("x").error("went_wrong", exc_info=error)
            logging.getLogger("library").exception("It failed")
    for line in found:
        assert (line["error.type"], line["error.message"]) == ("ValueError", "*** is wrong")
        assert "test_logs.py" in line["error.stack_trace"]
        assert "ann@" not in json.dumps(line)
    assert [line["message"] for line in found] == ["went wrong", "It failed"]
    assert "event.action" not in found[1]


def test_personal_data_are_masked() -> None:
    secrets = ("ann@example.com", "4242 4242 4242 4242", "4242424242424242", "Bearer abc.def", "eyJhbGciOi.eyJzdWIi.sig")
    with lines() as found:
        for secret in secrets:
            logger("x").info("told", text=f"it was {secret}.", nested={"deep": [secret]}, order_id=ORDER)
            logging.getLogger("library").warning("it was %s.", secret)
        for key in MASKED_KEYS:
            logger("x").info("told", **{key: "Jane"})
    text = json.dumps(found)
    for secret in (*secrets, "Jane"):
        assert secret not in text
    assert text.count(str(ORDER)) == len(secrets)
    assert all(mask(str(identity)) == str(identity) for identity in (ORDER, *(uuid4() for _ in range(1000))))


def test_what_temporals_sdk_says_is_in_fields() -> None:
    """Its words are one message, whichever workflow they are about."""
    about = {"workflow_id": f"order-{ORDER}", "attempt": 3, "workflow_type": "Order"}
    with lines() as found:
        logging.getLogger("temporalio.workflow").warning("Something about it", extra={"temporal_workflow": about})
        logging.getLogger("temporalio.activity").warning("Completing activity as failed")
    (line,) = found
    assert line["message"] == "Something about it"
    assert (line["labels.order_id"], line["labels.workflow_id"], line["labels.attempt"]) == (str(ORDER), f"order-{ORDER}", "3")


def test_the_worker_leaves_out_the_suffix() -> None:
    import worker

    worker.tell_in_fields()
    assert not workflow.logger.workflow_info_on_message
    assert not activity.logger.activity_info_on_message


def test_the_page_lists_every_field() -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE))
    labels = {f"labels.{name}" for name in _names_of_values() - {*ECS, "duration_ms", "exc_info"}}
    access = {name for name in ACCESS_LOG if not name.startswith("labels.")}
    of_gateway = {name for name in ACCESS_LOG if name.startswith("labels.")}
    assert listed == {*ALWAYS, *SOMETIMES, *access, *of_gateway, *labels}


def _names_of_values() -> set[str]:
    """What our own lines say beside the message. `**about` is looked up where it is made."""
    names: set[str] = set()
    for part in OURS:
        for file in [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py")):
            names |= _names_in(file)
    return names


def _names_in(file: Path) -> set[str]:
    from chassis.outbox import LOGGED
    from temporal import step_log

    tree, names = ast.parse(file.read_text()), set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
            names |= {keyword.arg for keyword in node.keywords if keyword.arg}
    if file.name == "outbox.py":
        names |= set(LOGGED)
    return names | (set(step_log.ABOUT) if file.name == "step_log.py" else set())
