"""Logged decisions as one table in memory: what every loader makes and every estimator reads.

n rows, one for each decision (or each position of a list), K arms, d columns of context

arm          (n,)    index of the arm shown
reward       (n,)    r, in reward units
propensity   (n,)    probability with which that arm was drawn, in (0, 1]; in lists the marginal probability
conditional  (n,)    in lists the conditional propensity, given the arms above it; None where it is not known
probability  (n, K)  mu(a|x) of every arm, 0 where it was not eligible; None where only the propensity was logged
eligible     (n, K)  which arms could be shown, where some that could had probability 0; None: those above 0
context      (n, d)  features as numbers, the first column 1; None where there is none
position     (n,)    position in a list, from 0; None where there are no lists
weight       (n,)    1 / the share of such rows that was kept
shares       (n, G)  of each slice of the traffic at that decision, 0 where it had none; None where there are no slices
within       (n, K)  probability of every arm within the row's slice, from which it was drawn; None: `probability`.
                     Where there are slices, `probability` and `propensity` are those over all slices
rewards      (n, m)  of each kind; None where only their sum is known
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector

Strings = NDArray[np.str_]
Rows = slice | Int


@dataclass(frozen=True)
class Kind:
    """A kind of reward as a report takes it.

    Attributes:
        name: its name.
        weight: what one unit of it counts for in the sum.
        default: what a decision earns without feedback.
        cap: rewards above it count as it, and those below minus the cap as that; None: none does.
        matured: share of its reward that has come; None where nothing tells.
    """

    name: str
    weight: float = 1.0
    default: float = 0.0
    cap: float | None = None
    matured: float | None = None


@dataclass(frozen=True)
class Log:
    """A log of decisions with their rewards. See the head of this file."""

    arms: tuple[str, ...]
    arm: Int
    reward: Vector
    propensity: Vector
    probability: Matrix | None = None
    context: Matrix | None = None
    columns: tuple[str, ...] = ()  # names of the context's columns
    position: Int | None = None
    time_ms: Int | None = None
    weight: Vector | None = None  # None: every row counts once
    decision_id: Strings | None = None
    user: Strings | None = None  # rows of one user are not independent: intervals are clustered by it
    part: Int | None = None  # the slice (share of traffic) that the row belongs to
    learning: bool = False  # the logging policy learned while it logged: models are then fitted on the past only
    cleaning: Mapping[str, int] = field(default_factory=dict)  # what was done to how many rows
    conditional: Vector | None = None  # of lists: p given the arms above; `propensity` is then the marginal
    eligible: Mask | None = None
    reward_range: tuple[float, float] | None = None  # lowest and highest possible reward, where the log says so
    shares: Matrix | None = None
    within: Matrix | None = None
    rewards: Matrix | None = None
    kinds: tuple[Kind, ...] = ()  # the m kinds of `rewards`
    slices: tuple[str, ...] = ()  # names of the G slices
    uniform: int | None = None  # the slice that plays uniformly, if there is just one
    changes: tuple[tuple[int, str], ...] = ()  # of policies and weights meanwhile: milliseconds since 1970, and what

    def __len__(self) -> int:
        return len(self.arm)

    def take(self, rows: slice | Int | NDArray[np.bool_]) -> Log:
        """The log of these rows only, in this order."""
        n = len(self)
        chosen: dict[str, Any] = {
            each.name: value[rows]
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), np.ndarray) and len(value) == n
        }
        return replace(self, **chosen)

    @property
    def K(self) -> int:  # noqa: N802 - the papers' letter
        """How many arms there are."""
        return len(self.arms)


def span_of(reward: Vector) -> tuple[float, float]:
    """The lowest and highest possible reward, as far as rewards tell: 0 to 1, or wider where some are."""
    return min(0.0, float(reward.min(initial=0.0))), max(1.0, float(reward.max(initial=1.0)))


def eligible_of(log: Log, rows: Rows) -> Mask:
    """Which arms could have been shown, shape (n, K), or (1, K) where that never changes; all, if it was not logged."""
    if log.eligible is not None:
        known: Mask = log.eligible[rows]
        return known
    if log.probability is None:
        return np.ones((1, log.K), bool)
    repeated = len(log) > 0 and log.probability.strides[0] == 0  # one row that is there once in memory
    mask: Mask = (log.probability[:1] if repeated else log.probability[rows]) > 0
    return mask


class Played(NamedTuple):
    """What is played, and what is aimed at: the policy, that of each slice, and the weight of each kind of reward."""

    policy: Any
    slices: Mapping[str, Any]
    weights: Mapping[str, float]


def changed(old: Played, new: Played) -> Iterator[str]:
    """What of policies and weights is another than before, in words."""
    if old.policy != new.policy:
        yield "another policy"
    for name in sorted(old.slices.keys() & new.slices.keys()):
        if old.slices[name] != new.slices[name]:
            yield f"another policy of {name}"
    for kind in sorted(old.weights.keys() & new.weights.keys()):
        if old.weights[kind] != new.weights[kind]:
            yield f"{kind} weighs {new.weights[kind]:g}, not {old.weights[kind]:g}"
