"""Reward models: q(x, a), fitted so that no row's reward is in its own prediction.

    s_i  row weight        c, a  imagined rows and their reward        lambda  ridge        mu  pooled mean reward

    mean    q(a) = (sum s r + a) / (sum s + c)                       over the rows of arm a (and position)
    ridge   theta_a = mu e + (sum s x x' + lambda I)^-1 sum s x (r - mu)         q(x, a) = x'theta_a
            of fewer rows than features: mu e + Z' (Z Z' + lambda I)^-1 sqrt(s) (r - mu), Z the rows sqrt(s) x: the same
    others  any object with fit and predict (or predict_proba), as scikit-learn has them, on [x, arm, position]

A model is a function that takes a log and returns a function that predicts every arm's reward for the rows of another
log, shape (n, K). Which rows it is fitted on is chosen apart from what it is: `cross_fitted`, `past_only`, `in_sample`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.checks.limits import check_log, check_predictions
from simulator.ope.checks.overlap import row_weights
from simulator.ope.estimators import mrdr_weights

Predict = Callable[[Log], Matrix]
Fit = Callable[[Log], Predict]
QFit = Literal["cross", "past", "in_sample"]

LAMBDA = 1.0  # of ridge
ARM_REWARD, ARM_ROWS = 1.0, 100.0  # a and c of the mean: they suit click rates of about one per cent
GROUPS = 10  # that `jackknife` leaves out
FIRST, GROWTH = 1, 1.5  # rows of the first refit of `past_only`, and how much longer each next prefix is


def mean_model(a: float = ARM_REWARD, c: float = ARM_ROWS, *, by_position: bool = False) -> Fit:
    """Smoothed mean of each arm, or of each arm at each position: (sum s r + a) / (sum s + c).

    Arms without rows are predicted a / c.
    """

    def fit(log: Log) -> Predict:
        P, cell = _places(log, by_position), _cells(log, by_position)
        s = row_weights(log)
        seen, earned = (np.bincount(cell, values, P * log.K) for values in (s, s * log.reward))
        q = np.vstack([((earned + a) / (seen + c)).reshape(P, log.K), np.full(log.K, a / c)])

        def predict(rows: Log) -> Matrix:
            position = rows.position if by_position and rows.position is not None else np.zeros(len(rows), np.int64)
            return np.asarray(q[np.minimum(position, P)])  # a position never seen in the fit: the prior

        return predict

    return fit


def _places(log: Log, by_position: bool) -> int:
    return 1 + int(log.position.max(initial=0)) if by_position and log.position is not None else 1


def _cells(log: Log, by_position: bool) -> Int:
    """Number of each row's position and arm."""
    return log.arm if not by_position or log.position is None else log.position * log.K + log.arm


def ridge_model(lam: float = LAMBDA) -> Fit:
    """Ridge regression of each arm on the context, shrunk to the pooled mean: an arm without rows is predicted by it.

    A log without context has the intercept alone, which makes this the mean of each arm with `lam` imagined rows of the
    pooled mean. Where lambda is 0 and an arm has fewer rows than features, its solution is the shortest one.
    """

    def fit(log: Log) -> Predict:
        X, s = _context(log), row_weights(log)
        mu = float(s @ log.reward) / (float(s.sum()) + 1)
        thetas = np.array([ridge(X[rows], log.reward[rows] - mu, s[rows], lam) for rows in _rows_of_arms(log)])
        return lambda rows: np.asarray(mu + _context(rows) @ thetas.T)

    return fit


def _rows_of_arms(log: Log) -> list[Int]:
    """Row numbers of each arm."""
    order = np.argsort(log.arm, kind="stable")
    return np.split(order, np.cumsum(np.bincount(log.arm, minlength=log.K))[:-1])


def ridge(X: Matrix, y: Vector, s: Vector, lam: float) -> Vector:
    """(sum s x x' + lambda I)^-1 sum s x y, shape (d,): of the rows' equations where they are fewer than the features'.

    Args:
        X: x of every row, shape (n, d).
        y: shape (n,).
        s: row weights, shape (n,).
        lam: lambda, at least 0.
    """
    n, d = X.shape
    if lam > 0 and n < d:
        Z = np.sqrt(s)[:, None] * X
        return np.asarray(Z.T @ solved(Z @ Z.T + lam * np.eye(n), np.sqrt(s) * y))
    A, b = X.T @ (s[:, None] * X) + lam * np.eye(d), X.T @ (s * y)
    return np.asarray(np.linalg.lstsq(A, b)[0]) if lam == 0 else solved(A, b)


def solved(A: Matrix, b: Vector) -> Vector:
    """A^-1 b, for a penalised A. Where floats lose the penalty beside huge features, so that there is no inverse, the
    shortest solution in units in which the diagonal is 1.
    """
    try:
        return np.asarray(np.linalg.solve(A, b))
    except np.linalg.LinAlgError:
        root = np.sqrt(np.diag(A))
        return np.asarray(np.linalg.lstsq(A / np.outer(root, root), b / root)[0] / root)


def _context(log: Log) -> Matrix:
    return np.ones((len(log), 1)) if log.context is None else log.context


def regressor_model(regressor: Any) -> Fit:
    """A regressor or classifier with scikit-learn's methods, on the context, the arm one-hot and the position one-hot.

    It is copied before each fit and given the rows' weights. A classifier's prediction is sum of class x probability.
    Where all rewards of a fit are equal (or there are none) that reward (or 0) is predicted.

    Args:
        regressor: has `fit(X, y, sample_weight=)` and `predict(X)` or `predict_proba(X)`; is not changed.
    """

    def fit(log: Log) -> Predict:
        log = log.take(row_weights(log) > 0)
        P = _places(log, by_position=True)
        rewards = np.unique(log.reward)
        if len(rewards) < 2:
            return lambda rows: np.full((len(rows), log.K), rewards[0] if len(rewards) else 0.0)
        weighted = {} if log.weight is None else {"sample_weight": log.weight}
        model = copy.deepcopy(regressor).fit(_design(log, log.arm, P), log.reward, **weighted)
        arms = range(log.K)
        return lambda rows: np.column_stack([_predicted(model, _design(rows, np.full(len(rows), a), P)) for a in arms])

    return fit


def _design(log: Log, arm: Int, positions: int) -> Matrix:
    """[context, arm one-hot, position one-hot], shape (n, d + K + positions)."""
    position = np.zeros(len(log), np.int64) if log.position is None else log.position
    one_hot = [values[:, None] == np.arange(size) for values, size in ((arm, log.K), (position, positions))]
    return np.column_stack([_context(log), *one_hot]).astype(float)


def _predicted(model: Any, X: Matrix) -> Vector:
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X) @ model.classes_, float)
    return np.asarray(model.predict(X), float)


def model_of(q: Any) -> Fit:
    """The model by its name, or of an object with scikit-learn's methods.

    Raises:
        ValueError: for a name other than `ridge`, `mean` and `mean-position`, or an object without `fit`.
    """
    if hasattr(q, "fit"):
        return regressor_model(q)
    match q:
        case "ridge":
            return ridge_model()
        case "mean":
            return mean_model()
        case "mean-position":
            return mean_model(by_position=True)
    raise ValueError(f"q must be 'ridge', 'mean', 'mean-position' or have the methods of a regressor; got {q!r}")


def in_sample(fit: Fit, log: Log) -> Matrix:
    """q of every row from a fit on all rows, its own included, shape (n, K): for comparison with others only."""
    return fit(log)(log)


def cross_fitted(fit: Fit, log: Log, *, splits: int = 5, seed: int = 0, unit: Int | None = None) -> Matrix:
    """q of every row from a fit on the log's other splits, shape (n, K). Right for a logging policy that did not learn.

    Args:
        fit: the model.
        log: n rows.
        splits: how many, at least 2.
        seed: of the assignment to splits.
        unit: number of each row's user: all rows of one are then in one split.

    Chernozhukov et al. (2018), https://arxiv.org/abs/1608.00060
    """
    unit = np.arange(len(log)) if unit is None else unit
    split = (np.random.default_rng(seed).permutation(int(unit.max(initial=-1)) + 1) % splits)[unit]
    log, q = needed(log), np.zeros((len(log), log.K))
    for k in range(splits):
        q[split == k] = fit(log.take(np.flatnonzero(split != k)))(log.take(np.flatnonzero(split == k)))
    return q


def needed(log: Log) -> Log:
    """The log without what no model looks at, so that taking rows copies little."""
    return replace(log, probability=None, eligible=None, decision_id=None, user=None, time_ms=None, part=None)


def past_only(fit: Fit, log: Log) -> Matrix:
    """q of every row from a fit on rows before it, shape (n, K): fits at 0, 1, 2, 3, 5, 8, ... rows serve what follows.

    For logs of a policy that learned: what it drew later depends on rewards before, so that a fit on later rows is not
    independent of the draw, and DR would be biased.
    """
    log, edges = needed(log), [0, *prefixes(len(log)), len(log)]
    q = np.zeros((len(log), log.K))
    for start, end in pairwise(edges):
        q[start:end] = fit(log.take(slice(0, start)))(log.take(slice(start, end)))
    return q


def prefixes(n: int) -> list[int]:
    """Lengths of the prefixes on which `past_only` fits."""
    lengths, length = [], FIRST
    while length < n:
        lengths.append(length)
        length = math.ceil(length * GROWTH)
    return lengths


def predictions(fit: Fit, log: Log, how: QFit, *, seed: int = 0, unit: Int | None = None) -> Matrix:
    """q of every row and arm, shape (n, K), fitted on the rows that `how` says.

    Raises:
        ValueError: a reward, feature or row weight of the log is no number or too large, or a prediction is none.
    """
    check_log(log)
    match how:
        case "cross":
            q = cross_fitted(fit, log, seed=seed, unit=unit)
        case "past":
            q = past_only(fit, log)
        case "in_sample":
            q = in_sample(fit, log)
    check_predictions(q)
    return q


def jackknife(fit: Fit, log: Log, value: Callable[[Log, Matrix, Int], float], unit: Int | None, seed: int) -> float:
    """The standard error of a value that a model decides: by leaving out each of `GROUPS` groups of rows (or users).

        sqrt((G - 1) / G sum_g (V_g - mean V)^2),   V_g: model and value without group g

    Args:
        fit: the model.
        log: n rows.
        value: of a log with its predictions, shape (rows, K); it is told which rows they are.
        unit: number of each row's user.
        seed: of the assignment to groups.

    Returns:
        It, in reward units; infinite for fewer rows (or users) than groups.

    Kott (2001), "The delete-a-group jackknife", Journal of Official Statistics 17(4).
    """
    unit = np.arange(len(log)) if unit is None else unit
    if int(unit.max(initial=-1)) + 1 < GROUPS:
        return math.inf
    group = (np.random.default_rng(seed).permutation(int(unit.max(initial=-1)) + 1) % GROUPS)[unit]
    log, values = needed(log), []
    for g in range(GROUPS):
        rows = np.flatnonzero(group != g)
        rest = log.take(rows)
        values.append(value(rest, fit(rest)(rest), rows))
    return float(np.sqrt((GROUPS - 1) * np.var(values)))


def for_mrdr(log: Log, target: Vector) -> Log:
    """The log with its rows weighted as MRDR fits q: see `mrdr_weights`; `target`: pi of the arm shown, shape (n,)."""
    return replace(log, weight=row_weights(log) * mrdr_weights(log.propensity, target))
