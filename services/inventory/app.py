"""What runs in the inventory process: the API, the relay, and what looks after parcels that wait for goods."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from prometheus_client import Metric
from pydantic import Field

from chassis.database import Database
from chassis.dependencies import provide
from chassis.figures import Figures
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.inventory import api, figures, queries
from services.inventory.access import ACCESS
from services.inventory.commands.reservations import Reservations
from services.inventory.commands.waiting import look_after_waiting
from services.inventory.model import PROMISED_UNITS, metadata

FIGURES_SECONDS = 15.0
WAITING_SECONDS = 2.0
"""So long, about, until who waits is told that the day has changed."""


class InventorySettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_INVENTORY")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_INVENTORY")
    promised_units_per_customer: Annotated[int, Field(ge=1)] = PROMISED_UNITS
    """Of one product, so many units at most are promised to one customer and not yet shipped, in all orders together."""


def build(settings: InventorySettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app(
        "Inventory",
        "Warehouses, stock and reservations.",
        [api.public, api.internal],
        {"database": database.ping},
        ACCESS,
    )
    provide(app, Reservations, Reservations(database, settings.promised_units_per_customer))
    taken = _figures(database)
    return Service(
        name="inventory",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        jobs=[Job("look after who waits", partial(look_after_waiting, database), every_s=WAITING_SECONDS), taken.job()],
        resources=[taken],
    )


def _figures(database: Database) -> Figures:
    async def backorders() -> Sequence[Metric]:
        return figures.backorders(*await queries.who_waits(database))

    return Figures("inventory", database.asyncpg_dsn, [backorders], every_s=FIGURES_SECONDS)


if __name__ == "__main__":
    run_service(build(InventorySettings()))
