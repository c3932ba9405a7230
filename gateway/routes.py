"""What passes the front door: the public endpoints of each service. What is not in this table does not exist outside."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.budgets import INBOX_STREAM_S
from contracts.identity import Role

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

READS = ("GET", "HEAD")
BODY_LIMIT = 1_000_000
SMALL_BODY = 64_000


class Limit(StrEnum):
    """Which rate limit a request counts against."""

    CALLER = "caller"
    """The user's, or the client address's where there is no token."""
    AUTH = "auth"
    """A tight one by address: passwords are guessed here. Each request is asked about, and refused if that cannot be done."""
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
    timeout_s: float | None = None
    """For the service's whole answer; None is what the settings say."""
    is_stream: bool = False
    """Its answers go on for minutes: they take connections of their own, so that all else has its own."""

    @property
    def cluster(self) -> str:
        """Where Envoy sends it."""
        return f"{self.service}_streams" if self.is_stream else self.service


@dataclass(frozen=True, slots=True)
class Page:
    """What the edge app answers: to everybody, and only reads."""

    prefix: str
    exact: bool = True


PAGES = (
    Page("/"),
    Page("/health"),
    Page("/health/live"),
    Page("/health/ready"),
    Page("/openapi.json"),
    Page("/.well-known/security.txt"),
    Page("/docs", exact=False),
)


def _reads(who: Who) -> dict[str, Who]:
    return dict.fromkeys(READS, who)


def _writes(who: Who, *methods: str) -> dict[str, Who]:
    return dict.fromkeys(methods, who)


ROUTES: tuple[Route, ...] = (
    Route("/.well-known/jwks.json", "identity", _reads(PUBLIC), exact=True),
    Route("/api/v1/auth", "identity", _writes(PUBLIC, "POST"), Limit.AUTH, SMALL_BODY),
    # Nobody guesses a refresh token, and who has one must not be logged out because Redis is away.
    Route("/api/v1/auth/refresh", "identity", _writes(PUBLIC, "POST"), body_limit=SMALL_BODY, exact=True),
    Route("/api/v1/auth/logout", "identity", _writes(PUBLIC, "POST"), body_limit=SMALL_BODY, exact=True),
    Route("/api/v1/auth/links", "identity", _reads(PUBLIC) | _writes(PUBLIC, "POST"), Limit.AUTH, SMALL_BODY),
    Route(
        "/api/v1/users",
        "identity",
        _reads(SIGNED_IN) | _writes(SIGNED_IN, "PATCH", "DELETE") | _writes(ADMIN, "PUT", "POST"),
        body_limit=SMALL_BODY,
    ),
    Route("/api/v1/users/me/email", "identity", _writes(SIGNED_IN, "POST"), Limit.AUTH, SMALL_BODY, exact=True),
    Route("/api/v1/users/me/erasure", "identity", _writes(SIGNED_IN, "POST"), Limit.AUTH, SMALL_BODY, exact=True),
    Route("/api/v1/security-log", "identity", _reads(ADMIN)),
    Route("/api/v1/products", "catalog", _reads(PUBLIC) | _writes(ADMIN, "POST", "PUT", "PATCH", "DELETE")),
    Route("/api/v1/categories", "catalog", _reads(PUBLIC) | _writes(ADMIN, "POST", "PUT", "DELETE")),
    Route("/api/v1/orders", "order", _reads(SIGNED_IN) | _writes(SIGNED_IN, "POST")),
    Route("/api/v1/returns", "order", _reads(SIGNED_IN)),
    Route("/api/v1/discounts", "order", _reads(SUPPORT) | _writes(ADMIN, "PUT", "POST"), body_limit=SMALL_BODY),
    Route("/api/v1/customers", "order", _reads(SUPPORT)),
    Route("/api/v1/payments", "payment", _reads(BUYING) | _writes(ADMIN, "POST")),
    Route("/api/v1/payments/return", "payment", _reads(PUBLIC), exact=True),
    Route("/api/v1/payments/webhook", "payment", _writes(PUBLIC, "POST"), Limit.WEBHOOK, SMALL_BODY, exact=True),
    Route("/api/v1/warehouses", "inventory", _reads(STAFF) | _writes(WAREHOUSE, "PUT")),
    Route("/api/v1/stock", "inventory", _reads(STAFF) | _writes(WAREHOUSE, "POST")),
    Route("/api/v1/expected-receipts", "inventory", _reads(STAFF) | _writes(WAREHOUSE, "POST")),
    Route("/api/v1/backorders", "inventory", _reads(STAFF)),
    Route("/api/v1/shipping", "shipping", _reads(STAFF) | _writes(SIGNED_IN, "POST"), body_limit=SMALL_BODY),
    Route("/api/v1/shipments", "shipping", _reads(SIGNED_IN) | _writes(WAREHOUSE, "POST")),
    Route("/api/v1/tracking", "shipping", _reads(SIGNED_IN)),
    Route("/api/v1/carriers/webhook", "shipping", _writes(PUBLIC, "POST"), Limit.WEBHOOK, SMALL_BODY, exact=True),
    Route("/api/v1/notifications", "notification", _reads(BUYING)),
    Route("/api/v1/notifications/inbox", "notification", _reads(SIGNED_IN) | _writes(SIGNED_IN, "POST"), body_limit=SMALL_BODY),
    Route(
        "/api/v1/notifications/inbox/stream",
        "notification",
        {"GET": SIGNED_IN},
        exact=True,
        timeout_s=INBOX_STREAM_S + 30,
        is_stream=True,
    ),
    Route(
        "/api/v1/notifications/preferences",
        "notification",
        _reads(SIGNED_IN) | _writes(SIGNED_IN, "PUT", "POST", "DELETE"),
        body_limit=SMALL_BODY,
    ),
    # The page, its script and its service worker, which browsers ask for without a token.
    Route("/api/v1/notifications/push", "notification", _reads(PUBLIC), exact=True),
    Route("/api/v1/notifications/push/key", "notification", _reads(PUBLIC), exact=True),
    Route("/api/v1/notifications/push/page.js", "notification", _reads(PUBLIC), exact=True),
    Route("/api/v1/notifications/push/sw.js", "notification", _reads(PUBLIC), exact=True),
    Route(
        "/api/v1/notifications/push-subscriptions",
        "notification",
        _reads(SIGNED_IN) | _writes(SIGNED_IN, "POST", "DELETE"),
        body_limit=SMALL_BODY,
    ),
    Route("/api/v1/notifications/templates", "notification", _reads(SUPPORT) | _writes(SUPPORT, "POST") | _writes(ADMIN, "PUT")),
    # Who has the link may; mail programs press its button for people who are not logged in.
    Route(
        "/api/v1/notifications/unsubscribe",
        "notification",
        _reads(PUBLIC) | _writes(PUBLIC, "POST"),
        body_limit=SMALL_BODY,
        exact=True,
    ),
    Route("/api/v1/notifications/webhooks", "notification", _writes(PUBLIC, "POST"), Limit.WEBHOOK),
    Route("/api/v1/notification-templates", "notification", _reads(SUPPORT) | _writes(ADMIN, "PUT")),
    Route("/api/v1/reports", "analytics", _reads(SUPPORT)),
)
SERVICES = tuple(dict.fromkeys(route.service for route in ROUTES))

# One spelling for one path: no empty or dot segments, and no encoded slash, backslash, dot, percent sign or control character,
# which a service could read as another path than the one that was checked here. Written without look-ahead, for RE2.
_PLAIN = "A-Za-z0-9_~!$&'()*+,;=:@-"
_ESCAPED = "%(?:2[0-46-9A-Da-d]|5[0-9ABDEFabdef]|7[0-9A-Ea-e]|[34689A-Fa-f][0-9A-Fa-f])"
_ANY, _NO_DOT = f"(?:[.{_PLAIN}]|{_ESCAPED})", f"(?:[{_PLAIN}]|{_ESCAPED})"
_SEGMENT = rf"(?:{_NO_DOT}{_ANY}*|\.{_NO_DOT}{_ANY}*|\.\.{_ANY}+)"
PATH = f"/|(?:/{_SEGMENT})+/?"
"""What a path must look like as a whole."""


class RouteTable:
    """Finds the route of a path as Envoy does, for what is only documented here."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        self._by_prefix = {route.prefix: route for route in routes}

    def find(self, path: str) -> Route | None:
        """The route with the longest matching prefix; None if there is none, or the path has a second spelling."""
        if not re.fullmatch(PATH, path):
            return None
        prefix = path
        while prefix:
            route = self._by_prefix.get(prefix)
            if route is not None:
                return route if prefix == path or not route.exact else None
            prefix = prefix.rpartition("/")[0]
        return None
