"""JSON logs, one line an event, in the field names of the Elastic Common Schema, with personal data masked.

    log = logger(__name__)
    log.info("parcel_booked", order_id=order_id, warehouse_id="w1")

docs/logs.md lists the fields. What is not one of the schema's goes under `labels`, as a keyword.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import IO, Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, FilteringBoundLogger

from chassis.telemetry import request_id
from contracts.ids import order_id_of

ECS_VERSION = "8.17"
ECS: Mapping[str, str] = {
    "trace_id": "trace.id",
    "span_id": "span.id",
    "request_id": "http.request.id",
    "method": "http.request.method",
    "path": "url.path",
    "error": "error.message",
    "error_type": "error.type",
    "stack_trace": "error.stack_trace",
}
"""What a caller names shortly, and how the schema calls it."""
ALWAYS = ("@timestamp", "log.level", "message", "ecs.version", "service.name", "log.logger")
"""The fields of every line."""
SOMETIMES = ("event.action", "event.duration", *ECS.values())
"""The fields of the schema that a line may have beside them."""
MASKED_KEYS = frozenset(
    {
        "password", "email", "authorization", "access_token", "refresh_token", "client_secret", "payment_token", "card_token",
        "name", "line1", "line2", "postal_code", "phone", "ship_to", "to", "cookie", "token",
    }
)  # fmt: skip
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_BEARER = re.compile(r"(?i)bearer\s+[\w.~+/-]+=*")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
# Not within an id: a sixteenth of a permille of all UUIDs have enough digits in a row.
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_ACTION = re.compile(r"[a-z][a-z0-9_]*")
_OF_RECORDS = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}


def mask(value: Any, key: str = "") -> Any:
    """`value` without personal data: masked whole under a telling key, else e-mails, tokens and card numbers inside its text."""
    if key in MASKED_KEYS:
        return "***"
    if isinstance(value, str):
        return _masked(value)
    if isinstance(value, dict):
        return {k: mask(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask(v) for v in value]
    return value


def _masked(text: str) -> str:
    # Most texts have none of it; to find that out is quicker than to search for the patterns.
    if "eyJ" in text:
        text = _JWT.sub("***", text)
    if "earer" in text.lower():
        text = _BEARER.sub("***", text)
    if "@" in text:
        text = _EMAIL.sub("***", text)
    return _CARD.sub("***", text)


class EcsFormat:
    """Makes a line of what is to be logged by one process."""

    def __init__(self, service: str) -> None:
        self._service = service

    def line(self, level: str, logger: str, what: str, values: Mapping[str, Any], error: BaseException | None) -> str:
        """One line of JSON, without its end."""
        text, is_action = _masked(what), _ACTION.fullmatch(what) is not None
        fields: dict[str, Any] = {
            "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "log.level": level,
            "message": text.replace("_", " ") if is_action else text,
            "ecs.version": ECS_VERSION,
            "service.name": self._service,
            "log.logger": logger,
        }
        if is_action:
            fields["event.action"] = text
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace.id"], fields["span.id"] = format(span.trace_id, "032x"), format(span.span_id, "016x")
        if (asked := request_id()) is not None:
            fields["http.request.id"] = asked
        if error is not None:
            fields["error.type"] = type(error).__name__
            fields["error.message"] = _masked(str(error))
            fields["error.stack_trace"] = _masked("".join(traceback.format_exception(error)))
        for key, value in values.items():
            _put(fields, key, value)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        return
    if key == "duration_ms":
        fields["event.duration"] = round(value * 1_000_000)
    elif key in ECS:
        fields[ECS[key]] = mask(value if isinstance(value, str) else str(value), key)
    else:
        masked = mask(value, key)
        if isinstance(masked, dict | list):
            masked = _masked(json.dumps(masked, ensure_ascii=False, default=str))
        elif isinstance(masked, bool):
            masked = "true" if masked else "false"
        fields[f"labels.{key}"] = masked if isinstance(masked, str) else _masked(str(masked))


class _Stream:
    """Where the lines go. Whole lines only, whichever thread writes them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, Lock()

    def write(self, line: str) -> None:
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class _Logger:
    """What structlog's bound loggers end in."""

    def __init__(self, name: str, stream: _Stream) -> None:
        self.name, self._write = name, stream.write

    def _out(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = _out


class _Handler(logging.Handler):
    """What the libraries' loggers end in."""

    def __init__(self, form: EcsFormat, stream: _Stream) -> None:
        super().__init__()
        self._form, self._stream = form, stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            error = record.exc_info[1] if record.exc_info else None
            line = self._form.line(record.levelname.lower(), record.name, record.getMessage(), _extras(record), error)
            self._stream.write(line)
        except Exception:
            self.handleError(record)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """What a library says of a line beside its message."""
    found: dict[str, Any] = {}
    for key, value in record.__dict__.items():
        if key in _OF_RECORDS or key == "color_message":
            continue
        if key.startswith("temporal_") and isinstance(value, dict):  # of Temporal's SDK: what the line belongs to
            found |= value
        else:
            found[key] = value
    if isinstance(workflow_id := found.get("workflow_id"), str) and (order_id := order_id_of(workflow_id)):
        found.setdefault("order_id", order_id)
    return found


def configure_logging(service: str, level: str = "INFO") -> None:
    """Make every logger of this process, ours and the libraries', write masked JSON lines to standard output."""
    form, stream = EcsFormat(service), _Stream(sys.stdout)

    def render(logger: _Logger, method: str, event: EventDict) -> str:
        error = event.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        return form.line(method, logger.name, event.pop("event"), event, error)

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=lambda name="": _Logger(name, stream),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Handler(form, stream)]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "aiokafka", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # An attempt that failed is a line of ours (temporal/step_log.py).
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def logger(name: str) -> FilteringBoundLogger:
    """A structured logger: `logger(__name__).info("shipment_booked", order_id=...)`."""
    made: FilteringBoundLogger = structlog.get_logger(name)
    return made
