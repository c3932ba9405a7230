"""`commerce release …`: builds of the saga, which of them gets new orders, and the orders in flight on each."""

from cli.release.app import release_app

__all__ = ["release_app"]
