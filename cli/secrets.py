"""`commerce secrets`: fresh ones for a platform that runs elsewhere, for Docker Compose or for Kubernetes.

Which process needs which is in contracts/platform.py.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts.platform import PROCESSES, SERVICE_NAMES, SERVICES, Process

_MAKERS: dict[str, Callable[[], str]] = {
    "ADMIN_EMAIL": lambda: "admin@example.com",
    "ADMIN_PASSWORD": lambda: token(18),
    "JWT_PRIVATE_KEY": lambda: rsa_key(),
    "CUSTOMER_KEYS_MASTER": lambda: master_key("key-1"),
    "TWILIO_ACCOUNT_SID": lambda: f"AC{secrets.token_hex(16)}",
    "TWILIO_AUTH_TOKEN": lambda: secrets.token_hex(16),
    "VAPID_PRIVATE_KEY": lambda: p256_key(),
    **dict.fromkeys(("JWT_PREVIOUS_PUBLIC_KEYS", "SMTP_USERNAME", "SMTP_PASSWORD", "BOUNCE_MAILBOX_URL"), lambda: ""),
}
"""How those are made that are not just random. What only you can know is empty."""


def of_processes(kept: Mapping[str, str]) -> dict[str, str]:
    """The secrets that processes of ours read: those that there are already, and new ones for the rest."""
    names = dict.fromkeys(name for process in PROCESSES.values() for name in process.needs)
    return {name: kept[name] if name in kept else _MAKERS.get(name, token)() for name in names}


def fresh() -> dict[str, str]:
    """Environment variables with new secrets, also for the servers that a platform elsewhere brings along."""
    servers = {"GRAFANA_PASSWORD": token(18), "REDIS_PASSWORD": token()}
    databases = ("", *(f"_{name.upper()}" for name in (*SERVICE_NAMES, "temporal")))
    replicas = {service.read_database_variable: "" for service in SERVICES}
    return of_processes({}) | servers | {f"POSTGRES_PASSWORD{name}": token() for name in databases} | replicas


def env_file(variables: Mapping[str, str]) -> str:
    """As a file for Docker Compose, which a shell reads too. Newlines (of the key) are written as backslash and n."""
    lines = (f"{name}='{value}'" if value else f"{name}=" for name, value in variables.items())
    return "".join(line.replace("\n", "\\n") + "\n" for line in lines)


def kubernetes(variables: Mapping[str, str]) -> str:
    """As Secret objects: one for each process with what it needs, and those of the servers in the cluster."""
    items = [
        _secret("distributed-commerce", process.name, values)
        for process in PROCESSES.values()
        if (values := _addresses_of(process, variables) | {name: variables[name] for name in process.needs})
    ]
    databases = {name: variables[f"POSTGRES_PASSWORD_{name.upper()}"] for name in (*SERVICE_NAMES, "temporal")}
    items.append(_secret("infrastructure", "postgres", databases))
    items.append(_secret("infrastructure", "valkey", {"password": variables["REDIS_PASSWORD"]}))
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def _addresses_of(process: Process, variables: Mapping[str, str]) -> dict[str, str]:
    """Those with a password in them."""
    addresses = {}
    if process.has_database:
        password = variables[f"POSTGRES_PASSWORD_{process.identifier.upper()}"]
        server = f"postgres-{process.name}.infrastructure:5432"
        addresses[process.database_variable] = f"postgresql://{process.name}:{password}@{server}/{process.database_name}"
        addresses[process.read_database_variable] = variables[process.read_database_variable]
    if process.uses_redis:
        addresses["REDIS_URL"] = f"redis://commerce:{variables['REDIS_PASSWORD']}@valkey.infrastructure:6379/0"
    return addresses


def _secret(namespace: str, name: str, values: Mapping[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": dict(values)}


def token(size: int = 32) -> str:
    """So many random bytes, as text."""
    return secrets.token_urlsafe(size)


def rsa_key() -> str:
    """A new private key for signing access tokens, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode().strip()


def p256_key() -> str:
    """A new private key for push messages, as VAPID_PRIVATE_KEY has it: the 32 bytes of its number."""
    number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()


def master_key(key_id: str) -> str:
    """A new key that wraps those of customers, as CUSTOMER_KEYS_MASTER has it."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}"
