"""Doubly robust replay: a policy that learns, valued on every row of another policy's log and not on matches only.

    R_t = sum_a pi(a|x_t) q(x_t, a) + pi_t / mu_t (r_t - q(x_t, a_t)),    value = sum c_t R_t / sum c_t
    row t joins the history that the policy learns from if u_t < c_t pi_t / mu_t
    c_t = min(c_max, `quantile` of mu / pi in the rows so far), renewed at each refresh

Symbols as in replay.py; q predicts rewards. Where c_t pi_t / mu_t is above 1 it is cut to 1, and arms that the policy
likes are then too rare in what it learns from: a bias, so such rows are counted. With c_max = min mu, the default,
there are none. Dudik, Erhan, Langford, Li (2012), Algorithm DR-ns, https://arxiv.org/abs/1210.4862.
"""

from __future__ import annotations

import numpy as np

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator.estimators import ratio
from simulator.intervals import standard_error
from simulator.learners.protocol import Learner
from simulator.logged import Log
from simulator.progress import Show, silent
from simulator.replaying import Piece, Replay, Walk, coins, least, made
from simulator.specs import Spec


def replay_dr(
    log: Log,
    policy: str | Spec | Learner,
    *,
    refresh: int = 100,
    seed: int = 0,
    q: Matrix | None = None,
    c_max: float | None = None,
    quantile: float = 0.0,
    show: Show = silent,
) -> Replay:
    """Doubly robust replay; of the answer, `matched` is the history and `rows` all rows, each of which counts.

    Args:
        log: in the order in which it was logged.
        policy: see `specs.parse`, or a learner that has seen nothing.
        refresh: rows of history between two refreshes.
        seed: of the coin of each row, and of what is random inside the policy.
        q: predicted reward of every row and arm, shape (n, K), from other rows or the past only; None: each arm's
            mean reward in the rows before the interval.
        c_max: the largest c_t; None: the smallest propensity, with which nothing is cut.
        quantile: a larger one makes the history longer and cuts more.
        show: told which share of the rows is done.
    """
    top = least(log) if c_max is None else c_max
    walk = Walk(log, *made(log, policy, refresh, seed), 1 / log.propensity, coins(log, seed), top)
    sums = _Sums(log, q)
    while walk.at < len(log):
        pieces = list(walk.pieces())
        for piece in pieces:
            sums.value(piece, walk.c)
        walk.learn(pieces)
        sums.passed(pieces)
        walk.c = min(top, sums.lowest(quantile))
        show(walk.at / len(log))
    estimate = ratio(sums.R, np.ones(len(log)), sums.weight)
    matched = np.concatenate([*sums.matched, np.zeros(0, np.int64)])
    return Replay(estimate.value, standard_error(estimate), matched, len(log), sums.cut, walk.c)


class _Sums:
    """What is gathered on the way."""

    def __init__(self, log: Log, q: Matrix | None) -> None:
        self.log, self.q = log, q
        self.R, self.weight = np.zeros(len(log)), np.zeros(len(log))
        self.matched: list[Int] = []
        self.cut = 0
        self.inverse: list[Vector] = []  # mu / pi
        self.earned, self.seen = np.zeros(log.K), np.zeros(log.K)

    def value(self, piece: Piece, c: float) -> None:
        """R_t of the rows of a piece, by the model that they were looked at with."""
        rows, each = piece.rows, np.arange(len(piece.x))
        arm, mu = self.log.arm[rows], self.log.propensity[rows]
        q = self._means(len(each)) if self.q is None else self.q[rows]
        pi = piece.P[each, arm]
        self.R[rows] = np.einsum("ij,ij->i", piece.P, q) + pi / mu * (self.log.reward[rows] - q[each, arm])
        self.weight[rows] = c if self.log.weight is None else c * self.log.weight[rows]
        self.inverse.append(np.divide(mu, pi, out=np.full(len(pi), np.inf), where=pi > 0))
        self.cut += int((c * pi > mu * (1 + 1e-9)).sum())
        self.matched.append(piece.matched)

    def _means(self, n: int) -> Matrix:
        """Each arm's mean reward so far, with one more row of the mean of all."""
        pooled = self.earned.sum() / (self.seen.sum() + 1)
        return np.broadcast_to((self.earned + pooled) / (self.seen + 1), (n, self.log.K))

    def passed(self, pieces: list[Piece]) -> None:
        """These rows are the past now."""
        for piece in pieces:
            arm = self.log.arm[piece.rows]
            self.seen += np.bincount(arm, minlength=self.log.K)
            self.earned += np.bincount(arm, self.log.reward[piece.rows], self.log.K)

    def lowest(self, quantile: float) -> float:
        """The quantile of mu / pi in the past."""
        ratios = np.concatenate(self.inverse)
        self.inverse = [ratios if quantile > 0 else ratios.min(keepdims=True)]
        return float(np.quantile(ratios, quantile, method="lower"))
