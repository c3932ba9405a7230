"""The worker's side of an activity: the real activity with its real interceptor, and a call that the adversary answers."""

import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from temporalio import activity
from temporalio.activity import _ActivityCancellationDetailsHolder, _Context
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import _CompositeEvent
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.calls import Reply
from temporal.client import data_converter
from temporal.refusals import RefusalInterceptor

PAYLOADS = data_converter.payload_converter
FAILURES = data_converter.failure_converter


class _Asking:
    """What a call waits for: whoever drives the activity sends the answer into it, or throws."""

    def __init__(self, command: BaseModel) -> None:
        self.command = command

    def __await__(self) -> Generator["_Asking", Any, Any]:
        return (yield self)


class Wire:
    """`Calls` of all services."""

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Hand the command to whoever drives the activity."""
        answer = await _Asking(body)
        assert isinstance(answer, reply)
        return answer


class _Activity(ActivityInboundInterceptor):
    def __init__(self) -> None:
        """The innermost: nothing follows."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn(*input.args)


_CHAIN = RefusalInterceptor().intercept_activity(_Activity())
Finished = Callable[[Payload | Failure], None]


@dataclass
class Execution:
    """One attempt of an activity under way. `finished` gets its result, or its failure, once."""

    command: BaseModel
    finished: Finished
    _coroutine: Coroutine[Any, Any, Any]
    _context: _Context
    over: bool = False

    def answer(self, answer: BaseModel | Exception) -> None:
        """The call's answer has come. One that comes when nobody waits any more is dropped."""
        if self.over:
            return
        self.over = True
        before = _Context.set(self._context)
        try:
            if isinstance(answer, Exception):
                self._coroutine.throw(answer)
            else:
                self._coroutine.send(answer)
            raise NotImplementedError("an activity makes one call")
        except StopIteration as end:
            outcome: Payload | Failure = PAYLOADS.to_payload(end.value)
        except Exception as error:
            outcome = Failure()
            FAILURES.to_failure(error, PAYLOADS, outcome)
        finally:
            _Context.reset(before)
        self.finished(outcome)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if not self.over:
            self.over = True
            self._coroutine.close()


class Worker:
    """The activities of a worker."""

    def __init__(self, activities: Sequence[Callable[..., Any]]) -> None:
        definitions = [activity._Definition.must_from_callable(each) for each in activities]
        self._definitions = {definition.name: definition for definition in definitions}

    def execute(self, name: str, arguments: Sequence[Payload], info: activity.Info, finished: Finished) -> Execution:
        """Begin an attempt; it stands at its call."""
        definition = self._definitions[name]
        types: list[type] = list(definition.arg_types or [])
        input = ExecuteActivityInput(
            fn=definition.fn, args=PAYLOADS.from_payloads(list(arguments), types), executor=None, headers={}
        )
        coroutine = _CHAIN.execute_activity(input)
        asking = coroutine.send(None)
        assert isinstance(asking, _Asking)
        context = _Context(
            info=lambda: info,
            heartbeat=None,
            cancelled_event=_CompositeEvent(thread_event=threading.Event(), async_event=None),
            worker_shutdown_event=_CompositeEvent(thread_event=threading.Event(), async_event=None),
            shield_thread_cancel_exception=None,
            payload_converter_class_or_instance=PAYLOADS,
            runtime_metric_meter=None,
            client=None,
            cancellation_details=_ActivityCancellationDetailsHolder(),
        )
        return Execution(asking.command, finished, coroutine, context)
