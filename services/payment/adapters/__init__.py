"""Companies that move money."""

from services.payment.adapters.bank import HttpBank
from services.payment.adapters.iso20022 import Iso20022
from services.payment.adapters.providers import Providers
from services.payment.adapters.stripe import StripePayments
from services.payment.adapters.transfers import Transfers

__all__ = ["HttpBank", "Iso20022", "Providers", "StripePayments", "Transfers"]
