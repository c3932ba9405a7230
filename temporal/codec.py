"""What is written into histories is encrypted: arguments, results, failures, memos, summaries. Names, types and ids stay
readable.

Each payload says under which key it was encrypted and for which workflow; both are authenticated, so that none can be moved into
another order. Payloads that are not encrypted are read as they are: histories from before have those.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Self
from uuid import UUID

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec, SerializationContext, WithSerializationContext

from contracts.ids import order_id_of
from temporal.keys import SHOP_NAME, DataKey, DataKeys, KeyDestroyed, WrongKey, name_of, opened, sealed

ENCRYPTED = b"binary/encrypted"
KEY, WORKFLOW = "key", "workflow"
"""Metadata of an encrypted payload: the name of its key, and the id of its workflow."""
WORKFLOWS_KNOWN = 20_000
"""Of so many workflows a process remembers whose they are: of more than it works on at a time."""


class Owners:
    """Which key each workflow's payloads are encrypted under, of the workflows that were met lately."""

    def __init__(self, at_most: int = WORKFLOWS_KNOWN) -> None:
        self._at_most = at_most
        self._names: OrderedDict[str, bytes] = OrderedDict()

    def get(self, workflow_id: str) -> bytes | None:
        name = self._names.get(workflow_id)
        if name is not None:
            self._names.move_to_end(workflow_id)
        return name

    def remember(self, workflow_id: str, name: bytes) -> None:
        self._names[workflow_id] = name
        self._names.move_to_end(workflow_id)
        if len(self._names) > self._at_most:
            self._names.popitem(last=False)


class HistoryCodec(PayloadCodec, WithSerializationContext):
    """Encrypts under the key of the customer whom a workflow belongs to; under the shop's, if that is not known.

    The worker learns it from what it decrypts: the start of a workflow comes first. The order service knows it.
    """

    def __init__(
        self, keys: DataKeys, *, writes_in_clear: bool = False, owners: Owners | None = None, workflow_id: str = ""
    ) -> None:
        """`writes_in_clear`: only read what was encrypted before. `workflow_id`: whose payloads these are; empty: not told."""
        self._keys = keys
        self._writes_in_clear = writes_in_clear
        self._owners = owners or Owners()
        self._workflow_id = workflow_id

    def belongs_to(self, workflow_id: str, customer_id: UUID) -> None:
        """What is written for this workflow is the customer's."""
        self._owners.remember(workflow_id, name_of(customer_id))

    def with_context(self, context: SerializationContext) -> Self:
        """The same codec, and what it remembers, for one workflow or one of its activities."""
        workflow_id = getattr(context, "workflow_id", None) or ""
        return type(self)(self._keys, writes_in_clear=self._writes_in_clear, owners=self._owners, workflow_id=workflow_id)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises WrongKey, Unavailable. What is still written for a customer who was forgotten nobody can read, like all that was
        written before: if an order is under way all the same, its end must not fail over it again and again."""
        if self._writes_in_clear or not payloads:
            return list(payloads)
        name = self._owners.get(self._workflow_id) or await self._owner()
        try:
            key = self._keys.at_hand(name) or await self._keys.to_write(name)
        except KeyDestroyed:
            key = DataKey.thrown_away()
        workflow = self._workflow_id.encode()
        return [_encrypted(payload, name, key, workflow) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises KeyDestroyed, KeyUnknown, WrongKey, Unavailable."""
        return [
            await self._decrypted(payload) if payload.metadata.get("encoding") == ENCRYPTED else payload for payload in payloads
        ]

    async def _decrypted(self, payload: Payload) -> Payload:
        name, workflow = payload.metadata.get(KEY, b""), payload.metadata.get(WORKFLOW, b"")
        if workflow and self._workflow_id and workflow != self._workflow_id.encode():
            raise WrongKey(f"it was encrypted for {workflow.decode(errors='replace')}, and found in {self._workflow_id}")
        key = self._keys.at_hand(name) or await self._keys.get(name)
        clear = Payload.FromString(opened(key.cipher, payload.data, _beside(name, workflow)))
        if workflow and name != SHOP_NAME and self._workflow_id:
            self._owners.remember(self._workflow_id, name)
        return clear

    async def _owner(self) -> bytes:
        """Whose a workflow is that was not met lately."""
        order_id = order_id_of(self._workflow_id)
        customer_id = await self._keys.customer_of(order_id) if order_id else None
        if customer_id is None:
            return SHOP_NAME
        self.belongs_to(self._workflow_id, customer_id)
        return name_of(customer_id)


def _encrypted(payload: Payload, name: bytes, key: DataKey, workflow: bytes) -> Payload:
    data = sealed(key.cipher, payload.SerializeToString(), _beside(name, workflow))
    return Payload(metadata={"encoding": ENCRYPTED, KEY: name, WORKFLOW: workflow}, data=data)


def _beside(name: bytes, workflow: bytes) -> bytes:
    """What is authenticated with a payload. Neither part has a zero in it."""
    return name + b"\0" + workflow
