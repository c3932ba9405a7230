import json
from tests.gateway.hostile.wire import exchange
from tests.gateway.hostile.cases import *
async def test_peek(door):
    for sent in [post(b"Content-Length: 5", b"X-One: a\r\n\tTransfer-Encoding: chunked", body=b"hello"),
      post(b"Content-Length: 5", b"X-One: a\rTransfer-Encoding: chunked", body=b"hello"),
      get(b"/api/v1/orders", b"X-One: a\rX-Two: b"), get(b"/api/v1/orders", b"X-One: a\nX-Two: b"), get(b"/api/v1/orders", b"X-One: a\r"),
      get(b"/api/v1/orders\r"), get(b"/api/v1/orders", b"X-One:\r\n\ta"),
      head(b"GET /api/v1/products HTTP/1.1", b" Host: a", b"Host: b"),
      head(b"GET /api/v1/products HTTP/1.0", b"Host: a"),
      get(b"/api/v1/orders", b"TE: trailers, x", b"Keep-Alive: 5", b"Proxy-Connection: a", b"Upgrade: websocket", b"Connection: upgrade, te, x-a", b"x-a: 1", b"Proxy-Authorization: x", b"X-Envoy-Original-Path: /x"),
      get(b"/api/v1/orders", b"TE: trailers", b"Connection: te"),
      post(CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n")]:
        door.record.clear()
        got = await exchange(door.port, door.people.fill(sent), answers=1)
        print("SENT", sent, "\n GOT", [(a.status, a.headers, a.body[:200]) for a in got])
        for a in door.record.arrivals: print("   ARR", a.target, [h for h in a.headers if h[0]!="authorization"], a.body)
