"""The model: learning, refreshing, changing live and deciding, against models made from scratch and brute force."""

import json
import math
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bandit.core.engine import CHUNK, Decided, Model, Outdated
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first, revise
from bandit.core.ridge.linear import Ridge, best_lambda, estimates, real, upper, width
from bandit.core.sums import LIMIT, ONE, Events, Sums, increments
from bandit.core.validation import parse_document

SEEDS = st.integers(0, 2**32 - 1)
CLICK = {"click": {}}
TWO = {"click": {}, "sale": {"weight": 0.1, "range": [0, 10]}}


def text(K: int = 4, q: int = 3, **changes: Any) -> bytes:
    """A document of K arms and q numbers."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(q)]
    arms = [f"a{i}" for i in range(K)]
    return json.dumps({"features": features, "arms": arms, "rewards": CLICK, **changes}).encode()


def experiment(K: int = 4, q: int = 3, **changes: Any) -> Experiment:
    """An experiment of K arms and q numbers."""
    return compile_config(first("e", parse_document(text(K, q, **changes))))


def after(before: Experiment, *, learned: bool = True, **changes: Any) -> Experiment:
    """The next version of an experiment."""
    config = revise(before.config, parse_document(text(**changes)), learned=learned, reset=False)
    return compile_config(config)


def contexts(seed: int, n: int, d: int = 4) -> np.ndarray:
    """Contexts of d columns on the grid."""
    x = np.random.default_rng(seed).normal(size=(n, d)) * ONE
    x[:, 0] = ONE
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


def events(seed: int, n: int, K: int = 4, d: int = 4, m: int = 1, *, shown: int = 1) -> Events:
    """n impressions with their rewards, or with shown 0 a change of so many rewards."""
    rng = np.random.default_rng(seed)
    new = rng.integers(0, 2, (n, m)) * 1_000_000
    arm, x = rng.integers(0, K, n), contexts(seed, n, d)
    old = np.zeros((n, m), np.int64) if shown else 1_000_000 - new
    return Events(arm, x, np.full(n, shown), old, new)


def fresh(model: Model) -> Model:
    """The same model with nothing left to refresh."""
    while model.refresh():
        pass
    return model


def trained(e: Experiment, *batches: Events) -> Model:
    """A model that has learned these batches, all refreshed."""
    model = Model(e)
    for batch in batches:
        model.learn(batch)
    return fresh(model)


def decide(model: Model, x: np.ndarray, k: int = 1, seed: int = 0) -> Decided:
    """One decision for each context, among the experiment's active arms."""
    u = np.random.default_rng(seed).random(len(x))
    return model.decide(model.experiment, x, model.experiment.active[None], [k] * len(x), u)


def assert_same(found: Model, expected: Model, x: np.ndarray, rtol: float = 1e-9) -> None:
    """Both models have equal sums, decide alike and tell the same of it."""
    assert found.sums.digest() == expected.sums.digest()
    assert found.scorer.v == expected.scorer.v
    one, other = decide(found, x), decide(expected, x)
    assert [choice.arms for choice in one.choices] == [choice.arms for choice in other.choices]
    assert (one.probabilities == other.probabilities).all()
    for ours, theirs in zip(one.shown, other.shown, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-12)


# learning and refreshing


@given(SEEDS, st.lists(st.integers(0, 80), max_size=4), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_how_learning_and_refreshing_are_interleaved_does_not_matter(seed: int, cuts: list[int], limit: int) -> None:
    """Any order, any batches, refreshed now and then a few arms at a time: the model of everything at once."""
    e, all_ = experiment(), events(seed, 80)
    order = np.random.default_rng(seed).permutation(80)
    model = Model(e)
    for part in np.split(order, sorted(cuts)):
        model.learn(all_[part])
        model.refresh(limit)
    assert_same(fresh(model), trained(e, all_), contexts(seed, 9))


@pytest.mark.parametrize("size", [0.1, 3.0])
def test_a_model_made_of_sums_is_the_model_that_learned_them(size: float) -> None:
    """What a checkpoint holds is all there is to know; the scale of the features is found again too."""
    e, batch = experiment(), events(3, 200)
    batch.x[:, 1:] = np.rint(batch.x[:, 1:] * size)
    model = trained(e, batch)
    assert (model.scorer.v > 1) == (size > 1)
    assert_same(fresh(Model(e, model.sums)), model, contexts(1, 20))


@pytest.mark.parametrize("alpha", [0.7, "auto"])
def test_estimates_are_told_as_the_readable_formulae_have_them(alpha: float | str) -> None:
    """Score, each kind's mean and the width of every arm shown are those of `linear`, and so is the choice."""
    e = experiment(rewards=TWO, policy={"alpha": alpha, "explore": 0.1})
    model, x = trained(e, events(5, 150, m=2)), contexts(6, 30)
    arms = [real(model.sums, a, e.ridge.units) for a in range(4)]
    plain = estimates(arms, e.ridge)
    decided = decide(model, x)
    for i, (choice, vector) in enumerate(zip(decided.choices, x / ONE, strict=True)):
        scores = [upper(p, vector, alpha) for p in plain]
        arm = choice.arms[0]
        assert decided.shown.score[i] == pytest.approx(scores[arm], rel=1e-9)
        assert decided.shown.width[i] == pytest.approx(width(vector, plain[arm].G), rel=1e-9)
        for k in range(2):
            only = estimates(arms, Ridge(np.eye(2)[k], e.ridge.units, None), lam=best_lambda(arms, e.ridge))[arm].theta
            assert decided.shown.means[i, k] == pytest.approx(vector @ only, rel=1e-9)
        np.testing.assert_allclose(decided.probabilities[i], np.eye(4)[np.argmax(scores)] * 0.9 + 0.025, rtol=1e-12)
        assert choice.propensities == choice.marginals == (decided.probabilities[i, arm],)


def plain_event(arm: int, shown: int) -> Events:
    """An event without context, so that the scale of the features stays 1."""
    x, one = np.array([[ONE, 0, 0, 0]], np.int16), np.array([[1_000_000]])
    return Events(np.array([arm]), x, np.array([shown]), 0 * one, one)


def test_feedback_needs_no_factor_and_impressions_do() -> None:
    """Which arms wait, and for what, oldest first; one that waits for a factor is not made to wait for less."""
    model = Model(experiment())
    assert not model.waiting.learned
    for arm, shown in ((1, 0), (0, 1), (2, 0), (0, 0), (1, 1)):
        assert model.learn(plain_event(arm, shown)).tolist() == [arm]
    assert list(model.waiting.learned.items()) == [(1, True), (0, True), (2, False)]
    assert model.refresh(1)
    assert list(model.waiting.learned.items()) == [(0, True), (2, False)]
    assert model.refresh()
    assert not model.refresh()


@pytest.mark.parametrize("changes", [{}, {"prior": "pooled"}, {"policy": {"type": "linucb", "alpha": 1}}])
def test_there_may_be_no_arms_yet(changes: dict[str, Any]) -> None:
    """A model of none is made, and arms that come are decided among."""
    none = experiment(K=0, **changes)
    model = fresh(Model(none))
    model.adopt(after(none, K=3, **changes))
    assert_same(model, fresh(Model(model.experiment)), contexts(8, 25))


def test_the_arms_that_waited_longest_are_refreshed_first() -> None:
    """70 arms, at most `CHUNK` at a time, in the order in which they changed."""
    model = Model(experiment(K=70))
    order = np.random.default_rng(1).permutation(70).tolist()
    for arm in order:
        model.learn(plain_event(arm, 1))
    assert list(model.waiting.learned) == order
    model.refresh()
    assert list(model.waiting.learned) == order[CHUNK:]


def test_a_step_of_the_feature_scale_renews_every_arm() -> None:
    """One context of squared norm 27 makes v 32, the nearest power of root 2: every arm, seen or not, waits for it.

    The width of an unseen arm goes from sqrt(1 + 27) to sqrt(1 + 27 / 32).
    """
    model = Model(experiment(K=3))
    x, mask = np.array([[ONE, 3 * ONE, 3 * ONE, 3 * ONE]], np.int16), np.array([[True, False, False]])
    width_of_unseen = [model.decide(model.experiment, x, mask, [1], np.array([0.5])).shown.width[0]]
    event = plain_event(1, 1)
    model.learn(Events(event.arm, x, event.shown, event.old, event.new))
    assert model.scorer.v == pytest.approx(32, rel=1e-15)
    assert (model.waiting.learned, list(model.waiting.stale)) == ({1: True}, [0, 2])
    fresh(model)
    width_of_unseen.append(model.decide(model.experiment, x, mask, [1], np.array([0.5])).shown.width[0])
    assert width_of_unseen == pytest.approx([math.sqrt(28), math.sqrt(1 + 27 / 32)], rel=1e-12)


def test_a_sum_that_would_overflow_is_not_learned() -> None:
    """The model goes on as it was: sums, feature scale and what waits."""
    e = experiment()
    full = trained(e, events(1, 50)).sums
    full.A[2, 0, 0] = LIMIT
    model = fresh(Model(e, full))
    before, v = model.sums.digest(), model.scorer.v
    with pytest.raises(OverflowError):
        model.learn(events(2, 40))
    assert (model.sums.digest(), model.scorer.v, model.waiting.learned) == (before, v, {})


# changes, live


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards": {"click": {"weight": -2}}},
        {"lambda": 0.01},
        {"prior": "pooled"},
        {"noise": 0.3},
        {"policy": {"alpha": 3, "explore": 0.5}},
        {"K": 6},
        {"rewards": TWO},
        {"K": 5, "rewards": {**TWO, "view": {}}, "lambda": 5, "noise": 0.1, "policy": {"alpha": 0.2}},
        {"arms": ["a3", "a1", "new"]},
        {"arms": ["a0", {"id": "a2", "status": "paused"}]},
    ],
    ids=["weight", "lambda", "prior", "noise", "policy", "arms", "kinds", "everything", "retired", "paused"],
)
def test_every_live_change_is_as_if_it_had_always_been_so(changes: dict[str, Any]) -> None:
    """The model is then the one made of the same sums under the new version; arms keep what they learned."""
    e = experiment()
    model, x = trained(e, events(7, 120)), contexts(8, 25)
    sums = model.sums
    later = after(e, **changes)
    model.adopt(later)
    K, m, _ = later.shape
    assert model.sums.digest() == sums.grown(K, m).digest()
    assert_same(fresh(model), fresh(Model(later, sums.grown(K, m))), x)


@pytest.mark.parametrize(
    "changes", [{"rewards": {"click": {"weight": -2}}}, {"noise": 0.3}, {"K": 6}, {"rewards": TWO}]
)
def test_what_needs_no_factor_is_live_at_once(changes: dict[str, Any]) -> None:
    """New weights, noise, arms and kinds are decided with before anything is refreshed."""
    e = experiment()
    model = trained(e, events(7, 120))
    later = after(e, **changes)
    model.adopt(later)
    assert not model.waiting.learned
    assert_same(model, fresh(Model(later, model.sums)), contexts(8, 25))


def test_learning_goes_on_after_a_change() -> None:
    """An arm and a kind are added between two batches: the model of all events under the new version."""
    e = experiment()
    later = after(e, K=5, rewards=TWO)
    early, late = events(1, 60), events(2, 60, K=5, m=2)
    model = trained(e, early)
    model.adopt(later)
    model.learn(late)
    wide = Events(
        early.arm, early.x, early.shown, np.pad(early.old, ((0, 0), (0, 1))), np.pad(early.new, ((0, 0), (0, 1)))
    )
    assert_same(fresh(model), trained(later, wide, late), contexts(3, 20))


@pytest.mark.parametrize("rewards", [CLICK, {"sale": TWO["sale"]}, {"view": {}, "sale": TWO["sale"], "click": {}}])
def test_kinds_may_go_before_anything_is_learned(rewards: dict[str, Any]) -> None:
    """Fewer, other or reordered kinds of a model that has seen nothing: a new model of the new version."""
    e = experiment(rewards=TWO)
    later = after(e, learned=False, rewards=rewards, K=5)
    model = Model(e)
    model.adopt(later)
    batch = events(1, 50, m=len(rewards))
    model.learn(batch)
    assert_same(fresh(model), trained(later, batch), contexts(2, 10))


def test_a_version_that_is_no_longer_in_force_is_not_decided_for() -> None:
    """The requests were made for the old version's arms and features: they are to be read again."""
    e = experiment()
    model = Model(e)
    model.adopt(after(e, K=5))
    with pytest.raises(Outdated):
        model.decide(e, contexts(1, 1), e.active[None], [1], np.array([0.5]))


# retired arms


def exactly(found: Model, x: np.ndarray) -> None:
    """It is, to the last digit, the model of the same sums in which every arm is scored.

    But for the score that is told: BLAS adds up x'theta in an order that depends on how many columns there are.
    """
    e, u = found.experiment, np.random.default_rng(4).random(len(x))
    every = fresh(Model(e, found.sums, also=np.ones(e.shape[0], bool)))
    assert every.scorer.scored.tolist() == list(range(e.shape[0]))
    ours, theirs = found.scorer.derived, every.scorer.derived
    assert (ours.mu, ours.pool, found.scorer.v) == (theirs.mu, theirs.pool, every.scorer.v)
    assert (ours.mu_kinds == theirs.mu_kinds).all()
    assert (ours.sigma == theirs.sigma[found.scorer.scored]).all()
    for mine, all_ in zip(found.scorer.rows.moments, every.scorer.rows.moments, strict=True):
        assert (mine == all_).all()
    if not e.active.any():
        return
    k = [1 + i % int(e.active.sum()) for i in range(len(x))]
    one, other = (model.decide(e, x, e.active[None], k, u) for model in (found, every))
    assert one.choices == other.choices
    assert one.probabilities.shape == (len(x), e.shape[0])
    assert (one.probabilities == other.probabilities).all()
    assert (one.shown.means == other.shown.means).all()
    assert (one.shown.width == other.shown.width).all()
    np.testing.assert_allclose(one.shown.score, other.shown.score, rtol=1e-13, atol=1e-13)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.integers(1, 40), st.integers(0, 1)),
        st.tuples(st.just("refresh"), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("arms"), st.integers(0, 2**8 - 1), st.integers(0, 2**8 - 1)),
    ),
    max_size=12,
)


@given(SEEDS, STEPS)
@example(seed=0, steps=[("learn", 8, 1), ("arms", 1, 0)])
@settings(max_examples=60, deadline=None)
def test_retired_arms_are_left_out_of_scoring_and_nothing_else_changes(
    seed: int, steps: list[tuple[str, int, int]]
) -> None:
    """Arms go, pause, come back and get late events in any order: mu, the noise, scores and draws are those of all."""
    kept = {"lambda": 1, "rewards": TWO}  # by evidence, lambda would also depend on when it was looked for
    model = Model(experiment(K=8, **kept))
    for i, (what, one, other) in enumerate(steps):
        if what == "learn":
            some = events(seed + i, one, K=8, m=2, shown=other)
            model.learn(some if other else some[model.sums.n[some.arm] > 0])  # feedback follows an impression
        elif what == "refresh":
            model.refresh(one)
        else:
            named = [a for a in range(8) if one >> a & 1]
            arms = [{"id": f"a{a}", "status": "paused" if other >> a & 1 else "active"} for a in named]
            model.adopt(after(model.experiment, K=8, arms=arms, **kept))
            assert model.scorer.scored.tolist() == named
    exactly(fresh(model), contexts(seed, 6))


@pytest.mark.parametrize("rewards", [CLICK, TWO])
def test_an_arm_that_comes_back_is_scored_by_what_it_learned_at_once(rewards: dict[str, Any]) -> None:
    """Before anything is refreshed, with what came while it was away, also where a kind comes at the same time.

    To the last digits but one: of more kinds, BLAS adds products up in another order.
    """
    e = experiment(K=5)
    model = trained(e, events(1, 90))
    model.adopt(after(e, arms=["a2"]))
    model.learn(events(2, 60))
    model.adopt(after(model.experiment, arms=["a1", "a2", "a4"], rewards=rewards))
    expected = fresh(Model(model.experiment, model.sums.copy()))
    where = model.scorer.scored.tolist().index(1)
    for ours, theirs in zip(model.scorer.rows.factors, expected.scorer.rows.factors, strict=True):
        np.testing.assert_allclose(ours[where], theirs[where], rtol=1e-12, atol=1e-14)
    assert_same(fresh(model), expected, contexts(3, 20))


def test_arms_that_were_retired_cost_no_matrices() -> None:
    """20 arms replaced 20 times: beside the sums, a d of 41 makes 17 kB an arm that can be shown, and of no other."""
    arms = [[f"r{r}-{i}" for i in range(20)] for r in range(20)]
    model = Model(experiment(q=40, arms=arms[0]))
    tracemalloc.start()
    for named in arms[1:]:
        model.adopt(after(model.experiment, q=40, arms=named))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sums = sum(part.nbytes for part in (model.sums.A, model.sums.B, model.sums.R, model.sums.n))
    assert kept - sums < 2e6  # 7 MB with a factor of each


# deciding


@given(SEEDS, st.integers(0, 200), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_decisions_together_are_those_alone(seed: int, n: int, N: int) -> None:
    """N at once draw the arms, with the probabilities, that each would draw alone: float32 leaves no trace."""
    model = trained(experiment(), events(seed, n))
    x, u = contexts(seed + 1, N), np.random.default_rng(seed).random(N)
    active, e = model.experiment.active[None], model.experiment
    together = model.decide(e, x, active, [1] * N, u)
    for i in range(N):
        alone = model.decide(e, x[[i]], active, [1], u[[i]])
        assert alone.choices == [together.choices[i]]
        assert (alone.probabilities[0] == together.probabilities[i]).all()


def test_the_number_drawn_with_decides() -> None:
    """Over 4,000 even steps of u each arm comes as often as its probability, to a step; the same u, the same arm."""
    model = trained(experiment(policy={"explore": 0.3}), events(1, 80))
    x = np.repeat(contexts(2, 1), 4000, axis=0)
    u, e = np.arange(4000) / 4000, model.experiment
    decided, again = (model.decide(e, x, e.active[None], [1] * 4000, u) for _ in range(2))
    assert decided.choices == again.choices
    counts = np.bincount([choice.arms[0] for choice in decided.choices], minlength=4)
    assert (np.abs(counts - 4000 * decided.probabilities[0]) <= 1 + 1e-9).all()


def test_lists_and_single_arms_are_decided_together() -> None:
    """Rows of k 1, 3 and 4: so many arms each, the first place with the probabilities of the policy."""
    model = trained(experiment(policy={"explore": 0.25}), events(4, 100))
    x, e = contexts(5, 40), model.experiment
    k = [1, 3, 4, 2] * 10
    u = np.random.default_rng(3).random(40)
    decided = model.decide(e, x, e.active[None], k, u)
    assert [len(choice.arms) for choice in decided.choices] == k
    assert len(decided.shown.score) == sum(k)
    for choice, p in zip(decided.choices, decided.probabilities, strict=True):
        assert choice.propensities[0] == pytest.approx(p[choice.arms[0]], rel=1e-12)
        assert choice.marginals[0] == pytest.approx(p[choice.arms[0]], rel=1e-12)
        assert len(set(choice.arms)) == len(choice.arms)


def test_each_request_has_its_own_eligible_arms() -> None:
    """With a mask a row, lists too stay among their row's arms; K arms for a list of K are all of them."""
    model = trained(experiment(K=6), events(4, 100, K=6))
    rng = np.random.default_rng(2)
    eligible = np.ones((60, 6), bool)
    for row in eligible:
        row[rng.permutation(6)[: rng.integers(0, 5)]] = False
    k = [int(rng.integers(1, row.sum() + 1)) for row in eligible]
    decided = model.decide(model.experiment, contexts(5, 60), eligible, k, rng.random(60))
    for choice, row, size in zip(decided.choices, eligible, k, strict=True):
        assert row[list(choice.arms)].all()
        assert len(set(choice.arms)) == size


def test_the_arms_of_a_list_are_in_the_order_of_their_scores() -> None:
    """Without exploring, the list is the arms by falling upper confidence bound, and says so."""
    model = trained(experiment(K=8, policy={"explore": 0}), events(9, 200, K=8))
    decided = decide(model, contexts(1, 20), k=8)
    for score in decided.shown.score.reshape(20, 8):
        assert (np.diff(score) < 0).all()
    assert all(choice.propensities == (1.0,) * 8 for choice in decided.choices)


def test_an_experiment_without_events_draws_evenly() -> None:
    """Nothing is known, so every arm is tied."""
    decided = decide(Model(experiment(K=5)), contexts(1, 50))
    np.testing.assert_allclose(decided.probabilities, 0.2, rtol=1e-12)


def test_models_do_not_share_their_sums() -> None:
    """A model given no sums makes its own, and learning in one leaves another alone."""
    e = experiment()
    one, other = Model(e), Model(e)
    one.learn(events(1, 20))
    assert other.sums.digest() == Sums.zeros(4, 1, 4).digest()


def lived(kind: dict[str, Any], rewards: list[tuple[float, float]]) -> Model:
    """A model of one kind of reward that saw decisions whose reward changed from the first to the second number."""
    model = Model(experiment(rewards={"sale": kind}))
    credit = [[model.experiment.kinds[0].credit(value) for value in pair] for pair in rewards]
    old, new = np.array(credit, np.int64).reshape(-1, 2, 1).swapaxes(0, 1)
    arm, x, one = np.arange(len(old)) % 4, contexts(0, len(old)), np.ones(len(old), np.int64)
    model.learn(Events(arm, x, one, 0 * old, old))
    model.learn(Events(arm, x, 0 * one, old, new))
    return model


@pytest.mark.parametrize(
    ("kind", "rewards", "sizes"),
    [
        ({"range": [0, 10_000]}, [(0, 20), (0, 0), (0, 0)], [20]),
        ({"range": [-10_000, 0]}, [(0, -20), (0, -20)], [20]),
        ({"range": [-10_000, 10_000]}, [(0, 20), (0, -20)], [20]),
        ({"range": [0, 2000]}, [(0, 20), (0, 0)], []),
        ({"range": [0, 10_000]}, [(0, 20), (0, 9000)], []),
        ({"range": [0, 10_000]}, [(0, 0)] * 9, []),
        ({"range": [0, 10_000]}, [], []),
        ({"range": [-1, 10_000], "default": -1}, [(-1, -1)] * 9, []),
        ({"range": [-1, 10_000], "default": -1}, [(-1, 20), *[(-1, -1)] * 9], [21]),
        ({"range": [-1, 10_000], "default": -1}, [(-1, 5000), *[(-1, -1)] * 9999], []),
        ({"range": [0, 1_000_000], "default": 500_000}, [(5e5, 5e5 + 50), *[(5e5, 5e5)] * 99], [50]),
        ({"range": [0, 1e6], "unit": 0.125}, [(0, 0.125)], [0.125]),
    ],
)
def test_a_range_is_told_of_only_by_rewards_that_came(
    kind: dict[str, Any], rewards: list[tuple[float, float]], sizes: list[float]
) -> None:
    """The mean size of what differs from the default, exactly: no reward, or one of a hundredth of the range, is none.

    Rewards of both signs do not cancel where they are of different arms, as here.
    """
    found = lived(kind, rewards).loose_ranges()
    assert [each.size for each in found] == pytest.approx(sizes, rel=1e-12)
    assert [(each.kind, each.low, each.high) for each in found] == [("sale", *kind["range"])] * len(sizes)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_model_whose_columns_come_and_go_is_one_made_of_its_sums(seed: int) -> None:
    """At once: nothing waits to be refreshed. What went is as if it had never been, what came has seen nothing."""
    before = experiment(4, 3, **{"lambda": 1})
    model = Model(before, also=None)
    model.learn(some := events(seed, 60))
    f = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(3)]
    more = [f[0], f[2], {"name": "shop", "type": "category", "levels": ["x"]}]
    model.adopt(after(before, features=more, arms=[f"a{i}" for i in range(5)], **{"lambda": 1}))
    assert model.sums.shape == (5, 1, 5)
    x = np.column_stack([some.x[:, [0, 1, 3]], np.zeros((60, 2), np.int16)]).astype(np.int16)
    again = Model(model.experiment)
    again.learn(Events(some.arm, x, some.shown, some.old, some.new))
    while again.refresh():
        pass
    assert model.sums.digest() == again.sums.digest()
    ask = contexts(seed + 1, 9, 5)
    one, other = (each.scorer.estimate(ask, each.experiment.active[None]) for each in (model, again))
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9, atol=1e-12)
    row, arms = np.repeat(np.arange(9), 5), np.tile(np.arange(5), 9)
    np.testing.assert_allclose(one.width(row, arms), other.width(row, arms), rtol=1e-9)
    model.learn(events(seed, 20, K=5, d=5))
    while model.refresh():
        pass


def test_decisions_do_not_wait_for_a_model_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while its arrays are copied, nor while somebody else holds the sums."""
    before = experiment(3)
    model, grown, made = Model(before), Sums.grown, []

    def decides() -> None:
        made.append(model.decide(before, contexts(0, 1), before.active[None], [1], np.array([0.5])))

    def while_decided(sums: Sums, K: int, m: int) -> Sums:
        decides()
        return grown(sums, K, m)

    monkeypatch.setattr(Sums, "grown", while_decided)
    adopting = threading.Thread(target=model.adopt, args=(after(before, K=4),), daemon=True)
    with model.learning:
        adopting.start()
        adopting.join(0.3)
        assert len(made) == 1
        decides()
    adopting.join(10)
    assert not adopting.is_alive()
    assert model.experiment.shape[0] == 4


@pytest.mark.parametrize(("prior", "most"), [("mean", 64e6), ("pooled", 96e6)])
def test_learning_and_refreshing_take_little_memory_beside_a_large_model(prior: str, most: float) -> None:
    """20 arms of 600 columns are 57 MB of sums; 40 events of all of them took as much again for each matrix. What arms
    have in common takes a matrix for each lambda while it is looked for.
    """
    model = Model(experiment(20, 599, prior=prior))
    some = events(0, 40, K=20, d=600)
    tracemalloc.start()
    model.learn(some)
    while model.refresh():
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most
    whole = Model(experiment(20, 599))
    arms, increment = increments(some)
    whole.sums.add(arms, increment)
    assert whole.sums.digest() == model.sums.digest()


@pytest.mark.parametrize("weight", [0.0, 1e-300, -1e-200, 1e-9, 1e50])
@pytest.mark.parametrize("ends", [[0.0, 1e-9], [-1.0, 1e12], [-1e50, 1e50], [1.0, 1e9]])
@pytest.mark.parametrize("q", [0, 1])
def test_no_weight_and_no_range_is_too_small_or_too_large(weight: float, ends: list[float], q: int) -> None:
    """Squares of what a document allows may vanish; nothing overflows, is divided by 0, or makes a score no number."""
    e = experiment(2, q, rewards={"r": {"weight": weight, "range": ends, "default": ends[0]}})
    rng, kind = np.random.default_rng(1), e.kinds[0]
    new = np.array([[kind.credit(ends[i])] for i in rng.integers(0, 2, 60)])
    x = contexts(2, 60, 1 + q)
    model = trained(e, Events(rng.integers(0, 2, 60), x, np.ones(60, np.int64), np.zeros_like(new), new))
    decided = decide(model, x[:4])
    assert np.isfinite(decided.shown.score).all()
    assert np.isfinite(decided.probabilities).all()
