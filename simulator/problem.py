"""A log and a target, with what several estimators share worked out once and only if it is asked for.

`Problem` is what the estimators read, wherever it comes from; `InMemory` is of a log that is whole in memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator import estimators as of
from simulator.estimators import Acceptance
from simulator.logged import Log
from simulator.models import QFit, for_mrdr, jackknife, model_of, predictions
from simulator.sample_ratio import SampleRatio, sample_ratio
from simulator.verdict import Overlap, logging_policy, overlap, ratios, units

Ends = Literal["normal", "bootstrap"]
Modelled = tuple[Vector, Vector]  # q of the arm shown and v = sum_a pi q, both of shape (n,)


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
    drifts: bool = False


class Problem(ABC):
    """What the estimators read of n rows and a target.

    Attributes:
        log: reward, propensity, weight and whether the logging policy learned; the rest may be missing.
        pi: the target's probability of the arm shown, shape (n,).
        unit: number of each row's user, shape (n,); None if nobody repeats.
        options: how to estimate.
    """

    def __init__(self, log: Log, pi: Vector, unit: Int | None, options: Options) -> None:
        self.log, self.pi, self.unit, self.options = log, pi, unit, options

    def common(self) -> tuple[Vector, Vector, Vector]:
        """Reward, propensity and target probability of the arm shown."""
        return self.log.reward, self.log.propensity, self.pi

    @property
    def moves(self) -> bool:
        """Whether sequences are for a value that moves: those need rows that count once, of people seen once."""
        return self.options.drifts and self.unit is None and self.log.weight is None

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
        """Those of the model that is fitted for MRDR."""

    @property
    def dm_error(self) -> float | None:
        """The standard error of DM with that of its model in it; None where it is not known."""
        return None

    @property
    @abstractmethod
    def largest(self) -> float:
        """What no weight can pass: the largest of all arms, drawn or not; infinite where they are not known."""

    def weights(self) -> tuple[Matrix, Matrix]:
        """Weights and the target's probabilities of what was drawn or, where it is known, of what could have been."""
        w = (self.pi / self.log.propensity)[:, None]
        return w, w

    @cached_property
    def tau(self) -> float:
        """Given, or chosen."""
        if self.options.tau is not None:
            return self.options.tau
        (table, masses), (low, high) = self.weights(), self.options.span
        shared = (*self.common(), *self.model, self.log.weight)
        return of.choose_tau(*shared, ratios=table, masses=masses, span=high - low)

    @cached_property
    def lam(self) -> float:
        """Given, or chosen."""
        given = self.options.lam
        return of.choose_lambda(*self.common(), *self.model, self.log.weight) if given is None else given


class InMemory(Problem):
    """Of a whole log, and the target's probabilities of every row and arm, shape (n, K)."""

    def __init__(self, log: Log, target: Matrix, options: Options) -> None:
        super().__init__(log, target[np.arange(len(log)), log.arm], units(log), options)
        self.target = target

    @cached_property
    def support(self) -> Overlap:
        """See `Problem`."""
        return overlap(self.log, self.target, self.unit)

    @cached_property
    def ratio(self) -> SampleRatio:
        """See `Problem`."""
        return sample_ratio(self.log)

    @cached_property
    def model(self) -> Modelled:
        """See `Problem`."""
        return self._modelled(self.log)

    @cached_property
    def mrdr(self) -> Modelled:
        """See `Problem`."""
        return self._modelled(for_mrdr(self.log, self.pi))

    def _modelled(self, log: Log) -> Modelled:
        """With the model fitted on `log`."""
        how = self.options
        if isinstance(how.q, np.ndarray):
            q = how.q
        else:
            q = np.clip(predictions(model_of(how.q), log, how.q_fit, seed=how.seed, unit=self.unit), *how.span)
        return q[np.arange(len(log)), log.arm], of.expected(self.target, q)

    @cached_property
    def dm_error(self) -> float | None:
        """See `Problem`."""
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
        """See `Problem`."""
        return math.inf if self._ratios is None else float(self._ratios.max())

    def weights(self) -> tuple[Matrix, Matrix]:
        """See `Problem`."""
        return super().weights() if self._ratios is None else (self._ratios, self.target)
