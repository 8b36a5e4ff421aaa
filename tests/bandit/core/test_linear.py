"""The readable formulae against hand calculation, another library's recorded values, recursion and least squares."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.ridge.linear import (
    Real,
    Ridge,
    best_lambda,
    dispersion,
    ends,
    estimates,
    feature_scale,
    in_common,
    loose_range,
    noise_scales,
    penalty,
    pooled_mean,
    possible,
    prior_noise,
    real,
    rounded_scale,
    schedule,
    unlimbed,
    upper,
    width,
    wilson,
)
from bandit.core.sums import CREDIT_MAX, Events, Sums, increments

ONES = np.ones(1)
SEEDS = st.integers(0, 2**32 - 1)


def seen(X: np.ndarray, r: np.ndarray) -> Real:
    """The sums of one arm shown in contexts X (n, d) with rewards r (n, m), by their definition."""
    return Real(X.T @ X, r.T @ X, r.T @ r, float(len(X)))


def played(seed: int, n: int, d: int, m: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Contexts with an intercept, and rewards that depend on them."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1)) * rng.uniform(0.2, 3)])
    return X, 0.3 + X @ rng.normal(size=(d, m)) * 0.2 + rng.normal(size=(n, m)) * 0.5


# MABWiser, tests/test_linucb.py: test_alpha0_expectations and test_alpha1_expectations
# (https://github.com/fidelity/mabwiser/blob/121dcc8255575ab1421fd42b66880ae5526d4b9e/tests/test_linucb.py)
HISTORY = np.array(
    [
        [0, 1, 2, 3, 5], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 2, 2, 3, 5], [1, 3, 1, 1, 1],
        [0, 0, 0, 0, 0], [0, 1, 4, 3, 5], [0, 1, 2, 4, 5], [1, 2, 1, 1, 3], [0, 2, 1, 0, 0],
    ], float
)  # fmt: skip
QUERIES = np.array([[0, 1, 2, 3, 5], [1, 1, 1, 1, 1]], float)


@pytest.mark.parametrize(
    ("alpha", "decisions", "rewards", "expected"),
    [
        (
            0.0,
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 1],
            [0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
            [[-0.018378378378378413, 0.0, 0.9966292134831471], [0.14054054054054055, 0.0, 0.43258426966292074]],
        ),
        (
            1.0,
            [1, 1, 1, 2, 2, 3, 3, 3, 3, 3],
            [0, 0, 1, 0, 0, 0, 0, 1, 1, 1],
            [[0.9790312458954391, 1.1617706239438832, 1.4247056229871702],
             [0.8896475809353053, 0.923364043088837, 1.457085577251709]],
        ),
    ],
)  # fmt: skip
def test_plain_linucb_is_that_of_mabwiser(
    alpha: float, decisions: list[int], rewards: list[int], expected: list[list[float]]
) -> None:
    """With mu 0, v 1 and sigma 1 the upper confidence bounds are the recorded ones, but for rounding.

    2e-15 with the BLAS that they were recorded with; other kernels add up in another order: some 40 ulp of 1.
    """
    arm, r = np.array(decisions), np.array(rewards, float)[:, None]
    arms = [seen(HISTORY[arm == a], r[arm == a]) for a in (1, 2, 3)]
    found = estimates(arms, Ridge(ONES, ONES, noise=1.0), mu=0.0, v=1.0)
    scores = [[float(x @ e.theta) + alpha * e.sigma * width(x, e.G) for e in found] for x in QUERIES]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-14)


def test_two_features_and_two_events_by_hand() -> None:
    """One arm saw x = (1, 1) with reward 1 and x = (1, 0) with reward 0; another arm saw nothing. lambda 1, s0 1/2.

    A = [2 1; 1 1], b = (1, 1), s = (2, 1), n = 2, q = 1, mu = 1 / (2 + 1); the mean of |x|^2 without the intercept
    is 1/2, so v = 1. A + I = [3 1; 1 2] has determinant 5: G = [2 -1; -1 3] / 5.
    c = b - mu s = (1/3, 2/3), G c = (0, 1/3), theta = (1/3, 1/3). width^2 at (1, 1) is (2 - 1 - 1 + 3) / 5 = 3/5.
    Q = 1 - 2/3 + 2/9 - 2/9 = 1/3; n0 s0^2 = 5/4; sigma_pool^2 = (5/4 + 1/3) / 7 = 19/84, also the first arm's own.
    The second arm: theta = (1/3, 0), G = I, sigma^2 = max(19/84, (5/4) / 5) = 1/4.
    """
    first = seen(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[1.0], [0.0]]))
    second = Real(np.zeros((2, 2)), np.zeros((1, 2)), np.zeros((1, 1)), 0.0)
    one, other = estimates([first, second], Ridge(ONES, ONES))
    np.testing.assert_allclose(one.theta, [1 / 3, 1 / 3], atol=1e-15)
    np.testing.assert_allclose(one.G, np.array([[2, -1], [-1, 3]]) / 5, atol=1e-15)
    assert width(np.ones(2), one.G) == pytest.approx(math.sqrt(3 / 5), abs=1e-15)
    assert one.sigma == pytest.approx(math.sqrt(19 / 84), abs=1e-15)
    np.testing.assert_allclose(other.theta, [1 / 3, 0], atol=1e-15)
    assert other.G.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert other.sigma == 0.5


def test_integer_sums_are_read_in_their_units() -> None:
    """x = (1, 0.5) on the grid with 30 credits of 0.01 each: A, B, R and n as by hand in features and rewards."""
    x, credit = np.array([[4096, 2048]], np.int16), np.array([[30]])
    sums = Sums.zeros(1, 1, 2)
    sums.add(*increments(Events(np.array([0]), x, np.array([1]), 0 * credit, credit)))
    arm = real(sums, 0, np.array([0.01]))
    assert arm.A.tolist() == [[1.0, 0.5], [0.5, 0.25]]
    np.testing.assert_allclose(arm.B, [[0.3, 0.15]], rtol=1e-15)
    np.testing.assert_allclose(arm.R, [[0.09]], rtol=1e-15)
    assert arm.n == 1.0


@given(SEEDS, st.integers(0, 12), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_theta_minimises_the_penalised_squares(seed: int, n: int, d: int) -> None:
    """theta - mu e is the least-squares fit of r - mu to x with rows sqrt(Lambda) added, as lstsq solves it."""
    X, r = played(seed, n, d)
    arm = seen(X, r)
    ridge = Ridge(ONES, ONES, lam=0.7)
    mu = pooled_mean([arm], ONES)
    root = np.diag(np.sqrt(penalty(d, 0.7, feature_scale([arm]))))
    fit = np.linalg.lstsq(np.vstack([X, root]), np.concatenate([r[:, 0] - mu, np.zeros(d)]), rcond=None)[0]
    fit[0] += mu
    np.testing.assert_allclose(estimates([arm], ridge)[0].theta, fit, rtol=1e-9, atol=1e-11)  # condition < 1e5


@given(SEEDS, st.integers(1, 30), st.integers(1, 5), st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_noise_is_the_sum_of_one_step_prediction_errors(seed: int, n: int, d: int, lam: float) -> None:
    """Q, read back from sigma, is sum_t (r_t - prediction_t)^2 / (1 + width_t^2), each predicted from those before.

    The prediction starts at mu; the recursion solves the ridge problem anew at each step and never sees R or n.
    """
    X, r = played(seed, n, d)
    arm = seen(X, r)
    mu, v = pooled_mean([arm], ONES), feature_scale([arm])
    M, c, Q = np.diag(penalty(d, lam, v)), np.zeros(d), 0.0
    for x, reward in zip(X, r[:, 0], strict=True):
        G = np.linalg.inv(M)
        Q += (reward - mu - x @ G @ c) ** 2 / (1 + x @ G @ x)
        M, c = M + np.outer(x, x), c + (reward - mu) * x
    s1 = prior_noise(arm.R[0], arm.B[0, :1], np.array([arm.n]), 0.5)
    found = estimates([arm], Ridge(ONES, ONES, lam=lam))[0].sigma ** 2 * (5 + n) - 5 * s1**2
    assert found == pytest.approx(Q, rel=1e-9, abs=1e-9)  # q and c'Gc cancel: a few digits less than float64


def test_no_arm_has_less_noise_than_all_together() -> None:
    """n0 s1^2 = 5, Q = (0, 95), n = (95, 0): pooled 100 / 100; the quiet arm gets 1, the other (5 + 95) / 5."""
    sigma, pool = noise_scales(np.array([0.0, 95.0]), np.array([95.0, 0.0]), Ridge(ONES, ONES), 1.0)
    np.testing.assert_allclose(sigma**2, [1.0, 20.0], rtol=1e-15)
    assert pool == 1.0


def prior_of(rewards: list[list[float]], s0: float) -> float:
    """s1 of arms that earned these rewards."""
    arms = [np.array(each) for each in rewards]
    q, b, n = np.array([((r**2).sum(), r.sum(), len(r)) for r in arms]).T
    return prior_noise(q, b, n, s0)


def test_the_prior_noise_by_hand() -> None:
    """s1 of rewards declared up to 10^6: three spreads of them, their mean size where most are 0, s0 before any.

    Two arms earned 3 and 3, and 6 and 0: with one more of 0 their mean is 12/5 and T = 54 - 144/5 = 126/5, so that
    3 sqrt(T / 5) = 6.73 and T / 12 = 2.1. One click of 20 among 999 nothings: T = 400 (1 - 1/1001) = 399.6, so that
    T / 20 = 19.98 is more than 3 sqrt(399.6 / 1001) = 1.90.
    """
    assert prior_of([[3, 3], [6, 0]], 5e5) == pytest.approx(3 * math.sqrt(126 / 25), rel=1e-15)
    assert prior_of([[0.0] * 500, [20.0] + [0.0] * 499], 5e5) == pytest.approx(20 * 1000 / 1001, rel=1e-14)
    assert prior_of([[0.0, 0.0], []], 5e5) == 5e5
    assert prior_of([[3, 3], [6, 0]], 4.0) == 4.0


@given(st.lists(st.lists(st.floats(-9, 9), max_size=6), min_size=1, max_size=4), st.floats(0.01, 1e9))
def test_the_prior_noise_is_of_the_rewards_and_never_nothing(rewards: list[list[float]], unit: float) -> None:
    """Whatever came, also rewards that cancel: more than 0, at most three roots of the sum of squares, in any unit."""
    rewards = [[round(r, 3) for r in arm] for arm in rewards]
    found = prior_of(rewards, 1e3)
    assert 0 < found <= (3 * math.sqrt(sum(r * r for arm in rewards for r in arm)) or 1e3)
    assert prior_of([[unit * r for r in arm] for arm in rewards], 1e3 * unit) == pytest.approx(found * unit, rel=1e-9)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_of_clicks_the_prior_noise_is_half_the_range_at_any_rate(clicks: int, others: int) -> None:
    """One in 5,000 or four in five: s1 is s0, so no rate of clicks is decided otherwise than the range says."""
    rate = clicks / (clicks + others)
    q = np.array([float(clicks), 0.0])
    n = np.array([clicks + others, 0.0])
    assert rate > 0.9 or prior_noise(q, q, n, 0.5) == 0.5


def test_a_range_is_loose_beyond_a_hundred_times_the_mean_size() -> None:
    """A sale of 20 in every 1,000 decisions: mean .02, mean square .4, size 20; nothing came: nothing is said."""
    assert loose_range(0.4, 0.02, 0, 2000) is None
    assert loose_range(0.4, 0.02, 0, 2001) == 20
    assert loose_range(0.4, -0.02, -2001, 0) == 20
    assert loose_range(0.0, 0.0, 0, 2001) is None
    assert loose_range(1.0, 0.0, -2000, 2000) is None


def test_noise_as_a_number_takes_the_place_of_every_estimate() -> None:
    """noise 0.25 is every arm's sigma, whatever was seen; 0 is allowed and means no bonus at all."""
    for noise in (0.25, 0.0):
        sigma, pool = noise_scales(np.array([0.0, 95.0]), np.array([95.0, 0.0]), Ridge(ONES, ONES, noise=noise), 1.0)
        assert (sigma.tolist(), pool) == ([noise, noise], 1.0)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_weights_act_as_if_the_rewards_had_been_weighted(seed: int) -> None:
    """Two kinds with weights w are one kind with reward w'r: theta and sigma are the same."""
    X, r = played(seed, 20, 3, m=2)
    w = np.array([2.0, -0.5])
    both = estimates([seen(X, r)], Ridge(w, np.ones(2)))[0]
    one = estimates([seen(X, (r @ w)[:, None])], Ridge(ONES, ONES))[0]
    np.testing.assert_allclose(both.theta, one.theta, rtol=1e-10, atol=1e-12)
    assert both.sigma == pytest.approx(one.sigma, rel=1e-9)


STEPS = [(0, 1), (0.3, 1), (1, 1), (1.18, 1), (1.2, 2**0.5), (1.67, 2**0.5), (1.69, 2), (61, 64), (50, 2**5.5)]


@pytest.mark.parametrize(("norm", "v"), STEPS)
def test_the_feature_scale_is_at_least_1_and_a_power_of_root_2(norm: float, v: float) -> None:
    """The steps lie at 2^(1/4), 2^(3/4), ...: 1.189, 1.682, ..., so v moves only when the norm moves by two fifths."""
    assert rounded_scale(norm) == pytest.approx(v, rel=1e-15)


def test_the_feature_scale_leaves_the_intercept_out() -> None:
    """Contexts (1, 2, 2) and (1, 0, 0) have squared norms 8 and 0 without it: the mean, 4, is v, over both arms."""
    arms = [seen(np.array([x]), np.zeros((1, 1))) for x in ([1.0, 2, 2], [1.0, 0, 0])]
    assert feature_scale(arms) == pytest.approx(4.0, rel=1e-15)
    assert penalty(3, 0.5, 4.0).tolist() == [0.5, 2.0, 2.0]


def test_the_pooled_mean_counts_one_more_impression_of_nothing() -> None:
    """3 rewards of 1 in 4 impressions over two arms: 3 / 5; nothing seen at all: 0."""
    X, r = np.ones((2, 1)), np.array([[1.0], [1.0]])
    assert pooled_mean([seen(X, r), seen(X, r * [[1.0], [0.0]])], ONES) == pytest.approx(3 / 5)
    assert pooled_mean([seen(X[:0], r[:0])], ONES) == 0.0


@pytest.mark.parametrize("total", [0, 1, -1, 5, -(2**48), 2**62 - 1, 2**62, -(2**62), 3 * 2**62 + 7, -(2**70) + 1])
def test_two_limbs_read_as_one_number(total: int) -> None:
    """high 2^62 + low, as the nearest float to within 2 ulp; small negative sums, which borrow from high, are exact."""
    found = float(unlimbed(np.array([[total >> 62, total & (2**62 - 1)]]))[0])
    assert found == pytest.approx(total, rel=4e-16, abs=0)
    if abs(total) < 2**53:
        assert found == total


def test_squares_beyond_64_bits_read_right() -> None:
    """100,000 credits of 2^24 square to 2.8e19: q is right where int64 has long overflown."""
    n = 100_000
    new = np.full((n, 1), CREDIT_MAX)
    zero = np.zeros(n, np.int64)
    sums = Sums.zeros(1, 1, 1)
    sums.add(*increments(Events(zero, np.full((n, 1), 4096, np.int16), zero + 1, 0 * new, new)))
    assert real(sums, 0, ONES).R[0, 0] == n * 2.0**48


@given(st.floats(0, 1), st.floats(0, 9), st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_the_bound_is_the_upper_end_of_wilsons_interval(p: float, z: float, low: float, span: float) -> None:
    """q solves (q - p)^2 = z^2 q (1 - q), the definition; it is never below the mean nor above the range."""
    q = (wilson(low + span * p, z * z, low, span) - low) / span
    off = 1e-9 + abs(low) / span * 1e-14
    assert (q - p) ** 2 == pytest.approx(z * z * q * (1 - q), abs=1e-8 + off * (z * z + 1))
    assert p - off <= q <= 1 + off


def test_a_bound_of_one_arm_is_that_of_many() -> None:
    """A float and an array go different ways to the same number; beyond the range p stands at its end."""
    mean, z2 = np.array([-2.0, 0.0, 0.3, 1.0, 5.0]), np.array([0.5, 0.0, 0.1, 3.0, 0.2])
    many = wilson(mean, z2, 0.0, 1.0)
    np.testing.assert_allclose(many, [wilson(float(m), float(z), 0.0, 1.0) for m, z in zip(mean, z2, strict=True)])
    np.testing.assert_allclose(many, [-2 + 0.5 / 1.5, 0.0, many[2], 1.0, 5.0], rtol=1e-14)
    assert wilson(-math.inf, 0.5, 0.0, 1.0) == -math.inf


@given(st.floats(0, 1), st.floats(0, 8), st.floats(0.01, 1))
def test_the_bound_rises_with_the_width_and_no_faster_than_stated(p: float, z: float, step: float) -> None:
    """0 <= dq / dz <= .65, which the error bound of the fast path rests on; .6495 is reached at p = 0, z^2 = 1/3."""
    rise = wilson(p, (z + step) ** 2, 0.0, 1.0) - wilson(p, z * z, 0.0, 1.0)
    assert -1e-12 <= rise <= 0.65 * step + 1e-12
    z = math.sqrt(1 / 3)
    assert (wilson(0.0, (z + 1e-6) ** 2, 0.0, 1.0) - wilson(0.0, z**2, 0.0, 1.0)) / 1e-6 == pytest.approx(
        0.6495, abs=1e-4
    )


@given(SEEDS, st.integers(1, 40), st.integers(1, 5), st.floats(-5, 5), st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_the_variance_function_is_the_sum_over_contexts(seed: int, n: int, d: int, low: float, span: float) -> None:
    """V from sums is sum (m - lo)(hi - m) over the very contexts, floored at 0: by loops."""
    X, r = played(seed, n, d)
    arm = seen(X, r)
    ridge = Ridge(ONES, ONES, lam=0.7, low=low, high=low + span)
    found, mu = estimates([arm], ridge)[0], pooled_mean([arm], ONES)
    s1 = prior_noise(arm.R[0], arm.B[0, :1], np.array([float(n)]), ridge.s0)
    lo, R = ends(mu, s1, ridge)
    assert low <= lo <= lo + R <= low + span + 1e-9
    c = arm.B[0] - mu * arm.A[:, 0]
    D1, D2 = arm.A[:, 0] @ found.G @ c, c @ found.G @ arm.A @ found.G @ c
    V = possible(np.array([float(n)]), np.array([D1]), np.array([D2]), mu, lo, R)
    by_loop = sum((m - lo) * (lo + R - m) for m in X @ found.theta)
    assert V[0] * R**2 == pytest.approx(max(0.0, by_loop), rel=1e-7, abs=1e-7 * n * (1 + span + abs(low)) ** 2)


def test_the_dispersion_by_hand() -> None:
    """Q = (1, 3), V = (4, 6), n = (10, 10), so Vb = 1/2: phi = (2 / 5 + 4 / 7) / 2, then each arm's own."""
    found = dispersion(np.array([1.0, 3.0]), np.array([4.0, 6.0]), np.array([10.0, 10.0]))
    phi = (2 / 5 + 4 / 7) / 2
    np.testing.assert_allclose(found, [(25 * phi + 1) / (25 + 4), (25 * phi + 3) / (25 + 6)], rtol=1e-15)
    assert dispersion(np.zeros(2), np.zeros(2), np.zeros(2)).tolist() == [1.0, 1.0]


def test_alpha_falls_from_2_to_1_as_impressions_pass_the_coefficients() -> None:
    """10 arms of 6 columns: 2 at first, (1/2)^(1/4) of it after 240 impressions, 1 after 15 times as many and more."""
    assert schedule(60, 0) == 2.0
    assert schedule(60, 240) == pytest.approx(2 * 0.5**0.25)
    assert schedule(60, 240 * 15) == pytest.approx(1.0)
    assert schedule(60, 10**9) == 1.0


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Z of all arms' rows, with a block of columns for each arm and one for all; the contexts; the rewards)."""
    K, d = len(parts), parts[0][0].shape[1]
    X, own = np.concatenate([X for X, _ in parts]), np.repeat(np.arange(K), [len(X) for X, _ in parts])
    Z = np.zeros((len(X), K + 1, d))
    Z[np.arange(len(X)), own] = Z[:, K] = X
    return Z.reshape(len(X), -1), X, np.concatenate([r[:, 0] for _, r in parts])


@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.3, 20.0]))
@settings(max_examples=30, deadline=None)
def test_pooled_estimates_are_those_of_one_regression_of_all_arms(seed: int, K: int, d: int, lam: float) -> None:
    """theta_a = mu e + beta + delta_a, with the penalty D0 on beta and Lambda on each delta: the ridge solution of
    K d + d unknowns, and the width is by its inverse.
    """
    ridge, parts = Ridge(ONES, ONES, lam=None, pooled=True), [played(seed + a, 5 + a, d) for a in range(K)]
    arms = [seen(X, r) for X, r in parts]
    mu, v = pooled_mean(arms, ONES), feature_scale(arms)
    Z, _, r = joined(parts)
    M = Z.T @ Z + np.diag(np.concatenate([np.tile(penalty(d, lam, v, 1.0), K), penalty(d, 1.0, v)]))
    solution = np.linalg.solve(M, Z.T @ (r - mu)).reshape(K + 1, d)
    common = in_common(arms, ridge, lam)
    np.testing.assert_allclose(common.beta[0], solution[K], rtol=1e-8, atol=1e-10)
    x = np.random.default_rng(seed).normal(size=d)
    for a, found in enumerate(estimates(arms, ridge, lam=lam)):
        theta = solution[a] + solution[K]
        theta[0] += mu
        np.testing.assert_allclose(found.theta, theta, rtol=1e-8, atol=1e-10)
        z = np.concatenate([np.kron(np.eye(K)[a], x), x])
        assert width(x, found.G) == pytest.approx(math.sqrt(z @ np.linalg.solve(M, z)), rel=1e-8)


def test_an_arm_that_was_never_shown_is_taken_for_what_arms_have_in_common() -> None:
    """Where ten arms have nearly the same coefficients, an eleventh begins with them, and with their uncertainty."""
    rng = np.random.default_rng(3)
    theta, arms = np.array([0.2, 0.5, -0.4]), []
    for _ in range(10):
        X = np.column_stack([np.ones(400), rng.normal(size=(400, 2))])
        arms.append(seen(X, (X @ (theta + rng.normal(size=3) * 0.02) + rng.normal(size=400) * 0.1)[:, None]))
    ridge = Ridge(ONES, ONES, lam=None, low=-2, high=2, pooled=True)
    arms.append(Real(np.zeros((3, 3)), np.zeros((1, 3)), np.zeros((1, 1)), 0.0))
    new = estimates(arms, ridge)[-1]
    np.testing.assert_allclose(new.theta, theta, atol=0.03)
    apart = estimates(arms, replace(ridge, pooled=False))[-1]
    assert apart.theta[1:].tolist() == [0, 0]
    assert width(np.array([1.0, 1, 1]), new.G) < width(np.array([1.0, 1, 1]), apart.G)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_evidence_is_that_of_a_normal_model(seed: int, K: int, d: int, pooled: bool) -> None:
    """Differences between lambdas are those of the marginal likelihood of normal rewards, by n x n covariances.

    Rewards given the noise s^2 are normal about mu with covariance s^2 (I + X Lambda^-1 X') of an arm's own, and where
    arms are pooled s^2 X D0^-1 X' between all; s^2 is put at the value that the criterion has it at, so that what is
    compared is ln det and the quadratic form.
    """
    ridge, parts = Ridge(ONES, ONES, lam=None, pooled=pooled), [played(seed + a, 6 + a, d) for a in range(K)]
    arms = [seen(X, r) for X, r in parts]
    mu, v, N = pooled_mean(arms, ONES), feature_scale(arms), sum(arm.n for arm in arms)
    q, b, n = np.array([(arm.R[0, 0], arm.B[0, 0], arm.n) for arm in arms]).T
    floor, told = 0.005 * prior_noise(q, b, n, ridge.s0) ** 2, []
    Z, _, r = joined(parts)
    for lam in ridge.grid:
        between = 1 / penalty(d, 1.0, v) if pooled else np.zeros(d)
        C = np.eye(len(Z)) + (Z * np.concatenate([np.tile(1 / penalty(d, lam, v, 1.0), K), between])) @ Z.T
        volume, Q = -np.linalg.slogdet(C)[1], float((r - mu) @ np.linalg.solve(C, r - mu))
        told.append(volume / 2 - (N + 5) / 2 * math.log((Q + floor) / (N + 5)))
    chosen = best_lambda(arms, ridge)
    assert told[ridge.grid.index(chosen)] == pytest.approx(max(told), abs=1e-9)
    one = estimates(arms, ridge)[0]
    x = parts[0][0][0]
    assert upper(one, x, "auto") == pytest.approx(
        wilson(float(x @ one.theta), (one.z * width(x, one.G)) ** 2, one.low, one.span)
    )
