"""What the simulated issuing banks do with each card token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Card:
    refusal: tuple[str, str] | None = None
    """Code and message of the bank's no."""
    risk: Literal["normal", "elevated"] = "normal"
    failures_first: int = 0
    """503 to this many requests of a reference before one is answered."""
    reply: Literal["sent", "slow", "lost"] = "sent"
    hangs: bool = False
    refunds: Literal["succeeded", "pending,succeeded", "pending,failed", "succeeded,failed", "refused"] = "succeeded"
    """What becomes of a refund: at once, and, after a comma, later."""


CARDS = {
    "tok_visa": Card(),
    "tok_mastercard": Card(),
    "tok_declined": Card(refusal=("card_declined", "The bank declined the card.")),
    "tok_insufficient_funds": Card(refusal=("insufficient_funds", "The card has insufficient funds.")),
    "tok_expired": Card(refusal=("expired_card", "The card has expired.")),
    "tok_incorrect_cvc": Card(refusal=("incorrect_cvc", "The security code is wrong.")),
    "tok_fraudulent": Card(refusal=("fraudulent", "The payment was blocked as fraudulent.")),
    "tok_review": Card(risk="elevated"),
    "tok_flaky_3": Card(failures_first=3),
    "tok_lost_reply": Card(reply="lost"),
    "tok_slow": Card(reply="slow"),
    "tok_timeout": Card(hangs=True),
    "tok_refund_pending": Card(refunds="pending,succeeded"),
    "tok_refund_fails": Card(refunds="pending,failed"),
    "tok_refund_bounces": Card(refunds="succeeded,failed"),
    "tok_refund_refused": Card(refunds="refused"),
}
UNKNOWN_CARD = Card(refusal=("invalid_card_token", "There is no such card."))


def card_of(token: str) -> Card:
    """The card behind a token. `tok_visa_<anything>` is another card, which does what `tok_visa` does."""
    kind = token if token in CARDS else next((name for name in CARDS if token.startswith(f"{name}_")), "")
    return CARDS.get(kind, UNKNOWN_CARD)
