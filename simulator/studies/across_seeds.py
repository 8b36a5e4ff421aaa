"""What runs over several seeds say together: intervals of means, of differences, and of learning curves.

    d_s  policy minus baseline under seed s, n seeds, D their mean, sd their standard deviation (n - 1)
    t interval           D -+ t(n - 1, 1 - alpha / 2) sd / sqrt(n)
    bootstrap interval   quantiles of the mean of n seeds drawn from the n with replacement

Under one seed policies meet the same rounds and draws, so differences vary less than the means. With fewer than about
ten seeds the bootstrap is too narrow (of 5 seeds, its sd is .89 of the right one): believe the t interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy import special

from bandit.arrays import Matrix, Vector
from simulator.studies.run import Curve, RunRow

Metric = Literal["mean_reward", "regret_of_uniform"]
RESAMPLES = 2000


class Summary(msgspec.Struct, frozen=True):
    """One policy over its seeds, with the t interval of its mean."""

    policy: str
    seeds: int
    mean: float
    low: float
    high: float
    worst: float


class Difference(msgspec.Struct, frozen=True):
    """A policy against a baseline: the mean of the paired differences with both intervals."""

    policy: str
    baseline: str
    seeds: int
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float


class Band(msgspec.Struct, frozen=True):
    """A policy's learning curve over its seeds, with the t interval of each window."""

    policy: str
    ends: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def summaries(rows: Sequence[RunRow], metric: Metric = "mean_reward", alpha: float = 0.05) -> list[Summary]:
    """Each policy's mean over its seeds, in the order in which they first appear."""
    return [
        _summary(policy, np.array(list(values.values())), metric, alpha) for policy, values in _by(rows, metric).items()
    ]


def _summary(policy: str, values: Vector, metric: Metric, alpha: float) -> Summary:
    half = float(half_width(values[:, None], alpha)[0])
    mean = float(values.mean())
    worst = values.min() if metric == "mean_reward" else values.max()
    return Summary(policy, len(values), mean, mean - half, mean + half, float(worst))


def differences(
    rows: Sequence[RunRow], baseline: str, metric: Metric = "mean_reward", alpha: float = 0.05, seed: int = 0
) -> list[Difference]:
    """Every other policy against `baseline`, over the seeds that both have.

    Raises:
        ValueError: the baseline is not among the rows, or shares no seed with a policy.
    """
    values = _by(rows, metric)
    if baseline not in values:
        raise ValueError(f"the baseline is one of {', '.join(values)}; got {baseline!r}")
    return [_difference(policy, baseline, values, alpha, seed) for policy in values if policy != baseline]


def _difference(policy: str, baseline: str, values: dict[str, dict[int, float]], alpha: float, seed: int) -> Difference:
    shared = sorted(values[policy].keys() & values[baseline].keys())
    if not shared:
        raise ValueError(f"{policy} and {baseline} have no seed in common")
    d = np.array([values[policy][each] - values[baseline][each] for each in shared])
    half, mean = float(half_width(d[:, None], alpha)[0]), float(d.mean())
    low, high = bootstrap(d, alpha, seed)
    return Difference(policy, baseline, len(d), mean, mean - half, mean + half, low, high)


def _by(rows: Sequence[RunRow], metric: Metric) -> dict[str, dict[int, float]]:
    """Policy to seed to value."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row.policy, {})[row.seed] = getattr(row, metric)
    return found


def half_width(values: Matrix, alpha: float = 0.05) -> Vector:
    """Half of the t interval of each column's mean, shape (columns,), from n independent rows; infinite for n = 1."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1], np.inf)
    half: Vector = special.stdtrit(n - 1, 1 - alpha / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return half


def bootstrap(values: Vector, alpha: float = 0.05, seed: int = 0) -> tuple[float, float]:
    """Quantiles alpha / 2 and 1 - alpha / 2 of the mean of values drawn anew."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [alpha / 2, 1 - alpha / 2]).tolist()
    return low, high


def bands(curves: Sequence[Curve], alpha: float = 0.05) -> list[Band]:
    """Each policy's learning curve over its seeds.

    Raises:
        ValueError: a policy's curves have different windows.
    """
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.policy, []).append(curve)
    return [_band(policy, each, alpha) for policy, each in found.items()]


def _band(policy: str, curves: Sequence[Curve], alpha: float) -> Band:
    if any(curve.ends != curves[0].ends for curve in curves):
        raise ValueError(f"curves of {policy} have different windows")
    values = np.array([curve.mean_reward for curve in curves])
    mean, half = values.mean(axis=0), half_width(values, alpha)
    return Band(policy, curves[0].ends, mean.tolist(), (mean - half).tolist(), (mean + half).tolist())
