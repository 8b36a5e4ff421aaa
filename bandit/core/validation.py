"""Faults of a document or a request, in JSON's words: where, what was expected, and what came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from bandit.core.document import DURATIONS, Document, Kind
from bandit.core.eligibility import Condition
from bandit.core.policies import LinUCB
from bandit.core.slices import SliceSpec
from bandit.errors import Code, Fault, Problem, nearest, pointer

_PATH = re.compile(r" - at `(?:key in )?(.*)`$")
_ONLY_TYPE = re.compile(r"Expected `[^`]*`(, got .*)?")


def parse_document(data: bytes) -> Document:
    """The document in a request's body.

    Raises:
        Problem: `malformed` (not JSON) or `invalid_experiment`.
    """
    try:
        return msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if (typed := _with_types(data)) is not None:
            return parse_document(typed)
        raise _refused(data, error) from None


_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SLICES: msgspec.json.Decoder[dict[str, dict[str, msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, dict[str, msgspec.Raw]]
)


def _with_types(data: bytes) -> bytes | None:
    """The document with `linucb` as the type of each policy that has none; None where each has one, or is no object."""
    try:
        fields = _FIELDS.decode(data)
        slices = _SLICES.decode(fields["slices"]) if "slices" in fields else {}
        typed = [_typed(part) for part in (fields, *slices.values()) if "policy" in part]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if slices:
        fields["slices"] = msgspec.Raw(msgspec.json.encode(slices))
    return msgspec.json.encode(fields) if any(typed) else None


def _typed(part: dict[str, msgspec.Raw]) -> bool:
    """Give the part's policy a type if it has none: whether it had none."""
    policy = _FIELDS.decode(part["policy"])
    if has_none := "type" not in policy:
        part["policy"] = msgspec.Raw(msgspec.json.encode({"type": LinUCB.__struct_config__.tag, **policy}))
    return has_none


def _refused(data: bytes, error: Exception) -> Problem:
    """Why this is no document. msgspec does not say which member of an object is at fault: that is looked for here."""
    try:
        whole = msgspec.json.decode(
            data
        )  # it may not even be JSON after the first fault, or have a number out of range
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        return malformed(worse, data)
    if not isinstance(error, msgspec.ValidationError) or "out of range" in str(error):
        return malformed(error, data)
    problem = typed_problem(error, Code.INVALID_EXPERIMENT, Document)
    at, star, _ = problem.faults[0].pointer.partition("/*")
    if star and (of := next((kind for place, kind in _MEMBERS.items() if re.fullmatch(place, at)), None)):
        members = whole
        for part in at.split("/")[1:]:
            members = members[int(part) if part.isdigit() else part]
        for name, member in members.items() if isinstance(members, dict) else ():  # of a field given twice it may be
            try:
                msgspec.convert(member, of)
            except msgspec.ValidationError as found:
                return typed_problem(found, Code.INVALID_EXPERIMENT, of, prefix=at + pointer(name))
    return problem


_MEMBERS: dict[str, Any] = {"/rewards": Kind, "/slices": SliceSpec, r"/arms/\d+/when": Condition}


def malformed(error: Exception, data: bytes | msgspec.Raw) -> Problem:
    """The problem of a body, or an item of one, that is not JSON."""
    if not bytes(data).strip():
        return Problem(Code.MALFORMED, "the body is empty")
    if isinstance(error, RecursionError):
        reason = "is nested too deeply"
    else:
        reason = "has a number beyond 1.8e308" if "out of range" in str(error) else "is not strict JSON in UTF-8"
    where = re.search(r"\(byte \d+\)", str(error))
    return Problem(Code.MALFORMED, f"the body {reason}" + (f" {where[0]}" if where else ""))


def typed_problem(error: msgspec.ValidationError, code: Code, of: Any, *, prefix: str = "") -> Problem:
    """A msgspec validation error as a problem: path as a JSON pointer, types named, values never echoed.

    Args:
        error: what msgspec says, of the first fault.
        code: the problem's code.
        of: the type that was to be decoded: it has the fields allowed at each path, and their values.
        prefix: the pointer to what was decoded.
    """
    text = str(error)
    path = _PATH.search(text)
    message = text[: path.start()] if path else text
    parts = _parts(path[1] if path else "$")
    expected, _, got = message.partition(", got ")
    if unknown := re.match(r"Object contains unknown field `(.*)`$", message, re.DOTALL):
        fields = {name for struct in _structs(_places(of, parts)) for name in _fields(struct)}
        parts, got = [*parts, unknown[1]], "an unknown field"
        expected = "a field that is known" + nearest(unknown[1], fields - {unknown[1]})
    elif missing := re.match(r"Object missing required field `(.*)`$", message, re.DOTALL):
        parts = [*parts, missing[1]]
        expected, got = _choice(_places(of, parts)) or "a value", "nothing"
    elif choice := _choice(places := _places(of, parts)):
        wrong = re.match(r"Invalid (?:enum )?value '(.*)'$", message, re.DOTALL)
        if wrong or _ONLY_TYPE.fullmatch(message):  # else it names a limit of what may stand there besides
            expected = choice + (nearest(wrong[1], _values(places)) if wrong else "")
    at = prefix + pointer(*parts)
    expected = _json_words(_plainly(at, re.sub(r"^Expected ", "", expected)))
    got = _json_words(got) or "another value"
    return Problem.of(code, [Fault(at, expected, got)])


_type_info = cache(inspect.type_info)


def _places(of: Any, parts: list[str]) -> list[inspect.Type]:
    """The types that may stand at a path of a type, one by one; for a struct's tag, its possible values."""
    here = list(_apart(_type_info(of)))
    for part in parts:
        here = [within for each in here for inner in _within(each, part) for within in _apart(inner)]
    return here


def _apart(found: inspect.Type) -> Iterator[inspect.Type]:
    """The alternatives of a type, without its metadata."""
    if isinstance(found, inspect.Metadata):
        yield from _apart(found.type)
    elif isinstance(found, inspect.UnionType):
        for each in found.types:
            yield from _apart(each)
    else:
        yield found


def _within(found: inspect.Type, part: str) -> Iterator[inspect.Type]:
    """The types one step further along the path: at the field, key or index `part`."""
    if isinstance(found, inspect.StructType):
        if part == found.tag_field:
            yield inspect.LiteralType((found.tag,))
        yield from (field.type for field in found.fields if field.encode_name == part)
    elif isinstance(found, inspect.DictType):
        yield found.value_type
    elif isinstance(found, inspect.VarTupleType | inspect.ListType):
        yield found.item_type
    elif isinstance(found, inspect.TupleType) and part.isdigit():
        yield from found.item_types[int(part) :][:1]


def _structs(places: list[inspect.Type]) -> list[inspect.StructType]:
    return [each for each in places if isinstance(each, inspect.StructType)]


def _fields(struct: inspect.StructType) -> list[str]:
    return [*([struct.tag_field] if struct.tag_field else []), *(field.encode_name for field in struct.fields)]


def _values(places: list[inspect.Type]) -> list[str]:
    """The literal values among these types, each once, in their order."""
    return list(dict.fromkeys(str(v) for each in places if isinstance(each, inspect.LiteralType) for v in each.values))


def _choice(places: list[inspect.Type]) -> str:
    """`"active" or "paused"`, and `a number` where that is allowed too; empty where there are no literal values."""
    if not (values := [f'"{value}"' for value in _values(places)]):
        return ""
    if any(isinstance(each, inspect.FloatType | inspect.IntType) for each in places):
        values.append("a number")
    return " or ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)


def _plainly(at: str, expected: str) -> str:
    """What was expected, in words instead of a regular expression or a comparison."""
    if at == "/reward_window":
        return DURATIONS
    if sized := re.search(r"(object|array|str)`? of length (>=|<=) (\d+)$", expected):
        bound, members = {">=": "at least", "<=": "at most"}[sized[2]], "character" if sized[1] == "str" else "member"
        return f"{sized[1]} of {bound} {sized[3]} {members}{'s' * (sized[3] != '1')}"
    found = re.search(r"matching regex '(.*)'$", expected, re.DOTALL)
    if found is None:
        return expected
    quotes = " and no quotation mark or backslash" if r'"' in found[1] else ""
    return f"a string without control characters{quotes}"


def _json_words(text: str) -> str:
    """msgspec's words for types as JSON's."""
    words = {"float": "number", "str": "string", "bool": "boolean", "int": "integer"}
    return re.sub(r"\b(float|str|bool|int)\b", lambda word: words[word[0]], text.replace("`", ""))


def _parts(path: str) -> list[str]:
    """msgspec's `$.rewards[...].range[0]` in parts; an element whose key it does not give is `*`."""
    found = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path)
    return [name or ("*" if index == "..." else index) for name, index in found]
