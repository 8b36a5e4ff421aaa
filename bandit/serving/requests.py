"""Requests to decide, and batches: their JSON, checked, as what a batcher logs; a problem names each fault.

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
from bandit.core import slices
from bandit.core.document import ARMS_MAX
from bandit.core.experiment import Experiment
from bandit.core.features import Name
from bandit.core.validation import malformed, typed_problem
from bandit.errors import Code, Fault, Problem
from bandit.serving.eligible import arm_indices, context_faults, context_names, eligible_of, said_of, with_attributes
from bandit.serving.reading import apart, decode, read_json
from bandit.store.protocol import NO_ARM

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
        strict: Whether a candidate that is paused or retired is refused with 422, not ignored; default false.
        baseline: The arm that is shown while the experiment is in shadow; only then, and then it is required.
    """

    context: Any  # in use it has the type that the experiment compiled
    user_id: Id | None = None
    k: Annotated[int, Meta(ge=1, le=ARMS_MAX)] = 1
    candidates: Candidates | None = None
    exclude: Annotated[tuple[Name, ...], Meta(max_length=ARMS_MAX)] | None = None
    decision_id: Id | None = None
    defer: bool = False
    strict: bool = False
    baseline: Name | None = None


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of requests.

    Attributes:
        requests: Up to 1,000 requests, each as it would be sent alone.
    """

    requests: Annotated[tuple[Raw, ...], Meta(max_length=BATCH_MAX)]


_AS_SENT = msgspec.json.Decoder(RecommendationBody)
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
    said: bytes  # candidates and exclusions as sets, attributes and the baseline: nothing where there are none
    place: int = -1  # in the range that slices share; -1: by its nonce
    baseline: int = NO_ARM
    ignored: tuple[str, ...] = ()  # candidates and exclusions that are paused or retired
    fresh: bool = False  # the user's earlier decision will not do

    @property
    def deferred(self) -> bool:
        """Whether it waits for its activation."""
        return self.defer or self.experiment.document.activation == "explicit"

    def digest(self, x: bytes) -> bytes:
        """A fingerprint of the request's meaning: equal for the same encoded context, k, defer, user and `said`."""
        h = hashlib.blake2b(x, digest_size=8)
        h.update(struct.pack("<IBB", self.k, self.defer, len(self.user)) + self.user + self.said)
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
    eligible, ignored = eligible_of(experiment, body)
    whole = eligible is experiment.active
    if body.k > (count := experiment.active_count if whole else int(np.count_nonzero(eligible))):
        raise _too_few(experiment, body, count)
    asked = _asked(experiment, body, secret, eligible)
    if experiment.document.shadow or body.baseline is not None:
        _check_baseline(experiment, body, asked)
    return asked._replace(ignored=ignored) if ignored else asked


def _asked(experiment: Experiment, body: Any, secret: bytes, eligible: Mask) -> RecommendationRequest:
    caller = body.decision_id.encode() if body.decision_id is not None else b""
    user = user_hash(secret, body.user_id)
    said, place, baseline = said_of(experiment, body), -1, NO_ARM
    if experiment.slices and (unit := user or caller):
        place = slices.place(secret, experiment.name, unit)
    if body.baseline is not None:
        baseline = experiment.arm_index.get(body.baseline, NO_ARM)
    return RecommendationRequest(
        experiment, body.context, eligible, body.k, caller, user, body.defer, said, place, baseline
    )


def _check_baseline(experiment: Experiment, body: Any, asked: RecommendationRequest) -> None:
    """Refuse a request whose baseline cannot be shown, or is missing, or is not asked for."""
    if not experiment.document.shadow:
        raise _invalid("/baseline", "nothing, as the experiment is not in shadow", "a string")
    if body.baseline is None:
        raise _invalid("/baseline", "the arm to show, as the experiment is in shadow", "nothing")
    if body.k > 1:
        raise _invalid("/k", "1, as the experiment is in shadow", "more")
    if asked.baseline == NO_ARM or not asked.eligible[asked.baseline]:
        raise experiment.unknown_arm("/baseline", body.baseline, "an arm that may not be shown")


def _too_few(experiment: Experiment, body: Any, count: int) -> Problem:
    """The problem of a list longer than the arms that may be shown."""
    if count:
        fault = Fault("/k", f"at most {count}, the arms that may be shown", "more")
        detail = f"{count} arms of {experiment.name!r} may be shown, fewer than k"
        return Problem(Code.NOT_ENOUGH_ARMS, detail, [fault])
    at, got = "", "no active arm"
    if experiment.active_count:
        got = "none to which this context and this moment fit"
        if experiment.gate is None:
            at, got = ("/exclude", "all of them") if body.exclude else ("/candidates", "none that is active")
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
    named = (*(body.candidates or ()), *(body.exclude or ()))
    if body.decision_id is None or NO_ARM in arm_indices(experiment, named):
        return None
    return _asked(experiment, body, secret, experiment.active)


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
        context, document = experiment.encoder.context_type, experiment.document
        if document.attributes:
            context = with_attributes(context, document.attributes)
        field: Any = ("context", context) if _needed(context) else ("context", context, context())
        fields = [field, *((f.name, f.type, f.default) for f in msgspec.structs.fields(RecommendationBody)[1:])]
        body = msgspec.defstruct("Recommendation", fields, forbid_unknown_fields=True, frozen=True, kw_only=True)
        experiment.decoders["recommendation"] = msgspec.json.Decoder(body)
    return experiment.decoders["recommendation"]


def _needed(context: type[msgspec.Struct]) -> bool:
    """Whether there are fields that every context has to have."""
    return any(field.required for field in msgspec.structs.fields(context))


def _refused(experiment: Experiment, data: bytes | Raw, error: Exception) -> Problem:
    """Why a recommendation was refused: each fault of its context, or the first one elsewhere."""
    body = read_json(data)
    if isinstance(body, dict) and "context" in body:
        if faults := context_faults(experiment, _some(body["context"], experiment)):
            names = [feature.name for feature in experiment.encoder.features]
            wrong = "; ".join(fault.text for fault in faults[:10])
            detail = f"experiment {experiment.name!r} takes features {names[:20]}; {wrong}"
            return Problem(Code.INVALID_CONTEXT, detail, faults)
    elif isinstance(body, dict) and _needed(experiment.encoder.context_type):
        return _invalid("/context", "an object", "nothing")
    if not isinstance(error, msgspec.ValidationError):
        return malformed(error, data)
    return typed_problem(error, Code.INVALID_REQUEST, RecommendationBody)


def _some(context: Any, experiment: Experiment) -> Any:
    """A context with at most `UNKNOWN_MAX` unknown names: each is compared with every feature's name."""
    if not isinstance(context, dict):
        return context
    known = context_names(experiment)
    listed = set([name for name in context if name not in known][:UNKNOWN_MAX])
    return {name: value for name, value in context.items() if name in known or name in listed}


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


def _invalid(at: str, expected: str, got: str) -> Problem:
    return Problem.of(Code.INVALID_REQUEST, [Fault(at, expected, got)])
