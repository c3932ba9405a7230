"""Does a webhook really come from the company that we share a secret with?

Its signature, in a header: `t=<unix time>,v1=<hex>`, where v1 is the HMAC-SHA256 of `<t>.<body>` with the secret.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from contracts.errors import ErrorCode, Refusal

TOLERANCE_SECONDS = 300
"""How old, or how far ahead by a wrong clock, a signature may be: a recording cannot be played again later."""


@dataclass(frozen=True)
class WebhookSecrets:
    """With which a company signs what it tells us: one, or the new and the old one while they are changed."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, setting: SecretStr) -> Self:
        """From a setting, in which several are separated by commas."""
        return cls(tuple(filter(None, (value.strip() for value in setting.get_secret_value().split(",")))))


def verify_signature(header: str | None, body: bytes, secrets: WebhookSecrets, now: float) -> None:
    """Return if the holder of a secret signed this body just now. Refusal: invalid_signature."""
    fields = [part.strip().partition("=") for part in (header or "").split(",")]
    times = [value for name, _, value in fields if name == "t"]
    # Several signatures where it signs with an old and a new secret while it changes them.
    signatures = [value for name, _, value in fields if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        raise _invalid()
    signed = times[0].encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode() for secret in secrets.values]
    genuine = [hmac.compare_digest(digest, signature.encode()) for digest in expected for signature in signatures[:10]]
    if not any(genuine) or abs(now - int(times[0])) > TOLERANCE_SECONDS:
        raise _invalid()


def _invalid() -> Refusal:
    return Refusal(ErrorCode.INVALID_SIGNATURE, "The signature is missing, wrong, or too old.")
