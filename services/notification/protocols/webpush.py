"""Web push: messages that one browser alone can read (RFC 8291), sent under our key (RFC 8292) to its push service (RFC 8030).

Encryption is written out here with the primitives of `cryptography`: the libraries for it come as source only, and the image of
the platform takes nothing that has to be built.
"""

import base64
import binascii
import ipaddress
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, urlsplit

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from chassis.public_hosts import is_public
from contracts.base import NO_CONTROLS

LONGEST_ENDPOINT = 2000
MOST_PLAIN_BYTES = 3900
"""Push services take 4096 bytes at least (RFC 8030, 7.2); encrypted, a message is 103 bytes longer."""
CLAIM_S = 12 * 3600
"""How long a push service accepts a signature of ours; a day at most."""
_RECORD = 4096
_CURVE = ec.SECP256R1()
_POINT_BYTES, _SECRET_BYTES = 65, 16


def encoded(content: bytes) -> str:
    """Base64 as URLs have it, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """ValueError: it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _is_point(text: str) -> str:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _of_size(decoded(text), _POINT_BYTES))
    except ValueError as error:
        raise ValueError("must be an uncompressed point of P-256, base64url") from error
    return text


def _is_secret(text: str) -> str:
    _of_size(decoded(text), _SECRET_BYTES)
    return text


def _of_size(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise ValueError(f"must be {size} bytes")
    return content


PublicKey = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9_-]+$"), AfterValidator(_is_point)]
"""A point of P-256, as browsers write it."""
AuthSecret = Annotated[str, StringConstraints(max_length=40, pattern=r"^[A-Za-z0-9_-]+$"), AfterValidator(_is_secret)]


class SubscriptionKeys(BaseModel):
    """The browser's, with which messages to it are encrypted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p256dh: PublicKey
    auth: AuthSecret


class Subscription(BaseModel):
    """What `PushSubscription.toJSON()` gives, and which key of ours it was made with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    endpoint: Annotated[str, StringConstraints(max_length=LONGEST_ENDPOINT, pattern=NO_CONTROLS)]
    keys: SubscriptionKeys
    vapid_key: str | None = None
    """The public one; None: the one that is in use now."""


# ── Where messages may be sent ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A subscription's address at its push service. A browser tells it, so it may be any: also that of a server of ours."""

    origin: str
    path: str
    """With its query."""
    is_listed: bool
    """The operator has named this origin, and vouches for it. The host of any other one must turn out to be a public address when
    the connection is made."""

    @classmethod
    def of(cls, url: str, listed: Iterable[str] = ()) -> Self:
        """ValueError: nothing is sent there. `listed`: origins that may also be ours."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError("not an address") from error
        if parts.username is not None or parts.password is not None or not parts.hostname or "\\" in url:
            raise ValueError("must be https://host/path")
        origin, path = f"{parts.scheme}://{parts.netloc}".lower(), _path_of(parts)
        if origin in {each.rstrip("/").lower() for each in listed}:
            return cls(origin, path, is_listed=True)
        if parts.scheme != "https" or port not in (None, 443):
            raise ValueError("must be https, at its own port")
        if not _may_be_public(parts.hostname):
            raise ValueError("must be at a public host")
        return cls(origin, path, is_listed=False)


def _path_of(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _may_be_public(host: str) -> bool:
    """Whether it is no address and no name of a private network, as far as its spelling tells."""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        pass
    *_, last = labels = host.rstrip(".").split(".")
    # A last label of digits is an old spelling of an IPv4 address, e.g. 127.1 or 0x7f000001.
    return len(labels) > 1 and not last[0:1].isdigit() and last not in _PRIVATE_NAMES


_PRIVATE_NAMES = frozenset(
    {"local", "localhost", "internal", "intranet", "lan", "home", "corp", "svc", "cluster", "test", "invalid"}
)


# ── Who sends: VAPID (RFC 8292) ──────────────────────────────────────────────────────────────────────────────────────────────


class VapidKey:
    """A key pair that push services know us by. A browser ties its subscription to the public one."""

    def __init__(self, private: str) -> None:
        """`private`: the 32 bytes of the private number, base64url. ValueError: it is none."""
        number = int.from_bytes(_of_size(decoded(private), 32))
        self._key = ec.derive_private_key(number, _CURVE)
        self.public = encoded(point(self._key.public_key()))

    def authorization(self, origin: str, subject: str, now: float | None = None) -> str:
        """The header by which one push service knows us. `subject`: whom it may turn to, `mailto:` or `https:`."""
        claims = {"aud": origin, "exp": int(time.time() if now is None else now) + CLAIM_S, "sub": subject}
        return f"vapid t={jwt.encode(claims, self._key, 'ES256')}, k={self.public}"


class VapidKeys:
    """Ours: subscriptions are made with the first; the others still send to the subscriptions that were made with them."""

    def __init__(self, private: Sequence[str]) -> None:
        """ValueError: none, or one that is no key."""
        keys = [VapidKey(each) for each in private]
        if not keys:
            raise ValueError("at least one key")
        self.current = keys[0]
        self._by_public = {key.public: key for key in keys}

    def of(self, public: str | None) -> VapidKey | None:
        """The key that a subscription was made with; None: it is not ours any more."""
        return self.current if public is None else self._by_public.get(public)


@dataclass(frozen=True, slots=True)
class Subscribing:
    """With which keys of ours browsers subscribe, and which push services may be at an address of ours."""

    keys: VapidKeys
    listed: tuple[str, ...] = ()

    def check(self, subscription: Subscription) -> tuple[Endpoint, VapidKey]:
        """Where messages to it are sent, and with which key. ValueError: none ever will be."""
        endpoint, key = Endpoint.of(subscription.endpoint, self.listed), self.keys.of(subscription.vapid_key)
        if key is None:
            raise ValueError("made with a key that is not ours any more")
        return endpoint, key


def new_private_key() -> str:
    """A fresh one, as VapidKey takes it."""
    return encoded(ec.generate_private_key(_CURVE).private_numbers().private_value.to_bytes(32))


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


# ── What is sent: encryption (RFC 8291 over RFC 8188) ────────────────────────────────────────────────────────────────────────


def encrypt(
    content: bytes, keys: SubscriptionKeys, *, private: ec.EllipticCurvePrivateKey | None = None, salt: bytes | None = None
) -> bytes:
    """The body of a push message, in one record of the content coding `aes128gcm`. The key and the salt are fresh, unless a test
    gives them. ValueError: the content is too long."""
    if len(content) > MOST_PLAIN_BYTES:
        raise ValueError("too long for a push message")
    private, salt = private or ec.generate_private_key(_CURVE), salt or os.urandom(16)
    theirs, ours = decoded(keys.p256dh), point(private.public_key())
    shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, theirs))
    input_key = _derived(shared, decoded(keys.auth), b"WebPush: info\0" + theirs + ours, 32)
    key = _derived(input_key, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(input_key, salt, b"Content-Encoding: nonce\0", 12)
    head = salt + _RECORD.to_bytes(4) + len(ours).to_bytes(1) + ours
    return head + AESGCM(key).encrypt(nonce, content + b"\x02", None)  # 2: the last record


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def payload(*, message_id: str, title: str, body: str, url: str | None) -> bytes:
    """What our service worker shows, as JSON; a body that is too long is cut."""

    def written(body: str) -> bytes:
        content: dict[str, Any] = {"id": message_id, "title": title, "body": body, "url": url}
        return json.dumps(content, ensure_ascii=False).encode()

    whole = written(body)
    if len(whole) <= MOST_PLAIN_BYTES:
        return whole
    fits, too_long = 0, len(body)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if len(written(body[:middle] + "…")) <= MOST_PLAIN_BYTES:
            fits = middle
        else:
            too_long = middle
    return written(body[:fits] + "…")
