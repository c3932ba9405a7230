"""A card processor that speaks Stripe's API: `python -m simulators.stripe`.

The cards that make trouble are in `cards`, what else fails on demand in `faults`, what a person does in `dashboard`; `spec` has
the protocol, and what we had to choose.

Environment: PORT, SIMULATOR_DATA_DIR, PAYMENT_PROVIDER_API_KEY, HOST (127.0.0.1).
PAYMENT_WEBHOOK_URL, PAYMENT_WEBHOOK_SECRET: where the shop hears of events; without a URL nothing is sent. While the secret is
changed, both with a comma between them: each webhook is signed with each.
PAYMENT_WEBHOOK_EVENTS: the types of events that are sent, with commas between them.
PAYMENT_PROVIDER_HOLD_SECONDS (604800): how long money is held.
PAYMENT_PROVIDER_MULTI_CAPTURE (true): whether what is held can be taken in several captures, for whoever asks for that.
PAYMENT_PROVIDER_PUBLIC_URL: under which customers' browsers reach the page of their bank; without it, where the request came to.
"""
