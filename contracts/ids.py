"""Names that several processes must derive alike: pure functions of business ids, so that a retry finds the same thing."""

from uuid import UUID, uuid4, uuid5

ORDERS = UUID("6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11")
"""Namespace of order ids."""
QUOTES = UUID("1d2f7c0e-3f5b-5c52-8d0c-6a0c3be3d9a4")
"""Namespace of quote ids."""


def order_id_for(customer_id: UUID, idempotency_key: str) -> UUID:
    """The id of the order that this customer places under this key: a repeated request finds the same order."""
    return uuid5(ORDERS, f"{customer_id}/{idempotency_key}")


def quote_id_for(customer_id: UUID, idempotency_key: str) -> UUID:
    """The id of the quote that this customer asks for under this key: a repeated request finds the same quote."""
    return uuid5(QUOTES, f"{customer_id}/{idempotency_key}")


def order_workflow_id(order_id: UUID) -> str:
    """Temporal's workflow id of an order's saga."""
    return f"order-{order_id}"


def return_workflow_id(order_id: UUID, number: int) -> str:
    """Temporal's workflow id of the saga of one of an order's returns."""
    return f"return-{order_id}-{number}"


def order_id_of(workflow_id: str) -> UUID | None:
    """The order whose saga, or the saga of one of whose returns, has this workflow id; None: it is neither's."""
    is_return = workflow_id.startswith("return-")
    order_id = workflow_id.removeprefix("return-").rpartition("-")[0] if is_return else workflow_id.removeprefix("order-")
    try:
        return UUID(order_id)
    except ValueError:
        return None


def return_number_of(workflow_id: str) -> int | None:
    """Which of an order's returns has a saga with this workflow id; None: it is the order's own."""
    return int(workflow_id.rpartition("-")[2]) if workflow_id.startswith("return-") else None


def replacement_id_for(order_id: UUID, number: int) -> UUID:
    """The id of the order that a return brings."""
    return uuid5(ORDERS, f"{order_id}/return/{number}")


def step_key(order_id: UUID, step: str) -> str:
    """Idempotency key of one saga step: the same on every retry, also after a reset of the workflow."""
    return f"{order_id}:{step}"


def payment_reference(order_id: UUID, attempt: int) -> str:
    """Our reference at the payment provider for one attempt to pay an order."""
    return f"{order_id}-{attempt}"


def return_reference(order_id: UUID, number: int) -> str:
    """Our reference at the carrier for the parcel in which a return comes back."""
    return f"{order_id}-return-{number}"


def parcel_reference(order_id: UUID, parcel: int) -> str:
    """Our reference at the carrier for one parcel of an order."""
    return str(order_id) if parcel == 1 else f"{order_id}-{parcel}"


def sample_id() -> UUID:
    """Of a message that somebody sends to see a text or a browser at work, and that is no delivery: of version 8 (RFC 9562),
    which no other id here has."""
    return UUID(int=uuid4().int & ~(0xF << 76) | 8 << 76)


def is_sample(message_id: UUID) -> bool:
    """Whether a message was sent as a sample."""
    return message_id.version == 8
