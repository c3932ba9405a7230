import os

from simulators._service import data_directory, required, serve
from simulators.stripe.app import create_app, read_options

if __name__ == "__main__":
    key = required(os.environ, "PAYMENT_PROVIDER_API_KEY")
    serve(create_app(data_directory(os.environ), key, read_options(os.environ)))
