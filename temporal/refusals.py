"""A refusal crosses Temporal as a non-retryable ApplicationError whose type is its code; any other failure is retried."""

from typing import Any

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

_CODES: dict[str | None, ErrorCode] = {code.value: code for code in ErrorCode}


def as_failure(refusal: Refusal) -> ApplicationError:
    """The failure that stands for a refusal. Expected, therefore benign: no error log, no failure metric."""
    return ApplicationError(
        refusal.detail, refusal.extra, type=refusal.code, non_retryable=True, category=ApplicationErrorCategory.BENIGN
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
            raise as_failure(refusal) from None
        except ApplicationError:
            raise
        except Exception as fault:
            # Operators read this in the Web UI: the words, not a stack of HTTP internals. Logged by the SDK as a warning.
            raise ApplicationError(str(fault) or repr(fault), type=type(fault).__name__) from None
