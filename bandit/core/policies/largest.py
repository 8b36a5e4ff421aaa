"""The probability that each of independent normals is the largest. N contexts, M normals, T numbers t.

    m, s   (N, M)  mean and standard deviation        n   (N, M)  how many equal ones a column stands for
    z      (t - m) / s                                Phi, lambda  normal distribution function; its logarithm's slope
    F(t)   prod_b Phi(z_b)^n_b, the chance that none is larger than t
    P_a    = integral of n_a lambda(z_a) / s_a F(t) dt         since phi = lambda Phi

By Gauss and Legendre with 16 points a panel. It begins at the largest m - 8 s, so that no z is below -8 and Phi never
underflows, or where F is e^-40 if that comes later; it ends at the largest m + 8 s, or where F is 1. A panel is no
longer than 4 s_b of any b that still varies there (m_b + 8 s_b >= t), and over none ln F rises by more than 12, its
slope falling. All that still vary have s >= (t - start) / 16, so panels grow by a quarter each: their number grows with
the logarithm of the largest s over the smallest. A grid of steps of s / 2, which is exact to 1e-14 for two normals,
leaves 1e-2 of the probability out for a thousand that are alike.

What cannot win is left out: P(a > b) < Phi(-8) = 6.3e-16 for the b whose m - 8 s is the largest. That, M times, is the
most that any P lacks, besides rounding; rows are divided by their sum, which gives it back.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector

REACH = 8.0  # standard deviations from the mean within which a normal varies
POINTS, LENGTH, RISE = 16, 4.0, 12.0  # of a panel: points, standard deviations, rise of ln F
NOTHING = -40.0  # ln F below which the rest is 4e-18
STEPS = 64  # Newton's steps towards it, each from below; ten are the most that was seen
POINT = 2.0**-44  # of the distance from the largest mean: a standard deviation below it is none
PER = 512  # cells of the table in 1 of z: a fourth-order expansion is off by 4e-14 of lambda, less of ln Phi
LOW, HIGH = -REACH - 0.25, REACH + 0.5  # the table's ends; beyond the upper one Phi is 1
CELLS = round((HIGH - LOW) * PER)
AT_ONCE = 2**15  # numbers worked on at a time, so that they stay in the processor's cache


class Normals(NamedTuple):
    """Those that may win, one row a context; a row with fewer of them ends in normals at minus infinity."""

    m: Matrix
    s: Matrix
    n: Matrix


def largest(mean: Matrix, sd: Matrix, count: Matrix | None = None) -> Matrix:
    """(N, K): the probability that each is the largest; rows sum to 1, within K 6.3e-16 before they are divided by it.

    Args:
        mean: shape (N, K); -inf takes no part.
        sd: standard deviations, shape (N, K), >= 0; of those without any that share the largest mean, each wins alike.
        count: how many equal ones each stands for, together, shape (N, K); by default one each.
    """
    rows, columns, place = _possible(mean, sd)
    shape = len(mean), int(place.max()) + 1
    m, s, n = np.full(shape, -np.inf), np.ones(shape), np.zeros(shape)
    m[rows, place] = mean[rows, columns] - mean.max(axis=1)[rows]  # about 0, so that large means cost no digits
    s[rows, place] = sd[rows, columns]
    n[rows, place] = 1.0 if count is None else count[rows, columns]
    s[s < POINT * np.abs(m, where=n > 0, out=np.zeros(shape))] = 0.0
    found = _shares(Normals(m, s, n)) if shape[1] > 1 else np.ones(shape)
    result = np.zeros(mean.shape)
    result[rows, columns] = found[rows, place]
    result /= result.sum(axis=1, keepdims=True)
    return result


def _possible(mean: Matrix, sd: Matrix) -> tuple[Int, Int, Int]:
    """(row, column, place among its row's) of each normal that may win."""
    lead = (mean - REACH * sd).argmax(axis=1)[:, None]
    behind = np.take_along_axis(mean, lead, axis=1) - mean
    rows, columns = np.nonzero(behind <= REACH * np.hypot(sd, np.take_along_axis(sd, lead, axis=1)))
    starts = np.searchsorted(rows, np.arange(len(mean)))
    return rows, columns, np.arange(len(rows)) - starts[rows]


def _shares(all_: Normals) -> Matrix:
    """(N, M): the probability of each, before rows are divided by their sum."""
    m, s, n = all_
    sure = s == 0
    if not sure.any():
        return _integral(all_, (m - REACH * s).max(axis=1))
    c = np.where(sure, m, -np.inf).max(axis=1)  # where there is one, none of the others wins below it
    rest = Normals(np.where(sure, -np.inf, m), np.where(sure, 1.0, s), np.where(sure, 0.0, n))
    start = np.maximum((rest.m - REACH * rest.s).max(axis=1), c)
    result = np.zeros(m.shape)
    if len(some := np.flatnonzero((rest.m + REACH * rest.s).max(axis=1) > start)):
        result[some] = _integral(Normals(*(part[some] for part in rest)), start[some])
    winners = np.where(sure & (m == c[:, None]), n, 0.0)
    z = (np.where(c > -np.inf, c, 0.0)[:, None] - rest.m) / rest.s  # of which less than -8.25 is as good as that
    below = np.exp((normal(z)[0] * rest.n).sum(axis=1))
    result += winners * (below / np.maximum(winners.sum(axis=1), 1.0))[:, None]
    return result


def _integral(normals: Normals, start: Vector) -> Matrix:
    """(N, M): the integral from `start` on, row by row as many as fit. t counts from there: all that still vary are
    within 8 s of it, so that differences of t and m have all their digits.
    """
    normals = normals._replace(m=normals.m - start[:, None])
    edges = panels(normals)
    points, weights = _gauss()
    half = np.diff(edges, axis=1)[:, :, None] / 2
    t = (edges[:, :-1, None] + half * (1 + points)).reshape(len(edges), -1)
    weight = (half * weights).reshape(t.shape)
    size = max(1, AT_ONCE // (t.shape[1] * normals.m.shape[1]))
    parts = [slice(at, at + size) for at in range(0, len(t), size)]
    return np.concatenate([_summed(Normals(*(p[rows] for p in normals)), t[rows], weight[rows]) for rows in parts])


def _summed(normals: Normals, t: Matrix, weight: Matrix) -> Matrix:
    M, size = normals.m.shape[1], max(1, AT_ONCE // t.size)
    log_F, slopes = np.zeros(t.shape), []
    for at in range(0, M, size):
        m, s, n = (part[:, at : at + size, None] for part in normals)
        log_cdf, slope = normal((t[:, None] - m) / s)
        log_F += (log_cdf * n).sum(axis=1)
        slopes.append(slope)
    weight = (weight * np.exp(log_F))[:, :, None]
    total = np.concatenate([(slope @ weight)[:, :, 0] for slope in slopes], axis=1)
    result: Matrix = total * normals.n / normals.s
    return result


def panels(normals: Normals) -> Matrix:
    """(N, panels + 1): where they begin and end; a row with fewer of them ends in empty ones."""
    m, s, _ = normals
    t, ends = np.zeros(len(m)), m + REACH * s
    end = ends.max(axis=1)
    for _ in range(STEPS):
        log_F, slope = _log_product(normals, t)
        if not (early := log_F < NOTHING - 1).any():
            break
        t = np.where(early, t + (NOTHING - log_F) / np.where(early, slope, 1.0), t)
    edges = [t]
    while (going := (t < end) & (log_F < -(2.0**-56))).any():
        narrowest = np.where(ends >= t[:, None], s, np.inf).min(axis=1)
        step = np.minimum(LENGTH * narrowest, RISE / np.maximum(slope, 1e-300))
        t = np.where(going, np.minimum(t + step, end), t)
        edges.append(t)
        log_F, slope = _log_product(normals, t)
    return np.stack(edges, axis=1)


def _log_product(normals: Normals, t: Vector) -> tuple[Vector, Vector]:
    """(ln F, its slope) at about one t each, shape (N,): as of the middle of each z's cell, which is near enough."""
    m, s, n = normals
    c0, c1 = _table()[:2]
    cell = _place((t[:, None] - m) / s).astype(np.int32)
    return (c0.take(cell) * n).sum(axis=1), (c1.take(cell) * (PER * n / s)).sum(axis=1)


@cache
def _gauss() -> tuple[Vector, Vector]:
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    return points, weights


@cache
def _table() -> Matrix:
    """(5, cells) coefficients of ln Phi about each cell's middle, in parts of a cell.

    l1 = lambda, l2 = -lambda (z + lambda), and so on by Leibniz: l(i + 1) is the derivative of l(i).
    """
    z = LOW + (np.arange(CELLS) + 0.5) / PER
    Phi = np.array([math.erfc(-each / math.sqrt(2)) / 2 for each in z.tolist()])
    upper = np.array([math.erfc(each / math.sqrt(2)) / 2 for each in z.tolist()])
    l0 = np.where(z > 0, np.log1p(-upper), np.log(Phi))
    l1 = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / Phi
    l2 = -l1 * (z + l1)
    l3 = -l2 * (z + l1) - l1 * (1 + l2)
    l4 = -l3 * (z + l1) - 2 * l2 * (1 + l2) - l1 * l3
    terms = [l0, l1 / PER, l2 / PER**2 / 2, l3 / PER**3 / 6, l4 / PER**4 / 24]
    return np.stack([np.append(term, 0.0) for term in terms])


def _place(z: Matrix) -> Matrix:
    """Where in the table each z is, in cells."""
    at: Matrix = (z - LOW) * PER
    np.maximum(at, 0.0, out=at)
    np.minimum(at, CELLS, out=at)
    return at


def normal(z: Matrix) -> tuple[Matrix, Matrix]:
    """(ln Phi(z), lambda(z)) for z >= -8.25, off by less than 4e-14 and 3e-13; 0 and 0 beyond 8.5."""
    c0, c1, c2, c3, c4 = _table()
    at = _place(z)
    cell = at.astype(np.int32)
    at -= cell
    at -= 0.5
    k1, k2, k3, k4 = (c.take(cell) for c in (c1, c2, c3, c4))
    k4 *= at
    slope = 4.0 * k4
    k4 += k3
    slope += 3.0 * k3
    k4 *= at
    slope *= at
    k4 += k2
    slope += 2.0 * k2
    k4 *= at
    slope *= at
    k4 += k1
    slope += k1
    k4 *= at
    k4 += c0.take(cell)
    slope *= PER
    return k4, slope
