"""The codec: what it encrypts only its customer's key decrypts, for that order, unchanged."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from cli import secrets
from contracts.errors import ErrorCode, Refusal
from contracts.ids import order_workflow_id
from services.order.commands import accept_order
from services.order.model import CustomerKey
from temporal.client import data_converter, encrypting
from temporal.codec import ENCRYPTED, KEY, WORKFLOW, HistoryCodec
from temporal.keys import DataKeys, EnvironmentMasterKeys, KeyDestroyed, KeyUnknown, OwnDataKeys, WrongKey, name_of
from temporal.refusals import as_failure, as_refusal
from tests.services.order.conftest import new_order
from tests.temporal.conftest import MASTER, CountedKeys

CLEAR = Payload(metadata={"encoding": b"json/plain"}, data=b'"1 Market Street"')
ORDER, OTHER, CUSTOMER = order_workflow_id(UUID(int=1)), order_workflow_id(UUID(int=2)), UUID(int=3)


def of(workflow_id: str) -> WorkflowSerializationContext:
    return WorkflowSerializationContext(namespace="default", workflow_id=workflow_id)


def in_activity(workflow_id: str) -> ActivitySerializationContext:
    return ActivitySerializationContext(
        namespace="default",
        activity_id="1",
        activity_type=None,
        activity_task_queue=None,
        workflow_id=workflow_id,
        workflow_type="Order",
        is_local=True,
    )


@pytest.fixture
def codec(own: OwnDataKeys) -> HistoryCodec:
    """As the order service has it; the order belongs to CUSTOMER."""
    codec = HistoryCodec(own)
    codec.belongs_to(ORDER, CUSTOMER)
    return codec


async def encrypted(codec: HistoryCodec, workflow_id: str = ORDER) -> Payload:
    [payload] = await codec.with_context(of(workflow_id)).encode([CLEAR])
    return payload


async def test_what_is_encrypted_is_decrypted(codec: HistoryCodec) -> None:
    payload = await encrypted(codec)
    assert b"Market" not in payload.SerializeToString()
    assert dict(payload.metadata) == {"encoding": ENCRYPTED, KEY: name_of(CUSTOMER), WORKFLOW: ORDER.encode()}
    for reader in (codec.with_context(of(ORDER)), codec.with_context(in_activity(ORDER)), codec):
        assert await reader.decode([payload, payload]) == [CLEAR, CLEAR]
    assert (await encrypted(codec)).data != payload.data  # never twice under the same nonce


async def test_what_is_in_clear_is_read_as_it_is(codec: HistoryCodec) -> None:
    others = [CLEAR, Payload(metadata={"encoding": b"binary/zlib"}, data=b"?"), Payload()]
    assert await codec.with_context(of(ORDER)).decode(others) == others
    assert await codec.encode([]) == []


def changed(payload: Payload, change: Callable[[Payload], None]) -> Payload:
    copy = Payload()
    copy.CopyFrom(payload)
    change(copy)
    return copy


async def test_nothing_can_be_changed_or_moved(codec: HistoryCodec, own: OwnDataKeys) -> None:
    payload = await encrypted(codec)
    await own.to_write(name_of(UUID(int=4)))

    def data(copy: Payload) -> None:
        copy.data = copy.data[:-1] + bytes([copy.data[-1] ^ 1])

    def cut(copy: Payload) -> None:
        copy.data = copy.data[:5]

    def key(copy: Payload) -> None:
        copy.metadata[KEY] = name_of(UUID(int=4))

    def workflow(copy: Payload) -> None:
        copy.metadata[WORKFLOW] = OTHER.encode()

    def unbound(copy: Payload) -> None:
        del copy.metadata[WORKFLOW]

    def nameless(copy: Payload) -> None:
        del copy.metadata[KEY]

    for change in (data, cut, key, workflow, unbound):
        with pytest.raises(WrongKey):
            await codec.decode([changed(payload, change)])
    with pytest.raises(WrongKey, match=f"for {ORDER}, and found in {OTHER}"):
        await codec.with_context(of(OTHER)).decode([payload])
    with pytest.raises(KeyUnknown):
        await codec.decode([changed(payload, nameless)])


async def test_another_master_key_reads_nothing(codec: HistoryCodec, stored: CountedKeys) -> None:
    payload = await encrypted(codec)
    for other in ("key-1", "key-2"):
        stranger = HistoryCodec(DataKeys(stored, EnvironmentMasterKeys.parse(secrets.master_key(other))))
        with pytest.raises((WrongKey, KeyUnknown)):
            await stranger.decode([payload])


async def test_the_worker_learns_whose_a_workflow_is(codec: HistoryCodec, stored: CountedKeys) -> None:
    worker = HistoryCodec(DataKeys(stored, MASTER))
    assert await worker.with_context(of(ORDER)).decode([await encrypted(codec)]) == [CLEAR]
    answer = await encrypted(worker)
    assert answer.metadata[KEY] == name_of(CUSTOMER)
    assert await codec.with_context(of(ORDER)).decode([answer]) == [CLEAR]


async def test_what_belongs_to_nobody_is_the_shops(codec: HistoryCodec, own: OwnDataKeys) -> None:
    [loose] = await codec.encode([CLEAR])
    assert (loose.metadata[KEY], loose.metadata[WORKFLOW]) == (b"shop", b"")
    assert (await encrypted(codec, "sweeper")).metadata[KEY] == b"shop"
    # A tool's word, under the shop's key, does not make a customer's order the shop's.
    worker = HistoryCodec(own)
    for payload in (await encrypted(codec), await encrypted(HistoryCodec(own)), loose):
        assert await worker.with_context(of(ORDER)).decode([payload]) == [CLEAR]
    assert (await encrypted(worker)).metadata[KEY] == name_of(CUSTOMER)


async def test_in_clear_only_if_it_is_asked_for(codec: HistoryCodec, own: OwnDataKeys) -> None:
    payload = await encrypted(codec)
    clear = HistoryCodec(own, writes_in_clear=True)
    assert await clear.with_context(of(ORDER)).encode([CLEAR]) == [CLEAR]
    assert await clear.with_context(of(ORDER)).decode([payload, CLEAR]) == [CLEAR, CLEAR]


async def test_what_was_forgotten_is_told_as_such(codec: HistoryCodec, stored: CountedKeys, database: Database) -> None:
    payload = await encrypted(codec)
    await destroy(database, CUSTOMER)
    worker = HistoryCodec(DataKeys(stored, MASTER))
    with pytest.raises(KeyDestroyed) as gone:
        await worker.with_context(of(ORDER)).decode([payload])
    assert gone.value.non_retryable
    refusal = as_refusal(gone.value)
    assert refusal
    assert refusal.code == ErrorCode.CUSTOMER_FORGOTTEN


@transaction
async def destroy(work: UnitOfWork, customer_id: UUID) -> None:
    key = await work.get(CustomerKey, customer_id)
    assert key
    key.destroy()


# ── Failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def failed(converter: DataConverter, error: Exception) -> Failure:
    failure = Failure()
    await converter.encode_failure(error, failure)
    return failure


async def test_of_a_failure_the_type_is_readable_and_nothing_else(codec: HistoryCodec) -> None:
    converter = encrypting(codec).with_context(in_activity(ORDER))
    refusal = Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "1 Market Street is unknown.", extra={"street": "1 Market Street"})
    failure = await failed(converter, as_failure(refusal))
    assert b"Market" not in failure.SerializeToString()
    assert failure.application_failure_info.type == "address_undeliverable"
    assert failure.application_failure_info.non_retryable
    read = as_refusal(await converter.decode_failure(failure))
    assert read
    assert (read.code, read.detail, read.extra) == (refusal.code, refusal.detail, refusal.extra)


async def test_failures_from_before_are_read(codec: HistoryCodec) -> None:
    failure = await failed(data_converter, ApplicationError("no such street", {"street": "1 Market Street"}, type="address"))
    read = await encrypting(codec).with_context(in_activity(ORDER)).decode_failure(failure)
    assert isinstance(read, ApplicationError)
    assert (read.message, read.details) == ("no such street", ({"street": "1 Market Street"},))


def test_without_a_codec_it_is_the_plain_converter() -> None:
    assert encrypting(None) is data_converter


async def test_orders_that_have_their_key_already_ask_nothing(codec: HistoryCodec, stored: CountedKeys) -> None:
    await encrypted(codec)
    stored.asked.clear()
    for _ in range(10):
        await codec.with_context(of(ORDER)).decode([await encrypted(codec)])
    assert stored.asked == []


async def test_the_order_service_looks_up_whose_an_order_is(own: OwnDataKeys, database: Database) -> None:

    order = new_order(uuid4())
    await accept_order(database, order)
    payload = await encrypted(HistoryCodec(own), order_workflow_id(order.order_id))
    assert payload.metadata[KEY] == name_of(order.customer_id)
