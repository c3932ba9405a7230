"""Tokens that only their holder knows: each names its row, and the row keeps a hash."""

import base64
import hashlib
import secrets
from uuid import UUID

_ID_BYTES = 16


def new_token(row_id: UUID, secret: bytes = b"") -> str:
    """The row's id, the secret that is given, and 32 random bytes; in base64."""
    return base64.urlsafe_b64encode(row_id.bytes + secret + secrets.token_bytes(32)).decode()


def id_in(token: str) -> UUID | None:
    """The row that a token names; None if it is no token of ours."""
    try:
        return UUID(bytes=_bytes(token)[:_ID_BYTES])
    except ValueError:
        return None


def secret_in(token: str, size: int) -> bytes:
    """The secret that `new_token` was given. Raises ValueError for what is no token."""
    return _bytes(token)[_ID_BYTES : _ID_BYTES + size]


def hash_of(token: str | bytes) -> str:
    """What a row keeps. A fast hash serves: so many random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass") if isinstance(token, str) else token).hexdigest()


def fits(token: str | bytes, token_hash: str) -> bool:
    return secrets.compare_digest(token_hash, hash_of(token))


def _bytes(token: str) -> bytes:
    return base64.urlsafe_b64decode(token)
