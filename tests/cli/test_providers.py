"""`commerce providers check`: whoever has just put in a key sees whether it works, before the first customer does."""

import re

from embedded.ports import free_port
from tests.audit.conftest import Shop
from tests.cli.conftest import Command


def states(output: str) -> dict[str, str]:
    """What is said of each company."""
    return dict(re.split(r"\s{2,}", line.strip())[:2] for line in output.splitlines()[1:])


async def test_the_keys_of_all_companies_are_tried(shop: Shop, commerce: Command) -> None:
    result = await commerce(shop.env, "providers", "check")
    assert result.exit_code == 0, result.output
    assert states(result.stdout) == {
        "card processor": "works",
        "bank": "works",
        "carriers": "works",
        "mail server": "works",
        "text messages": "works",
        "web push": "off",
    }


async def test_a_key_that_a_company_does_not_take_is_told_and_not_shown(shop: Shop, commerce: Command) -> None:
    for name, company in (
        ("PAYMENT_PROVIDER_API_KEY", "card processor"),
        ("CARRIER_API_KEY", "carriers"),
        ("BANK_API_KEY", "bank"),
    ):
        result = await commerce(shop.env | {name: "sk_wrong_4711"}, "providers", "check")
        assert (result.exit_code, states(result.stdout)[company]) == (1, "refused"), result.output
        assert "4711" not in result.output


async def test_a_company_that_gives_no_answer_is_away(shop: Shop, commerce: Command) -> None:
    away = shop.env | {"CARRIER_URL": f"http://127.0.0.1:{free_port()}", "SMTP_PORT": str(free_port())}
    result = await commerce(away, "providers", "check")
    assert result.exit_code == 2
    found = states(result.stdout)
    assert (found["carriers"], found["mail server"], found["card processor"]) == ("away", "away", "works")
