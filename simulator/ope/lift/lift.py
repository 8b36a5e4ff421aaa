"""The lift of a slice over another, per kind of reward and for the weighted sum, as `Lift`.

It is said from `USERS` users on in each of the two slices, and of a kind from `REWARDED` users on who earned something.
Found by simulation with two purchases in a hundred decisions, up to 500 euros each, and visits as few users make most
of them (`benchmarks/lift.py`): below these the sequence may not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bandit.arrays import Matrix
from simulator.logs.log import Kind
from simulator.ope.lift.contrast import Means, means, relative, weights
from simulator.ope.lift.pair import pair_of, rows_of
from simulator.ope.lift.past import foreseen, useful
from simulator.ope.lift.sequence import more, multiplier
from simulator.ope.lift.shares import imbalance
from simulator.ope.lift.traffic import Change, Effect, Lift, Traffic, many, matured_of

USERS = 100  # of each of the two slices
REWARDED = 20  # users of both together who earned something
HEAVY = 0.1  # of the sum's variance: a kind with so much needs its own rewarded users before the sum is said


def lift_of(traffic: Traffic, pair: tuple[int, int] | None = None, alpha: float = 0.05) -> Lift | None:
    """The lift; None where no two slices have decided at the same time.

    Args:
        traffic: the decisions.
        pair: indices of the slice and of the baseline; None: see `pair_of`.
        alpha: 1 - confidence, of each kind for itself.
    """
    pair = pair_of(traffic) if pair is None else pair
    if pair is None:
        return None
    if (rows := rows_of(traffic, pair)) is None:
        return None
    both = traffic.take(rows)
    w = weights(both.part, both.shares, pair)
    users = [many(both.user, w[:, g] > 0) for g in (0, 1)]
    few, decisions = max(0, USERS - min(users)), int((w > 0).any(axis=1).sum())
    effects = _effects(both, w, decisions, alpha, said=not few)
    return Lift(
        slice=both.names[pair[0]],
        baseline=both.names[pair[1]],
        effect=effects[0],
        kinds=effects[1:],
        decisions=decisions,
        users=many(both.user, np.any(w > 0, axis=1)),
        missing=few,
        changes=_changes(both),
        alarm=_alarm(both),
        cut=both.cut,
        alpha=alpha,
    )


def _effects(traffic: Traffic, w: Matrix, n: int, alpha: float, *, said: bool) -> tuple[Effect, ...]:
    """That of the weighted sum, then those of the kinds."""
    kinds, rewards, shown = traffic.kinds, traffic.capped(), (w > 0).any(axis=1)
    per = np.array([kind.weight for kind in kinds])
    counts = rewards != np.array([kind.default for kind in kinds]), rewards != traffic.rewards
    paid, cut = (np.column_stack([(each * per != 0).any(axis=1), each]) for each in counts)
    all_ = [Kind("", matured=matured_of(kinds, rewards)), *kinds]
    columns = np.column_stack([rewards @ per, rewards])
    f, found = useful(foreseen(traffic.x, columns, traffic.user), columns, traffic.user), []
    few = [max(0, REWARDED - many(traffic.user, shown & paid[:, k])) for k in range(len(all_))]
    spread = columns.var(axis=0)
    heavy = per**2 * spread[1:] >= HEAVY * spread[0]  # kinds that the sum's noise is of
    few[0] = max(few[0], *(each for each, counts_ in zip(few[1:], heavy.tolist(), strict=True) if counts_), 0)
    for k, (kind, missing) in enumerate(zip(all_, few, strict=True)):
        earned = means(w, columns[:, k], f[:, k], traffic.user)
        effect = Effect(
            kind=kind.name or None,
            mean=float(earned.value[0]),
            baseline=float(earned.value[1]),
            missing=missing,
            cap=kind.cap,
            capped=int((cut[:, k] & shown).sum()),
            matured=kind.matured,
        )
        found.append(_ends(effect, earned, n, alpha) if said and not missing else effect)
    return tuple(found)


def _ends(effect: Effect, found: Means, n: int, alpha: float) -> Effect:
    """The effect with its value and its sequence, relative ones too, and with what is needed for it to be clear."""
    b, value = multiplier(n, alpha), found.difference
    half, ratio = b * found.error, relative(found, b) or (None, None, None)
    return replace(
        effect,
        value=value,
        low=value - half,
        high=value + half,
        relative=ratio[0],
        relative_low=ratio[1],
        relative_high=ratio[2],
        more=None if abs(value) > half else more(n, value, found.error, alpha),
    )


def _changes(traffic: Traffic) -> tuple[Change, ...]:
    """What changed between the first and the last of these decisions, in order of time."""
    first, last = int(traffic.time_ms.min()), int(traffic.time_ms.max())
    others = (Change(*each) for each in traffic.changes if first < each[0] <= last or not last)  # 0: no times are known
    return tuple(sorted([*_moved(traffic), *others], key=lambda change: change.time_ms))


def _moved(traffic: Traffic) -> Iterator[Change]:
    """When shares changed, and to what."""
    shares = traffic.shares
    for row in (np.flatnonzero((shares[1:] != shares[:-1]).any(axis=1)) + 1).tolist():
        each = zip(traffic.names, shares[row - 1].tolist(), shares[row].tolist(), strict=True)
        moved = ", ".join(f"{name} {old:g} to {new:g}" for name, old, new in each if old != new)
        yield Change(int(traffic.time_ms[row]), f"shares: {moved}")


def _alarm(traffic: Traffic) -> str | None:
    found = imbalance(traffic.part, traffic.shares, traffic.user)
    if found is None:
        return None
    return f"{traffic.names[found.slice]} has {found.users:,} users, for {found.expected:,.0f} expected"
