"""HTTP/2 by hand: frames as bytes, header blocks without compression, so that anything can be said in them."""

import asyncio
import struct
from collections.abc import Iterable

from tests.gateway.hostile.wire import PATIENCE_S, Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_INDEXED = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
"""`:status` in HPACK's static table."""
_DIGITS = {"00000": "0", "00001": "1", "00010": "2", "011001": "3", "011010": "4", "011011": "5", "011100": "6", "011101": "7"}
_DIGITS |= {"011110": "8", "011111": "9"}
"""HPACK's Huffman code of digits."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 1) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings() -> bytes:
    """What a client begins with."""
    return PREFACE + frame(SETTINGS, stream=0)


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block: each a literal that nobody keeps."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    size -= 127
    prefix = [127]
    while size >= 128:
        prefix.append(size % 128 + 128)
        size //= 128
    return bytes([*prefix, size]) + text


def request(headers: Iterable[tuple[bytes, bytes]], *body: bytes, stream: int = 1) -> bytes:
    """A whole request; its body in DATA frames."""
    frames = [frame(HEADERS, block(headers), flags=END_HEADERS | (0 if body else END_STREAM), stream=stream)]
    frames += [frame(DATA, piece, stream=stream) for piece in body[:-1]]
    frames += [frame(DATA, piece, flags=END_STREAM, stream=stream) for piece in body[-1:]]
    return b"".join(frames)


async def outcome(wire: Wire, stream: int = 1) -> int | str:
    """The status that a stream gets, or `reset`, or `closed` with the connection."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            while len(wire.received) >= 9 and len(wire.received) >= 9 + (size := int.from_bytes(wire.received[:3], "big")):
                kind, payload = wire.received[3], wire.received[9 : 9 + size]
                on = int.from_bytes(wire.received[5:9], "big")
                wire.received = wire.received[9 + size :]
                if kind == GOAWAY and int.from_bytes(payload[4:8], "big"):
                    return "closed"
                if kind == RST_STREAM and on == stream:
                    return "reset"
                if kind == HEADERS and on == stream:
                    return _status(payload)
            if wire.ended:
                return "closed"
            await wire.receive()


def _status(payload: bytes) -> int:
    """The first field of an answer's header block is its status."""
    while payload[0] & 0xE0 == 0x20:  # a change of the table's size comes before
        payload = payload[1:]
    if payload[0] in _INDEXED:
        return _INDEXED[payload[0]]
    size, value = payload[1] & 0x7F, payload[2 : 2 + (payload[1] & 0x7F)]
    if not payload[1] & 0x80:
        return int(value)
    bits, digits = "".join(f"{byte:08b}" for byte in value), ""
    assert size
    while len(digits) < 3:
        code = next(code for code in _DIGITS if bits.startswith(code))
        digits, bits = digits + _DIGITS[code], bits[len(code) :]
    return int(digits)
