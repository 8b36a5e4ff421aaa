"""A learner played on an episode: decide for one interval at once, learn what is known by its end, refresh, go on.

The reward of round i is known after round i + delay; decisions from the next refresh on may use it. Within an interval
nothing changes, so all its decisions are made in one call, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.environments.episode import Episode
from simulator.policies.protocol import Learner, Lister, Outcomes, decide
from simulator.progress import Show, silent

Refresh = int | str


class Played(NamedTuple):
    """What a learner did in n rounds of k positions."""

    arms: Int  # (n, k)
    propensity: Matrix  # (n, k) given the positions before


def ends(episode: Episode, refresh: Refresh, rate: float = 1000.0) -> list[int]:
    """The round before which each interval ends.

    Args:
        episode: the rounds.
        refresh: rounds between two refreshes, or a time such as "100ms" or "2s".
        rate: rounds a second, where refresh is a time and the episode has none of its own.

    Raises:
        ValueError: refresh is neither.
    """
    n = len(episode)
    if isinstance(refresh, str) and episode.time_ms is not None:
        tick = episode.time_ms // _milliseconds(refresh)
        return [*(np.flatnonzero(np.diff(tick)) + 1).tolist(), n] if n else []
    step = max(1, round(rate * _milliseconds(refresh) / 1000)) if isinstance(refresh, str) else refresh
    if step < 1:
        raise ValueError(f"refresh takes rounds, at least 1; got {refresh}")
    return [*range(step, n, step), n] if n else []


def _milliseconds(text: str) -> float:
    number, factor = (text[:-2], 1.0) if text.endswith("ms") else (text[:-1], 1000.0)
    if not (text.endswith("s") and number.replace(".", "", 1).isdigit() and float(number) > 0):
        raise ValueError(f"refresh takes rounds or a time such as '100ms' or '2s'; got {text!r}")
    return float(number) * factor


class Due:
    """Which rounds' rewards are known by when."""

    def __init__(self, episode: Episode) -> None:
        n = len(episode)
        self.known = np.arange(n) if episode.delay is None else np.arange(n) + episode.delay
        self.order = np.argsort(self.known, kind="stable")
        self.sorted, self.taken = self.known[self.order], 0

    def until(self, end: int) -> Int:
        """Rounds whose reward is known before round `end` and was not before, by when it was."""
        start, self.taken = self.taken, int(np.searchsorted(self.sorted, end))
        return self.order[start : self.taken]


def play(learner: Learner, episode: Episode, stops: list[int], u: Vector, show: Show = silent) -> Played:
    """Play all rounds.

    Args:
        learner: who decides and learns.
        episode: the rounds.
        stops: see `ends`.
        u: the numbers drawn with, shape (n,).
        show: told which share of the rounds is done.

    Raises:
        ValueError: the episode shows lists and the learner fills one position.
    """
    n, k = len(episode), episode.positions
    played, due, start = Played(np.zeros((n, k), np.int64), np.ones((n, k))), Due(episode), 0
    for end in stops:
        rows = np.arange(start, end)
        played.arms[rows], played.propensity[rows] = _decided(learner, episode, rows, u[rows])
        for outcomes, told in _news(episode, played, due, rows):
            if told is None:
                learner.shown(outcomes)
            else:
                learner.learn(outcomes, told=told)
        learner.refresh()
        start = end
        show(end / n)
    return played


def _decided(learner: Learner, episode: Episode, rows: Int, u: Vector) -> tuple[Int, Matrix]:
    x, eligible = episode.x[rows], _mask(episode, rows)
    if episode.positions == 1:
        drawn = decide(learner, x, eligible, u)
        return drawn.arm[:, None], drawn.propensity[:, None]
    if not isinstance(learner, Lister):
        raise ValueError(
            f"{type(learner).__name__} shows one arm at a time; this environment shows {episode.positions}"
        )
    return learner.lists(x, eligible, episode.positions, u)


def _mask(episode: Episode, rows: Int) -> Mask:
    return episode.eligible if len(episode.eligible) == 1 else episode.eligible[rows]


def _news(episode: Episode, played: Played, due: Due, rows: Int) -> Iterator[tuple[Outcomes, bool | None]]:
    """What is told at an interval's end: (outcomes, whether they were shown before; None: shown, not yet known)."""
    end = int(rows[-1]) + 1
    known = due.until(end)
    late = known[known < rows[0]]
    waiting = rows[due.known[rows] >= end]
    if len(late):
        yield _outcomes(episode, played, late), True
    if len(fresh := known[known >= rows[0]]):
        yield _outcomes(episode, played, fresh), False
    if len(waiting):
        unknown = _outcomes(episode, played, waiting)
        yield unknown._replace(reward=np.zeros(len(unknown.arm))), None


def _outcomes(episode: Episode, played: Played, rows: Int) -> Outcomes:
    """Outcomes of rounds, a row for each position."""
    arms, k = played.arms[rows], episode.positions
    reward, at = episode.earned(rows, arms), np.repeat(rows, k)
    return Outcomes(episode.x[at], arms.ravel(), reward.ravel(), played.propensity[rows].ravel(), _mask(episode, at))
