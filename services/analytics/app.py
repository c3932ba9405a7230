"""What runs in the analytics process: the API and the consumer. It has no events of its own."""

from pydantic import Field

from chassis.database import Database
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.analytics import api
from services.analytics.access import ACCESS
from services.analytics.consumers import subscription
from services.analytics.model import inbox, metadata


class AnalyticsSettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_ANALYTICS")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_ANALYTICS")


def build(settings: AnalyticsSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app("Analytics", "Sales, top products and customer value.", [api.public], {"database": database.ping}, ACCESS)
    return Service(
        name="analytics",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription,
    )


if __name__ == "__main__":
    run_service(build(AnalyticsSettings()))
