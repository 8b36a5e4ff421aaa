"""What each slice earned, computed as a lift is: rewards capped, users one observation each, sure at every look."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.ope.lift.contrast import means
from simulator.ope.lift.lift import REWARDED, USERS
from simulator.ope.lift.past import foreseen, useful
from simulator.ope.lift.sequence import multiplier
from simulator.ope.lift.traffic import Traffic, many, renumbered


class Earned(NamedTuple):
    """What a slice earned a decision.

    Attributes:
        slice: its index; -1: what was decided without slices.
        decisions: how many it has.
        value: the weighted sum, a decision.
        low: the lower end of its confidence sequence; None where there are too few users to say.
        high: the upper end; None with it.
    """

    slice: int
    decisions: int
    value: float
    low: float | None
    high: float | None


def earned_of(traffic: Traffic, alpha: float = 0.05) -> list[Earned]:
    """Of every slice that decided."""
    per = np.array([kind.weight for kind in traffic.kinds])
    reward = traffic.capped() @ per
    paid: Mask = (traffic.capped() * per != np.array([kind.default for kind in traffic.kinds]) * per).any(axis=1)
    column = reward[:, None]
    f = useful(foreseen(traffic.x, column, traffic.user), column, traffic.user)[:, 0]
    sliced = traffic.shares.any(axis=1)
    part = np.where(sliced, traffic.part, -1)
    found = []
    for g in np.unique(part).tolist():
        own, rows = part == g, traffic.shares[:, g] > 0 if g >= 0 else ~sliced
        w = _weights(own[rows], traffic.shares[rows, g] if g >= 0 else np.ones(int(rows.sum())))
        user = renumbered(traffic.user[rows])
        few = many(traffic.user, own) < USERS or many(traffic.user, own & paid) < REWARDED
        found.append(_earned(g, w, reward[rows], f[rows], user, None if few else alpha))
    return found


def _weights(own: Mask, share: Vector) -> Matrix:
    """w of the slice, and of all others together; twice its own where it has everything."""
    w = own / share
    rest = np.divide(~own, 1 - share, out=np.zeros(len(own)), where=~own & (share < 1))
    return np.column_stack([w, rest if rest.any() else w])


def _earned(g: int, w: Matrix, reward: Vector, f: Vector, user: Int, alpha: float | None) -> Earned:
    """`alpha`: None where there are too few users for a sequence."""
    n, found = int(np.count_nonzero(w[:, 0])), means(w, reward, f, user)
    value, error = float(found.value[0]), float(np.sqrt(found.covariance[0, 0]))
    half = None if alpha is None else multiplier(n, alpha) * error
    return Earned(g, n, value, *((None, None) if half is None else (value - half, value + half)))
