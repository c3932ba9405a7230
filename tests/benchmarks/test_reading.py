"""What the benchmark reads off others: payloads of histories, the SDK's metrics, the tables that grow."""

import os
from importlib import import_module

import pytest
from temporalio.api.common.v1 import Payload, Payloads, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes

from benchmarks.cost import payloads_of, steps_in
from benchmarks.growth import GROWING, RETAINED, Column, copy_statement
from benchmarks.orders import cpu_s, spent_ms

METRICS = """
# TYPE temporal_local_activity_execution_latency_seconds histogram
temporal_local_activity_execution_latency_seconds_bucket{activity_type="ReserveInventory",le="0.05"} 3
temporal_local_activity_execution_latency_seconds_sum{activity_type="ReserveInventory",namespace="default"} 0.06
temporal_local_activity_execution_latency_seconds_count{activity_type="ReserveInventory",namespace="default"} 3
temporal_activity_execution_latency_seconds_sum{activity_type="RefundPayment"} 0.5
temporal_activity_execution_latency_seconds_count{activity_type="RefundPayment"} 1
"""


def test_payloads_are_found_wherever_they_are() -> None:
    event = HistoryEvent(
        workflow_execution_started_event_attributes=WorkflowExecutionStartedEventAttributes(
            input=Payloads(payloads=[Payload(data=b"12345")]),
            search_attributes=SearchAttributes(indexed_fields={"OrderStatus": Payload(data=b"123")}),
        )
    )
    found = {path.removeprefix("workflow_execution_started_event_attributes."): len(one.data) for path, one in payloads_of(event)}
    assert found == {"input.payloads": 5, "search_attributes.indexed_fields.OrderStatus": 3}


def test_steps_are_read_from_the_metrics() -> None:
    found = steps_in(METRICS)
    assert found["ReserveInventory", "local", "sum"] == pytest.approx(0.06)
    assert found["ReserveInventory", "local", "count"] == 3
    assert found["RefundPayment", "regular", "count"] == 1


@pytest.mark.parametrize("service", GROWING)
def test_the_tables_that_grow_are_there(service: str) -> None:
    tables = import_module(f"services.{service}.model").metadata.tables
    assert {*GROWING[service], *RETAINED[service]} <= tables.keys()


def test_a_copy_differs_where_it_must_and_belongs_together() -> None:
    columns = [
        Column("order_id", "uuid", False),
        Column("warehouse_id", "character varying", False),
        Column("reference", "character varying", True),
        Column("total_minor", "bigint", False),
        Column("placed_at", "timestamp with time zone", False),
    ]
    statement = copy_statement("orders", columns)
    assert 'md5("order_id"::text || copy)::uuid' in statement
    assert '\n       "warehouse_id",\n' in statement
    assert 'left(md5("reference" || copy), greatest(length("reference"), 16))' in statement
    assert '\n       "total_minor",\n' in statement
    assert "\"placed_at\" - copy * $2::float8 * interval '1 day'" in statement


def test_a_number_that_must_be_unique_is_refused() -> None:
    with pytest.raises(ValueError, match="no other value can be made for number"):
        copy_statement("invoices", [Column("number", "integer", True)])


def test_cpu_is_that_of_the_whole_process_and_never_falls() -> None:
    before = cpu_s(os.getpid())
    while cpu_s(os.getpid()) == before:
        sum(range(100_000))
    assert before > 0
    assert cpu_s(2**22 - 1) == 0.0


def test_what_was_spent_is_told_for_each_of_what_was_done() -> None:
    assert spent_ms({"worker": 1.0}, {"worker": 1.5, "worker-2": 0.1}, 10) == pytest.approx({"worker": 50.0, "worker-2": 10.0})
