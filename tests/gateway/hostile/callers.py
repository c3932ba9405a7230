"""Who a request runs as: nobody but the front door says where it came from, and only a valid token says who sent it."""

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

_ADMIN = b"Authorization: Bearer <admin>"
_EVIL = "evil"


def _said(line: bytes) -> Case:
    """A client says it; no service hears it."""
    return passes(f"{line!r}", get(b"/api/v1/orders", line), method="GET", without=_EVIL)


OURS = tuple(
    _said(line)
    for line in (
        b"X-Forwarded-For: evil", b"X-Forwarded-For: 10.0.0.1, evil", b"x-forwarded-for: evil\r\nX-FORWARDED-FOR: evil",
        b"X-Forwarded-Proto: evil", b"X-Forwarded-Host: evil", b"X-Forwarded-Port: evil", b"X-Forwarded-Prefix: evil",
        b"X-Forwarded-Server: evil", b"X-Forwarded-Client-Cert: evil", b"Forwarded: for=evil", b"X-Real-IP: evil",
        b"X-Request-Id: evil", b"X-Request-Id: a\r\nX-Request-Id: evil", b"traceparent: 00-evil-b7ad6b7169203331-01",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: evil", b"tracestate: a=evil",
        b"baggage: a=evil", b"X-Envoy-Original-Path: /evil", b"X-Envoy-Retry-On: evil", b"X-Envoy-Max-Retries: evil",
        b"X-Envoy-Retry-Grpc-On: evil", b"X-Envoy-Upstream-Rq-Timeout-Ms: evil", b"X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: evil",
        b"X-Envoy-Expected-Rq-Timeout-Ms: evil", b"X-Envoy-Decorator-Operation: evil", b"X-Envoy-Force-Trace: evil",
        b"X-Envoy-Internal: evil", b"X-Envoy-External-Address: evil", b"X-Envoy-Original-Dst-Host: evil", b"X-Envoy-Peer-Metadata: evil",
        b"X-Envoy-IP-Tags: evil", b"X-Envoy-Downstream-Service-Cluster: evil", b"X-Envoy-Downstream-Service-Node: evil",
        b"X-Envoy-Upstream-Alt-Stat-Name: evil", b"X-Envoy-Hedge-On-Per-Try-Timeout: evil", b"X-Envoy-Attempt-Count: evil",
        b"X-Envoy-Anything: evil", b"X-Client-Trace-Id: evil", b"X-Envoy-Upstream-Service-Time: evil",
        b"TE: trailers, evil", b"TE: evil", b"Trailer: evil", b"Keep-Alive: evil", b"Proxy-Connection: evil",
        b"Proxy-Authorization: evil", b"Proxy-Authenticate: evil", b"HTTP2-Settings: evil", b"Upgrade: evil",
        b"Connection: X-One\r\nX-One: evil", b"Connection: x-one, X-Two\r\nX-One: evil",
    )
)

# G1: `Connection: content-length` took the length from a body, and what the service then read as a request was the attacker's.
G1_CONNECTION_NAMES = (
    *(
        Case(
            f"G1: Connection names {name!r}",
            (post(b"Connection: " + name, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),),
            (200,),
            (Expected("POST", "/api/v1/orders", SMUGGLED),),
        )
        for name in (
            b"content-length", b"Content-Length", b"keep-alive, Content-Length", b"content-length, content-length", b"te", b"trailer",
            b"x-request-id", b"traceparent", b"x-envoy-internal", b"idempotency-key",
            b"content-type", b"if-match", b",", b" ", b"", b"x-real-ip", b"upgrade", b"transfer-encoding", b"expect", b"a b",
        )
    ),
    *(
        passes(f"G1: Connection names {name!r}, with chunks", post(b"Connection: " + name, CHUNKED, body=chunked(SMUGGLED)), body=SMUGGLED)
        for name in (b"transfer-encoding", b"Transfer-Encoding, te", b"content-length", b"trailer")
    ),
    *(
        refused(f"G1: Connection names {name!r}", post(b"Connection: " + name, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), answers=answers)
        for name, answers in {
            b"host": (400,), b"Content-Length, host": (400,), b"authorization": (401,), b"Authorization, content-length": (401,),
            b":path": (400,), b":method": (400,), b":authority": (400,), b"x-forwarded-for": (400,), b"x-forwarded-proto": (400,), b"\x00": (400,), b"a\x01": (400,),
        }.items()
    ),
    passes("Connection names a cookie", get(b"/api/v1/orders", b"Connection: cookie", b"Cookie: evil"), method="GET", without=_EVIL),
    passes("G1: the second of two Connection headers", post(b"Connection: keep-alive", b"Connection: content-length", b"Content-Length: 5", body=b"hello"), body=b"hello"),
)


def _login(*lines: bytes) -> bytes:
    return head(b"GET /api/v1/orders HTTP/1.1", HOST, *lines)


def _anonymous(name: str, *lines: bytes) -> Case:
    """On a public path it passes, and runs as nobody."""
    return Case(
        name,
        (head(b"GET /api/v1/products HTTP/1.1", HOST, *lines),),
        (200,),
        (Expected("GET", "/api/v1/products", runs_as=None),),
    )


_BAD_TOKENS = (
    b"<alg none>",
    b"<wrong key>",
    b"<wrong audience>",
    b"<wrong issuer>",
    b"<expired>",
    b"<not yet>",
    b"<hs256>",
    b"<unsigned>",
    b"<no expiry>",
)
"""The fixture makes them, each as an administrator's."""
TOKENS = (
    passes("a token", _login(CUSTOMER), method="GET"),
    Case("an administrator's", (_login(_ADMIN),), (200,), (Expected("GET", "/api/v1/orders", runs_as="admin"),)),
    refused("none", _login(), answers=(401,)),
    *(refused(f"{token.decode()}", _login(b"Authorization: Bearer " + token), answers=(401,)) for token in _BAD_TOKENS),
    *(_anonymous(f"{token.decode()}, on a public path", b"Authorization: Bearer " + token) for token in _BAD_TOKENS),
    *(
        refused(f"{line!r}", _login(line), answers=(401,))
        for line in (
            b"Authorization: Bearer", b"Authorization: Bearer ", b"Authorization: <admin>", b"Authorization: bearer <admin>x",
            b"Authorization: Basic <admin>", b"Authorization: Token <admin>", b"Authorization: Bearer <customer> <admin>", b"Authorization: Bearer\t<admin>",
            b"Authorization: Bearer a.b.c", b"Authorization: Bearer ..", b"X-Authorization: Bearer <admin>", b"Cookie: token=<admin>",
            b"Proxy-Authorization: Bearer <admin>", b"Authentication: Bearer <admin>", b"Authorization: Bearer%20<admin>",
            b'Authorization: "Bearer <admin>"', b"Authorization: Bearer '<admin>'", b"X-Jwt-Payload: <admin>",
        )
    ),
    refused("a token in the query", head(b"GET /api/v1/orders?access_token=<admin> HTTP/1.1", HOST), answers=(401,)),
    refused("a token in a trailer (G4)", head(b"POST /api/v1/orders HTTP/1.1", HOST, CHUNKED) + chunked(b"hello", trailers=[_ADMIN]), answers=(401,)),
    passes("another's token in a trailer (G4)", post(CHUNKED, b"Trailer: Authorization", body=chunked(b"hello", trailers=[_ADMIN])), body=b"hello"),
    *(
        refused(f"two tokens {lines!r}", _login(*lines))
        for lines in (
            (b"Authorization: Bearer <customer>, Bearer <admin>",), (b"Authorization: Bearer <customer>,<admin>",),
            (CUSTOMER, _ADMIN), (_ADMIN, CUSTOMER), (CUSTOMER, CUSTOMER), (CUSTOMER, b"Authorization: Basic YTpi"), (b"Authorization: Basic YTpi", CUSTOMER))
    ),
    refused("two tokens on a public path", head(b"GET /api/v1/products HTTP/1.1", HOST, CUSTOMER, _ADMIN)),
    refused("a customer's where staff may", head(b"DELETE /api/v1/products/1 HTTP/1.1", HOST, CUSTOMER), answers=(403,)),
    refused("the roles are the token's", head(b"DELETE /api/v1/products/1 HTTP/1.1", HOST, CUSTOMER, b"X-Roles: admin", b"X-Jwt-Payload: eyJyb2xlcyI6WyJhZG1pbiJdfQ"), answers=(403,)),
    refused("a process of the platform", _login(b"Authorization: Bearer <process>"), answers=(403,)),
)
