"""What a request makes of an experiment's document. A change is a function, because another may come between: it is
then applied anew to what that one left. JSON that is only passed through, such as a payload, keeps its spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from bandit.core.engine import Loose
from bandit.core.experiment import ARMS_MAX, ArmSpec, Config, Document, arm_spec, compile_config, plain
from bandit.core.features import Name
from bandit.core.revision import first, revise
from bandit.core.times import time_of
from bandit.core.validation import parse_document
from bandit.errors import Code, Fault, Problem, nearest, pointer
from bandit.serving.reading import decode, read_json
from bandit.store.protocol import Stored

Change = Callable[[Document], Document]

# what `described` adds to a document, so that what GET gave can be sent back
COMPUTED = {"name", "version", "generation", "created_at", "updated_at", "evaluable", "warnings"}
COMPUTED_OF_ARM = {"arm", "impressions", "rewards"}

_OBJECT: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_ARM = msgspec.json.Decoder(ArmSpec)
_ARMS: msgspec.json.Decoder[tuple[str | ArmSpec, ...]] = msgspec.json.Decoder(
    Annotated[tuple[Name | ArmSpec, ...], Meta(max_length=ARMS_MAX)]
)


def replaced(data: bytes) -> Change:
    """The whole document is the one sent, less what is not the sender's to say.

    Raises:
        Problem: malformed or invalid_experiment, here as in all of these.
    """
    document = parse_document(_without(COMPUTED, data))
    return lambda _: document


def _without(computed: set[str], data: bytes) -> bytes:
    """What was sent, without what GET adds to it."""
    sent = read_json(data)
    if not isinstance(sent, dict) or sent.keys().isdisjoint(computed):
        return data
    return msgspec.json.encode({name: value for name, value in _OBJECT.decode(data).items() if name not in computed})


def version_in(data: bytes) -> int | None:
    """The version that a document sent back was, if it says so: of any other it is not to be a change.

    Raises:
        Problem: malformed, or invalid_experiment where this is no version.
    """
    sent = read_json(data)
    if not isinstance(sent, dict) or "version" not in sent:
        return None
    if type(version := sent["version"]) is not int or version < 1:
        fault = Fault("/version", "the version that GET gave, or nothing", "another value")
        raise Problem.of(Code.INVALID_EXPERIMENT, [fault])
    return version


def patched(data: bytes) -> Change:
    """A JSON merge patch (RFC 7386) of the document."""
    patch = _without(COMPUTED, data)
    decode(_OBJECT, patch, Code.INVALID_EXPERIMENT)
    return lambda document: parse_document(_merged(msgspec.json.encode(document), patch))


def with_arms(data: bytes) -> Change:
    """The list of arms is the one sent."""
    read_json(data)
    arms = decode(_ARMS, data, Code.INVALID_EXPERIMENT)
    return lambda document: msgspec.structs.replace(document, arms=arms)


def with_arm(arm: str, data: bytes, *, merge: bool) -> Change:
    """One arm is the one sent (no body stands for an arm without more), or with `merge` is patched by it.

    Sent back as GET gave it, a retired arm stays retired.
    """
    body = data if data.strip() or merge else b"{}"
    sent = read_json(body)
    decode(_OBJECT, body, Code.INVALID_EXPERIMENT)
    if other := [name for name in ("id", "arm") if sent.get(name, arm) != arm]:
        fault = Fault(pointer(*other[:1]), "the arm of the address, or nothing", "another id")
        raise Problem(Code.INVALID_EXPERIMENT, "the body names another arm than the address", [fault])
    body = _without(COMPUTED_OF_ARM, body)

    def changed(document: Document) -> Document:
        arms = {spec.id: spec for spec in map(arm_spec, document.arms)}
        if sent.get("status") == "retired" and arm not in arms:
            return document
        if merge and arm not in arms:
            raise no_arm(arm, arms)
        text = _merged(msgspec.json.encode(arms[arm]), body) if merge else body
        fields = _OBJECT.decode(text) | {"id": Raw(msgspec.json.encode(arm))}
        spec = decode(_ARM, msgspec.json.encode(fields), Code.INVALID_EXPERIMENT)
        arms[arm] = spec
        if len(arms) > ARMS_MAX:
            raise Problem(Code.INVALID_EXPERIMENT, f"the experiment has {ARMS_MAX} arms: no more are possible")
        return msgspec.structs.replace(document, arms=tuple(map(plain, arms.values())))

    return changed


def without_arm(arm: str) -> Change:
    """The arm is no longer named: it is retired, and what it has learned is kept."""

    def changed(document: Document) -> Document:
        if not names_arm(document, arm):
            raise no_arm(arm, (arm_spec(each).id for each in document.arms))
        kept = tuple(each for each in document.arms if arm_spec(each).id != arm)
        return msgspec.structs.replace(document, arms=kept)

    return changed


def names_arm(document: Document, arm: str) -> bool:
    """Whether the document has this arm, active or paused."""
    return any(arm_spec(each).id == arm for each in document.arms)


def no_arm(arm: str, known: Iterable[str]) -> Problem:
    """The problem of an unknown arm."""
    return Problem(Code.ARM_NOT_FOUND, "the experiment has no such arm" + nearest(arm, known))


@contextmanager
def pointing_into(part: str) -> Iterator[None]:
    """A document's faults as faults of the part that was sent; `part` is a pattern of the pointer to it."""
    try:
        yield
    except Problem as problem:
        faults = [fault._replace(pointer=re.sub(f"^{part}", "", fault.pointer)) for fault in problem.faults]
        raise Problem(problem.code, problem.detail, faults) from None


def config_after(name: str, before: Stored | None, change: Change | None, *, reset: bool) -> Config:
    """The config after a change (None: deleted), checked whole."""
    if before is not None and change is None:
        return msgspec.structs.replace(before.config, version=before.config.version + 1, deleted=True)
    if change is None:
        raise ValueError("only what exists can be deleted")
    if before is None:
        config = first(name, change(Document({}, ())))
    else:
        config = revise(before.config, change(before.config.document), learned=before.learned, reset=reset)
    compile_config(config)
    return config


def described(stored: Stored, loose: Sequence[Loose] = ()) -> dict[str, Any]:
    """An experiment as the wire shows it, with a warning of each kind of reward whose range is loose."""
    config = stored.config
    warnings = [{"code": "loose_range", "kind": each.kind, "detail": _loose(each)} for each in loose]
    return {
        "name": config.name,
        "version": config.version,
        "generation": config.generation,
        "created_at": time_of(stored.identity.ms),
        "updated_at": time_of(stored.updated.ms),
        "evaluable": config.document.policy.explore > 0,
        **_OBJECT.decode(msgspec.json.encode(config.document)),
        **({"warnings": warnings} if warnings else {}),
    }


def _loose(found: Loose) -> str:
    kind, size, low, high = found
    told = f"rewards of {kind!r} have a mean size of {size:.3g} in a range of {low:g} to {high:g}"
    return f"{told}: evaluations are as unsure as the range is wide; a narrower one starts from zero (?reset=true)"


def _merged(target: bytes, patch: bytes) -> bytes:
    """RFC 7386 on JSON text: null removes, objects merge, anything else replaces."""
    if not patch.lstrip().startswith(b"{"):
        return patch
    fields = _OBJECT.decode(target) if target.startswith(b"{") else {}
    for name, value in _OBJECT.decode(patch).items():
        if bytes(value) == b"null":
            fields.pop(name, None)
        else:
            fields[name] = Raw(_merged(bytes(fields.get(name, b"")), bytes(value)))
    return msgspec.json.encode(fields)
