"""A card processor that speaks Stripe's API: `python -m simulators.stripe`. The cards that make trouble are in `cards`."""
