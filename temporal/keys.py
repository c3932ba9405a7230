"""The keys under which histories are encrypted: one data key for each customer, wrapped by a master key.

Whoever has a master key and is given a wrapped data key can read and write what belongs to that customer. Whoever has only
Temporal's database, or only the order service's, can read nothing. Once the wrapped data key is destroyed, nobody can.
"""

import asyncio
import base64
import binascii
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.exceptions import ApplicationError

from chassis.clients import ServiceClient, Unavailable
from contracts.budgets import KEY_AT_HAND_S, KEY_WAIT_S
from contracts.errors import ErrorCode, Refusal
from contracts.keys import KEYS_AT_ONCE, SHOP, KeysFound, LookUpKeys, WrappedKey

KEY_BYTES = 32
"""AES-256."""
NONCE_BYTES = 12
KEYS_AT_HAND = 10_000
"""So many data keys a process keeps unwrapped."""
ASK_AGAIN_S = 0.25
_CUSTOMER = b"customer:"
SHOP_NAME = b"shop"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class KeyDestroyed(ApplicationError):
    """What was encrypted under this key nobody can read any more: its customer was forgotten. To Temporal a final failure whose
    type is the refusal's code: a workflow that meets it fails, instead of trying for ever."""

    def __init__(self) -> None:
        words = "The customer was forgotten; what was kept of them cannot be read any more."
        super().__init__(words, type=ErrorCode.CUSTOMER_FORGOTTEN, non_retryable=True)


class KeyUnknown(Unavailable):
    """There is no data key of this name, or no master key of this id here."""


class WrongKey(Unavailable):
    """It was not encrypted with this key, or was changed since."""


def name_of(customer_id: UUID) -> bytes:
    """How a customer's key is called in a payload: `customer:<uuid>`, or `shop`."""
    return SHOP_NAME if customer_id == SHOP else _CUSTOMER + str(customer_id).encode()


def customer_named(name: bytes) -> UUID:
    """The customer whose key is called so. Raises KeyUnknown."""
    try:
        return SHOP if name == SHOP_NAME else UUID(name.removeprefix(_CUSTOMER).decode())
    except ValueError as error:
        raise KeyUnknown(f"no key is called {name!r}") from error


# ── Master keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class MasterKeys(Protocol):
    """What wraps data keys: a key management service, or keys of our own. It is asked once for each data key, not for each
    payload, and may be far away."""

    @property
    def current(self) -> str:
        """The id of the master key that wraps."""
        ...

    async def wrap(self, key: bytes, name: bytes) -> bytes:
        """A data key, encrypted under the current master key, so that it unwraps under this name only. Raises Unavailable."""
        ...

    async def unwrap(self, wrapped: bytes, master_key_id: str, name: bytes) -> bytes:
        """The data key. Raises KeyUnknown (no such master key), WrongKey, Unavailable."""
        ...


class EnvironmentMasterKeys:
    """Master keys from the environment: AES-256-GCM, with the data key's name as what is authenticated beside it."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """By id; the first one wraps, each unwraps. Raises ValueError."""
        if not keys:
            raise ValueError("there is no master key")
        if any(not _ID.fullmatch(key_id) for key_id in keys):
            raise ValueError("a master key's id has 1 to 100 letters, digits, dots, hyphens and underscores")
        if any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self.current = next(iter(keys))
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `id:base64,id:base64`. Raises ValueError, which does not tell the keys."""
        keys: dict[str, bytes] = {}
        for item in text.split(","):
            key_id, _, encoded = item.strip().partition(":")
            if key_id in keys:
                raise ValueError("two master keys have the same id")
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise ValueError("a master key is not base64") from None
        return cls(keys)

    async def wrap(self, key: bytes, name: bytes) -> bytes:
        return sealed(self._ciphers[self.current], key, name)

    async def unwrap(self, wrapped: bytes, master_key_id: str, name: bytes) -> bytes:
        if master_key_id not in self._ciphers:
            raise KeyUnknown(f"there is no master key {master_key_id} here")
        return opened(self._ciphers[master_key_id], wrapped, name)


def sealed(cipher: AESGCM, clear: bytes, beside: bytes) -> bytes:
    """Encrypted under a nonce of its own, which stands first. `beside` is authenticated with it."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, clear, beside)


def opened(cipher: AESGCM, encrypted: bytes, beside: bytes) -> bytes:
    """What `sealed` encrypted. Raises WrongKey."""
    try:
        return cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], beside)
    except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
        raise WrongKey("it was encrypted under another key, or was changed since") from error


# ── Data keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class KeySource(Protocol):
    """Where wrapped data keys are kept."""

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        """The keys of those customers (at most KEYS_AT_ONCE) who have one. Raises Unavailable."""
        ...


class KeyStore(KeySource, Protocol):
    """Where they are made, too: the order service's own table."""

    async def add(self, key: WrappedKey) -> WrappedKey:
        """Keep a new key; the one that the customer has by now, if others were faster. Raises Unavailable."""
        ...

    async def customer_of(self, order_id: UUID) -> UUID | None:
        """Who placed an order; None if there is none."""
        ...


class KeysOfOrderService:
    """Wrapped keys as the order service gives them to other processes. While it starts anew they are asked for again: a task that
    waits costs less than one that fails."""

    def __init__(self, order: ServiceClient) -> None:
        self._order = order

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        wanted = LookUpKeys(customer_ids=list(customer_ids))
        fault = Unavailable(f"the order service gave no key within {KEY_WAIT_S:g} s")
        try:
            async with asyncio.timeout(KEY_WAIT_S):
                while True:
                    try:
                        return (await self._order.post("/internal/v1/customer-keys/lookup", wanted, KeysFound)).keys
                    except Unavailable as error:
                        fault = error
                    await asyncio.sleep(ASK_AGAIN_S)
        except TimeoutError:
            raise fault from None


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key that is ready to use."""

    cipher: AESGCM
    takes_orders: bool
    until: float
    """Of the monotonic clock; after that it is asked for again, since it may have been destroyed."""

    @classmethod
    def thrown_away(cls) -> Self:
        """One that nobody keeps: what is encrypted under it nobody can read."""
        return cls(AESGCM(AESGCM.generate_key(bit_length=8 * KEY_BYTES)), takes_orders=False, until=0)


class DataKeys:
    """Data keys by name, kept for a while. Who asks for a key that somebody else asks for already shares the answer, and who asks
    while a question is under way shares the next one."""

    def __init__(
        self, source: KeySource, master: MasterKeys, *, at_most: int = KEYS_AT_HAND, lifetime_s: float = KEY_AT_HAND_S
    ) -> None:
        self._source, self._master = source, master
        self._at_most, self._lifetime_s = at_most, lifetime_s
        self._at_hand: dict[bytes, DataKey] = {}
        """The one that was asked for first stands first: it is also the first to expire."""
        self._wanted: dict[bytes, asyncio.Future[DataKey]] = {}
        self._under_way: dict[bytes, asyncio.Future[DataKey]] = {}
        self._asking: asyncio.Task[None] | None = None

    def at_hand(self, name: bytes) -> DataKey | None:
        """A key that need not be asked for."""
        key = self._at_hand.get(name)
        return key if key is not None and key.until > time.monotonic() else None

    async def get(self, name: bytes) -> DataKey:
        """A key. Raises KeyDestroyed, KeyUnknown, WrongKey, Unavailable."""
        if key := self.at_hand(name):
            return key
        answer = self._under_way.get(name) or self._wanted.get(name)
        if answer is None:
            customer_named(name)
            answer = self._wanted[name] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def to_write(self, name: bytes) -> DataKey:
        """A key to encrypt under. Raises KeyDestroyed, KeyUnknown, WrongKey, Unavailable."""
        return await self.get(name)

    async def customer_of(self, order_id: UUID) -> UUID | None:
        """Who placed an order, if that is known here."""
        return None

    async def _ask(self) -> None:
        try:
            while self._wanted:
                names = list(self._wanted)[:KEYS_AT_ONCE]
                self._under_way = {name: self._wanted.pop(name) for name in names}
                await self._answer(self._under_way)
        finally:
            for answer in (*self._under_way.values(), *self._wanted.values()):
                answer.cancel()  # nobody waits for ever if this task is cancelled
            self._wanted, self._under_way, self._asking = {}, {}, None

    async def _answer(self, asked: Mapping[bytes, "asyncio.Future[DataKey]"]) -> None:
        until = time.monotonic() + self._lifetime_s  # from before the question: it may be destroyed while the answer comes
        try:
            found = {name_of(key.customer_id): key for key in await self._source.find([*map(customer_named, asked)])}
        except Exception as error:  # whatever it is, those who wait are told
            for answer in asked.values():
                _fail(answer, error)
            return
        for name, answer in asked.items():
            try:
                answer.set_result(await self._taken(name, found.get(name), until))
            except Exception as error:  # the same
                _fail(answer, error)

    async def _taken(self, name: bytes, key: WrappedKey | None, until: float) -> DataKey:
        """Unwrap a key, and have it at hand."""
        if key is None:
            raise KeyUnknown(f"there is no key {name.decode()}")
        if key.wrapped is None or key.master_key_id is None:
            raise KeyDestroyed
        cipher = AESGCM(await self._master.unwrap(key.wrapped, key.master_key_id, name))
        return self._keep(name, DataKey(cipher, key.takes_orders, until))

    def _keep(self, name: bytes, key: DataKey) -> DataKey:
        self._at_hand.pop(name, None)
        now = time.monotonic()
        while self._at_hand:
            first = next(iter(self._at_hand))
            if len(self._at_hand) < self._at_most and self._at_hand[first].until > now:
                break
            del self._at_hand[first]
        self._at_hand[name] = key
        return key


class OwnDataKeys(DataKeys):
    """The same in the process that keeps them: it also makes keys, and knows whose an order is."""

    def __init__(
        self, store: KeyStore, master: MasterKeys, *, at_most: int = KEYS_AT_HAND, lifetime_s: float = KEY_AT_HAND_S
    ) -> None:
        super().__init__(store, master, at_most=at_most, lifetime_s=lifetime_s)
        self._store = store

    async def to_write(self, name: bytes) -> DataKey:
        """A key to encrypt under, made if there is none. Raises KeyDestroyed, WrongKey, Unavailable."""
        try:
            return await self.get(name)
        except KeyUnknown:
            until = time.monotonic() + self._lifetime_s
            return await self._taken(name, await self._store.add(await self._new(name)), until)

    async def for_an_order(self, customer_id: UUID) -> None:
        """Have the key at hand under which a new order is to be encrypted. Refusal: customer_forgotten. Raises Unavailable."""
        name = name_of(customer_id)
        try:
            key = self.at_hand(name) or await self.to_write(name)
        except KeyDestroyed as error:
            raise _forgotten() from error
        if not key.takes_orders:
            raise _forgotten()

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        """As others are given them. The shop's own is made if somebody asks for it for the first time."""
        found = await self._source.find(customer_ids)
        if SHOP in customer_ids and all(key.customer_id != SHOP for key in found):
            return [*found, await self._store.add(await self._new(SHOP_NAME))]
        return found

    async def wrap_again(self, key: WrappedKey) -> WrappedKey:
        """The same key under the current master key. Raises KeyUnknown, WrongKey, KeyDestroyed, Unavailable."""
        if key.wrapped is None or key.master_key_id is None:
            raise KeyDestroyed
        name = name_of(key.customer_id)
        return await self._wrapped(name, await self._master.unwrap(key.wrapped, key.master_key_id, name))

    async def customer_of(self, order_id: UUID) -> UUID | None:
        return await self._store.customer_of(order_id)

    async def _new(self, name: bytes) -> WrappedKey:
        return await self._wrapped(name, AESGCM.generate_key(bit_length=8 * KEY_BYTES))

    async def _wrapped(self, name: bytes, key: bytes) -> WrappedKey:
        master_key_id = self._master.current
        wrapped = await self._master.wrap(key, name)
        return WrappedKey(customer_id=customer_named(name), wrapped=wrapped, master_key_id=master_key_id)


def _fail(answer: "asyncio.Future[DataKey]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # whoever waited may have gone: then it is nobody's


def _forgotten() -> Refusal:
    return Refusal(ErrorCode.CUSTOMER_FORGOTTEN, "This customer is being forgotten, and can order nothing more.")


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class KeySettings(BaseSettings):
    """With what histories are encrypted."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    customer_keys_master: SecretStr | None = None
    """Master keys as `id:base64,id:base64`, 32 bytes each: the first one wraps the keys of customers, all unwrap them."""

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        self.master_keys()
        return self

    def master_keys(self) -> MasterKeys | None:
        """None: there are none."""
        keys = self.customer_keys_master
        return EnvironmentMasterKeys.parse(keys.get_secret_value()) if keys else None


class HistorySettings(KeySettings):
    """The same for whoever reads or writes histories: nobody does it in clear by mistake."""

    histories_in_clear: bool = False
    """Write histories that everybody can read who reaches Temporal. What was encrypted before is read all the same, if there are
    master keys."""

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if self.customer_keys_master is None and not self.histories_in_clear:
            raise ValueError("CUSTOMER_KEYS_MASTER is missing. Histories in clear have to be asked for: HISTORIES_IN_CLEAR=true")
        return self
