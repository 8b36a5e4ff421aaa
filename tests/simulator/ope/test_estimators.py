"""Estimators against values by hand, exact enumeration of all logs, and each other's limits."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import Array, World

from simulator.ope import estimators as of
from simulator.ope.estimators import Estimate

INF = float("inf")
# A problem small enough to list every log of one row: two contexts, evenly likely, three arms, 0-1 rewards.
MU = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
PI = np.array([[0.2, 0.2, 0.6], [0.7, 0.0, 0.3]])
RATE = np.array([[0.1, 0.5, 0.9], [0.6, 0.3, 0.2]])
Q = np.array([[0.3, 0.4, 0.2], [0.5, 0.9, 0.1]])  # any model, wrong on purpose
VALUE = float((PI * RATE).sum(axis=1).mean())

Rows = tuple[Array, Array, Array, Array, Array]
Of = Callable[..., Estimate]
PLAIN: dict[str, Of] = {
    "ips": lambda r, p, t, q, v, s=None: of.ips(r, p, t, s),
    "clipped": lambda r, p, t, q, v, s=None: of.clipped(r, p, t, 1.5, s),
    "snips": lambda r, p, t, q, v, s=None: of.snips(r, p, t, s),
    "dm": lambda r, p, t, q, v, s=None: of.dm(v, s),
    "dr": of.dr,
    "sndr": of.sndr,
    "switch-dr": lambda r, p, t, q, v, s=None: of.switch_dr(r, p, t, q, v, 1.5, s),
    "dros": lambda r, p, t, q, v, s=None: of.dros(r, p, t, q, v, 2.0, s),
}


def one_row_logs() -> list[tuple[float, Rows]]:
    """Every log of one row with its probability."""
    logs = []
    for x, a, r in product(range(2), range(3), range(2)):
        chance = 0.5 * MU[x, a] * (RATE[x, a] if r else 1 - RATE[x, a])
        v = float(PI[x] @ Q[x])
        logs.append((chance, tuple(np.array([number]) for number in (float(r), MU[x, a], PI[x, a], Q[x, a], v))))
    return logs


def expectation(estimator: Of) -> float:
    """Exact expected value over all logs of one row (which is that of any number of rows, for means)."""
    return sum(chance * estimator(*rows).value for chance, rows in one_row_logs())


def sample(n: int = 400, seed: int = 3) -> Rows:
    """Rows of a larger problem."""
    world, rng = World(seed), np.random.default_rng(seed)
    log, rows = world.log(rng, n, world.policy(0.3))
    target = world.policy(1.0)[rows]
    q = np.clip(world.rate[rows] + rng.normal(0, 0.1, (n, world.K)), 0, 1)
    i = np.arange(n)
    return log.reward, log.propensity, target[i, log.arm], q[i, log.arm], of.expected(target, q)


def test_ips_snips_and_clipped_of_three_rows_are_those_worked_out_by_hand() -> None:
    """Weights 2, 1/2 and 20 on rewards 1, 0 and 1: IPS 22/3, clipped at 10 12/3, SNIPS 22/22.5."""
    reward, propensity, target = np.array([1.0, 0, 1]), np.array([0.25, 0.5, 0.05]), np.array([0.5, 0.25, 1.0])
    assert of.ips(reward, propensity, target).value == pytest.approx(22 / 3, rel=1e-14)
    assert of.clipped(reward, propensity, target).value == pytest.approx(4, rel=1e-14)
    assert of.snips(reward, propensity, target).value == pytest.approx(22 / 22.5, rel=1e-14)


def test_the_modelled_estimators_of_two_rows_are_those_worked_out_by_hand() -> None:
    """Weights 2 and 8, r - q = .6 and -.2, v = .5 and .3; tau 4 keeps the first, lambda 4 shrinks to 1 and 8/17."""
    rows = (
        np.array([1.0, 0.0]),
        np.array([0.4, 0.1]),
        np.array([0.8, 0.8]),
        np.array([0.4, 0.2]),
        np.array([0.5, 0.3]),
    )
    assert of.dm(rows[4]).value == pytest.approx(0.4)
    assert of.dr(*rows).value == pytest.approx((0.5 + 1.2 + 0.3 - 1.6) / 2)
    assert of.sndr(*rows).value == pytest.approx(0.4 + (1.2 - 1.6) / 10)
    assert of.switch_dr(*rows, 4.0).value == pytest.approx((0.5 + 1.2 + 0.3) / 2)
    assert of.dros(*rows, 4.0).value == pytest.approx((0.5 + 0.6 + 0.3 - 0.2 * 8 / 17) / 2)


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_ips_and_dr_are_unbiased_whatever_the_model(name: str) -> None:
    """Over every possible log, exactly."""
    assert expectation(PLAIN[name]) == pytest.approx(VALUE, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("clipped", lambda w: np.minimum(w, 1.5)),
        ("switch-dr", lambda w: np.where(w <= 1.5, w, 0)),
        ("dros", lambda w: 2 * w / (w * w + 2)),
    ],
)
def test_the_bias_of_cut_weights_is_what_is_cut(name: str, kept: Callable[[Array], Array]) -> None:
    """Expected value: the target's value less sum mu (w - kept w) (rate - q), with q = 0 for clipping."""
    w = PI / MU
    q = 0 if name == "clipped" else Q
    bias = (MU * (w - kept(w)) * (RATE - q)).sum(axis=1).mean()
    assert abs(bias) > 0.01
    assert expectation(PLAIN[name]) == pytest.approx(VALUE - bias, rel=1e-13)


def test_the_direct_method_is_the_models_own_opinion() -> None:
    """Its expectation is that of the model, whatever the rewards are."""
    assert expectation(PLAIN["dm"]) == pytest.approx(float((PI * Q).sum(axis=1).mean()), rel=1e-14)


def test_self_normalised_estimators_move_with_the_rewards_and_ips_does_not() -> None:
    """A constant added to all rewards is added to SNIPS; IPS adds it times the mean weight."""
    r, p, t, q, v = sample()
    assert of.snips(r + 7, p, t).value == pytest.approx(of.snips(r, p, t).value + 7, rel=1e-12)
    assert of.ips(r + 7, p, t).value == pytest.approx(of.ips(r, p, t).value + 7 * (t / p).mean(), rel=1e-12)
    assert abs((t / p).mean() - 1) > 1e-3
    assert of.sndr(r + 7, p, t, q, v).value == pytest.approx(of.sndr(r, p, t, q, v).value + 7, rel=1e-12)


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (lambda r, p, t, q, v: of.dr(r, p, t, 0 * q, 0 * v), "ips"),
        (lambda r, p, t, q, v: of.sndr(r, p, t, 0 * q, 0 * v), "snips"),
        (lambda r, p, t, q, v: of.switch_dr(r, p, t, q, v, INF), "dr"),
        (lambda r, p, t, q, v: of.switch_dr(r, p, t, q, v, 0.0), "dm"),
        (lambda r, p, t, q, v: of.dros(r, p, t, q, v, INF), "dr"),
        (lambda r, p, t, q, v: of.dros(r, p, t, q, v, 0.0), "dm"),
        (lambda r, p, t, q, v: of.clipped(r, p, t, INF), "ips"),
    ],
)
def test_estimators_are_each_other_at_their_limits(made: Of, plain: str) -> None:
    """No model, no threshold, no weight."""
    rows = sample()
    assert made(*rows).value == pytest.approx(PLAIN[plain](*rows).value, rel=1e-12)


def test_on_a_log_of_the_target_itself_all_weights_are_one() -> None:
    """IPS, SNIPS, clipped and replay without rejection are then the mean reward."""
    r, p, *_ = sample()
    for estimate in (of.ips(r, p, p), of.snips(r, p, p), of.clipped(r, p, p)):
        assert estimate.value == pytest.approx(r.mean(), rel=1e-12)


@pytest.mark.parametrize("name", list(PLAIN))
def test_a_row_weight_of_two_is_the_row_twice(name: str) -> None:
    """Whole-number weights against rows repeated."""
    rows = sample(60)
    times = np.random.default_rng(0).integers(1, 4, 60)
    repeated = [np.repeat(each, times) for each in rows]
    weighted = PLAIN[name](*rows, times.astype(float)).value
    assert weighted == pytest.approx(PLAIN[name](*repeated).value, rel=1e-12)


@pytest.mark.parametrize("name", list(PLAIN))
def test_adding_up_the_rows_of_users_keeps_the_value_and_the_sum_of_scores(name: str) -> None:
    """Ratios of sums do not care in which portions the sums came; scores sum to 0."""
    estimate = PLAIN[name](*sample(60))
    grouped = estimate.grouped(np.random.default_rng(0).permutation(60) % 7)
    assert grouped.top.shape[1] == 7
    assert grouped.value == pytest.approx(estimate.value, rel=1e-12)
    assert abs(grouped.scores().sum()) < 1e-12


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_shrunk_weights_never_pass_half_the_root_of_lambda(w: float, lam: float) -> None:
    """lambda w / (w^2 + lambda) is at most sqrt(lambda) / 2, and at most w."""
    shrunk = float(of.shrunk(np.array([w]), lam)[0])
    assert shrunk <= min(w, np.sqrt(lam) / 2) * (1 + 1e-12)


def test_mrdr_weights_are_those_of_obp_up_to_their_mean() -> None:
    """pi (1 - mu) / mu^2 by hand: 1 x .5 / .25 = 2, .5 x .75 / .0625 = 6 and 0; then a mean of 1."""
    weights = of.mrdr_weights(np.array([0.5, 0.25, 0.1]), np.array([1.0, 0.5, 0.0]))
    assert weights.tolist() == pytest.approx([2 / 8 * 3, 6 / 8 * 3, 0.0])


def test_replay_of_a_deterministic_target_is_the_mean_over_the_rows_that_agree() -> None:
    """On a uniform log nothing is rejected: two matches of four, rewards 1 and 0."""
    rows = np.array([1.0, 1, 0, 1]), np.full(4, 0.5), np.array([1.0, 0, 1, 0])
    for acceptance in ("rejection", "none"):
        estimate = of.replay(*rows, acceptance=acceptance, seed=5)
        assert (estimate.value, estimate.bottom.sum()) == (0.5, 2)


def test_replay_rejects_in_proportion_to_what_was_shown_too_often() -> None:
    """On a log that showed the better arm at .9: all matches give .56, the accepted ones the target's .4."""
    rng, n = np.random.default_rng(0), 200_000
    arm = (rng.random(n) < 0.9).astype(int)
    reward = np.where(arm == 1, 0.6, 0.2)
    propensity = np.where(arm == 1, 0.9, 0.1)
    half = np.full(n, 0.5)
    assert of.replay(reward, propensity, half, seed=1).value == pytest.approx(0.4, abs=0.01)
    assert of.replay(reward, propensity, half, acceptance="none", seed=1).value == pytest.approx(0.56, abs=0.01)


def test_nothing_that_counts_gives_no_value() -> None:
    """No match, or no weight at all: not a number, and no warning."""
    rows = np.ones(3), np.full(3, 0.5), np.zeros(3)
    assert np.isnan(of.replay(*rows).value)
    assert np.isnan(of.snips(*rows).value)
    assert of.ips(*rows).value == 0


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, float("nan")])
def test_a_propensity_outside_its_range_is_named(bad: float) -> None:
    """The message says which row has what."""
    with pytest.raises(ValueError, match=r"propensity must be in \(0, 1\]; row 1 has"):
        of.ips(np.ones(3), np.array([0.5, bad, 0.5]), np.ones(3))
    with pytest.raises(ValueError, match=r"one shape; got \(3,\) and \(2,\)"):
        of.ips(np.ones(3), np.full(3, 0.5), np.ones(2))
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\]; row 2 has 1.5"):
        of.ips(np.ones(3), np.full(3, 0.5), np.array([1, 1, 1.5]))


def table(rows: Rows) -> dict[str, Array]:
    """Weights as the only arm's, for `choose_tau`."""
    w = (rows[2] / rows[1])[:, None]
    return {"ratios": w, "masses": w}


def test_tau_is_the_candidate_with_the_least_bound_by_brute_force() -> None:
    """Variance and bias worked out again with plain loops over the candidates."""
    r, p, t, q, v = rows = sample(300)
    w = t / p

    def risk(tau: float) -> float:
        values = [v[i] + (w[i] * (r[i] - q[i]) if w[i] <= tau else 0) for i in range(300)]
        return float(np.var(values) / 300 + np.mean([w[i] if w[i] > tau else 0 for i in range(300)]) ** 2)

    steps = np.geomspace(*np.quantile(w, [0.05, 0.95]), 21)
    assert of.choose_tau(*rows, **table(rows), span=1.0) == pytest.approx(min([INF, *steps], key=risk))


def test_lambda_is_the_candidate_with_the_least_bound_by_brute_force() -> None:
    """The same for DRos, its bound written out."""
    r, p, t, q, v = rows = sample(300)
    w, log = t / p, np.log(2 / 0.05)

    def risk(lam: float) -> float:
        kept = w if np.isinf(lam) else lam * w / (w * w + lam)
        slack = np.sqrt(2 * np.mean(w * w) * log / 300) + 2 * w.max() * log / 900
        return float(np.var(v + kept * (r - q)) / 300 + (abs(np.mean((w - kept) * (r - q))) + slack) ** 2)

    low, high = np.quantile(w, [0.05, 0.95])
    steps = np.geomspace(0.01 * low**2, 100 * high**2, 30)
    assert of.choose_lambda(*rows) == pytest.approx(min([INF, *steps], key=risk))


def test_a_perfect_model_needs_no_threshold_and_a_huge_weight_does() -> None:
    """With r = q nothing is won by switching; one weight of 10,000 on a residual of 1 costs more than its share."""
    _, p, t, q, v = rows = sample(300)
    assert of.choose_tau(q, p, t, q, v, **table(rows), span=1.0) == INF
    n = 2000
    propensity, target = np.append(np.full(n, 0.5), 1e-4), np.append(np.full(n, 0.5), 1.0)
    rare = np.append(np.ones(n), 1.0), propensity, target, np.append(np.ones(n), 0.0), np.ones(n + 1)
    ratios, masses = (target / propensity)[:, None], np.append(np.full(n, 0.5), 1e-4)[:, None]
    assert of.choose_tau(*rare, ratios=ratios, masses=masses, span=1.0) < 1e4


def test_replay_draws_other_numbers_than_a_log_simulated_with_its_seed() -> None:
    """A log whose arms `default_rng(seed)` drew matches every arm alike, not the one that small numbers drew."""
    n, K, seed = 20_000, 10, 7
    arm = np.floor(np.random.default_rng(seed).random(n) * K)
    even = np.full(n, 1 / K)
    found = of.replay((arm == 0).astype(float), even, even, seed=seed)
    assert found.value == pytest.approx(1 / K, abs=4 * np.sqrt(0.1 * 0.9 / (n / K)))  # four standard errors
