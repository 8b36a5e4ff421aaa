"""What the types of bodies and parameters cannot say, said in the OpenAPI document, so that its schemas hold."""

from __future__ import annotations

from typing import Any

from bandit.core.document import NAME
from bandit.core.times import DURATION

VERSION = r'^\s*(\*|(W/)?"?[0-9]{1,15}"?)\s*$'
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].*)?"
TARGET = r"^(uniform|fixed:.+|[a-z-]+(:[a-z]+=[0-9.eE+-]+(,[a-z]+=[0-9.eE+-]+)*)?)$"

PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)"  # no control characters

PARAMETERS: dict[str, dict[str, Any]] = {
    "e": {"pattern": f"^{NAME.pattern}$", "maxLength": 64},
    "arm": {"pattern": PLAIN, "minLength": 1, "maxLength": 128},
    "decision_id": {"pattern": PLAIN, "minLength": 1, "maxLength": 256},
    "if-match": {"pattern": VERSION},
    "if-none-match": {"pattern": r"^\s*\*\s*$"},
    "since": {"pattern": rf"^({TIME}|{DURATION.pattern})?$"},
    "min_age": {"pattern": rf"^({DURATION.pattern})?$"},
}
ITEMS = {"target": {"pattern": TARGET}}  # of parameters that may be given several times
FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("RecommendationBody", "context"): {"type": "object"},
    ("ArmSpec", "from"): {"format": "date-time"},
    ("ArmSpec", "until"): {"format": "date-time"},
    ("SampleBody", "csv"): {"minLength": 1},
}
EITHER: dict[str, list[dict[str, Any]]] = {  # one of these, and not the other
    "FeedbackBody": [
        {"required": ["decision_id"], "properties": {"decision_id": {"type": "string"}, "user_id": {"type": "null"}}},
        {"required": ["user_id"], "properties": {"user_id": {"type": "string"}, "decision_id": {"type": "null"}}},
    ]
}


def stricter(document: dict[str, Any], found: dict[str, Any]) -> None:
    """Write it into the document's parameters and into the schemas of its bodies.

    Args:
        document: FastAPI's own.
        found: our schemas by name.
    """
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for parameter in operation.get("parameters", ()):
            _parameter(parameter)
    for (name, field), told in FIELDS.items():
        found[name]["properties"][field] |= told
    for name, ways in EITHER.items():
        found[name]["oneOf"] = ways


def _parameter(parameter: dict[str, Any]) -> None:
    """What is not in a path, a query or a header is left out: there is no null to be sent."""
    schema: dict[str, Any] = parameter["schema"]
    kinds = [each for each in schema.pop("anyOf", ()) if each.get("type") != "null"]
    for each in kinds:
        schema |= each
    name = parameter["name"].lower()
    schema |= PARAMETERS.get(name, {})
    if "items" in schema:
        schema["items"] = schema["items"] | ITEMS.get(name, {})
