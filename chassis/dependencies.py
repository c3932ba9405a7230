"""What endpoints take from their application: each thing once, put there by the service's app.py and found by its type."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request

from chassis.database import Database

Kind = TypeVar("Kind")


def provide(app: FastAPI, kind: type[Kind], thing: Kind) -> None:
    """Let the endpoints of `app` have `thing` wherever they ask for its type."""
    _things(app)[kind] = thing


def is_provided(app: FastAPI, kind: type[object]) -> bool:
    return kind in _things(app)


def provided(app: FastAPI, kind: type[Kind]) -> Kind:
    """The thing of this type. LookupError: app.py provides none."""
    thing: Kind = _things(app)[kind]
    return thing


def from_app(kind: type[object]) -> Any:
    """For the type of an endpoint's argument: `Db = Annotated[Database, from_app(Database)]`."""

    async def find(request: Request) -> object:
        return provided(request.app, kind)

    find.kind = kind  # type: ignore[attr-defined]
    return Depends(find)


def kind_from_app(metadata: Sequence[object]) -> type[object] | None:
    """Of an annotated argument: the type of the thing that it wants from the app, if that is what it wants."""
    for mark in metadata:
        kind: type[object] | None = getattr(getattr(mark, "dependency", None), "kind", None)
        if kind is not None:
            return kind
    return None


def _things(app: FastAPI) -> dict[type[object], Any]:
    if not hasattr(app.state, "provided"):
        app.state.provided = {}
    things: dict[type[object], Any] = app.state.provided
    return things


Db = Annotated[Database, from_app(Database)]
