"""The page and the model: the same results make the same page, and it says which targets are met."""

import json
from typing import Any

from benchmarks.figures import CPU_TABLE, SQL_TABLE, Measured, spread
from benchmarks.machine import machine
from benchmarks.model import Assumed, Cost, need
from benchmarks.page import cost_of, number, page, table
from benchmarks.parts import DEFAULT, NAMES, PARTS
from benchmarks.run import ON_ONE_PLATFORM, PAGE, RESULTS, kept

COST = Cost(
    cpu_ms={"worker": 20.0, "temporal": 30.0, "order": 12.0, "client": 3.0},
    commits={"order": 3.0, "payment": 2.0},
    statements=20.0,
    wal_bytes=20_000,
    kafka_records=7,
    kafka_bytes=5_000,
    state_transitions=20,
    history_bytes=6_000,
)


def results() -> dict[str, dict[str, Any]]:
    made = machine() | {"busy": "3 %"}
    throughput = Measured({"orders_to_regular": spread([0.9, 1.2, 1.1]), "cpu_to_local": spread([2.0, 2.1, 2.2])})
    throughput.table(CPU_TABLE, ("process", "median", "min", "max"), [["worker", 20.0, 19.0, 22.0]])
    cost = Measured(
        {
            "statements": spread([20.0]),
            "wal_bytes": spread([20_000.0]),
            "kafka_records": spread([7.0]),
            "kafka_bytes": spread([5_000.0]),
            "state_transitions": spread([20.0]),
            "history_bytes": spread([6_000.0]),
        },
        notes=["A note."],
    )
    cost.table(SQL_TABLE, ("database", "statements", "commits", "ms"), [["order", 9.0, 3.0, 1.0]])
    measured = {"throughput": throughput, "cost": cost}
    return {
        name: {"made": made, "figures": found.figures, "tables": found.tables, "notes": found.notes}
        for name, found in measured.items()
    }


def test_the_page_says_what_is_met() -> None:
    found = page(results())
    assert "| orders/s ÷ no-op workflows/s with four regular activities | 1.10 | 0.90 | 1.20 | ≥ 1 | yes |" in found
    assert "| 2.10 | 2.00 | 2.20 | ≤ 1.9 | **no** |" in found
    assert "A note." in found
    assert "## A model: what a cluster would need" in found
    assert found == page(json.loads(json.dumps(results())))


def test_a_page_of_one_part_alone() -> None:
    alone = {"throughput": results()["throughput"]}
    assert cost_of(alone) is None
    assert "A model" not in page(alone)


def test_every_part_is_run_somewhere() -> None:
    assert set(NAMES) == {*ON_ONE_PLATFORM, "start", "events", "growth"}
    assert set(DEFAULT) == set(NAMES) - {"growth", "sandbox"}
    assert all(part.how for part in PARTS)


def test_the_page_in_the_repository_is_that_of_its_results() -> None:
    assert PAGE.read_text() == page(kept(RESULTS))


def test_numbers_have_the_digits_that_say_something() -> None:
    assert [number(value) for value in (0.0, 0.934, 12.34, 123.4, 5012.7)] == ["0", "0.93", "12.3", "123", "5,013"]
    assert table(("a", "b"), [["x", 1.0]]) == "| a | b |\n|---|---:|\n| x | 1.00 |\n"


def test_ten_times_the_orders_need_ten_times_the_cores() -> None:
    small, large = need(COST, 100), need(COST, 1000)
    assert small.cores == {"worker": 4, "temporal": 5, "order": 2}
    assert large.cores["worker"] == 34
    assert "client" not in large.cores


def test_the_bottleneck_is_named() -> None:
    assert need(COST, 100).bottleneck.startswith("processor time: temporal")
    assert need(COST, 10_000, Assumed(transitions_per_node=100_000)).bottleneck.startswith("the databases of order and payment")
    assert need(COST, 10_000).bottleneck.startswith("Temporal's persistence")


def test_shards_are_a_power_of_two() -> None:
    for size in (1, 100, 1000, 10_000):
        shards = need(COST, size).shards
        assert shards >= 512
        assert shards & (shards - 1) == 0
    assert need(COST, 10_000).shards * Assumed().transitions_per_shard >= 20 * 10_000
