"""Problems on the wire, against the contract's own table."""

import json

import pytest

from bandit.errors import Code, Fault, Problem, json_type, nearest, pointer
from bandit.serving.api.problems import LONGEST, MOST, STATUS, details, problem_response

# the contract's table of errors, and the two that an
# address which is not served needs
CONTRACT = """
400 malformed
401 unauthenticated
403 forbidden
404 experiment_not_found arm_not_found decision_not_found event_not_found not_found
405 method_not_allowed
409 decision_id_reused features_changed paused
412 precondition_failed
413 too_large
415 unsupported_media_type
428 confirmation_required
422 invalid_experiment invalid_context invalid_request unknown_event reward_out_of_range too_many_events unknown_arm
422 not_enough_arms refund_refused
429 rate_limited
503 store_unavailable overloaded not_ready
"""


def test_every_code_has_the_one_status_that_the_contract_gives_it() -> None:
    """The table is the contract's: no code without a status, none with another, none that the contract lacks."""
    lines = [line.split() for line in CONTRACT.strip().splitlines()]
    assert {str(code): status for code, status in STATUS.items()} == {
        code: int(status) for status, *codes in lines for code in codes
    }
    assert set(STATUS) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_a_problem_is_a_problem_document_with_its_code(code: Code) -> None:
    """RFC 9457 members, the code, each fault as an object, and Retry-After exactly where waiting helps."""
    response = problem_response(Problem(code, "what happened", [Fault("/a", "a number", "string")]))
    assert json.loads(bytes(response.body)) == {
        "type": f"urn:bandit-server:problem:{code}",
        "title": str(code).replace("_", " "),
        "status": STATUS[code],
        "code": str(code),
        "detail": "what happened",
        "errors": [{"pointer": "/a", "expected": "a number", "got": "string"}],
    }
    assert response.status_code == STATUS[code]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("retry-after") == ("1" if STATUS[code] in (429, 503) else None)


def test_a_problem_without_faults_has_no_errors() -> None:
    """`errors` is there only where a place can be named."""
    assert "errors" not in json.loads(bytes(problem_response(Problem(Code.NOT_READY, "wait")).body))


def test_a_problem_is_short_whatever_was_sent() -> None:
    """A refused name may be as long as the body, and there may be as many: an answer is neither."""
    shown = details(Problem(Code.INVALID_CONTEXT, "x" * 10**6, [Fault("/" + "y" * 10**6, "z" * 10**6, "string")] * 500))
    assert len(shown.detail) == len(shown.errors[0].pointer) == len(shown.errors[0].expected) == LONGEST
    assert len(shown.errors) == MOST


def test_the_nearest_of_many_names_is_found_at_once() -> None:
    """A mistyped arm among 10,000 does not hold the others up, and is told its right name."""
    names = [f"article-{i:05d}-headline" for i in range(10_000)]
    assert nearest("article-0777-headline", names).endswith("777-headline'?")
    assert nearest("rticle-07777-headline", names) == "; did you mean 'article-07777-headline'?"
    assert nearest("cuntry", ["age", "country"]) == "; did you mean 'country'?"
    assert nearest("zzz", names) == nearest("a" * 300, ["a" * 299]) == ""


def test_pointers_escape_what_they_must() -> None:
    """RFC 6901: `~` and `/` within a name."""
    assert pointer("rewards", "a/b~c", 3) == "/rewards/a~1b~0c/3"


def test_a_type_has_its_json_name() -> None:
    """What an error says of a value; true is not a number."""
    values: dict[str, object] = {"boolean": True, "number": 1.5, "string": "", "null": None, "array": [], "object": {}}
    assert {name: json_type(value) for name, value in values.items()} == {name: name for name in values}
    assert json_type(1) == "number"
