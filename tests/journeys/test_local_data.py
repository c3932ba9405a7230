"""What a platform on a laptop leaves on its disk."""

import os
import stat
from uuid import UUID

from contracts.ids import order_workflow_id
from contracts.orders import PlaceOrder
from temporal.client import TemporalSettings, connect
from testing.scenarios import just_order
from testing.stage import Stage


async def test_g10_nobody_else_reads_the_data_of_a_running_platform(stage: Stage) -> None:
    await stage.placed()  # so that every service and every outside company has written something
    data = stage.platform.data_dir
    files = {path: path.lstat() for path in (data, *data.rglob("*")) if path.exists()}

    seen = {path.relative_to(data).parts[0] for path in files if path != data}
    assert {"env.json", "secrets.json", "lock", "ports.json", "logs", "postgres", "valkey", "temporal", "simulators"} <= seen
    readable = {str(path.relative_to(data)): oct(status.st_mode) for path, status in files.items() if status.st_mode & 0o066}
    assert readable == {}
    passable = {path for path, status in files.items() if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o011}
    assert passable <= ({data, data / "postgres"} if os.geteuid() == 0 else set())  # there PostgreSQL is another user
    assert not [path for path, status in files.items() if stat.S_ISREG(status.st_mode) and status.st_mode & 0o011]


async def test_g10_only_who_has_the_keys_reads_histories(stage: Stage) -> None:
    purchase = stage.next_purchase()
    placed = (await just_order(stage.shop, purchase)).placed
    workflow_id = order_workflow_id(UUID(placed.order_id))
    stranger = await connect(TemporalSettings(temporal_address=stage.platform.env["TEMPORAL_ADDRESS"]))
    history = await stranger.get_workflow_handle(workflow_id).fetch_history()
    address = purchase.body["ship_to"]
    personal = (address["name"], address["line1"], purchase.body["payment_token"])
    kept = b"".join(event.SerializeToString() for event in history.events)
    assert [words for words in personal if words.encode() in kept] == []
    start = history.events[0].workflow_execution_started_event_attributes.input
    [order] = await stage.temporal.data_converter.decode(start.payloads, [PlaceOrder])
    assert (order.ship_to.line1, order.payment_token) == (address["line1"], purchase.body["payment_token"])
