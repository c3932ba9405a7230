"""One OpenAPI document for all: what the services say about their public endpoints, put together."""

import asyncio
import copy
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chassis.clients import Answer, HttpSession, OutboundClient, Unavailable, fault
from gateway.routes import PUBLIC, RouteTable

Json = dict[str, Any]
BEARER = "bearer"
_TIMEOUT_S = 3.0
_FRESH_S = 60.0
_FRESH_WITH_GAPS_S = 2.0
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PARAMETER = re.compile(r"\{[^}]*\}")
_DESCRIPTION = """\
One address for the whole shop.

**Sign up** with `POST /api/v1/auth/register`, or **log in** with `POST /api/v1/auth/login` once your e-mail is verified; send the
`access_token` as `Authorization: Bearer …` (the *Authorize* button here). It lives five minutes: `POST /api/v1/auth/refresh`.

**Repeat safely**: send an `Idempotency-Key` with what creates something; the same key and body get the first reply again.

**Errors** are problem details (RFC 9457) with a stable `code`. **Lists** come in pages: pass `next_cursor` back as `cursor`.

**Limits**: `RateLimit-Policy` and `RateLimit` say what is left; a 429 has `Retry-After`.
"""


class Document(NamedTuple):
    content: bytes
    etag: str


class PlatformDocument:
    """Fetches the services' documents, keeps what it made of them for a while, and makes it once for all who ask meanwhile."""

    def __init__(self, urls: Mapping[str, str], routes: RouteTable, http: HttpSession) -> None:
        self._services = [OutboundClient(name, url, http, timeout_s=_TIMEOUT_S, is_ours=True) for name, url in urls.items()]
        self._routes = routes
        self._making = asyncio.Lock()
        self._last: Document | None = None
        self._stale_at = float("-inf")

    async def get(self) -> Document:
        """The document; without the services that are down, which it names."""
        async with self._making:
            if self._last is None or time.monotonic() >= self._stale_at:
                fetched = dict(await asyncio.gather(*map(_fetch, self._services)))
                documents = {name: document for name, document in fetched.items() if document is not None}
                missing = [name for name in fetched if name not in documents]
                content = json.dumps(merge(documents, self._routes, missing), ensure_ascii=False).encode()
                self._last = Document(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
                self._stale_at = time.monotonic() + (_FRESH_WITH_GAPS_S if missing else _FRESH_S)
            return self._last


async def _fetch(service: OutboundClient) -> tuple[str, Json | None]:
    """A service's name and its document; None if it gives none now."""

    def read(answer: Answer) -> Json:
        try:
            document = json.loads(answer.content)
        except ValueError:
            document = None
        if answer.status != 200 or not isinstance(document, dict):
            raise fault(service.name, answer, "it gives no OpenAPI document")
        return document

    try:
        return service.name, await service.call("openapi document", "GET", "/openapi.json", read)
    except Unavailable:
        return service.name, None


def merge(documents: Mapping[str, Json], routes: RouteTable, missing: list[str]) -> Json:
    """One document from those of the services: their public paths, each under its own tag, with the components that they use."""
    paths: Json = {}
    components: dict[str, Json] = {}
    tags: list[Json] = []
    for service, document in documents.items():
        document = _with_own_names(service, copy.deepcopy(document), components)
        public = _public_paths(service, document, routes)
        if not public:
            continue
        paths |= public
        _add_used(components, document.get("components", {}), public)
        tags.append({"name": service, "description": document.get("info", {}).get("description", "")})
    components["securitySchemes"] = {
        BEARER: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "`access_token` of `POST /api/v1/auth/login`",
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "DistributedCommerce", "version": "1.0.0", "description": _DESCRIPTION + _note_on(missing)},
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": components,
        "x-unavailable": missing,
    }


def _note_on(missing: list[str]) -> str:
    return f"\n**Not answering now**, and left out here: {', '.join(missing)}.\n" if missing else ""


def _public_paths(service: str, document: Json, routes: RouteTable) -> Json:
    """The operations of a service that pass the front door."""
    public: Json = {}
    for path, item in document.get("paths", {}).items():
        route = routes.find(_PARAMETER.sub("x", path))
        if route is None or route.service != service:
            continue
        shared = {key: value for key, value in item.items() if key not in _METHODS}
        operations = {}
        for method, operation in item.items():
            if method in _METHODS and method.upper() in route.methods:
                operations[method] = {**operation, "tags": [service]}
                if operation.get("security") or route.methods[method.upper()] is not PUBLIC:
                    operations[method]["security"] = [{BEARER: []}]
                else:
                    operations[method].pop("security", None)
        if operations:
            public[path] = shared | operations
    return public


def _with_own_names(service: str, document: Json, taken: Mapping[str, Json]) -> Json:
    """The document, its components renamed where another service has a different one of that name.

    A component also differs if it refers to one that does: two pages of items look alike, and are not.
    """
    own: dict[str, Json] = document.get("components", {})
    different = {
        (kind, name)
        for kind, named in own.items()
        for name, value in named.items()
        if name in taken.get(kind, {}) and taken[kind][name] != value
    }
    while True:
        more = {
            (kind, name)
            for kind, named in own.items()
            for name, value in named.items()
            if (kind, name) not in different and name in taken.get(kind, {}) and different & set(_references(value))
        }
        if not more:
            break
        different |= more
    prefix = service.capitalize()
    renamed = {f"#/components/{kind}/{name}": f"#/components/{kind}/{prefix}{name}" for kind, name in different}
    for kind, name in different:
        own[kind][f"{prefix}{name}"] = own[kind].pop(name)
    return _pointing(document, renamed) if renamed else document


def _add_used(components: dict[str, Json], own: Mapping[str, Json], paths: Json) -> None:
    """Add those components that the public paths need, and what they need in turn."""
    wanted = list(_references(paths))
    while wanted:
        kind, name = wanted.pop()
        value = own.get(kind, {}).get(name)
        if value is None or name in components.setdefault(kind, {}):
            continue
        components[kind][name] = value
        wanted += _references(value)


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of every component that is referred to within."""
    if isinstance(value, dict):
        for item in value.values():
            if isinstance(item, str) and item.startswith("#/components/"):
                kind, _, name = item.removeprefix("#/components/").partition("/")
                yield kind, name
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _pointing(value: Any, renamed: Mapping[str, str]) -> Any:
    """A copy whose references follow the new names."""
    if isinstance(value, dict):
        return {key: _pointing(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_pointing(item, renamed) for item in value]
    return renamed.get(value, value) if isinstance(value, str) else value
