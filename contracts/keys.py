"""The keys of customers, as the order service gives them to whoever reads or writes histories of orders."""

from uuid import UUID

from pydantic import ConfigDict

from contracts.base import Contract

SHOP = UUID(int=0)
"""In place of a customer: the key for what belongs to none. It is never destroyed."""


class WrappedKey(Contract):
    """A data key, encrypted under a master key."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    customer_id: UUID
    wrapped: bytes | None
    """None: it was destroyed, because the customer was forgotten."""
    master_key_id: str | None
    """Which master key it takes to unwrap it."""
