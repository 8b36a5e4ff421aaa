"""What the views of models answer, field by field: estimates, weights, calibration and previews."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from bandit.core.document import ARMS_MAX
from bandit.core.features import Name
from bandit.core.policies import Policy
from bandit.serving.requests import Candidates, Id


class Interval(msgspec.Struct, frozen=True):
    """An estimate of one kind of reward.

    Attributes:
        mean: The estimate, in reward units of the kind.
        error: Its standard error.
        low: The lower end of its 95 % interval.
        high: The upper end of its 95 % interval.
    """

    mean: float
    error: float
    low: float
    high: float


class SegmentSeen(msgspec.Struct, frozen=True):
    """A segment of the contexts.

    Attributes:
        name: The segment's name: a level, "true" or "false", or a range of numbers.
        low: The least number that belongs to it; null where it has none.
        high: The number at which it ends, which belongs to it in the last range only, of bins in none; null where it
            has none.
        contexts: How many of the contexts are of this segment.
    """

    name: str
    low: float | None
    high: float | None
    contexts: int


class SegmentEstimate(msgspec.Struct, frozen=True):
    """What an arm is expected to earn in a segment: in the mean of the segment's contexts.

    Attributes:
        segment: The segment's name.
        mean: The estimate, in weighted reward units.
        error: Its standard error: sigma times the width at the segment's mean context.
        low: The lower end of its 95 % interval.
        high: The upper end of its 95 % interval.
        kinds: The same of each kind of reward for itself.
    """

    segment: str
    mean: float
    error: float
    low: float
    high: float
    kinds: dict[str, Interval]


class ArmEstimates(msgspec.Struct, frozen=True):
    """One arm's estimates.

    Attributes:
        arm: The arm's name.
        status: Whether it may be shown: "active" or "paused".
        impressions: How many times it was shown in decisions that have been learned from.
        estimates: Of each segment, in the order of `segments`.
    """

    arm: str
    status: str
    impressions: int
    estimates: list[SegmentEstimate]


class EstimatesAnswer(msgspec.Struct, frozen=True, rename={"lam": "lambda"}):
    """What each arm is expected to earn, by segment of the newest contexts.

    Attributes:
        experiment: The experiment's name.
        position: The position in the log up to which the model has learned.
        segment: The feature by which the contexts are divided; null where they are not.
        contexts: How many contexts were looked at, the newest.
        lambda: The ridge penalty in use: the document's number, or what was found for "auto".
        alpha: How much uncertainty counts now by a policy whose alpha is "auto".
        segments: The segments, at most 20; beyond them the rarest are taken together.
        arms: A page of arms, by index.
        next: The cursor of the next page; left out of the last one.
    """

    experiment: str
    position: str
    segment: str | None
    contexts: int
    lam: float
    alpha: float
    segments: list[SegmentSeen]
    arms: list[ArmEstimates]
    next: str | UnsetType = UNSET


class FeatureWeight(msgspec.Struct, frozen=True):
    """What one column of the feature vector counts for.

    Attributes:
        feature: The feature's name; "(intercept)" is what holds in every context.
        column: Which of its columns: "=LEVEL" of a category, "other", the interval of bins ("<10", "10 to 20", ">=20"),
            the number of a random feature, "missing"; empty where it has one.
        weight: What a value of 1 in this column adds to the estimate, in weighted reward units.
        error: Its standard error.
        low: The lower end of its 95 % interval.
        high: The upper end of its 95 % interval.
        kinds: The same of each kind of reward for itself.
    """

    feature: str
    column: str
    weight: float
    error: float
    low: float
    high: float
    kinds: dict[str, Interval]


class WeightsAnswer(msgspec.Struct, frozen=True):
    """What one arm has learned, column by column.

    Attributes:
        experiment: The experiment's name.
        arm: The arm's name.
        position: The position in the log up to which the model has learned.
        impressions: How many times it was shown in decisions that have been learned from.
        sigma: The standard deviation of its rewards, in weighted reward units.
        weights: Column by column, in the order of the features.
        next: The cursor of the next page; left out of the last one.
    """

    experiment: str
    arm: str
    position: str
    impressions: int
    sigma: float
    weights: list[FeatureWeight]
    next: str | UnsetType = UNSET


class CalibrationBin(msgspec.Struct, frozen=True):
    """Decisions with like predictions.

    Attributes:
        low: The least prediction among them.
        high: The largest prediction among them.
        decisions: How many decisions there are.
        predicted: The mean of their predictions, in weighted reward units.
        observed: The mean of what they earned, in weighted reward units.
        observed_low: The lower end of that mean's 95 % interval.
        observed_high: The upper end of that mean's 95 % interval.
    """

    low: float
    high: float
    decisions: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


class CalibrationAnswer(msgspec.Struct, frozen=True):
    """What the model predicted, beside what came: on decisions that it had not learned from.

    Attributes:
        experiment: The experiment's name.
        position: The position in the log up to which rewards count.
        predicted_by: Which model predicts, in words.
        learned_until: When that model had stopped learning, RFC 3339 in UTC; null where there is no decision.
        first: When the first decision that is predicted was made, RFC 3339 in UTC; null where there is none.
        last: When the last one was made, RFC 3339 in UTC; null where there is none.
        matured: How many seconds old decisions have to be, so that 99 % of rewards have come; null where nothing tells,
            so that rewards on their way count as none.
        decisions: How many decisions were predicted.
        bins: The decisions by their predictions, as many in each.
        note: What a reader must know beside the numbers; it may be empty.
    """

    experiment: str
    position: str
    predicted_by: str
    learned_until: str | None
    first: str | None
    last: str | None
    matured: float | None
    decisions: int
    bins: list[CalibrationBin]
    note: str


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to look at: a request as for a recommendation, and what would be changed before.

    Attributes:
        context: What is known of the visitor, as in a recommendation.
        k: How many arms would be asked for; default 1.
        candidates: The only arms that may be shown; by default all active ones.
        exclude: Arms that may not be shown; by default none.
        baseline: The arm that would be shown in shadow; only there, and then it is required.
        change: What would be changed of the document first, a merge patch of `policy`, `slices`, `rewards` (weights),
            `noise` and `warm_up`; by default nothing.
        limit: How many arms are answered, 1 to 1,000; default 100.
    """

    context: Raw
    k: Annotated[int, Meta(ge=1, le=ARMS_MAX)] = 1
    candidates: Candidates | None = None
    exclude: Annotated[tuple[Name, ...], Meta(max_length=ARMS_MAX)] | None = None
    baseline: Id | None = None
    change: dict[str, Any] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class PreviewSlice(msgspec.Struct, frozen=True):
    """A slice that may decide.

    Attributes:
        slice_name: The slice's name; null where there are no slices.
        share: Its share of the decisions.
        policy: What it plays.
    """

    slice_name: str | None
    share: float
    policy: Policy


class PreviewPart(msgspec.Struct, frozen=True):
    """An arm in one slice.

    Attributes:
        probability: With which this slice would show the arm first.
        score: What its policy ranks the arm by.
    """

    probability: float
    score: float


class PreviewArm(msgspec.Struct, frozen=True):
    """An arm that could be shown.

    Attributes:
        arm: The arm's name.
        probability: With which it would be shown first, over all slices.
        score: What the first slice's policy ranks it by.
        mean: The reward that is expected, in weighted reward units.
        width: How uncertain that is, as a multiple of sigma.
        sigma: The standard deviation of the arm's rewards.
        kinds: The reward of each kind that is expected, in its own units.
        slices: The same by slice; empty where there are none.
    """

    arm: str
    probability: float
    score: float
    mean: float
    width: float
    sigma: float
    kinds: dict[str, float]
    slices: dict[str, PreviewPart]


class PreviewAnswer(msgspec.Struct, frozen=True):
    """What would be answered; nothing has been logged, and nothing is learned from it.

    Attributes:
        experiment: The experiment's name.
        position: The position in the log up to which the model has learned.
        version: The version of the experiment in force, before the change.
        warming_up: Whether it still warms up, so that arms are shown evenly whatever was learned.
        eligible: How many arms could be shown.
        slices: Who may decide; one where there are no slices.
        arms: The likeliest arms, at most `limit` of them.
        ignored: Candidates and exclusions that are paused or retired.
    """

    experiment: str
    position: str
    version: int
    warming_up: bool
    eligible: int
    slices: list[PreviewSlice]
    arms: list[PreviewArm]
    ignored: list[str]


def plain(body: PreviewBody) -> dict[str, Any]:
    """The request for a recommendation that a preview looks at."""
    named = {"candidates": body.candidates, "exclude": body.exclude, "baseline": body.baseline}
    return {"context": body.context, "k": body.k} | {name: value for name, value in named.items() if value is not None}


TYPES = EstimatesAnswer, WeightsAnswer, CalibrationAnswer, PreviewBody, PreviewAnswer
