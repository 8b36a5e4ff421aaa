"""What requests change in an experiment's document.

A change is a function of the document, because another change may come first: it is then applied again to its result.
JSON that is only passed through, such as a payload, keeps its spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw

from bandit.core.document import ARMS_MAX, ArmSpec, Document, arm_spec, plain
from bandit.core.engine import Loose
from bandit.core.experiment import Config, compile_config
from bandit.core.features import Name
from bandit.core.policies import Exploring
from bandit.core.revision import first, revise
from bandit.core.times import time_of
from bandit.core.validation import parse_document
from bandit.errors import Code, Fault, Problem, nearest, pointer
from bandit.serving.reading import decode, read_json
from bandit.store.protocol import Stored

Change = Callable[[Document], Document]

# what GET adds to a document or an arm, and is ignored where it is sent back
COMPUTED = {"name", "version", "generation", "created_at", "updated_at", "evaluable", "warnings"}
COMPUTED_OF_ARM = {"arm", "impressions", "rewards"}

# of a document that named none, before "auto" was their default
FORMERLY = {"alpha": 1.0, "explore": 0.02}  # of a policy
FORMER_LAMBDA = 1.0

_OBJECT: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_ARM = msgspec.json.Decoder(ArmSpec)
_ARMS: msgspec.json.Decoder[tuple[str | ArmSpec, ...]] = msgspec.json.Decoder(
    Annotated[tuple[Name | ArmSpec, ...], Meta(max_length=ARMS_MAX)]
)


class Sent(NamedTuple):
    """A body that was sent: its text, and its value, which says whether it is strict JSON and what it names.

    What is made of it is decoded from the text, so that JSON that is only passed through keeps its spelling.
    """

    text: bytes
    value: Any

    @classmethod
    def read(cls, text: bytes) -> Sent:
        """Read a body; raises `Problem`, malformed, where it is not strict JSON."""
        return cls(text, read_json(text))

    def without(self, computed: set[str]) -> bytes:
        """The text without the fields that GET adds."""
        if not isinstance(self.value, dict) or self.value.keys().isdisjoint(computed):
            return self.text
        fields = _OBJECT.decode(self.text).items()
        return msgspec.json.encode({name: value for name, value in fields if name not in computed})


def replaced(sent: Sent) -> Change:
    """Replace the whole document by the one sent, ignoring the fields that GET adds.

    Raises:
        Problem: malformed or invalid_experiment, here as in all of these.
    """
    document = parse_document(sent.without(COMPUTED))
    named = isinstance(sent.value, dict) and "status" in sent.value

    def changed(before: Document) -> Document:
        status = document.status if named else before.status
        found = msgspec.structs.replace(document, status=status, arms=_as_they_were(document.arms, before))
        return _as_meant(found, before, sent.value)

    return changed


def _as_meant(document: Document, before: Document, sent: dict[str, Any]) -> Document:
    """The document with the former defaults where it names nothing else and the one before has them: sending a document
    of then anew must not change how an experiment decides.
    """

    def policy(now: Any, was: Any, named: Any) -> Any:
        if not isinstance(now, Exploring) or type(now) is not type(was):
            return now
        unnamed = {name: value for name, value in FORMERLY.items() if name not in (named or {})}
        kept = {name: value for name, value in unnamed.items() if getattr(was, name, None) == value}
        return msgspec.structs.replace(now, **kept)

    changes: dict[str, Any] = {"policy": policy(document.policy, before.policy, sent.get("policy"))}
    if before.lam == FORMER_LAMBDA and "lambda" not in sent:
        changes["lam"] = FORMER_LAMBDA
    now, was = document.slices or {}, before.slices or {}
    if both := now.keys() & was.keys():
        own = {name: policy(now[name].policy, was[name].policy, sent["slices"][name].get("policy")) for name in both}
        changes["slices"] = now | {name: msgspec.structs.replace(now[name], policy=each) for name, each in own.items()}
    return msgspec.structs.replace(document, **changes)


def _as_they_were(arms: Sequence[str | ArmSpec], before: Document) -> tuple[str | ArmSpec, ...]:
    """The arms, each with the status that it is given, or where it is given none, the one that it had."""
    paused = {arm.id for arm in map(arm_spec, before.arms) if arm.paused}
    return tuple(_paused(arm) if arm.status is UNSET and arm.id in paused else arm for arm in map(arm_spec, arms))


def _paused(arm: ArmSpec) -> ArmSpec:
    return msgspec.structs.replace(arm, status="paused")


def _settled(document: Document, was: Document, resting: Sequence[str]) -> Document:
    """The document with its arms as they are kept: one that comes back and is given no status rests if it did."""
    back = set(resting).difference(arm.id for arm in map(arm_spec, was.arms))
    arms = [_paused(arm) if arm.status is UNSET and arm.id in back else arm for arm in map(arm_spec, document.arms)]
    kept = (msgspec.structs.replace(arm, status=UNSET) if arm.status == "active" else arm for arm in arms)
    return msgspec.structs.replace(document, arms=tuple(map(plain, kept)))


def version_in(sent: Sent) -> int | None:
    """The version that a document states, if it was sent back as GET gave it: the change is refused if that is not in
    force any more.

    Raises:
        Problem: invalid_experiment, where it is not a version.
    """
    if not isinstance(sent.value, dict) or "version" not in sent.value:
        return None
    if type(version := sent.value["version"]) is not int or version < 1:
        fault = Fault("/version", "the version that GET gave, or nothing", "another value")
        raise Problem.of(Code.INVALID_EXPERIMENT, [fault])
    return version


def patched(sent: Sent) -> Change:
    """Apply a JSON merge patch (RFC 7386) to the document; a policy of another type takes the present one's place."""
    patch = sent.without(COMPUTED)
    decode(_OBJECT, patch, Code.INVALID_EXPERIMENT)
    policy = sent.value.get("policy")
    asked = policy.get("type") if isinstance(policy, dict) else None

    def changed(document: Document) -> Document:
        present = msgspec.to_builtins(document.policy)["type"]
        if asked not in (None, present):  # its parameters are no parameters of another one
            document = msgspec.structs.replace(document, policy=UNSET)
        found = parse_document(_merged(msgspec.json.encode(document), patch))
        return msgspec.structs.replace(found, arms=_as_they_were(found.arms, document))

    return changed


def with_arms(data: bytes) -> Change:
    """Replace the list of arms by the one sent."""
    read_json(data)
    arms = decode(_ARMS, data, Code.INVALID_EXPERIMENT)
    return lambda document: msgspec.structs.replace(document, arms=_as_they_were(arms, document))


def with_arm(arm: str, data: bytes, *, merge: bool) -> Change:
    """Add or replace one arm by the one sent, or with `merge` patch it; an empty body stands for an arm with no more
    than its id.

    A retired arm that is sent back as GET gave it stays retired.
    """
    sent = Sent.read(data if data.strip() or merge else b"{}")
    decode(_OBJECT, sent.text, Code.INVALID_EXPERIMENT)
    if other := [name for name in ("id", "arm") if sent.value.get(name, arm) != arm]:
        fault = Fault(pointer(*other[:1]), "the arm of the address, or nothing", "another id")
        raise Problem(Code.INVALID_EXPERIMENT, "the body names another arm than the address", [fault])
    body = sent.without(COMPUTED_OF_ARM)

    def changed(document: Document) -> Document:
        arms = {spec.id: spec for spec in map(arm_spec, document.arms)}
        if sent.value.get("status") == "retired" and arm not in arms:
            return document
        if merge and arm not in arms:
            raise no_arm(arm, arms)
        text = _merged(msgspec.json.encode(arms[arm]), body) if merge else body
        fields = _OBJECT.decode(text) | {"id": Raw(msgspec.json.encode(arm))}
        spec = decode(_ARM, msgspec.json.encode(fields), Code.INVALID_EXPERIMENT)
        keeps = not merge and arm in arms and arms[arm].paused and spec.status is UNSET
        arms[arm] = _paused(spec) if keeps else spec
        if len(arms) > ARMS_MAX:
            raise Problem(Code.INVALID_EXPERIMENT, f"the experiment has {ARMS_MAX} arms: no more are possible")
        return msgspec.structs.replace(document, arms=tuple(map(plain, arms.values())))

    return changed


def without_arm(arm: str) -> Change:
    """Retire an arm: the document no longer has it, and what it has learned is kept."""

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
    """Make a document's faults point into the part that was sent; `part` is a pattern of the pointer to it."""
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
        config = first(name, _settled(change(Document({}, ())), Document({}, ()), ()))
    else:
        was = Document({}, ()) if before.config.deleted else before.config.document
        document = _settled(change(was), was, before.config.resting)
        config = revise(before.config, document, learned=before.learned, reset=reset)
    compile_config(config)
    return config


def described(stored: Stored, loose: Sequence[Loose] = ()) -> dict[str, Any]:
    """An experiment as it is answered, with a warning for each kind of reward whose range is loose."""
    config = stored.config
    warnings = [{"code": "loose_range", "kind": each.kind, "detail": _loose(each)} for each in loose]
    return {
        "name": config.name,
        "version": config.version,
        "generation": config.generation,
        "created_at": time_of(stored.identity.ms),
        "updated_at": time_of(stored.updated.ms),
        "evaluable": config.document.evaluable,
        **_OBJECT.decode(msgspec.json.encode(config.document)),
        **({"warnings": warnings} if warnings else {}),
    }


def difference(before: Any, after: Any, at: str = "") -> Iterator[dict[str, Any]]:
    """Where two JSON values differ: a pointer to each place, with what was and will be there; lists count as one."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield {"pointer": at, "before": before, "after": after}
        return
    for name in dict.fromkeys([*before, *after]):
        place = at + pointer(name)
        if name not in after:
            yield {"pointer": place, "before": before[name]}
        elif name not in before:
            yield {"pointer": place, "after": after[name]}
        else:
            yield from difference(before[name], after[name], place)


def compared(document: Document) -> dict[str, Any]:
    """A document as values, to be compared: its arms by their ids."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    arms: dict[str, dict[str, Any]] = {}
    for arm in found["arms"]:
        spec = {"status": "active", **({"id": arm} if isinstance(arm, str) else arm)}
        arms[spec.pop("id")] = spec
    return found | {"arms": arms}


def _loose(warned: Loose) -> str:
    kind, size, low, high = warned
    loose = f"rewards of {kind!r} have a mean size of {size:.3g} in a range of {low:g} to {high:g}"
    return f"{loose}: evaluations are as unsure as the range is wide; a narrower one starts from zero (?reset=true)"


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
