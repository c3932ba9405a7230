"""What `commerce demo` refuses before it starts, places or removes anything. Needs no platform."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.demo.baskets import BadBaskets, choose
from cli.main import app
from cli.stocking import UNITS
from data.baskets import Basket, read_baskets, read_products, write_baskets
from data.catalogue import import_row
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.scenarios import GROUP, ORDINARY, PLACES, STORIES, TOO_HEAVY, rule_of, scenario_for


@pytest.fixture
def basket() -> Basket:
    return next(basket for basket in read_baskets() if len(basket.lines) > 1)


def refused(tmp_path: Path, *baskets: Basket) -> str:
    write_baskets(tmp_path / "baskets.csv", baskets)
    with pytest.raises(BadBaskets) as error:
        choose(tmp_path / "baskets.csv", 1000)
    return str(error.value)


def test_a_product_that_the_catalogue_lacks(tmp_path: Path, basket: Basket) -> None:
    message = refused(tmp_path, replace(basket, lines=(*basket.lines, ("moon-cheese", 1))))
    assert f"basket {basket.basket_id}: the catalogue has no product moon-cheese" in message


def test_more_lines_and_more_of_a_product_than_an_order_takes(tmp_path: Path, basket: Basket) -> None:
    many = tuple((product.product_id, 1) for product in read_products()[:101])
    assert "has 101 products; an order takes 100" in refused(tmp_path, replace(basket, lines=many))
    assert "wants 1001 of" in refused(tmp_path, replace(basket, lines=((many[0][0], 1001),)))


def test_more_than_the_stores_have(tmp_path: Path, basket: Basket) -> None:
    product = basket.lines[0][0]
    half = replace(basket, lines=((product, UNITS // 2 + 1),))
    message = refused(tmp_path, half, replace(half, basket_id="another"))
    assert f"together they want {UNITS + 2} of product {product} at store {basket.store_id}, which has {UNITS}" in message


def test_ids_that_are_none(tmp_path: Path, basket: Basket) -> None:
    assert "household_id 'the Smiths' is not an id" in refused(tmp_path, replace(basket, household_id="the Smiths"))


def test_an_empty_file(tmp_path: Path) -> None:
    assert "there is no basket in it" in refused(tmp_path)


def test_many_mistakes_are_counted_and_not_all_listed(tmp_path: Path, basket: Basket) -> None:
    wrong = [replace(basket, basket_id=f"b{number}", lines=(("moon-cheese", 1),)) for number in range(9)]
    assert refused(tmp_path, *wrong).endswith("… and 4 more")


def test_a_basket_that_no_carrier_takes_is_not_counted(tmp_path: Path, basket: Basket) -> None:
    heaviest = max(read_products(), key=lambda product: import_row(product)["weight_grams"])
    grams = import_row(heaviest)["weight_grams"]
    heavy = replace(basket, basket_id="heavy", lines=((heaviest.product_id, HEAVIEST_GRAMS // grams + 1),))
    light = [replace(basket, basket_id=f"b{number}") for number in (1, 2)]
    write_baskets(tmp_path / "baskets.csv", [light[0], heavy, light[1]])
    scenarios = [one.scenario for one in choose(tmp_path / "baskets.csv", 1000)]
    assert scenarios == [ORDINARY, TOO_HEAVY, STORIES[0]]


def test_the_rule_that_is_printed_is_the_one_that_is_followed() -> None:
    assert max(PLACES) <= GROUP
    for scenario in STORIES:
        numbers = [int(number) for number in rule_of(scenario).rstrip(" …").split(", ")]
        assert [scenario_for(number) for number in numbers] == [scenario] * 3


def test_the_command_fails_at_once_and_leaves_what_was_there(tmp_path: Path, basket: Basket) -> None:
    file, data = tmp_path / "baskets.csv", tmp_path / "data"
    data.mkdir()
    (data / "thesis.txt").write_text("years of work")
    write_baskets(file, [replace(basket, lines=(("moon-cheese", 1),))])

    wrong = CliRunner().invoke(app, ["demo", "--baskets", str(file), "--data", str(data)])
    assert (wrong.exit_code, "moon-cheese" in wrong.output) == (1, True)
    missing = CliRunner().invoke(app, ["demo", "--baskets", str(tmp_path / "none.csv"), "--data", str(data)])
    assert missing.exit_code == 1
    elsewhere = CliRunner().invoke(app, ["demo", "--data", str(data)])
    assert elsewhere.exit_code == 1
    assert "not removed" in " ".join(elsewhere.output.split())
    assert (data / "thesis.txt").read_text() == "years of work"
