"""Requests that refer to a decision: feedback, refunds and activations; a problem names each fault.

A kind of reward whose range is not [0, 1] is an amount: what it was must be said, and where amounts add up also which
event it is, for without an id a second one could not be told from the first one sent again.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bandit.core.document import Kind
from bandit.core.experiment import Experiment
from bandit.core.features import Name
from bandit.errors import Code, Fault, Problem, nearest
from bandit.log.records import read_decision_id
from bandit.serving.reading import decode
from bandit.serving.requests import SERVER_PREFIX, Id, user_hash
from bandit.store.keys import SHARD
from bandit.store.protocol import NO_ARM, Activate, Ref, Reward

CREDIT = (0.0, 1.0)  # the range of a kind that is no amount


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of feedback.

    Attributes:
        event: The kind of reward, by its name in the experiment.
        decision_id: The decision that earned it; either this or user_id is given.
        user_id: Whose decisions earned it, by the experiment's attribution; either this or decision_id is given.
        value: The reward, in the units of its kind; default 1 where the kind's range is [0, 1], elsewhere required. Of
            a refund the amount taken back, above 0; by default all that is left of the event.
        event_id: The caller's own id of the event, so that it counts once however often it is sent; required of
            refunds, and where amounts add up (aggregation "sum", a range that is not [0, 1]).
        arm: Which of the arms shown earned it; required where the decision showed several.
        refund_of: The event_id of an earlier event of this kind: this takes back of it, from the decision that was
            credited with it; only under aggregation "sum".
    """

    event: Name
    decision_id: Id | None = None
    user_id: Id | None = None
    value: float | UnsetType = UNSET
    event_id: Id | None = None
    arm: Name | None = None
    refund_of: Id | None = None


class UserFeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of feedback on a user's decisions in every experiment that has the kind.

    Attributes:
        event: The kind of reward, by the name that it has in these experiments.
        user_id: Whose decisions earned it, by each experiment's attribution.
        value: As in feedback on one experiment, by each one's own range.
        event_id: The caller's own id of the event, so that it counts once in each experiment.
        arm: Which of the arms shown earned it; an experiment without it answers that as its problem.
        refund_of: The event_id of an earlier event, to be taken back of in each experiment.
    """

    event: Name
    user_id: Id
    value: float | UnsetType = UNSET
    event_id: Id | None = None
    arm: Name | None = None
    refund_of: Id | None = None


class ActivationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request of an activation.

    Attributes:
        decision_id: The decision that has been shown and is to be learned from.
    """

    decision_id: Id


_FEEDBACK = msgspec.json.Decoder(FeedbackBody)
_EVERYWHERE = msgspec.json.Decoder(UserFeedbackBody)
_ACTIVATION = msgspec.json.Decoder(ActivationBody)


def read_feedback(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Reward:
    """A feedback request.

    Raises:
        Problem: malformed, invalid_request, unknown_event, unknown_arm or decision_not_found.
    """
    body = decode(_FEEDBACK, data, Code.INVALID_REQUEST)
    if (body.decision_id is None) == (body.user_id is None):
        got = "neither" if body.decision_id is None else "both"
        raise Problem.of(Code.INVALID_REQUEST, [Fault("/decision_id", "either decision_id or user_id", got)])
    return reward(experiment, body, secret)


def read_everywhere(data: bytes) -> FeedbackBody:
    """Feedback on a user's decisions in every experiment.

    Raises:
        Problem: malformed or invalid_request.
    """
    body = decode(_EVERYWHERE, data, Code.INVALID_REQUEST)
    return FeedbackBody(**{field: getattr(body, field) for field in body.__struct_fields__})


def reward(experiment: Experiment, body: FeedbackBody, secret: bytes) -> Reward:
    """What feedback means in an experiment.

    Raises:
        Problem: invalid_request, unknown_event, unknown_arm or decision_not_found.
    """
    if (index := experiment.kind_index.get(body.event)) is None:
        hint = nearest(body.event, experiment.kind_index)
        fault = Fault("/event", f"one of {list(experiment.kind_index)}{hint}", "another string")
        raise Problem(Code.UNKNOWN_EVENT, f"experiment {experiment.name!r} has no such event{hint}", [fault])
    kind = experiment.kinds[index]
    credit = kind.credit(1.0 if body.value is UNSET else body.value)
    if body.refund_of is not None:
        credit = 0 if body.value is UNSET else credit
        faults = list(_refund_faults(body, kind, credit))
    else:
        faults = list(_amount_faults(body, kind)) if kind.range != CREDIT else []
    if faults:
        raise Problem.of(Code.INVALID_REQUEST, faults)
    arm = NO_ARM if body.arm is None else experiment.arm(body.arm, "/arm")
    event = body.event_id if body.event_id is not None else "" if kind.aggregation == "last" else body.event
    ref = Ref(user=user_hash(secret, body.user_id)) if body.decision_id is None else ref_of(body.decision_id)
    of = b"" if body.refund_of is None else body.refund_of.encode()
    return Reward(ref, index, credit, event.encode(), body.event_id is not None, arm, of)


def _amount_faults(body: FeedbackBody, kind: Kind) -> Iterator[Fault]:
    """What is not said of an amount."""
    low, high = kind.range
    if body.value is UNSET:
        yield Fault("/value", f"the amount, since {body.event!r} ranges from {low:g} to {high:g}", "nothing")
    if body.event_id is None and kind.aggregation == "sum":
        yield Fault("/event_id", f"an id of the event, since amounts of {body.event!r} add up", "nothing")


def _refund_faults(body: FeedbackBody, kind: Kind, credit: int) -> Iterator[Fault]:
    """What is wrong with a refund, whatever its event was."""
    if kind.aggregation != "sum":
        yield Fault("/refund_of", f'a kind with aggregation "sum"; {body.event!r} has "{kind.aggregation}"', "a refund")
    if body.event_id is None:
        yield Fault("/event_id", "an id of the refund itself", "nothing")
    elif body.event_id == body.refund_of:
        yield Fault("/event_id", "another id than that of the event taken back", "the same")
    if body.value is not UNSET and credit <= 0:
        yield Fault("/value", f"the amount taken back, at least {kind.step:g}", "a number below that")


def read_activation(experiment: Experiment, data: bytes | Raw, secret: bytes) -> Activate:
    """An activation request."""
    body = decode(_ACTIVATION, data, Code.INVALID_REQUEST)
    return Activate(ref_of(body.decision_id))


def ref_of(decision_id: str) -> Ref:
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
