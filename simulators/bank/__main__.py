"""Environment: PORT, SIMULATOR_DATA_DIR, BANK_API_KEY, BANK_IBAN, HOST (127.0.0.1)."""

import os

from simulators._service import data_directory, required, serve
from simulators.bank.app import create_app

if __name__ == "__main__":
    serve(create_app(data_directory(os.environ), required(os.environ, "BANK_API_KEY"), required(os.environ, "BANK_IBAN")))
