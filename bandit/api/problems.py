"""Problems on the wire: RFC 9457 problem details, and the one table from codes to statuses."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from bandit.errors import Code, Fault, Problem

STATUS: dict[Code, int] = {
    Code.MALFORMED: 400,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.EXPERIMENT_NOT_FOUND: 404,
    Code.ARM_NOT_FOUND: 404,
    Code.DECISION_NOT_FOUND: 404,
    Code.DECISION_ID_REUSED: 409,
    Code.FEATURES_CHANGED: 409,
    Code.PAUSED: 409,
    Code.PRECONDITION_FAILED: 412,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.INVALID_EXPERIMENT: 422,
    Code.INVALID_CONTEXT: 422,
    Code.INVALID_REQUEST: 422,
    Code.UNKNOWN_EVENT: 422,
    Code.REWARD_OUT_OF_RANGE: 422,
    Code.TOO_MANY_EVENTS: 422,
    Code.UNKNOWN_ARM: 422,
    Code.NOT_ENOUGH_ARMS: 422,
    Code.STORE_UNAVAILABLE: 503,
    Code.OVERLOADED: 503,
    Code.NOT_READY: 503,
}
RETRY_AFTER = 1  # seconds


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem as the wire shows it."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[Fault, ...] = ()


def details(problem: Problem) -> dict[str, Any]:
    """A problem as the wire shows it; a place is a JSON pointer, what came is a type or a length, never a value."""
    shown: dict[str, Any] = {
        "type": f"https://bandit-server.example/problems/{problem.code}",
        "title": problem.code.replace("_", " "),
        "status": STATUS[problem.code],
        "code": str(problem.code),
        "detail": problem.detail,
    }
    if problem.faults:
        shown["errors"] = [fault._asdict() for fault in problem.faults]
    return shown


def problem_response(problem: Problem) -> Response:
    """The response to a request that had a problem."""
    status = STATUS[problem.code]
    headers = {"Retry-After": str(RETRY_AFTER)} if status in (429, 503) else {}
    # a name echoed may hold a lone surrogate, which UTF-8 has not: it is shown escaped
    body = msgspec.json.encode(_printable(details(problem)))
    return Response(body, status, headers, media_type="application/problem+json")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list) else value
