"""Signs access tokens (JWT, RS256) and publishes the keys that verify them."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from chassis.clock import utc_now
from chassis.tokens import ALGORITHM
from contracts.identity import USER_TOKEN_LASTS, Role, ServiceToken
from contracts.platform import PROCESSES

SERVICE_TOKEN_LASTS = timedelta(minutes=10)
SERVICE_SUBJECTS = UUID("d0f2b6f1-9c0c-5a35-8f0e-6a2b1c6f4e90")
"""Namespace of the subjects of service tokens."""
_PUBLIC_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login or a refresh gives. The refresh token is good for one use."""

    access_token: str
    refresh_token: str


class TokenIssuer:
    """Holds the private key. `other_public_keys` (PEM, one after the other) are published beside its own: the previous key
    while its tokens still live, or the next one before it signs."""

    def __init__(self, private_key: SecretStr, other_public_keys: str, *, issuer: str, audience: str) -> None:
        self._key = _private_key(private_key)
        self._issuer, self._audience = issuer, audience
        own = _jwk(self._key.public_key())
        self._kid: str = own["kid"]
        others = [_jwk(_public_key(pem)) for pem in _PUBLIC_PEM.findall(_with_newlines(other_public_keys))]
        self.jwks: dict[str, Any] = {"keys": list({key["kid"]: key for key in [own, *others]}.values())}
        """The key set (RFC 7517) that verifiers fetch."""

    async def keys(self) -> dict[str, Any]:
        """The key set, for this process's own verifier."""
        return self.jwks

    def access_token(self, user_id: UUID, roles: Iterable[str], session_id: UUID, warehouses: Iterable[str] | None = None) -> str:
        """A token that says who this is and what they may do, until it expires or the session ends."""
        claims: dict[str, Any] = {"sid": str(session_id), "roles": list(roles)}
        if warehouses is not None:
            claims["warehouses"] = list(warehouses)
        return self._signed(user_id, self._audience, USER_TOKEN_LASTS, claims)

    def _signed(self, subject: UUID, audience: str | Sequence[str], lasts: timedelta, claims: Mapping[str, Any]) -> str:
        now = utc_now()
        own = {
            "iss": self._issuer,
            "aud": audience,
            "sub": str(subject),
            "iat": now,
            "exp": now + lasts,
            "jti": str(uuid4()),
        }
        return jwt.encode(own | dict(claims), self._key, ALGORITHM, headers={"kid": self._kid})

    def service_token(self, client_id: str) -> ServiceToken:
        """A token for a process of the platform, good at the services that it calls."""
        claims = {"roles": [Role.SERVICE]}
        token = self._signed(uuid5(SERVICE_SUBJECTS, client_id), PROCESSES[client_id].calls, SERVICE_TOKEN_LASTS, claims)
        return ServiceToken(access_token=token, expires_in=int(SERVICE_TOKEN_LASTS.total_seconds()))


def _private_key(pem: SecretStr) -> RSAPrivateKey:
    key = serialization.load_pem_private_key(_with_newlines(pem.get_secret_value()).encode(), password=None)
    if not isinstance(key, RSAPrivateKey) or key.key_size < 2048:
        raise ValueError("the private key must be RSA, of 2048 bits or more")
    return key


def _public_key(pem: str) -> RSAPublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise ValueError("the other public keys must be RSA")
    return key


def _with_newlines(pem: str) -> str:
    """Environment files hold one line a variable: there the newlines of a PEM are written as backslash and n."""
    return pem.replace("\\n", "\n")


def _jwk(key: RSAPublicKey) -> dict[str, Any]:
    """The key as a JWK, named by its thumbprint (RFC 7638)."""
    jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    public = {member: jwk[member] for member in ("e", "kty", "n")}
    digest = hashlib.sha256(json.dumps(public, sort_keys=True, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return public | {"kid": kid, "use": "sig", "alg": ALGORITHM}
