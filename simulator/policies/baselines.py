"""Learners that look at no context: what a policy must beat to be worth its features.

n_a  how often arm a was shown, its reward known      s_a  sum of its rewards, scaled to [0, 1]      t = sum n_a

uniform         even chances
fixed           the arm that is best in hindsight; where it may not be shown, the next best
ucb1            s_a / n_a + sqrt(2 ln t / n_a); arms not yet shown first          Auer et al. (2002), figure 1
epsilon-greedy  s_a / n_a + explore, arms not yet shown first
popularity      s_a + explore: what sites call most clicked
thompson        the largest of draws from Beta(1 + s_a, 1 + n_a - s_a)            Agrawal and Goyal (2012)
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.draw import Choice, draw_list
from simulator.environments.episode import Grid
from simulator.policies.protocol import Outcomes, Task, greedy

TAIL = np.logspace(-9, -2, 8)
LEVELS = np.concatenate([TAIL, np.linspace(0.01, 0.99, 43)[1:-1], 1 - TAIL[::-1]])  # of quantiles


class ContextFree:
    """Counts and sums of each arm, and probabilities made of them once for each set of eligible arms."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.n, self.s = np.zeros(task.K), np.zeros(task.K)
        self.refresh()

    def chances(self, mask: Mask) -> Vector:
        """(K,): the probability of each arm where those of `mask`, shape (K,), may be shown."""
        raise NotImplementedError

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        masks, which = np.unique(eligible, axis=0, return_inverse=True)
        P: Matrix = np.array([self._known(mask) for mask in masks])[which.ravel()]
        return np.broadcast_to(P, (len(x), self.task.K))

    def _known(self, mask: Mask) -> Vector:
        key = mask.tobytes()
        if key not in self.made:
            self.made[key] = self.chances(mask)
        return self.made[key]

    def shown(self, outcomes: Outcomes) -> None:
        """Nothing is learned before the reward is known."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """Count them."""
        self.n += np.bincount(outcomes.arm, minlength=self.task.K)
        self.s += np.bincount(outcomes.arm, self.task.unit(outcomes.reward), self.task.K)

    def refresh(self) -> None:
        """Make everything anew when it is asked for."""
        self.made: dict[bytes, Vector] = {}


class Ranked(ContextFree):
    """The arm with the largest score; all scores are equal here, which makes it the uniform policy."""

    def __init__(self, task: Task, explore: float = 0.0) -> None:
        self.explore = explore
        super().__init__(task)

    def scores(self) -> Vector:
        """(K,): what arms are ranked by; infinite to be shown first."""
        return np.zeros(self.task.K)

    def chances(self, mask: Mask) -> Vector:
        """See `ContextFree`."""
        result: Vector = greedy(self.scores()[None], mask[None], self.explore)[0]
        return result

    def lists(self, x: Grid, eligible: Mask, k: int, u: Vector) -> tuple[Int, Matrix]:
        """See `Lister`: by one coin for the whole list, as the engine does it."""
        masks, scores = np.broadcast_to(eligible, (len(u), self.task.K)), self._finite()
        choices = [self._list(scores, mask, k, each) for mask, each in zip(masks, u.tolist(), strict=True)]
        arms = np.array([choice.arms for choice in choices], np.int64).reshape(len(u), k)
        return arms, np.array([choice.propensities for choice in choices]).reshape(len(u), k)

    def _finite(self) -> Vector:
        return np.asarray(np.minimum(self.scores(), np.finfo(float).max))

    def _list(self, scores: Vector, mask: Mask, k: int, u: float) -> Choice:
        allowed = np.where(mask, scores, -np.inf)
        return draw_list(allowed, np.flatnonzero(mask), k, self.explore, u, lambda best: best)

    def mean(self) -> Vector:
        """s / n; infinite where nothing is known."""
        result: Vector = np.divide(self.s, self.n, out=np.full(len(self.n), np.inf), where=self.n > 0)
        return result


class Fixed(Ranked):
    """The best arm in hindsight."""

    def scores(self) -> Vector:
        """Minus the rank."""
        if self.task.ranking is None:
            raise ValueError("the best arm in hindsight is known in an environment only")
        return -np.argsort(self.task.ranking).astype(np.float64)


class EpsilonGreedy(Ranked):
    """The largest mean so far."""

    def scores(self) -> Vector:
        """The means."""
        return self.mean()


class UCB1(Ranked):
    """The largest upper confidence bound of the mean."""

    def scores(self) -> Vector:
        """Mean and width."""
        result: Vector = self.mean() + np.sqrt(2 * np.log(max(1.0, self.n.sum())) / np.maximum(self.n, 1))
        return result


class Popularity(ContextFree):
    """Each arm as often as its share of all mean rewards."""

    def chances(self, mask: Mask) -> Vector:
        """See `ContextFree`."""
        share = mask * (1 + self.s) / (1 + self.n)
        result: Vector = share / share.sum()
        return result


class Thompson(ContextFree):
    """Chances to have the largest draw, integrated and not sampled: the propensities are exact to about 1e-4.

        p_a = sum_i (F_a(t_i) - F_a(t_{i-1})) prod_{b != a} (F_b(t_i) + F_b(t_{i-1})) / 2,    F: the posterior of an arm

    t are quantiles of every arm, so that narrow and wide posteriors are resolved alike.
    """

    def chances(self, mask: Mask) -> Vector:
        """See `ContextFree`."""
        from scipy import special  # a server that evaluates live needs the rest of this module, and may have no SciPy

        s, n = self.s[mask, None], self.n[mask, None]
        t = np.unique(special.betaincinv(1 + s, 1 + n - s, LEVELS))
        F = special.betainc(1 + s, 1 + n - s, np.concatenate([[0.0], t, [1.0]]))
        middle = np.maximum((F[:, 1:] + F[:, :-1]) / 2, 1e-300)
        p = (np.diff(F, axis=1) * np.exp(np.log(middle).sum(axis=0) - np.log(middle))).sum(axis=1)
        chances = np.zeros(len(mask))
        chances[mask] = p / p.sum()
        return chances
