"""`commerce discounts …` on a real database."""

from tests.cli.conftest import Command
from tests.conftest import Databases


async def test_codes_are_put_listed_and_disabled(databases: Databases, commerce: Command) -> None:
    env = {"DATABASE_URL_ORDER": (await databases.new("order")).replace("+asyncpg", "")}
    for code, terms, said in (
        ("spring", '{"kind": "percent", "percent": "12.5", "max_uses": 3}', "SPRING: 12.5 %\n"),
        ("FIVER", '{"kind": "amount", "amount": {"amount": "5"}, "minimum": {"amount": "50"}}', "FIVER: 5.00 USD 50.00 USD\n"),
        ("SENT", '{"kind": "free_shipping", "valid_until": "2030-01-01T00:00:00Z"}', "SENT: the shipping 2030-01-01 00:00:00\n"),
    ):
        put = await commerce(env, "discounts", "put", code, terms)
        assert (put.exit_code, put.stdout) == (0, said)
    disabled = await commerce(env, "discounts", "disable", "fiver")
    assert (disabled.exit_code, disabled.stdout) == (0, "FIVER is disabled.\n")
    listed = await commerce(env, "discounts", "list")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["FIVER", "5.00", "USD", "50.00", "USD", "disabled", "0/-"],
        ["SENT", "the", "shipping", "2030-01-01", "00:00:00", "0/-"],
        ["SPRING", "12.5", "%", "0/3"],
    ]


async def test_what_cannot_be_is_refused(databases: Databases, commerce: Command) -> None:
    env = {"DATABASE_URL_ORDER": (await databases.new("order")).replace("+asyncpg", "")}
    for words, why in (
        (("put", "A B", '{"kind": "free_shipping"}'), "String should match pattern"),
        (("put", "AB", '{"kind": "percent", "percent": "101"}'), "percent: "),
        (("put", "AB", '{"kind": "percent"}'), "a percentage, and nothing else, has percent"),
        (("disable", "NOWHERE"), "not_found: There is no such discount code."),
    ):
        refused = await commerce(env, "discounts", *words)
        assert refused.exit_code == 1
        assert why in refused.stderr
