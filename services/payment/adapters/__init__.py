"""Companies that move money."""

from services.payment.adapters.stripe import StripePayments

__all__ = ["StripePayments"]
