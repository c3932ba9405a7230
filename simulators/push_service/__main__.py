"""The process."""

from __future__ import annotations

import os

from simulators._service import data_directory, serve
from simulators.push_service.app import create_app

if __name__ == "__main__":
    serve(create_app(data_directory(os.environ)))
