"""Which calls are about what."""

import re
from urllib.parse import urlsplit

from testing.histories import Call

ORDERS = "/api/v1/orders"
RETURNS = re.compile(rf"{ORDERS}/([0-9a-f-]{{36}})/returns(?:/(\d+)(?:/(\w+))?)?$")
"""The order, the number of its return, and what was asked of that."""
AMENDMENTS = re.compile(rf"{ORDERS}/([0-9a-f-]{{36}})/amendments")


def is_about_more(call: Call) -> bool:
    """Whether it asks something of an order's returns or amendments: what it is told is their status, not the order's."""
    path = urlsplit(call.path).path
    return RETURNS.match(path) is not None or AMENDMENTS.match(path) is not None
