"""Which secrets there are, and which process needs which.

`commerce secrets` makes fresh ones for a platform that runs elsewhere, for Docker Compose or for Kubernetes.
"""

import json
import secrets
from collections.abc import Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SERVICES = ("identity", "catalog", "order", "payment", "inventory", "shipping", "notification", "analytics")
CLIENT_SECRETS = ("SERVICE_CLIENT_SECRET_WORKER", "SERVICE_CLIENT_SECRET_ORDER", "SERVICE_CLIENT_SECRET_NOTIFICATION")
"""With which each process that calls others gets its tokens from identity."""
OF_PROCESS = {
    "identity": ("ADMIN_EMAIL", "ADMIN_PASSWORD", "JWT_PRIVATE_KEY", "JWT_PREVIOUS_PUBLIC_KEYS", *CLIENT_SECRETS),
    "order": ("SERVICE_CLIENT_SECRET_ORDER",),
    "payment": ("PAYMENT_PROVIDER_API_KEY",),
    "shipping": ("CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"),
    "notification": ("SERVICE_CLIENT_SECRET_NOTIFICATION", "SMTP_USERNAME", "SMTP_PASSWORD"),
    "worker": ("SERVICE_CLIENT_SECRET_WORKER",),
    "payment-provider": ("PAYMENT_PROVIDER_API_KEY",),
    "carrier": ("CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"),
}
"""Who needs what, beside the addresses of the own database and of Redis. Nobody gets more."""
USE_REDIS = ("edge", "catalog")


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
        "REDIS_PASSWORD": token(),
    }
    databases = ("", *(f"_{name.upper()}" for name in (*SERVICES, "temporal")))
    return made | {f"POSTGRES_PASSWORD{name}": token() for name in databases}


def env_file(variables: Mapping[str, str]) -> str:
    """As a file for Docker Compose, which a shell reads too. Newlines (of the key) are written as backslash and n."""
    lines = (f"{name}='{value}'" if value else f"{name}=" for name, value in variables.items())
    return "".join(line.replace("\n", "\\n") + "\n" for line in lines)


def kubernetes(variables: Mapping[str, str]) -> str:
    """As Secret objects: one for each process with what it needs, and those of the servers in the cluster."""
    processes = dict.fromkeys((*SERVICES, *USE_REDIS, *OF_PROCESS))
    items = [
        _secret(
            "distributed-commerce",
            process,
            _addresses_of(process, variables) | {name: variables[name] for name in OF_PROCESS.get(process, ())},
        )
        for process in processes
    ]
    databases = {name: variables[f"POSTGRES_PASSWORD_{name.upper()}"] for name in (*SERVICES, "temporal")}
    items.append(_secret("infrastructure", "postgres", databases))
    items.append(_secret("infrastructure", "valkey", {"password": variables["REDIS_PASSWORD"]}))
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def _addresses_of(process: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Those with a password in them."""
    addresses = {}
    if process in SERVICES:
        password = variables[f"POSTGRES_PASSWORD_{process.upper()}"]
        database = f"{process}:{password}@postgres-{process}.infrastructure:5432/{process}_db"
        addresses[f"DATABASE_URL_{process.upper()}"] = f"postgresql://{database}"
    if process in USE_REDIS:
        addresses["REDIS_URL"] = f"redis://commerce:{variables['REDIS_PASSWORD']}@valkey.infrastructure:6379/0"
    return addresses


def _secret(namespace: str, name: str, values: Mapping[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": dict(values)}


def token(size: int = 32) -> str:
    """So many random bytes, as text."""
    return secrets.token_urlsafe(size)


def rsa_key() -> str:
    """A new private key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode().strip()
