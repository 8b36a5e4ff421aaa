"""What is wrong with a document or a request, in the words of the wire: where, what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from bandit.core.experiment import DURATIONS, ArmSpec, Document, Kind
from bandit.core.features import Feature
from bandit.core.policies import LinUCB
from bandit.errors import Code, Fault, Problem, nearest, pointer

_PATH = re.compile(r" - at `(?:key in )?(.*)`$")
_FIELDS = {
    name
    for struct in (Document, Kind, ArmSpec, LinUCB, *Feature.__args__)
    for name in (f.encode_name for f in msgspec.structs.fields(struct))
}
_VALUES = (
    "number",
    "boolean",
    "category",
    "linucb",
    "active",
    "paused",
    "auto",
    "on_decision",
    "explicit",
    "last",
    "first",
    "all",
    "sum",
    "refuse",
    "clip",
)


def parse_document(data: bytes) -> Document:
    """The document in a request's body.

    Raises:
        Problem: `malformed` (not JSON) or `invalid_experiment`.
    """
    try:
        return msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(data, error) from None


def _refused(data: bytes, error: Exception) -> Problem:
    """Why this is no document; in which reward kind a fault is, msgspec does not tell: look."""
    try:
        whole = msgspec.json.decode(data)  # what stands after the first fault, or is a number that is none
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        return malformed(worse)
    if not isinstance(error, msgspec.ValidationError) or "out of range" in str(error):
        return malformed(error)
    problem = typed_problem(error, Code.INVALID_EXPERIMENT)
    if problem.faults[0].pointer.startswith("/rewards/*") and isinstance(kinds := whole["rewards"], dict):
        for name, kind in kinds.items():
            try:
                msgspec.convert(kind, Kind)
            except msgspec.ValidationError as found:
                return typed_problem(found, Code.INVALID_EXPERIMENT, prefix=pointer("rewards", name))
    return problem


def malformed(error: Exception) -> Problem:
    """The problem of a body that is not JSON."""
    if isinstance(error, RecursionError):
        reason = "is nested too deeply"
    else:
        reason = "has a number beyond 1.8e308" if "out of range" in str(error) else "is not strict JSON in UTF-8"
    where = re.search(r"\(byte \d+\)", str(error))
    return Problem(Code.MALFORMED, f"the body {reason}" + (f" {where[0]}" if where else ""))


def typed_problem(
    error: msgspec.ValidationError, code: Code, *, prefix: str = "", known: Iterable[str] = ()
) -> Problem:
    """A msgspec validation error as a problem: path as a JSON pointer, types named, values never echoed.

    Args:
        error: what msgspec says, of the first fault.
        code: the problem's code.
        prefix: the pointer to what was decoded.
        known: names that an unknown field may have been meant to be; an experiment's own by default.
    """
    text = str(error)
    path = _PATH.search(text)
    message = text[: path.start()] if path else text
    at = prefix + _json_pointer(path[1] if path else "$")
    expected, _, got = message.partition(", got ")
    if unknown := re.match(r"Object contains unknown field `(.*)`$", message, re.DOTALL):
        at, got = at + pointer(unknown[1]), "an unknown field"
        expected = "a field that is known" + nearest(unknown[1], {*(known or _FIELDS)} - {unknown[1]})
    elif missing := re.match(r"Object missing required field `(.*)`$", message, re.DOTALL):
        at, expected, got = at + pointer(missing[1]), "a value", "nothing"
    elif wrong := re.match(r"Invalid (?:enum )?value '(.*)'$", message, re.DOTALL):
        expected, got = "one of the values of this field" + nearest(wrong[1], _VALUES), "another value"
    expected = _json_words(_plainly(at, re.sub(r"^Expected ", "", expected)))
    got = _json_words(got) or "another value"
    return Problem(code, f"{at or 'the body'}: expected {expected}, got {got}", [Fault(at, expected, got)])


def _plainly(at: str, expected: str) -> str:
    """What was expected, without the pattern that says it to a program."""
    if at == "/reward_window":
        return DURATIONS
    found = re.search(r"matching regex '(.*)'$", expected, re.DOTALL)
    if found is None:
        return expected
    quotes = " and no quotation mark or backslash" if r'"' in found[1] else ""
    return f"a string without control characters{quotes}"


def _json_words(text: str) -> str:
    """msgspec's words for types as JSON's."""
    words = {"float": "number", "str": "string", "bool": "boolean", "int": "integer"}
    return re.sub(r"\b(float|str|bool|int)\b", lambda word: words[word[0]], text.replace("`", ""))


def _json_pointer(path: str) -> str:
    """msgspec's `$.rewards[...].range[0]` as a JSON pointer; an element whose key it does not tell is `*`."""
    parts = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path)
    return pointer(*(name or ("*" if index == "..." else index) for name, index in parts))
