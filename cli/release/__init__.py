"""`commerce release`: what the saga promises, what a change of it breaks, and which builds run the orders in flight."""

from cli.release.app import release_app

__all__ = ["release_app"]
