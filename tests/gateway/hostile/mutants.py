"""Cases that `test_mutations` found: the front door passed something on that its sender did not plainly ask for."""

# ruff: noqa: E501 - a case is one line, however long
# fmt: off


# fmt: off

_POST = b"POST /api/v1/orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer <customer>\r\nTransfer-Encoding: chunked\r\n\r\n"
MUTANTS: tuple[bytes, ...] = (
    _POST + b"3\r\nhello\r\n0\r\n\r\n",  # bytes after a chunk were skipped
    _POST + b"5\r\nhello\n0\r\n\r\n",
    _POST + b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
)
