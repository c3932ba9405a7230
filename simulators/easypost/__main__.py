"""`python -m simulators.easypost`."""

import os

from simulators._service import serve
from simulators.easypost.app import create_app, read_settings

if __name__ == "__main__":
    serve(create_app(read_settings(os.environ)))
