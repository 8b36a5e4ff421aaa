"""Runs: what is earned is counted right, rewards come when they are due, the same seeds give the same bits anywhere."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from bandit.arrays import Mask, Matrix
from simulator.environments.episode import Episode, Grid
from simulator.environments.full import FullEnvironment
from simulator.environments.named import named
from simulator.environments.synthetic import Synthetic
from simulator.policies.protocol import Outcomes, decide
from simulator.policies.specs import parse
from simulator.progress import Show
from simulator.studies.parallel import Work, processes, serial
from simulator.studies.play import ends, play
from simulator.studies.run import Results, RunRow, learner_of, run

SMALL = Synthetic("small", arms=4, features=3, rounds=600)


class Recorder:
    """A learner that shows arms in turn and writes down what it is told, and after which round."""

    def __init__(self, arms: int) -> None:
        self.arms, self.rounds, self.news = arms, 0, []  # type: int, int, list[tuple[str, int, int, float]]

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """The arm whose turn it is."""
        turn = (self.rounds + np.arange(len(x))) % self.arms
        self.rounds += len(x)
        return np.eye(self.arms)[turn]

    def shown(self, outcomes: Outcomes) -> None:
        """Write down."""
        self._note("shown", outcomes)

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """Write down."""
        self._note("late" if told else "at once", outcomes)

    def refresh(self) -> None:
        """Nothing."""

    def _note(self, what: str, outcomes: Outcomes) -> None:
        rows = outcomes.x[:, 1].tolist()  # the round's own number
        self.news += [(what, self.rounds, row, r) for row, r in zip(rows, outcomes.reward.tolist(), strict=True)]


def numbered(n: int, K: int, **parts: Any) -> Episode:
    """n rounds whose context is their number, and whose rewards are 1, 2, 3, ..."""
    x = np.column_stack([np.full(n, 4096), np.arange(n)]).astype(np.int16)
    reward = np.repeat(np.arange(1.0, n + 1)[:, None], K, axis=1)
    return Episode(x, reward, reward, np.ones((1, K), bool), **parts)


def by_hand() -> FullEnvironment:
    """Four rows, two arms: a earns 1, 1, 1, 0 and b 0, 0, 0, 1, without features."""
    mean = np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])
    document = {"features": [], "arms": ["a", "b"], "rewards": {"click": {}}}
    return FullEnvironment("hand", document, np.full((4, 1), 4096, np.int16), mean)


def test_msweb_earns_what_was_measured() -> None:
    """Plain LinUCB refreshed every 100 rounds earned .364 on shuffled passes; ours earns at least .356 over two."""
    rows = run(named("msweb"), ["linucb"], seeds=2, refresh=100, explore=0.0, spread=serial).rows
    assert np.mean([row.mean_reward for row in rows]) >= 0.356


def test_figures_by_hand() -> None:
    """Best 1, even .5, the best fixed arm .75: half of uniform's regret is left."""
    rows = run(by_hand(), ["best-fixed"], refresh=1, spread=serial).rows
    assert rows == [RunRow("best-fixed", 0, 4, 0.75, 50.0)]


def test_regret_of_uniform_is_about_100() -> None:
    """Within 4 standard errors over four seeds of the users environment."""
    rows = run(named("users"), ["uniform"], rounds=4000, seeds=4, spread=serial).rows
    regrets = np.array([row.regret_of_uniform for row in rows])
    assert abs(regrets.mean() - 100) < 4 * regrets.std(ddof=1) / 2 + 1


def test_uniforms_learning_curve_is_the_known_mean() -> None:
    """Each window's mean reward is the mean over arms, give or take 5 standard errors of drawing them."""
    results = run(SMALL, ["uniform"], rounds=8000, seeds=1, windows=4, spread=serial)
    episode = SMALL.episode(0, 8000)
    (curve,) = results.curves
    assert curve.ends == [2000, 4000, 6000, 8000]
    for end, got, known in zip(curve.ends, curve.mean_reward, curve.uniform, strict=True):
        window = episode.mean[end - 2000 : end]
        assert known == pytest.approx(window.mean())
        assert abs(got - known) < 5 * window.std() / np.sqrt(2000)


def test_curves_and_rows_agree() -> None:
    """The mean of equally long windows is the row's mean reward; best is above what any policy earns."""
    results = run(SMALL, ["linucb", "uniform"], seeds=2, spread=serial)
    for row, curve in zip(results.rows, results.curves, strict=True):
        assert (row.policy, row.seed) == (curve.policy, curve.seed)
        assert np.mean(curve.mean_reward) == pytest.approx(row.mean_reward)
        assert np.mean(curve.best) > row.mean_reward


def test_rewards_that_are_always_positive_do_not_lock_the_first_arm() -> None:
    """Four language models that answer .79, .92, .93 and .93 right: no seed of ten stays at the first arm."""
    rng = np.random.default_rng(0)
    mean = np.clip(rng.normal([0.79, 0.92, 0.93, 0.93], 0.05, (2500, 4)), 0.3, 1)
    x = np.column_stack([np.full(2500, 4096), rng.integers(-4096, 4096, (2500, 3))]).astype(np.int16)
    features = [{"type": "number", "name": f"f{j}", "mean": 0, "scale": 1} for j in range(3)]
    document = {"features": features, "arms": list("abcd"), "rewards": {"quality": {}}}
    rows = run(FullEnvironment("models", document, x, mean), ["linucb"], seeds=10, explore=0.0, spread=serial).rows
    assert min(row.mean_reward for row in rows) > 0.9


def test_delayed_rewards_arrive_when_they_are_due() -> None:
    """Against a loop over rounds: a reward of round i is told at the first refresh after round i + delay, once."""
    delay = np.random.default_rng(0).integers(0, 25, 90)
    episode = numbered(90, 3, delay=delay)
    recorder = Recorder(3)
    play(recorder, episode, ends(episode, 10), np.zeros(90))
    due = {i: next((end for end in range(10, 91, 10) if i + delay[i] < end), None) for i in range(90)}
    expected = []
    for end in range(10, 91, 10):
        own = range(end - 10, end)
        expected += [("late", end, i, i + 1.0) for i in range(end - 10) if due[i] == end]
        expected += [("at once", end, i, i + 1.0) for i in own if due[i] == end]
        expected += [("shown", end, i, 0.0) for i in own if due[i] != end]
    assert sorted(recorder.news) == sorted(expected)
    assert any(what == "late" for what, *_ in expected)


def test_without_delay_everything_is_learned_at_once_and_in_order() -> None:
    """Each interval's outcomes at its end, with the reward of the arm that was shown."""
    episode, recorder = numbered(25, 2), Recorder(2)
    played = play(recorder, episode, ends(episode, 10), np.zeros(25))
    assert recorder.news == [("at once", min(25, 10 * (i // 10) + 10), i, i + 1.0) for i in range(25)]
    assert played.arms[:, 0].tolist() == [i % 2 for i in range(25)]


def test_a_delay_costs() -> None:
    """The same problem earns more where rewards are known at once."""
    soon = run(Synthetic("soon"), ["linucb"], rounds=2000, seeds=3, spread=serial).rows
    late = run(Synthetic("late", delay=1000.0), ["linucb"], rounds=2000, seeds=3, spread=serial).rows
    assert np.mean([row.mean_reward for row in soon]) > np.mean([row.mean_reward for row in late])


def test_refresh_is_rounds_or_time() -> None:
    """Rounds; a time at an assumed rate; a time by the rounds' own clock."""
    plain = numbered(10, 2)
    clocked = numbered(6, 2, time_ms=np.array([0, 10, 120, 130, 350, 360]))
    assert ends(plain, 4) == [4, 8, 10]
    assert ends(plain, "5ms", rate=1000) == [5, 10]
    assert ends(plain, "0.003s", rate=1000) == [3, 6, 9, 10]
    assert ends(clocked, "100ms") == [2, 4, 6]


@pytest.mark.parametrize("refresh", [0, "soon", "-1s", "0ms", "5"])
def test_a_wrong_refresh_is_refused(refresh: int | str) -> None:
    """It says what is expected."""
    with pytest.raises(ValueError, match="refresh takes rounds"):
        ends(numbered(10, 2), refresh)


def test_serial_and_parallel_runs_give_the_same_bits() -> None:
    """Rows and curves of two policies and three seeds, one after the other and in two processes, encode alike."""
    policies = ["linucb", "vw:bag=3", "thompson-free"]
    one = run(SMALL, policies, rounds=300, seeds=3, spread=serial)
    two = run(SMALL, policies, rounds=300, seeds=3, spread=processes(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


def test_a_seed_gives_the_same_bits_whatever_runs_beside_it() -> None:
    """Alone, or after another policy and another seed."""
    alone = run(SMALL, ["linucb"], seeds=[2], spread=serial)
    among = run(SMALL, ["uniform", "linucb"], seeds=[0, 2], spread=serial)
    assert alone.rows[0] == among.rows[3]
    assert alone.curves[0] == among.curves[3]


def test_more_is_learned_with_fresher_models() -> None:
    """Refreshed every 20 rounds or after 500, over three seeds; a policy's own interval goes before the run's."""
    rows = run(SMALL, ["linucb", "linucb:refresh=500"], rounds=1000, seeds=3, refresh=20, spread=serial).rows
    fresh, stale = (np.mean([row.mean_reward for row in rows[at : at + 3]]) for at in (0, 3))
    assert fresh > stale


@pytest.mark.parametrize("policy", ["linucb", "ucb1", "uniform", "epsilon-greedy"])
def test_lists_are_played(policy: str) -> None:
    """Three positions a round; learning beats showing lists evenly."""
    row, even = (run(named("position-bias"), [each], rounds=600).rows[0] for each in (policy, "uniform"))
    assert row.mean_reward >= even.mean_reward
    assert row.regret_of_uniform <= 105


def test_a_policy_that_cannot_fill_lists_is_refused_at_once() -> None:
    """Before anything is played."""
    with pytest.raises(ValueError, match="one arm at a time"):
        run(named("position-bias"), ["linucb", "vw"], spread=never)


@pytest.mark.parametrize("policy", ["linucb", "thompson-free", "vw", "best-fixed"])
def test_arms_that_are_gone_are_not_shown(policy: str) -> None:
    """Each arm that was shown was eligible in its round, although arms come and go within intervals."""
    environment = named("arms-change")
    episode = environment.episode(0, 500)
    learner = learner_of(parse(policy), environment, episode, 0)
    played = play(learner, episode, ends(episode, 50), np.random.default_rng(0).random(500))
    assert not episode.eligible.all()
    assert np.take_along_axis(episode.eligible, played.arms, axis=1).all()


@pytest.mark.parametrize("policy", ["linucb", "ucb1"])
def test_an_interval_decided_at_once_is_decided_as_one_by_one(policy: str) -> None:
    """A plain loop that decides round by round, and learns and refreshes after every seventh, shows the same arms."""
    episode, u = SMALL.episode(1, 200), np.random.default_rng(1).random(200)
    at_once = play(learner_of(parse(policy), SMALL, episode, 1), episode, ends(episode, 7), u)
    learner, waiting = learner_of(parse(policy), SMALL, episode, 1), []
    for i in range(200):
        drawn = decide(learner, episode.x[[i]], episode.eligible, u[[i]])
        assert drawn.arm[0] == at_once.arms[i, 0]
        assert drawn.propensity[0] == pytest.approx(at_once.propensity[i, 0])
        waiting.append(
            Outcomes(episode.x[[i]], drawn.arm, episode.reward[i, drawn.arm], drawn.propensity, episode.eligible)
        )
        if i % 7 == 6:
            for outcomes in waiting:
                learner.learn(outcomes, told=False)
            learner.refresh()
            waiting = []


def never(work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
    """A spread that must not be used."""
    raise AssertionError("something was played")


def interrupted(after: int) -> Callable[..., Iterator[tuple[int, Any]]]:
    """A spread in which Ctrl-C comes after so many results."""

    def spread(work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
        yield from list(serial(work, common, items, show))[:after]
        raise KeyboardInterrupt

    return spread


def test_ctrl_c_keeps_what_is_done() -> None:
    """Two of four runs were done: their rows are the same as those of a whole run, and the results say so."""
    whole = run(SMALL, ["linucb", "uniform"], seeds=2, spread=serial)
    cut = run(SMALL, ["linucb", "uniform"], seeds=2, spread=interrupted(2))
    assert cut.rows == whole.rows[:2]
    assert not cut.complete
    assert whole.complete


def test_ctrl_c_ends_the_workers() -> None:
    """Results that are no longer asked for end the processes that would make them."""
    spread = processes(2)(_pid, None, [60.0, 0.0, 60.0, 60.0], lambda done: None)
    _, pid = next(spread)
    with pytest.raises(KeyboardInterrupt):
        spread.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert pid != os.getpid()
    with pytest.raises(StopIteration):
        next(spread)


def _pid(common: Any, seconds: float, show: Show) -> int:
    """The worker's process id, at once or not before long."""
    if seconds:
        import threading

        threading.Event().wait(seconds)
    return os.getpid()


def test_nothing_is_written_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """With progress asked for and no terminal, both streams stay empty."""
    run(SMALL, ["linucb", "vw"], rounds=100, progress=True, spread=serial)
    assert capfd.readouterr() == ("", "")


def test_results_are_json() -> None:
    """Rows have the five fields that were promised."""
    results = run(SMALL, ["uniform"], rounds=50, spread=serial)
    assert msgspec.json.decode(msgspec.json.encode(results), type=Results) == results
    assert set(msgspec.to_builtins(results.rows[0])) == {"policy", "seed", "rounds", "mean_reward", "regret_of_uniform"}
