"""The process."""

from __future__ import annotations

import os

from simulators._service import data_directory, required, serve
from simulators.twilio.app import create_app

if __name__ == "__main__":
    account = required(os.environ, "TWILIO_ACCOUNT_SID")
    tokens = tuple(required(os.environ, "TWILIO_AUTH_TOKEN").split(","))
    serve(create_app(data_directory(os.environ), account, tokens, os.environ.get("TWILIO_INBOUND_URL")))
