"""What a model makes of contexts and columns: estimates by segment, and weights, with intervals.

    mean    x'theta at a segment's mean context: the mean of the estimates of its contexts, as they are linear
    error   sigma sqrt(x'Gx) there, G the inverse of A + Lambda;    of a weight sigma sqrt(G_jj)
    95 %    mean +- 1.96 error

sigma is that of the weighted reward; a kind's own error is by the sigma of that kind's rewards. Errors are those of a
linear model with its prior: where an arm has been shown little, the prior's doubt, not the log's spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.engine import Model
from bandit.core.experiment import Experiment
from bandit.core.features import Bins, Boolean, Category, Number
from bandit.core.features.layout import by_name, parts
from bandit.core.features.transforms import labels
from bandit.core.sums import ONE
from bandit.errors import Code, Fault, Problem, nearest
from bandit.log.records import unpack_decision
from bandit.log.vectors import unpack_x
from bandit.replica.replica import Replica
from bandit.replica.survey import newest_decisions
from bandit.serving.views.model_answers import (
    ArmEstimates,
    EstimatesAnswer,
    FeatureWeight,
    Interval,
    SegmentEstimate,
    SegmentSeen,
    WeightsAnswer,
)
from bandit.store.protocol import Store

ROWS = 2000  # contexts looked at, the newest
BINS, SEGMENTS = 5, 20  # ranges of a number; segments at most
FACTORS = 16 << 20  # bytes of factors copied for one answer
SURE = 1.959963984540054  # standard errors on either side of 95 %
MISSING, OTHER, REST = "(missing)", "(other)", "(rest)"


class Read(NamedTuple):
    """What is read of some arms: of the weighted reward first, then of each kind."""

    theta: Matrix  # (n, 1 + m, d)
    sigma: Matrix  # (n, 1 + m)
    W: Matrix  # (n, d, d)
    n: Int
    lam: float
    alpha: float  # alpha_t


class Segment(NamedTuple):
    """Some of the contexts."""

    seen: SegmentSeen
    mean: Vector  # (d,) of their feature vectors


def estimates(store: Store, replica: Replica, feature: str, limit: int, cursor: int) -> EstimatesAnswer:
    """What arms are expected to earn, by segment of a feature of the newest contexts; "" takes all together.

    Raises:
        Problem: `invalid_request`, where there is no such feature, or it has no segments.
    """
    model, position = replica.served, replica.scored
    experiment = model.experiment
    kind = _segmented(experiment, feature)
    found = list(islice(newest_decisions(store, experiment, replica.position), ROWS))
    decisions = [unpack_decision(entry.record) for entry in found]
    x = unpack_x([(each.x, each.head.flags) for each in decisions], experiment.encoder.d, experiment.layout)
    if kind is not None:
        totals = np.array([experiment.layout.total_at(each.head.version) for each in decisions], np.int64)
        x = x[totals > min(experiment.layout.columns[feature])]
    segments = list(_segments(experiment, kind, x)) if len(x) else []
    live = [i for i, name in enumerate(experiment.config.index) if name in experiment.arms]
    arms = live[cursor : cursor + min(limit, at_once(experiment))]
    read = reading(model, experiment, arms)
    return EstimatesAnswer(
        experiment=replica.name,
        position=position.text().decode(),
        segment=feature or None,
        contexts=len(x),
        lam=read.lam,
        alpha=read.alpha,
        segments=[segment.seen for segment in segments],
        arms=list(_arms(experiment, arms, read, segments)),
        next=str(cursor + len(arms)) if cursor + len(arms) < len(live) else UNSET,
    )


def weights(replica: Replica, arm: str, limit: int, cursor: int) -> WeightsAnswer:
    """What an arm has learned, column by column.

    Raises:
        Problem: `unknown_arm`, where there is none of this name that is not retired.
    """
    model, position = replica.served, replica.scored
    experiment = model.experiment
    if arm not in experiment.arms:
        raise Problem.of(
            Code.UNKNOWN_ARM,
            [Fault("/query/arm", "an arm of the document" + nearest(arm, experiment.arms), "another name")],
        )
    read = reading(model, experiment, [experiment.arm_index[arm]])
    error = read.sigma[0][:, None] * np.sqrt((read.W[0] ** 2).sum(axis=0))  # (1 + m, d)
    columns = named_columns(experiment)
    told = [
        FeatureWeight(
            feature,
            part,
            *_interval(read.theta[0, 0, at], error[0, at]),
            _kinds(experiment, read.theta[0, 1:, at], error[1:, at]),
        )
        for feature, part, at in columns[cursor : cursor + limit]
    ]
    return WeightsAnswer(
        experiment=replica.name,
        arm=arm,
        position=position.text().decode(),
        impressions=int(read.n[0]),
        sigma=float(read.sigma[0, 0]),
        weights=told,
        next=str(cursor + limit) if cursor + limit < len(columns) else UNSET,
    )


def at_once(experiment: Experiment) -> int:
    """How many arms' factors are copied for one answer."""
    return max(1, FACTORS // (8 * experiment.encoder.d**2))


def reading(model: Model, experiment: Experiment, arms: Sequence[int]) -> Read:
    """What is known of these arms, which are scored; the lock is held for copying, and for the sums over all arms.

    Raises:
        Problem: `not_ready`, where the experiment has changed meanwhile.
    """
    with model.lock:
        if model.experiment is not experiment:
            raise Problem(Code.NOT_READY, "the experiment was changed while it was looked at; try again")
        scorer, slots = model.scorer, model.scorer.slot[list(arms)]
        W, derived, n = scorer.rows.factors.W[slots], scorer.derived, model.sums.n[list(arms)]
        lam = scorer.chosen if experiment.ridge.lam is None else experiment.ridge.lam
        each = [
            scorer.sigma_of(k, replace(experiment.ridge, noise=None, low=kind.range[0], high=kind.range[1]))[slots]
            for k, kind in enumerate(experiment.kinds)
        ]
    theta = np.concatenate([derived.theta[slots][:, None], derived.thetas[slots]], axis=1)
    return Read(theta, np.stack([derived.sigma[slots], *each], axis=1), W, n, lam, derived.alpha)


def _segmented(experiment: Experiment, name: str) -> Number | Boolean | Category | None:
    if not name:
        return None
    features = by_name(experiment.document.features)
    feature = features.get(name)
    if not isinstance(feature, Number | Boolean | Category):
        may = [each for each, own in features.items() if isinstance(own, Number | Boolean | Category)]
        expected = "a number, boolean or category among the features" + nearest(name, may)
        raise Problem.of(Code.INVALID_REQUEST, [Fault("/query/segment", expected, "another name")])
    return feature


def _segments(experiment: Experiment, feature: Any, x: Any) -> Iterator[Segment]:
    """The contexts, divided by a feature."""
    X = x / ONE
    if feature is None:
        yield Segment(SegmentSeen("", None, None, len(x)), X.mean(axis=0))
        return
    values = [context[feature.name] for context in experiment.encoder.decode(x)]
    groups = list(_numbers(values, feature) if isinstance(feature, Number) else _levels(values, feature))
    if len(groups) > SEGMENTS:
        groups.sort(key=lambda group: -int(group[3].sum()))
        rare: Mask = np.any([own for *_, own in groups[SEGMENTS - 1 :]], axis=0)
        groups = [*groups[: SEGMENTS - 1], (REST, None, None, rare)]
    for name, low, high, own in groups:
        yield Segment(SegmentSeen(name, low, high, int(own.sum())), X[own].mean(axis=0))


Group = tuple[str, float | None, float | None, Mask]


def _levels(values: Sequence[Any], feature: Boolean | Category) -> Iterator[Group]:
    names = {True: "true", False: "false", None: OTHER if isinstance(feature, Category) else MISSING}
    told = np.array([names.get(value, value) for value in values], object)
    for name in sorted(set(told.tolist())):
        yield name, None, None, told == name


def _numbers(values: Sequence[float | None], feature: Number) -> Iterator[Group]:
    """By the feature's own bins, or in ranges; and those that have none."""
    numbers = np.array([np.nan if value is None else value for value in values])  # which is in no interval
    missing: Mask = np.isnan(numbers)
    if not missing.all():
        yield from _bins(numbers, feature.transform) if isinstance(feature.transform, Bins) else _ranges(numbers)
    if missing.any():
        yield MISSING, None, None, missing


def _bins(numbers: Vector, bins: Bins) -> Iterator[Group]:
    """The intervals that any of the contexts are in."""
    ends = [None, *bins.edges, None]
    for name, low, high in zip(labels(bins), ends, ends[1:], strict=False):
        own: Mask = (numbers >= (-np.inf if low is None else low)) & (numbers < (np.inf if high is None else high))
        if own.any():
            yield name, low, high, own


def _ranges(numbers: Vector) -> Iterator[Group]:
    """Ranges of about as many contexts each; the last has its end."""
    cuts = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BINS + 1), method="lower")).tolist()
    cuts = cuts if len(cuts) > 1 else cuts * 2
    for i, (low, high) in enumerate(pairwise(cuts)):
        last = i == len(cuts) - 2
        own: Mask = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        yield f"[{low:g}, {high:g}{']' if last else ')'}", low, high, own


def _arms(
    experiment: Experiment, arms: Sequence[int], read: Read, segments: Sequence[Segment]
) -> Iterator[ArmEstimates]:
    means = np.array([segment.mean for segment in segments]).reshape(len(segments), experiment.encoder.d)
    values = np.einsum("nkd,sd->nsk", read.theta, means)
    width = np.sqrt((np.einsum("nij,sj->nsi", read.W, means) ** 2).sum(axis=2))
    error = width[:, :, None] * read.sigma[:, None]
    for row, arm in enumerate(arms):
        name = experiment.config.index[arm]
        told = [
            SegmentEstimate(segment.seen.name, *_interval(value[0], off[0]), _kinds(experiment, value[1:], off[1:]))
            for segment, value, off in zip(segments, values[row], error[row], strict=True)
        ]
        yield ArmEstimates(name, "paused" if experiment.arms[name].paused else "active", int(read.n[row]), told)


def _interval(mean: float, error: float) -> tuple[float, float, float, float]:
    return float(mean), float(error), float(mean - SURE * error), float(mean + SURE * error)


def _kinds(experiment: Experiment, means: Vector, errors: Vector) -> dict[str, Interval]:
    each = zip(experiment.config.kinds, means.tolist(), errors.tolist(), strict=True)
    return {kind: Interval(*_interval(mean, error)) for kind, mean, error in each}


def named_columns(experiment: Experiment) -> list[tuple[str, str, int]]:
    """(feature, part, column of x), in the order of the document; what holds in every context first."""
    features, layout = by_name(experiment.document.features), experiment.layout
    found = [
        (name, part, at)
        for name, feature in features.items()
        for part, at in zip(parts(feature, features), layout.at(feature), strict=True)
    ]
    own = {at for *_, at in found}
    rest = [at for at in range(experiment.encoder.d) if at not in own]
    return [("(intercept)", "" if i == 0 else f"since {i}", at) for i, at in enumerate(rest)] + found
