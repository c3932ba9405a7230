"""A relay as a process of its own, to be killed; its settings come from the environment."""

import uvloop

from chassis.database import Database
from chassis.relay import Relay
from chassis.settings import ServiceSettings

if __name__ == "__main__":
    settings = ServiceSettings()
    uvloop.run(Relay(Database(settings.database_url).asyncpg_dsn, settings).run())
