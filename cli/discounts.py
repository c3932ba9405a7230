"""`commerce discounts …`: the discount codes of a shop, in the order service's database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.operators import DEFAULT_DATA, DONE, REFUSED, Data, at, columns, database_url, environment, fail

if TYPE_CHECKING:
    from chassis.database import Database
    from services.order.schemas import DiscountView

discounts_app = typer.Typer(no_args_is_help=True, help="Discount codes: what they take off, and how often they are used.")
PAGE = 200
_Code = Annotated[str, typer.Argument(help="The code, in capitals or not.")]


@discounts_app.command("list")
def list_all(data: Data = DEFAULT_DATA) -> None:
    """List all codes with their terms, and how many orders use them."""

    async def work(database: "Database") -> None:
        from services.order.queries import list_discounts

        rows, cursor, is_last = [], None, False
        while not is_last:
            page = await list_discounts(database, cursor, PAGE)
            rows += [(each.code, *_terms(each), f"{each.times_used}/{each.max_uses or '-'}") for each in page.items]
            cursor, is_last = page.next_cursor, page.next_cursor is None
        columns(("CODE", "TAKES OFF", "FROM", "UNTIL", "MINIMUM", "", "USES"), rows)

    _run(environment(data), work)


@discounts_app.command()
def put(
    code: _Code,
    terms: Annotated[str, typer.Argument(help='As the API takes them, e.g. \'{"kind": "percent", "percent": "10"}\'.')],
    data: Data = DEFAULT_DATA,
) -> None:
    """Add a code, or give it other terms: all of them, not only those that change."""

    async def work(database: "Database") -> None:
        from services.order.commands import put_discount
        from services.order.schemas import DiscountBody, DiscountView

        discount = await put_discount(database, _written(code), DiscountBody.model_validate_json(terms).terms)
        typer.echo(f"{discount.code}: {' '.join(filter(None, _terms(DiscountView.of(discount))))}")

    _run(environment(data), work)


@discounts_app.command()
def disable(code: _Code, data: Data = DEFAULT_DATA) -> None:
    """Accept no more orders with a code."""

    async def work(database: "Database") -> None:
        from services.order.commands import disable_discount

        discount = await disable_discount(database, _written(code))
        typer.echo(f"{discount.code} is disabled.")

    _run(environment(data), work)


def _terms(discount: "DiscountView") -> tuple[str, ...]:
    """In words, one for each column."""
    takes_off = f"{discount.percent} %" if discount.percent is not None else str(discount.amount or "the shipping")
    return (
        takes_off,
        at(discount.valid_from) if discount.valid_from else "",
        at(discount.valid_until) if discount.valid_until else "",
        str(discount.minimum or ""),
        "" if discount.enabled else "disabled",
    )


def _written(code: str) -> str:
    """As codes are kept. Raises ValidationError."""
    from pydantic import TypeAdapter

    from contracts.orders import DiscountCode

    return TypeAdapter[str](DiscountCode).validate_python(code)


def _run(env: Mapping[str, str], work: "Callable[[Database], Awaitable[None]]") -> NoReturn:
    from pydantic import ValidationError

    from cli.databases import opened
    from contracts.errors import Refusal

    async def main() -> None:
        async with opened(database_url(env, "order")) as database:
            await work(database)

    try:
        asyncio.run(main())
    except Refusal as refusal:
        fail(f"{refusal.code}: {refusal.detail}", REFUSED)
    except ValidationError as error:
        fail(
            "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ") for item in error.errors()), REFUSED
        )
    raise typer.Exit(DONE)
