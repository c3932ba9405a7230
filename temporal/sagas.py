"""What the order service asks of any saga, by the id of its workflow: a decision with a definite answer, a signal, a question."""

from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from temporalio.client import (
    Client,
    RPCError,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCStatusCode

from chassis.clients import Unavailable
from temporal.client import TemporalSettings, connect
from temporal.codec import HistoryCodec
from temporal.keys import KeyDestroyed
from temporal.refusals import as_refusal

RPC = timedelta(seconds=5)
QUERY = timedelta(seconds=2)
FAULTS = (RPCError, RuntimeError, KeyDestroyed)
"""What goes wrong before a saga could answer."""
Answer = TypeVar("Answer")


class Sagas:
    """Sagas of one kind. An async context manager, for symmetry with other resources; it holds one lazy client."""

    def __init__(self, settings: TemporalSettings, codec: HistoryCodec | None = None) -> None:
        """Without a codec: in clear."""
        self._settings, self._codec = settings, codec
        self._client: Client

    async def __aenter__(self) -> Self:
        self._client = await connect(self._settings, self._codec, lazy=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to close: the client's connection ends with it."""

    async def _update(
        self, workflow_id: str, name: str, argument: object, answer: type[Answer], update_id: str | None = None
    ) -> Answer | None:
        """Its answer; None if no saga runs. Raises its refusal. Fault: Unavailable (it may have been taken all the same)."""
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            told: Answer = await handle.execute_update(name, argument, id=update_id, result_type=answer, rpc_timeout=RPC)
        except WorkflowUpdateFailedError as error:
            raise as_refusal(error.cause) or Unavailable(str(error.cause)) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise Unavailable("no worker has taken the decision yet; ask again") from error
        except FAULTS as error:
            if is_gone(error):
                return None
            raise fault_of(error) from error
        return told

    async def _signal(self, workflow_id: str, name: str, argument: object) -> bool:
        """False if no saga runs. Fault: Unavailable."""
        try:
            await self._client.get_workflow_handle(workflow_id).signal(name, argument, rpc_timeout=RPC)
        except FAULTS as error:
            if is_gone(error):
                return False
            raise fault_of(error) from error
        return True

    async def _query(self, workflow_id: str, name: str, kind: type[Answer]) -> Answer | None:
        """None if there is no such saga. Fault: Unavailable (no worker answers)."""
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            answer: Answer = await handle.query(name, result_type=kind, rpc_timeout=QUERY)
        except FAULTS as error:
            if is_gone(error):
                return None
            raise fault_of(error) from error
        except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise Unavailable(f"the saga cannot be asked: {error}") from error
        return answer

    async def _runs(self, workflow_id: str) -> bool:
        """Whether a saga is at work, or may still have to write its end down. Fault: Unavailable."""
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC)
        except (RPCError, RuntimeError) as error:
            if is_gone(error):
                return False
            raise fault_of(error) from error
        return found.status == WorkflowExecutionStatus.RUNNING


def is_gone(error: Exception) -> bool:
    """Whether no saga runs. That of a customer who was forgotten has ended: a key is destroyed after that only."""
    return isinstance(error, KeyDestroyed) or (isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND)


def fault_of(error: Exception) -> Unavailable:
    """A lazy client that cannot connect raises RuntimeError."""
    return Unavailable(f"Temporal: {error.status.name if isinstance(error, RPCError) else error}")
