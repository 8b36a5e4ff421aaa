"""Which arms a recommendation's request may be shown: its candidates, exclusions, attributes and the time."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from bandit.arrays import Mask
from bandit.core.experiment import Experiment
from bandit.errors import Code, Fault, Problem, json_type, pointer
from bandit.store.protocol import NO_ARM

Attribute = str | float | bool | None | UnsetType
TYPES = "a string, a number, a boolean or null"


def eligible_of(experiment: Experiment, body: Any) -> tuple[Mask, tuple[str, ...]]:
    """(the arms that may be shown, the names that were ignored: they are paused or retired).

    Raises:
        Problem: unknown_arm or invalid_request.
    """
    gate, eligible = experiment.gate, experiment.active
    if gate is not None:
        eligible = gate.eligible(fields_of(experiment, body.context), round(time.time() * 1000))
    if body.candidates is None and not body.exclude:
        return eligible, ()
    ignored: list[str] = []
    if body.candidates is not None:
        candidates = _indices(experiment, body.candidates, "candidates")
        if len(set(candidates)) < len(candidates):
            raise _repeated(candidates, "candidates")
        ignored = _not_shown(experiment, body.candidates, candidates)
        if ignored and body.strict:
            at = pointer("candidates", body.candidates.index(ignored[0]))
            raise experiment.unknown_arm(at, ignored[0], "an arm that is paused or retired")
        among = np.zeros_like(eligible)
        among[candidates] = True
        eligible = eligible & among
    excluded = _indices(experiment, body.exclude or (), "exclude")
    ignored += _not_shown(experiment, body.exclude or (), excluded)
    eligible = eligible.copy()
    eligible[excluded] = False
    return eligible, tuple(dict.fromkeys(ignored))


def _not_shown(experiment: Experiment, names: Sequence[str], indices: list[int]) -> list[str]:
    """Those of the arms that are paused or retired."""
    return [name for name, shown in zip(names, experiment.active[indices].tolist(), strict=True) if not shown]


def fields_of(experiment: Experiment, context: msgspec.Struct) -> Mapping[str, Any]:
    """A decoded context's values by their names, of the fields that conditions name; what is absent is left out."""
    gate = experiment.gate
    if gate is None or not gate.count:
        return {}
    values = dict(zip(_names(context), msgspec.structs.astuple(context), strict=True))
    return {name: values[name] for name in gate.names if values[name] not in (None, UNSET)}


def _names(context: msgspec.Struct) -> tuple[str, ...]:
    return context.__struct_encode_fields__


def said_of(experiment: Experiment, body: Any) -> bytes:
    """What else a request says, as bytes: the same whatever arms come later, and for sets in whatever order."""
    said = b""
    if body.candidates is not None or body.exclude:
        if body.candidates is not None:
            said = _set(b"c", arm_indices(experiment, body.candidates))
        said += _set(b"x", arm_indices(experiment, body.exclude or ()))
    if body.baseline is not None:
        said += b"b" + msgspec.json.encode(body.baseline)
    if experiment.document.attributes:
        given = _attributes(experiment.document.attributes, body.context)
        if given := {name: value for name, value in sorted(given.items()) if value not in (None, UNSET)}:
            said += b"a" + msgspec.json.encode(given)
    return said


def _attributes(names: Sequence[str], context: Any) -> dict[str, Any]:
    """The attributes of a context, decoded or as it was sent."""
    if isinstance(context, dict):
        return {name: context.get(name) for name in names}
    return {name: getattr(context, _field(i)) for i, name in enumerate(names)}


def with_attributes(context: type[msgspec.Struct], names: Sequence[str]) -> type[msgspec.Struct]:
    """The type of contexts that may have attributes too, after their features."""
    fields = [(_field(i), Attribute, UNSET) for i in range(len(names))]
    rename = {_field(i): name for i, name in enumerate(names)}
    return msgspec.defstruct(
        "Context",
        fields,
        bases=(context,),
        rename=rename,
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
        kw_only=True,
    )


def _field(i: int) -> str:
    return f"a{i}"


def context_faults(experiment: Experiment, context: Any) -> list[Fault]:
    """Everything that is wrong with a context."""
    attributes = experiment.document.attributes or ()
    if not isinstance(context, dict) or not attributes:
        return experiment.encoder.faults(context, "/context")
    own = {name: value for name, value in context.items() if name in attributes}
    rest = {name: value for name, value in context.items() if name not in attributes}
    wrong = [
        Fault(pointer("context", name), TYPES, json_type(value))
        for name, value in own.items()
        if isinstance(value, dict | list)
    ]
    return [*experiment.encoder.faults(rest, "/context"), *wrong]


def context_names(experiment: Experiment) -> set[str]:
    """What a context of this experiment may have."""
    return {feature.name for feature in experiment.encoder.features} | set(experiment.document.attributes or ())


def _indices(experiment: Experiment, names: Sequence[str], field: str) -> list[int]:
    indices = arm_indices(experiment, names)
    if NO_ARM in indices:
        i = indices.index(NO_ARM)
        raise experiment.unknown_arm(pointer(field, i), names[i], "no such arm")
    return indices


def arm_indices(experiment: Experiment, names: Sequence[str]) -> list[int]:
    """The indices of arms by name; `NO_ARM` for names that the experiment never had."""
    return [experiment.arm_index.get(name, NO_ARM) for name in names]


def _set(mark: bytes, indices: list[int]) -> bytes:
    members = np.unique(np.array(indices, "<i4"))
    return mark + struct.pack("<I", len(members)) + members.tobytes()


def _repeated(indices: list[int], field: str) -> Problem:
    seen: set[int] = set()
    faults = []
    for i, index in enumerate(indices):
        if index in seen:
            faults.append(Fault(pointer(field, i), "arms that differ", "an arm named before"))
        seen.add(index)
    return Problem(Code.INVALID_REQUEST, f"{field} names an arm more than once", faults)
