"""The fast path against the readable one, closed forms and brute force, above all where rounding is not nothing."""

import tracemalloc
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.policies import LinUCB
from bandit.core.ridge import estimates as ridge_estimates
from bandit.core.ridge import scoring
from bandit.core.ridge.estimates import MANY, NOTHING, TIE, WORTHWHILE
from bandit.core.ridge.linear import Estimate, Ridge, estimates, feature_scale, in_common, real, upper, width
from bandit.core.ridge.scoring import SMALL, Scorer
from bandit.core.sums import ONE, Events, Sums, increments

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([0, SMALL])  # elements up to which P is float64: so it is float32, or float64


def contexts(rng: np.random.Generator, n: int, d: int, *, one_hot: bool = False) -> np.ndarray:
    """Contexts on the grid: normal numbers, or two categories of one-hot columns."""
    x = np.zeros((n, d))
    if one_hot and d > 2:
        x[np.arange(n), rng.integers(1, 1 + d // 2, n)] = 1
        x[np.arange(n), rng.integers(1 + d // 2, d, n)] = 1
    else:
        x = rng.normal(size=(n, d))
    x[:, 0] = 1
    return np.clip(np.rint(x * ONE), -32768, 32767).astype(np.int16)


def experience(seed: int, n: int, K: int, d: int, m: int = 1, *, one_hot: bool = False) -> Events:
    """n impressions, evenly over the arms, a third of them with a reward of a million units."""
    rng = np.random.default_rng(seed)
    x, zero = contexts(rng, n, d, one_hot=one_hot), np.zeros((n, m), np.int64)
    new = (rng.random((n, m)) < 0.1 + 0.4 * (x[:, -1:] > 0)) * 1_000_000
    return Events(rng.integers(0, K, n), x, np.ones(n, np.int64), zero, new)


def learned(events: Events, K: int) -> Sums:
    """The sums of K arms."""
    sums = Sums.zeros(K, events.new.shape[1], events.x.shape[1])
    sums.add(*increments(events))
    return sums


def ridge(m: int = 1, **settings_: float) -> Ridge:
    """Rewards in millionths, every kind weighing 1."""
    return Ridge(np.ones(m), np.full(m, 1e-6), **settings_)


def scorer_of(sums: Sums, how: Ridge, v: float | None = None, small: int = SMALL) -> Scorer:
    """The scoring data of these sums, all computed at once, with P of up to so many elements in float64."""
    K, m, d = sums.shape
    arms = [real(sums, a, how.units) for a in range(K)]
    with patch.object(scoring, "SMALL", small):
        scorer = Scorer(K, m, d, how)
    scorer.v = feature_scale(arms) if v is None else v
    scorer.common = in_common(arms, how, 1.0) if how.pooled else None
    scorer.install(np.arange(K), scorer.compute(sums, np.arange(K), True), True)
    scorer.derived = scorer.derive()
    return scorer


def plain(sums: Sums, how: Ridge) -> list[Estimate]:
    """The same by `bandit.core.ridge.linear`."""
    return estimates([real(sums, a, how.units) for a in range(len(sums.n))], how, lam=1.0)


def everyone(K: int) -> np.ndarray:
    """The mask of K eligible arms."""
    return np.ones((1, K), bool)


@given(
    SEEDS, st.integers(0, 300), st.integers(1, 6), st.integers(1, 12), st.integers(1, 3), st.booleans(), SIZES,
    st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_fast_path_is_the_readable_one(
    seed: int, n: int, K: int, d: int, m: int, one_hot: bool, small: int, pooled: bool
) -> None:
    """theta, G, sigma, mean, width and each kind's estimate are those of `bandit.core.ridge.linear`.

    Both are float64 with lambda 1, so the condition is below 1e5: 1e-9 leaves four digits. sigma's Q is a difference
    of sums that may cancel to a few parts in a thousand.
    """
    sums, how = learned(experience(seed, n, K, d, m, one_hot=one_hot), K), ridge(m, pooled=pooled)
    scorer, oracle = scorer_of(sums, how, small=small), plain(sums, how)
    X = contexts(np.random.default_rng(seed + 1), 4, d, one_hot=one_hot)
    found = scorer.estimate(X, everyone(K))
    for a, expected in enumerate(oracle):
        np.testing.assert_allclose(scorer.derived.theta[a], expected.theta, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            scorer.rows.factors.W[a].T @ scorer.rows.factors.W[a], expected.G, rtol=1e-9, atol=1e-12
        )
        assert scorer.derived.sigma[a] == pytest.approx(expected.sigma, rel=1e-9)
        assert scorer.derived.pool == pytest.approx(expected.pool, rel=1e-9)
        assert scorer.derived.z2[a] == pytest.approx(expected.z**2, rel=1e-7)
        assert (scorer.derived.low, scorer.derived.span) == pytest.approx((expected.low, expected.span), rel=1e-9)
        np.testing.assert_allclose(found.mean[:, a], X / ONE @ expected.theta, rtol=1e-9, atol=1e-10)
        exact = [width(x / ONE, expected.G) for x in X]
        np.testing.assert_allclose(found.width(np.arange(4), np.full(4, a)), exact, rtol=1e-9)
        for k in range(m):
            only = Ridge(np.eye(m)[k], how.units, pooled=pooled)
            theta = plain(sums, only)[a].theta
            kinds = scorer.kinds(X / ONE, np.full(4, a))[:, k]
            np.testing.assert_allclose(kinds, X / ONE @ theta, rtol=1e-9, atol=1e-10)


def brute_force(sums: Sums, how: Ridge, X: np.ndarray, alpha: float | str) -> tuple[np.ndarray, np.ndarray]:
    """(scores, the least score that ties with the best) of each context, arm by arm in float64."""
    arms = plain(sums, how)
    scores = np.array([[upper(e, x, alpha) for e in arms] for x in X / ONE])
    best = scores.max(axis=1)
    return scores, best - TIE * (arms[0].pool + np.abs(best))


@given(
    SEEDS,
    st.integers(0, 400),
    st.integers(1, 12),
    st.integers(1, 24),
    st.sampled_from([0.0, 1.0, 5.0, "auto"]),
    st.booleans(),
    SIZES,
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=160, deadline=None)
def test_the_best_arms_are_those_of_brute_force(
    seed: int, n: int, K: int, d: int, alpha: float | str, one_hot: bool, small: int, pooled: bool, many: bool
) -> None:
    """Which arms are best or tied is what float64 says arm by arm, except within 1e-9 of the tie's own limit; also
    where, as among many, only those are scored that can be the best.
    """
    sums, how = learned(experience(seed, n, K, d, one_hot=one_hot), K), ridge(lam=0.1, pooled=pooled)
    X = contexts(np.random.default_rng(seed + 1), 6, d, one_hot=one_hot)
    scores, limit = brute_force(sums, how, X, alpha)
    limits = {"MANY": 1, "PART": 1, "MOSTLY": 1e9} if many else {"MANY": MANY}
    with patch.multiple(ridge_estimates, **limits):
        best = scorer_of(sums, how, small=small).estimate(X, everyone(K)).best(alpha)
    clear = np.abs(scores - limit[:, None]) > 1e-9
    assert (best == (scores >= limit[:, None]))[clear].all()
    assert best.any(axis=1).all()


@pytest.mark.parametrize("n", [0, 50, 3000, 30_000])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 5.0, "auto"])
def test_among_many_arms_the_best_are_found_without_reading_all(n: int, one_hot: bool, alpha: float | str) -> None:
    """700 arms at d 32, unseen, hardly seen and well known: contexts, alone and together, have the best arms of brute
    force.
    """
    sums, how = learned(experience(n, n, 700, 32, one_hot=one_hot), 700), ridge()
    scorer, x = scorer_of(sums, how), contexts(np.random.default_rng(n), 24, 32, one_hot=one_hot)
    eligible = np.random.default_rng(n + 1).random((1, 700)) < 0.9
    assert scorer.rows.factors.P.size > WORTHWHILE
    scores, _ = brute_force(sums, how, x, alpha)
    scores[:, ~eligible[0]] = -np.inf
    limit = scores.max(axis=1) - TIE * (plain(sums, how)[0].pool + np.abs(scores.max(axis=1)))
    together = scorer.estimate(x, eligible).best(alpha)
    for i, context in enumerate(x):
        clear = np.abs(scores[i] - limit[i]) > 1e-9
        for best in (scorer.estimate(context[None], eligible).best(alpha)[0], together[i]):
            assert (best == (scores[i] >= limit[i]))[clear].all()


@given(SEEDS, st.integers(0, 200), st.integers(1, 10), st.integers(1, 10), SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_the_leading_arms_have_their_exact_scores(
    seed: int, n: int, K: int, d: int, small: int, data: st.DataObject
) -> None:
    """Every arm that could be among the k best has its float64 score, every other that or -inf."""
    k = data.draw(st.integers(1, K))
    sums, how = learned(experience(seed, n, K, d), K), ridge()
    X = contexts(np.random.default_rng(seed + 1), 3, d)
    scores, _ = brute_force(sums, how, X, 1.0)
    leading = scorer_of(sums, how, small=small).estimate(X, everyone(K)).leading(1.0, k)
    kept = leading > -np.inf
    np.testing.assert_allclose(leading[kept], scores[kept], rtol=1e-9, atol=1e-10)  # two float64 computations
    kth = np.sort(scores, axis=1)[:, -k, None]
    assert kept[scores >= kth].all()


@given(SEEDS, st.integers(0, 300), st.integers(2, 9), st.integers(1, 16), st.floats(-1, 1))
@settings(max_examples=60, deadline=None)
def test_float32_may_be_wrong_within_its_bound_and_nothing_changes(
    seed: int, n: int, K: int, d: int, lean: float
) -> None:
    """Widths moved anywhere within the stated error give the same best arms: float32 only finds the contenders."""
    rng = np.random.default_rng(seed)
    x = contexts(rng, 5, d)
    scorer = scorer_of(learned(experience(seed, n, K, d), K), ridge(), small=0)
    clean, moved = (scorer.estimate(x, everyone(K)) for _ in range(2))
    exact = clean.width(np.repeat(np.arange(5), K), np.tile(np.arange(K), 5)).reshape(5, K) ** 2
    moved.width2 = exact + moved.error * np.clip(lean + rng.uniform(-1, 1, (5, K)), -1, 1) * 0.999
    assert (moved.best(1.0) == clean.best(1.0)).all()
    assert ((moved.leading(1.0, 2) > -np.inf) >= clean.best(1.0)).all()


@pytest.mark.parametrize("n", [10_000, 100_000])
@pytest.mark.parametrize("first", [0, 3, 6])
def test_widths_that_cancel_in_float32_decide_as_in_float64(n: int, first: int) -> None:
    """d 32, lambda .001, equal contexts: float32 has width^2 off by more than half, or negative; the decision is right.

    Seven arms saw the same context n, 1.02 n, ... times and no reward, so the width decides, by the closed form
    w^2 = q / (1 + n q), q = x' Lambda^-1 x: the arm seen least often wins. Each wins from its own place.
    """
    x = contexts(np.random.default_rng(5), 1, 32)
    counts = np.array([n + n // 50 * ((i - first) % 7) for i in range(7)])
    sums = Sums.zeros(7, 1, 32)
    sums.A[:] = counts[:, None, None] * np.outer(x[0], x[0].astype(np.int64))
    sums.n[:] = counts
    scorer = scorer_of(sums, ridge(lam=0.001, noise=1.0), small=0)
    found = scorer.estimate(x, everyone(7))
    X = x[0] / ONE
    q = X[0] ** 2 / 0.001 + X[1:] @ X[1:] / (0.001 * scorer.v)
    exact = q / (1 + counts * q)
    assert (np.abs(found.width2[0] - exact) > 0.5 * exact).any()
    # condition n |x|^2 / lambda = 5e9 of the float64 factor: six digits are left
    np.testing.assert_allclose(found.width(np.zeros(7, np.int64), np.arange(7)) ** 2, exact, rtol=1e-5)
    assert np.flatnonzero(found.best(1.0)[0]).tolist() == [first]
    assert (found.spread >= 0).all()
    double = scorer_of(sums, ridge(lam=0.001, noise=1.0)).estimate(x, everyone(7))
    assert np.flatnonzero(double.best(1.0)[0]).tolist() == [first]


def adversarial(d: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(A on the grid, a context that matters to it): sums that are hard on float32, each up to 10^6 times over."""
    rng = np.random.default_rng(d)
    ones, signs = np.full(d, ONE), rng.choice([-ONE, ONE], d)
    dense, sparse = (contexts(rng, 4 * d, d, one_hot=hot).astype(np.int64) for hot in (False, True))
    scales = np.rint(dense * 10.0 ** rng.uniform(-4, 0, d)).astype(np.int64)
    for n in (1, 10_000, 1_000_000):
        for v in (ones, signs, dense[0], np.full(d, -32768)):
            yield n * np.outer(v, v), v  # equal contexts
        for v in (ones, signs):  # every direction well known but one, which is dense
            yield n * (d * ONE**2 * np.eye(d, dtype=np.int64) - np.outer(v, v)), v
        for X in (dense, dense[: (d + 1) // 2], sparse, scales):
            yield n * X.T @ X, X[0]


def asked(rng: np.random.Generator, v: np.ndarray) -> np.ndarray:
    """Contexts to try on sums around v: v, others, and what is left of others without v."""
    d = len(v)
    half = np.where(np.arange(d) < d // 2, ONE, -ONE)
    others = [rng.normal(size=d) * ONE, rng.choice([-ONE, ONE], d), half, np.full(d, ONE), np.eye(d)[0] * ONE]
    rest = [w - v * (w @ v) / (v @ v) for w in others[:3]]
    return np.clip(np.rint([v, *others, *rest, 32767 * np.sign(v)]), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("lam", [1e-9, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("d", [1, 2, 7, 32, 64, 100])
@pytest.mark.parametrize("small", [0, 2**30])
def test_the_error_is_within_its_bound(d: int, lam: float, small: int) -> None:
    """|width^2 by P - width^2 by the factor| <= error, alone (a GEMV) and together (a GEMM), on hostile sums.

    And the width itself is off by at most doubt |x|. Where the known directions leave one dense direction open, errors
    in float32 reach a quarter of the bound; the largest diagonal of G times |x|^2, in ulps, falls short of them
    1,400-fold.
    """
    designs = list(adversarial(d))
    sums = Sums.zeros(len(designs), 1, d)
    for arm, (A, _) in enumerate(designs):
        sums.A[arm] = A
    scorer, K = scorer_of(sums, ridge(lam=lam), 1.0, small), len(designs)
    assert scorer.rows.factors.P.dtype == (np.float64 if small else np.float32)
    for _, v in designs[:: max(1, K // 8)]:
        x = asked(np.random.default_rng(1), v)
        context, arm = (part.ravel() for part in np.indices((len(x), K)))
        exact = scorer.estimate(x, everyone(K)).width(context, arm).reshape(len(x), K) ** 2
        together = scorer.estimate(x, everyone(K))
        ulps = 4 * 2.0**-53 * exact  # an arm that has seen nothing has no error, give or take these
        assert (np.abs(together.width2 - exact) <= together.error + ulps).all()
        off = np.abs(np.sqrt(np.maximum(together.width2, 0), dtype=np.float64) - np.sqrt(exact))
        assert (
            off <= np.sqrt(ulps * 2.0**-53) + scorer.rows.factors.doubt * np.linalg.norm(together.X, axis=1)[:, None]
        ).all()
        alone = [scorer.estimate(x[[i]], everyone(K)) for i in range(len(x))]
        assert (
            np.abs(np.vstack([e.width2 for e in alone]) - exact) <= np.vstack([e.error for e in alone]) + ulps
        ).all()


@pytest.mark.parametrize(("n", "one_hot", "most"), [(0, False, 1e-5), (2000, False, 2e-3), (2000, True, 5e-5)])
def test_the_bound_is_narrow_where_nothing_is_hostile(n: int, one_hot: bool, most: float) -> None:
    """At d 64 the stated error is a small part of width^2, so few arms are scored twice.

    Only products that are not zero count, so it is narrowest cold (G is diagonal) and one-hot (most of x is 0).
    """
    scorer = scorer_of(learned(experience(1, n, 4, 64, one_hot=one_hot), 4), ridge())
    found = scorer.estimate(contexts(np.random.default_rng(2), 50, 64, one_hot=one_hot), everyone(4))
    assert (found.error / found.width2).max() < most


@pytest.mark.parametrize("lam", [1e-9, 1.0, 1e12])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("times", [1, 10**9])
@pytest.mark.parametrize("small", [0, SMALL])
def test_no_extreme_makes_a_nan(lam: float, alpha: float, times: int, small: int) -> None:
    """Clipped features, a thousand million impressions, every allowed lambda and alpha: proper probabilities."""
    rng = np.random.default_rng(3)
    d, K = 9, 5
    x = rng.choice([-32768, 32767, 0, 1], (6, d)).astype(np.int16)
    x[:, 0] = ONE
    sums = Sums.zeros(K, 1, d)
    sums.A[1:] = times * np.einsum("nd,ne->de", x[:3].astype(np.int64), x[:3].astype(np.int64))
    sums.n[1:], sums.B[2] = 3 * times, times * 1_000_000 * x[:3].sum(axis=0, dtype=np.int64) % 2**60
    sums.R[2, 0, 0] = 3 * times, 0
    eligible = np.array([[True, True, True, True, False]])
    found = scorer_of(sums, ridge(lam=lam), small=small).estimate(x, eligible)
    p = LinUCB(alpha=alpha, explore=0.02).probabilities(found)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert (p[:, :4] >= 0.02 / 4).all()
    assert not p[:, 4].any()
    assert np.isfinite(found.spread).all()


@pytest.mark.parametrize("d", [2, 9, 40])
def test_a_factor_stands_where_rounding_has_lost_lambda(d: int) -> None:
    """A of 10^11 in one direction, lambda 10^-9: no failure; that direction is known to 1e-10, the rest unknown."""
    v = np.full(d, ONE)
    sums = Sums.zeros(2, 1, d)
    sums.A[0] = 10**11 * np.outer(v, v)
    sums.n[0] = 10**11
    found = scorer_of(sums, ridge(lam=1e-9)).estimate(np.array([v, [ONE, -ONE] + [0] * (d - 2)], np.int16), everyone(2))
    known, unknown = found.width(np.array([0, 1]), np.array([0, 0])) ** 2
    assert 0 < known < 1e-10
    assert unknown > 1.0
    assert (found.best(1.0) == [[False, True]]).all()


@pytest.mark.parametrize("d", [3, 32, 61])
@pytest.mark.parametrize("n", [1, 5, 32])
@pytest.mark.parametrize("small", [0, SMALL])
def test_identical_arms_tie(d: int, n: int, small: int) -> None:
    """Arms that saw the same events tie in every context, whatever rounding makes of them, and share evenly."""
    K = 13
    once = experience(d, 200, 1, d)
    events = [Events(once.arm + a, *(getattr(once, name) for name in ("x", "shown", "old", "new"))) for a in range(K)]
    sums = Sums.zeros(K, 1, d)
    for each in events:
        sums.add(*increments(each))
    scorer = scorer_of(sums, ridge(lam=1e-3), small=small)
    found = scorer.estimate(contexts(np.random.default_rng(n), n, d), everyone(K))
    assert found.best(1.0).all()
    np.testing.assert_allclose(LinUCB(explore=0.1).probabilities(found), 1 / K, rtol=1e-15)


@pytest.mark.parametrize("top", [1e-5, 1.0, 1e6])
def test_a_tie_is_the_same_in_any_unit_of_reward(top: float) -> None:
    """Rewards up to 1e-5, 1 or 1e6 with as many units: the same arms are best, and not all of them."""
    sums = learned(experience(4, 500, 6, 5), 6)
    X = contexts(np.random.default_rng(4), 40, 5)
    best, expected = (
        scorer_of(sums, Ridge(np.ones(1), np.array([size * 1e-6]), high=size)).estimate(X, everyone(6)).best(1.0)
        for size in (top, 1.0)
    )
    assert (best == expected).all()
    assert (best.sum(axis=1) == 1).all()


def test_ties_by_hand() -> None:
    """Context-free, no noise: scores mu + (b - mu n) / (n + 1). At .5, 4e-6 apart is a tie and 3e-5 apart is none.

    Three arms of 10^6 impressions with means .5, .5 + 4e-6 and .5 + 3e-5 and a fourth that is not eligible.
    """
    sums = Sums.zeros(4, 1, 1)
    sums.A[:] = 10**6 * ONE**2
    sums.n[:] = 10**6
    sums.B[:, 0, 0] = np.array([500_000, 500_004, 500_030, 900_000]) * 10**6 * ONE
    scorer, x = scorer_of(sums, ridge(noise=0.0)), np.array([[ONE]], np.int16)
    found = scorer.estimate(x, np.array([[True, True, True, False]]))
    assert found.best().tolist() == [[False, False, True, False]]
    two = np.array([[True, True, False, False]])
    assert scorer.estimate(x, two).best().tolist() == two.tolist()


def test_a_loose_range_makes_no_tie_of_what_rewards_can_tell_apart() -> None:
    """Rewards of 100 and 105, give or take 9, declared up to a million: the better one is best and not tied."""
    rng, n = np.random.default_rng(0), 4000
    arm = rng.integers(0, 2, n)
    new = np.rint((100 + 5 * arm + 9 * rng.normal(size=n)) / 1.0).astype(np.int64)[:, None]
    x = np.full((n, 1), ONE, np.int16)
    sums = learned(Events(arm, x, np.ones(n, np.int64), np.zeros((n, 1), np.int64), new), 2)
    found = scorer_of(sums, Ridge(np.ones(1), np.array([1.0]), high=1e6)).estimate(x[:1], everyone(2))
    assert found.best(0.0).tolist() == [[False, True]]


def test_an_arm_that_is_not_eligible_is_never_best() -> None:
    """Each row has its own mask; the best are among it even where every score is negative."""
    events = experience(6, 300, 5, 4)
    sums = learned(Events(events.arm, events.x, events.shown, events.old, -events.new), 5)
    rng = np.random.default_rng(6)
    eligible = rng.random((50, 5)) < 0.4
    eligible[np.arange(50), rng.integers(0, 5, 50)] = True
    found = scorer_of(sums, ridge()).estimate(contexts(rng, 50, 4), eligible)
    assert not (found.best(1.0) & ~eligible).any()
    assert found.best(1.0).any(axis=1).all()
    assert (np.isneginf(found.leading(1.0, 1)) >= ~eligible).all()


@given(SEEDS, st.integers(1, 100))
@settings(max_examples=30, deadline=None)
def test_feedback_needs_no_factor(seed: int, n: int) -> None:
    """After rewards alone the cheap refresh leaves bit for bit what computing everything anew leaves."""
    events = experience(seed, n, 3, 5, m=2)
    sums = learned(events, 3)
    scorer = scorer_of(sums, ridge(2))
    new = np.random.default_rng(seed).integers(0, 2, (n, 2)) * 1_000_000
    arms, increment = increments(Events(events.arm, events.x, 0 * events.shown, events.new, new))
    sums.add(arms, increment)
    scorer.install(arms, scorer.compute(sums, arms, False), False)
    scorer.derived = scorer.derive()
    anew = scorer_of(sums, ridge(2))
    for found, expected in zip((*scorer.rows, scorer.derived), (*anew.rows, anew.derived), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_arm_without_events_is_scored_anew_when_mu_moves() -> None:
    """What others earned moves the estimate of an arm that nobody saw: it is mu, 0 before and 150 / 301 after."""
    scorer = Scorer(2, 1, 3, ridge())
    x = contexts(np.random.default_rng(1), 1, 3)
    assert scorer.estimate(x, everyone(2)).mean[0, 1] == 0.0
    events = experience(2, 300, 1, 3)
    events.new[:] = np.arange(300)[:, None] % 2 * 1_000_000
    sums = learned(events, 2)
    scorer.install(np.array([0]), scorer.compute(sums, np.array([0]), True), True)
    scorer.derived = scorer.derive()
    assert scorer.estimate(x, everyone(2)).mean[0, 1] == pytest.approx(150 / 301, rel=1e-12)


def test_a_cold_arm_is_read_as_an_arm_of_empty_sums() -> None:
    """Arms that were never computed have the rows that computing them would give."""
    scorer = Scorer(3, 2, 6, ridge(2, lam=0.3))
    rows = scorer.compute(Sums.zeros(3, 2, 6), np.arange(3), True)
    for cold, computed in zip(sum(scorer.rows, ()), sum(rows, ()), strict=True):
        np.testing.assert_allclose(cold, computed, rtol=1e-6)  # P and reach are float32


def test_growing_keeps_what_was_known() -> None:
    """With more arms and kinds the old arms' estimates are the same; the new arm's is mu, the new kind's is 0."""
    sums = learned(experience(8, 200, 3, 4), 3)
    scorer = scorer_of(sums, ridge())
    x = contexts(np.random.default_rng(8), 5, 4)
    before = scorer.estimate(x, everyone(3))
    scorer = scorer.grown(4, 2, ridge(2))
    after = scorer.estimate(x, everyone(4))
    np.testing.assert_allclose(after.mean[:, :3], before.mean, rtol=1e-12)
    assert (after.width2[:, :3] == before.width2).all()
    np.testing.assert_allclose(after.mean[:, 3], scorer.derived.mu, rtol=1e-12)
    assert not scorer.kinds(x / ONE, np.full(5, 1))[:, 1].any()


def test_an_inverse_that_changes_its_type_is_made_anew() -> None:
    """Float64 while few arms are scored, float32 once there are more, and back: as computed from the sums each time."""
    sums = learned(experience(9, 300, 5, 6), 5)
    with patch.object(scoring, "SMALL", 5 * 21):
        scorer = scorer_of(sums, ridge(), 1.0, 5 * 21)
        more = scorer.grown(6, 1, ridge())
        again = more.grown(6, 1, ridge(), np.arange(5))
    anew = scorer_of(sums, ridge(), 1.0, 0)
    assert more.rows.factors.P.dtype == np.float32
    assert again.rows.factors.P.dtype == np.float64
    for found, double in zip(again.rows.factors, scorer.rows.factors, strict=True):
        assert (found == double).all()
    for found, single in zip(more.rows.factors, anew.rows.factors, strict=True):
        assert (found[:5] == single).all()


def sizes_up(seed: int, K: int, d: int) -> Sums:
    """Sums of arms that saw from nothing up to 10^8 contexts, many of them alike or with columns that are copies."""
    rng = np.random.default_rng(seed)
    sums = Sums.zeros(K, 1, d)
    for arm in range(K):
        x = contexts(rng, int(rng.integers(1, 2 * d + 2)), d, one_hot=bool(rng.integers(2))).astype(np.int64)
        if rng.integers(2):
            x[:, 1:] = x[:, [1 + int(rng.integers(d - 1))]]  # collinear
        times = int(10 ** rng.uniform(0, 8)) * int(rng.integers(4) > 0)
        sums.A[arm], sums.n[arm] = times * x.T @ x, times * len(x)
        sums.B[arm, 0] = times * (rng.integers(0, 2, len(x)) @ x) * 10**3
        sums.R[arm, 0, 0, 1] = times * len(x) * 10**6 // 2
    return sums


@given(SEEDS, st.integers(2, 8), st.integers(2, 40), st.sampled_from([1e-9, 1e-4, 1.0]), st.floats(-2, 6), SIZES)
@settings(max_examples=150, deadline=None)
def test_decisions_are_those_of_exact_widths_however_hostile(
    seed: int, K: int, d: int, lam: float, power: float, small: int
) -> None:
    """Tiny lambda, huge alpha, large counts, collinear columns: the arms that tie are those by |W x|.

    A score within a thousandth of a tie of its limit may fall on either side, no other.
    """
    alpha, sums = 10.0**power, sizes_up(seed, K, d)
    scorer = scorer_of(sums, ridge(lam=lam), small=small)
    x = np.concatenate([contexts(np.random.default_rng(seed), 6, d), np.full((1, d), ONE, np.int16)])
    found = scorer.estimate(x, everyone(K))
    exact = found.width(np.repeat(np.arange(7), K), np.tile(np.arange(K), 7)).reshape(7, K)
    scores = found.mean + alpha * scorer.derived.sigma * exact
    limit = found.threshold(scores.max(axis=1))[:, None]
    # 1e-12: what float64 leaves of large scores
    open_ = np.abs(scores - limit) <= 2.1 * NOTHING * TIE * scorer.derived.pool + 1e-12 * np.abs(scores)
    for best in (found.best(alpha), np.vstack([scorer.estimate(x[[i]], everyone(K)).best(alpha) for i in range(7)])):
        assert ((best == (scores >= limit)) | open_).all()
        assert best.any(axis=1).all()


def test_doubt_is_shed_only_where_it_is_nothing() -> None:
    """Few events: widths decide as they are. What 10^11 events left unknown: the bounds do."""
    usual = scorer_of(learned(experience(1, 3000, 20, 12), 20), ridge())
    x = contexts(np.random.default_rng(2), 3, 12)
    assert usual.estimate(x, everyone(20)).clear(1.0)
    hostile = Sums.zeros(2, 1, 3)
    hostile.A[:] = 10**11 * np.outer([ONE, ONE, 0], [ONE, ONE, 0])
    hostile.n[:] = 10**11
    assert not scorer_of(hostile, ridge(lam=1e-6)).estimate(x[:, :3], everyone(2)).clear(1.0)


@pytest.mark.parametrize("small", [0, SMALL])
def test_of_arms_that_have_seen_nothing_no_inverse_is_read(small: int) -> None:
    """With P and W of unseen arms in ruins, decisions are those of brute force, all arms being unseen or most."""
    rng = np.random.default_rng(3)
    for seen in (0, 3):
        events = experience(7, 400, 3, 10)
        sums = learned(events if seen else events[:0], 40)
        scorer, x = scorer_of(sums, ridge(), small=small), contexts(rng, 8, 10)
        scores, limit = brute_force(sums, ridge(), x, 1.0)
        if not (seen and scorer.estimate(x, everyone(40)).clear(1.0)):
            scorer.rows.factors.P[seen:] = scorer.rows.factors.W[seen:] = np.nan
        found = [scorer.estimate(x, everyone(40)), *(scorer.estimate(x[[i]], everyone(40)) for i in range(8))]
        assert (found[0].best(1.0) == (scores >= limit[:, None])).all()
        assert (np.vstack([each.best(1.0) for each in found[1:]]) == found[0].best(1.0)).all()
        leading = found[0].leading(1.0, 5)
        np.testing.assert_allclose(leading[leading > -np.inf], scores[leading > -np.inf], rtol=1e-9)


def test_installed_rows_decide_before_anything_is_derived_from_them() -> None:
    """Between the two an arm is not taken for one that has seen nothing any more."""
    sums = learned(experience(2, 300, 1, 3), 2)
    scorer, x = Scorer(2, 1, 3, ridge()), contexts(np.random.default_rng(1), 4, 3)
    scorer.v = feature_scale([real(sums, 0, np.full(1, 1e-6))])
    arms = np.array([0, 1])
    scorer.install(arms, scorer.compute(sums, arms, True), True)
    found = scorer.estimate(x, everyone(2))
    exact = found.width(np.repeat(np.arange(4), 2), np.tile(arms, 4)).reshape(4, 2)
    np.testing.assert_allclose(np.sqrt(found.width2), exact, rtol=1e-9)


def test_many_contenders_are_scored_in_pieces() -> None:
    """200 identical arms at d 128, 40 contexts: their factors are 1 GB copied at once, and 17 MB in pieces."""
    sums = Sums.zeros(200, 1, 128)
    sums.A[:] = ONE**2 * np.eye(128, dtype=np.int64)
    scorer = scorer_of(sums, ridge(), 1.0)
    found = scorer.estimate(contexts(np.random.default_rng(1), 40, 128), everyone(200))
    tracemalloc.start()
    leading = found.leading(1.0, 200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6
    np.testing.assert_allclose(leading[:, 0], 0.5 * np.sqrt((found.X**2).sum(axis=1) / 2), rtol=1e-12)
    assert (leading == leading[:, :1]).all()
