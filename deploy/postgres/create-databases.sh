#!/bin/sh
# Runs once, when the server is new: for each service a database, and a role that owns it and can enter no other.
set -e

create_role() {
    psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres \
        -v role="$1" -v password="$2" <<'SQL'
create role :"role" login password :'password';
SQL
}

create_database() {
    psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres \
        -v role="$1" -v database="$2" <<'SQL'
create database :"database" owner :"role";
revoke connect, temporary on database :"database" from public;
SQL
}

create_role identity "$POSTGRES_PASSWORD_IDENTITY"
create_role catalog "$POSTGRES_PASSWORD_CATALOG"
create_role order "$POSTGRES_PASSWORD_ORDER"
create_role payment "$POSTGRES_PASSWORD_PAYMENT"
create_role inventory "$POSTGRES_PASSWORD_INVENTORY"
create_role shipping "$POSTGRES_PASSWORD_SHIPPING"
create_role notification "$POSTGRES_PASSWORD_NOTIFICATION"
create_role analytics "$POSTGRES_PASSWORD_ANALYTICS"
for service in identity catalog order payment inventory shipping notification analytics; do
    create_database "$service" "${service}_db"
done

create_role temporal "$POSTGRES_PASSWORD_TEMPORAL"
create_database temporal temporal
create_database temporal temporal_visibility
# Its schema tool asks for both once more, which is an error only for a role that may not create any.
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres --command "alter role temporal createdb"
