"""Requests of the hot path, from bytes to what a lane logs; a fault is a problem that names each place.

A request is read against one version of its experiment. A lane that finds a later version reads it again, so what is
logged is always what the experiment in force makes of it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Raw

from bandit.errors import Code, Fault, Problem, nearest, pointer
from bandit.experiment import ARMS_MAX, Experiment, malformed, parse, typed_problem
from bandit.features import Name
from bandit.keys import SHARD
from bandit.log import read_decision_id
from bandit.scoring import Mask
from bandit.store import NO_ARM, Activate, Ref, Reward

BATCH_MAX = 1000
SERVER_PREFIX = "~"

Id = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Candidates = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=ARMS_MAX)]


class RecommendationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of a recommendation; in use, `context` has the type that its experiment compiled."""

    context: Any
    user_id: Id | None = None
    k: Annotated[int, Meta(ge=1, le=ARMS_MAX)] = 1
    candidates: Candidates | None = None
    exclude: Annotated[tuple[Name, ...], Meta(max_length=ARMS_MAX)] | None = None
    decision_id: Id | None = None
    defer: bool = False


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of feedback."""

    event: Name
    decision_id: Id | None = None
    user_id: Id | None = None
    value: float = 1.0
    event_id: Id | None = None
    arm: Name | None = None


class ActivationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request of an activation."""

    decision_id: Id


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of requests, each still as bytes."""

    requests: Annotated[tuple[Raw, ...], Meta(max_length=BATCH_MAX)]


@dataclass(frozen=True)
class Recommendation:
    """A recommendation, checked whole against one version of its experiment."""

    experiment: Experiment
    context: msgspec.Struct
    eligible: Mask
    k: int
    caller: bytes
    user: bytes
    deferred: bool
    subset: bytes  # candidates and exclusions as sets: part of what makes two requests the same

    def digest(self, x: bytes) -> bytes:
        """A fingerprint of the request's meaning: equal for the same encoded context, sets, k, defer and user."""
        h = hashlib.blake2b(x, digest_size=8)
        h.update(struct.pack("<IBB", self.k, self.deferred, len(self.user)) + self.user + self.subset)
        return h.digest()


def user_hash(secret: bytes, user_id: str | None) -> bytes:
    """What is kept of a user id: a keyed hash, or nothing."""
    return hashlib.blake2b(user_id.encode(), key=secret, digest_size=16).digest() if user_id is not None else b""


def read_recommendation(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Recommendation:
    """A recommendation request.

    Raises:
        Problem: malformed, invalid_request, invalid_context, unknown_arm or not_enough_arms, each place named.
    """
    body = _recommendation_body(experiment, data)
    if body.decision_id is not None and body.decision_id.startswith(SERVER_PREFIX):
        raise _invalid(
            "/decision_id", f"an id that does not start with {SERVER_PREFIX!r}, which is the server's", "one"
        )
    eligible, subset = _eligible(experiment, body)
    if body.k > (count := int(np.count_nonzero(eligible))):
        fault = Fault("/k", f"at most {count}, the arms that may be shown", "more")
        raise Problem(Code.NOT_ENOUGH_ARMS, f"{count} arms of {experiment.name!r} may be shown, fewer than k", [fault])
    caller = body.decision_id.encode() if body.decision_id is not None else b""
    deferred = body.defer or experiment.document.activation == "explicit"
    user = user_hash(secret, body.user_id)
    return Recommendation(experiment, body.context, eligible, body.k, caller, user, deferred, subset)


def _recommendation_body(experiment: Experiment, data: bytes | Raw) -> Any:
    try:
        return _decoder(experiment).decode(data)
    except msgspec.ValidationError as error:
        raise _context_problem(experiment, data, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def _decoder(experiment: Experiment) -> Any:
    """The decoder of this version's requests, made once."""
    if "recommendation" not in experiment.decoders:
        context = experiment.encoder.context_type
        field: Any = ("context", context) if experiment.encoder.features else ("context", context, context())
        fields = [field, *((f.name, f.type, f.default) for f in msgspec.structs.fields(RecommendationBody)[1:])]
        body = msgspec.defstruct("Recommendation", fields, forbid_unknown_fields=True, frozen=True, kw_only=True)
        experiment.decoders["recommendation"] = msgspec.json.Decoder(body)
    return experiment.decoders["recommendation"]


def _context_problem(experiment: Experiment, data: bytes | Raw, error: msgspec.ValidationError) -> Problem:
    """The slow path: msgspec stops at the first fault, this names every fault of the context."""
    body = msgspec.json.decode(data)
    if isinstance(body, dict) and "context" in body:
        if faults := experiment.encoder.faults(body["context"], "/context"):
            names = [feature.name for feature in experiment.encoder.features]
            found = "; ".join(f"{fault.pointer}: expected {fault.expected}, got {fault.got}" for fault in faults[:10])
            detail = f"experiment {experiment.name!r} takes features {names[:20]}; {found}"
            return Problem(Code.INVALID_CONTEXT, detail, faults)
        return typed_problem(error, Code.INVALID_REQUEST, known=RecommendationBody.__struct_fields__)
    if isinstance(body, dict) and "context" not in body:
        return _invalid("/context", "an object", "nothing")
    return typed_problem(error, Code.INVALID_REQUEST, known=RecommendationBody.__struct_fields__)


def _eligible(experiment: Experiment, body: Any) -> tuple[Mask, bytes]:
    """(the arms that may be shown, the request's own sets as bytes)."""
    if body.candidates is None and not body.exclude:
        return experiment.active, b""
    chosen = experiment.active
    if body.candidates is not None:
        _unrepeated(body.candidates, "candidates")
        chosen = np.zeros_like(experiment.active)
        for i, name in enumerate(body.candidates):
            at = pointer("candidates", i)
            index = experiment.arm(name, at)
            if not experiment.active[index]:
                raise experiment.unknown_arm(at, name, "an arm that is paused or retired")
            chosen[index] = True
    out = {experiment.arm(name, pointer("exclude", i)) for i, name in enumerate(body.exclude or ())}
    subset = (b"c" + np.packbits(chosen).tobytes() if body.candidates is not None else b"") + b"x"
    subset += np.array(sorted(out), "<u4").tobytes()
    eligible = chosen.copy()
    eligible[list(out)] = False
    return eligible, subset


def _unrepeated(names: tuple[str, ...], field: str) -> None:
    if len(set(names)) == len(names):
        return
    repeated = [i for i, name in enumerate(names) if name in names[:i]]
    faults = [Fault(pointer(field, i), "arms that differ", "an arm named before") for i in repeated]
    raise Problem(Code.INVALID_REQUEST, f"{field} names an arm more than once", faults)


def read_feedback(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Reward:
    """A feedback request.

    Raises:
        Problem: malformed, invalid_request, unknown_event, unknown_arm or decision_not_found.
    """
    body = parse(data, FeedbackBody, Code.INVALID_REQUEST)
    if (body.decision_id is None) == (body.user_id is None):
        got = "neither" if body.decision_id is None else "both"
        raise _invalid("/decision_id", "either decision_id or user_id", got)
    if (kind := experiment.kind_index.get(body.event)) is None:
        hint = nearest(body.event, experiment.kind_index)
        fault = Fault("/event", f"one of {list(experiment.kind_index)}{hint}", "another string")
        raise Problem(Code.UNKNOWN_EVENT, f"experiment {experiment.name!r} has no such event{hint}", [fault])
    arm = NO_ARM if body.arm is None else experiment.arm(body.arm, "/arm")
    last = experiment.kinds[kind].aggregation == "last"
    event = body.event_id if body.event_id is not None else "" if last else body.event
    ref = Ref(user=user_hash(secret, body.user_id)) if body.decision_id is None else _ref(body.decision_id)
    credit = experiment.kinds[kind].credit(body.value)
    return Reward(ref, kind, credit, event.encode(), body.event_id is not None, arm)


def read_activation(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Activate:
    """An activation request."""
    return Activate(_ref(parse(data, ActivationBody, Code.INVALID_REQUEST).decision_id))


def read_batch(data: bytes) -> tuple[Raw, ...]:
    """The requests of a batch, each still as bytes."""
    return parse(data, BatchBody, Code.INVALID_REQUEST).requests


def _ref(decision_id: str) -> Ref:
    """What an id refers to; the server's own ids have one spelling each."""
    if not decision_id.startswith(SERVER_PREFIX):
        return Ref(caller=decision_id.encode())
    found = read_decision_id(decision_id)
    if found is None or found[0] != SHARD:
        raise unknown_decision()
    _, position, nonce = found
    return Ref(entry=position.text(), nonce=nonce)


def unknown_decision() -> Problem:
    """The problem of a decision that was never made, or is forgotten."""
    fault = Fault("/decision_id", "a decision of this experiment within its reward window", "no such decision")
    return Problem(Code.DECISION_NOT_FOUND, "no such decision, or it is longer ago than decisions are known", [fault])


def _invalid(at: str, expected: str, got: str) -> Problem:
    return Problem(Code.INVALID_REQUEST, f"{at}: expected {expected}, got {got}", [Fault(at, expected, got)])
