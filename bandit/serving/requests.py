"""Requests to decide and feedback: their JSON, checked, as what a batcher logs; a problem names each fault.

A request is read against one version of its experiment. A batcher that finds a later version reads it again, so what is
logged is always what the experiment in force makes of it.

Reading is one typed pass. Only what it refuses is looked at again: whether it is strict JSON at all, and then for
every fault, because that pass stops at the first. Of a name that is given twice, the last value counts.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Raw

from bandit.arrays import Mask
from bandit.core.experiment import ARMS_MAX, Experiment
from bandit.core.features import Name
from bandit.core.validation import malformed, typed_problem
from bandit.errors import Code, Fault, Problem, nearest, pointer
from bandit.log.records import read_decision_id
from bandit.serving.reading import apart, decode, read_json
from bandit.store.keys import SHARD
from bandit.store.protocol import NO_ARM, Activate, Ref, Reward

BATCH_MAX = 1000
SERVER_PREFIX = "~"
UNKNOWN_MAX = 20  # unknown names that a problem lists

# `$` alone would let a line end through
Id = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)")]
Candidates = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=ARMS_MAX)]


class RecommendationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of a recommendation.

    Attributes:
        context: What is known of the visitor: a value for each feature of the experiment, and nothing else.
        user_id: Whom the decision is for, so that feedback can name the user; only a keyed hash of it is kept.
        k: How many different arms to answer, in order; default 1.
        candidates: The only arms that may be shown, each once; by default all active ones.
        exclude: Arms that may not be shown; by default none.
        decision_id: The caller's own id of the decision, 1 to 256 characters; the same request again gets the
            same answer.
        defer: Whether the decision is learned only once it has been activated; default false.
    """

    context: Any  # in use it has the type that the experiment compiled
    user_id: Id | None = None
    k: Annotated[int, Meta(ge=1, le=ARMS_MAX)] = 1
    candidates: Candidates | None = None
    exclude: Annotated[tuple[Name, ...], Meta(max_length=ARMS_MAX)] | None = None
    decision_id: Id | None = None
    defer: bool = False


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of feedback.

    Attributes:
        event: The kind of reward, by its name in the experiment.
        decision_id: The decision that earned it; either this or user_id is given.
        user_id: Whose decisions earned it, by the experiment's attribution; either this or decision_id is given.
        value: The reward, in the units of its kind; default 1.
        event_id: The caller's own id of the event, so that it counts once however often it is sent.
        arm: Which of the arms shown earned it; required where the decision showed several.
    """

    event: Name
    decision_id: Id | None = None
    user_id: Id | None = None
    value: float = 1.0
    event_id: Id | None = None
    arm: Name | None = None


class ActivationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request of an activation.

    Attributes:
        decision_id: The decision that has been shown and is to be learned from.
    """

    decision_id: Id


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of requests.

    Attributes:
        requests: Up to 1,000 requests, each as it would be sent alone.
    """

    requests: Annotated[tuple[Raw, ...], Meta(max_length=BATCH_MAX)]


_AS_SENT = msgspec.json.Decoder(RecommendationBody)
_FEEDBACK = msgspec.json.Decoder(FeedbackBody)
_ACTIVATION = msgspec.json.Decoder(ActivationBody)
_BATCH = msgspec.json.Decoder(BatchBody)


class RecommendationRequest(NamedTuple):
    """A recommendation, checked whole against one version of its experiment."""

    experiment: Experiment
    context: Any  # a struct; a repeated one may be as it was sent
    eligible: Mask
    k: int
    caller: bytes
    user: bytes
    defer: bool  # the caller's wish
    sets: bytes  # candidates and exclusions as sets

    @property
    def deferred(self) -> bool:
        """Whether it waits for its activation."""
        return self.defer or self.experiment.document.activation == "explicit"

    def digest(self, x: bytes) -> bytes:
        """A fingerprint of the request's meaning: equal for the same encoded context, sets, k, defer and user."""
        h = hashlib.blake2b(x, digest_size=8)
        h.update(struct.pack("<IBB", self.k, self.defer, len(self.user)) + self.user + self.sets)
        return h.digest()


def user_hash(secret: bytes, user_id: str | None) -> bytes:
    """What is kept of a user id: a keyed hash, or nothing."""
    return hashlib.blake2b(user_id.encode(), key=secret, digest_size=16).digest() if user_id is not None else b""


def read_recommendation(experiment: Experiment, data: bytes | Raw, secret: bytes) -> RecommendationRequest:
    """A recommendation request.

    Raises:
        Problem: malformed, invalid_request, invalid_context, unknown_arm or not_enough_arms, each place named.
    """
    try:
        body = _decoder(experiment).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(experiment, data, error) from None
    if body.decision_id is not None and body.decision_id.startswith(SERVER_PREFIX):
        raise _invalid(
            "/decision_id", f"an id that does not start with {SERVER_PREFIX!r}, which is the server's", "one"
        )
    eligible, sets = _eligible(experiment, body)
    whole = eligible is experiment.active
    if body.k > (count := experiment.active_count if whole else int(np.count_nonzero(eligible))):
        raise _too_few(experiment, body, count)
    caller = body.decision_id.encode() if body.decision_id is not None else b""
    user = user_hash(secret, body.user_id)
    return RecommendationRequest(experiment, body.context, eligible, body.k, caller, user, body.defer, sets)


def _too_few(experiment: Experiment, body: Any, count: int) -> Problem:
    """The problem of a list longer than the arms that may be shown."""
    if count:
        fault = Fault("/k", f"at most {count}, the arms that may be shown", "more")
        detail = f"{count} arms of {experiment.name!r} may be shown, fewer than k"
        return Problem(Code.NOT_ENOUGH_ARMS, detail, [fault])
    at, got = ("/exclude", "all of them") if body.exclude and experiment.active_count else ("", "no active arm")
    fault = Fault(at, "at least one arm left to show", got)
    return Problem(Code.NOT_ENOUGH_ARMS, f"no arm of {experiment.name!r} may be shown", [fault])


def read_again(experiment: Experiment, data: bytes | Raw, secret: bytes) -> RecommendationRequest | None:
    """A recommendation request that may repeat an earlier one; None if it has no decision id or names an unknown arm.

    Arms that may not be shown any more, or are too few now, do not matter: the decision was made before. Nor does a
    context that its features of now refuse, where columns came or went: it is then given as it was sent.
    """
    try:
        body = _decoder(experiment).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if (body := _as_sent(experiment, data)) is None:
            return None
    candidates = None if body.candidates is None else _arm_indices(experiment, body.candidates)
    excluded = _arm_indices(experiment, body.exclude or ())
    if body.decision_id is None or NO_ARM in (*(candidates or ()), *excluded):
        return None
    user = user_hash(secret, body.user_id)
    caller = body.decision_id.encode()
    return RecommendationRequest(
        experiment, body.context, experiment.active, body.k, caller, user, body.defer, _sets(candidates, excluded)
    )


def _as_sent(experiment: Experiment, data: bytes | Raw) -> Any:
    """A request with its context as JSON's values, where columns came or went; None where there is no such request."""
    try:
        body = _AS_SENT.decode(data) if experiment.layout.changes else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return body if body is not None and isinstance(body.context, dict) else None


def _decoder(experiment: Experiment) -> Any:
    """The decoder of this version's requests, made once."""
    if "recommendation" not in experiment.decoders:
        context = experiment.encoder.context_type
        field: Any = ("context", context) if experiment.encoder.features else ("context", context, context())
        fields = [field, *((f.name, f.type, f.default) for f in msgspec.structs.fields(RecommendationBody)[1:])]
        body = msgspec.defstruct("Recommendation", fields, forbid_unknown_fields=True, frozen=True, kw_only=True)
        experiment.decoders["recommendation"] = msgspec.json.Decoder(body)
    return experiment.decoders["recommendation"]


def _refused(experiment: Experiment, data: bytes | Raw, error: Exception) -> Problem:
    """Why a recommendation was refused: each fault of its context, or the first one elsewhere."""
    body = read_json(data)
    if isinstance(body, dict) and "context" in body:
        if faults := experiment.encoder.faults(_some(body["context"], experiment), "/context"):
            names = [feature.name for feature in experiment.encoder.features]
            wrong = "; ".join(fault.text for fault in faults[:10])
            detail = f"experiment {experiment.name!r} takes features {names[:20]}; {wrong}"
            return Problem(Code.INVALID_CONTEXT, detail, faults)
    elif isinstance(body, dict) and experiment.encoder.features:
        return _invalid("/context", "an object", "nothing")
    if not isinstance(error, msgspec.ValidationError):
        return malformed(error, data)
    return typed_problem(error, Code.INVALID_REQUEST, RecommendationBody)


def _some(context: Any, experiment: Experiment) -> Any:
    """A context with at most `UNKNOWN_MAX` unknown names: each is compared with every feature's name."""
    if not isinstance(context, dict):
        return context
    known = {feature.name for feature in experiment.encoder.features}
    listed = set([name for name in context if name not in known][:UNKNOWN_MAX])
    return {name: value for name, value in context.items() if name in known or name in listed}


def _eligible(experiment: Experiment, body: Any) -> tuple[Mask, bytes]:
    """(the arms that may be shown, the request's own sets as bytes: the same whatever arms come later)."""
    if body.candidates is None and not body.exclude:
        return experiment.active, b""
    eligible, candidates = experiment.active, None
    if body.candidates is not None:
        candidates = _indices(experiment, body.candidates, "candidates")
        if len(set(candidates)) < len(candidates):
            raise _repeated(candidates, "candidates")
        if not (shown := experiment.active[candidates]).all():
            i = int(np.argmin(shown))
            what = "an arm that is paused or retired"
            raise experiment.unknown_arm(pointer("candidates", i), body.candidates[i], what)
        eligible = np.zeros_like(eligible)
        eligible[candidates] = True
    excluded = _indices(experiment, body.exclude or (), "exclude")
    eligible = eligible.copy()
    eligible[excluded] = False
    return eligible, _sets(candidates, excluded)


def _sets(candidates: list[int] | None, excluded: list[int]) -> bytes:
    """Candidates and exclusions of a request as sets; nothing where it has neither."""
    if candidates is None and not excluded:
        return b""
    return (b"" if candidates is None else _set(b"c", candidates)) + _set(b"x", excluded)


def _indices(experiment: Experiment, names: Sequence[str], field: str) -> list[int]:
    indices = _arm_indices(experiment, names)
    if NO_ARM in indices:
        i = indices.index(NO_ARM)
        raise experiment.unknown_arm(pointer(field, i), names[i], "no such arm")
    return indices


def _arm_indices(experiment: Experiment, names: Sequence[str]) -> list[int]:
    """The indices of arms by name; `NO_ARM` for names that the experiment never had."""
    return [experiment.arm_index.get(name, NO_ARM) for name in names]


def _set(mark: bytes, indices: list[int]) -> bytes:
    members = np.unique(np.array(indices, "<u4"))
    return mark + struct.pack("<I", len(members)) + members.tobytes()


def _repeated(indices: list[int], field: str) -> Problem:
    seen: set[int] = set()
    faults = []
    for i, index in enumerate(indices):
        if index in seen:
            faults.append(Fault(pointer(field, i), "arms that differ", "an arm named before"))
        seen.add(index)
    return Problem(Code.INVALID_REQUEST, f"{field} names an arm more than once", faults)


def read_feedback(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Reward:
    """A feedback request.

    Raises:
        Problem: malformed, invalid_request, unknown_event, unknown_arm or decision_not_found.
    """
    body = decode(_FEEDBACK, data, Code.INVALID_REQUEST)
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
    body = decode(_ACTIVATION, data, Code.INVALID_REQUEST)
    return Activate(_ref(body.decision_id))


def read_batch(data: bytes) -> Sequence[Raw | bytes]:
    """The requests of a batch, each still as bytes.

    Raises:
        Problem: malformed or invalid_request. An item that is not JSON is refused where that item is read.
    """
    try:
        return _BATCH.decode(data).requests
    except msgspec.ValidationError:
        return decode(_BATCH, data, Code.INVALID_REQUEST).requests  # raises
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fault = error
    try:
        outline, items = apart(data)
        return [items[int(bytes(number))] for number in _BATCH.decode(outline).requests]
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise malformed(fault, data) from None


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
    return Problem(
        Code.DECISION_NOT_FOUND,
        "there is no such decision, or it is older than the time for which decisions are kept",
        [fault],
    )


def _invalid(at: str, expected: str, got: str) -> Problem:
    return Problem.of(Code.INVALID_REQUEST, [Fault(at, expected, got)])
