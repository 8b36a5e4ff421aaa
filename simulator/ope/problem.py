"""A log and a target, with what several estimators share, computed once and only if it is asked for.

`EstimationProblem` is what the estimators read, wherever it comes from; `InMemory` is of a log that is whole in memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope import estimators as of
from simulator.ope.checks.overlap import Overlap, least_propensity, logging_policy, overlap, ratios, row_weights, units
from simulator.ope.checks.sample_ratio import SampleRatio, sample_ratio
from simulator.ope.design import Totals, totals, totals_drawn
from simulator.ope.estimators import Acceptance
from simulator.ope.models import QFit, for_mrdr, jackknife, model_of, predictions

Ends = Literal["normal", "bootstrap"]
Looks = Literal["one", "any"]  # an interval for one look, where the log allows it; or a sequence for any number


class Modelled(NamedTuple):
    """What a reward model says of the rows.

    Attributes:
        q: of the arm shown, shape (n,).
        v: sum_a pi q, shape (n,).
        least: what no row's v + w (r - q) can be below, whichever arm is drawn; infinite where weights are not known.
        most: what it cannot be above.
    """

    q: Vector
    v: Vector
    least: float
    most: float


def modelled(q: Matrix, arm: Int, target: Matrix, ratios: Matrix | None, span: tuple[float, float]) -> Modelled:
    """From the predictions of every arm, and the weights of every arm where they are known, all of shape (n, K)."""
    v = of.expected(target, q)
    least, most = -math.inf, math.inf
    if ratios is not None and len(v):
        least = float((v + (ratios * (span[0] - q)).min(axis=1)).min())
        most = float((v + (ratios * (span[1] - q)).max(axis=1)).max())
    return Modelled(q[np.arange(len(v)), arm], v, least, most)


@dataclass(frozen=True)
class Options:
    """How to estimate; see `evaluate`."""

    span: tuple[float, float]  # lowest and highest possible reward
    q_fit: QFit
    q: Any = "ridge"
    alpha: float = 0.05
    seed: int = 0
    tau: float | None = None
    lam: float | None = None
    clip: float = 10.0
    acceptance: Acceptance = "rejection"
    interval: Ends = "normal"
    drifts: bool = True
    stated: bool = True  # the range of rewards is known, not just that of the rewards that came
    cap: float | None = None
    looks: Looks = "one"


class EstimationProblem(ABC):
    """What the estimators read of n rows and a target.

    Attributes:
        log: reward, propensity, weight and whether the logging policy learned; the rest may be missing.
        pi: the target's probability of the arm shown, shape (n,).
        unit: number of each row's user, shape (n,); None if nobody repeats.
        options: how to estimate.
        share: of all rows that these are.
    """

    def __init__(self, log: Log, pi: Vector, unit: Int | None, options: Options, share: float = 1.0) -> None:
        self.log, self.pi, self.unit, self.options, self.share = log, pi, unit, options, share

    def common(self) -> tuple[Vector, Vector, Vector]:
        """Reward, propensity and target probability of the arm shown."""
        return self.log.reward, self.log.propensity, self.pi

    @property
    def only(self) -> int | None:
        """The arm that the target always plays, if it is known to play one."""
        return None

    @property
    @abstractmethod
    def support(self) -> Overlap:
        """How far the log covers what the target does."""

    @property
    @abstractmethod
    def ratio(self) -> SampleRatio:
        """The sample-ratio check."""

    @property
    @abstractmethod
    def model(self) -> Modelled:
        """The reward model's predictions, inside the possible rewards."""

    @property
    @abstractmethod
    def mrdr(self) -> Modelled:
        """The predictions of the model that is fitted for MRDR."""

    @property
    def dm_error(self) -> float | None:
        """The standard error of DM with that of its model in it; None where it is not known."""
        return None

    @property
    @abstractmethod
    def largest(self) -> float:
        """What no weight can pass: the largest of all arms, drawn or not; infinite where they are not known."""

    @property
    def heaviest(self) -> float:
        """A weight that a row may have had: the largest; where the others are not known, by the least propensity."""
        if math.isfinite(self.largest):
            return self.largest
        most = float(self.pi.max(initial=0.0))
        return most / least_propensity(self.log)

    @cached_property
    def w(self) -> Vector:
        """pi / mu of the arm shown, shape (n,)."""
        return of.importance(self.log.propensity, self.pi)

    def totals(self) -> Totals:
        """What the design says of the weights; of those drawn, where it is not known."""
        return totals_drawn(self.log.arm, self.w, row_weights(self.log), self.log.K)

    def weights(self) -> tuple[Matrix, Matrix]:
        """Weights and the target's probabilities of what was drawn or, where it is known, of what could have been."""
        w = self.w[:, None]
        return w, w

    @cached_property
    def tau(self) -> float:
        """The tau of SWITCH-DR: given, or chosen by its authors' bound."""
        if self.options.tau is not None:
            return self.options.tau
        (table, masses), (low, high) = self.weights(), self.options.span
        shared = (*self.common(), *self.model[:2], self.log.weight)
        return of.choose_tau(*shared, ratios=table, masses=masses, span=high - low)

    @cached_property
    def lam(self) -> float:
        """The lambda of DRos: given, or chosen by its authors' bound."""
        given = self.options.lam
        return of.choose_lambda(*self.common(), *self.model[:2], self.log.weight) if given is None else given


class InMemory(EstimationProblem):
    """Of a whole log, and the target's probabilities of every row and arm, shape (n, K)."""

    def __init__(self, log: Log, target: Matrix, options: Options, share: float = 1.0) -> None:
        super().__init__(log, target[np.arange(len(log)), log.arm], units(log), options, share)
        self.target = target

    @cached_property
    def only(self) -> int | None:
        """See `EstimationProblem`."""
        arm = int(self.target[0].argmax())
        return arm if (self.target[:, arm] == 1).all() else None

    @cached_property
    def support(self) -> Overlap:
        """See `EstimationProblem`."""
        return overlap(self.log, self.target, self.unit)

    @cached_property
    def ratio(self) -> SampleRatio:
        """See `EstimationProblem`."""
        return sample_ratio(self.log)

    @cached_property
    def model(self) -> Modelled:
        """See `EstimationProblem`."""
        return self._modelled(self.log)

    @cached_property
    def mrdr(self) -> Modelled:
        """See `EstimationProblem`."""
        return self._modelled(for_mrdr(self.log, self.pi))

    def _modelled(self, log: Log) -> Modelled:
        """With the model fitted on `log`."""
        how = self.options
        if isinstance(how.q, np.ndarray):
            q = how.q
        else:
            q = np.clip(predictions(model_of(how.q), log, how.q_fit, seed=how.seed, unit=self.unit), *how.span)
        return modelled(q, log.arm, self.target, self._ratios, how.span)

    def totals(self) -> Totals:
        """See `EstimationProblem`."""
        mu, _ = logging_policy(self.log)
        if mu is None or self._ratios is None:
            return super().totals()
        return totals(mu, self._ratios, row_weights(self.log))

    @cached_property
    def dm_error(self) -> float | None:
        """See `EstimationProblem`."""
        how = self.options
        if isinstance(how.q, np.ndarray):
            return None

        def value(rest: Log, q: Matrix, rows: Int) -> float:
            return float(np.average(of.expected(self.target[rows], np.clip(q, *how.span)), weights=rest.weight))

        return jackknife(model_of(how.q), self.log, value, self.unit, how.seed)

    @cached_property
    def _ratios(self) -> Matrix | None:
        """pi / mu of every arm, shape (n, K), where mu is known."""
        mu, _ = logging_policy(self.log)
        return None if mu is None else ratios(self.target, mu)

    @property
    def largest(self) -> float:
        """See `EstimationProblem`."""
        return math.inf if self._ratios is None else float(self._ratios.max())

    def weights(self) -> tuple[Matrix, Matrix]:
        """See `EstimationProblem`."""
        return super().weights() if self._ratios is None else (self._ratios, self.target)
