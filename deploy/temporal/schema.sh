#!/bin/sh
# Brings Temporal's two databases to the schema of this server version. Runs before the server starts; repeating it is harmless.
set -eu

# The tool's names for what the server calls otherwise.
export SQL_PLUGIN=postgres12 SQL_HOST="$POSTGRES_SEEDS" SQL_PORT=5432 SQL_USER="$POSTGRES_USER" SQL_PASSWORD="$POSTGRES_PWD"

set_up() {
    temporal-sql-tool --database "$1" create
    temporal-sql-tool --database "$1" setup-schema -v 0.0
    temporal-sql-tool --database "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

set_up temporal temporal
set_up temporal_visibility visibility
