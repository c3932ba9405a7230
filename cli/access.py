"""`commerce access`: the services' access tables as a page for people, `docs/access.md`."""

from collections.abc import Iterator
from importlib import import_module

from chassis.access import AccessTable, GuardedRoute, Open
from contracts.identity import Role
from contracts.platform import SERVICE_NAMES

_OPEN = {Open.PUBLIC: "yes", Open.PROOF: "with a proof"}
_TEXT = """\
# Who may do what

Made by `commerce access` from the tables in `services/<name>/access.py`, which are what holds; a test compares. Every operation
has a row in its service's table, or the service does not start. A token with several roles may do what any of them may.

- **without a token**: everybody may; *with a proof*: the request itself proves who sends it, by a password, a link, a signature.
- **own**: what is about the caller, such as one's own orders.
- **warehouses**: what is at the warehouses that an admin gave the user beside the role; at all of them if none were given.
- **all**: whatever it is about.
- An empty field: the answer is 403. What is out of reach is left out of lists, and otherwise answered with 404.
- **service** is for the platform's own processes: no person has it, and the front door lets no such token in.
"""


def page() -> str:
    """The page, in Markdown."""
    return _TEXT + "".join(f"\n## {service}\n\n{''.join(_table(service))}" for service in SERVICE_NAMES)


def _table(service: str) -> Iterator[str]:
    import_module(f"services.{service}.app")  # its endpoints give the table its operations
    access: AccessTable = import_module(f"services.{service}.access").ACCESS
    yield f"| operation | without a token | {' | '.join(Role)} |\n"
    yield "|---|---|" + "---|" * len(Role) + "\n"
    for route in access.routes:
        yield f"| {_operation(route)} | {' | '.join(_cells(route))} |\n"


def _operation(route: GuardedRoute) -> str:
    return f"{route.summary}: `{' '.join(sorted(route.methods or ()))} {route.path_format}`"


def _cells(route: GuardedRoute) -> list[str]:
    if isinstance(route.rule, Open):
        return [_OPEN[route.rule], *["" for _ in Role]]
    return ["", *[route.rule.get(role, "") for role in Role]]
