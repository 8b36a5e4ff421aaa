"""Reward models against counts by hand and least squares; and that no reward is in its own prediction."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from logs import Array, World, log_of
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from simulator.logs.log import Log
from simulator.ope.models import (
    Fit,
    QFit,
    cross_fitted,
    for_mrdr,
    in_sample,
    mean_model,
    model_of,
    past_only,
    predictions,
    prefixes,
    regressor_model,
    ridge_model,
)


def small(n: int = 60, **fields: object) -> Log:
    """A log of four arms."""
    world = World(size=200, K=4)
    log, _ = world.log(np.random.default_rng(0), n, world.policy(0.8), **fields)
    return log


MODELS: dict[str, Fit] = {
    "mean": mean_model(),
    "mean-position": mean_model(by_position=True),
    "ridge": ridge_model(),
    "tree": regressor_model(DecisionTreeRegressor(max_depth=3, random_state=0)),
    "logistic": regressor_model(LogisticRegression()),
}


def test_the_smoothed_mean_is_the_count_by_hand() -> None:
    """Arm 0: rewards 1, 0 and 1; arm 1: none; weights 1, 2, 3 in the second case; a = 1, c = 100."""
    log = log_of(np.full((3, 2), 0.5), np.zeros(3, int), np.array([1.0, 0, 1]))
    assert mean_model()(log)(log)[0].tolist() == [3 / 103, 1 / 100]
    weighted = replace(log, weight=np.array([1.0, 2, 3]))
    assert mean_model(2, 10)(weighted)(log)[1].tolist() == [6 / 16, 2 / 10]


def test_the_mean_of_each_position_keeps_positions_apart() -> None:
    """Arm 1 at position 0 earned 1, at position 2 nothing; a position not seen in the fit gets the prior."""
    log = log_of(np.full((2, 2), 0.5), np.ones(2, int), np.array([1.0, 0]), position=np.array([0, 2]))
    predict = mean_model(1, 4, by_position=True)(log)
    rows = replace(log.take(np.array([0, 0, 0, 0])), position=np.array([0, 1, 2, 3]))
    assert predict(rows)[:, 1].tolist() == [2 / 5, 1 / 4, 1 / 5, 1 / 4]


def test_ridge_is_least_squares_with_a_row_for_each_penalty() -> None:
    """Each arm apart, rewards less the pooled mean, sqrt(lambda) I below the contexts: numpy's lstsq."""
    log, lam = small(), 0.7
    q = ridge_model(lam)(log)(log)
    mu = log.reward.sum() / (len(log) + 1)
    for a in range(4):
        rows = log.arm == a
        X = np.vstack([log.context[rows], np.sqrt(lam) * np.eye(3)])
        theta = np.linalg.lstsq(X, np.append(log.reward[rows] - mu, np.zeros(3)))[0]
        assert q[:, a] == pytest.approx(mu + log.context @ theta, rel=1e-9)


def wide(n: int = 300, d: int = 40, K: int = 12, **fields: object) -> Log:
    """A log with more features than most arms have rows: arm 0 has 60, arm 1 none."""
    rng = np.random.default_rng(1)
    arm = np.where(np.arange(n) < 60, 0, rng.integers(2, K, n))
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    reward = (rng.random(n) < 0.2).astype(float)
    return replace(log_of(np.full((n, K), 1 / K), arm, reward, context=X), **fields)


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_the_same_by_rows_and_by_features(weighted: bool) -> None:
    """Arms of fewer rows than features against the solution of all features' equations, to 1e-9."""
    log = wide(weight=np.random.default_rng(2).random(300) * 3 if weighted else None)
    s = np.ones(300) if log.weight is None else log.weight
    mu = (s @ log.reward) / (s.sum() + 1)
    q = ridge_model(0.7)(log)(log)
    for a in range(log.K):
        X, y, of = log.context[log.arm == a], log.reward[log.arm == a] - mu, s[log.arm == a]
        theta = np.linalg.solve((X.T * of) @ X + 0.7 * np.eye(40), X.T @ (of * y))
        assert q[:, a] == pytest.approx(mu + log.context @ theta, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("how", ["cross", "past"])
def test_no_more_equations_are_solved_than_an_arm_has_rows(how: QFit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor more than there are features: an arm of ten rows and a thousand features is ten equations."""
    log, sizes, solve = wide(), [], np.linalg.solve
    most = np.bincount(log.arm).clip(max=40)
    monkeypatch.setattr(np.linalg, "solve", lambda A, b: sizes.append(len(A)) or solve(A, b))
    predictions(ridge_model(), log, how)
    assert max(sizes) == 40
    assert sum(each == 40 for each in sizes) <= 5  # of arm 0 only: 3 times in the past's fits, 5 in the splits'
    assert sorted(sizes)[-6] <= sorted(most)[-2]


def test_features_beyond_what_floats_resolve_are_no_error() -> None:
    """The same feature three times, at 1e8: the penalty is lost in rounding, and an arm's equations have no inverse."""
    log, x = small(), 1e8 * np.random.default_rng(0).normal(size=60)
    X = np.column_stack([np.ones(60), x, x, x])
    q, one = (ridge_model()(each)(each) for each in (replace(log, context=X), replace(log, context=X[:, :2])))
    assert q == pytest.approx(one, abs=1e-3)


def test_ridge_without_context_is_a_mean_shrunk_to_the_pooled_one() -> None:
    """lambda imagined rows of mu; with no penalty the mean itself, and an arm without rows is mu."""
    log = replace(small(), context=None)
    mu = log.reward.sum() / (len(log) + 1)
    here = log.reward[log.arm == 1]
    assert ridge_model(2.0)(log)(log)[0, 1] == pytest.approx((here.sum() + 2 * mu) / (len(here) + 2))
    lost = log.take(log.arm != 1)
    assert ridge_model(0.0)(lost)(log)[0, 1] == lost.reward.sum() / (len(lost) + 1)


@pytest.mark.parametrize("name", ["mean", "ridge", "tree"])
def test_a_row_weight_of_two_is_the_row_twice(name: str) -> None:
    """Fits on whole-number weights against fits on rows repeated (the pooled mean's one imagined row aside: both)."""
    log, times = small(), np.random.default_rng(1).integers(1, 4, 60)
    weighted = MODELS[name](replace(log, weight=times.astype(float)))(log)
    repeated = MODELS[name](log.take(np.repeat(np.arange(60), times)))(log)
    assert weighted == pytest.approx(repeated, rel=1e-9)


def test_regressors_get_context_arm_and_position_and_are_not_changed() -> None:
    """A linear model without intercept on one-hot arms and positions, solved by numpy; the object stays unfitted."""
    log, given = small(position=np.arange(60) % 3), LinearRegression(fit_intercept=False)
    q = regressor_model(given)(log)(log)
    design = np.column_stack([log.context, np.eye(4)[log.arm], np.eye(3)[log.position]])
    theta = np.linalg.lstsq(design, log.reward)[0]
    for a in range(4):
        there = np.column_stack([log.context, np.tile(np.eye(4)[a], (60, 1)), np.eye(3)[log.position]])
        assert q[:, a] == pytest.approx(there @ theta, abs=1e-9)
    assert not hasattr(given, "coef_")


def test_a_classifiers_prediction_is_the_expected_class() -> None:
    """Rewards 0 and 5: five times the probability of the second class, never a label."""
    log = small()
    log = replace(log, reward=5 * log.reward)
    q = regressor_model(LogisticRegression())(log)(log)
    assert q.min() > 0
    assert q.max() < 5
    assert len(np.unique(q)) > 100


def test_rewards_that_are_all_equal_are_predicted_as_they_are() -> None:
    """A classifier could not be fitted on one class; and nothing to fit on gives 0."""
    log = replace(small(), reward=np.ones(60))
    assert (MODELS["logistic"](log)(log) == 1).all()
    assert (MODELS["logistic"](log.take(slice(0, 0)))(log) == 0).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_cross_fitting_never_shows_a_row_its_own_reward(name: str) -> None:
    """Another reward in row 17 leaves q of row 17 as it was and changes other rows'; in sample it changes its own."""
    log = small(position=np.arange(60) % 2)
    changed = replace(log, reward=np.where(np.arange(60) == 17, 1 - log.reward, log.reward))
    before, after = (cross_fitted(MODELS[name], each, seed=4) for each in (log, changed))
    assert (before[17] == after[17]).all()
    assert (before != after).any()
    seen, seen_after = (in_sample(MODELS[name], each) for each in (log, changed))
    assert (seen[17] != seen_after[17]).any()


def test_cross_fitting_keeps_a_users_rows_together() -> None:
    """Other rewards in all rows of user 3 leave q of all of them as it was."""
    log, unit = small(), np.arange(60) % 12
    changed = replace(log, reward=np.where(unit == 3, 1 - log.reward, log.reward))
    before, after = (cross_fitted(ridge_model(), each, unit=unit) for each in (log, changed))
    assert (before[unit == 3] == after[unit == 3]).all()
    assert (before != after).any()


@pytest.mark.parametrize("name", list(MODELS))
def test_the_past_only_fit_never_sees_the_present_or_the_future(name: str) -> None:
    """Other rewards from row 180 on leave q of rows 0 to 180 as it was, and change later ones."""
    log = small(300, position=np.arange(300) % 2)
    changed = replace(log, reward=np.where(np.arange(300) >= 180, 1 - log.reward, log.reward))
    before, after = (past_only(MODELS[name], each) for each in (log, changed))
    assert (before[:181] == after[:181]).all()
    assert (before[270:] != after[270:]).any()


def test_the_past_only_fit_grows_with_the_log() -> None:
    """Refits after 1, 2, 3, 5, 8, 12, ...: the first row gets the prior, the last block a fit on most of the log."""
    log = small(120)
    q = past_only(mean_model(1, 4), log)
    assert (q[0] == 0.25).all()
    assert prefixes(120) == [1, 2, 3, 5, 8, 12, 18, 27, 41, 62, 93]
    for start, end in ((5, 8), (93, 120)):
        assert (q[start:end] == mean_model(1, 4)(log.take(slice(0, start)))(log.take(slice(start, end)))).all()


def test_a_model_of_the_past_starts_from_what_was_earned_so_far() -> None:
    """DM on the log of a policy that learned is not pulled towards 0 by its first rows."""
    log = replace(small(300), reward=np.full(300, 0.8))
    q = past_only(MODELS["ridge"], log)
    assert q[20:].min() > 0.7
    assert q.mean() > 0.77


def test_models_have_names_and_others_are_refused() -> None:
    """The three names, an object with `fit`, and what the message says to anything else."""
    log = small()
    for name in ("mean", "ridge"):
        assert (model_of(name)(log)(log) == MODELS[name](log)(log)).all()
    assert (model_of(LinearRegression())(log)(log) == regressor_model(LinearRegression())(log)(log)).all()
    with pytest.raises(ValueError, match=r"q must be 'ridge', 'mean', 'mean-position' or .*; got 'forest'"):
        model_of("forest")


@pytest.mark.parametrize(("how", "same"), [("cross", cross_fitted), ("past", past_only), ("in_sample", in_sample)])
def test_the_way_of_fitting_goes_by_its_name(how: str, same: Callable[[Fit, Log], Array]) -> None:
    """`cross`, `past` and `in_sample` are the functions."""
    log = small()
    assert (predictions(ridge_model(), log, how) == same(ridge_model(), log)).all()


def test_the_mrdr_fit_is_least_squares_with_its_weights() -> None:
    """Against rows scaled by the root of s pi (1 - mu) / mu^2 in numpy's lstsq."""
    log = replace(small(), weight=np.random.default_rng(0).random(60) + 1)
    target = np.full(60, 0.25)
    u = log.weight * target * (1 - log.propensity) / log.propensity**2
    q = regressor_model(LinearRegression(fit_intercept=False))(for_mrdr(log, target))(log)
    design = np.column_stack([log.context, np.eye(4)[log.arm], np.ones(60)])
    theta = np.linalg.lstsq(design * np.sqrt(u)[:, None], log.reward * np.sqrt(u))[0]
    there = np.column_stack([log.context, np.tile(np.eye(4)[2], (60, 1)), np.ones(60)])
    assert q[:, 2] == pytest.approx(there @ theta, abs=1e-8)
