"""What passes the front door: the public endpoints of each service. What is not in this table does not exist outside."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.errors import ErrorCode
from contracts.identity import Role
from gateway.answers import Refused

Who = frozenset[Role] | None
"""Any of these roles; None is everybody, also without a token."""

PUBLIC: Who = None
SIGNED_IN: Who = frozenset({Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE, Role.ADMIN})
"""Every person. Tokens of the platform's own processes do not pass the front door: they have no business outside."""
STAFF: Who = frozenset({Role.SUPPORT, Role.WAREHOUSE, Role.ADMIN})
BUYING: Who = frozenset({Role.CUSTOMER, Role.SUPPORT, Role.ADMIN})
"""Who buys, and who helps them: no warehouse."""
SUPPORT: Who = frozenset({Role.SUPPORT, Role.ADMIN})
WAREHOUSE: Who = frozenset({Role.WAREHOUSE, Role.ADMIN})
ADMIN: Who = frozenset({Role.ADMIN})

BODY_LIMIT = 1_000_000
SMALL_BODY = 64_000


class Limit(StrEnum):
    """Which rate limit a request counts against."""

    CALLER = "caller"
    """The user's, or the client address's where there is no token."""
    AUTH = "auth"
    """A tight one by address: passwords are guessed here."""
    WEBHOOK = "webhook"
    """A wide one by address: few callers, many calls, each one signed."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path and all that is under it: which service answers, which methods, and who may use them.

    The check of roles is coarse: whom the service's own table (`services/<name>/access.py`) admits to any operation here.
    """

    prefix: str
    service: str
    methods: Mapping[str, Who]
    limit: Limit = Limit.CALLER
    body_limit: int = BODY_LIMIT
    exact: bool = False
    """Only the path itself."""


def _reads(who: Who) -> dict[str, Who]:
    return {"GET": who, "HEAD": who}


def _writes(who: Who, *methods: str) -> dict[str, Who]:
    return dict.fromkeys(methods, who)


ROUTES: tuple[Route, ...] = (
    Route("/.well-known/jwks.json", "identity", _reads(PUBLIC), exact=True),
    Route("/api/v1/auth", "identity", _writes(PUBLIC, "POST"), Limit.AUTH, SMALL_BODY),
    Route("/api/v1/auth/links", "identity", _reads(PUBLIC) | _writes(PUBLIC, "POST"), Limit.AUTH, SMALL_BODY),
    Route(
        "/api/v1/users",
        "identity",
        _reads(SIGNED_IN) | _writes(SIGNED_IN, "PATCH", "DELETE") | _writes(ADMIN, "PUT", "POST"),
        body_limit=SMALL_BODY,
    ),
    Route("/api/v1/users/me/email", "identity", _writes(SIGNED_IN, "POST"), Limit.AUTH, SMALL_BODY, exact=True),
    Route("/api/v1/security-log", "identity", _reads(ADMIN)),
    Route("/api/v1/products", "catalog", _reads(PUBLIC) | _writes(ADMIN, "POST", "PUT", "PATCH", "DELETE")),
    Route("/api/v1/categories", "catalog", _reads(PUBLIC) | _writes(ADMIN, "POST", "PUT", "DELETE")),
    Route("/api/v1/orders", "order", _reads(BUYING) | _writes(BUYING, "POST")),
    Route("/api/v1/payments", "payment", _reads(BUYING)),
    Route("/api/v1/warehouses", "inventory", _reads(STAFF) | _writes(WAREHOUSE, "PUT")),
    Route("/api/v1/stock", "inventory", _reads(STAFF) | _writes(WAREHOUSE, "POST")),
    Route("/api/v1/shipping", "shipping", _writes(SIGNED_IN, "POST"), body_limit=SMALL_BODY),
    Route("/api/v1/shipments", "shipping", _reads(SIGNED_IN) | _writes(WAREHOUSE, "POST")),
    Route("/api/v1/tracking", "shipping", _reads(SIGNED_IN)),
    Route("/api/v1/carriers/webhook", "shipping", _writes(PUBLIC, "POST"), Limit.WEBHOOK, SMALL_BODY, exact=True),
    Route("/api/v1/notifications", "notification", _reads(BUYING)),
    Route("/api/v1/notification-templates", "notification", _reads(SUPPORT) | _writes(ADMIN, "PUT")),
    Route("/api/v1/reports", "analytics", _reads(SUPPORT)),
)
SERVICES = tuple(dict.fromkeys(route.service for route in ROUTES))

# One spelling for one path: no empty or dot segments, and no encoded slash, backslash, dot, percent sign or control character,
# which a service could read as another path than the one that was checked here.
_SEGMENT = rb"(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[EeFf5]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])[0-9A-Fa-f]{2})+"
_PATH = re.compile(rb"(?:/|(?:/" + _SEGMENT + rb")+/?)\Z")
PATH_LIMIT = 2048


class RouteTable:
    """Finds the route of a path as it stands in the request line."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        self._by_prefix = {route.prefix.encode(): route for route in routes}

    def find(self, raw_path: bytes) -> Route | None:
        """The route with the longest matching prefix. Refused: malformed_request, if the path has a second spelling."""
        check_path(raw_path)
        path = raw_path
        while path:
            route = self._by_prefix.get(path)
            if route is not None:
                return route if path is raw_path or not route.exact else None
            path = path.rpartition(b"/")[0]
        return None


def check_path(raw_path: bytes) -> None:
    """Refused: malformed_request."""
    if len(raw_path) > PATH_LIMIT:
        raise Refused(ErrorCode.MALFORMED_REQUEST, "The path is too long.", status=414)
    if not _PATH.match(raw_path):
        raise Refused(ErrorCode.MALFORMED_REQUEST, "The path is not in its plain form.")
