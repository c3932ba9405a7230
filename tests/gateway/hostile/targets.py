"""What is asked for, of whom, how: request lines and hosts. What is internal is not reachable in any spelling."""

# ruff: noqa: E501 - a case is one line, however long
# fmt: off

from tests.gateway.hostile.cases import HOST, SMUGGLED, Case, Expected, get, head, passes, post, refused

_PUBLIC = "/api/v1/products"


def _public(line: bytes, *headers: bytes) -> bytes:
    return head(line, HOST, *headers)


def _reads(name: str, *sent: bytes, target: str = _PUBLIC, method: str = "GET") -> Case:
    """An anonymous read that reaches the catalogue."""
    return Case(name, sent, (200,), (Expected(method, target, runs_as=None),), to_head=method == "HEAD")


FORMS = (
    _reads("origin form", _public(b"GET /api/v1/products HTTP/1.1")),
    _reads("absolute form", _public(b"GET http://shop.example/api/v1/products HTTP/1.1")),
    _reads("absolute form, another host", _public(b"GET http://evil.example/api/v1/products?a=b HTTP/1.1"), target=_PUBLIC + "?a=b"),
    refused("absolute form, an internal host", _public(b"GET http://127.0.0.1:8005/internal/reservations HTTP/1.1"), answers=(404,)),
    refused("absolute form, the host is part of the path", _public(b"GET http://a/internal@b/api/v1/products HTTP/1.1"), answers=(404,)),
    refused("absolute form without a path", _public(b"DELETE http://shop.example HTTP/1.1"), answers=(405,)),
    refused("absolute form, another scheme", _public(b"GET file:///api/v1/products HTTP/1.1")),
    refused("authority form", _public(b"GET shop.example:80 HTTP/1.1")),
    refused("no slash", _public(b"GET api/v1/products HTTP/1.1")),
    refused("CONNECT", _public(b"CONNECT 127.0.0.1:8005 HTTP/1.1") + SMUGGLED, answers=(404,)),
    refused("CONNECT with a path", _public(b"CONNECT /api/v1/products HTTP/1.1")),
    refused("asterisk form", _public(b"OPTIONS * HTTP/1.1"), answers=(404,)),
    refused("asterisk form, GET", _public(b"GET * HTTP/1.1")),
    refused("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n\r\n"),
    refused("an empty target", _public(b"GET  HTTP/1.1")),
    refused("two targets", _public(b"GET /api/v1/products /internal/a HTTP/1.1")),
)

PATHS = tuple(
    refused(f"path {path!r}", _public(b"GET " + path + b" HTTP/1.1"))
    for path in (
        b"//api/v1/products", b"/api//v1/products", b"/api/v1/products//", b"/./api/v1/products", b"/api/v1/products/.",
        b"/api/v1/products/..", b"/api/v1/products/../orders", b"/../api/v1/products", b"/api/v1/products/%2e%2e/orders",
        b"/api/v1/products/.%2e/orders", b"/api/v1/products/%2E./orders", b"/%2e%2e/internal/a", b"/api/v1/products%2f1",
        b"/api/v1/products%2F..%2Forders", b"/api/v1/products%5c1", b"/api/v1/products\\1", b"/api/v1/products\\..\\orders",
        b"/api/v1/products%00", b"/api/v1/products/%00", b"/api/v1/products%0d%0aX-One:%20a", b"/api/v1/products%0a",
        b"/api/v1/products%7f", b"/api/v1/products/%", b"/api/v1/products/%4", b"/api/v1/products/%zz", b"/api/v1/products/%u002e",
        b"/api/v1/products/%252e%252e/orders", b"/api/v1/products/%252f", b"/api/v1/products/\xc3\xa9", b"/api/v1/products/\xff",
        b"/api/v1/products/\x00", b"/api/v1/products/\x01", b"/api/v1/products/\x7f", b"/api/v1/products#a", b"/api/v1/products/<a>",
        b"/api/v1/products/{a}", b'/api/v1/products/"', b"/api/v1/products/^", b"/api/v1/products/`", b"/api/v1/products/|",
        b"/api/v1/products/[a]", b"/api/v1/products?a=\x01", b"/api/v1/products?a=\x00", b"/api/v1/products?a#b",
        b"/api/v1/products?a=\xff",
    )
)

KEPT = tuple(
    _reads(f"kept {target}", _public(b"GET " + target.encode() + b" HTTP/1.1"), target=target)
    for target in (
        "/api/v1/products/", "/api/v1/products/1;a=b", "/api/v1/products/%20", "/api/v1/products/%C3%A9", "/api/v1/products/a%2Db",
        "/api/v1/products/...", "/api/v1/products/.a", "/api/v1/products/a..", "/api/v1/products/..a", "/api/v1/products?a=/../b",
        "/api/v1/products?q=%00%0d%0a", "/api/v1/products??", "/api/v1/products?a=b?c=d",
        "/api/v1/products/http:/evil.example:80",
    )
)

METHODS = (
    _reads("HEAD", _public(b"HEAD /api/v1/products HTTP/1.1"), method="HEAD"),
    *(
        refused(f"method {method!r}", _public(method + b" /api/v1/products HTTP/1.1"), answers=(405,))
        for method in (b"TRACE", b"PROPFIND", b"OPTIONS", b"PURGE")
    ),
    *(
        refused(f"method {method!r}", _public(method + b" /api/v1/products HTTP/1.1"))
        for method in (b"get", b"Get", b"TRACK", b" GET", b"G\x00ET", b"GET\x00", b"", b"FOO", b"PRI", b'GET"', b"GET,POST", b"\xff")
    ),
    _reads("a tab for a space", _public(b"GET\t/api/v1/products HTTP/1.1")),
    refused("a long method", _public(b"G" * 10_000 + b" /api/v1/products HTTP/1.1")),
)

VERSIONS = (
    refused("HTTP/0.9", b"GET /api/v1/products\r\n\r\n"),
    refused("HTTP/0.9 by name", _public(b"GET /api/v1/products HTTP/0.9")),
    refused("HTTP/1.0", _public(b"GET /api/v1/products HTTP/1.0")),
    refused("HTTP/1.0 that stays", _public(b"GET /api/v1/products HTTP/1.0", b"Connection: keep-alive") * 2),
    *(refused(f"version {version!r}", _public(b"GET /api/v1/products " + version)) for version in (b"HTTP/1.2", b"HTTP/2.0")),
    *(
        refused(f"version {version!r}", _public(b"GET /api/v1/products " + version))
        for version in (
            b"HTTP/2", b"HTTP/1.", b"HTTP/1", b"HTTP/11", b"HTTP/1.10", b"HTTP/-1.1", b"http/1.1",
            b"HTTP / 1.1", b"HTTP/1,1", b"HTTPS/1.1", b"ICY/1.1", b"HTTP/1.1 x", b"HTTP/1.1\x00", b"XHTTP/1.1",
        )
    ),
)

HOSTS = (
    refused("no host", b"GET /api/v1/products HTTP/1.1\r\n\r\n"),
    refused("two hosts", head(b"GET /api/v1/products HTTP/1.1", HOST, b"Host: evil.example")),
    refused("two equal hosts", head(b"GET /api/v1/products HTTP/1.1", HOST, HOST)),
    *(
        refused(f"host {host!r}", head(b"GET /api/v1/products HTTP/1.1", b"Host: " + host))
        for host in (
            b"a b", b"a/b", b"a?b", b"a#b", b"a@b", b"a\\b", b"a,b", b"\x00", b"a\x01", b"\xff", b"a%00", b"<a>", b"a:b:c", b"a:x",
            b"[::1", b"",
        )
    ),
    *(
        _reads(f"plain host {host!r}", head(b"GET /api/v1/products HTTP/1.1", b"Host: " + host))
        for host in (b"shop.example:80", b"a:99999999", b"SHOP.EXAMPLE", b"127.0.0.1:8005", b"[::1]:80", b"inventory", b"localhost")
    ),
)

UPGRADES = (
    _reads("h2c", _public(b"GET /api/v1/products HTTP/1.1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                          b"HTTP2-Settings: AAMAAABkAAQAAP__")),
    _reads("h2c without Connection", _public(b"GET /api/v1/products HTTP/1.1", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")),
    _reads("websocket", _public(b"GET /api/v1/products HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket",
                                b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
    _reads("TLS", _public(b"GET /api/v1/products HTTP/1.1", b"Connection: Upgrade", b"Upgrade: TLS/1.2")),
    passes("with a body", post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"), body=b"hello"),
)

_INTERNAL = (
    b"/internal", b"/internal/", b"/internal/reservations", b"/internal/api/v1/products", b"/INTERNAL/a", b"/api/v1/internal/a",
    b"/api/internal", b"/metrics", b"/metrics/", b"/stats", b"/stats/prometheus", b"/ready", b"/admin", b"/config_dump",
    b"/clusters", b"/server_info", b"/quitquitquit", b"/logging?level=debug", b"/limits", b"/healthz", b"/health/x", b"/redoc",
    b"/.well-known/openid-configuration", b"/.well-known/jwks.json/x", b"/favicon.ico", b"/api", b"/api/v1", b"/api/v2/products",
    b"/api/v1/productsx", b"/api/v1/product", b"/api/v1/carriers", b"/api/v1/carriers/webhook/x", b"/API/V1/PRODUCTS", b"/x",
    b"/%69nternal/a", b"/internal%20", b"/internal;a", b"/;/internal/a", b"/api/v1/products;",
)
INTERNAL = (
    *(refused(f"{path!r}", _public(b"GET " + path + b" HTTP/1.1"), answers=(404,)) for path in _INTERNAL),
    *(refused(f"by an admin {path!r}", head(b"POST " + path + b" HTTP/1.1", HOST, b"Authorization: Bearer <admin>"), answers=(404,))
      for path in _INTERNAL[:16]),
    *(
        refused(f"spelled {path!r}", _public(b"GET " + path + b" HTTP/1.1"))
        for path in (
            b"//internal/a", b"/./internal/a", b"/%2finternal/a", b"/internal%2fa", b"/api/v1/products/../../../internal/a", b"/internal\\a",
            b"/x/..;/internal/a/..", b"/%2e/internal/a", b"/internal/a%00", b"/api/v1/products/..%2f..%2f..%2finternal", b"/%252e/internal",
        )
    ),
    *(
        _reads(f"asked for by header {line!r}", _public(b"GET /api/v1/products HTTP/1.1", line))
        for line in (
            b"X-Original-URL: /internal/a", b"X-Rewrite-URL: /internal/a", b"X-Envoy-Original-Path: /internal/a",
            b"X-Forwarded-Prefix: /internal", b"X-HTTP-Method-Override: DELETE", b"X-Envoy-Original-Dst-Host: 127.0.0.1:8005",
            b"X-Forwarded-Host: inventory", b"Forwarded: host=inventory", b"X-Original-Host: inventory",
        )
    ),
)

PIPELINES = (
    Case("twenty requests at once", (b"".join(get(b"/api/v1/orders/%d" % number) for number in range(20)),), (200,) * 20,
         tuple(Expected("GET", f"/api/v1/orders/{number}") for number in range(20))),
    Case("bodies between", (post(b"Content-Length: 1", body=b"a") + get() + post(b"Content-Length: 1", body=b"b"),), (200, 200, 200),
         (Expected("POST", "/api/v1/orders", b"a"), Expected("GET", "/api/v1/orders"), Expected("POST", "/api/v1/orders", b"b"))),
    Case("services between", (get() + _public(b"GET /api/v1/products HTTP/1.1") + get(b"/api/v1/payments/1"),), (200, 200, 200),
         (Expected("GET", "/api/v1/orders"), Expected("GET", _PUBLIC, runs_as=None), Expected("GET", "/api/v1/payments/1"))),
    Case("refusals between", (get() + _public(b"GET /internal HTTP/1.1") + get() + _public(b"GET /api/v1/orders HTTP/1.1") + get(),),
         (200, 404, 200, 401, 200), (Expected("GET", "/api/v1/orders"),) * 3),
    Case("a hostile one at the end", (get() + post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n") + get(),),
         (200, 400), (Expected("GET", "/api/v1/orders"),)),
    Case("an odd path between", (get() + get(b"/api/v1/orders/../products") + get(),), (200, 400), (Expected("GET", "/api/v1/orders"),)),
    Case("close in the middle", (get() + get(b"/api/v1/orders", b"Connection: close") + get(),), (200, 200), (Expected("GET", "/api/v1/orders"),) * 2),
    Case("a request in a body", (post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED) + get(),), (200, 200),
         (Expected("POST", "/api/v1/orders", SMUGGLED), Expected("GET", "/api/v1/orders"))),
    # What is refused before its body was read ends the connection: nobody takes the body for a request.
    refused("no token, with a body", head(b"POST /api/v1/orders HTTP/1.1", HOST, b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + get(), answers=(401,)),
    refused("no such path, with a body", head(b"POST /internal HTTP/1.1", HOST, b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + get(), answers=(404,)),
    refused("no token, the body comes later", head(b"POST /api/v1/orders HTTP/1.1", HOST, b"Content-Length: 50") + b"x", SMUGGLED + get(), answers=(401,)),
)
