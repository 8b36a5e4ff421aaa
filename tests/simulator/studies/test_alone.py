"""What a policy that goes on learning earns alone: without what the logged policy explored for it."""

from pathlib import Path

import numpy as np
import pytest
from simulator_cli import CSV, rows, run, write_log

from bandit.core.sums import ONE
from simulator.environments.episode import Episode, on_grid, stream
from simulator.logs.loaders import load
from simulator.logs.log import Log
from simulator.policies.on_log import task_of
from simulator.policies.specs import build, parse
from simulator.policies.targets import target
from simulator.studies.alone import alone
from simulator.studies.lived import judge
from simulator.studies.play import play
from simulator.studies.replay import replay

N, K = 4000, 10


def played(episode: Episode, policy: str, seed: int) -> tuple[Log, float]:
    """(what a policy would have logged, what it earned in expectation)."""
    rows = np.arange(N)
    log = Log(tuple(map(str, range(K))), np.zeros(N, np.int64), np.zeros(N), np.ones(N), context=episode.x / ONE)
    learner = build(parse(policy), task_of(log, seed))
    done = play(learner, episode, [*range(100, N, 100), N], stream(seed, 7).random(N))
    arm = done.arms[:, 0]
    reward = episode.reward[rows, arm]
    shown = Log(log.arms, arm, reward, done.propensity[:, 0], context=log.context, learning=True)
    return shown, float(episode.expected(done.arms).mean())


def problem(seed: int) -> Episode:
    """Clicks at about one in ten, more or less by arm and by context."""
    rng = np.random.default_rng([seed, 9])
    X = np.column_stack([np.ones(N), rng.normal(size=(N, 5))])
    mean = 1 / (1 + np.exp(2.2 - X @ rng.normal(0, 0.33, (6, K))))
    return Episode(on_grid(X), mean, (rng.random(mean.shape) < mean) * 1.0, np.ones((1, K), bool))


def shown_there(note: str) -> float:
    """What the logged choices earn in the fitted environment, as the note says it."""
    return float(note.partition("earn ")[2].partition(":")[0])


def test_a_fitted_environment_tells_a_greedy_policy_from_the_log_better_than_what_it_learned_there() -> None:
    """Twenty problems of known truth: learning from the log of LinUCB at explore .02, greedy is above it in nearly all.

    Alone it earns less in most, and of that the fitted environment tells the sign more often.
    """
    greedy, above, less, told, there = "linucb:alpha=0,explore=0", 0, 0, 0, 0
    for seed in range(20):
        episode = problem(seed)
        log, logged = played(episode, "linucb:explore=0.02", seed)
        truth = np.mean([played(episode, greedy, life)[1] for life in range(3)]) < logged
        credited = (target(log, greedy) * episode.mean).sum(axis=1).mean() < logged
        found = alone(log, greedy)
        assert found.value is not None
        above, less, told = above + (not credited), less + truth, told + (credited == truth)
        there += (found.value < shown_there(found.note)) == truth
    assert above >= 18
    assert less >= 12
    assert there >= told + 3


def test_alone_has_no_interval_and_says_so_and_a_seed_repeats_it() -> None:
    """Neither ends nor error: a model's word only."""
    log, _ = played(problem(0), "linucb", 0)
    one, again, other = (alone(log.take(slice(600)), "linucb", seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert (one.estimator, one.verdict, one.low, one.high, one.standard_error) == ("alone", "refused", None, None, None)
    assert "bias not included" in one.note


def test_alone_is_played_with_capped_rewards_inside_the_range() -> None:
    """All rewards are 8: capped at 5 every policy earns 5; in a range to 10 it earns 8."""
    log = Log(("a", "b"), np.tile([0, 1], 100), np.full(200, 8.0), np.full(200, 0.5))
    assert alone(log, "linucb", cap=5.0).value == pytest.approx(5.0, rel=0.02)
    assert alone(log, "linucb", reward_range=(0.0, 10.0)).value == pytest.approx(8.0, rel=0.02)


def test_evaluate_shows_both_numbers_of_a_policy_that_goes_on_learning(tmp_path: Path) -> None:
    """--keep-learning: a row `alone` for it, that of the library, and none for a target that does not learn."""
    path = write_log(tmp_path / "log.csv", n=600)
    options = ("evaluate", path, *CSV, "--target", "linucb", "--target", "uniform", "--estimator", "dr", "--seed", "3")
    found = rows(*options, "--keep-learning", "--refresh", "50")
    assert [(row["target"], row["estimator"]) for row in found] == [
        ("linucb", "dr"),
        ("linucb", "alone"),
        ("uniform", "dr"),
    ]
    log = load(path, "csv", arm="arm", reward="click", propensity="p")
    assert found[1]["value"] == alone(log, "linucb", refresh=50, seed=3).value
    assert (found[1]["low"], found[1]["verdict"]) == (None, "refused")
    assert all(row["estimator"] == "dr" for row in rows(*options))
    _, out, _ = run(*options, "--keep-learning")
    assert "alone: simulated on its own in an environment fitted to the log" in out


def test_replay_prints_verdict_limits_and_what_was_lived(tmp_path: Path) -> None:
    """The row is that of `judge`; of four arms a quarter matches, which is too short a life."""
    path = write_log(tmp_path / "log.csv", n=1200)
    (found,) = rows("replay", path, *CSV, "--policy", "linucb")
    log = load(path, "csv", arm="arm", reward="click", propensity="p")
    row = judge(log, done := replay(log, "linucb"))
    assert {name: found[name] for name in ("value", "low", "high", "verdict", "n_eff", "skewness", "note")} == {
        "value": row.value, "low": None, "high": None, "verdict": "refused", "n_eff": row.n_eff,
        "skewness": row.skewness, "note": row.note,
    }  # fmt: skip
    assert (found["matches"], found["rows"]) == (done.matches, 1200)
    (even,) = rows("replay", path, *CSV, "--policy", "uniform", "--alpha", "0.2", "--reward-range", "0", "2")
    expected = judge(log, replay(log, "uniform"), alpha=0.2, reward_range=(0.0, 2.0))
    assert (even["low"], even["high"], even["verdict"]) == (expected.low, expected.high, "interval")
    _, out, err = run("replay", path, *CSV, "--policy", "linucb")
    assert f"linucb: value over the {done.matches} decisions that matched; the log has 1,200" in err
    assert "refused" in out
