"""`commerce migrate`: Alembic for each service's own database, one after the other."""

import os
import time
from pathlib import Path

from rich.console import Console

from chassis import migrations
from contracts.platform import PROCESSES, SERVICES, Process

PAUSE_S = 1.0
ROOT = Path(__file__).resolve().parent.parent


def migrate_all() -> None:
    """Upgrade every database to its head. Exits with KeyError's name of the variable that is missing."""
    console = Console()
    for service in SERVICES:
        migrations.upgrade(_folder(service), os.environ[service.database_variable])
        console.print(f"{service.name}: up to date")


def wait_until_migrated(service: str) -> None:
    """Return when this service's database is at the head that this code knows, or further (an older version is put back).

    A new version must not serve on old tables: in a cluster its pods wait here for the migration job.
    """
    folder, url = _folder(PROCESSES[service]), os.environ[PROCESSES[service].database_variable]
    while not migrations.is_migrated(folder, url):
        time.sleep(PAUSE_S)


def _folder(service: Process) -> Path:
    return ROOT / "services" / service.name / "migrations"
