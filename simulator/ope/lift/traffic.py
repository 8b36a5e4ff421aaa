"""Decisions of an experiment with slices as a lift is computed from, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.logs.log import Kind, Log


@dataclass(frozen=True, eq=False)
class Traffic:
    """n decisions in the order of the log, G slices, m kinds.

    Attributes:
        names: of the G slices, by index.
        part: slice that decided, shape (n,).
        shares: of each slice at that decision, 0 where it had none, shape (n, G).
        user: number of the user, from 0 on; who gave none is another one each time; shape (n,).
        time_ms: when, shape (n,).
        kinds: the m kinds of reward.
        rewards: what came of each, shape (n, m).
        x: contexts, the first column 1, shape (n, d); None where there are none.
        uniform: index of the slice that plays at random, if there is just one.
        changes: what else was changed meanwhile, each with its time.
        cut: whether there are older decisions that were not read.
    """

    names: tuple[str, ...]
    part: Int
    shares: Matrix
    user: Int
    time_ms: Int
    kinds: tuple[Kind, ...]
    rewards: Matrix
    x: Matrix | None = None
    uniform: int | None = None
    changes: tuple[tuple[int, str], ...] = ()
    cut: bool = False

    def __len__(self) -> int:
        return len(self.part)

    def take(self, rows: NDArray[np.bool_]) -> Traffic:
        """These rows only; users are numbered anew."""
        parts: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("part", "shares", "time_ms", "rewards")}
        x = None if self.x is None else self.x[rows]
        return replace(self, **parts, x=x, user=renumbered(self.user[rows]))

    def capped(self) -> Matrix:
        """The rewards, each kind's capped, shape (n, m)."""
        caps = np.array([np.inf if kind.cap is None else kind.cap for kind in self.kinds])
        return np.clip(self.rewards, -caps, caps)


def traffic_of(log: Log) -> Traffic | None:
    """The decisions of a log; None where it has no slices, or has rows that are no decisions but positions of lists."""
    sliced = log.part is not None and log.shares is not None and log.shares.any()
    return decisions_of(log) if sliced else None


def decisions_of(log: Log) -> Traffic | None:
    """The same whether or not there are slices."""
    n = len(log)
    if log.rewards is None or (log.position is not None and log.position.any()):
        return None
    return Traffic(
        names=log.slices,
        part=np.zeros(n, np.int64) if log.part is None else log.part,
        shares=np.zeros((n, len(log.slices))) if log.shares is None else log.shares,
        user=np.arange(n) if log.user is None else users_of(log.user),
        time_ms=np.zeros(n, np.int64) if log.time_ms is None else log.time_ms,
        kinds=log.kinds,
        rewards=log.rewards,
        x=log.context,
        uniform=log.uniform,
        changes=log.changes,
    )


def users_of(names: NDArray[Any]) -> Int:
    """Numbers of users from what they are called; an empty name is another user each time."""
    found = np.unique(names, return_inverse=True)[1].astype(np.int64)
    nobody = names == names.dtype.type()
    found[nobody] = found.max(initial=0) + 1 + np.arange(int(nobody.sum()))
    return renumbered(found)


def renumbered(user: Int) -> Int:
    """Users' numbers without gaps, in the same order."""
    there = np.bincount(user) > 0
    numbers: Int = (np.cumsum(there) - 1)[user]
    return numbers


def many(user: Int, rows: Mask) -> int:
    """How many users there are in these rows."""
    return int(np.count_nonzero(np.bincount(user[rows])))


@dataclass(frozen=True)
class Effect:
    """What one slice earns a decision more than another, of one kind or of the weighted sum.

    Attributes:
        kind: the kind's name; None: the weighted sum.
        mean: what the slice earns a decision.
        baseline: what the baseline earns.
        value: mean less baseline; None where there are too few users to say.
        low: the lower end of its confidence sequence; None with it.
        high: the upper end.
        relative: value over baseline; None where the baseline is not clearly above 0.
        relative_low: the lower end of its own confidence sequence; None with it.
        relative_high: the upper end.
        more: how many decisions more would make it clear, if it is as large as it looks; None where it is clear, or
            so small that nothing can be said.
        missing: users who have to be rewarded before it is said; 0 where there are enough.
        cap: rewards above it counted as it; None: none did.
        capped: decisions of which that is true.
        matured: share of the reward that has come; None where nothing tells.
    """

    kind: str | None
    mean: float
    baseline: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    more: int | None = None
    missing: int = 0
    cap: float | None = None
    capped: int = 0
    matured: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the sequence excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Change:
    """What was changed in the period that a lift is from.

    Attributes:
        time_ms: when the first decision after it was made.
        what: what changed, in words.
    """

    time_ms: int
    what: str


@dataclass(frozen=True)
class Lift:
    """A slice against another.

    Attributes:
        slice: name of the slice.
        baseline: name of the slice that it is compared with.
        effect: of the weighted sum of all kinds.
        kinds: of each kind, each sequence for itself.
        decisions: of both slices.
        users: of both slices.
        missing: users that the smaller slice needs before anything is said; 0 where it has enough.
        changes: what changed meanwhile, in order of time.
        alarm: why nothing of this can be trusted; None where all is well.
        cut: whether there are older decisions that were not read.
        alpha: 1 - confidence.
    """

    slice: str
    baseline: str
    effect: Effect
    kinds: tuple[Effect, ...]
    decisions: int
    users: int
    missing: int
    changes: tuple[Change, ...]
    alarm: str | None
    cut: bool
    alpha: float


def matured_of(kinds: tuple[Kind, ...], rewards: Matrix) -> float | None:
    """The share of the weighted sum that has come; None where nothing tells of a kind that counts."""
    sizes: Vector = np.abs(rewards).mean(axis=0) * np.abs([kind.weight for kind in kinds])
    known = [(size, kind.matured) for size, kind in zip(sizes.tolist(), kinds, strict=True) if size]
    if not known or any(share is None for _, share in known):
        return None
    to_come = sum(size / max(1e-9, share or 0.0) for size, share in known)
    return float(sum(size for size, _ in known) / to_come)
