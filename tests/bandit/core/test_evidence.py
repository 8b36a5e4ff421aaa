"""Looking for lambda while a model learns: by the oracle, a few arms at a time, and seldom."""

from typing import Any

import numpy as np
import pytest
from msgspec.json import encode

from bandit.core.engine import Model
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first, revise
from bandit.core.ridge import evidence
from bandit.core.ridge.linear import GRID, best_lambda, real
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


def oracle(model: Model) -> float:
    """The lambda of the readable formulae."""
    ridge = model.experiment.ridge
    return best_lambda([real(model.sums, a, ridge.units) for a in range(len(model.sums.n))], ridge)


@pytest.mark.parametrize(("strength", "more"), [(0.0, True), (4.0, False)])
def test_a_model_has_the_lambda_of_the_readable_formulae(strength: float, more: bool) -> None:
    """Contexts that say nothing get a large one, contexts that say all a small one; its factors are of that lambda."""
    model = Model(experiment())
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
    assert len(model.pending) == 4


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
