"""Processes of the platform: how they get their tokens."""

import secrets
from collections.abc import Mapping

from pydantic import SecretStr

from chassis.database import Database
from chassis.origin import Origin
from chassis.store import in_transaction
from contracts.errors import ErrorCode, Refusal
from contracts.identity import ServiceToken
from services.identity.commands.guessing import Guesses
from services.identity.commands.security import SecurityLog
from services.identity.model import SecurityEvent
from services.identity.tokens import TokenIssuer


async def service_token(
    database: Database,
    issuer: TokenIssuer,
    security: SecurityLog,
    clients: Mapping[str, SecretStr],
    origin: Origin,
    *,
    client_id: str,
    client_secret: SecretStr,
) -> ServiceToken:
    """A token for the services that this process may call. Refusals: invalid_credentials, rate_limited."""
    guesses = Guesses.of_client(client_id, origin)
    secret = clients.get(client_id)
    if secret is not None and _same(secret, client_secret):
        await in_transaction(database, guesses.forgive)
        return issuer.service_token(client_id)
    await in_transaction(database, guesses.count_failure)
    await security.record(database, SecurityEvent.SERVICE_TOKEN_REFUSED, origin, account=client_id)
    raise Refusal(ErrorCode.INVALID_CREDENTIALS, "There is no such client, or its secret is wrong.")


def _same(secret: SecretStr, given: SecretStr) -> bool:
    return secrets.compare_digest(secret.get_secret_value().encode(), given.get_secret_value().encode("utf-8", "surrogatepass"))
