"""`commerce migrate`: Alembic for each service's own database, one after the other."""

import os
import time
from pathlib import Path

from rich.console import Console

from chassis import migrations

PAUSE_S = 1.0
SERVICES = ("identity", "catalog", "order", "payment", "inventory", "shipping", "notification", "analytics")
ROOT = Path(__file__).resolve().parent.parent


def migrate_all() -> None:
    """Upgrade every database to its head. Exits with KeyError's name of the variable that is missing."""
    console = Console()
    for service in SERVICES:
        migrations.upgrade(ROOT / "services" / service / "migrations", os.environ[f"DATABASE_URL_{service.upper()}"])
        console.print(f"{service}: up to date")


def wait_until_migrated(service: str) -> None:
    """Return when this service's database is at the head that this code knows, or further (an older version is put back).

    A new version must not serve on old tables: in a cluster its pods wait here for the migration job.
    """
    folder, url = ROOT / "services" / service / "migrations", os.environ[f"DATABASE_URL_{service.upper()}"]
    while not migrations.is_migrated(folder, url):
        time.sleep(PAUSE_S)
