"""Payment methods, and the customers that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulators.stripe import shapes
from simulators.stripe.books import Books, Row, encoded, new_id
from simulators.stripe.cards import kind_of
from simulators.stripe.errors import StripeError, missing, refused

USED_UP = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared with a connected"
    " account without Customer attachment, or was detached from a Customer. It may not be used again. To use a PaymentMethod"
    " multiple times, you must attach it to a Customer first."
)


class Methods:
    def __init__(self, books: Books) -> None:
        self._books = books

    def create(self, card: str, billing: Mapping[str, Any] | None = None, metadata: Mapping[str, str] | None = None) -> Row:
        """A new payment method of a test card. Its card's fingerprint is that of the card's name."""
        return self._books.insert(
            "payment_methods",
            new_id("pm"),
            card=card,
            billing=encoded({**shapes.NO_BILLING, **(billing or {})}),
            metadata=encoded(metadata or {}),
        )

    def of_token(self, token: str) -> str:
        """The card of a token: `tok_visa` is that of `pm_card_visa`, `tok_sim_slow` that of `pm_sim_slow`."""
        name = token.removeprefix("tok_")
        card = f"pm_{name}" if name.startswith("sim_") else f"pm_card_{name}"
        if name == token or kind_of(card) is None:
            raise missing("token", token, "card[token]", status=400)
        return card

    def to_use(self, name: str, customer: str | None) -> Row:
        """The payment method of that id, if it may be used for the customer, or a new one of the test card of that name."""
        if kind_of(name) is not None:
            return self.create(name)
        row = self._books.find("payment_methods", name)
        if row is None:
            raise missing("PaymentMethod", name, "payment_method", status=400)
        if why := why_not(row, customer):
            raise why
        return row

    def add_customer(self, metadata: Mapping[str, str], **values: str | None) -> Row:
        row = self._books.insert("customers", new_id("cus"), metadata=encoded(metadata), **values)
        self._books.tell("customer.created", shapes.customer(row))
        return row

    def use(self, row: Row) -> None:
        """A bank was asked with it."""
        if not row["used"]:
            self._books.update("payment_methods", row["id"], used=1)

    def attach(self, row: Row, customer: str) -> None:
        if row["customer"] is None:
            attached = self._books.update("payment_methods", row["id"], customer=customer)
            self._books.tell("payment_method.attached", shapes.payment_method(attached))


def why_not(row: Row, customer: str | None) -> StripeError | None:
    """Why a payment method cannot be used for a customer, or for nobody in particular."""
    owner = row["customer"]
    if owner is None:
        return refused(USED_UP, param="payment_method") if row["used"] else None
    if customer is None:
        why = f"The PaymentMethod {row['id']} belongs to a Customer. Please include the Customer in the `customer` parameter."
        return refused(why, param="payment_method")
    if owner != customer:
        why = f"The customer does not have a payment method with the ID {row['id']}."
        return refused(why, "resource_missing", param="payment_method")
    return None
