"""A refusal crosses Temporal as an ApplicationError whose type is its code.

It is final, except for a step that has to succeed (one without a deadline): there Temporal tries again after a while, unless the
step's retry policy names the code. Any other failure is a fault, and always retried.
"""

from typing import Any

from temporalio import activity
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    FailureError,
    is_cancelled_exception,
)
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from contracts.errors import ErrorCode, Refusal
from temporal.retries import REFUSED_AGAIN_AFTER

_CODES: dict[str | None, ErrorCode] = {code.value: code for code in ErrorCode}


def as_failure(refusal: Refusal, *, final: bool = True) -> ApplicationError:
    """The failure that stands for a refusal. Expected, therefore benign: no error log, no failure metric."""
    return ApplicationError(
        refusal.detail,
        refusal.extra,
        type=refusal.code,
        non_retryable=final,
        next_retry_delay=None if final else REFUSED_AGAIN_AFTER,
        category=ApplicationErrorCategory.BENIGN,
    )


def as_refusal(error: BaseException | None) -> Refusal | None:
    """The refusal behind a failure, or None if it was no refusal.

    A local activity raises the ApplicationError itself, a regular one an ActivityError around it.
    """
    if isinstance(error, ActivityError):
        error = error.cause
    if not isinstance(error, ApplicationError) or error.type not in _CODES:
        return None
    extra = error.details[0] if error.details and isinstance(error.details[0], dict) else {}
    return Refusal(_CODES[error.type], error.message, extra=extra)


def reason_of(error: BaseException) -> Refusal:
    """Why an order stopped, whatever stopped it: its refusal, a cancel, or a fault that outlasted all its retries."""
    if refusal := as_refusal(error):
        return refusal
    if is_cancelled_exception(error):
        return Refusal(ErrorCode.CANCELLED_BY_REQUEST, "The order was cancelled.")
    return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "A part of the platform did not answer for too long; the order was not placed.")


def words_of(error: BaseException) -> str:
    """What went wrong at the bottom of a failure, for operators."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error.message if isinstance(error, FailureError) else str(error)


class RefusalInterceptor(Interceptor):
    """Translates what activities raise, once for all of them."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Translate(next)


class _Translate(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except Refusal as refusal:
            raise as_failure(refusal, final=_refusals_are_final()) from None
        except ApplicationError:
            raise
        except Exception as fault:
            # Operators read this in the Web UI: the words, not a stack of HTTP internals. Logged by the SDK as a warning.
            raise ApplicationError(str(fault) or repr(fault), type=type(fault).__name__) from None


def _refusals_are_final() -> bool:
    """Of a step that may be given up. A local activity is only a first try; the durable one after it decides."""
    step = activity.info()
    return step.is_local or bool(step.schedule_to_close_timeout)
