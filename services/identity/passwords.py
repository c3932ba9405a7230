"""Passwords: which ones may be chosen, and their hashes (Argon2id, with OWASP's minimum parameters, beside the event loop)."""

import secrets

from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from contracts.errors import ErrorCode, FieldError, Refusal

MEMORY_KIB, TIME_COST, PARALLELISM = 19 * 1024, 2, 1
"""Raise them at will: a hash made with others is renewed at the next login."""
HASHES_AT_ONCE = 2
"""Each hash takes a core for some 20 ms and 19 MiB; a crowd waits here instead of taking the machine."""

COMMON = frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"][:10_000])
"""The passwords that people choose most, and guessers try first."""


def require_strong(password: SecretStr, *, email: str, name: str, field: str = "password") -> None:
    """Refuse a new password that is easily guessed. Refusal: validation_failed, with the field and why."""
    plain = password.get_secret_value().strip().casefold()
    if len(set(plain)) <= 1:
        code, detail = "password_one_character", "It is one character over and over."
    elif plain in COMMON:
        code, detail = "password_common", "It is among the 10,000 most common passwords."
    elif plain in {email.casefold(), email.partition("@")[0].casefold(), name.strip().casefold()}:
        code, detail = "password_personal", "It is your name or your e-mail."
    else:
        return
    error = FieldError(field=field, code=code, detail=detail)
    extra = {"errors": [error.model_dump()]}
    raise Refusal(ErrorCode.VALIDATION_FAILED, "Some fields are not as they must be.", extra=extra)


class Passwords:
    """Hashes and verifies in threads, a few at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHash((Argon2Hasher(memory_cost=MEMORY_KIB, time_cost=TIME_COST, parallelism=PARALLELISM),))
        self._limiter = CapacityLimiter(HASHES_AT_ONCE)
        self._hash_of_nobody = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: SecretStr) -> str:
        return await to_thread.run_sync(self._hasher.hash, _bytes(password), limiter=self._limiter)

    async def verify(self, password: SecretStr, hashed: str | None) -> str | None:
        """The hash to keep (renewed if it was made with other parameters), or None if the password is wrong.

        Takes as long where there is no hash, so that the time does not tell who has an account."""
        right, renewed = await to_thread.run_sync(
            self._hasher.verify_and_update, _bytes(password), hashed or self._hash_of_nobody, limiter=self._limiter
        )
        return (renewed or hashed) if right else None


def _bytes(password: SecretStr) -> bytes:
    """JSON can carry half a surrogate pair, which is no character but may well be part of a password."""
    return password.get_secret_value().encode("utf-8", "surrogatepass")
