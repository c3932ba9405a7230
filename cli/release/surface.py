"""What the saga promises to the orders in flight and to other processes, read from the code: one table.

Orders in flight hold payloads that an older build wrote, and call services that a newer one answers. Whoever decodes such a
payload, compares two releases or records one reads here what its type is.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from temporalio import activity, workflow

from activities import all_activities
from activities.calls import Reply
from cli.release.replaying import name_in
from contracts import ids
from contracts.address import Address
from contracts.events import EVENT_TYPES
from contracts.money import Money
from contracts.orders import OrderLine, PlaceOrder
from contracts.parcels import ParcelLine
from contracts.payments import GiveBack
from contracts.returns import Condition, Resolution, ReturnedUnits, ReturnKind, ReturnLine, ReturnReason, ReturnRun, ReturnTerms
from temporal import retries
from temporal.names import SEARCH_ATTRIBUTES, search_attribute_kind
from temporal.orders import start_options
from temporal.retries import Preset
from temporal.returns import return_start_options
from worker import WORKFLOWS
from workflows import order_steps
from workflows.parcels import Parcel
from workflows.returns import steps as return_steps
from workflows.saga import Undo
from workflows.steps import Step

Json = dict[str, Any]
SECONDS = timedelta(seconds=1)


class Kind(StrEnum):
    """What a payload belongs to."""

    WORKFLOW = "workflow"
    UPDATE = "update"
    SIGNAL = "signal"
    QUERY = "query"
    ACTIVITY = "activity"
    MEMO = "memo"
    EVENT = "event"


class Part(StrEnum):
    """Which of its payloads."""

    ARGUMENT = "argument"
    RESULT = "result"
    VALUE = "value"
    """Of a memo or an event."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a payload stands, e.g. the argument of the activity ReserveInventory."""

    kind: Kind
    name: str
    part: Part

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" {self.part}" if self.part != Part.VALUE else "")


class Surface:
    """The promises of this tree."""

    @cached_property
    def types(self) -> Mapping[Place, Any]:
        """The type of every payload that crosses a process or outlives a build."""
        return dict(_types())

    def type_of(self, kind: Kind, name: str, part: Part) -> Any:
        """The type that such a payload is decoded with; None if this tree knows no such name, or expects no such payload."""
        return self.types.get(Place(kind, name, part))

    def document(self) -> Json:
        """The same as JSON: names, facts and schemas, both as they are read and as they are written. Events have a document of
        their own (cli/release/documents.py)."""
        told = {place: kind for place, kind in sorted(self.types.items()) if place.kind != Kind.EVENT}
        adapters = {str(place): TypeAdapter[Any](kind) for place, kind in told.items()}
        modes = [(place, mode, adapter) for place, adapter in adapters.items() for mode in ("validation", "serialization")]
        schemas, shared = TypeAdapter.json_schemas(modes)  # type: ignore[arg-type] # mypy does not keep the literals
        return {
            "facts": facts(),
            "types": {
                place: {"read": schemas[place, "validation"], "written": schemas[place, "serialization"]} for place in adapters
            },
            "$defs": shared["$defs"],
        }


@cache
def surface() -> Surface:
    """That of the code which runs here."""
    return Surface()


def facts() -> Json:
    """Everything that is promised beside the types."""
    return {
        "workflows": {name: {} for name in _definitions()},
        "handlers": {str(kind): sorted(names) for kind, names in _handlers().items()},
        "start": _start(),
        "start_of_return": _start_of_return(),
        "ids": dict(_id_samples()),
        "search_attributes": {key.name: search_attribute_kind(key) for key in SEARCH_ATTRIBUTES},
        "activities": {name: _call_of(function) for name, function in _activities().items()},
        "steps": {step.name: _step(step, ends_on) for step, ends_on in _steps()},
        "time_outs": {"call_s": retries.CALL / SECONDS, "first_try_s": retries.FIRST_TRY / SECONDS},
    }


# ── Types ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _types() -> Iterator[tuple[Place, Any]]:
    for name, definition in _definitions().items():
        yield from _signature(Kind.WORKFLOW, name, definition.arg_types, definition.ret_type)
        for update in definition.updates.values():
            yield from _signature(Kind.UPDATE, name_in(name, str(update.name)), update.arg_types, update.ret_type)
        for signal in definition.signals.values():
            yield from _signature(Kind.SIGNAL, name_in(name, str(signal.name)), signal.arg_types, None)
        for query in definition.queries.values():
            yield from _signature(Kind.QUERY, name_in(name, str(query.name)), query.arg_types, query.ret_type)
    for name, function in _activities().items():
        does = activity._Definition.must_from_callable(function)  # noqa: SLF001 (the SDK has no public name for it)
        yield from _signature(Kind.ACTIVITY, name, does.arg_types, does.ret_type)
    for name, value in _start()["memo"].items():
        yield Place(Kind.MEMO, name, Part.VALUE), type(value)
    for name, kind in EVENT_TYPES.items():
        yield Place(Kind.EVENT, name, Part.VALUE), kind


def _signature(kind: Kind, name: str, arguments: list[type] | None, result: Any) -> Iterator[tuple[Place, Any]]:
    if arguments:
        if len(arguments) > 1:
            raise TypeError(f"{kind} {name} takes {len(arguments)} arguments; one contract can grow, and several cannot")
        yield Place(kind, name, Part.ARGUMENT), arguments[0]
    if result not in (None, type(None)):
        yield Place(kind, name, Part.RESULT), result


def _definitions() -> dict[str, "workflow._Definition"]:
    found = [workflow._Definition.must_from_class(kind) for kind in WORKFLOWS]  # noqa: SLF001
    return {str(definition.name): definition for definition in found}


def _handlers() -> dict[Kind, list[str]]:
    definitions = _definitions().items()
    return {
        Kind.UPDATE: [name_in(of, str(name)) for of, each in definitions for name in each.updates],
        Kind.SIGNAL: [name_in(of, str(name)) for of, each in definitions for name in each.signals],
        Kind.QUERY: [name_in(of, str(name)) for of, each in definitions for name in each.queries],
    }


# ── Activities and steps ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Asked(Exception):
    """What an activity calls, instead of an answer."""

    def __init__(self, call: Json) -> None:
        self.call = call


class _Listening:
    """A service that tells what it is asked."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        raise _Asked({"service": self._service, "path": path})


def _activities() -> dict[str, Callable[..., Any]]:
    functions = all_activities(_Listening)
    named = {activity._Definition.must_from_callable(function).name: function for function in functions}  # noqa: SLF001
    return {str(name): function for name, function in sorted(named.items(), key=lambda pair: str(pair[0]))}


def _call_of(function: Callable[..., Any]) -> Json:
    """Which service an activity calls, where, and what makes two of its calls the same one, as its command tells."""
    argument = next(iter(_arguments_of(function)))
    call = function(sample(argument))
    try:
        call.send(None)
    except _Asked as asked:
        told = inspect.getdoc(argument) or ""
        _, says, by = told.partition("dempotent by ")
        return {**asked.call, "idempotent_by": by.partition(".")[0] if says else None}
    raise TypeError(f"{function.__qualname__} makes no call at once")


def _arguments_of(function: Callable[..., Any]) -> list[Any]:
    hints = get_type_hints(function)
    return [hints[name] for name in inspect.signature(function).parameters]


def _steps() -> Iterator[tuple[Step[Any, Any], list[str]]]:
    """Each step with the refusals that end it for good."""
    makers = [
        make
        for module in (order_steps, return_steps)
        for _, make in inspect.getmembers(module, inspect.isfunction)
        if make.__module__ == module.__name__ and not make.__name__.startswith("_")
    ]
    for make in makers:
        required = [
            name for name, parameter in inspect.signature(make).parameters.items() if parameter.default is parameter.empty
        ]
        hints = get_type_hints(make)
        known = {"card": SAMPLE_ORDER.payment_token}
        made = make(**{name: known.get(name, sample(hints[name])) for name in required})
        if isinstance(made, Undo):
            yield made.step, sorted(made.ends_on)
        elif isinstance(made, Step):
            yield made, []


def _step(step: Step[Any, Any], ends_on: list[str]) -> Json:
    definition = activity._Definition.must_from_callable(step.activity)  # noqa: SLF001
    preset = _preset(step.preset)
    return {"activity": definition.name, **preset, "final_refusals": sorted({*preset["final_refusals"], *ends_on})}


def _preset(preset: Preset) -> Json:
    backoff, gives_up = preset.backoff, preset.give_up_after
    longest = backoff.maximum_interval
    return {
        "give_up_after_s": gives_up / SECONDS if gives_up else None,
        "maximum_attempts": backoff.maximum_attempts or None,
        "maximum_interval_s": longest / SECONDS if longest else None,
        "final_refusals": sorted(backoff.non_retryable_error_types or ()),
    }


# ── Names that are derived ───────────────────────────────────────────────────────────────────────────────────────────────


def _start() -> Json:
    """How the order service starts the saga of an order."""
    options = start_options(SAMPLE_ORDER, "update")
    attributes = options["search_attributes"]
    return {
        "id": options["id"],
        "task_queue": options["task_queue"],
        "memo": options["memo"],
        "search_attributes": sorted(pair.key.name for pair in attributes.search_attributes),
    }


def _start_of_return() -> Json:
    """How it starts that of a return."""
    options = return_start_options(SAMPLE_RETURN)
    attributes = options["search_attributes"]
    return {
        "id": options["id"],
        "task_queue": options["task_queue"],
        "search_attributes": sorted(pair.key.name for pair in attributes.search_attributes),
    }


def _id_samples() -> Iterator[tuple[str, str]]:
    """What each function of contracts/ids.py makes of the same sample: whoever derives a name must derive the same one."""
    for name, function in inspect.getmembers(ids, inspect.isfunction):
        if function.__module__ == ids.__name__:
            known = {"workflow_id": SAMPLE_WORKFLOW_ID}
            hints = get_type_hints(function)
            arguments = {key: known.get(key, sample(hints[key])) for key in inspect.signature(function).parameters}
            yield name, str(function(**arguments))


SAMPLE_ID = UUID(int=1)
SAMPLE_WORKFLOW_ID = f"order-{SAMPLE_ID}"
SAMPLE_PRICE = Money(amount=Decimal("2.50"), currency="USD")
SAMPLE_ORDER = PlaceOrder(
    order_id=SAMPLE_ID,
    customer_id=UUID(int=2),
    lines=(OrderLine(product_id="sample", name="Sample", quantity=1, unit_price=SAMPLE_PRICE, weight_grams=100),),
    total=SAMPLE_PRICE,
    ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
    payment_token="tok_sample",  # noqa: S106 (a name of a test card)
    placed_at=datetime(2026, 1, 1, tzinfo=UTC),
)

SAMPLE_RETURN = ReturnRun(
    order_id=SAMPLE_ID,
    number=2,
    customer_id=UUID(int=2),
    kind=ReturnKind.RETURN,
    resolution=Resolution.REFUND,
    order_lines=(SAMPLE_ORDER.lines[0].model_copy(update={"line_id": 1}),),
    lines=(ReturnLine(line_id=1, product_id="sample", quantity=1, parcel=1, reason=ReturnReason.CHANGED_MIND),),
    ship_from=SAMPLE_ORDER.ship_to,
    warehouse_id="sample",
    currency=SAMPLE_PRICE.currency,
    terms=ReturnTerms(),
    requested_at=SAMPLE_ORDER.placed_at,
)


def sample(kind: Any) -> Any:
    """Something of this type that names and paths can be read off; a contract other than an order has no fields."""
    if kind is PlaceOrder:
        return SAMPLE_ORDER
    if kind is ReturnRun:
        return SAMPLE_RETURN
    if kind is GiveBack:
        return GiveBack(order_id=SAMPLE_ID, amount=SAMPLE_PRICE, key="sample", reason="sample")
    if kind is ReturnedUnits:
        return ReturnedUnits(line=SAMPLE_RETURN.lines[0], condition=Condition.GOOD)
    if get_origin(kind) is tuple:
        return (sample(get_args(kind)[0]),)
    if kind is UUID:
        return SAMPLE_ID
    if kind is Parcel:
        return Parcel(2, (ParcelLine(line_id=1, product_id="sample", quantity=1),), warehouse_id="sample")
    if kind is Money:
        return SAMPLE_PRICE
    if kind in (str, int, bool):
        return kind(2)
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return kind.model_construct()
    return None
