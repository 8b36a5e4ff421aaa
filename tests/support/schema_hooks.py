"""What Schemathesis is told of this server: names that exist, and when a refusal of valid data is right."""

import random
from typing import Any

import schemathesis

NAMES = {"e": "home", "arm": "a", "decision_id": "first"}  # made by the test before it starts
BODIES: dict[str, dict[str, Any]] = {
    "recommendations": {"context": {"age": 31}},
    "feedback": {"event": "click", "decision_id": "first", "user_id": None, "value": 1},
    "activations": {"decision_id": "first"},
}
# what would make nearly all of these be refused for its meaning
NARROWING = {"candidates", "exclude", "baseline", "k", "arm", "refund_of", "decision_id"}
CHANCE = random.Random(1)
KEPT = "DELETE", "PUT"  # what these change is left to other names
# words by which a refusal says that a value has the wrong type or form: a schema says that too, or it says too little
TYPES = {"string", "number", "boolean", "object", "array", "null", "another value", "an unknown field"}
WRITTEN = "invalid_request", "invalid_experiment"  # a context's types are the experiment's, not the schema's
# JSON Schema calls 1.0 an integer; our JSON reader does not, and only a program that counts in floats would send it
WHOLE = "integer"


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Half of the valid requests are about what exists: else most would be 404, and answers would not be seen."""
    if case.meta is None or not case.meta.generation.mode.is_positive or case.method in KEPT:
        return
    for name in case.path_parameters or {}:
        if name in NAMES and CHANCE.random() < 0.5:
            case.path_parameters[name] = NAMES[name]
    known = BODIES.get(case.path.rpartition("/")[2])
    one = "e" in (case.path_parameters or {})  # of one experiment, not of several
    if one and known is not None and isinstance(case.body, dict) and CHANCE.random() < 0.5:
        case.body = {name: value for name, value in case.body.items() if name not in NARROWING} | known
        case.path_parameters["e"] = NAMES["e"]


@schemathesis.check
def refusals_of_valid_data_are_of_meaning(_: Any, response: Any, case: Any) -> None:
    """What the schema allows is refused only for what it means: never for a type, a form or a field's name."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    for fault in problem.get("errors", ()) if problem["code"] in WRITTEN else ():
        wrong = fault["got"] in TYPES and fault["expected"] != WHOLE and fault["expected"].split()[0] in FORMS
        assert not wrong, f"{fault['pointer']}: expected {fault['expected']}, got {fault['got']}"


FORMS = {"string", "number", "boolean", "object", "array", "null", "integer", "an", "a", "one"}
