"""The views, asked of a real server: what they say is what the log, the model and a decision say."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live import DOCUMENT, Experiment, Live, ok, pointers, problem, serving, until, valkey

from bandit.access.manage import Keyring, Wanted
from bandit.core.experiment import Experiment as Compiled
from bandit.core.ridge.linear import Ridge, estimates, real, schedule
from bandit.errors import Code
from bandit.log.records import START
from bandit.replica.recent import Window, recent
from bandit.replica.replica import Replica
from bandit.serving.views.calibration import binned, predictions
from bandit.store.open import open_store

SLICES = {"learned": {"share": 0.8}, "random": {"share": 0.2, "policy": {"type": "uniform"}}}
CONTEXTS = [{"age": 20 + 2 * i, "country": ["cn", "us", "de"][i % 3]} for i in range(20)]


def get(experiment: Experiment, path: str, **parameters: Any) -> Any:
    """A view of an experiment."""
    return ok(experiment.client.get(f"{experiment.at}/{path}", params=parameters))


def busy(server: Live, n: int = 60, **changes: Any) -> tuple[Experiment, list[dict[str, Any]]]:
    """An experiment with decisions, of which every third is clicked on, once more in vain, and every tenth bought."""
    experiment = server.experiment(slices=SLICES, **changes)
    decided = [experiment.decided(context=CONTEXTS[i % 20], user_id=f"u{i}") for i in range(n)]
    for i, each in enumerate(decided):
        if i % 3 == 0:
            for status in ("accepted", "duplicate"):
                answer = experiment.feedback(decision_id=each["decision_id"], event="click", event_id="x")
                assert ok(answer)["status"] == status
        if i % 10 == 0:
            ok(experiment.feedback(decision_id=each["decision_id"], event="sale", value=12.5, event_id="y"))
    until(lambda: server.service.store.end(experiment.name) == server.service.follower.replicas[experiment.name].scored)
    return experiment, decided


def total(points: list[dict[str, Any]], *path: str) -> float:
    """The sum of a value over points; 0 where one does not have it."""
    found = 0.0
    for point in points:
        value: Any = point
        for part in path:
            value = value.get(part, 0) if isinstance(value, dict) else 0
        found += value
    return found


def test_a_series_says_what_was_answered(server: Live) -> None:
    """Decisions, arms, slices, feedback and what wrote nothing: as the answers said, in minutes and in hours."""
    experiment, decided = busy(server)
    for resolution in ("minute", "hour"):
        found = get(experiment, "series", resolution=resolution)
        points = found["points"]
        assert (found["experiment"], found["resolution"], found["complete"]) == (experiment.name, resolution, True)
        assert total(points, "decisions") == total(points, "impressions") == 60
        for arm in "abc":
            assert total(points, "arms", arm) == sum(each["arms"][0]["arm"] == arm for each in decided)
        clicks = [each for i, each in enumerate(decided) if i % 3 == 0]
        for where in ("feedback", "earned"):
            assert total(points, where, "click", "sum") == total(points, where, "click", "count") == len(clicks)
            assert total(points, where, "sale", "sum") == 75
        assert total(points, "reward") == pytest.approx(len(clicks) + 0.75)
        assert total(points, "outcomes", "duplicate") == len(clicks)
        for name in SLICES:
            of = [each for each in decided if each["slice_name"] == name]
            assert total(points, "slices", name, "decisions") == len(of)
            assert total(points, "slices", name, "earned", "click", "count") == sum(each in of for each in clicks)
        assert total(points, "even") >= total(points, "slices", "random", "decisions")


def test_all_servers_answer_alike_whoever_writes_and_after_a_reset(server: Live) -> None:
    """Two servers on one store; what was written before a reset stays, under the names that it had."""
    with valkey() as url, serving(url) as one, serving(url) as other:
        experiment, _ = busy(one)
        through = experiment.through(other)
        until(lambda: get(through, "series")["points"] == get(experiment, "series")["points"])
        store = one.service.store
        until(lambda: store.series(experiment.name, ())[0] == store.end(experiment.name), 30)
        ok(experiment.patch({"arms": ["x", "y"]}, reset="true"))
        experiment.decided(user_id="v")
        until(lambda: total(get(through, "series")["points"], "decisions") == 61)
        points = get(through, "series", resolution="hour")["points"]
        assert total(points, "arms", "x") + total(points, "arms", "y") == 1
        assert total(points, "feedback", "click", "count") == 20
        until(lambda: get(through, "series")["points"] == get(experiment, "series")["points"])


def test_since_and_until_cut_the_series(server: Live) -> None:
    """Points of that time only; what is no time is refused, and so is a parameter that there is not."""
    experiment, _ = busy(server, 3)
    assert get(experiment, "series", since="2m")["points"]
    assert get(experiment, "series", until="2m")["points"] == []
    assert get(experiment, "series", since="2100-01-01T00:00:00Z")["points"] == []
    address = f"{experiment.at}/series"
    assert pointers(server.client.get(address, params={"since": "soon"}), Code.INVALID_REQUEST) == ["/query/since"]
    assert pointers(server.client.get(address, params={"sinc": "1h"}), Code.INVALID_REQUEST) == ["/query/sinc"]
    problem(server.client.get(address, params={"resolution": "day"}), Code.INVALID_REQUEST)
    problem(server.client.get("/v1/experiments/never/series"), Code.EXPERIMENT_NOT_FOUND)


def test_a_summary_is_of_the_last_five_minutes_hour_and_day(server: Live) -> None:
    """Shares of what came, by slice too; one page has them of all experiments."""
    experiment, decided = busy(server, reward_window="1s")
    other = busy(server, 1)[0]
    held = other.decided(user_id="held", defer=True)["decision_id"]
    for expected in ("activated", "duplicate"):
        assert ok(other.activate(held))["status"] == expected
    shares = until(lambda: (w := get(other, "summary")["windows"]["5m"])["feedback"] == 5 and w)
    assert shares["duplicate_share"] == pytest.approx(2 / 5)  # the accepted activation stands behind it, too
    found = get(experiment, "summary")
    assert found["windows"].keys() == {"5m", "1h", "1d"}
    for window in found["windows"].values():
        assert window["decisions"] == 60
        assert 10 <= window["seconds"] < 300  # since the first decision: none of the windows is over
        assert window["per_second"] == pytest.approx(60 / window["seconds"], rel=0.06)
        assert window["feedback"] == 20 + 20 + 6
        assert window["duplicate_share"] == pytest.approx(20 / 46)
        assert (window["late_share"], window["refused_share"]) == (0, 0)
        assert window["slices"]["random"]["decisions"] == sum(each["slice_name"] == "random" for each in decided)
        assert sum(each["share"] for each in window["slices"].values()) == pytest.approx(1)
    assert found["newest_decision"] <= found["newest_reward"] <= found["now"]
    assert found["matured_share"] in (0, 1)
    names, cursor = [], ""
    while cursor is not None:
        page = ok(server.client.get("/v1/summary", params={"limit": 1, "cursor": cursor}))
        names += [each["experiment"] for each in page["experiments"]]
        cursor = page.get("next")
    assert experiment.name in names
    assert names == sorted(set(names))


def slow(server: Live, experiment: Experiment, arm: str, kind: int | None = None) -> Any:
    """(theta, G, sigma) of an arm by the plain formulas, of the weighted reward or of one kind alone."""
    replica = server.service.follower.replicas[experiment.name]
    with replica.held() as model:
        compiled: Compiled = model.experiment
        ridge, index = compiled.ridge, compiled.arm_index[arm]
        if kind is not None:
            span = compiled.kinds[kind].range
            ridge = Ridge(np.eye(len(compiled.kinds))[kind], ridge.units, ridge.lam, None, *span)
        arms = [real(model.sums, each, ridge.units) for each in range(len(compiled.config.index))]
        ridge = replace(ridge, pooled=compiled.ridge.pooled)
        return estimates(arms, ridge, lam=model.scorer.chosen, common=model.scorer.common)[index], compiled


@pytest.mark.parametrize("prior", ["mean", "pooled"])
def test_estimates_and_weights_are_those_of_the_plain_formulas(server: Live, prior: str) -> None:
    """Mean, error and interval of each arm and kind in each segment, and of each column, by `linear`, the oracle."""
    experiment, _ = busy(server, prior=prior)
    found = get(experiment, "estimates", segment="country")
    assert [(each["name"], each["contexts"]) for each in found["segments"]] == [("(other)", 18), ("cn", 21), ("us", 21)]
    assert [each["arm"] for each in found["arms"]] == ["a", "b", "c"]
    for row in found["arms"]:
        weights = get(experiment, "weights", arm=row["arm"])
        for kind in (None, 0, 1):
            (theta, G, sigma, *_), compiled = slow(server, experiment, row["arm"], kind)
            for segment, told in zip(found["segments"], row["estimates"], strict=True):
                own = [{"cn": "cn", "us": "us"}.get(c["country"], "(other)") == segment["name"] for c in CONTEXTS]
                decode = compiled.encoder.context_type
                contexts = [
                    decode(f0=c["age"], f1=c["country"]) for c, mine in zip(CONTEXTS * 3, own * 3, strict=True) if mine
                ]
                x = (compiled.encoder.encode(contexts) / 4096).mean(axis=0)
                of = told if kind is None else told["kinds"][compiled.config.kinds[kind]]
                error = sigma * np.sqrt(x @ G @ x)
                assert of["mean"] == pytest.approx(x @ theta, rel=1e-6, abs=1e-9)
                assert of["error"] == pytest.approx(error, rel=1e-6)
                assert of["high"] - of["low"] == pytest.approx(2 * 1.95996 * error, rel=1e-4)
            for place, told in enumerate(weights["weights"]):
                of = told if kind is None else told["kinds"][compiled.config.kinds[kind]]
                assert of.get("weight", of.get("mean")) == pytest.approx(theta[place], rel=1e-6, abs=1e-9)
                assert of["error"] == pytest.approx(sigma * np.sqrt(G[place, place]), rel=1e-6)
        assert [(each["feature"], each["column"]) for each in weights["weights"]] == [
            ("(intercept)", ""), ("age", ""), ("country", "=cn"), ("country", "=us"), ("country", "other")
        ]  # fmt: skip
    impressions = sum(each["impressions"] for each in found["arms"])
    assert found["alpha"] == pytest.approx(schedule(3 * 5, impressions)) != 1
    with server.service.follower.replicas[experiment.name].held() as model:
        assert found["lambda"] == model.scorer.penalty()[-1] / model.scorer.v


def test_segments_of_numbers_are_ranges_that_hold_every_context(server: Live) -> None:
    """Each in one; without a feature there is one segment, and pages go over all arms."""
    experiment, _ = busy(server)
    found = get(experiment, "estimates", segment="age", limit=2)
    assert sum(each["contexts"] for each in found["segments"]) == found["contexts"] == 60
    assert [each["low"] for each in found["segments"][1:]] == [each["high"] for each in found["segments"][:-1]]
    assert len(found["segments"]) == 5
    rest = get(experiment, "estimates", segment="age", limit=2, cursor=found["next"])
    assert ([each["arm"] for each in rest["arms"]], "next" in rest) == (["c"], False)
    assert [each["contexts"] for each in get(experiment, "estimates")["segments"]] == [60]
    address = f"{experiment.at}/estimates"
    assert pointers(server.client.get(address, params={"segment": "agee"}), Code.INVALID_REQUEST) == ["/query/segment"]
    assert pointers(server.client.get(f"{experiment.at}/weights", params={"arm": "z"}), Code.UNKNOWN_ARM) == [
        "/query/arm"
    ]
    empty = server.experiment()
    assert (get(empty, "estimates")["segments"], len(get(empty, "estimates")["arms"])) == ([], 3)


def seen(server: Live, experiment: Experiment) -> Any:
    """What must not change where something is only looked at."""
    store = server.service.store
    return store.end(experiment.name), experiment.seen()


def test_a_preview_is_what_a_decision_is_drawn_from_and_changes_nothing(server: Live) -> None:
    """Its probabilities are those that the next decision's record has, by slice and over all."""
    experiment, _ = busy(server)
    before = seen(server, experiment)
    context = {"age": 31, "country": "us"}
    preview = ok(experiment.post("preview", {"context": context}))
    assert seen(server, experiment) == before
    assert preview["eligible"] == 3
    assert sum(arm["probability"] for arm in preview["arms"]) == pytest.approx(1)
    decided = experiment.decided(context=context, user_id="new")
    record = get(experiment, f"decisions/{decided['decision_id']}")
    likely = {arm["arm"]: arm for arm in preview["arms"]}
    for each in record["eligible"]:
        told = likely[each["arm"]]
        assert each["mixture"] == pytest.approx(told["probability"])
        assert each["probability"] == pytest.approx(told["slices"][record["slice_name"]]["probability"])
    shown, told = decided["arms"][0], likely[decided["arms"][0]["arm"]]
    assert shown["score"] == pytest.approx(told["slices"][record["slice_name"]]["score"], rel=1e-5)


def test_a_previewed_change_is_what_the_change_would_do(server: Live) -> None:
    """Policy, weights, noise and shares: the preview of the change is that of the changed experiment."""
    experiment, _ = busy(server)
    context = {"age": 31, "country": "us"}
    plain = ok(experiment.post("preview", {"context": context}))
    change = {
        "policy": {"alpha": 0.1, "explore": 0.3},
        "rewards": {"click": {"weight": 3}},
        "slices": {"learned": {"share": 0.5}, "random": {"share": 0.5}},
        "noise": 0.7,
    }
    preview = ok(experiment.post("preview", {"context": context, "change": change}))
    assert preview["arms"] != plain["arms"]
    assert ok(experiment.post("preview", {"context": context}))["arms"] == plain["arms"]
    ok(experiment.patch(change))
    after = ok(experiment.post("preview", {"context": context}))
    assert after | {"version": 1, "position": preview["position"]} == preview
    warm = ok(experiment.post("preview", {"context": context, "change": {"warm_up": 1000}}))
    assert warm["warming_up"]
    assert {round(arm["probability"], 9) for arm in warm["arms"]} == {round(1 / 3, 9)}


@pytest.mark.parametrize(
    ("body", "code", "places"),
    [
        ({"context": {"age": "31", "country": "us"}}, Code.INVALID_CONTEXT, ["/context/age"]),
        ({"context": {"age": 31}}, Code.INVALID_CONTEXT, ["/context/country"]),
        ({}, Code.INVALID_REQUEST, ["/context"]),
        ({"context": {"age": 31, "country": "us"}, "candidates": ["z"]}, Code.UNKNOWN_ARM, ["/candidates/0"]),
        ({"context": {"age": 31, "country": "us"}, "k": 4}, Code.NOT_ENOUGH_ARMS, ["/k"]),
        ({"context": {"age": 31, "country": "us"}, "decision_id": "x"}, Code.INVALID_REQUEST, ["/decision_id"]),
        ({"context": {"age": 31, "country": "us"}, "change": {"arms": []}}, Code.INVALID_REQUEST, ["/change/arms"]),
        (
            {"context": {"age": 31, "country": "us"}, "change": {"policy": {"alpha": -1}}},
            Code.INVALID_EXPERIMENT,
            ["/change/policy/alpha"],
        ),
        (
            {"context": {"age": 31, "country": "us"}, "change": {"rewards": {"new": {}}}},
            Code.INVALID_REQUEST,
            ["/change/rewards"],
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_preview_is_read_as_strictly_as_a_recommendation(
    server: Live, body: dict[str, Any], code: Code, places: list[str]
) -> None:
    """Every fault is named where it is, and nothing is logged."""
    experiment = server.experiment()
    before = seen(server, experiment)
    assert pointers(experiment.post("preview", body), code) == places
    assert seen(server, experiment) == before


def test_a_calibration_predicts_what_the_model_had_not_learned(server: Live) -> None:
    """The second half of the decisions, in bins of like predictions, each with what came."""
    experiment, _ = busy(server, 120)
    found = get(experiment, "calibration", bins=2)
    assert found["decisions"] == sum(each["decisions"] for each in found["bins"]) == 60
    assert found["learned_until"] == found["first"] <= found["last"]
    assert "on their way" in found["note"]
    earned = 20 + 6 * 0.125
    observed = sum(each["observed"] * each["decisions"] for each in found["bins"])
    assert observed == pytest.approx(earned)
    few = server.experiment()
    assert get(few, "calibration")["bins"] == []
    assert "too few" in get(few, "calibration")["note"]


def test_bins_hold_as_many_decisions_in_the_order_of_their_predictions() -> None:
    """By hand: two bins of thirty, with the normal interval of their mean."""
    predicted = np.arange(60)[::-1] / 60
    observed = (predicted >= 0.5).astype(float)
    low, high = binned(predicted, observed, 10)
    assert (low.decisions, low.observed, low.observed_low, low.observed_high) == (30, 0, 0, 0)
    assert (high.low, high.high, high.observed) == (0.5, pytest.approx(59 / 60), 1)
    assert low.predicted == pytest.approx(14.5 / 60)


def test_the_model_of_a_calibration_is_that_of_the_middle(server: Live) -> None:
    """Its predictions are those of a model that has folded the log up to the decision before the middle."""
    experiment, _ = busy(server, 40)
    replica = server.service.follower.replicas[experiment.name]
    store = open_store(server.service.settings.redis_url or "")
    compiled = replica.served.experiment
    found = recent(store, compiled, replica.position, Window(0, 2**62, 1000))
    with replica.held() as model:
        told = predictions(compiled, model.sums, found)
    before = [entry for entry in store.read(experiment.name, START, 10_000) if entry.position < found.at[20]]
    fresh = Replica(experiment.name, store)
    fresh.fold(before)
    assert fresh.model is not None
    while fresh.model.refresh():
        pass
    theta = fresh.model.scorer.derived.theta[found.arm[20:]]
    assert told == pytest.approx(np.einsum("nd,nd->n", theta, found.x[20:] / 4096))
    store.close()


def test_every_command_of_the_page_is_answered(server: Live) -> None:
    """The page's curl commands, run as they stand but for the address; each is a success with what was asked for."""
    page = (Path(__file__).parents[3] / "docs/views.md").read_text()
    commands = [c for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for c in re.split(r"\n(?=curl)", block)]
    assert len(commands) == 9
    home = server.client.put("/v1/experiments/home", json=DOCUMENT)
    assert home.status_code in (200, 201)
    ok(server.client.post("/v1/experiments/home/recommendations", json={"context": {"age": 31, "country": "us"}}))
    for command in commands:
        real = command.replace("localhost:8080", server.url.removeprefix("http://"))
        answer = json.loads(subprocess.check_output(["bash", "-c", real], text=True))
        assert "experiment" in answer or "experiments" in answer, (command, answer)


def test_a_key_for_one_experiment_sees_the_views_of_that_one(tmp_path: Path) -> None:
    """The page of summaries leaves out what a key may not touch; a preview needs the role read alone."""
    file = tmp_path / "first"
    with valkey() as url, serving(url, auth="on", first_key_file=file) as live:
        first = until(lambda: file.exists() and file.read_text().strip())
        admin = {"authorization": f"Bearer {first}"}
        until(lambda: live.client.get("/v1/whoami", headers=admin).status_code == 200)
        for name in ("home", "other"):
            ok(live.client.put(f"/v1/experiments/{name}", json=DOCUMENT, headers=admin), 201)
        key = Keyring(live.service.store).create(Wanted("reader", ("read",), ("other",))).text
        reader = {"authorization": f"Bearer {key}"}
        until(lambda: live.client.get("/v1/whoami", headers=reader).status_code == 200)
        page = ok(live.client.get("/v1/summary", headers=reader))
        assert [each["experiment"] for each in page["experiments"]] == ["other"]
        assert len(ok(live.client.get("/v1/summary", headers=admin))["experiments"]) == 2
        body = {"context": {"age": 31, "country": "us"}}
        ok(live.client.post("/v1/experiments/other/preview", json=body, headers=reader))
        for view in ("series", "summary", "estimates", "weights?arm=a", "calibration"):
            assert live.client.get(f"/v1/experiments/home/{view}", headers=reader).status_code == 403
            ok(live.client.get(f"/v1/experiments/other/{view}", headers=reader))
        assert live.client.post("/v1/experiments/home/preview", json=body, headers=reader).status_code == 403
        assert live.client.get("/v1/summary").status_code == 401
