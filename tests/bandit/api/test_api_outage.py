"""The store away, over HTTP, with a real store killed and frozen in front of a whole server."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from killable import Killable, killable
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, problem, serving, until

from bandit.errors import Code
from bandit.replica.export import export
from bandit.replica.verify import verify
from bandit.serving.service import Service
from bandit.settings import Settings
from bandit.store.open import open_store

pytestmark = pytest.mark.system

AWAY: dict[str, Callable[[Killable], None]] = {"killed": Killable.kill, "frozen": Killable.freeze}
BACK: dict[str, Callable[[Killable], None]] = {"killed": Killable.start, "frozen": Killable.thaw}


@pytest.fixture(scope="module")
def store() -> Iterator[Killable]:
    """One store for the module; each test brings it back."""
    with killable() as found:
        yield found


@pytest.fixture(scope="module")
def server(store: Killable) -> Iterator[Live]:
    """One server on it."""
    with serving(store.url) as live:
        yield live


@contextmanager
def outage(server: Live, store: Killable, how: str) -> Iterator[None]:
    """The store is away, and the server knows; at the end it is back, and the server knows that."""
    probe = server.experiment(degraded="answer")
    AWAY[how](store)
    try:
        until(lambda: ok(probe.recommend()).get("degraded"))
        yield
    finally:
        BACK[how](store)
        until(lambda: ok(probe.recommend())["logged"], 30)
        until(lambda: server.client.get("/readyz").json()["store"] == "ok", 30)


@pytest.mark.parametrize("how", AWAY)
def test_each_route_says_what_it_can_without_a_store(server: Live, store: Killable, how: str) -> None:
    """Answered: decisions of experiments that say so, in every form. Refused, with Retry-After: everything else."""
    answers = server.experiment(degraded="answer")
    slices = {"learned": {}, "random": {"share": 0.5, "policy": {"type": "uniform"}}}
    sliced = server.experiment(degraded="answer", slices=slices, sticky={"for": "1h"})
    paused = server.experiment(status="paused", fallback_arm="b")
    refuses = server.experiment()
    earlier = answers.decided(decision_id="earlier")
    sticky = sliced.decided(user_id="u")
    refuses.decided()
    with outage(server, store, how):
        told = ok(answers.recommend(k=2, candidates=["a", "c"], decision_id="x"))
        assert (told["decision_id"], told["logged"], told["degraded"], told["expires_at"]) == (None, False, True, None)
        assert sorted(arm["arm"] for arm in told["arms"]) == ["a", "c"]
        assert all(0 < arm["propensity"] <= 1 and arm["estimates"] for arm in told["arms"])
        problem(answers.recommend(candidates=["zz"]), Code.UNKNOWN_ARM)
        problem(answers.recommend(context={"age": 1}), Code.INVALID_CONTEXT)
        problem(answers.feedback(decision_id=earlier["decision_id"], event="click"), Code.STORE_UNAVAILABLE)
        problem(answers.activate("earlier"), Code.STORE_UNAVAILABLE)
        assert ok(answers.recommend(decision_id="earlier"))["decision_id"] is None  # it cannot be looked up
        same = {ok(sliced.recommend(user_id="u"))["slice_name"] for _ in range(10)}
        assert same == {sticky["slice_name"]}  # a user's slice is computed
        batch = ok(answers.post("recommendations/batch", {"requests": [{"context": CONTEXT}] * 30 + [{}]}))["results"]
        assert [row.get("logged") for row in batch] == [False] * 30 + [None]
        assert batch[30]["problem"]["code"] == Code.INVALID_REQUEST
        events = ok(answers.post("feedback/batch", {"requests": [{"decision_id": "earlier", "event": "click"}]}))
        assert events["results"][0]["problem"]["code"] == Code.STORE_UNAVAILABLE
        wishes = {answers.name: {"k": 2}, refuses.name: {}, paused.name: {}}
        body = {"experiments": wishes, "context": CONTEXT, "decision_id": "several"}
        several = ok(server.client.post("/v1/recommendations", json=body))["results"]
        assert [several[answers.name]["logged"], len(several[answers.name]["arms"])] == [False, 2]
        assert several[refuses.name]["problem"]["code"] == Code.STORE_UNAVAILABLE
        assert several[paused.name]["fallback"] is True
        assert ok(paused.recommend(decision_id="p"))["arms"][0]["arm"] == "b"
        problem(refuses.recommend(), Code.STORE_UNAVAILABLE)
        problem(server.client.post("/v1/feedback", json={"user_id": "u", "event": "click"}), Code.STORE_UNAVAILABLE)
        problem(server.client.put(answers.at, json=DOCUMENT), Code.STORE_UNAVAILABLE)
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert {answers.name, sliced.name} <= set(ready.json()["degraded"])
        assert refuses.name not in ready.json()["degraded"]
        assert ready.json()["store"] == "unavailable"
    assert answers.decided(decision_id="earlier")["replayed"] is True
    assert answers.decided(k=2, candidates=["a", "c"], decision_id="x")["replayed"] is False  # decided now
    assert sliced.decided(user_id="u")["replayed"] is True
    assert "degraded" not in server.client.get("/readyz").json()
    # one earlier, two of the list that was decided afterwards: nothing of what was answered in between
    answers.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 3)


def test_a_server_on_which_nothing_is_answered_for_is_not_ready(server: Live, store: Killable) -> None:
    """/readyz is 503 as ever: a balancer should ask another one."""
    with killable() as own, serving(own.url) as live:
        one = live.experiment()
        one.decided()
        own.kill()
        problem(one.recommend(), Code.STORE_UNAVAILABLE)
        until(lambda: live.client.get("/readyz").status_code == 503)
        assert live.client.get("/readyz").json()["degraded"] == []
        ok(live.client.get("/healthz"))
        own.start()
        until(lambda: live.client.get("/readyz").status_code == 200, 30)
        one.decided()


class Load:
    """Clients that ask two experiments and send feedback, and remember what they were told and when."""

    def __init__(self, url: str, experiments: list[Experiment], clients: int = 6) -> None:
        self.url, self.experiments, self.stopping = url, experiments, threading.Event()
        self.told: list[tuple[float, float, str, str, dict[str, Any]]] = []  # begun, ended, experiment, id, answer
        self.refused: list[tuple[float, float, str]] = []
        self.credited: set[tuple[str, str]] = set()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self.stopping.is_set():
                one, name, begun = self.experiments[number % len(self.experiments)], uuid.uuid4().hex, time.monotonic()
                body = {"context": CONTEXT, "decision_id": name}
                answer = client.post(f"{one.at}/recommendations", json=body)
                ended = time.monotonic()
                if answer.status_code != 200:
                    assert answer.status_code == 503, answer.text
                    self.refused.append((begun, ended, one.name))
                    time.sleep(0.005)
                    continue
                self.told.append((begun, ended, one.name, name, answer.json()))
                if answer.json()["logged"]:
                    event = {"decision_id": name, "event": "sale", "value": 10, "event_id": "once"}
                    if client.post(f"{one.at}/feedback", json=event).status_code == 200:
                        self.credited.add((one.name, name))


@pytest.mark.parametrize("how", AWAY)
def test_under_load_nothing_acknowledged_is_lost_or_doubled(how: str) -> None:
    """And what was answered unlogged is not in the log, but for what was under way when the store went: of that the
    log has the arm that was answered, once. Sums are those of the log; all of it comes back by itself.
    """
    with killable() as store, serving(store.url) as live:
        one, other = live.experiment(degraded="answer", policy={"type": "uniform"}), live.experiment()
        with Load(live.url, [one, other]) as load:
            for _ in range(2):
                goal = len(load.told) + 100
                until(lambda goal=goal: len(load.told) > goal, 30)
                went = time.monotonic()
                AWAY[how](store)
                until(lambda: live.service.outage.away, 30)
                noticed = time.monotonic()
                goal = len(load.told) + 100
                until(lambda goal=goal: len(load.told) > goal, 30)
                assert all(began < noticed or name == other.name for began, _, name in load.refused if began > went)
                BACK[how](store)
                until(lambda: not live.service.outage.away, 30)
                goal = len(load.told) + 100
                until(lambda goal=goal: len(load.told) > goal and load.told[-1][4]["logged"], 30)
        _held_against_the_log(store, [one, other], load)


def _held_against_the_log(store: Killable, experiments: list[Experiment], load: Load) -> None:
    """What clients were told against what the log has."""
    reading = open_store(store.url)
    for each in experiments:
        rows = list(export(reading, each.name))
        decisions = [row for row in rows if row["type"] == "decision"]
        logged = {row["decision_id"]: row["arms"][0]["arm"] for row in decisions}
        assert len(logged) == len(decisions), "a decision stands in the log twice"
        mine = [row for row in load.told if row[2] == each.name]
        for _, _, _, name, answer in mine:
            if answer["logged"]:
                assert logged[name] == answer["arms"][0]["arm"], "an acknowledged decision is lost, or another"
        unlogged = {name: answer["arms"][0]["arm"] for *_, name, answer in mine if not answer["logged"]}
        arrived = unlogged.keys() & logged.keys()
        assert len(arrived) <= len(load.threads) * 2, "unlogged answers are in the log"  # one a client and outage
        assert all(unlogged[name] == logged[name] for name in arrived)
        events = [row["decision_id"] for row in rows if row["type"] == "feedback"]
        assert len(set(events)) == len(events), "feedback stands in the log twice"
        assert {name for where, name in load.credited if where == each.name} <= set(events), "feedback is lost"
        assert verify(reading, each.name)["equal"] is True
    reading.close()


def test_a_server_that_starts_while_the_store_is_away_answers_by_its_snapshot(tmp_path: Path) -> None:
    """What the one before had learned decides, in the slice that the user has always had; then it loads as ever."""
    settings = {"snapshot_dir": tmp_path / "snapshots", "checkpoint_seconds": 0.2}
    with killable() as store:
        with serving(store.url, **settings) as live:
            slices = {"learned": {}, "random": {"share": 0.5, "policy": {"type": "uniform"}}}
            one, other = live.experiment(degraded="answer", slices=slices), live.experiment()
            for _ in range(30):
                told = one.decided(user_id="u")
                if told["arms"][0]["arm"] == "c":
                    ok(one.feedback(decision_id=told["decision_id"], event="click"))
            one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 30)
            seen = told["slice_name"]
        (file,) = (tmp_path / "snapshots").glob("*.snapshot")
        assert file.name == f"{one.name}.snapshot"
        assert file.stat().st_mode & 0o077 == 0
        before = file.read_bytes()
        store.kill()
        with serving(made=lambda: Service.open(Settings(redis_url=store.url, **settings))) as live:
            mine = one.through(live)
            told = until(lambda: answer.json() if (answer := mine.recommend(user_id="u")).status_code == 200 else None)
            assert (told["logged"], told["slice_name"]) == (False, seen)
            assert mine.post("recommendations/batch", {"requests": [{"context": CONTEXT}]}).json()["results"][0][
                "degraded"
            ]
            problem(mine.feedback(decision_id="x", event="click"), Code.STORE_UNAVAILABLE)
            problem(other.through(live).recommend(), Code.NOT_READY)
            until(lambda: live.client.get("/readyz").status_code == 200)
            assert live.client.get("/readyz").json()["degraded"] == [one.name]
            assert file.read_bytes() == before
            store.start()
            until(lambda: mine.recommend().json().get("logged"), 30)
            until(lambda: file.read_bytes() != before)
            rows = mine.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 31)
            assert set(rows) == {"a", "b", "c"}
            until(lambda: mine.patch({"degraded": "refuse"}).status_code == 200)  # its first round may not be over yet
            until(lambda: not file.exists())
