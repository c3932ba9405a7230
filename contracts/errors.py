"""Refusals: every definite "no" that the platform gives, with a stable code that clients and workflows may rely on.

A refusal is an answer, not a fault: it is never retried. What may go through later (a timeout, a service that is down) is not a
refusal.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from contracts.base import Contract


class ErrorCode(StrEnum):
    """Stable codes of problem details (RFC 9457); documented in docs/errors.md. Never rename one: clients branch on it."""

    # request
    VALIDATION_FAILED = "validation_failed"
    MALFORMED_REQUEST = "malformed_request"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    RATE_LIMITED = "rate_limited"
    INVALID_CURSOR = "invalid_cursor"
    REQUEST_TIMEOUT = "request_timeout"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CONFLICT = "conflict"
    STALE_VERSION = "stale_version"
    # identity
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INVALID_CREDENTIALS = "invalid_credentials"
    LINK_INVALID = "link_invalid"
    ACCOUNT_DISABLED = "account_disabled"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105
    # catalog
    PRODUCT_UNKNOWN = "product_unknown"
    PRODUCT_EXISTS = "product_exists"
    CATEGORY_UNKNOWN = "category_unknown"
    CATEGORY_IN_USE = "category_in_use"
    # inventory
    OUT_OF_STOCK = "out_of_stock"
    STOCK_PROMISED = "stock_promised"
    WAREHOUSE_UNKNOWN = "warehouse_unknown"
    RESERVATION_RELEASED = "reservation_released"
    RESERVATION_SHIPPED = "reservation_shipped"
    # payment
    PAYMENT_DECLINED = "payment_declined"
    PAYMENT_REVERSED = "payment_reversed"
    PAYMENT_NOT_DUE = "payment_not_due"
    PAYMENT_NOT_CONFIRMED = "payment_not_confirmed"
    NOT_HELD = "not_held"
    REFUND_FAILED = "refund_failed"
    # shipping
    ADDRESS_UNDELIVERABLE = "address_undeliverable"
    PARCEL_TOO_HEAVY = "parcel_too_heavy"
    SHIPMENT_CANCELLED = "shipment_cancelled"
    ALREADY_DISPATCHED = "already_dispatched"
    INVALID_SIGNATURE = "invalid_signature"
    # order
    ORDER_UNKNOWN = "order_unknown"
    OWN_ORDER = "own_order"
    PURCHASE_LIMIT = "purchase_limit"
    DISCOUNT_REFUSED = "discount_refused"
    ILLEGAL_TRANSITION = "illegal_transition"
    REVIEW_REJECTED = "review_rejected"
    REVIEW_EXPIRED = "review_expired"
    NOT_IN_REVIEW = "not_in_review"
    CANCELLED_BY_REQUEST = "cancelled_by_request"
    NO_DECISION_PENDING = "no_decision_pending"
    CHOICE_NOT_POSSIBLE = "choice_not_possible"
    UNDO_NOT_STUCK = "undo_not_stuck"
    CUSTOMER_FORGOTTEN = "customer_forgotten"
    QUOTE_EXPIRED = "quote_expired"
    QUOTE_MISMATCH = "quote_mismatch"
    NOT_RETURNABLE = "not_returnable"
    RETURN_NOT_OPEN = "return_not_open"
    NOT_AMENDABLE = "not_amendable"
    AMENDMENT_NEEDS_STAFF = "amendment_needs_staff"
    # notification
    TEMPLATE_INVALID = "template_invalid"
    CODE_INVALID = "code_invalid"
    CHANNEL_UNAVAILABLE = "channel_unavailable"
    # faults, not refusals: these may go through later
    INTERNAL_ERROR = "internal_error"
    SERVICE_UNAVAILABLE = "service_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    CLOCK_FAULT = "clock_fault"


REFUSAL_HEADER = "x-refusal"
"""On the answers of `/internal/` paths: the code, where a command refused. No error of the framework carries it."""
ABOUT_THE_CALL = frozenset(
    {
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.MALFORMED_REQUEST,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.CLOCK_FAULT,
    }
)
"""What was wrong with how a request was made, whatever it asked for. Between our own processes that is a fault of ours."""


class Refusal(Exception):
    """A definite "no" with its code. `extra` joins the problem details, e.g. the lines that are out of stock."""

    def __init__(self, code: ErrorCode, detail: str, *, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})


class FieldError(Contract):
    """One field of a request that was refused. `field` is a path, e.g. `lines.0.quantity`."""

    field: str
    code: str
    detail: str


class Problem(Contract):
    """Problem details as clients get them (RFC 9457, `application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """One of ErrorCode."""
    detail: str | None = None
    instance: str | None = None
    errors: list[FieldError] | None = None
    trace_id: str | None = None
