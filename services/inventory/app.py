"""What runs in the inventory process: the API, the relay, and the job that ends overdue reservations."""

import asyncio
from typing import Annotated

from pydantic import Field

from chassis.database import Database, is_connection_fault
from chassis.logs import logger
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.inventory import api, commands
from services.inventory.model import UNPAID_UNITS, metadata

SWEEP_SECONDS = 5.0
log = logger(__name__)


class InventorySettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_INVENTORY")
    unpaid_units_per_customer: Annotated[int, Field(ge=1)] = UNPAID_UNITS
    """Of one product, so many units at most are kept for one customer who has not paid them yet."""


def build(settings: InventorySettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app(
        "inventory", "Inventory", "Warehouses, stock and reservations.", [api.public, api.internal], {"database": database.ping}
    )
    app.state.database = database
    app.state.unpaid_units = settings.unpaid_units_per_customer

    async def sweep() -> None:
        while True:
            try:
                while await commands.expire_reservations(database):
                    pass
            except Exception as error:
                if not is_connection_fault(error):
                    log.error("sweep_failed", exc_info=error)
            await asyncio.sleep(SWEEP_SECONDS)

    return Service(name="inventory", settings=settings, metadata=metadata, api=app, database=database, jobs=[sweep])


if __name__ == "__main__":
    run_service(build(InventorySettings()))
