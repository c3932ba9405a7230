"""The `commerce` command. Each subcommand lives in its own module and is imported when it is called, so that it starts fast."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="commerce", no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, help=__doc__)

DataDir = Annotated[Path, typer.Option("--data", help="Where the platform on this machine keeps everything.")]
DEFAULT_DATA = Path(".commerce")


@app.command()
def up(data: DataDir = DEFAULT_DATA) -> None:
    """Run the whole platform on this machine until Ctrl-C."""
    from cli.up import run_platform

    raise typer.Exit(asyncio.run(run_platform(data)))


@app.command()
def migrate() -> None:
    """Bring every service's database up to date."""
    from cli.migrate import migrate_all

    migrate_all()


if __name__ == "__main__":
    app()
