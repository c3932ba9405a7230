"""`commerce migrate`: Alembic for each service's own database, one after the other."""

import os
from pathlib import Path

from rich.console import Console

from chassis import migrations

SERVICES = ("identity", "catalog", "order", "payment", "inventory", "shipping", "notification", "analytics")
ROOT = Path(__file__).resolve().parent.parent


def migrate_all() -> None:
    """Upgrade every database to its head. Exits with KeyError's name of the variable that is missing."""
    console = Console()
    for service in SERVICES:
        migrations.upgrade(ROOT / "services" / service / "migrations", os.environ[f"DATABASE_URL_{service.upper()}"])
        console.print(f"{service}: up to date")
