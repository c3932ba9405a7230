"""Errors leave a service as problem details (RFC 9457): a stable code, the field where there is one, the trace id."""

from http import HTTPStatus
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from chassis.clients import Unavailable
from chassis.database import is_passing, sqlstate
from chassis.logs import logger
from chassis.telemetry import trace_id
from contracts.errors import ABOUT_THE_CALL, REFUSAL_HEADER, ErrorCode, FieldError, Problem, Refusal

MEDIA_TYPE = "application/problem+json"
_CONFLICT = HTTPStatus.CONFLICT
_E = ErrorCode
STATUS: dict[ErrorCode, HTTPStatus] = {
    _E.VALIDATION_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    _E.IDEMPOTENCY_KEY_MISSING: HTTPStatus.BAD_REQUEST,
    _E.IDEMPOTENCY_KEY_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.PAYLOAD_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    _E.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    _E.INVALID_CURSOR: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.REQUEST_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    _E.HEADERS_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    _E.NOT_FOUND: HTTPStatus.NOT_FOUND,
    _E.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    _E.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    _E.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    _E.INVALID_CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    _E.REFRESH_TOKEN_REUSED: HTTPStatus.UNAUTHORIZED,
    _E.INVALID_SIGNATURE: HTTPStatus.UNAUTHORIZED,
    _E.FORBIDDEN: HTTPStatus.FORBIDDEN,
    _E.LINK_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.ACCOUNT_DISABLED: HTTPStatus.FORBIDDEN,
    _E.OWN_ORDER: HTTPStatus.FORBIDDEN,
    _E.PRODUCT_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.CATEGORY_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.WAREHOUSE_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.ADDRESS_UNDELIVERABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.PARCEL_TOO_HEAVY: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.PAYMENT_DECLINED: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.PAYMENT_NOT_CONFIRMED: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.TEMPLATE_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.DISCOUNT_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    _E.ORDER_UNKNOWN: HTTPStatus.NOT_FOUND,
    _E.CUSTOMER_FORGOTTEN: HTTPStatus.GONE,
    _E.STALE_VERSION: HTTPStatus.PRECONDITION_FAILED,
    _E.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    _E.SERVICE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    _E.UPSTREAM_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    _E.CLOCK_FAULT: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The HTTP status of each code; 409 for those not listed: the request was understood and the state forbids it."""

_HTTP_CODES = {
    400: _E.MALFORMED_REQUEST,
    401: _E.UNAUTHENTICATED,
    403: _E.FORBIDDEN,
    404: _E.NOT_FOUND,
    405: _E.METHOD_NOT_ALLOWED,
    413: _E.PAYLOAD_TOO_LARGE,
    415: _E.UNSUPPORTED_MEDIA_TYPE,
    429: _E.RATE_LIMITED,
    503: _E.SERVICE_UNAVAILABLE,
    504: _E.UPSTREAM_TIMEOUT,
}

_OF_TWO_AT_ONCE = frozenset({"23503", "23505"})
"""PostgreSQL's codes for a row that refers to one just deleted, or that somebody else has just added."""


def status_of(code: ErrorCode) -> HTTPStatus:
    """The HTTP status that a refusal with this code gets."""
    return STATUS.get(code, _CONFLICT)


def problem_response(
    code: ErrorCode,
    detail: str | None,
    *,
    status: int | None = None,
    instance: str | None = None,
    errors: list[FieldError] | None = None,
    extra: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem details response."""
    status = status or status_of(code)
    problem = Problem(
        type=f"https://distributed-commerce.example/errors/{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        code=code,
        detail=detail,
        instance=instance,
        errors=errors,
        trace_id=trace_id(),
    )
    body = {**(extra or {}), **problem.model_dump(mode="json", exclude_none=True)}
    return JSONResponse(body, status, media_type=MEDIA_TYPE, headers=headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Turn every exception of an app into problem details. Never echoes input, never shows the text of an unexpected error."""
    log = logger("problems")

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        log.info("refused", code=error.code, path=request.url.path, method=request.method)
        headers = {"WWW-Authenticate": "Bearer"} if status_of(error.code) == HTTPStatus.UNAUTHORIZED else {}
        if "retry_after" in error.extra:
            headers["Retry-After"] = str(error.extra["retry_after"])
        if _is_internal(request) and error.code not in ABOUT_THE_CALL:
            headers[REFUSAL_HEADER] = error.code
        return problem_response(error.code, error.detail, instance=request.url.path, extra=error.extra, headers=headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        if any(problem["type"] == "json_invalid" for problem in error.errors()):
            return problem_response(_E.MALFORMED_REQUEST, "The body is not valid JSON.", instance=request.url.path)
        errors = [
            FieldError(field=".".join(map(str, _path(item["loc"]))), code=item["type"], detail=item["msg"])
            for item in error.errors()
        ]
        return problem_response(
            _E.VALIDATION_FAILED, "Some fields are not as they must be.", instance=request.url.path, errors=errors
        )

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _HTTP_CODES.get(error.status_code, _E.CONFLICT)
        headers = dict(error.headers) if error.headers else None
        return problem_response(code, error.detail, status=error.status_code, instance=request.url.path, headers=headers)

    async def database(request: Request, error: Exception) -> JSONResponse:
        if is_passing(error):
            log.warning("database_unavailable", path=request.url.path, error=type(error).__name__)
            return problem_response(
                _E.SERVICE_UNAVAILABLE, "Try again in a moment.", instance=request.url.path, headers={"Retry-After": "1"}
            )
        # Our own processes repeat a fault, and a refusal never.
        if not _is_internal(request) and sqlstate(error) in _OF_TWO_AT_ONCE:
            log.warning("database_conflict", path=request.url.path, exc_info=error)
            return problem_response(
                _E.CONFLICT, "Somebody else changed what this refers to; read it again and retry.", instance=request.url.path
            )
        return await unexpected(request, error)

    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("dependency_unavailable", path=request.url.path, error=str(error))
        # Operators read the cause in the saga; a client of the shop learns nothing of what stands behind it.
        detail = str(error) if _is_internal(request) else "Try again in a moment."
        return problem_response(_E.SERVICE_UNAVAILABLE, detail, instance=request.url.path, headers={"Retry-After": "1"})

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected_error", path=request.url.path, method=request.method, exc_info=error)
        return problem_response(_E.INTERNAL_ERROR, "Something went wrong on our side.", instance=request.url.path)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Unavailable, unavailable)
    for kind in (DBAPIError, InterfaceError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        app.add_exception_handler(kind, database)
    app.add_exception_handler(Exception, unexpected)


def _is_internal(request: Request) -> bool:
    """Whether one of the platform's own processes asks, e.g. a saga."""
    return request.url.path.startswith("/internal/")


def _path(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A field's path without the leading "body" that FastAPI adds."""
    return location[1:] if location and location[0] in ("body", "query", "path", "header") and len(location) > 1 else location
