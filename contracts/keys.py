"""The keys of customers, as the order service gives them to whoever reads or writes histories of orders."""

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from contracts.base import Contract, Request

SHOP = UUID(int=0)
"""In place of a customer: the key for what belongs to none. It is never destroyed."""
KEYS_AT_ONCE = 100


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
    takes_orders: bool = True
    """Whether the customer may place orders: not one who is to be forgotten."""


class LookUpKeys(Request):
    """Body of `POST /internal/v1/customer-keys/lookup`."""

    customer_ids: Annotated[list[UUID], Field(min_length=1, max_length=KEYS_AT_ONCE)]


class KeysFound(Contract):
    """Reply: the keys of those customers who have one."""

    keys: list[WrappedKey]
