"""Tokens that only their holder knows: each names its row, and the row keeps a hash."""

import base64
import hashlib
import secrets
from uuid import UUID

_ID_BYTES = 16


def new_token(row_id: UUID) -> str:
    """88 characters: the row's id and 32 random bytes."""
    return base64.urlsafe_b64encode(row_id.bytes + secrets.token_bytes(32)).decode()


def id_in(token: str) -> UUID | None:
    """The row that a token names; None if it is no token of ours."""
    try:
        return UUID(bytes=base64.urlsafe_b64decode(token)[:_ID_BYTES])
    except ValueError:
        return None


def hash_of(token: str) -> str:
    """What a row keeps. A fast hash serves: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def fits(token: str, token_hash: str) -> bool:
    return secrets.compare_digest(token_hash, hash_of(token))
