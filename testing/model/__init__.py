"""The services as a saga sees them, in memory: their real rules without a network or a database.

tests/contract proves that they answer each command as the real services do.
"""

from testing.model.world import World

__all__ = ["World"]
