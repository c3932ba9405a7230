"""The other side of RFC 8291: what a browser does with the body of a push message."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HEAD = 16 + 4 + 1 + 65
TAG = 16


def looks_encrypted(body: bytes) -> bool:
    """Whether it begins with a salt, a size of records and the sender's public key, as a push service can see."""
    return len(body) > HEAD + TAG and int.from_bytes(body[16:20]) >= 18 and body[20] == 65 and body[21] == 4


def decrypt(body: bytes, private: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """The content of a message of one record. ValueError: it was not encrypted for this subscription."""
    if not looks_encrypted(body) or len(body) - HEAD > int.from_bytes(body[16:20]):
        raise ValueError("not one record of aes128gcm")
    salt, theirs = body[:16], body[21:HEAD]
    ours = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs))
    secret = derived(shared, auth, b"WebPush: info\0" + ours + theirs, 32)
    key = derived(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = derived(secret, salt, b"Content-Encoding: nonce\0", 12)
    try:
        padded = AESGCM(key).decrypt(nonce, body[HEAD:], None).rstrip(b"\0")
    except InvalidTag as error:
        raise ValueError("encrypted with another key") from error
    if padded[-1:] != b"\x02":
        raise ValueError("not the last record")
    return padded[:-1]


def derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)
