"""Doubly robust replay: a policy that learns, valued on every row of another policy's log and not on matches only.

    R_t = sum_a pi(a|x_t) q(x_t, a) + pi_t / mu_t (r_t - q(x_t, a_t)),    value = sum c_t R_t / sum c_t
    row t joins the history that the policy learns from if u_t < c_t pi_t / mu_t
    c_t = min(c_max, `quantile` of mu / pi in the rows so far), renewed at each refresh

Symbols as in replay.py; q predicts rewards. Where c_t pi_t / mu_t is above 1 it is cut to 1, and arms that the
policy likes are then too rare in what it learns from: it becomes another policy, so such rows are counted, and the
share of its history that they lack. With c_max = min mu, the default, there are none. R_t itself is never cut.

Dudik, Erhan, Langford, Li (2012), Algorithm DR-ns, https://arxiv.org/abs/1210.4862.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.estimators import ratio
from simulator.ope.intervals import standard_error
from simulator.policies.protocol import Learner
from simulator.policies.specs import Spec
from simulator.progress import Show, silent
from simulator.studies.replay import Cut, Piece, Replay, Walk, coins, learns, least, made


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
    smallest = least(log)
    top = smallest if c_max is None else c_max
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
    cut = Cut.of(np.concatenate([*sums.chances, np.zeros(0)]))
    error = standard_error(estimate) if len(log) else math.inf
    evidence = replace(log, weight=sums.weight)
    return Replay(estimate.value, error, matched, len(log), *cut, walk.c, learns(policy), evidence, sums.P, sums.q)


class _Sums:
    """What is gathered on the way."""

    def __init__(self, log: Log, q: Matrix | None) -> None:
        self.log, self.given = log, q
        self.q, self.P = np.zeros((len(log), log.K)) if q is None else q, np.zeros((len(log), log.K))
        self.R, self.weight = np.zeros(len(log)), np.zeros(len(log))
        self.matched: list[Int] = []
        self.chances: list[Vector] = []
        self.inverse: list[Vector] = []  # mu / pi
        self.earned, self.seen = np.zeros(log.K), np.zeros(log.K)

    def value(self, piece: Piece, c: float) -> None:
        """R_t of the rows of a piece, by the model that they were looked at with."""
        rows, each = piece.rows, np.arange(len(piece.x))
        arm, mu = self.log.arm[rows], self.log.propensity[rows]
        if self.given is None:
            self.q[rows] = self._means()
        q, pi = self.q[rows], piece.P[each, arm]
        self.P[rows] = piece.P
        self.R[rows] = np.einsum("ij,ij->i", piece.P, q) + pi / mu * (self.log.reward[rows] - q[each, arm])
        self.weight[rows] = c if self.log.weight is None else c * self.log.weight[rows]
        self.inverse.append(np.divide(mu, pi, out=np.full(len(pi), np.inf), where=pi > 0))
        self.chances.append(piece.chance)
        self.matched.append(piece.matched)

    def _means(self) -> Vector:
        """Each arm's mean reward so far, with one more row of the mean of all, shape (K,)."""
        pooled = self.earned.sum() / (self.seen.sum() + 1)
        means: Vector = (self.earned + pooled) / (self.seen + 1)
        return means

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
