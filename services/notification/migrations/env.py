"""Alembic's entry to this service's migrations."""

from chassis.migrations import run_environment
from services.notification.model import metadata

run_environment(metadata)
