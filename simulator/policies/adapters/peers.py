"""Peers that are libraries of their own, each as thin as can be: its model, our draw.

Where a library ranks arms, the best gets 1 - explore and ties are shared. Where it samples from a posterior, an arm's
probability is the share of `samples` draws in which it is best; since we draw by that share, propensities are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bandit.arrays import Mask, Matrix, Vector
from bandit.core.sums import ONE
from simulator.environments.episode import Grid
from simulator.policies.adapters.library import Scored, library
from simulator.policies.protocol import Outcomes, Task, only

PEERS = "pip install 'bandit-server[peers]'"


class MABWiser(Scored):
    """MABWiser's LinUCB (Fidelity): ridge regression of each arm, with noise 1."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Options: alpha, l2_lambda, explore."""
        only(options, ("alpha", "l2_lambda", "explore"), "mabwiser")
        mab = library("mabwiser.mab", PEERS)
        rule = mab.LearningPolicy.LinUCB(float(options.get("alpha", 1.0)), float(options.get("l2_lambda", 1.0)))
        self.explore = float(options.get("explore", 0.0))
        self.task, self.model, self.fitted = task, mab.MAB(list(range(task.K)), rule, seed=task.seed), False

    def scores(self, X: Matrix) -> Matrix:
        """See `Scored`; all equal before the first outcome."""
        if not self.fitted:
            return np.zeros((len(X), self.task.K))
        found = self.model.predict_expectations(X)
        rows = found if isinstance(found, list) else [found]
        return np.array([[row[a] for a in range(self.task.K)] for row in rows], np.float64)

    def update(self, X: Matrix, outcomes: Outcomes) -> None:
        """See `Scored`."""
        fit = self.model.partial_fit if self.fitted else self.model.fit
        fit(outcomes.arm, outcomes.reward, X)
        self.fitted = True


class ContextualBandits(Scored):
    """LinUCB of contextualbandits (Cortes): ridge regression of each arm, with noise 1."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Options: alpha, lambda_, explore."""
        only(options, ("alpha", "lambda_", "explore"), "contextualbandits")
        online = library(
            "contextualbandits.online",
            "pip install contextualbandits (a source package: it needs a C compiler and Python's headers)",
        )
        self.explore = float(options.get("explore", 0.0))
        self.model = online.LinUCB(
            nchoices=task.K, alpha=float(options.get("alpha", 1.0)), lambda_=float(options.get("lambda_", 1.0)),
            fit_intercept=False, random_state=task.seed,
        )  # fmt: skip
        self.task, self.fitted = task, False

    def scores(self, X: Matrix) -> Matrix:
        """See `Scored`; all equal before the first outcome."""
        return np.asarray(self.model.decision_function(X)) if self.fitted else np.zeros((len(X), self.task.K))

    def update(self, X: Matrix, outcomes: Outcomes) -> None:
        """See `Scored`."""
        self.model.partial_fit(X, outcomes.arm, outcomes.reward)
        self.fitted = True


class River(Scored):
    """river's LinUCBDisjoint: a Bayesian linear regression of each arm, the largest mean + beta standard deviations."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Options: beta (how many standard deviations), explore."""
        only(options, ("beta", "explore"), "river")
        model = library("river.linear_model", PEERS).BayesianLinearRegression
        self.beta, self.explore = float(options.get("beta", 1.0)), float(options.get("explore", 0.0))
        self.models = [model() for _ in range(task.K)]

    def scores(self, X: Matrix) -> Matrix:
        """See `Scored`."""
        return np.array([[self._bound(model.predict_one(x, with_dist=True)) for model in self.models]
                         for x in map(_named, X)])  # fmt: skip

    def _bound(self, believed: Any) -> float:
        return float(believed.mu + self.beta * believed.sigma)

    def update(self, X: Matrix, outcomes: Outcomes) -> None:
        """See `Scored`."""
        for x, arm, reward in zip(X, outcomes.arm.tolist(), outcomes.reward.tolist(), strict=True):
            self.models[arm].learn_one(_named(x), reward)


def _named(x: Vector) -> dict[int, float]:
    return {int(j): float(x[j]) for j in np.flatnonzero(x)}


class BayesianBandits:
    """Thompson sampling with bayesianbandits' normal-inverse-gamma regression of each arm."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Options: lam (ridge), samples."""
        only(options, ("lam", "samples"), "bayesianbandits")
        module = library("bayesianbandits", PEERS)
        self.samples, self.task = int(options.get("samples", 200)), task
        rng = np.random.default_rng(task.seed)
        self.models = [
            module.NormalInverseGammaRegressor(lam=float(options.get("lam", 1.0)), random_state=rng)
            for _ in range(task.K)
        ]

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        X = x / float(ONE)
        draws = np.array([model.sample(X, size=self.samples).reshape(self.samples, len(X)) for model in self.models])
        allowed = np.where(np.broadcast_to(eligible, (len(X), self.task.K)).T[:, None], draws, -np.inf)
        best = allowed.argmax(axis=0)
        return np.array([(best == a).mean(axis=0) for a in range(self.task.K)]).T

    def shown(self, outcomes: Outcomes) -> None:
        """Nothing is learned before the reward is known."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """See `Learner`."""
        for a in np.unique(outcomes.arm).tolist():
            rows = outcomes.arm == a
            self.models[a].partial_fit(outcomes.x[rows] / float(ONE), outcomes.reward[rows])

    def refresh(self) -> None:
        """Nothing waits."""


class OpenBanditPipeline:
    """LinUCB of obp (Saito et al.), which answers one arm a time and no scores; ties go to the lower arm."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Options: epsilon (obp's name for the width's factor)."""
        only(options, ("epsilon",), "obp")
        how = "pip install sb-obp (obp for Python 3.11 and later) in an environment of its own: it needs numpy < 2"
        policy = library("obp.policy", how)
        self.task = task
        self.model = policy.LinUCB(
            dim=task.d, n_actions=task.K, epsilon=float(options.get("epsilon", 1.0)), random_state=task.seed
        )

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        if not eligible.all():
            raise ValueError("obp's LinUCB cannot leave arms out")
        chosen = [int(self.model.select_action(row[None])[0]) for row in x / float(ONE)]
        return np.eye(self.task.K)[np.array(chosen, np.int64)]

    def shown(self, outcomes: Outcomes) -> None:
        """Nothing is learned before the reward is known."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """See `Learner`."""
        for x, arm, reward in zip(
            outcomes.x / float(ONE), outcomes.arm.tolist(), outcomes.reward.tolist(), strict=True
        ):
            self.model.update_params(action=arm, reward=reward, context=x[None])

    def refresh(self) -> None:
        """Nothing waits."""


KINDS: dict[str, Callable[[Mapping[str, Any], Task], Any]] = {
    "mabwiser": MABWiser, "contextualbandits": ContextualBandits, "river": River, "bayesianbandits": BayesianBandits,
    "obp": OpenBanditPipeline,
}  # fmt: skip
