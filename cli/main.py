"""The `commerce` command. Each subcommand lives in its own module and is imported when it is called, so that it starts fast."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.discounts import discounts_app
from cli.events import events_app
from cli.keys import keys_app
from cli.operators import DEFAULT_DATA
from cli.orders import orders_app
from cli.providers import providers_app
from cli.release import release_app
from cli.returns import returns_app
from cli.undo import undo_app

app = typer.Typer(name="commerce", no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, help=__doc__)

histories = typer.Typer(no_args_is_help=True, help="Recorded histories of the order saga.")
app.add_typer(histories, name="histories")
app.add_typer(discounts_app, name="discounts")
app.add_typer(events_app, name="events")
app.add_typer(keys_app, name="keys")
app.add_typer(orders_app, name="orders")
app.add_typer(providers_app, name="providers")
app.add_typer(returns_app, name="returns")
app.add_typer(release_app, name="release")
app.add_typer(undo_app, name="undo")

DataDir = Annotated[Path, typer.Option("--data", help="Where the platform on this machine keeps everything.")]
DEFAULT_DEMO_DATA = Path(".commerce-demo")


@app.command()
def up(data: DataDir = DEFAULT_DATA) -> None:
    """Run the whole platform on this machine until Ctrl-C."""
    from cli.up import run_platform

    raise typer.Exit(asyncio.run(run_platform(data)))


@app.command()
def demo(
    baskets: Annotated[Path | None, typer.Option(help="A CSV file of baskets, in the columns of ours.")] = None,
    data: DataDir = DEFAULT_DEMO_DATA,
    orders: Annotated[int, typer.Option(min=1, help="How many of the baskets are played.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Go on with an earlier demo's data instead of removing them.")] = False,
) -> None:
    """Play real baskets through the whole platform, with every trouble that an order can meet, and check its books."""
    from cli.demo.run import run_demo

    raise typer.Exit(asyncio.run(run_demo(baskets, data, orders, keep)))


@app.command()
def audit(
    wait: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait until things are quiet.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Compare money, stock, parcels, events and workflows across all services and both outside ledgers."""
    from audit import audit_command

    audit_command(wait=wait, as_json=as_json, data=data)


@app.command()
def cancel(
    order: Annotated[UUID, typer.Argument(help="The order's id.")],
    reason: Annotated[
        str, typer.Option(help="Why, for those who come after. The same units for the same reason are cancelled once.")
    ],
    by: Annotated[str, typer.Option(help="Your name.")],
    line: Annotated[
        list[str] | None,
        typer.Option(help="Only so many units of a line, as LINE:UNITS, e.g. 2:3; may be repeated. None: all of the order."),
    ] = None,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Cancel an order, or some units of it, as far as it has not left; what was taken for it goes back."""
    from cli.cancel import cancel_order

    cancel_order(order, line or (), reason=reason, by=by, data=data)


@app.command()
def amend(
    order: Annotated[UUID, typer.Argument(help="The order's id.")],
    by: Annotated[str, typer.Option(help="Your name.")],
    line: Annotated[
        list[str] | None,
        typer.Option(help="How many units a line has from now on, as LINE:UNITS, e.g. 2:3; 0: it goes. May be repeated."),
    ] = None,
    add: Annotated[list[str] | None, typer.Option(help="A new line, as PRODUCT:UNITS. May be repeated.")] = None,
    speed: Annotated[str | None, typer.Option(help="How fast it travels: standard or express.")] = None,
    ship_to: Annotated[str | None, typer.Option(help="Another address: all of it, as JSON.")] = None,
    card: Annotated[str | None, typer.Option(help="Token of the card that pays a difference; else the one that paid.")] = None,
    makes_it: Annotated[bool, typer.Option("--apply", help="Make it; else only what it would come to is told.")] = False,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Amend an order before anything of it has left: all of it, or nothing. Without --apply: tell what that would come to."""
    from cli.amend import amend_order

    amend_order(
        order,
        lines=line or (),
        add=add or (),
        speed=speed,
        ship_to=ship_to,
        card=card,
        by=by,
        makes_it=makes_it,
        data=data,
    )


@app.command()
def explain(
    order: Annotated[UUID, typer.Argument(help="The order's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, as the API gives it to staff.")] = False,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Say where an order is and why: what each part waits for, until when and what then, and who may act with which call."""
    from cli.explain import explain_order
    from cli.operators import environment

    explain_order(environment(data), order, as_json=as_json)


@app.command()
def logs(
    order: Annotated[UUID, typer.Argument(help="The order's id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are.")] = False,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Show what all processes on this machine have logged of one order: time (UTC), process, what, details."""
    from cli.logs import show_logs

    raise typer.Exit(show_logs(data, order, follow=follow, as_json=as_json))


@histories.command()
def record(
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("tests/replay/histories"),
    only: Annotated[list[str] | None, typer.Option(help="Only this branch; may be repeated.")] = None,
) -> None:
    """Play every branch of the saga on a platform of its own, and keep the histories for the replay tests."""
    from cli.histories import record_histories

    raise typer.Exit(record_histories(out, only or ()))


@app.command()
def migrate() -> None:
    """Bring every service's database up to date."""
    from cli.migrate import migrate_all

    migrate_all()


@app.command()
def migrated(service: Annotated[str, typer.Argument(help="One of the services, e.g. order.")]) -> None:
    """Wait until a service's database is up to date; a new version must not serve on old tables."""
    from cli.migrate import wait_until_migrated

    wait_until_migrated(service)


@app.command()
def stock() -> None:
    """Load the catalogue and stock into the platform that the environment names (GATEWAY_URL, ADMIN_EMAIL, ADMIN_PASSWORD)."""
    from rich.console import Console

    from cli.stocking import stock_platform

    asyncio.run(stock_platform(os.environ, Console()))


@app.command()
def secrets(
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Secret objects for kubectl, instead of an env file.")] = False,
) -> None:
    """Print fresh logins and keys for a platform that runs in Docker Compose or Kubernetes."""
    from cli import secrets as maker

    typer.echo(maker.kubernetes(maker.fresh()) if kubernetes else maker.env_file(maker.fresh()), nl=kubernetes)


@app.command()
def token(
    email: Annotated[str | None, typer.Option(help="Of whom; the password is asked for. Else the first administrator.")] = None,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Print an access token, good for five minutes: `temporal … --codec-auth "Bearer $(commerce token)"`."""
    from cli.operators import UNREACHABLE, environment, fail
    from cli.token import access_token

    env = environment(data)
    if email is None and not {"ADMIN_EMAIL", "ADMIN_PASSWORD"} <= env.keys():
        fail("Say of whom: --email", UNREACHABLE)
    password = env["ADMIN_PASSWORD"] if email is None else typer.prompt("Password", hide_input=True, err=True)
    typer.echo(access_token(env, email or env["ADMIN_EMAIL"], password))


@app.command()
def access() -> None:
    """Print who may do what, as docs/access.md has it."""
    from cli.access import page

    typer.echo(page(), nl=False)


@app.command()
def notifications() -> None:
    """Print which event tells whom what, and by which channels, as docs/notifications.md has it."""
    from cli.notifications import tables

    typer.echo(tables(), nl=False)


def main() -> None:
    """The command itself."""
    try:
        app(prog_name="commerce")
    except SystemExit as done:
        # Threads of Temporal's client abort a process whose interpreter is being taken down (temporalio/sdk-python, issue 300).
        if "temporalio.bridge" in sys.modules and (done.code is None or isinstance(done.code, int)):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(done.code or 0)
        raise


if __name__ == "__main__":
    main()
