"""How large numbers of a log, and options, may be; checked before anything is computed from them.

A fault is told at once, with what was expected and what came: later it would be an overflow, or an interval without
ends. Whether a log can answer at all is decided in `overlap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bandit.arrays import Mask, Matrix, Vector
from bandit.core.draw import UNKNOWN
from simulator.logs.log import Log

LARGEST = 1e30  # of rewards, features and row weights: fourth powers of them and their sums stay finite
LEAST = 1e-12  # probability of an arm that was shown; 1 / LEAST is the largest weight there can be


def check_options(
    *, alpha: float, clip: float = 1.0, tau: float | None = None, lam: float | None = None, cap: float | None = None
) -> None:
    """Refuse options of `evaluate` that are not numbers, or are outside their range.

    Raises:
        ValueError: one is not; it is named.
    """
    _option("alpha", alpha, "in (0, 1)", fine=0 < alpha < 1 and 1 - alpha / 2 < 1)
    _option("clip", clip, "above 0", fine=clip > 0)
    _option("tau", tau, "of 0 or more", fine=tau is None or tau >= 0)
    _option("lam", lam, "above 0", fine=lam is None or lam > 0)
    _option("cap", cap, "above 0, of rewards", fine=cap is None or 0 < cap <= LARGEST)


def _option(name: str, value: Any, what: str, *, fine: bool) -> None:
    if not fine:  # as it is also for NaN, which compares with nothing
        raise ValueError(f"{name} must be a number {what}; got {value}")


def check_span(span: tuple[float, float]) -> None:
    """Refuse a range of rewards that is empty or infinite.

    Raises:
        ValueError: its lowest is not below its highest, or one is not a number between -1e30 and 1e30.
    """
    low, high = span
    if not -LARGEST <= low < high <= LARGEST:
        what = f"the lowest below the highest, both from {-LARGEST:g} to {LARGEST:g}"
        raise ValueError(f"possible rewards (reward_range, cut by cap) must be {what}; got {low:g} and {high:g}")


def check(log: Log, alpha: float, how: Mapping[str, Any]) -> None:
    """Refuse a log, or options of `evaluate`, before hours are spent on them.

    Args:
        log: n rows.
        alpha: 1 - confidence.
        how: as of `evaluate`; what is not there is not looked at.

    Raises:
        ValueError: see `check_options`, `check_span` and `check_log`.
    """
    check_options(alpha=alpha, **{name: how[name] for name in ("clip", "tau", "lam", "cap") if name in how})
    if how.get("reward_range") is not None:
        check_span(how["reward_range"])
    check_log(log)


def check_log(log: Log, span: tuple[float, float] | None = None, *, lists: bool = False) -> None:
    """Refuse rows whose numbers are missing, infinite or too large to compute with.

    Args:
        log: n rows.
        span: lowest and highest possible reward, where that is known.
        lists: whether whole lists are valued, for which marginal probabilities may be unknown.

    Raises:
        ValueError: a reward, feature or row weight is not a number or beyond 1e30, a reward is outside the span, a
            weight is below 0, or an arm was shown with a probability that is not in [1e-12, 1]; the row is named.
    """
    r, s = log.reward, log.weight
    _rows("rewards", r, abs(r) <= LARGEST, f"in [{-LARGEST:g}, {LARGEST:g}]")
    if span is not None:
        check_span(span)
        _rows("rewards", r, (r >= span[0]) & (r <= span[1]), f"in [{span[0]}, {span[1]}]")
    if not lists:
        check_marginals(log)
    own = np.where(_unknown(log), 1.0, log.propensity)
    for name, p in (("propensities", own), ("conditional propensities", log.conditional)):
        if p is not None:
            _rows(name, p, (p >= LEAST) & (p <= 1 + 1e-9), f"in [{LEAST:g}, 1]")
    if s is not None:
        _rows("row weights", s, (s >= 0) & (s <= LARGEST), f"numbers from 0 to {LARGEST:g}")
    if log.probability is not None and not log.probability.min(initial=0.0) >= 0:
        row, arm = np.argwhere(~(log.probability >= 0))[0].tolist()
        raise ValueError(f"probabilities must be at least 0; row {row} has {log.probability[row, arm]} of an arm")
    check_context(log)


def check_marginals(log: Log) -> None:
    """Refuse lists whose lower places have no marginal probability, where each place is looked at by itself.

    Raises:
        ValueError: there is one; the first is named.
    """
    if (unknown := _unknown(log)).any():
        raise ValueError(
            f"row {int(unknown.argmax())} is a lower place of a list whose policy draws each place for itself: its "
            "marginal probability is not known; value whole lists (--lists) or first places (--places first)"
        )


def _unknown(log: Log) -> Mask:
    """Which rows have a propensity given the arms above, but a marginal that nobody knows."""
    unknown: Mask = (log.propensity == UNKNOWN) & (log.conditional is not None)
    return unknown


def check_context(log: Log) -> None:
    """Refuse a context that no model can be fitted on.

    Raises:
        ValueError: a feature is not a number or beyond 1e30; row and column are named.
    """
    X = log.context
    if X is None or not X.size or (X.min() >= -LARGEST and X.max() <= LARGEST):
        return
    row, column = np.argwhere(~(abs(X) <= LARGEST))[0].tolist()
    name = repr(log.columns[column]) if column < len(log.columns) else column
    raise ValueError(
        f"features must be numbers from {-LARGEST:g} to {LARGEST:g}; row {row} has {X[row, column]} in column {name}"
    )


def check_weights(log: Log, target: Matrix) -> None:
    """Refuse a target that plays what could hardly ever be shown: a weight of 1e12 is one row that stands for all.

    Args:
        log: n rows.
        target: pi, shape (n, K).

    Raises:
        ValueError: pi / mu of an arm that could be shown is beyond 1e12; the row is named.
    """
    mu = log.probability
    if mu is None or np.min(mu, where=mu > 0, initial=1.0) >= LEAST:
        return
    if (wrong := (mu > 0) & (target * LEAST > mu * (1 + 1e-9))).any():
        row, arm = np.argwhere(wrong)[0].tolist()
        got = f"in row {row} arm {log.arms[arm]!r} has {target[row, arm]:g}, and could be shown with {mu[row, arm]:g}"
        raise ValueError(f"the target must not play an arm more than {1 / LEAST:g} times as often as the log; {got}")


def check_predictions(q: Matrix) -> None:
    """Refuse predictions that are not finite numbers.

    Raises:
        ValueError: one is NaN or infinite; the row is named.
    """
    if not np.isfinite(q).all():
        row = int(np.isfinite(q).all(axis=-1).argmin())
        raise ValueError(f"predictions of rewards must be finite numbers; row {row} has {q[row].tolist()}")


def _rows(name: str, values: Vector, fine: np.ndarray, what: str) -> None:
    if not fine.all():
        row = int(fine.argmin())
        raise ValueError(f"{name} must be {what}; row {row} has {values[row]}")
