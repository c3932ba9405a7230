"""What Envoy refuses itself, as the problem details that a service would give."""

from chassis.problems import MEDIA_TYPE, status_of
from contracts.errors import ErrorCode
from gateway.envoy.parts import SET, Json, headers

SECURITY = {
    # An answer of the API is data: a browser that is led to it must not run, frame or guess at it.
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
TRACE_HEADER, TRACE_ID = "x-trace-id", "commerce.trace_id"
"""Where Envoy keeps the trace id of a request (filters.py)."""
NO_STORE = {"cache-control": "no-store"}
_UNSURE = "What was asked may or may not have been done: repeat it with the same Idempotency-Key."
_REPLIES: dict[int, tuple[ErrorCode, str]] = {
    400: (ErrorCode.MALFORMED_REQUEST, "The request is not in the plain form that HTTP asks for."),
    401: (ErrorCode.UNAUTHENTICATED, "Send a valid access token: Authorization: Bearer …"),
    403: (ErrorCode.FORBIDDEN, "This is not for your role."),
    404: (ErrorCode.NOT_FOUND, "There is no such thing here."),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "This path does not know this method; the Allow header names those that it knows."),
    408: (ErrorCode.REQUEST_TIMEOUT, "The request did not come in whole in time."),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "The body is larger than this path takes."),
    426: (ErrorCode.MALFORMED_REQUEST, "HTTP/1.1 or later, please."),
    429: (ErrorCode.RATE_LIMITED, "Too many requests; see the Retry-After header."),
    431: (ErrorCode.HEADERS_TOO_LARGE, "The request has too many or too large headers."),
    501: (ErrorCode.MALFORMED_REQUEST, "The only transfer coding is chunked."),
    502: (ErrorCode.SERVICE_UNAVAILABLE, f"The service broke off. {_UNSURE}"),
    503: (ErrorCode.SERVICE_UNAVAILABLE, f"The service cannot be reached now. {_UNSURE}"),
    504: (ErrorCode.UPSTREAM_TIMEOUT, f"The service took too long. {_UNSURE}"),
}


def local_replies() -> Json:
    """`local_reply_config` of the connection manager."""
    return {
        "mappers": [_mapper(status, code, detail) for status, (code, detail) in _REPLIES.items()],
        "body_format": _problem(ErrorCode.INTERNAL_ERROR, "Something went wrong on our side.", "%RESPONSE_CODE%"),
    }


def _mapper(status: int, code: ErrorCode, detail: str) -> Json:
    told = int(status_of(code))
    own = {"www-authenticate": "Bearer"} if status == 401 else {}
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": f"reply.{status}"}}
            }
        },
        "status_code": told,
        "body_format_override": _problem(code, detail, told),
        "headers_to_add": headers({**SECURITY, **NO_STORE, **own}, SET),
    }


def _problem(code: ErrorCode, detail: str, status: int | str) -> Json:
    return {
        "json_format": {
            "type": f"https://distributed-commerce.example/errors/{code}",
            "title": code.replace("_", " ").capitalize(),
            "status": status,
            "code": code,
            "detail": detail,
            "instance": "%REQ_WITHOUT_QUERY(:PATH)%",
            "trace_id": f"%FILTER_STATE({TRACE_ID}:PLAIN)%",
        },
        "omit_empty_values": True,
        "content_type": MEDIA_TYPE,
        "formatters": [
            {
                "name": "envoy.formatter.req_without_query",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"},
            }
        ],
    }
