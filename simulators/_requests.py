"""Reading what a caller sent: bounded, typed, and refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from simulators._refusals import Refused

LARGEST_BODY = 64 * 1024
REFERENCE = re.compile(r"[\x21-\x7e]{1,200}")


async def read_raw(request: Request, largest: int) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > largest:
            raise Refused(413, "request_too_large", f"At most {largest} bytes.")
    return bytes(raw)


async def read_body(request: Request, largest: int = LARGEST_BODY) -> Body:
    raw = await read_raw(request, largest)
    try:
        document = json.loads(raw) if raw else {}
    except ValueError as error:
        raise Refused(400, "invalid_json", "The body is not JSON.") from error
    if not isinstance(document, dict):
        raise _invalid("body", "must be a JSON object")
    return Body(document)


class Body:
    """A JSON object whose fields are checked as they are taken out."""

    def __init__(self, document: Mapping[str, Any], name: str = "") -> None:
        self.document = document
        self._prefix = f"{name}." if name else ""

    def text(self, field: str, longest: int = 200) -> str:
        value = self.optional_text(field, longest)
        if not value:
            raise _invalid(self._prefix + field, "is required")
        return value

    def optional_text(self, field: str, longest: int = 500) -> str:
        value = self.document.get(field)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > longest:
            raise _invalid(self._prefix + field, f"must be text of at most {longest} characters")
        return value

    def reference(self) -> str:
        value = self.text("reference")
        if not REFERENCE.fullmatch(value):
            raise _invalid("reference", "must be printable ASCII without spaces")
        return value

    def integer(self, field: str, least: int, most: int) -> int:
        value = self.document.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _invalid(self._prefix + field, f"must be an integer from {least} to {most}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.document.get(field, default)
        if not isinstance(value, bool):
            raise _invalid(self._prefix + field, "must be true or false")
        return value

    def part(self, field: str) -> Body:
        value = self.document.get(field)
        if not isinstance(value, dict):
            raise _invalid(self._prefix + field, "must be an object")
        return Body(value, self._prefix + field)

    def texts(self, field: str, most: int) -> list[str]:
        value = self.document.get(field, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(each, str) for each in value):
            raise _invalid(self._prefix + field, f"must be a list of at most {most} texts")
        return value


def path_reference(request: Request) -> str:
    reference: str = request.path_params["reference"]
    if not REFERENCE.fullmatch(reference):
        raise _invalid("reference", "must be printable ASCII without spaces")
    return reference


def page(request: Request, most: int = 1_000) -> tuple[int, int]:
    """`limit` and `cursor` of a listing: the cursor is the sequence number of the last row seen."""
    limit = request.query_params.get("limit", "100")
    cursor = request.query_params.get("cursor", "0")
    if not (_is_count(limit) and 1 <= int(limit) <= most and _is_count(cursor)):
        raise _invalid("limit, cursor", f"a limit from 1 to {most}, and the cursor of the page before")
    return int(limit), int(cursor)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _invalid(field: str, why: str) -> Refused:
    return Refused(422, "invalid_request", f"{field}: {why}")
