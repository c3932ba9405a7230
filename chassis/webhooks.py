"""Does a webhook really come from the company that we share a secret with?

Its signature, in a header: `t=<unix time>,v1=<hex>`, where v1 is the HMAC-SHA256 of `<t>.<body>` with the secret.
"""

import hashlib
import hmac
from dataclasses import dataclass

from pydantic import SecretStr

from contracts.errors import ErrorCode, Refusal

TOLERANCE_SECONDS = 300
"""How old, or how far ahead by a wrong clock, a signature may be: a recording cannot be played again later."""


@dataclass(frozen=True)
class WebhookSecret:
    """With which a company signs what it tells us."""

    value: SecretStr


def verify_signature(header: str | None, body: bytes, secret: SecretStr, now: float) -> None:
    """Return if the secret's holder signed this body just now. Refusal: invalid_signature."""
    fields = [part.strip().partition("=") for part in (header or "").split(",")]
    times = [value for name, _, value in fields if name == "t"]
    # Several signatures where it signs with an old and a new secret while it changes them.
    signatures = [value for name, _, value in fields if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        raise _invalid()
    expected = hmac.new(secret.get_secret_value().encode(), times[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    genuine = [hmac.compare_digest(expected.encode(), signature.encode()) for signature in signatures]
    if not any(genuine) or abs(now - int(times[0])) > TOLERANCE_SECONDS:
        raise _invalid()


def _invalid() -> Refusal:
    return Refusal(ErrorCode.INVALID_SIGNATURE, "The signature is missing, wrong, or too old.")
