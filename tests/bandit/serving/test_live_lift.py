"""The lift that a live server answers: against the export read by the simulator, and against what was sent."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from live import Experiment, Live, ok, pointers, problem, serving, until, valkey
from logs import Array
from trial import Trial, at, past

from bandit.errors import Code
from bandit.replica.recent import Window, recent
from bandit.store.memory_store import MemoryStore
from simulator.live import changes_of, since_the_cut
from simulator.logs.loaders import load
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.evaluate import evaluate
from simulator.ope.lift.sentence import said_of, told
from simulator.policies.targets import target
from simulator.reporting import report

USERS, VISITS = 900, 3
SLICES = {"learned": {"share": 0.6}, "random": {"share": 0.4, "policy": {"type": "uniform"}}}
KINDS = {"click": {}, "sale": {"range": [0, 500], "unit": 0.01, "weight": 0.1, "cap": 50}}


class Traffic(NamedTuple):
    """What was sent to an experiment, and to which slice it came."""

    url: str
    one: Experiment
    learned: Array
    click: Array
    sale: Array


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Live]]:
    """One server for all tests here."""
    with valkey() as url, serving(url) as live:
        yield url, live


@pytest.fixture(scope="module")
def traffic(server: tuple[str, Live]) -> Traffic:
    """Each user comes three times; arm b is clicked most, and a sale is worth 20, or 400 of one user in fifty."""
    rng = np.random.default_rng(0)
    one = server[1].experiment(slices=SLICES, rewards=KINDS, policy={"type": "linucb", "explore": 0.1})
    users = np.repeat(np.arange(USERS), VISITS)[rng.permutation(USERS * VISITS)]
    learned, click, sale = np.zeros((3, len(users)))
    replica = until(lambda: server[1].service.follower.replicas.get(one.name))
    for start in range(0, len(users), 100):
        asked = [
            {"context": {"age": 40, "country": "us"}, "user_id": f"u{user}"} for user in users[start : start + 100]
        ]
        answers = ok(one.post("recommendations/batch", {"requests": asked}))["results"]
        events = []
        for i, (user, each) in enumerate(zip(users[start : start + 100].tolist(), answers, strict=True), start):
            learned[i] = each["slice_name"] == "learned"
            click[i] = rng.random() < (0.6 if each["arms"][0]["arm"] == "b" else 0.2)
            sale[i] = (400 if user % 50 == 0 else 20) * (rng.random() < 0.2)
            events += [
                {"decision_id": each["decision_id"], "event": kind, "value": value, "event_id": kind}
                for kind, value in (("click", float(click[i])), ("sale", sale[i]))
                if value
            ]
        assert all("problem" not in each for each in ok(one.post("feedback/batch", {"requests": events}))["results"])
        one.until_seen(lambda seen: sum(row["rewards"]["click"]["sum"] for row in seen.values()) == click.sum())
        until(lambda: replica.is_fresh)  # else a busy machine decides by what it knew before
    return Traffic(server[0], one, learned, click, sale)


def lift_of(traffic: Traffic) -> dict[str, Any]:
    """The live answer."""
    found: dict[str, Any] = ok(traffic.one.client.get(f"{traffic.one.at}/evaluation"))
    return found


def test_the_lift_is_the_difference_of_what_the_slices_earned(traffic: Traffic) -> None:
    """Of each kind, capped where it is, and of their weighted sum; a model of the past moves it by little."""
    found = lift_of(traffic)
    lift, in_learned = found["lift"], traffic.learned == 1
    sale = np.minimum(traffic.sale, 50)
    earned = {None: traffic.click + 0.1 * sale, "click": traffic.click, "sale": sale}
    assert (lift["slice"], lift["baseline"], lift["decisions"]) == ("learned", "random", len(sale))
    assert (lift["users"], lift["missing"], lift["cut"], lift["alarm"], lift["changes"]) == (USERS, 0, False, None, [])
    for effect in (lift["effect"], *lift["kinds"]):
        r = earned.pop(effect["kind"])
        plain = r[in_learned].mean() - r[~in_learned].mean()
        half = (effect["high"] - effect["low"]) / 2
        assert effect["value"] == pytest.approx(plain, abs=0.2 * half)
        assert effect["value"] == pytest.approx(effect["mean"] - effect["baseline"], rel=1e-9)
    assert earned == {}
    assert (lift["kinds"][1]["cap"], lift["kinds"][1]["capped"]) == (50.0, int((traffic.sale > 50).sum()))
    assert lift["kinds"][0]["low"] > 0  # it learned
    assert lift["sentence"].startswith("learned ")
    assert "; click +" in lift["sentence"]
    assert f"sale capped at 50 ({(traffic.sale > 50).sum()} decisions)" in lift["sentence"]


def test_each_slice_has_its_name_and_what_it_earned(traffic: Traffic) -> None:
    """By number and by name, capped and by users: what its lift says of it."""
    whole, in_learned = traffic.click + 0.1 * np.minimum(traffic.sale, 50), traffic.learned == 1
    found = lift_of(traffic)
    for each, rows in zip(found["slices"], (in_learned, ~in_learned), strict=True):
        assert (each["slice_name"], each["n"]) == (("random", "learned")[int(in_learned[rows][0])], rows.sum())
        assert each["low"] < whole[rows].mean() < each["high"]
    effect = found["lift"]["effect"]
    assert [each["value"] for each in found["slices"]] == [effect["mean"], effect["baseline"]]


def test_the_simulator_says_the_same_of_the_export(traffic: Traffic) -> None:
    """Word by word and number by number."""
    assert_the_same(traffic.url, traffic.one)
    assert "rewards may still come: the log is younger than the reward window" in lift_of(traffic)["lift"]["sentence"]


def assert_the_same(url: str, one: Experiment) -> dict[str, Any]:
    """The live lift, which is that of the export to the last digits."""
    found = said_of(load(None, "server", experiment=one.name, redis_url=url))
    live: dict[str, Any] = ok(one.client.get(f"{one.at}/evaluation"))["lift"]
    assert found is not None
    plain = msgspec.to_builtins(told(found[1]))
    for one_, other in zip([plain.pop("effect"), *plain.pop("kinds")], [live["effect"], *live["kinds"]], strict=True):
        close = {name: each if each is None or name == "kind" else pytest.approx(each) for name, each in other.items()}
        assert one_ == close
    assert plain == {name: live[name] for name in plain}
    return live


def play(one: Experiment, contexts: list[dict[str, Any]], k: int = 1) -> None:
    """Decisions in these contexts, each of a user of its own, and clicks that hang on the context."""
    rng = np.random.default_rng(1)
    for start in range(0, len(contexts), 200):
        part = contexts[start : start + 200]
        asked = [{"context": each, "user_id": f"v{len(each)}{k}{start + i}", "k": k} for i, each in enumerate(part)]
        answers = ok(one.post("recommendations/batch", {"requests": asked}))["results"]
        events = [
            {"decision_id": each["decision_id"], "event": "click", "arm": shown["arm"], "event_id": "one"}
            for each, context in zip(answers, part, strict=True)
            for shown in each["arms"]
            if rng.random() < 0.2 + 0.4 * (context.get("tier") == "z") + 0.3 * context.get("basket", 0)
        ]
        ok(one.post("feedback/batch", {"requests": events}))
    time.sleep(0.2)


def test_features_that_came_later_and_lists_are_the_same_live_and_from_an_export(server: tuple[str, Live]) -> None:
    """Old contexts lack a category and a number; of a list all arms' rewards count."""
    url, live = server
    one = live.experiment(slices=SLICES, policy={"type": "linucb", "explore": 0.1})
    plain = [{"age": 20 + i % 40, "country": "us"} for i in range(800)]
    play(one, plain)
    more = [
        {"type": "category", "name": "tier", "levels": ["x", "y"], "other": True},
        {"type": "number", "name": "basket", "mean": 0, "scale": 1},
    ]
    features = ok(one.client.get(one.at))["features"] + more
    ok(one.client.patch(one.at, json={"features": features}))
    play(one, [{**each, "tier": "xyz"[i % 3], "basket": i % 2} for i, each in enumerate(plain)])
    play(one, [{**each, "tier": "z", "basket": 1} for each in plain[:200]], k=2)
    assert assert_the_same(url, one)["decisions"] == 1800


def test_another_pair_can_be_asked_for(traffic: Traffic, tmp_path: Path) -> None:
    """By name, live and of an export; a name that is none, and a pair of the same one, are refused."""
    one = traffic.one
    at, turned = f"{one.at}/evaluation", {"slice": "random", "baseline": "learned"}
    found, usual = ok(one.client.get(at, params=turned))["lift"], lift_of(traffic)["lift"]
    assert (found["slice"], found["baseline"]) == ("random", "learned")
    assert found["effect"]["value"] == pytest.approx(-usual["effect"]["value"], rel=1e-9)
    assert ok(one.client.get(at, params={"baseline": "learned"}))["lift"] == found
    refused = problem(one.client.get(at, params={"slice": "lerned"}), Code.INVALID_REQUEST)["errors"]
    near = "one of learned, random; did you mean 'learned'?"
    assert refused == [{"pointer": "/query/slice", "expected": near, "got": "another name"}]
    assert pointers(one.client.get(at, params={**turned, "slice": "learned"}), Code.INVALID_REQUEST) == [
        "/query/baseline"
    ]
    asked = ["--format", "server", "--experiment", one.name, "--redis-url", traffic.url, "--slice", "random"]
    command = [sys.executable, "-m", "simulator"]
    said = subprocess.run([*command, "evaluate", *asked], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0] == found["sentence"]
    page = tmp_path / "page.html"
    subprocess.run([*command, "report", *asked, "-o", page], capture_output=True, check=True)
    assert found["sentence"][:30] in page.read_text()
    wrong = subprocess.run([*command, "evaluate", *asked[:-1], "dice"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.splitlines()[-1] == ("bandit-simulator: slice: expected one of learned, random, got 'dice'")


def test_after_a_trim_nothing_is_told_that_was_not_done() -> None:
    """Shares changed, and then the log was cut: the config of then is the one before the change."""
    one = Trial(MemoryStore(), "home", slices=SLICES)
    first = one.decide()
    past(one.store, at(one.decide()).ms)
    before = one.config
    one.change(slices={"learned": {"share": 0.5}, "random": {"share": 0.5, "policy": {"type": "uniform"}}})
    one.decide()
    cut = one.log()[2].position
    assert one.log()[1].position == at(first)
    token = one.lease()
    assert one.store.write_rows("home", "sums", token, [], cut)
    assert one.store.write_rows("home", "base", token, [], at(first))
    assert one.store.trim("home", token, cut, msgspec.json.encode(before))
    found = changes_asked(one)
    assert [what for _, what in found] == []
    one.change(policy={"type": "linucb", "alpha": 3.0})
    assert [what for _, what in changes_asked(one)] == ["another policy"]


def changes_asked(one: Trial) -> list[tuple[int, str]]:
    """What the evaluation takes for changes."""
    found = recent(one.store, one.experiment, one.store.end("home"), Window(0, 2**62, 100))
    return list(changes_of(since_the_cut(one.store, "home", found).configs, int(found.ms[0])))


def test_targets_are_valued_by_the_mixture_and_the_draw_is_checked_within_the_slice(traffic: Traffic) -> None:
    """No weight is above that of the even slice's share; live and from the export alike."""
    log = load(None, "server", experiment=traffic.one.name, redis_url=traffic.url)
    assert log.within is not None
    assert log.probability is not None
    assert log.shares is not None
    own = np.where((log.part == log.slices.index("random"))[:, None], 1 / 3, np.nan)
    assert np.allclose(log.within[log.part == 1], own[log.part == 1])
    assert log.probability.min() >= 0.4 / 3 - 1e-12
    assert np.allclose(log.probability.sum(axis=1), 1)
    assert sample_ratio(log).failures() == []
    assert len(sample_ratio(log).shares) == 6
    (row,) = evaluate(log, target(log, "uniform"), estimators=["dr"], looks="any")
    (live,) = ok(traffic.one.client.get(f"{traffic.one.at}/evaluation", params={"target": "uniform"}))["targets"]
    assert [live[each] for each in ("value", "low", "high")] == pytest.approx([row.value, row.low, row.high], rel=1e-6)
    assert live["max_weight"] <= 2.5 + 1e-9


def test_evaluate_and_report_lead_with_the_sentence(traffic: Traffic, tmp_path: Path) -> None:
    """Before any target; as JSON in a line of its own."""
    log = load(None, "server", experiment=traffic.one.name, redis_url=traffic.url)
    found = said_of(log)
    assert found is not None
    page = report(log, {"uniform": target(log, "uniform")}, tmp_path / "page.html").read_text()
    assert page.index(found[0].replace("+", "+")) < page.index('id="verdict">')
    assert 'id="slices"' in page
    asked = ["evaluate", "--format", "server", "--experiment", traffic.one.name, "--redis-url", traffic.url]
    command = [sys.executable, "-m", "simulator", *asked, "--target", "uniform", "--estimator", "dr"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == found[0]
    json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert json[0].startswith('{"lift":{"sentence":"learned ')


def test_without_two_slices_there_is_no_lift(server: tuple[str, Live]) -> None:
    """Null, whether or not there are decisions."""
    one = server[1].experiment()
    found = ok(one.client.get(f"{one.at}/evaluation"))
    assert (found["lift"], found["note"], found["slices"]) == (None, "no lift: there is no decision", [])
    one.decided()
    found = ok(one.client.get(f"{one.at}/evaluation", params={"min_age": "0s"}))
    assert (found["lift"], found["slices"][0]["slice_name"]) == (None, None)
    assert found["note"] == "no lift: these decisions were made without slices"
    old = ok(one.client.get(f"{one.at}/evaluation", params={"min_age": "2d"}))
    assert (old["lift"], old["note"]) == (None, "no lift: there is no decision that is 172,800 seconds old (`matured`)")
