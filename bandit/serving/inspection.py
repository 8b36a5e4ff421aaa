"""One decision looked at: what was shown and why, what was credited when, and what the model of now makes of it.

What the log says is as it was at the time. Reasons why arms were not eligible, and explanations, are by the experiment
and the model of now, and labelled so.

    mean = sum over features of x'theta        width = sum over features of x_j (G x)_j / width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from bandit.arrays import Int, Vector
from bandit.core.document import ArmSpec
from bandit.core.eligibility import meets
from bandit.core.engine import Model
from bandit.core.experiment import Experiment
from bandit.core.features import Number
from bandit.core.policies import Rule
from bandit.core.ridge.estimates import EVERY
from bandit.core.sums import ONE
from bandit.core.times import instant, time_of
from bandit.log.records import (
    DEFERRED,
    Decision,
    Entry,
    Position,
    known,
    unpack_decision,
    unpack_feedback,
)
from bandit.log.vectors import unpack_x


class DecidedArm(msgspec.Struct, frozen=True):
    """An arm that was shown.

    Attributes:
        arm: The arm that was shown.
        propensity: The probability that it was drawn with, given the arms at the positions before it.
        marginal: The probability of that arm at that position, over all lists; null where that is not known: at lower
            places of lists by a policy that draws each place for itself.
    """

    arm: str
    propensity: float
    marginal: float | None


class EligibleArm(msgspec.Struct, frozen=True):
    """An arm that could have been shown.

    Attributes:
        arm: The arm that could have been shown.
        probability: Its probability at the first position, in the slice that decided.
        mixture: Its probability over all slices; left out where there were none.
    """

    arm: str
    probability: float
    mixture: float | UnsetType = UNSET


class OtherArm(msgspec.Struct, frozen=True):
    """An arm that could not be shown.

    Attributes:
        arm: The arm that could not be shown.
        reasons: Why, as far as the experiment of now tells: "retired", "paused", "from", "until", "when FIELD";
            "perhaps when FIELD" where that is an attribute, which is not logged, or a number, which is logged rounded;
            "request" where nothing else tells: the request did not want it.
    """

    arm: str
    reasons: list[str]


class Happened(msgspec.Struct, frozen=True):
    """Feedback that was credited.

    Attributes:
        at: When it was logged, RFC 3339 in UTC.
        event: The kind of reward.
        event_id: The id of the event; left out where it had none.
        refund_of: The event that it took back of; left out elsewhere.
        arm: The arm that was credited.
        value: The reward that was sent, in reward units.
        credited: How much the arm's reward of this kind changed, in reward units.
    """

    at: str
    event: str
    arm: str
    value: float
    credited: float
    event_id: str | UnsetType = UNSET
    refund_of: str | UnsetType = UNSET


class ExplainedArm(msgspec.Struct, frozen=True):
    """What the model of now makes of an arm in the context of then; the parts add up to the wholes.

    Attributes:
        arm: The arm that is explained.
        score: What the policy ranks it by: the mean and what it adds for the width.
        mean: The reward that is expected, in weighted reward units: the sum of its parts.
        width: How uncertain that is, as a multiple of sigma: the sum of its parts.
        sigma: The standard deviation of the arm's rewards.
        mean_parts: What each feature adds to the mean; "(intercept)" is what holds in every context.
        width_parts: What each feature adds to the width.
    """

    arm: str
    score: float
    mean: float
    width: float
    sigma: float
    mean_parts: dict[str, float]
    width_parts: dict[str, float]


class Explanation(msgspec.Struct, frozen=True):
    """What the model of now makes of the decision.

    Attributes:
        model_position: The position in the log up to which the model of now has learned.
        experiment_version: The version of the experiment of now.
        alpha: How many times sigma width is added to the mean, or "auto"; 0 of policies that add nothing.
        arms: Those that were shown, then the others that were eligible and are not retired by now, the best first.
    """

    model_position: str
    experiment_version: int
    alpha: float | Literal["auto"]
    arms: list[ExplainedArm]


class DecisionAnswer(msgspec.Struct, frozen=True):
    """A decision as the log has it.

    Attributes:
        decision_id: The decision's id.
        decided_at: When it was decided, RFC 3339 in UTC.
        expires_at: When its reward window ends, RFC 3339 in UTC.
        experiment_version: The version of the experiment that decided.
        model_position: The position in the log up to which the model had learned.
        deferred: Whether it waited, or waits, to be activated.
        activated_at: When it was activated; null where it was not, or did not have to be.
        context: The features, as they were logged; attributes are not.
        arms: The arms that were shown, in order.
        eligible: The arms that could have been shown, the likeliest first, at most `limit` of them.
        eligible_count: How many could have been shown.
        others: Arms that could not be shown, at most `limit` of them.
        feedback: What was credited, in order.
        slice_name: The slice that decided; left out where there were none.
        shares: The share of each slice; left out where there were none.
        explanation: What the model of now makes of it; left out unless asked for.
    """

    decision_id: str
    decided_at: str
    expires_at: str
    experiment_version: int
    model_position: str
    deferred: bool
    activated_at: str | None
    context: dict[str, Any]
    arms: list[DecidedArm]
    eligible: list[EligibleArm]
    eligible_count: int
    others: list[OtherArm]
    feedback: list[Happened]
    slice_name: str | UnsetType = UNSET
    shares: dict[str, float] | UnsetType = UNSET
    explanation: Explanation | UnsetType = UNSET


class Look(NamedTuple):
    """A decision's entry, and what happened to it."""

    name: str  # its id
    entry: Entry
    happened: Sequence[Entry]


def described(look: Look, model: Model, scored: Position, limit: int, explain: bool) -> DecisionAnswer:
    """The answer about a decision of the generation in force."""
    decision, experiment = unpack_decision(look.entry.record), model.experiment
    head, at, config = decision.head, look.entry.position, experiment.config
    x = unpack_x([(decision.x, head.flags)], experiment.encoder.d, experiment.layout)
    (context,) = experiment.encoder.decode(x)
    activated = next((time_of(entry.position.ms) for entry in look.happened if entry.tag == b"a"), None)
    shown = zip(decision.arms, decision.propensities, decision.marginals, strict=True)
    return DecisionAnswer(
        look.name,
        time_of(at.ms),
        time_of(at.ms + head.window_ms),
        head.version,
        Position(head.model_ms, head.model_seq).text().decode(),
        bool(head.flags & DEFERRED),
        activated,
        context,
        [DecidedArm(config.index[arm], p, known(marginal)) for arm, p, marginal in shown],
        list(_eligible(decision, experiment, limit)),
        len(decision.eligible),
        list(_others(decision, experiment, context, at.ms, limit)),
        list(_feedback(look.happened, experiment)),
        config.slices[head.slice] if decision.slices else UNSET,
        {config.slices[part.slice]: part.share for part in decision.slices} or UNSET,
        explained(model, decision, x[0], scored, limit) if explain else UNSET,
    )


def _eligible(decision: Decision, experiment: Experiment, limit: int) -> Iterator[EligibleArm]:
    order = np.argsort(-decision.probabilities, kind="stable")[:limit]
    mixture = decision.mixture
    for i in order.tolist():
        name = experiment.config.index[decision.eligible[i]]
        over_all = float(mixture[i]) if decision.slices else UNSET
        yield EligibleArm(name, float(decision.probabilities[i]), over_all)


def _others(
    decision: Decision, experiment: Experiment, context: dict[str, Any], ms: int, limit: int
) -> Iterator[OtherArm]:
    out = np.ones(len(experiment.config.index), bool)
    out[decision.eligible] = False
    attributes = frozenset(experiment.document.attributes or ())
    numbers = frozenset(feature.name for feature in experiment.encoder.features if isinstance(feature, Number))
    for arm in np.flatnonzero(out)[:limit].tolist():
        name = experiment.config.index[arm]
        spec = experiment.arms.get(name)
        reasons = list(_reasons(spec, attributes, numbers, context, ms))
        yield OtherArm(name, reasons or ["request"])


def _reasons(
    arm: ArmSpec | None, attributes: Set[str], numbers: Set[str], context: dict[str, Any], ms: int
) -> Iterator[str]:
    if arm is None:
        yield "retired"
        return
    if arm.paused:
        yield "paused"
    if arm.since is not UNSET and ms < (instant(arm.since) or 0):
        yield "from"
    if arm.until is not UNSET and ms >= (instant(arm.until) or 0):
        yield "until"
    for field, condition in (arm.when or {}).items():
        fits = field in context and meets(context[field], condition)
        if field in attributes or (field in numbers and not fits):
            yield f"perhaps when {field}"  # attributes are not logged, and numbers are, rounded and cut
        elif not fits:
            yield f"when {field}"


def _feedback(happened: Sequence[Entry], experiment: Experiment) -> Iterator[Happened]:
    for entry in happened:
        if entry.tag != b"f":
            continue
        f = unpack_feedback(entry.record)
        kind, name = experiment.kinds[f.kind], experiment.config.kinds[f.kind]
        value, credited = kind.value(f.value), kind.value(f.new[f.kind] - f.old[f.kind])
        arm = experiment.config.index[f.arm]
        yield Happened(time_of(entry.position.ms), name, arm, value, credited, f.event or UNSET, f.refund_of or UNSET)


def explained(model: Model, decision: Decision, x: Any, scored: Position, limit: int) -> Explanation:
    """What the model of now makes of the arms of a decision: see the head of this file."""
    with model.lock:
        experiment, scorer = model.experiment, model.scorer
        derived, factors = scorer.derived, scorer.rows.factors
        policy = _policy(experiment, decision)
        rule = policy.rule(lambda arm: -1)
        arms = _ranked(model, decision, x, rule, limit)
        slots = scorer.slot[arms]
        theta, W, sigma = derived.theta[slots], factors.W[slots], derived.sigma[slots]
    value = x.astype(np.float64) / ONE
    y = W @ value
    width = np.sqrt(np.einsum("ki,ki->k", y, y))
    spread = np.einsum("ki,kij->kj", y, W) * value / np.where(width > 0, width, 1.0)[:, None]
    columns = _columns(experiment)
    told = []
    for arm, slot, means, spreads, scale in zip(
        arms.tolist(), slots.tolist(), theta * value, spread, sigma.tolist(), strict=True
    ):
        mean_parts, width_parts = _parts(columns, means), _parts(columns, spreads)
        mean, wide = sum(mean_parts.values()), sum(width_parts.values())
        score = float(rule.score(derived, slot, mean, wide))
        told.append(ExplainedArm(experiment.config.index[arm], score, mean, wide, scale, mean_parts, width_parts))
    return Explanation(scored.text().decode(), experiment.config.version, getattr(policy, "alpha", 0.0), told)


def _ranked(model: Model, decision: Decision, x: Any, rule: Rule, limit: int) -> Int:
    """Arms that are scored now: those shown first, then the other eligible ones by their score."""
    scorer, K = model.scorer, len(model.experiment.config.index)
    eligible = np.zeros((1, K), bool)
    eligible[0, decision.eligible] = True
    eligible &= scorer.slot >= 0
    estimates = scorer.estimate(x[None], eligible)
    score: Vector = scorer.whole(rule.score(estimates.derived, EVERY, estimates.mean, estimates.wide))[0]
    first = [arm for arm in decision.arms if scorer.slot[arm] >= 0]
    rest = np.flatnonzero(eligible[0])
    rest = rest[~np.isin(rest, first)]
    order: Int = np.concatenate([np.array(first, np.int64), rest[np.argsort(-score[rest], kind="stable")]])
    return order[:limit]


def _policy(experiment: Experiment, decision: Decision) -> Any:
    """The policy of now of the slice that decided."""
    for each, policy in zip(experiment.slices, experiment.policies, strict=False):
        if decision.slices and each.number == decision.head.slice:
            return policy
    return experiment.document.policy


def _columns(experiment: Experiment) -> list[tuple[str, list[int]]]:
    """The columns of x that each feature has; all others are 1 in every context."""
    own = {feature.name: experiment.layout.at(feature) for feature in experiment.document.features}
    rest = set(range(experiment.encoder.d)).difference(*own.values())
    return [("(intercept)", sorted(rest)), *own.items()]


def _parts(columns: Sequence[tuple[str, Sequence[int]]], values: Vector) -> dict[str, float]:
    return {name: float(values[list(own)].sum()) for name, own in columns}
