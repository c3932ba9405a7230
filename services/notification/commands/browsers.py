"""Browsers that push messages go to."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from services.notification.commands.delivering import person_for_change
from services.notification.model import Person, browser_id_of

_WITH_BROWSER = locked(
    Person,
    col(Person.browsers).contains(bindparam("browser", type_=JSONB)) & (col(Person.person_id) != bindparam("person_id")),
)


@transaction
async def subscribe(work: UnitOfWork, person_id: UUID, endpoint: str, subscription: Mapping[str, Any]) -> str:
    """Send this person's push messages to this browser too; its id. Whoever used the browser before gets no more there: one must
    not read another's messages."""
    browser_id = browser_id_of(endpoint)
    await work.lock(f"browser {browser_id}")  # of two people at once the second sees what the first has done
    for other in await work.all(_WITH_BROWSER, browser=[{"id": browser_id}], person_id=person_id):
        other.remove_browser(browser_id)
    return (await person_for_change(work, person_id)).add_browser(endpoint, subscription)


@transaction
async def forget_browser(work: UnitOfWork, person_id: UUID, browser_id: str) -> None:
    """Its push service says that it is gone."""
    (await person_for_change(work, person_id)).remove_browser(browser_id)
