"""JSON schemas that say what each field means, and show what a real server was sent and answered.

The meaning of a field stands in its struct's docstring, under `Attributes:`; values are those of `examples`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

PREFIX = "#/components/schemas/"
SHOWN = 2  # examples of a field
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)

Schema = dict[str, Any]


def ref(kind: type) -> Schema:
    """The reference to a struct's schema."""
    return {"$ref": PREFIX + kind.__name__}


def schemas_of(types: Sequence[type]) -> dict[str, Schema]:
    """The schemas of structs and of all within them, by name, each property with its meaning."""
    _, found = msgspec.json.schema_components(types, ref_template=PREFIX + "{name}")
    for struct in _structs(types):
        schema, told = found[struct.__name__], meanings(struct)
        schema["description"] = _apart(struct)[0]
        for name, about in schema["properties"].items():
            schema["properties"][name] = about | {"description": told.get(name, "")}
    return dict(found)


def meanings(struct: type) -> dict[str, str]:
    """What each field of a struct means, by its name on the wire: from its docstring and those it extends."""
    found: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        found |= {name: re.sub(r"\s+", " ", text) for name, text in _ATTRIBUTE.findall(_apart(each)[1])}
    config = struct.__struct_config__  # type: ignore[attr-defined]
    if config.tag is not None:
        found[config.tag_field] = f'Always "{config.tag}".'
    return found


def _apart(struct: type) -> tuple[str, str]:
    """A docstring without its attributes, and its attributes."""
    text, _, attributes = inspect.cleandoc(struct.__doc__ or "").partition("\n\nAttributes:\n")
    return text, attributes


def _structs(types: Sequence[type]) -> Iterator[type]:
    """Every struct that these consist of, once."""
    seen: set[type] = set()
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(types))
    while waiting:
        here = waiting.pop()
        if isinstance(here, msgspec.inspect.StructType):
            if here.cls in seen:
                continue
            seen.add(here.cls)
            waiting += [field.type for field in here.fields]
            yield here.cls
        elif isinstance(here, msgspec.inspect.UnionType):
            waiting += here.types
        else:
            inner = ("type", "item_type", "value_type")
            waiting += [getattr(here, name) for name in inner if hasattr(here, name)]


def show(found: dict[str, Schema], schema: Schema, value: Any) -> None:
    """Put the parts of a real value where their fields are described, as examples."""
    if "$ref" in schema:
        schema = found[schema["$ref"].removeprefix(PREFIX)]
    for each in schema.get("anyOf", ()):
        if _may_be(found, each, value):
            show(found, each, value)
    if isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for each in value:
            show(found, items, each)
    if isinstance(value, dict):
        for name, inner in value.items():
            about = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
            if name in schema.get("properties", {}):
                _add(about, inner)
            show(found, about, inner)


def _may_be(found: dict[str, Schema], schema: Schema, value: Any) -> bool:
    """Whether an object's fields, and its tag, are those of this alternative."""
    if "$ref" in schema:
        schema = found[schema["$ref"].removeprefix(PREFIX)]
    if "anyOf" in schema:
        return any(_may_be(found, each, value) for each in schema["anyOf"])
    if not isinstance(value, dict) or "properties" not in schema:
        return isinstance(value, list) and "items" in schema
    tags = schema["properties"].get("type", {}).get("enum")
    fits = tags is None or value.get("type") in tags
    return fits and value.keys() <= schema["properties"].keys() and set(schema.get("required", ())) <= value.keys()


def _add(about: Schema, value: Any) -> None:
    """One more example of a field, unless it has this one, or enough."""
    shown = about.setdefault("examples", [])
    if value not in shown and len(shown) < SHOWN:
        shown.append(value)
