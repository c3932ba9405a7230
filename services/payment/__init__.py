"""Payment: takes the money for an order once, gives it back whole, and keeps a ledger that agrees with the provider's."""
