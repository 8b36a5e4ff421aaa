"""What the past alone foresees of a decision's reward: ridge of all slices' rewards on the context, as it came.

    rows come in blocks that end at `FIRST` x `GROWS`^k, whatever the number of rows
    h = theta' x - r0,   theta of all rows of the blocks before, r0 the mean of their rewards        f = r0 + s h
    s = sum_i H_i R_i / sum_i H_i^2, kept in [0, 1],   H_i and R_i the sums of h and r - r0 over those rows of user i

What has not foreseen what whole users earn is shrunk to nothing. No row, and no slice, is in its own f. Where one user
who comes very often turns up late, f may yet cost more than it gives: then there is none (`useful`).
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import Int, Matrix

FIRST, GROWS = 256, 1.2
COLUMNS = 256  # of a context, those that vary most in its first rows, beyond which a model is slow
LAMBDA = 10.0  # of the ridge, in rows' worth of each column's variance


def foreseen(x: Matrix | None, rewards: Matrix, user: Int) -> Matrix:
    """f of each of m rewards, shape (n, m), from contexts x (n, d), or from earlier rewards alone."""
    n, m = rewards.shape
    X = np.ones((n, 1)) if x is None else _few(x)
    d = X.shape[1]
    XX, XR, f = np.zeros((d, d)), np.zeros((d, m)), np.zeros((n, m))
    said, came = np.zeros((2, int(user.max(initial=-1)) + 1, m))  # by user
    start = 0
    while start < n:
        rows = slice(start, min(n, _end(start)))
        if start:
            r0 = XR[0] / start
            h = X[rows] @ _ridge(XX, XR, start) - r0
            square = (said**2).sum(axis=0)
            s = np.divide((said * came).sum(axis=0), square, out=np.zeros(m), where=square > 0)
            f[rows] = r0 + np.clip(s, 0.0, 1.0) * h
            who, place = np.unique(user[rows], return_inverse=True)
            said[who] += _added(h, place, len(who))
            came[who] += _added(rewards[rows] - r0, place, len(who))
        XX += X[rows].T @ X[rows]
        XR += X[rows].T @ rewards[rows]
        start = rows.stop
    return f


def useful(f: Matrix, rewards: Matrix, user: Int) -> Matrix:
    """f where users' sums of r - f spread less than those of r, else 0: no slice is looked at for that."""
    spread = []
    for each in (rewards - f, rewards):
        sums = _added(each - each.mean(axis=0), user, int(user.max(initial=-1)) + 1)
        spread.append((sums**2).sum(axis=0))
    return np.where(spread[0] < spread[1], f, 0.0)


def _added(values: Matrix, place: Int, n: int) -> Matrix:
    """Sums of the rows of each place."""
    return np.column_stack([np.bincount(place, column, n) for column in values.T])


def _end(start: int) -> int:
    end = float(FIRST)
    while end <= start:
        end = float(np.ceil(end * GROWS))
    return int(end)


def _ridge(XX: Matrix, XR: Matrix, n: int) -> Matrix:
    penalty = LAMBDA * np.maximum(np.diag(XX) / n, 1e-9)
    penalty[0] = 1e-9
    theta: Matrix = np.linalg.solve(XX + np.diag(penalty), XR)
    return theta


def _few(x: Matrix) -> Matrix:
    """The intercept, which is the first column, and no more others than a model is quick with."""
    if x.shape[1] <= COLUMNS:
        return x
    varied = np.var(x[:FIRST, 1:], axis=0)
    return x[:, [0, *np.sort(1 + np.argsort(-varied, kind="stable")[: COLUMNS - 1]).tolist()]]
