"""`commerce secrets`: fresh logins and keys for a platform that runs elsewhere, for Docker Compose or for Kubernetes."""

import json
from collections.abc import Mapping

from embedded.secrets import CLIENT_SECRETS, OF_PROCESS, rsa_key, token

SERVICES = ("identity", "catalog", "order", "payment", "inventory", "shipping", "notification", "analytics")


def fresh() -> dict[str, str]:
    """Environment variables with new secrets. Those that only you can know (the mail server's login) are empty."""
    made = {
        "ADMIN_EMAIL": "admin@example.com",
        "ADMIN_PASSWORD": token(18),
        **{name: token() for name in CLIENT_SECRETS},
        "JWT_PRIVATE_KEY": rsa_key(),
        "JWT_PREVIOUS_PUBLIC_KEYS": "",
        "PAYMENT_PROVIDER_API_KEY": token(),
        "CARRIER_API_KEY": token(),
        "CARRIER_WEBHOOK_SECRET": token(),
        "SMTP_USERNAME": "",
        "SMTP_PASSWORD": "",
        "GRAFANA_PASSWORD": token(18),
    }
    databases = ("", *(f"_{name.upper()}" for name in (*SERVICES, "temporal")))
    return made | {f"POSTGRES_PASSWORD{name}": token() for name in databases}


def env_file(variables: Mapping[str, str]) -> str:
    """As a file for Docker Compose, which a shell reads too. Newlines (of the key) are written as backslash and n."""
    lines = (f"{name}='{value}'" if value else f"{name}=" for name, value in variables.items())
    return "".join(line.replace("\n", "\\n") + "\n" for line in lines)


def kubernetes(variables: Mapping[str, str]) -> str:
    """As Secret objects: one for each process with what it needs, and one with the passwords of the databases in the cluster."""
    processes = dict.fromkeys((*SERVICES, *OF_PROCESS))
    items = [
        _secret(
            "distributed-commerce",
            process,
            _database_of(process, variables) | {name: variables[name] for name in OF_PROCESS.get(process, ())},
        )
        for process in processes
    ]
    databases = {name: variables[f"POSTGRES_PASSWORD_{name.upper()}"] for name in (*SERVICES, "temporal")}
    items.append(_secret("infrastructure", "postgres", databases))
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def _database_of(process: str, variables: Mapping[str, str]) -> dict[str, str]:
    if process not in SERVICES:
        return {}
    name = f"DATABASE_URL_{process.upper()}"
    password = variables[f"POSTGRES_PASSWORD_{process.upper()}"]
    return {name: f"postgresql://{process}:{password}@postgres-{process}.infrastructure:5432/{process}_db"}


def _secret(namespace: str, name: str, values: Mapping[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": dict(values)}
