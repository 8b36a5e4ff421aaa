"""Answers of the native contract, rendered from what a batcher returns."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bandit.core.experiment import Experiment
from bandit.core.times import time_of
from bandit.errors import Code, Fault, Problem
from bandit.log.records import Position, decision_id, unpack_decision
from bandit.serving.batcher import Credited, NewDecision, Paused, Replayed, Unlogged
from bandit.serving.feedback import unknown_decision
from bandit.serving.requests import RecommendationRequest
from bandit.store.keys import SHARD
from bandit.store.protocol import EVENTS_MAX, Outcome

_time_of = lru_cache(maxsize=256)(time_of)  # the decisions of a micro-batch share their time


class Estimate(msgspec.Struct, frozen=True):
    """What is expected of one kind of reward: x'theta_k, and sqrt(x' G x).

    Attributes:
        mean: The reward of this kind that is expected of the arm in this context, in reward units.
        width: How uncertain the mean is, as a multiple of the noise; it shrinks as the arm is shown.
    """

    mean: float
    width: float


class ShownArm(msgspec.Struct, frozen=True, omit_defaults=True):
    """One arm of a decision; of a replayed one, score and estimates are left out.

    Attributes:
        arm: The arm to show.
        propensity: The probability that it was drawn with, given the arms at the positions before it.
        score: What the policy ranked the arm by, in weighted reward units; left out of a replayed decision.
        estimates: What is expected of each kind of reward; left out of a replayed decision.
        payload: The arm's payload as it is now; left out where the arm has none.
    """

    arm: str
    propensity: float
    score: float | UnsetType = UNSET
    estimates: dict[str, Estimate] | UnsetType = UNSET
    payload: Raw | UnsetType = UNSET


class ShadowArm(msgspec.Struct, frozen=True):
    """What would have been shown, had the experiment not been in shadow.

    Attributes:
        arm: The arm that would have been shown.
        propensity: The probability that it was drawn with.
    """

    arm: str
    propensity: float


class RecommendationAnswer(msgspec.Struct, frozen=True):
    """A decision.

    Attributes:
        decision_id: What feedback refers to; the caller's own id where one was sent; null where nothing was logged.
        arms: The arms to show, best position first, as many as k asked for.
        experiment_version: The version of the experiment that decided.
        model_position: The position in the log up to which the model had learned; null where nothing was decided.
        replayed: Whether this is an earlier decision of the same decision_id, given again.
        logged: Whether the decision is in the log; false while the experiment is paused, and of one that is degraded.
        expires_at: When the reward window of this decision ends, RFC 3339 in UTC; null where nothing was logged.
        slice_name: The slice that decided; left out where the experiment has none.
        ignored: Candidates and exclusions that are paused or retired; left out where there are none.
        fallback: True where this is the fallback arm of a paused experiment; left out elsewhere.
        shadow: What would have been shown; left out where the experiment is not in shadow.
        degraded: True where the store is away and the experiment is answered for all the same: nothing is learned from
            this decision, and it takes no feedback; left out elsewhere.
    """

    decision_id: str | None
    arms: list[ShownArm]
    experiment_version: int
    model_position: str | None
    replayed: bool
    logged: bool
    expires_at: str | None
    slice_name: str | UnsetType = UNSET
    ignored: tuple[str, ...] | UnsetType = UNSET
    fallback: bool | UnsetType = UNSET
    shadow: ShadowArm | UnsetType = UNSET
    degraded: bool | UnsetType = UNSET


class FeedbackAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of feedback.

    Attributes:
        status: What became of it: "accepted", "duplicate" of an earlier event, or "late" for the reward window.
        credited: How much the decision's reward of this kind has changed, in reward units.
        decision_id: The decision that was credited.
        clipped: Whether the reward was cut to the range of its kind; left out where it was not.
        decisions: What became of it at each decision, where attribution is "all" or several were credited with the
            event of a refund; left out elsewhere.
    """

    status: str
    credited: float | UnsetType = UNSET
    decision_id: str | UnsetType = UNSET
    clipped: bool = False
    decisions: list[FeedbackAnswer] | UnsetType = UNSET


class ActivationAnswer(msgspec.Struct, frozen=True):
    """What became of an activation.

    Attributes:
        status: What became of it: "activated", "duplicate" where it already was, or "late" for the reward window.
    """

    status: str


def recommendation(result: Any) -> RecommendationAnswer:
    """The answer to a recommendation.

    Raises:
        Problem: `decision_id_reused`, where another request had the id; `paused`, where there is no fallback arm.
    """
    if isinstance(result, Paused):
        return fallback(result.request)
    if isinstance(result, Unlogged):
        return _unlogged(result.told)
    return _new(result) if isinstance(result, NewDecision) else _replayed(result)


def size_of(request: RecommendationRequest) -> int:
    """Roughly how many bytes the answer will take at most, before anything is decided."""
    experiment = request.experiment
    largest, all_of_them = experiment.payload_bytes
    per_arm = 150 + sum(80 + len(kind) for kind in experiment.config.kinds)
    return 300 + request.k * per_arm + min(request.k * largest, all_of_them)


def _new(told: NewDecision) -> RecommendationAnswer:
    at, experiment, choice, nonce, request, (score, means, width), model_position, play, _ = told
    config, specs = experiment.config, experiment.arms
    kinds, shown = config.kinds, []
    for place, arm in enumerate(choice.arms):
        name, mean, uncertain = config.index[arm], means[place], width[place]
        estimates = {kind: Estimate(mean[k], uncertain) for k, kind in enumerate(kinds)}
        payload = UNSET if (spec := specs.get(name)) is None else spec.payload
        shown.append(ShownArm(name, choice.propensities[place], score[place], estimates, payload))
    name = request.caller.decode() if request.caller else decision_id(SHARD, at, nonce)
    expires = _time_of(at.ms + experiment.window_ms)
    answer = RecommendationAnswer(name, shown, config.version, _text_of(model_position), False, True, expires)
    return _with_more(answer, told) if play >= 0 or request.ignored else answer


def _unlogged(told: NewDecision) -> RecommendationAnswer:
    """What was decided without the store has no id: no feedback on it would be known."""
    made = _new(told)
    return msgspec.structs.replace(made, decision_id=None, logged=False, expires_at=None, degraded=True)


def _with_more(answer: RecommendationAnswer, told: NewDecision) -> RecommendationAnswer:
    """The answer with what most have nothing of."""
    experiment, shadow = told.experiment, told.shadow
    return msgspec.structs.replace(
        answer,
        slice_name=experiment.slices[told.play].name if told.play >= 0 and shadow is None else UNSET,
        ignored=told.request.ignored or UNSET,
        shadow=UNSET if shadow is None else ShadowArm(experiment.config.index[shadow[0]], shadow[1]),
    )


@lru_cache(maxsize=256)
def _text_of(position: Position) -> str:
    return position.text().decode()


def _replayed(replayed: Replayed) -> RecommendationAnswer:
    decision, experiment = unpack_decision(replayed.record), replayed.experiment
    head = decision.head
    if replayed.digest is not None and head.digest != replayed.digest:
        fault = Fault("/decision_id", "an id of its own for each request", "the id of another request")
        raise Problem(Code.DECISION_ID_REUSED, "this decision_id belongs to another request", [fault])
    arms = [
        ShownArm(experiment.config.index[arm], propensity, payload=payload(experiment, arm))
        for arm, propensity in zip(decision.arms, decision.propensities, strict=True)
    ]
    position = Position(head.model_ms, head.model_seq).text().decode()
    expires = _time_of(replayed.position.ms + head.window_ms)
    config = experiment.config
    name = config.slices[head.slice] if decision.slices and not experiment.document.shadow else UNSET
    told = decision.caller or decision_id(SHARD, replayed.position, head.nonce)
    return RecommendationAnswer(told, arms, head.version, position, True, True, expires, name)


def fallback(request: RecommendationRequest) -> RecommendationAnswer:
    """The answer of a paused experiment: its fallback arm, not logged.

    Raises:
        Problem: `paused`, where it has none; `not_enough_arms`, where the request or the arm itself rules it out.
    """
    experiment = request.experiment
    arm = experiment.document.fallback_arm
    if arm is None:
        raise Problem(Code.PAUSED, f"experiment {experiment.name!r} is paused and has no fallback_arm")
    index = experiment.arm_index[arm]
    if not request.eligible[index]:
        detail = f"experiment {experiment.name!r} is paused, and its fallback_arm may not be shown here"
        raise Problem(
            Code.NOT_ENOUGH_ARMS, detail, [Fault("", "the fallback_arm among the arms left", "others, or none")]
        )
    shown = ShownArm(arm, 1.0, payload=payload(experiment, index))
    version, ignored = experiment.config.version, request.ignored or UNSET
    return RecommendationAnswer(None, [shown], version, None, False, False, None, ignored=ignored, fallback=True)


def payload(experiment: Experiment, arm: int) -> Raw | UnsetType:
    """An arm's payload as it was given, if it has one now."""
    spec = experiment.arms.get(experiment.config.index[arm])
    return spec.payload if spec is not None else UNSET


def feedback(credited: Credited) -> FeedbackAnswer:
    """The answer to feedback.

    Raises:
        Problem: the feedback was refused.
    """
    experiment, kind, result = credited
    return _all(result, experiment, kind) if isinstance(result, list) else _one(result, experiment, kind)


def _one(result: Outcome, experiment: Experiment, kind: int) -> FeedbackAnswer:
    if result.status not in ("accepted", "duplicate", "late"):
        raise refusal(result, experiment, kind)
    credited = experiment.kinds[kind].value(result.credited)
    return FeedbackAnswer(result.status, credited, _name(result), result.clipped)


def _all(results: list[Outcome], experiment: Experiment, kind: int) -> FeedbackAnswer:
    """Feedback to every decision of a user: refused only if each of them refuses it."""
    taken = [result for result in results if result.status in ("accepted", "duplicate", "late")]
    if not taken:
        raise refusal(results[0], experiment, kind)
    each = [_one(result, experiment, kind) for result in taken]
    status = next((s for s in ("accepted", "duplicate") if s in {answer.status for answer in each}), "late")
    credited = experiment.kinds[kind].value(sum(result.credited for result in taken))
    return FeedbackAnswer(status, credited, _name(taken[0]), any(r.clipped for r in taken), each)


def activation(result: Outcome) -> ActivationAnswer:
    """The answer to an activation.

    Raises:
        Problem: there is no such decision.
    """
    if result.status not in ("activated", "duplicate", "late"):
        raise unknown_decision()
    return ActivationAnswer(result.status)


def refusal(result: Outcome, experiment: Experiment, kind: int) -> Problem:
    """Why feedback was refused."""
    name, spec = experiment.config.kinds[kind], experiment.kinds[kind]
    if result.status == "range":
        low, high = spec.range
        fault = Fault("/value", f"a value that keeps the decision's {name!r} within [{low}, {high}]", "another number")
        detail = f'the decision\'s {name!r} would leave [{low}, {high}]; over_range "clip" would cut it instead'
        return Problem(Code.REWARD_OUT_OF_RANGE, detail, [fault])
    if result.status == "events":
        return Problem(Code.TOO_MANY_EVENTS, f"a decision takes at most {EVENTS_MAX} events")
    if result.status in _REFUNDS:
        code, detail, fault = _REFUNDS[result.status]
        return Problem(code, detail, [fault])
    if result.status == "arm":
        fault = Fault("/arm", "one of the arms shown, since the decision showed several", "nothing")
        return Problem(Code.INVALID_REQUEST, "the decision showed several arms: say which one is meant", [fault])
    if result.status == "shown":
        fault = Fault("/arm", "an arm that the decision showed", "another arm")
        return Problem(Code.UNKNOWN_ARM, "the decision did not show this arm", [fault])
    return unknown_decision()


_REFUNDS = {
    "event": (
        Code.EVENT_NOT_FOUND,
        "no event of this id and kind was credited there, or it is older than the time for which events are kept",
        Fault("/refund_of", "an event that was credited to the decision, or to one of the user's", "another id"),
    ),
    "left": (
        Code.REFUND_REFUSED,
        "less than that is left of the event",
        Fault("/value", "at most what is left of the event, which is above 0", "more"),
    ),
    "amount": (
        Code.REFUND_REFUSED,
        "the event was credited by a version of the server that did not keep amounts",
        Fault("/refund_of", "an event whose amount is known", "one whose amount is not"),
    ),
}


def _name(result: Outcome) -> str:
    return result.caller.decode() or decision_id(SHARD, result.position, result.nonce)
