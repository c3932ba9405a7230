"""The ledger of stock: whatever changes what is on hand adds to it."""

from collections.abc import Sequence

from chassis.store import UnitOfWork
from services.inventory.model import Moved, outbox


def record(work: UnitOfWork, moved: Sequence[Moved]) -> None:
    """Add movements to the ledger, and tell of them."""
    work.add(*[one.movement for one in moved])
    outbox.add(work, *[event for one in moved for event in one.events])
