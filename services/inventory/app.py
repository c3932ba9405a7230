"""What runs in the inventory process: the API and the relay."""

from typing import Annotated

from pydantic import Field

from chassis.database import Database
from chassis.dependencies import provide
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.inventory import api
from services.inventory.access import ACCESS
from services.inventory.commands.reservations import Reservations
from services.inventory.model import PROMISED_UNITS, metadata


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
    return Service(name="inventory", settings=settings, metadata=metadata, api=app, database=database)


if __name__ == "__main__":
    run_service(build(InventorySettings()))
