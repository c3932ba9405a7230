"""Password hashes: Argon2id, with OWASP's minimum parameters, beside the event loop."""

import secrets

from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr

MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
"""Raise them at will: a hash made with others is renewed at the next login."""
AT_ONCE = 2
"""Each hash takes a core for some 20 ms and 19 MiB; a crowd waits here instead of taking the machine."""


class Passwords:
    """Hashes and verifies in threads, a few at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHash((Argon2Hasher(memory_cost=MEMORY_KIB, time_cost=PASSES, parallelism=LANES),))
        self._limiter = CapacityLimiter(AT_ONCE)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: SecretStr) -> str:
        return await to_thread.run_sync(self._hasher.hash, _bytes(password), limiter=self._limiter)

    async def verify(self, password: SecretStr, hashed: str | None) -> str | None:
        """The hash to keep (renewed if it was made with other parameters), or None if the password is wrong.

        Takes as long where there is no hash, so that the time does not tell who has an account."""
        right, renewed = await to_thread.run_sync(
            self._hasher.verify_and_update, _bytes(password), hashed or self._nobodys, limiter=self._limiter
        )
        return (renewed or hashed) if right else None


def _bytes(password: SecretStr) -> bytes:
    """JSON can carry half a surrogate pair, which is no character but may well be part of a password."""
    return password.get_secret_value().encode("utf-8", "surrogatepass")
