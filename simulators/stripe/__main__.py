"""Environment: PORT, SIMULATOR_DATA_DIR, PAYMENT_PROVIDER_API_KEY, HOST (127.0.0.1), PAYMENT_PROVIDER_HOLD_SECONDS (604800),
PAYMENT_PROVIDER_MULTI_CAPTURE (true), PAYMENT_PROVIDER_PUBLIC_URL, PAYMENT_WEBHOOK_URL, PAYMENT_WEBHOOK_SECRET,
PAYMENT_WEBHOOK_EVENTS."""

import os

from simulators._service import data_directory, required, serve
from simulators.stripe.app import create_app, read_options

if __name__ == "__main__":
    key = required(os.environ, "PAYMENT_PROVIDER_API_KEY")
    serve(create_app(data_directory(os.environ), key, read_options(os.environ)))
