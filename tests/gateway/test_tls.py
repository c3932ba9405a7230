"""TLS at the door, with a certificate made here, over HTTP/1.1 and HTTP/2."""

import asyncio
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.clock import utc_now
from tests.conftest import PATIENCE_S
from tests.gateway.conftest import FrontDoor, Start

SETTINGS, HEADERS, DATA, END_STREAM, END_HEADERS, ACK = 4, 1, 0, 1, 4, 1


def certificate(directory: Path) -> dict[str, str]:
    """A new key and a certificate for 127.0.0.1 that signs itself, as the gateway's settings name them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "tls.crt").write_bytes(made.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "tls.key").write_bytes(secret)
    return {"tls_certificate": str(directory / "tls.crt"), "tls_key": str(directory / "tls.key")}


async def connected(door: FrontDoor, *protocols: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str | None]:
    """A connection that trusts the door's certificate alone, and what both sides agreed to speak."""
    context = ssl.create_default_context(cafile=door.settings.tls_certificate)
    context.set_alpn_protocols(list(protocols))
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
    return reader, writer, writer.get_extra_info("ssl_object").selected_alpn_protocol()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def ask_over_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes) -> tuple[bytes, bytes]:
    """The header block and the body of the answer to a GET on stream 1."""
    fields = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"shop"), (b":path", path))
    block = b"".join(literal(name, value) for name, value in fields)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
    writer.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
    head, body = b"", b""
    while True:
        async with asyncio.timeout(PATIENCE_S):
            start = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
        kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big")
        if kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK, 0))
        elif kind == HEADERS and stream == 1:
            head += payload
        elif kind == DATA and stream == 1:
            body += payload
        if stream == 1 and flags & END_STREAM:
            return head, body


@pytest.fixture
async def door(start: Start, tmp_path: Path) -> FrontDoor:
    return await start(**certificate(tmp_path))


async def test_http_1_1_over_tls(door: FrontDoor) -> None:
    _, writer, spoken = await connected(door, "http/1.1")
    writer.close()
    assert spoken == "http/1.1"
    response = await door.client.get("/api/v1/products")
    assert response.status_code == 200
    assert "max-age" in response.headers["strict-transport-security"]
    assert door["catalog"].seen[0].header("x-forwarded-proto") == "https"


async def test_http_2_over_tls(door: FrontDoor) -> None:
    reader, writer, spoken = await connected(door, "h2", "http/1.1")
    assert spoken == "h2"
    head, body = await ask_over_http2(reader, writer, b"/api/v1/products/x")
    writer.close()
    assert head.startswith(b"\x88"), ":status 200"
    assert b"/api/v1/products/x" in body
    got = door["catalog"].seen[0]
    assert got.raw.startswith(b"GET /api/v1/products/x HTTP/1.1\r\n")
    assert (got.header("host"), got.header("x-forwarded-for")) == ("shop", "127.0.0.1")


async def test_what_is_old_or_plain_is_not_spoken(door: FrontDoor) -> None:
    context = ssl.create_default_context(cafile=door.settings.tls_certificate)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
    assert b"HTTP" not in await door.say(b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n\r\n")
    assert not door.seen
