"""What a customer has to do before the money is there."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from contracts.base import Contract, Timestamp, Told
from contracts.money import Money

BANK_TRANSFER = "bank_transfer"
"""In place of a card's token: the customer pays by a transfer from the own bank."""


class ActionKind(StrEnum):
    """What a customer has to do before the money is there."""

    REDIRECT = "redirect"
    """Open `url` in a browser, e.g. the bank's page that confirms a payment (3-D Secure)."""
    TRANSFER = "transfer"
    """Transfer the money: to the account and with the reference in `transfer`."""


class TransferDetails(Contract):
    """Where a customer transfers the money to."""

    recipient: Told
    iban: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$")]
    reference: Annotated[str, StringConstraints(pattern=r"^RF[0-9]{2}[A-Z0-9]{1,21}$")]
    """To be stated with the transfer (creditor reference, ISO 11649)."""
    received: Annotated[Money | None, Field(exclude_if=lambda received: received is None)] = None
    """What has come in so far, if that is not enough."""


class PaymentAction(Contract):
    """What the customer has to do. `url` is there for a redirect, `transfer` for a transfer."""

    kind: ActionKind
    url: Annotated[str, StringConstraints(max_length=2000)] | None = None
    transfer: TransferDetails | None = None


class ActionDue(PaymentAction):
    """The same, of an order that waits for it."""

    until: Timestamp
    """Then the order is cancelled."""
