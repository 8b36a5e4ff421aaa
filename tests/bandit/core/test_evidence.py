"""Looking for lambda while a model learns: by the oracle, a few arms at a time, and seldom."""

from typing import Any

import numpy as np
import pytest
from msgspec.json import encode

from bandit.core.engine import Model
from bandit.core.experiment import Experiment, compile_config
from bandit.core.policies.largest import largest
from bandit.core.revision import first, revise
from bandit.core.ridge import evidence
from bandit.core.ridge.linear import GRID, Real, best_lambda, estimates, in_common, real
from bandit.core.ridge.scoring import inverses
from bandit.core.sums import ONE, Events
from bandit.core.validation import parse_document


def document(K: int = 4, **changes: Any) -> bytes:
    """K arms, three numbers, clicks."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(3)]
    return encode({"features": features, "arms": [f"a{a}" for a in range(K)], "rewards": {"click": {}}, **changes})


def experiment(K: int = 4, **changes: Any) -> Experiment:
    """The experiment of it."""
    return compile_config(first("e", parse_document(document(K, **changes))))


def events(seed: int, n: int, K: int = 4, strength: float = 0.0) -> Events:
    """n impressions; a click depends on the context as much as `strength` says."""
    rng = np.random.default_rng(seed)
    x = np.clip(np.rint(rng.normal(size=(n, 4)) * ONE), -32768, 32767).astype(np.int16)
    x[:, 0] = ONE
    arm = rng.integers(0, K, n)
    z = strength * np.einsum("nd,nd->n", x[:, 1:] / ONE, np.random.default_rng(9).normal(size=(K, 3))[arm])
    new = (rng.random(n) < 1 / (1 + np.exp(1 - z))).astype(np.int64)[:, None] * 1_000_000
    return Events(arm, x, np.ones(n, np.int64), np.zeros_like(new), new)


def fresh(model: Model) -> Model:
    """With nothing left to refresh."""
    while model.refresh(3):
        pass
    return model


def arms_of(model: Model) -> list[Real]:
    """The sums of its arms."""
    return [real(model.sums, a, model.experiment.ridge.units) for a in range(len(model.sums.n))]


def oracle(model: Model) -> float:
    """The lambda of the readable formulae."""
    return best_lambda(arms_of(model), model.experiment.ridge)


@pytest.mark.parametrize("prior", ["mean", "pooled"])
@pytest.mark.parametrize(("strength", "more"), [(0.0, True), (4.0, False)])
def test_a_model_has_the_lambda_of_the_readable_formulae(strength: float, more: bool, prior: str) -> None:
    """Contexts that say nothing get a large one, contexts that say all a small one; its factors are of that lambda."""
    model = Model(experiment(prior=prior))
    model.learn(events(1, 600, strength=strength))
    fresh(model)
    assert model.scorer.chosen == oracle(model)
    assert (model.scorer.chosen > 1) is more
    again = fresh(Model(model.experiment, model.sums))  # as after a restart
    assert again.scorer.chosen == model.scorer.chosen
    for one, other in zip(model.scorer.rows.factors, again.scorer.rows.factors, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_it_is_looked_at_when_impressions_have_grown_by_a_third() -> None:
    """From 30 impressions on, and after 1.3 times as many: 23 looks in 10,000 impressions, not one a batch."""
    model, looks = Model(experiment(2)), set()
    for i in range(1000):
        model.learn(events(i, 10, K=2))
        fresh(model)
        if model._evidence._level >= 0:
            looks.add(model._evidence._level)
    assert looks == set(range(23))  # 30, 39, 50.7, ... 9,632


def test_when_it_looks_does_not_depend_on_how_much_is_learned_at_a_time() -> None:
    """Learned one by one or all at once, with refreshes at the same places, lambda is the same."""
    one, other = Model(experiment()), Model(experiment())
    for start in range(0, 300, 15):
        batch = events(start, 15, strength=2.0)
        one.learn(batch)
        for i in range(15):
            other.learn(batch[np.arange(15) == i])
        assert fresh(one).scorer.chosen == fresh(other).scorer.chosen


def test_a_given_lambda_is_never_looked_for() -> None:
    """A number is what it says; "auto" again, after a change, looks at once."""
    model = Model(experiment(**{"lambda": 1}))
    model.learn(events(1, 600))
    fresh(model)
    assert model.scorer.penalty().tolist() == [1.0, *[model.scorer.v] * 3]
    auto = revise(model.experiment.config, parse_document(document()), learned=True, reset=False)
    model.adopt(compile_config(auto))
    fresh(model)
    assert model.scorer.chosen == oracle(model) != 1.0
    assert model.scorer.penalty().tolist() == [1.0, *[model.scorer.chosen * model.scorer.v] * 3]
    model.adopt(compile_config(revise(auto, parse_document(document(**{"lambda": 0.5})), learned=True, reset=False)))
    assert model.scorer.penalty().tolist() == [0.5, *[0.5 * model.scorer.v] * 3]
    assert len(model.waiting) == 4


def test_without_features_lambda_means_nothing_and_no_arm_is_factored_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intercept has a penalty of its own; what pooled arms have in common is looked for as ever."""
    inverted = []
    monkeypatch.setattr(evidence, "inverses", lambda A, *rest: inverted.append(len(A)) or inverses(A, *rest))
    seen = events(1, 300)
    for prior in ("mean", "pooled"):
        model = Model(experiment(features=[], prior=prior))
        model.learn(Events(seen.arm, seen.x[:, :1], seen.shown, seen.old, seen.new))
        fresh(model)
        assert bool(inverted) is (prior == "pooled")
        assert (model.scorer.common is None) is (prior == "mean")


def test_of_a_large_catalogue_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is at no more than so many arms, and at one turn no more than the turn allows."""
    monkeypatch.setattr(evidence, "SAMPLE", 16)
    model = Model(experiment(60))
    model.learn(events(1, 600, K=60))
    model._reconsider(21)
    turns = 1
    while model._evidence.looking:
        before = model._evidence._at
        model._reconsider(21)
        assert model._evidence._at - before <= 21 // len(GRID)
        turns += 1
    assert turns == 6


def same(model: Model) -> None:
    """What it decides by is what the readable formulae make of what its arms have in common."""
    common, arms = model.scorer.common, arms_of(model)
    assert common
    for a, expected in enumerate(estimates(arms, model.experiment.ridge, lam=model.scorer.chosen, common=common)):
        np.testing.assert_allclose(model.scorer.derived.theta[a], expected.theta, rtol=1e-8, atol=1e-10)
        W = model.scorer.rows.factors.W[a]
        np.testing.assert_allclose(W.T @ W, expected.G, rtol=1e-8, atol=1e-11)
        assert model.scorer.derived.z2[a] == pytest.approx(expected.z**2, rel=1e-6)


def test_pooled_arms_are_drawn_to_what_they_had_in_common_when_it_was_looked_for() -> None:
    """Found at 30 impressions, 39, and so on; in between arms learn with what was found."""
    model = Model(experiment(prior="pooled"))
    assert model.scorer.common is None
    for at in range(4):
        model.learn(events(at, 100, strength=1.0))
        before = arms_of(model)
        fresh(model)
        expected = in_common(before, model.experiment.ridge, model.scorer.chosen)
        np.testing.assert_allclose(model.scorer.common.beta, expected.beta, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(model.scorer.common.root, expected.root, rtol=1e-8, atol=1e-12)
        model.learn(events(100 + at, 1, strength=1.0))
        fresh(model)
        np.testing.assert_allclose(model.scorer.common.beta, expected.beta, rtol=1e-8, atol=1e-10)
        same(model)


def test_feedback_alone_is_learned_by_pooled_arms_too() -> None:
    """Rewards that come late change an arm as they change the readable formulae."""
    model = Model(experiment(prior="pooled"))
    batch = events(1, 200, strength=1.0)
    model.learn(Events(batch.arm, batch.x, batch.shown, batch.old, batch.old))
    fresh(model)
    model.learn(Events(batch.arm, batch.x, 0 * batch.shown, batch.old, batch.new))
    fresh(model)
    same(model)


def test_an_arm_that_comes_late_begins_with_what_the_others_have_in_common() -> None:
    """At once, before anything is refreshed; kinds that come begin with nothing; no column is left of what went."""
    model = fresh(Model(experiment(prior="pooled")))
    model.learn(events(1, 600, strength=1.0))
    fresh(model)
    more = revise(model.experiment.config, parse_document(document(5, prior="pooled")), learned=True, reset=False)
    model.adopt(compile_config(more))
    same(model)
    assert np.abs(model.scorer.derived.theta[4, 1:]).max() > 0
    two = {"click": {}, "sale": {"range": [0, 10]}}
    kinds = revise(more, parse_document(document(5, prior="pooled", rewards=two)), learned=True, reset=False)
    model.adopt(compile_config(kinds))
    same(model)
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(2)]
    fewer = parse_document(document(5, prior="pooled", rewards=two, features=features))
    model.adopt(compile_config(revise(kinds, fewer, learned=True, reset=False)))
    assert model.scorer.common is None
    fresh(model)
    same(model)
    apart = revise(
        model.experiment.config, parse_document(document(5, rewards=two, features=features)), learned=True, reset=False
    )
    model.adopt(compile_config(apart))
    assert fresh(model).scorer.common is None
    assert model.scorer.derived.cold[4]


def test_what_was_learned_is_decided_with_before_a_catalogue_is_factored_again() -> None:
    """Arms that learned something go before those that are only to be read otherwise."""
    model = Model(experiment(60, prior="pooled"))
    model.learn(events(1, 600, K=60))
    while len(model.waiting.learned) or not model.waiting.stale:
        model.refresh(5)
    assert model.scorer.common
    model.learn(events(2, 1, K=60))
    (arm,) = model.waiting.learned
    assert model.waiting.first(2)[0] == (arm, True)
    assert arm not in model.waiting.stale
    assert len(model.waiting) < 61


def test_where_contexts_say_nothing_lambda_stays() -> None:
    """All features 0: every lambda explains the rewards as well, and rounding chooses none."""
    model = Model(experiment())
    for i in range(12):
        some = events(i, 40)
        some.x[:, 1:] = 0
        model.learn(some)
        fresh(model)
        assert model.scorer.chosen == 1.0


def test_pooled_arms_that_were_never_shown_go_as_one_by_thompson() -> None:
    """Their probabilities are those of all arms, each by itself; also while half of them are still read otherwise."""
    model = Model(experiment(40, prior="pooled", policy={"type": "thompson", "explore": 0}))
    model.learn(events(1, 600, K=10, strength=1.0))
    fresh(model)
    assert model.scorer.derived.alike.sum() == 30
    for turns in (0, 2):
        if turns:
            model.learn(events(2, 600, K=10, strength=1.0))
            while not model.waiting.stale:
                model.refresh(8)
            model.refresh(8)
            assert 0 < model.scorer.derived.alike.sum() < 30
        x = events(3, 5).x
        estimates_ = model.scorer.estimate(x, np.ones((1, 40), bool))
        expected = largest(estimates_.mean, 0.5 * estimates_.spread)
        np.testing.assert_allclose(model.probabilities(x, np.ones((1, 40), bool)), expected, atol=1e-11)
