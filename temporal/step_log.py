"""Each attempt of a step is one line in the worker's log. Activities do not run in a replay, so it is told once."""

import asyncio
import time
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from chassis.logs import logger
from contracts.ids import order_id_of
from temporal.refusals import as_refusal

ABOUT = ("order_id", "step", "attempt", "durable", "duration_ms")
"""What each line says of the attempt."""
log = logger(__name__)


class StepLog(Interceptor):
    """Goes around what translates refusals, and within the trace."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Tell(next)


class _Tell(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        began = time.monotonic()
        try:
            result = await super().execute_activity(input)
        except ApplicationError as error:
            refusal = as_refusal(error)
            if refusal is not None:
                again = None if error.non_retryable else True
                log.info("step_refused", **_about(began), code=refusal.code, error=refusal.detail, tried_again=again)
            else:
                log.warning("step_failed", **_about(began), error_type=error.type, error=error.message)
            raise
        except asyncio.CancelledError:
            log.warning("step_interrupted", **_about(began))
            raise
        log.info("step_done", **_about(began))
        return result


def _about(began: float) -> dict[str, object]:
    info = activity.info()
    took_ms = (time.monotonic() - began) * 1000
    durable = None if info.is_local else True
    values = (order_id_of(info.workflow_id or ""), info.activity_type, info.attempt, durable, took_ms)
    return dict(zip(ABOUT, values, strict=True))
