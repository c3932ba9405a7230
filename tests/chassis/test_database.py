"""Which errors of a database, and of files, are faults that pass; see test_store.py for locks and deadlocks."""

import errno

import pytest

from chassis.database import is_passing


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (TimeoutError(), True),
        (OSError("Multiple exceptions: refused, refused"), True),
        (OSError(errno.EHOSTUNREACH, "no route"), True),
        (FileNotFoundError(errno.ENOENT, "none", "template"), False),
        (FileNotFoundError("template"), False),
        (PermissionError(errno.EACCES, "no", "key.pem"), False),
        (OSError(errno.ENOSPC, "disk full"), False),
    ],
)
def test_i5_what_is_wrong_with_a_file_is_no_database_that_is_away(error: OSError, passes: bool) -> None:
    assert is_passing(error) is passes
