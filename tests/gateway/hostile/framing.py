"""Where a request ends: two lengths, odd lengths, odd chunks, trailers, line ends. Each is read in one way, or refused."""

# ruff: noqa: E501 - a case is one line, however long
# fmt: off

from tests.gateway.hostile.cases import (
    CHUNKED,
    CUSTOMER,
    HOST,
    SMUGGLED,
    Case,
    Expected,
    chunked,
    get,
    head,
    passes,
    post,
    refused,
)

_ENDED = b"0\r\n\r\n"
_HELLO = chunked(b"hello")


def _coding(value: bytes) -> bytes:
    """A body that is chunked for who understands this coding, and has a length for who does not."""
    return post(b"Content-Length: 5", value, body=_ENDED + SMUGGLED)


def _length(value: bytes) -> bytes:
    return post(b"Content-Length:" + value, body=b"hello" + SMUGGLED)


def _size(line: bytes) -> bytes:
    """A chunk of `hello` with this size line."""
    return post(CHUNKED, body=line + b"hello\r\n" + _ENDED)


BOTH_LENGTHS = (
    refused("CL.TE", post(b"Content-Length: 6", CHUNKED, body=_ENDED + SMUGGLED)),
    refused("TE.CL", post(CHUNKED, b"Content-Length: 3", body=b"1\r\nZ\r\n" + _ENDED + SMUGGLED)),
    refused("CL.TE on GET", head(b"GET /api/v1/products HTTP/1.1", HOST, b"Content-Length: 5", CHUNKED) + _ENDED + SMUGGLED),
    refused("CL 0 and TE", post(b"Content-Length: 0", CHUNKED, body=_HELLO)),
    refused("TE identity and CL", _coding(b"Transfer-Encoding: identity")),
)

CODINGS = (
    passes("chunked", post(CHUNKED, body=_HELLO), body=b"hello"),
    passes("name in capitals", post(b"TRANSFER-ENCODING: chunked", body=_HELLO), body=b"hello"),
    passes("value in mixed case", post(b"Transfer-Encoding: cHuNkEd", body=_HELLO), body=b"hello"),
    passes("no space", post(b"Transfer-Encoding:chunked", body=_HELLO), body=b"hello"),
    passes("tabs and spaces around", post(b"Transfer-Encoding: \t chunked \t", body=_HELLO), body=b"hello"),
    *(
        refused(f"TE.TE {value!r}", _coding(b"Transfer-Encoding:" + value))
        for value in (
            b" xchunked",
            b" chunked, identity",
            b" identity, chunked",
            b" chunked, chunked",
            b" chunked,",
            b" ,chunked",
            b" gzip, chunked",
            b" chunked;q=1",
            b" chunk",
            b" chunked\x0b",
            b" \x0bchunked",
            b" \x0cchunked",
            b' "chunked"',
            b" 'chunked'",
            b" chunked x",
            b"",
            b" \xa0chunked",
            b" chunked\x00",
            b" chun\x00ked",
            b" \xff",
            b" trailers",
        )
    ),
    *(
        refused(f"alone {value!r}", post(b"Transfer-Encoding:" + value, body=_HELLO))
        for value in (
            b" xchunked",
            b" identity",
            b" chunked, identity",
            b" identity, chunked",
            b" chunked, chunked",
            b" chunked,",
            b" ,chunked",
            b" gzip, chunked",
            b" gzip",
            b" chunked;q=1",
            b' "chunked"',
            b"",
        )
    ),
    refused("a vertical tab", post(b"Transfer-Encoding: chunked\x0b", body=_HELLO)),
    refused("a NUL", post(b"Transfer-Encoding: chunked\x00", body=_HELLO)),
    refused("twice", post(CHUNKED, CHUNKED, body=_HELLO)),
    refused("twice, the second is another", post(CHUNKED, b"Transfer-Encoding: identity", body=_HELLO)),
    refused("twice, the first is another", post(b"Transfer-Encoding: x", CHUNKED, body=_HELLO)),
    refused("space before the colon", post(b"Transfer-Encoding : chunked", body=_HELLO)),
    refused("space before the colon, and a length", _coding(b"Transfer-Encoding : chunked")),
    refused("tab before the colon", _coding(b"Transfer-Encoding\t: chunked")),
    refused("space before the name", _coding(b" Transfer-Encoding: chunked")),
    refused("folded", _coding(b"Transfer-Encoding:\r\n chunked")),
    passes("folded into another header", _coding(b"X-One: a\r\n\tTransfer-Encoding: chunked"), body=_ENDED),
    refused("with an underscore", _coding(b"Transfer_Encoding: chunked")),
    refused("after a bare line feed", _coding(b"X-One: a\nTransfer-Encoding: chunked")),
    passes("after a bare carriage return", _coding(b"X-One: a\rTransfer-Encoding: chunked"), body=_ENDED),
    refused("after a NUL", _coding(b"X-One: a\x00\r\nTransfer-Encoding: chunked")),
    refused("in the version before", head(b"POST /api/v1/orders HTTP/1.0", HOST, CUSTOMER, CHUNKED) + _HELLO),
)

LENGTHS = (
    passes("length", post(b"Content-Length: 5", body=b"hello"), body=b"hello"),
    passes("length, no space", post(b"Content-Length:5", body=b"hello"), body=b"hello"),
    passes("length, spaces around", post(b"Content-Length:  \t5 \t ", body=b"hello"), body=b"hello"),
    passes("length zero", post(b"Content-Length: 0")),
    passes("no length", post()),
    *(
        refused(f"length {value!r}", _length(value))
        for value in (
            b"", b" ", b" -5", b" +5", b" 0x5", b" 5,5", b" 5, 5", b" 5 5", b" 5;", b" 5.0", b" 5e0", b" five", b" '5'", b" 5\x00",
            b" \x0b5", b" 5\x0c", b" 5\xa0", b" 99999999999999999999", b" 18446744073709551621", b" -18446744073709551611",
            b" 5\r\n 0", b" \xd9\xa5",
        )
    ),
    refused("two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    refused("two lengths", post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello")),
    refused("two lengths, the other way", post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello")),
    refused("space before the colon of the length", post(b"Content-Length : 5", body=b"hello")),
    refused("a length with an underscore", post(b"Content_Length: 5", body=b"hello")),
    Case("a length folded in", (post(b"X-One: a\r\n Content-Length: 5", body=b"hello\r\n\r\n"),), (200, 400), (Expected("POST", "/api/v1/orders"),)),
    passes("GET with a length", get(b"/api/v1/orders", b"Content-Length: 5") + b"hello", method="GET", body=b"hello"),
    passes("GET with chunks", get(b"/api/v1/orders", CHUNKED) + _HELLO, method="GET", body=b"hello"),
    Case(
        "HEAD with a length",
        (post(b"Content-Length: 5", body=b"hello", method=b"HEAD"),),
        (200,),
        (Expected("HEAD", "/api/v1/orders", b"hello"),),
        to_head=True,
    ),
    refused("OPTIONS with a length", post(b"Content-Length: 5", body=b"hello", method=b"OPTIONS"), answers=(405,)),
    refused("DELETE with a length", post(b"Content-Length: 5", body=b"hello", method=b"DELETE"), answers=(405,)),
    refused("less body than the length says", post(b"Content-Length: 50", body=b"hello"), answers=()),
    Case("more body than the length says", (post(b"Content-Length: 5", body=b"hello" + b"X" * 5 + b"\r\n\r\n"),),
         (200, 400), (Expected("POST", "/api/v1/orders", b"hello"),)),
)

CHUNKS = (
    passes("chunks of one byte", post(CHUNKED, body=chunked(b"h", b"e", b"l", b"l", b"o")), body=b"hello"),
    passes("chunks in one packet each", post(CHUNKED), b"2\r\n", b"he\r", b"\n3\r\nl", b"lo\r\n0", b"\r\n\r", b"\n", body=b"hello"),
    passes("a size with leading zeros", _size(b"0005\r\n"), body=b"hello"),
    passes("a size in capitals", post(CHUNKED, body=b"A\r\n0123456789\r\n" + _ENDED), body=b"0123456789"),
    passes("an extension", _size(b"5;name=value\r\n"), body=b"hello"),
    passes("a quoted extension", _size(b'5;name="0\\r\\n"\r\n'), body=b"hello"),
    passes("an extension on the last chunk", post(CHUNKED, body=b"5\r\nhello\r\n0;last\r\n\r\n"), body=b"hello"),
    *(
        refused(f"size {line!r}", _size(line))
        for line in (
            b"\r\n", b"0x5\r\n", b"5h\r\n", b"+5\r\n", b"-5\r\n", b" 5\r\n", b"5_\r\n", b"g\r\n",
            b"\x005\r\n", b"5\x00\r\n", b"5\n", b"5\r", b"5\r\r\n", b"\n5\r\n", b"5\n\r\n", b"5,5\r\n", b"5.0\r\n", b"5\xa0\r\n",
            b"10000000000000005\r\n", b"FFFFFFFFFFFFFFFFF\r\n",
        )
    ),
    *(passes(f"size {line!r}", _size(line), body=b"hello") for line in (b"5 \r\n", b"5\t\r\n", b"5 ;a\r\n", b"5;\x00\r\n")),
    *(refused(f"endless size {line!r}", _size(line), answers=()) for line in (b"FFFFFFFFFFFFFFFF\r\n", b"8000000000000005\r\n")),
    *(
        refused(f"extension {line!r}", _size(line))
        for line in (
            b"5;a\nb\r\n", b"5;\n", b"5;a\rb\r\n", b"5;a=\"\r\n\"\r\n", b"5;a\n" + b"0\r\n\r\n", b"5;a\r\r\n",
        )
    ),
    refused("more than the chunk says", post(CHUNKED, body=b"3\r\nhello\r\n" + _ENDED)),
    refused("less than the chunk says", post(CHUNKED, body=b"7\r\nhello\r\n" + _ENDED)),
    refused("a chunk that ends in a line feed", post(CHUNKED, body=b"5\r\nhello\n" + _ENDED)),
    refused("a chunk that ends in a carriage return", post(CHUNKED, body=b"5\r\nhello\r" + _ENDED)),
    refused("a chunk that ends in nothing", post(CHUNKED, body=b"5\r\nhello" + _ENDED)),
    refused("a chunk that ends in two other bytes", post(CHUNKED, body=b"5\r\nhelloXX" + _ENDED)),
    refused("a last chunk that ends in line feeds", post(CHUNKED, body=b"5\r\nhello\r\n0\n\n")),
    refused("no last chunk", post(CHUNKED, body=b"5\r\nhello\r\n"), answers=()),
    refused("a last chunk without its last line", post(CHUNKED, body=b"5\r\nhello\r\n0\r\n"), answers=()),
    Case("a second last chunk", (post(CHUNKED, body=_HELLO + _ENDED),), (200, 400), (Expected("POST", "/api/v1/orders", b"hello"),)),
)

# G4: trailers became headers, so that a token in one authenticated.
G4_TRAILERS = (
    *(
        passes(f"trailer {line!r}", post(CHUNKED, b"Trailer: x", body=chunked(b"hello", trailers=[line])), body=b"hello", without="evil")
        for line in (
            b"X-One: evil", b"Authorization: Bearer evil", b"Content-Length: 0", b"Content-Length: evil", b"Host: evil",
            b"X-Forwarded-For: evil", b"Transfer-Encoding: chunked", b"Cookie: evil", b"Content-Type: evil", b"Idempotency-Key: evil",
            b"Connection: evil", b"X-Request-Id: evil", b"traceparent: evil", b"Content-Encoding: evil", b"Expect: evil",
            b"X: a\nY: evil", b"X: a\r\n evil", b"X_One: evil",
        )
    ),
    *(
        refused(f"odd trailer {line!r}", post(CHUNKED, body=chunked(b"hello", trailers=[line])))
        for line in (
            b"no colon", b"X : a", b" X: a", b": a", b"X: a\x00", b"GET /internal/a HTTP/1.1", b"X\x80: a",
        )
    ),
)

LINES = (
    # A line feed by itself ends a line (RFC 9112, 2.2, allows it), everywhere alike; services get the usual ends.
    *(
        passes(f"bare line feed {where}", sent, method="GET")
        for where, sent in {
            "everywhere": get().replace(b"\r\n", b"\n"),
            "after the request line": get().replace(b"\r\n", b"\n", 1),
            "after a header": get(b"/api/v1/orders", b"X-One: a").replace(b"X-One: a\r\n", b"X-One: a\n"),
            "in a value": get(b"/api/v1/orders", b"X-One: a\nX-Two: b"),
            "at the end": get()[:-2] + b"\n",
        }.items()
    ),
    refused("bare line feed in the request line", get(b"/api/v1/orders\n")),
    # A carriage return by itself is dropped from a value, and is a space in the request line.
    *(
        passes(f"bare carriage return {where}", sent, method="GET", without="\r")
        for where, sent in {
            "in a value": get(b"/api/v1/orders", b"X-One: a\rX-Two: b"),
            "at a value's end": get(b"/api/v1/orders", b"X-One: a\r"),
            "in the request line": get(b"/api/v1/orders\r"),
        }.items()
    ),
    refused("bare carriage returns everywhere", get().replace(b"\r\n", b"\r"), answers=()),
    refused("bare carriage return after the request line", get().replace(b"\r\n", b"\r", 1)),
    refused("bare carriage return in a name", get(b"/api/v1/orders", b"X-\rOne: a")),
    # A folded value becomes one line.
    *(
        passes(f"folded {line!r}", get(b"/api/v1/orders", b"X-Zero: 0", line), method="GET", without="\n")
        for line in (b" X-One: a", b"\tX-One: a", b"X-One: a\r\n b", b"X-One:\r\n\ta", b"X-One: a\r\n Authorization: Bearer evil")
    ),
    refused("the first header folded", head(b"GET /api/v1/products HTTP/1.1", b" Host: a", HOST)),
    refused("a token folded", head(b"GET /api/v1/orders HTTP/1.1", HOST, CUSTOMER, b" X-One: a"), answers=(401,)),
    *(
        refused(f"header {line!r}", get(b"/api/v1/orders", line))
        for line in (
            b"X-One: a\x00b", b"X-One\x00: a", b"X-One: \x01", b"X-One: \x7f", b"X-One: \x1b[31m", b"X-One : a", b"X-One\t: a", b": a", b"no colon", b"X One: a", b"X-One(: a", b"X-\xe9: a", b"X@One: a", b'X"One: a',
            b"X_One: a", b"Content_Length: 5", b"X_Forwarded_For: 1.2.3.4", b"X-One: a\x0bb",
        )
    ),
    passes("an empty value", get(b"/api/v1/orders", b"X-One:"), method="GET"),
    passes("empty lines before the request", b"\r\n\r\n" + get(), method="GET"),
    refused("a folded request line", b"GET /api/v1/orders\r\n HTTP/1.1\r\n" + HOST + b"\r\n\r\n"),
    refused("an end in the middle of the head", get()[:-4], answers=()),
)

EXPECT = (
    Case("100-continue, the body follows", (post(b"Content-Length: 5", b"Expect: 100-continue"), b"hello"), (100, 200),
         (Expected("POST", "/api/v1/orders", b"hello"),)),
    Case("100-continue, the body comes with it", (post(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello"),), (100, 200),
         (Expected("POST", "/api/v1/orders", b"hello"),)),
    refused("100-continue, and no body", post(b"Content-Length: 5", b"Expect: 100-continue"), answers=(100,)),
    passes("an unknown expectation", post(b"Content-Length: 5", b"Expect: y100-continue", body=b"hello"), body=b"hello"),
)
