"""Who may do what. Each service has one table of it, `services/<name>/access.py`, with a row for every operation.

Whether a caller's roles admit it to an operation at all is decided before the operation runs, for every route, by the router that
the table makes. Which rows it reaches by it is decided where they are loaded, by asking the `Caller` that the operation is given:
lists leave out what is out of reach, and a row out of reach is answered as if it did not exist.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Annotated, Any, ClassVar, get_type_hints
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, ValidationError
from sqlalchemy import ColumnElement, false, or_, true
from sqlalchemy.orm import Mapped

from chassis.dependencies import kind_from_app, provided
from chassis.tokens import Principal, authenticate
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role


class Reach(StrEnum):
    """Which rows a role reaches by an operation."""

    ALL = "all"
    OWN = "own"
    """Those about the caller: my orders, my payments."""
    WAREHOUSES = "warehouses"
    """Those of the warehouses that the caller works for (`Principal.warehouses`); all of them for who works for all."""


class Open(StrEnum):
    """Operations that ask for no access token."""

    PUBLIC = "everybody"
    PROOF = "proof"
    """The request itself proves who sends it: by a signature, a password, a link."""


Rule = Mapping[Role, Reach] | Open
"""Who may call an operation. A role that is not in it may not."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller that is admitted to an operation, and what it reaches by it."""

    principal: Principal
    reach: frozenset[Reach]

    @property
    def subject(self) -> UUID:
        """The user's id."""
        return self.principal.subject

    @property
    def is_staff(self) -> bool:
        """Whether it reaches more than what is its own."""
        return self.reach != {Reach.OWN}

    @property
    def reaches_all(self) -> bool:
        """Whether every row is within reach. Who works for no warehouse in particular works for all of them."""
        return Reach.ALL in self.reach or (Reach.WAREHOUSES in self.reach and self.principal.warehouses is None)

    def reaches(self, *, owner: UUID | None = None, warehouse: str | None = None) -> bool:
        """Whether a row of this customer or this warehouse is within reach."""
        return (
            self.reaches_all
            or (Reach.OWN in self.reach and owner == self.subject)
            or (Reach.WAREHOUSES in self.reach and warehouse in (self.principal.warehouses or ()))
        )

    def rows(
        self, *, owner: Mapped[UUID | None] | None = None, warehouse: Mapped[str | None] | None = None
    ) -> ColumnElement[bool]:
        """The same as a condition on the columns that tell a row's customer and warehouse."""
        if self.reaches_all:
            return true()
        within: list[ColumnElement[bool]] = []
        if Reach.OWN in self.reach and owner is not None:
            within.append(owner == self.subject)
        if Reach.WAREHOUSES in self.reach and warehouse is not None:
            within.append(warehouse.in_(sorted(self.principal.warehouses or ())))
        return or_(false(), *within)


class AccessTable:
    """One service's table: the name of each operation (its function) and its rule."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = dict(rules)
        self.routes: list[GuardedRoute] = []
        """Every operation that its routers were given."""

    def router(self, **options: Any) -> APIRouter:
        """A router that admits callers as the table says. LookupError: an operation without a row."""

        class Guarded(GuardedRoute):
            table = self

        return APIRouter(route_class=Guarded, **options)

    def check(self, routers: Sequence[APIRouter]) -> None:
        """ValueError, if the table does not guard these routers, or their operations are not exactly its rows."""
        routes = [route for router in routers for route in router.routes]
        if not all(isinstance(route, GuardedRoute) and route.table is self for route in routes):
            raise ValueError("a router is not from the service's access table")
        names = sorted(route.name for route in routes if isinstance(route, GuardedRoute))
        if names != sorted(self.rules):
            raise ValueError(f"operations and rows of the access table differ: {sorted(set(names) ^ set(self.rules)) or names}")


class GuardedRoute(APIRoute):
    """An operation that only those reach whom its row of the table admits."""

    table: ClassVar[AccessTable]

    def __init__(self, path: str, endpoint: Any, *, dependencies: Sequence[Any] | None = None, **options: Any) -> None:
        self.rule = self.table.rules[endpoint.__name__]
        self._command = Command.of(endpoint) if path.startswith("/internal/") and not dependencies else None
        guard = [] if isinstance(self.rule, Open) else [Depends(authorize)]
        super().__init__(path, endpoint, dependencies=[*(dependencies or ()), *guard], **options)
        self.table.routes.append(self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        command = self._command
        if command is None or isinstance(self.rule, Open):
            return super().get_route_handler()

        async def handle(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            credentials = HTTPAuthorizationCredentials(scheme=scheme, credentials=token) if scheme.lower() == "bearer" else None
            self.admit(await authenticate(request, credentials))
            return await command.answer(request, self.status_code or HTTPStatus.OK)

        return handle

    def admit(self, principal: Principal) -> Grant:
        """What this caller reaches. Refusal: forbidden, if none of its roles is in the row."""
        rule = {} if isinstance(self.rule, Open) else self.rule
        reach = frozenset(rule[role] for role in principal.roles if role in rule)
        if not reach:
            raise Refusal(ErrorCode.FORBIDDEN, f"This needs one of the roles: {', '.join(rule)}.")
        return Grant(principal, reach)


@dataclass(frozen=True)
class Command:
    """An internal operation that takes one body and things of the app, and nothing else, as the steps of a saga do.

    FastAPI's own way to its arguments takes a good part of such a request's time. It still documents the operation.
    """

    operation: Callable[..., Awaitable[BaseModel]]
    body_name: str
    body: type[BaseModel]
    things: Mapping[str, type[object]]

    @classmethod
    def of(cls, operation: Callable[..., Any]) -> "Command | None":
        """None, if the operation takes anything else, or does not answer with a model."""
        hints = get_type_hints(operation, include_extras=True)
        reply = hints.pop("return", None)
        things = {name: kind for name, hint in hints.items() if (kind := kind_from_app(getattr(hint, "__metadata__", ())))}
        [(name, body), *others] = [*((name, hint) for name, hint in hints.items() if name not in things), ("", None)]
        if len(others) != 1 or not _is_model(body) or not _is_model(reply) or not iscoroutinefunction(operation):
            return None
        return cls(operation, name, body, things)

    async def answer(self, request: Request, status: int) -> Response:
        """Raises RequestValidationError for a body that is not as it must be."""
        content = await request.body()
        if "json" not in request.headers.get("content-type", "").lower():
            raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Send JSON.", "input": None}])
        try:
            command = self.body.model_validate_json(content)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            raise RequestValidationError([problem | {"loc": ("body", *problem["loc"])} for problem in problems]) from error
        things = {name: provided(request.app, kind) for name, kind in self.things.items()}
        reply = await self.operation(**things, **{self.body_name: command})
        return Response(reply.model_dump_json(), status, media_type="application/json")


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


async def authorize(request: Request, principal: Annotated[Principal, Depends(authenticate)]) -> None:
    """Admit the caller to this operation. Refusals: unauthenticated, forbidden."""
    route: GuardedRoute = request.scope["route"]
    request.scope[_GRANT] = route.admit(principal)


async def admitted(request: Request) -> Grant:
    """The caller that the route has admitted, which it does before anything else. KeyError: the operation is open to everybody.

    To depend on `authorize` itself would be slower: FastAPI goes through what that depends on each time again."""
    grant: Grant = request.scope[_GRANT]
    return grant


_GRANT = "commerce.grant"
Caller = Annotated[Grant, Depends(admitted)]
NO_OPERATIONS = AccessTable({})
"""Of a process that answers nothing but its probes."""
