"""JSON logs, one line an event, tied together by trace id, with personal data masked."""

import logging
import re
import sys
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

MASKED_KEYS = frozenset(
    {
        "password", "email", "authorization", "access_token", "refresh_token", "client_secret", "payment_token", "card_token",
        "name", "line1", "line2", "postal_code", "phone", "ship_to", "to", "cookie", "token",
    }
)  # fmt: skip
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_BEARER = re.compile(r"(?i)bearer\s+[\w.~+/-]+=*")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")


def mask(value: Any, key: str = "") -> Any:
    """`value` without personal data: masked whole under a telling key, else e-mails, tokens and card numbers inside its text."""
    if key in MASKED_KEYS:
        return "***"
    if isinstance(value, str):
        for pattern in (_JWT, _BEARER, _EMAIL, _CARD):
            value = pattern.sub("***", value)
        return value
    if isinstance(value, dict):
        return {k: mask(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask(v) for v in value]
    return value


def _mask_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: mask(value, key) for key, value in event.items()}


def _add_trace_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event


def configure_logging(service: str, level: str = "INFO") -> None:
    """Make every logger of this process, ours and the libraries', write masked JSON lines to standard output."""

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        _add_trace_id,
        structlog.processors.format_exc_info,
        _mask_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "aiokafka", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def logger(name: str) -> FilteringBoundLogger:
    """A structured logger: `logger(__name__).info("shipment_booked", order_id=...)`."""
    made: FilteringBoundLogger = structlog.get_logger(name)
    return made
