"""Replay: what a policy that learns would have earned, from the log of another one.

    mu_t  probability with which row t's arm was drawn      pi_t  the policy's probability of that arm, as it is by then
    c     min mu_t (or more: see `floor`)                   u_t   uniform, one for each row
    m_t = 1[u_t < pi_t c / mu_t]                            a match: what is left is as if the policy itself had drawn
    s_t = max(1, pi_t c / mu_t)                             what a match counts for: more than 1 where c was too large

    value = sum s_t r_t / sum s_t over the matches, and the policy learns from the matches only

On a uniform log that is Li, Chu, Langford, Wang (2011), Algorithm 2, https://arxiv.org/abs/1003.5956: draw an arm, keep
the row if it is the one shown. On others, arms that were shown often would match too often; c / mu evens that out. A
replay ends with its log: the value is that of a policy that lived as many decisions as there are matches, not rows.

Between two refreshes the policy does not change, so the rows of an interval are looked at in large pieces; matches are
taken in order, and rows after the last one that was needed are looked at again after the refresh. That is exact,
whatever the pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.environments.episode import Grid, stream
from simulator.logs.log import Log, eligible_of
from simulator.ope.checks.limits import check_marginals
from simulator.ope.estimators import mean
from simulator.ope.intervals import standard_error
from simulator.policies.on_log import grid_of, task_of
from simulator.policies.protocol import Learner, Outcomes
from simulator.policies.specs import Spec, build, parse
from simulator.progress import Show, silent

PIECE = 64, 8192  # the fewest and the most rows looked at in one call
COINS = 3000  # stream of randomness under a seed
MARGIN = 1.2  # how many more rows are looked at than are expected to be needed


@dataclass(frozen=True, eq=False)
class Replay:
    """What became of a log.

    Attributes:
        value: in reward units per decision; NaN where nothing matched.
        standard_error: of the value, by its rows, taken as independent given what the policy was by then.
        matched: numbers of the rows that the policy learned from, in order.
        rows: how many rows were read.
        cut: rows whose chance to match would have been above 1: the policy learned from too few of them.
        lacking: the share of what it should have learned from that was cut.
        c: the least propensity that was allowed for; of the doubly robust replay the last c_t.
        learns: whether the policy does: its value then depends on how long it lived.
        evidence: the log that the value is of: the matches, as drawn by the policy itself; doubly robust: all rows.
        target: the policy's probabilities of every arm in these rows, as it was by then, shape (n, K).
        q: of the doubly robust replay, predictions of the same shape.
    """

    value: float
    standard_error: float
    matched: Int
    rows: int
    cut: int
    lacking: float
    c: float
    learns: bool
    evidence: Log
    target: Matrix
    q: Matrix | None = None

    @property
    def matches(self) -> int:
        """How many decisions the policy lived."""
        return len(self.matched)

    @property
    def share(self) -> float:
        """The share of the rows that matched."""
        return self.matches / self.rows if self.rows else 0.0


def replay_fixed(log: Log, target: Matrix, *, seed: int = 0) -> Replay:
    """Replay of a policy that does not learn, by its probabilities, shape (n, K)."""
    c = least(log)
    chance = target[np.arange(len(log)), log.arm] * c / log.propensity
    matched = np.flatnonzero(coins(log, seed) < chance)
    return _of_matches(log, matched, target[matched], log.weight, Cut.of(chance), c, learns=False)


class Cut(NamedTuple):
    """How many rows had a chance to match above 1, and how much of all chances that was."""

    rows: int
    lacking: float

    @classmethod
    def of(cls, chance: Vector) -> Cut:
        """From each row's chance to match, uncut."""
        beyond, total = np.maximum(chance - 1, 0), float(chance.sum())
        return cls(int((chance > 1 + 1e-9).sum()), float(beyond.sum()) / total if total > 0 else 0.0)


def _of_matches(
    log: Log, matched: Int, P: Matrix, counts: Vector | None, cut: Cut, c: float, *, learns: bool
) -> Replay:
    """The matches as a log of the policy itself.

    Args:
        log: all rows.
        matched: numbers of those that matched.
        P: the policy's probabilities in them, shape (m, K).
        counts: what each row of the log counts for if it matches, shape (n,); None: 1.
        cut: see there.
        c: the least propensity that was allowed for.
        learns: whether the policy does.
    """
    s = None if counts is None else counts[matched]
    own = P[np.arange(len(matched)), log.arm[matched]]
    evidence = replace(
        log.take(matched), propensity=own, probability=P, eligible=None, conditional=None, weight=s, learning=learns
    )
    found = mean(evidence.reward, s)
    error = standard_error(found) if len(matched) else math.inf
    return Replay(found.value, error, matched, len(log), *cut, c, learns, evidence, P)


def coins(log: Log, seed: int) -> Vector:
    """u of every row, from a stream of its own: coins that are also the log's own draws would match by these draws."""
    return stream(seed, COINS).random(len(log))


def least(log: Log, floor: float = 0.0) -> float:
    """c: the smallest propensity of a log, or `floor` if that is more.

    Raises:
        ValueError: the floor is not in [0, 1], or the log has lists whose marginal probabilities are not known.
    """
    check_marginals(log)
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is a propensity, from 0 to 1; got {floor:g}")
    return max(float(log.propensity.min(initial=1.0)), floor)


def replay(
    log: Log,
    policy: str | Spec | Learner,
    *,
    refresh: int = 100,
    seed: int = 0,
    floor: float = 0.0,
    show: Show = silent,
) -> Replay:
    """Replay of a policy that learns from its matches.

    Args:
        log: in the order in which it was logged.
        policy: see `specs.parse`, or a learner that has seen nothing.
        refresh: matches between two refreshes, where the policy has no interval of its own.
        seed: of the coin of each row, and of what is random inside the policy.
        floor: the least c. A few tiny propensities leave hardly any matches; a floor above them leaves more, and
            shows arms of smaller propensity too rarely (see `Replay.cut`).
        show: told which share of the rows is done.
    """
    c = least(log, floor)
    walk = Walk(log, *made(log, policy, refresh, seed), kept(log) / log.propensity, coins(log, seed), c)
    matched: list[Int] = [np.zeros(0, np.int64)]
    own: list[Matrix] = [np.zeros((0, log.K))]
    chances: list[Vector] = [np.zeros(0)]
    while walk.at < len(log):
        pieces = list(walk.pieces())
        walk.learn(pieces)
        for piece in pieces:
            matched.append(piece.matched)
            own.append(piece.P[piece.hits])
            chances.append(piece.chance)
        show(walk.at / len(log))
    rows, P, chance = np.concatenate(matched), np.concatenate(own), np.concatenate(chances)
    cut = Cut.of(chance)
    return _of_matches(log, rows, P, np.maximum(1.0, chance) if cut.rows else None, cut, c, learns=learns(policy))


def learns(policy: str | Spec | Learner) -> bool:
    """Whether a policy learns; of a learner that was made elsewhere it is thought to."""
    spec = parse(policy) if isinstance(policy, str) else policy
    return not (isinstance(spec, Spec) and spec.kind == "uniform")


def kept(log: Log) -> Vector:
    """What a row's chance to match is multiplied with, (n,): its weight, as a share of the largest."""
    return np.ones(len(log)) if log.weight is None else log.weight / log.weight.max(initial=1e-300)


def made(log: Log, policy: str | Spec | Learner, refresh: int, seed: int) -> tuple[Learner, int]:
    """(a learner, matches between two refreshes)."""
    if not isinstance(policy, str | Spec):
        return policy, refresh
    spec = parse(policy) if isinstance(policy, str) else policy
    own = (
        {**spec.options, "features": []} if spec.kind == "document" else spec.options
    )  # the log's columns are its features
    return build(Spec(spec.name, spec.kind, own), task_of(log, seed)), spec.refresh or refresh


class Piece(NamedTuple):
    """Rows looked at with one model, up to the last match that was needed."""

    rows: slice
    x: Grid
    P: Matrix  # (n, K)
    chance: Vector  # (n,) to match, uncut
    hits: Int  # places of the matches within the piece

    @property
    def matched(self) -> Int:
        """Numbers of the rows that match."""
        rows: Int = self.rows.start + self.hits
        return rows


class Walk:
    """A learner on its way through a log."""

    def __init__(self, log: Log, learner: Learner, refresh: int, odds: Vector, u: Vector, c: float) -> None:
        self.log, self.learner, self.refresh, self.odds, self.u, self.c = log, learner, refresh, odds, u, c
        self.at, self.hits = 0, 0

    def pieces(self) -> Iterator[Piece]:
        """Look at rows until `refresh` of them match or the log ends."""
        needed = self.refresh
        while needed and self.at < len(self.log):
            piece = self.look(needed)
            self.at, needed = piece.rows.stop, needed - len(piece.hits)
            self.hits += len(piece.hits)
            yield piece

    def look(self, needed: int) -> Piece:
        """The next rows, as far as the match that completes the needed ones."""
        rate = (self.hits + 1) / (self.at + self.log.K)
        size = int(np.clip(MARGIN * needed / rate, *PIECE))
        rows = slice(self.at, min(self.at + size, len(self.log)))
        x = grid_of(self.log, rows)
        P = self.learner.probabilities(x, eligible_of(self.log, rows))
        pi = P[np.arange(len(x)), self.log.arm[rows]]
        chance = self.c * self.odds[rows] * pi
        hits = np.flatnonzero(self.u[rows] < chance)[:needed]
        n = int(hits[-1]) + 1 if len(hits) == needed else len(x)
        return Piece(slice(rows.start, rows.start + n), x[:n], P[:n], chance[:n], hits)

    def learn(self, pieces: list[Piece]) -> None:
        """Tell the learner of the matches, each drawn with the learner's own probability, and refresh it."""
        for piece in pieces:
            rows, x = piece.matched, piece.x[piece.hits]
            arm, reward = self.log.arm[rows], self.log.reward[rows]
            own = piece.P[piece.hits, arm]
            self.learner.learn(Outcomes(x, arm, reward, own, eligible_of(self.log, rows)), told=False)
        self.learner.refresh()
