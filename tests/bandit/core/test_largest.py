"""The probability to be the largest of independent normals: by hand, by quadrature, by drawing, and what must hold."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from bandit.core.policies import largest as module
from bandit.core.policies.largest import largest

EXACT = 1e-12  # what is left of rounding, and of 16 points a panel


def of(means: list[float], sds: list[float]) -> np.ndarray:
    """One context's probabilities."""
    return np.asarray(largest(np.array([means]), np.array([sds]))[0])


def by_quadrature(m: np.ndarray, s: np.ndarray, a: int) -> float:
    """The integral of phi_a prod Phi_b by SciPy's adaptive quadrature, between points that resolve each normal."""
    others = np.arange(len(m)) != a

    def density(t: float) -> float:
        z = (t - m) / s
        log = special.log_ndtr(z[others]).sum() - z[a] ** 2 / 2 - math.log(s[a]) - math.log(2 * math.pi) / 2
        return math.exp(log)

    ends = np.unique((m + np.arange(-9, 9.5)[:, None] * s).ravel())
    ends = ends[(ends >= m[a] - 9 * s[a]) & (ends <= m[a] + 9 * s[a])]
    return sum(integrate.quad(density, *pair, epsabs=1e-16, epsrel=1e-12)[0] for pair in pairwise(ends))


def test_the_logarithm_of_the_normal_distribution_and_its_slope_are_those_of_scipy() -> None:
    """Everywhere from -8.25 on, to 4e-14 and 3e-13, and the slope to 1e-9 of itself; far beyond 8.5 both are 0."""
    z = np.concatenate([np.linspace(module.LOW, module.HIGH - 1e-9, 200_001), [module.LOW, 0.0, 8.0, 9.0, 1e9, np.inf]])
    log_cdf, slope = module.normal(z)
    expected = special.log_ndtr(z)
    ratio = np.exp(-(np.minimum(z, 30) ** 2) / 2 - expected) / math.sqrt(2 * math.pi)
    assert np.abs(log_cdf - expected).max() < 4e-14
    assert np.abs(slope - ratio).max() < 3e-13
    assert np.abs(slope / ratio - 1)[z < module.HIGH].max() < 1e-9
    assert log_cdf[z > 8.5].tolist() == slope[z > 8.5].tolist() == [0.0] * 3


@pytest.mark.parametrize("ahead", [0.0, 0.3, -2.0, 5.0])
@pytest.mark.parametrize("sds", [(1.0, 1.0), (1.0, 0.01), (1e-6, 2.0), (3.0, 0.0)])
def test_of_two_it_is_the_normal_distribution_of_their_difference(ahead: float, sds: tuple[float, float]) -> None:
    """P(a > b) = Phi((m_a - m_b) / sqrt(s_a^2 + s_b^2)), whichever comes first."""
    expected = special.ndtr(ahead / math.hypot(*sds))
    assert of([ahead, 0.0], list(sds)) == pytest.approx([expected, 1 - expected], abs=EXACT)
    assert of([0.0, ahead], list(sds[::-1])) == pytest.approx([1 - expected, expected], abs=EXACT)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_adaptive_quadrature_finds(seed: int) -> None:
    """Two to six normals whose standard deviations differ up to 10,000-fold."""
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 7))
    m, s = rng.normal(size=K), 10 ** rng.uniform(-3, 1, K)
    expected = [by_quadrature(m, s, a) for a in range(K)]
    assert of(m.tolist(), s.tolist()) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("K", [10, 1000, 10_000])
@pytest.mark.parametrize("behind", [0.0, 0.7, 4.0])
def test_of_many_that_are_alike_none_is_lost(K: int, behind: float) -> None:
    """K of one kind and K of another, against one integral in the logarithm of their powers."""

    def density(t: float) -> float:
        z = np.array([t, t + behind])
        log = special.log_ndtr(z)
        return math.exp(math.log(K) - t * t / 2 - math.log(2 * math.pi) / 2 + (K - 1) * log[0] + K * log[1])

    first = sum(integrate.quad(density, at, at + 0.25, epsabs=1e-16)[0] for at in np.arange(-9, 9, 0.25))
    p = of([0.0] * K + [-behind] * K, [1.0] * 2 * K)
    assert p[:K].sum() == pytest.approx(first, abs=2e-11)  # 2 K times 6.3e-16 are left out
    assert np.ptp(p[:K]) <= 1e-12 * p[0]
    assert np.ptp(p[K:]) <= 1e-12 * p[0]


def test_it_is_as_often_as_draws_are_the_largest() -> None:
    """A million draws of six normals, each count within five of its standard deviations."""
    rng, n = np.random.default_rng(5), 1_000_000
    m, s = np.array([0.0, 0.3, 0.5, -1.0, 0.45, 0.1]), np.array([1.0, 0.5, 0.05, 2.0, 0.2, 0.01])
    counts = np.bincount((m + s * rng.normal(size=(n, 6))).argmax(axis=1), minlength=6)
    p = of(m.tolist(), s.tolist())
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-6).all()


def test_what_does_not_vary_wins_where_nothing_else_is_above_it() -> None:
    """By hand: of 1, 1, 0 without spread the two share; a normal about 1 is above them half the time."""
    assert of([1.0, 0.0, 1.0], [0.0, 0.0, 0.0]).tolist() == [0.5, 0.0, 0.5]
    assert of([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 3.0]) == pytest.approx([0.25, 0, 0.25, 0.5], abs=EXACT)
    above = special.ndtr(-1.0)  # of one, two standard deviations below and one below a sure 0
    p = of([0.0, -2.0, -1.0], [0.0, 2.0, 1.0])
    assert p[0] == pytest.approx((1 - above) ** 2, abs=EXACT)
    assert p.sum() == pytest.approx(1, abs=1e-15)
    assert of([3.0], [0.0]).tolist() == of([-3.0], [2.0]).tolist() == [1.0]


def test_one_column_may_stand_for_many() -> None:
    """A count of 7, of 1 and of 0 in place of so many columns; the column has what they have together."""
    whole = of([0.2] * 7 + [0.5], [1.0] * 7 + [0.4])
    one = largest(np.array([[0.2, 0.5, -np.inf]]), np.array([[1.0, 0.4, 1.0]]), np.array([[7.0, 1.0, 0.0]]))[0]
    assert one == pytest.approx([whole[:7].sum(), whole[7], 0.0], abs=EXACT)
    sure = largest(np.array([[1.0, 1.0]]), np.zeros((1, 2)), np.array([[3.0, 1.0]]))[0]
    assert sure.tolist() == [0.75, 0.25]


def test_what_cannot_win_has_nothing_and_takes_nothing() -> None:
    """Twelve standard deviations of the difference behind: exactly 0, and the others are as if it were not there."""
    assert of([0.0, 0.5, -12.0 * math.sqrt(2)], [1.0, 0.3, 1.0])[2] == 0
    alone = of([0.0, 0.5], [1.0, 0.3])
    assert of([0.0, 0.5, -12.0 * math.sqrt(2)], [1.0, 0.3, 1.0])[:2] == pytest.approx(alone, abs=EXACT)
    assert largest(np.array([[0.0, -np.inf]]), np.ones((1, 2))).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("decades", [1, 3, 9, 18])
def test_the_points_grow_with_the_logarithm_of_what_standard_deviations_differ_by(decades: int) -> None:
    """At most 20 panels and 11 for each factor of ten: a quarter each is ln 10 / ln 1.25 = 10.3 of them."""
    s = np.logspace(-decades, 0, 400)[None]
    normals = module.Normals(8 * s, s, np.ones(s.shape))
    assert module.panels(normals).shape[1] <= 20 + 11 * decades
    p = largest(0 * s, s)
    assert p.sum() == pytest.approx(1, abs=1e-14)


NORMALS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(NORMALS, st.integers(1, 40), st.floats(-9, 9), st.floats(0, 9))
@settings(max_examples=150, deadline=None)
def test_what_holds_of_any_normals(rng: np.random.Generator, K: int, unit: float, decades: float) -> None:
    """Sums are 1; units and order change nothing; equal ones share; a batch is its rows; more mean is never less."""
    m = np.round(rng.normal(size=(3, K)), 1)
    s = 10 ** rng.uniform(-decades, 0, (3, K)) * (rng.random((3, K)) > 0.1)
    m[:, K // 2], s[:, K // 2] = m[:, 0], s[:, 0]
    p = largest(m, s)
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-14
    assert p.min() >= 0
    assert p[:, K // 2] == pytest.approx(p[:, 0], rel=1e-11, abs=1e-300)
    assert largest(m * 10**unit, s * 10**unit) == pytest.approx(p, abs=1e-11)
    order = rng.permutation(K)
    assert largest(m[:, order], s[:, order]) == pytest.approx(p[:, order], abs=1e-11)
    for i in range(3):
        assert largest(m[[i]], s[[i]])[0] == pytest.approx(p[i], abs=1e-13)
    more = m + 0.1 * (np.arange(K) == 0)
    assert (largest(more, s)[:, 0] >= p[:, 0] - 1e-12).all()
