"""Problems on the wire: RFC 9457 problem details, and the one table from codes to statuses."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from starlette.responses import Response

from bandit.errors import Code, Problem

STATUS: dict[Code, int] = {
    Code.MALFORMED: 400,
    Code.NOT_FOUND: 404,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.EXPERIMENT_NOT_FOUND: 404,
    Code.ARM_NOT_FOUND: 404,
    Code.DECISION_NOT_FOUND: 404,
    Code.EVENT_NOT_FOUND: 404,
    Code.DECISION_ID_REUSED: 409,
    Code.FEATURES_CHANGED: 409,
    Code.PAUSED: 409,
    Code.PRECONDITION_FAILED: 412,
    Code.CONFIRMATION_REQUIRED: 428,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.INVALID_EXPERIMENT: 422,
    Code.INVALID_CONTEXT: 422,
    Code.INVALID_REQUEST: 422,
    Code.UNKNOWN_EVENT: 422,
    Code.REWARD_OUT_OF_RANGE: 422,
    Code.REFUND_REFUSED: 422,
    Code.TOO_MANY_EVENTS: 422,
    Code.UNKNOWN_ARM: 422,
    Code.NOT_ENOUGH_ARMS: 422,
    Code.RATE_LIMITED: 429,
    Code.STORE_UNAVAILABLE: 503,
    Code.OVERLOADED: 503,
    Code.NOT_READY: 503,
}
TYPE = "urn:bandit-server:problem:"  # then the code: a name of the kind, not an address to be visited
RETRY_AFTER = 1  # seconds
LONGEST = 2000  # characters of a detail or a pointer: a name that is refused may be as long as the body
MOST = 100  # faults that are listed


class FaultDetails(msgspec.Struct, frozen=True):
    """One fault: a JSON pointer, what was expected there, and what came: a type or a length, never the value.

    Attributes:
        pointer: Where the fault is, as a JSON pointer (RFC 6901) into the body, or /query/NAME or /header/NAME.
        expected: What would have been taken there, with the nearest name where one is near.
        got: What came, as a JSON type, a length or a few words; never the value itself.
    """

    pointer: str
    expected: str
    got: str


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem as the wire shows it.

    Attributes:
        type: The problem's kind as a URN, which ends with its code.
        title: The code in words.
        status: The HTTP status of the answer, or of the item of a batch.
        code: The problem's kind for programs; each code has one status.
        detail: What is wrong, for people.
        errors: Each fault with its place; left out where the problem has none.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FaultDetails, ...] = ()


def details(problem: Problem) -> ProblemDetails:
    """A problem as it is sent."""
    faults = (FaultDetails(f.pointer[:LONGEST], f.expected[:LONGEST], f.got) for f in problem.faults[:MOST])
    title, status = problem.code.replace("_", " "), STATUS[problem.code]
    return ProblemDetails(TYPE + problem.code, title, status, problem.code, problem.detail[:LONGEST], tuple(faults))


class Answer(NamedTuple):
    """A whole answer, as bytes."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]  # but for its length
    body: bytes


JSON = ((b"content-type", b"application/json"),)
_PROBLEM = ((b"content-type", b"application/problem+json"),)
_RETRY = (*_PROBLEM, (b"retry-after", str(RETRY_AFTER).encode()))


def problem_answer(problem: Problem) -> Answer:
    """The answer to a request that had a problem."""
    status = STATUS[problem.code]
    headers = _RETRY if status == 503 else _PROBLEM
    if status == 429:
        headers = (*_PROBLEM, (b"retry-after", b"%d" % problem.wait))
    return Answer(status, headers, msgspec.json.encode(details(problem)))


_OURS = ProblemDetails(TYPE + "internal", "internal", 500, "internal", "an error in the server; see its log")
INTERNAL = Answer(500, _PROBLEM, msgspec.json.encode(_OURS))  # the client learns nothing but that


def response(answer: Answer) -> Response:
    """The same for the framework."""
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})


def problem_response(problem: Problem) -> Response:
    """The framework's response to a request that had a problem."""
    return response(problem_answer(problem))
