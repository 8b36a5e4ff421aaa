"""The evaluation of a live server: against the export read by the simulator, and against truths that are known."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import redis
from live import Experiment, Live, ok, pointers, problem, serving, valkey
from logs import Array
from trial import ONE, Trial

import bandit.serving.evaluation
from bandit.core.engine import Model
from bandit.errors import Code, Problem
from bandit.log.events import read_events
from bandit.replica.recent import Window, recent
from bandit.replica.replica import Replica
from bandit.serving.evaluation import Asked, Evaluator
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from simulator import live as on
from simulator.live import evaluated
from simulator.logs.loaders import load
from simulator.ope.differences import Data, lift
from simulator.ope.evaluate import evaluate
from simulator.policies.targets import target

RATE = np.array([[0.1, 0.5], [0.2, 0.2], [0.6, 0.1]])  # of a click, by arm and country
VISITORS = 1500


class Traffic(NamedTuple):
    """What was sent to an experiment."""

    url: str
    one: Experiment
    reward: Array
    uniform: Array  # the even choice's expected reward


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Live]]:
    """One server for all tests here."""
    with valkey() as url, serving(url) as live:
        yield url, live


@pytest.fixture(scope="module")
def traffic(server: tuple[str, Live]) -> Traffic:
    """Visitors of two countries, with clicks and a few sales of either sign, batch by batch."""
    rng = np.random.default_rng(0)
    kinds = {"click": {}, "sale": {"range": [-100, 100], "weight": 0.05, "default": -1}}
    one = server[1].experiment(policy={"type": "linucb", "alpha": 1.0, "explore": 0.3}, rewards=kinds)
    earned, uniform, clicks = [], [], 0
    for _ in range(VISITORS // 100):
        countries = rng.integers(2, size=100)
        asked = [{"context": {"age": 40, "country": ("cn", "us")[c]}} for c in countries]
        answers = ok(one.post("recommendations/batch", {"requests": asked}))["results"]
        arms = np.array(["abc".index(each["arms"][0]["arm"]) for each in answers])
        clicked, sold = rng.random(100) < RATE[arms, countries], rng.random(100) < 0.05
        events = [
            {"decision_id": each["decision_id"], "event": kind, "value": value, "event_id": "one"}
            for each, click, sale in zip(answers, clicked, sold, strict=True)
            for kind, value, there in (("click", 1, click), ("sale", 20, sale))
            if there
        ]
        assert all("problem" not in each for each in ok(one.post("feedback/batch", {"requests": events}))["results"])
        clicks += int(clicked.sum())
        one.until_seen(lambda seen, all_=clicks: sum(row["rewards"]["click"]["sum"] for row in seen.values()) == all_)
        time.sleep(0.05)  # a sum that is seen is scored a moment later
        earned.append(clicked + 0.05 * np.where(sold, 20, -1))
        uniform.append(RATE[:, countries].mean(axis=0) + 0.05 * (0.05 * 20 - 0.95))
    return Traffic(server[0], one, np.concatenate(earned), np.concatenate(uniform))


def evaluation(one: Experiment, **parameters: Any) -> dict[str, Any]:
    """An evaluation that succeeds."""
    found: dict[str, Any] = ok(one.client.get(f"{one.at}/evaluation", params=parameters))
    return found


def test_a_slice_is_worth_what_it_earned(traffic: Traffic) -> None:
    """The mean reward, to the last digit but rounding, with a sequence around it."""
    found = evaluation(traffic.one)
    (part,) = found["slices"]
    assert (found["decisions"], found["cut"], found["waiting"], found["targets"]) == (VISITORS, False, 0, [])
    assert (part["slice"], part["n"]) == (0, VISITORS)
    assert part["value"] == pytest.approx(traffic.reward.mean(), rel=1e-12)
    assert -10 < part["low"] < part["value"] < part["high"] < 10  # the range is -5 to 6


def test_targets_are_worth_what_the_simulator_says_of_the_export(traffic: Traffic) -> None:
    """Value, effective n and weights by the other way through the log; truth and value within the ends."""
    names = ["uniform", "fixed:a", "fixed:c"]
    found = evaluation(traffic.one, target=names)["targets"]
    log = load(None, "server", experiment=traffic.one.name, redis_url=traffic.url)
    assert [each["target"] for each in found] == names
    for each in found:
        pi = target(log, each["target"])
        (row,) = evaluate(log, pi, estimators=["dr"], looks="any")
        assert [each[end] for end in ("value", "low", "high")] == pytest.approx(
            [row.value, row.low, row.high], rel=1e-9
        )
        more = lift(Data.of(log, {}), pi, 0.05, looks="any")
        found_lift = [each[end] for end in ("lift", "lift_low", "lift_high")]
        assert found_lift == pytest.approx([more.value, more.low, more.high], rel=1e-9)
        assert each["lift"] == pytest.approx(row.value - traffic.reward.mean(), abs=0.02)  # less what mu by DR is
        assert each["n_eff"] == pytest.approx(row.n_eff, rel=1e-9)
        assert (each["max_weight"], each["mean_weight"]) == pytest.approx((row.max_weight, row.mean_weight), rel=1e-9)
        assert (each["verdict"], each["n"]) == ("sequence", VISITORS)
        assert each["low"] < each["value"] < each["high"]
        assert each["lift_low"] < each["lift"] < each["lift_high"]
    assert found[0]["low"] < traffic.uniform.mean() < found[0]["high"]


def test_a_policy_is_valued_as_learned_by_the_middle_on_what_came_after(traffic: Traffic) -> None:
    """The experiment's own policy, frozen, mostly does what went on to be done; one that only explores is uniform."""
    own, even = evaluation(traffic.one, target=["linucb:explore=0.3", "linucb:explore=1"])["targets"]
    assert own["verdict"] == even["verdict"] == "sequence"
    assert own["n"] == even["n"] == VISITORS // 2
    assert own["n_eff"] > 0.7 * VISITORS / 2
    assert own["lift_low"] <= 0 <= own["lift_high"]
    half = traffic.uniform[VISITORS // 2 :].mean()
    assert even["low"] < half < even["high"]


def test_the_window_can_be_pinned_and_cut(traffic: Traffic) -> None:
    """From the first decision's time on it is the same; 100 rows are the newest; too young or too late is nothing."""
    one = traffic.one
    whole = evaluation(one, target="uniform")
    assert evaluation(one, target="uniform", since=whole["first"]) == whole
    assert evaluation(one, target="uniform", since="1h") == whole
    newest = evaluation(one, rows=100)
    assert (newest["decisions"], newest["cut"], newest["last"]) == (100, True, whole["last"])
    assert newest["slices"][0]["value"] == pytest.approx(traffic.reward[-100:].mean(), rel=1e-12)
    empty = {"decisions": 0, "first": None, "last": None, "cut": False, "waiting": 0, "lift": None}
    empty |= {"slices": [], "targets": [], "shadow": None}
    none = "no lift: there is no decision"
    old = f"{none} that is 3,600 seconds old (`matured`)"
    assert evaluation(one, target="uniform", min_age="1h") == {**empty, "matured": 3600.0, "note": old}
    assert evaluation(one, since="2100-01-01T00:00:00Z") == {**empty, "matured": None, "note": none}
    assert whole["matured"] is None  # nothing is older than the reward window
    assert evaluation(one, since="1970-01-01T00:00:00+00:00", min_age="0.001s")["decisions"] == VISITORS


WRONG: list[tuple[dict[str, Any], Code, str]] = [
    ({"target": "linucb:alpha=none"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "linucb:beta=1"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "linucb:lambda=-1"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "linucb:refresh=0"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "linucb:refresh=often"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "linocb"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "vw"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "/etc/hostname.json"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "policy.csv"}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": ""}, Code.INVALID_REQUEST, "/query/target"),
    ({"target": "fixed:d"}, Code.UNKNOWN_ARM, "/query/target"),
    ({"target": ["uniform"] * 9}, Code.INVALID_REQUEST, "/query/target"),
    ({"since": "yesterday"}, Code.INVALID_REQUEST, "/query/since"),
    ({"since": "2026-11-25T08:00:00"}, Code.INVALID_REQUEST, "/query/since"),
    ({"since": "1d\n"}, Code.INVALID_REQUEST, "/query/since"),
    ({"min_age": "5"}, Code.INVALID_REQUEST, "/query/min_age"),
    ({"slice": "learned"}, Code.INVALID_REQUEST, "/query/slice"),
    ({"baseline": "random"}, Code.INVALID_REQUEST, "/query/baseline"),
    ({"rows": 0}, Code.INVALID_REQUEST, "/query/rows"),
    ({"rows": 100_001}, Code.INVALID_REQUEST, "/query/rows"),
]


@pytest.mark.parametrize(("parameters", "code", "place"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_asked_is_refused(
    server: tuple[str, Live], parameters: dict[str, Any], code: Code, place: str
) -> None:
    """With the parameter's name, and no file of the server is opened; an experiment without a decision is no excuse."""
    one = server[1].experiment()
    assert pointers(one.client.get(f"{one.at}/evaluation", params=parameters), code) == [place]


@pytest.mark.parametrize(
    ("target", "expected", "got"),
    [
        ("linucb:alfa=1", "/policy/alfa: a field that is known; did you mean 'alpha'?", "an unknown field"),
        ("linucb:alpha=none", '/policy/alpha: "auto" or a number', "another value"),
    ],
)
def test_a_wrong_setting_of_a_target_is_told_as_in_a_document(
    server: tuple[str, Live], target: str, expected: str, got: str
) -> None:
    """With its place and the name that is near, in JSON's words."""
    one = server[1].experiment()
    refused = problem(one.client.get(f"{one.at}/evaluation", params={"target": target}), Code.INVALID_REQUEST)
    fault = {"pointer": "/query/target", "expected": f"settings of linucb, {expected}", "got": got}
    assert refused["errors"] == [fault]


def test_huge_durations_are_no_fault(server: tuple[str, Live]) -> None:
    """Longer than there has been time."""
    one = server[1].experiment()
    assert evaluation(one, since="9" * 400 + "d")["decisions"] == 0
    assert evaluation(one, min_age="9" * 400 + "d")["decisions"] == 0


def test_an_experiment_that_is_not_there_is_not_found(server: tuple[str, Live]) -> None:
    """As everywhere."""
    problem(server[1].client.get("/v1/experiments/nowhere/evaluation"), Code.EXPERIMENT_NOT_FOUND)


def test_a_log_without_exploration_evaluates_nothing_else(server: tuple[str, Live]) -> None:
    """Arms with probability 0 could be shown, and the even choice needs them: it is not taken for the log's."""
    one = server[1].experiment(policy={"type": "linucb", "explore": 0}, rewards={"click": {"default": 0.5}})
    first = [one.decided() for _ in range(3)]
    one.feedback(decision_id=first[0]["decision_id"], event="click", value=1)
    one.until_seen(lambda seen: sum(row["rewards"]["click"]["sum"] for row in seen.values()) > 1.5)
    requests = [{"context": {"age": 31, "country": "us"}}] * 200
    ok(one.post("recommendations/batch", {"requests": requests}))
    even, own = evaluation(one, target=["uniform", "linucb:explore=0.5"])["targets"]
    assert even["n"] < 10  # the first ones, when arms were tied
    assert "of decisions in which every arm that it plays could have been shown" in even["note"]
    assert (own["verdict"], own["n"], own["value"]) == ("refused", 0, None)
    assert "no common support" in own["note"]
    assert (own["low"], own["high"], own["lift_low"], own["lift_high"]) == (None, None, None, None)


def test_a_log_that_was_not_drawn_as_it_says_is_refused() -> None:
    """One arm in 400 decisions, of which each says that all four were as likely."""
    trial = Trial(MemoryStore(), "broken")
    trial.send(*(trial.decision(0) for _ in range(400)))
    (found,) = evaluated(trial.store, Asked("broken", ("uniform",), "", "0s", 1000)).targets
    assert (found.verdict, found.low) == ("refused", None)
    assert "arm 'a' in slice 0 drawn 400 times for 100 expected" in found.note


def test_decisions_whose_rewards_are_on_their_way_are_left_out(server: tuple[str, Live]) -> None:
    """Old decisions say that clicks take a third of a second: those of this moment, not clicked yet, do not count."""
    one = server[1].experiment(reward_window="1s")
    old = [one.decided() for _ in range(20)]
    time.sleep(0.3)
    ok(one.post("feedback/batch", {"requests": [{"decision_id": d["decision_id"], "event": "click"} for d in old]}))
    time.sleep(1)
    ok(one.post("recommendations/batch", {"requests": [{"context": {"age": 31, "country": "us"}}] * 40}))
    found = evaluation(one)
    assert (found["decisions"], found["slices"][0]["value"]) == (20, 1.0)
    assert 0.3 <= found["matured"] < 1
    everything = evaluation(one, min_age="0s")
    assert (everything["decisions"], everything["slices"][0]["value"]) == (60, pytest.approx(1 / 3))
    assert evaluation(one, since=everything["last"])["matured"] == found["matured"]  # older ones tell


# what a candidate knows


def test_a_candidate_is_what_was_known_in_the_middle_of_the_window() -> None:
    """The sums of now less the later entries are the sums of then, bit for bit."""
    rng = np.random.default_rng(0)
    trial = Trial(MemoryStore(), "known")
    refs = []
    for i in range(60):
        refs.append(trial.decide(int(rng.integers(4)), x=(ONE, int(rng.integers(-ONE, ONE)))))
        if i % 3 == 0:
            trial.feed(refs[int(rng.integers(max(0, i - 20), i + 1))], int(rng.integers(50)), event=str(i))
    log, experiment = trial.log(), trial.experiment
    _, m, d = experiment.shape

    def learned(entries: Any, model: Model) -> None:
        model.learn(read_events(entries, 1, experiment.defaults, m, d).events)

    now = Model(experiment)
    learned(log, now)
    rows = recent(trial.store, experiment, trial.store.end("known"), Window(0, 2**60, 25))
    (candidate,) = on.candidates(on.Source(experiment, now.sums, rows), ["linucb:alpha=2,explore=0.1"])
    changed = Trial(MemoryStore(), "other", policy={"type": "linucb", "alpha": 2.0, "explore": 0.1}).experiment
    model, half = Model(changed), slice(12, None)
    learned(log[: next(i for i, entry in enumerate(log) if entry.position == rows.at[12])], model)
    while model.refresh():
        pass
    P = changed.document.policy.probabilities(model.scorer.estimate(rows.x[half], rows.eligible[half]))
    w = P[np.arange(13), rows.arm[half]] / rows.propensity[half]
    assert candidate.n == 13
    assert candidate.mean_weight == pytest.approx(w.mean(), rel=1e-12)
    assert candidate.n_eff == pytest.approx(13**2 / (P**2 / rows.probability[half]).sum(), rel=1e-12)
    assert candidate.verdict == "sequence"


def test_arms_that_were_retired_since_are_played_where_they_could_be_shown() -> None:
    """A policy is valued on what could be shown then: retiring two of four arms afterwards changes nothing."""
    trial, rng = Trial(MemoryStore(), "retired"), np.random.default_rng(6)
    for i in range(60):
        ref = trial.decide(int(rng.integers(4)), x=(ONE, int(rng.integers(-ONE, ONE))))
        trial.feed(ref, int(rng.integers(50)), event=str(i))
    said = []
    for _ in range(2):
        replica = Replica("retired", trial.store)
        replica.load()
        replica.catch_up()
        assert replica.model is not None
        rows = recent(trial.store, trial.experiment, trial.store.end("retired"), Window(0, 2**60, 40))
        source = on.Source(trial.experiment, replica.model.sums, rows)
        said.append(on.candidates(source, ["linucb:alpha=2,explore=0.1"]))
        trial.change(arms=["b", "d"])
    assert said[0] == said[1]


def test_lambda_and_noise_are_the_experiments_unless_they_are_given() -> None:
    """A candidate differs in what it names, and in nothing else."""
    experiment = Trial(MemoryStore(), "own", **{"lambda": 3.0, "noise": 0.5}).experiment
    same, other = (on._policy(experiment, f"linucb:{text}") for text in ("alpha=2", "lambda=7,noise=0.25"))
    assert (same.document.lam, same.document.noise, same.document.policy.alpha) == (3.0, 0.5, 2.0)
    assert (other.document.lam, other.document.noise, other.document.policy.alpha) == (7.0, 0.25, "auto")
    assert (same.config.index, same.kinds) == (experiment.config.index, experiment.kinds)
    pooled = on._policy(experiment, "linucb:prior=pooled")
    assert (pooled.ridge.pooled, other.ridge.pooled) == (True, False)


def test_the_number_of_arms_bounds_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: four arms and room for 20 probabilities are five rows, and the answer says so."""
    monkeypatch.setattr(on, "CELLS", 20)
    trial = Trial(MemoryStore(), "wide")
    for _ in range(8):
        trial.decide(1)
    found = evaluated(trial.store, Asked("wide", (), "", "0s", 1000))
    assert (found.decisions, found.cut) == (5, True)


# the process


def test_one_evaluation_at_a_time() -> None:
    """The second one is told to come back."""

    async def both() -> None:
        evaluator = Evaluator("redis://nowhere")
        async with evaluator._free:
            await evaluator.evaluate(Asked("any", (), "", "0s", 10))

    with pytest.raises(Problem) as refused:
        asyncio.run(both())
    assert refused.value.code == Code.OVERLOADED


def test_one_that_takes_too_long_is_ended(
    server: tuple[str, Live], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The answer says so, no process is left, and the next one is served."""
    one, slow = server[1].experiment(), tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(bandit.serving.evaluation, "SECONDS", 0.2)
        patch.setattr(sys, "executable", str(slow))
        begun = time.monotonic()
        problem(one.client.get(f"{one.at}/evaluation"), Code.OVERLOADED)
    assert time.monotonic() - begun < 10
    assert evaluation(one)["decisions"] == 0


def test_a_store_that_is_away_is_a_problem_and_no_answer() -> None:
    """The process starts, finds no store, and says so."""
    with pytest.raises(Problem) as refused:
        asyncio.run(Evaluator("redis://127.0.0.1:1").evaluate(Asked("any", (), "", "0s", 10)))
    assert refused.value.code == Code.STORE_UNAVAILABLE


def test_a_log_of_a_later_version_is_a_problem_and_no_fault(server: tuple[str, Live]) -> None:
    """503, as for everything else that is asked of it."""
    url, live = server
    one = live.experiment()
    one.decided()
    with redis.Redis.from_url(url) as raw:
        raw.xadd(Keys.of(one.name).log, {b"z": b"of the future"})
    problem(live.client.get(f"{one.at}/evaluation"), Code.NOT_READY)


def test_a_process_that_ends_badly_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never an empty answer."""
    monkeypatch.setattr("bandit.serving.evaluation.COMMAND", ("/bin/false",))
    with pytest.raises(RuntimeError, match="ended with 1"):
        asyncio.run(Evaluator("redis://127.0.0.1:1").evaluate(Asked("any", (), "", "0s", 10)))


def test_it_needs_nothing_that_a_server_does_not_have() -> None:
    """The simulator's other libraries may be missing."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys("
        "['pyarrow', 'scipy', 'sklearn', 'matplotlib', 'vowpalwabbit', 'rich', 'jinja2', 'threadpoolctl', 'plotext',"
        " 'distributed', 'aiohttp']));"
        "import simulator.live, bandit.serving.evaluation"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
