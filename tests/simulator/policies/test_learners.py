"""Learners: the server's engine is the server's, the baselines are what their papers say, and draws are fair."""

import json
from collections import Counter
from itertools import permutations
from math import exp, lgamma, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit.core.sums import ONE
from bandit.errors import Problem
from simulator.environments.episode import Episode
from simulator.environments.named import named
from simulator.policies.engine import Engine
from simulator.policies.protocol import Learner, Lister, Outcomes, Task, decide
from simulator.policies.specs import build, changed, parse, with_explore

ALL = np.ones((1, 4), bool)
TASK = Task({"arms": ["a", "b", "c", "d"], "rewards": {"click": {}}, "features": []}, 1, 0, np.array([2, 0, 3, 1]))
OWN = ["linucb", "uniform", "best-fixed", "ucb1", "thompson-free", "popularity", "epsilon-greedy:explore=0.2"]


def told(arms: list[int], rewards: list[float], task: Task = TASK) -> Outcomes:
    """Outcomes of contexts that are the intercept alone."""
    n = len(arms)
    x = np.full((n, 1), ONE, np.int16)
    return Outcomes(x, np.array(arms, np.int64), np.array(rewards), np.full(n, 1 / task.K), np.ones((1, task.K), bool))


def taught(spec: str, arms: list[int], rewards: list[float], task: Task = TASK) -> Any:
    """A learner that has learned these outcomes."""
    learner = build(parse(spec), task)
    learner.learn(told(arms, rewards, task), told=False)
    learner.refresh()
    return learner


def of_episode(episode: Episode, rows: slice, arm: np.ndarray) -> Outcomes:
    """Outcomes of these rounds of an episode."""
    reward = episode.reward[rows][np.arange(len(arm)), arm]
    return Outcomes(episode.x[rows], arm, reward, np.full(len(arm), 0.1), episode.eligible)


def context(n: int) -> np.ndarray:
    """n contexts that are the intercept alone."""
    return np.full((n, 1), ONE, np.int16)


def test_the_engine_decides_as_the_server_does() -> None:
    """Arms and propensities are bit-equal to `Model.decide` after the same learning, ties and explore included."""
    environment = named("logistic")
    episode = environment.episode(0, 900)
    engine = Engine({"policy": {"type": "linucb", "explore": 0.1}}, Task(environment.document, 11))
    rng = np.random.default_rng(0)
    for rows in (slice(0, 300), slice(300, 600)):
        u = rng.random(300)
        drawn = decide(engine, episode.x[rows], episode.eligible, u)
        served = engine.model.decide(engine.experiment, episode.x[rows], episode.eligible, [1] * 300, u)
        assert [choice.arms[0] for choice in served.choices] == drawn.arm.tolist()
        assert [choice.propensities[0] for choice in served.choices] == drawn.propensity.tolist()
        assert (served.probabilities == drawn.probability).all()
        engine.learn(of_episode(episode, rows, drawn.arm), told=False)
        engine.refresh()


def test_a_reward_that_comes_later_gives_the_same_sums() -> None:
    """Shown first and rewarded later, or both at once: the sums are bit-equal."""
    environment = named("linear")
    episode = environment.episode(0, 400)
    arm = np.random.default_rng(1).integers(0, 10, 400)
    at_once, later = (Engine({}, Task(environment.document, 11)) for _ in range(2))
    outcomes = of_episode(episode, slice(None), arm)
    at_once.learn(outcomes, told=False)
    later.shown(outcomes._replace(reward=np.zeros(400)))
    assert later.model.sums.digest() != at_once.model.sums.digest()
    later.learn(outcomes, told=True)
    assert later.model.sums.digest() == at_once.model.sums.digest()


def test_rewards_become_the_servers_credits() -> None:
    """Rounded to the kind's unit as the server rounds them; what is out of range is cut."""
    task = Task({**TASK.document, "rewards": {"sale": {"range": [0, 20], "unit": 0.01}}}, 1)
    engine = Engine({}, task)
    engine.learn(told([0, 1, 2, 3], [19.99, 0.125, 0.126, 99.0], task), told=False)
    kind = engine.kind
    assert engine.model.sums.B[:, 0, 0].tolist() == [kind.credit(each) * ONE for each in (19.99, 0.125, 0.126, 20.0)]


def test_a_learner_changes_only_when_it_is_refreshed() -> None:
    """What has been told in between changes no probability of the server's engine and of the baselines."""
    for spec in OWN:
        learner = build(parse(spec), TASK)
        before = learner.probabilities(context(1), ALL).copy()
        learner.learn(told([0, 1, 1, 2, 3, 3], [1, 0, 0, 1, 0, 1]), told=False)
        assert (learner.probabilities(context(1), ALL) == before).all(), spec
        learner.refresh()
        if spec not in ("uniform", "best-fixed"):
            assert (learner.probabilities(context(1), ALL) != before).any(), spec


@pytest.mark.parametrize("spec", OWN)
def test_propensities_are_the_frequencies_of_the_draws(spec: str) -> None:
    """Of 20,000 draws each arm's share is within 4.5 standard errors of its probability, which is what is logged."""
    learner = taught(spec, [0, 1, 1, 2, 3, 3, 0, 2], [1, 0, 0, 1, 0, 1, 0, 1])
    n = 20_000
    drawn = decide(learner, context(n), np.array([[True, True, True, False]]), np.random.default_rng(2).random(n))
    p = drawn.probability[0]
    shares = np.bincount(drawn.arm, minlength=4) / n
    assert p.sum() == pytest.approx(1)
    assert p[3] == 0
    assert (np.abs(shares - p) <= 4.5 * np.sqrt(p * (1 - p) / n) + 1e-12).all()
    assert (drawn.propensity == p[drawn.arm]).all()


def test_uniform_is_even_among_the_eligible() -> None:
    """Three of four arms: a third each."""
    P = build(parse("uniform"), TASK).probabilities(context(2), np.array([[1, 1, 0, 1], [0, 1, 0, 0]], bool))
    np.testing.assert_allclose(P, [[1 / 3, 1 / 3, 0, 1 / 3], [0, 1, 0, 0]])


def test_best_fixed_takes_the_next_best_where_the_best_may_not_be_shown() -> None:
    """The ranking is c, a, d, b."""
    P = build(parse("best-fixed"), TASK).probabilities(context(2), np.array([[1, 1, 1, 1], [0, 1, 0, 1]], bool))
    assert P.argmax(axis=1).tolist() == [2, 3]


def test_ucb1_is_that_of_its_paper() -> None:
    """By hand after 6 rounds: means 1/2, 0, 1; arm d was never shown and comes first, then the largest bound."""
    arms, rewards = [0, 0, 1, 1, 1, 2], [1.0, 0, 0, 0, 0, 1]
    learner = taught("ucb1", arms, rewards)
    assert learner.probabilities(context(1), ALL).tolist() == [[0, 0, 0, 1]]
    bounds = [0.5 + np.sqrt(2 * log(6) / 2), np.sqrt(2 * log(6) / 3), 1 + np.sqrt(2 * log(6))]
    np.testing.assert_allclose(learner.scores()[:3], bounds)
    P = learner.probabilities(context(1), np.array([[True, True, True, False]]))
    assert P.argmax() == int(np.argmax(bounds))


def test_epsilon_greedy_shares_ties_and_what_it_explores() -> None:
    """Arms a and b tie at mean 1, c and d have 0: .9 / 2 + .1 / 4 and .1 / 4."""
    learner = taught("epsilon-greedy:explore=0.1", [0, 1, 2, 3], [1, 1, 0, 0])
    np.testing.assert_allclose(learner.probabilities(context(1), ALL)[0], [0.475, 0.475, 0.025, 0.025])


def test_popularity_shows_arms_in_proportion_to_their_means() -> None:
    """(1 + s) / (1 + n): 2/2, 1/2, 1/1, 2/3 of their sum."""
    learner = taught("popularity", [0, 1, 3, 3], [1, 0, 1, 0])
    means = np.array([1, 0.5, 1, 2 / 3])
    np.testing.assert_allclose(learner.probabilities(context(1), ALL)[0], means / means.sum())


def second_wins(a: int, b: int, c: int, d: int) -> float:
    """P(Y > X) of X from Beta(a, b) and Y from Beta(c, d), whole numbers: Miller (2015), "Formulas for Bayesian A/B
    testing": sum_i B(a + i, b + d) / ((d + i) B(1 + i, d) B(a, b)), i from 0 to c - 1.
    """

    def ln_beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    return sum(exp(ln_beta(a + i, b + d) - log(d + i) - ln_beta(1 + i, d) - ln_beta(a, b)) for i in range(c))


@pytest.mark.parametrize(("n", "s"), [((3, 3), (1, 2)), ((40, 10), (10, 4)), ((400, 5), (30, 0)), ((0, 900), (0, 90))])
def test_thompsons_propensities_are_the_chances_to_win(n: tuple[int, int], s: tuple[int, int]) -> None:
    """Two arms against the closed form for whole numbers."""
    task = Task({"arms": ["a", "b"], "rewards": {"click": {}}}, 1)
    learner: Any = build(parse("thompson-free"), task)
    learner.n, learner.s = np.array(n, float), np.array(s, float)
    exact = second_wins(1 + s[0], 1 + n[0] - s[0], 1 + s[1], 1 + n[1] - s[1])
    np.testing.assert_allclose(learner.chances(np.ones(2, bool)), [1 - exact, exact], atol=1e-4)


def test_thompson_with_many_arms_is_what_sampling_says() -> None:
    """Eight arms of very different widths: within 4 standard errors of 400,000 joint draws."""
    task = Task({"arms": list("abcdefgh"), "rewards": {"click": {}}}, 1)
    learner: Any = build(parse("thompson-free"), task)
    learner.n = np.array([0, 3, 10, 50, 200, 1000, 5000, 20_000.0])
    learner.s = np.array([0, 1, 2, 9, 41, 190, 1010, 4100.0])
    p = learner.chances(np.ones(8, bool))
    draws = np.random.default_rng(3).beta(1 + learner.s, 1 + learner.n - learner.s, (400_000, 8)).argmax(axis=1)
    shares = np.bincount(draws, minlength=8) / 400_000
    assert (np.abs(shares - p) < 4 * np.sqrt(p * (1 - p) / 400_000) + 1e-4).all()


@pytest.mark.parametrize("spec", ["linucb:explore=0.3", "epsilon-greedy:explore=0.3", "uniform"])
def test_lists_are_drawn_with_the_propensities_they_come_with(spec: str) -> None:
    """Of 2,000 ordered pairs of 4 arms each comes as often as the product of its propensities says."""
    learner: Learner = taught(spec, [0, 1, 1, 2, 3, 3], [1, 0, 0, 1, 0, 0])
    assert isinstance(learner, Lister)
    n = 2000
    arms, propensities = learner.lists(context(n), ALL, 2, np.random.default_rng(4).random(n))
    counts = Counter(map(tuple, arms.tolist()))
    chance = {tuple(pair): float(np.prod(p)) for pair, p in zip(arms.tolist(), propensities, strict=True)}
    assert set(counts) == set(permutations(range(4), 2))
    assert sum(chance.values()) == pytest.approx(1)
    for pair, p in chance.items():
        assert abs(counts[pair] / n - p) < 4.5 * np.sqrt(p * (1 - p) / n)


def test_a_policy_file_is_an_experiments_document(tmp_path: Path) -> None:
    """Its policy and its lambda count; its arms and rewards are the environment's."""
    document = {"arms": ["x"], "rewards": {"sale": {}}, "policy": {"type": "linucb", "alpha": 3.0}, "lambda": 7.0}
    (path := tmp_path / "home.json").write_text(json.dumps(document))
    engine = build(parse(str(path)), TASK)
    assert isinstance(engine, Engine)
    assert engine.experiment.document.policy.alpha == 3.0
    assert engine.experiment.ridge.lam == 7.0
    assert engine.experiment.config.index == ("a", "b", "c", "d")


def test_a_policy_with_fewer_features_sees_only_those() -> None:
    """Features x3 and x1 of ten: columns 4 and 2 behind the intercept; what else is in x changes nothing."""
    environment = named("logistic")
    features = environment.document["features"]
    engine = Engine({"features": [features[3], features[1]]}, Task(environment.document, 11))
    episode = environment.episode(0, 200)
    engine.learn(of_episode(episode, slice(0, 200), np.arange(200) % 10), told=False)
    engine.refresh()
    x = episode.x[:50].copy()
    before = engine.probabilities(x, episode.eligible)
    x[:, [1, 3, 5, 6, 7, 8, 9, 10]] = 0
    assert (engine.probabilities(x, episode.eligible) == before).all()
    assert engine.experiment.encoder.d == 3
    A = (episode.x[:200:10, [0, 4, 2]].astype(np.int64).T @ episode.x[:200:10, [0, 4, 2]].astype(np.int64)).tolist()
    assert engine.model.sums.A[0].tolist() == A


def test_a_policy_with_features_of_its_own_is_refused() -> None:
    """A feature that the environment has not, or scales otherwise, is named."""
    other = [{"type": "number", "name": "x1", "mean": 5, "scale": 1}]
    with pytest.raises(ValueError, match=r"\['x1'\]"):
        Engine({"features": other}, Task(named("logistic").document, 11))


def test_names_carry_options() -> None:
    """Values are JSON where they can be; `refresh` is the policy's interval; a flag is true."""
    spec = parse("linucb:alpha=0.5,noise=auto,refresh=400")
    assert (spec.kind, spec.options, spec.refresh) == ("linucb", {"alpha": 0.5, "noise": "auto"}, 400)
    assert parse("vw:squarecb,l=0.1").options == {"squarecb": True, "l": 0.1}


def test_what_is_explored_by_itself_and_for_challengers_is_set_by_name() -> None:
    """With nothing known explore is .02, half of it for the challengers; an arm that there is not is told."""
    p = build(parse('linucb:explore=auto,challengers=["a","c"],noise=0.3'), TASK).probabilities(context(1), ALL)
    np.testing.assert_allclose(p, [[0.2525, 0.2475, 0.2525, 0.2475]], rtol=1e-12)
    with pytest.raises(Problem, match="/policy/challengers/0: expected an arm of this document"):
        build(parse('softmax:challengers=["e"]'), TASK)


def test_explore_is_set_for_the_servers_policies_only() -> None:
    """Others have their own ways to explore."""
    assert with_explore(parse("linucb:alpha=2"), 0.0).options == {"alpha": 2, "explore": 0.0}
    assert with_explore(parse("epsilon-greedy"), 0.0) == parse("epsilon-greedy")
    assert with_explore(parse("linucb"), None) == parse("linucb")


def test_a_changed_policy_is_named_after_the_change() -> None:
    """So that the settings of a sweep can be told apart."""
    spec = changed(parse("linucb:explore=0"), {"alpha": 0.5, "refresh": 10})
    assert (spec.name, spec.refresh) == ("linucb:explore=0,alpha=0.5,refresh=10", 10)
    assert spec.options == {"explore": 0, "alpha": 0.5}


def test_unknown_policies_and_options_are_refused_with_what_there_is() -> None:
    """A near name is suggested; the engine's own document says what it does not take."""
    with pytest.raises(ValueError, match="did you mean 'linucb'"):
        parse("linucp")
    with pytest.raises(ValueError, match="takes explore; unknown"):
        build(parse("uniform:alpha=1"), TASK)
    with pytest.raises(Problem, match="alfa"):
        build(parse("linucb:alfa=1"), TASK)
