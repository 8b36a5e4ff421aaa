"""Servers as a whole on real stores: readiness, outages, several on one store, and traffic that is disturbed."""

import asyncio
import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from conftest import running
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, pointers, problem, serving, until, valkey

from bandit.errors import Code
from bandit.log.records import START, Entry, Position, unpack_decision
from bandit.process.embedded import find_binary
from bandit.replica import follower
from bandit.replica.export import export
from bandit.replica.verify import verify
from bandit.serving.service import Service
from bandit.settings import Phase, Settings
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Stored
from bandit.store.redis_store import RedisStore


class Hard(RedisStore):
    """A store that can be made hard of hearing: nothing new is heard of the logs. It counts the looks at configs."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.deaf, self.looks = False, 0
        self.before_decision: Callable[[], Any] = lambda: None  # called when a decision is to be looked up

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """Nothing new, while deaf."""
        return [] if self.deaf else super().read(name, after, count)

    def decision(self, name: str, caller: bytes) -> Entry | None:
        """As ever, after what is done before it."""
        self.before_decision()
        return super().decision(name, caller)

    def config(self, name: str) -> Stored | None:
        """As ever, and counted."""
        self.looks += 1
        return super().config(name)


@contextmanager
def two_servers(url: str, **settings: Any) -> Iterator[tuple[Live, Live]]:
    """Two servers on one store; the second one's store is `Hard`."""

    def made() -> Service:
        service = Service(Hard(url), Settings(redis_url=url, **settings))
        service.follower.start()
        return service

    with ExitStack() as stack:
        a, b = stack.enter_context(serving(url, **settings)), stack.enter_context(serving(made=made))
        until(b.service.ready.is_set)
        for live in (a, b):  # a framework builds its routes at the first request, which two threads must not do at once
            live.client.get("/v1/version")
        yield a, b


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Live, Live]]:
    """Two servers for all tests here that need no more."""
    with valkey() as url, two_servers(url) as found:
        yield found


def test_until_the_log_is_folded_a_server_is_not_ready() -> None:
    """503 with Retry-After to whoever asks for a decision; alive all the while; then 200 for good."""
    with valkey() as url:
        with serving(url) as before:
            one = before.experiment()
            one.decided(decision_id="d")
        with serving(made=lambda: Service(RedisStore(url), Settings(redis_url=url))) as live:
            for what, body in (
                ("recommendations", {"context": CONTEXT}),
                ("feedback", {"decision_id": "d", "event": "click"}),
                ("activations", {"decision_id": "d"}),
                ("recommendations/batch", {"requests": []}),
            ):
                refused = live.client.post(f"{one.at}/{what}", json=body)
                problem(refused, Code.NOT_READY)
                assert refused.elapsed.total_seconds() < 1.5  # at once: nobody is kept waiting for it
            response = live.client.get("/readyz")
            assert (response.status_code, response.json()["ready"]) == (503, False)
            assert ok(live.client.get("/healthz")) == {"status": "ok"}
            live.service.follower.start()
            until(lambda: live.client.get("/readyz").status_code == 200)
            assert one.through(live).decided(decision_id="d")["replayed"]


def test_readiness_tells_of_the_store_and_of_every_replica(pair: tuple[Live, Live]) -> None:
    """Where each stands in the log and how old that knowledge is; digests agree between servers at one position."""
    one = pair[0].experiment()
    one.decided()
    end = pair[0].service.store.end(one.name).text().decode()

    def seen(live: Live, **parameters: Any) -> Any:
        found = ok(live.client.get("/readyz", params=parameters))
        assert (found["ready"], found["store"]) == (True, "ok")
        replica = found["replicas"].get(one.name, {})
        return replica if replica.get("position") == end else None

    for live in pair:
        replica = until(lambda live=live: seen(live))
        assert set(replica) == {"position", "lag_ms"}
        assert 0 <= replica["lag_ms"] < 5000
    digests = [until(lambda live=live: seen(live, digests=True))["digest"] for live in pair]
    assert digests[0] == digests[1]
    pair[0].client.delete(one.at, params={"confirm": one.name})
    until(lambda: one.name not in ok(pair[1].client.get("/readyz?digests=true"))["replicas"])


def test_an_experiment_that_cannot_be_read_fails_alone_and_can_be_deleted(pair: tuple[Live, Live]) -> None:
    """Another one is served, the list has it, /readyz says why; DELETE ends it, and it can be made anew."""
    one, other = pair[0].experiment(), pair[0].experiment()
    store = pair[0].service.store
    assert isinstance(store, RedisStore)
    store._sync.hset(Keys.of(one.name).config, "config", b'{"of":"the future"}')
    with serving(pair[0].service.settings.redis_url or "") as late:
        until(lambda: late.client.get("/readyz").status_code == 200)
        state = ok(late.client.get("/readyz"))["replicas"]
        assert "its config cannot be read" in state[one.name]["failed"]
        assert other.through(late).decided()["arms"]
        names = [each["name"] for each in ok(late.client.get("/v1/experiments?limit=1000"))["experiments"]]
        assert (one.name in names, other.name in names) == (False, True)
        problem(one.through(late).recommend(), Code.NOT_READY)
        problem(late.client.get(one.at), Code.NOT_READY)
        assert late.client.delete(one.at, params={"confirm": one.name}).status_code == 204
        assert late.client.put(one.at, json=DOCUMENT).status_code == 201
        until(lambda: one.through(late).recommend().status_code == 200)


def test_an_experiment_beyond_the_memory_for_models_is_refused() -> None:
    """10,000 arms of 1,000 features ended every worker, again and again; also where it grows by an arm at a time."""
    with valkey() as url, serving(url, model_memory=8) as live:
        features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(60)]
        big = {"arms": [f"a{i}" for i in range(1000)], "features": features, "rewards": {"click": {}}}
        refused = live.client.put("/v1/experiments/big", json=big)
        assert pointers(refused, Code.INVALID_EXPERIMENT) == ["/arms"]
        assert "8 MiB for the models of all experiments" in refused.text
        small = live.experiment(arms=[f"a{i}" for i in range(900)], features=features[:12])
        more = [f"a{i}" for i in range(3000)]
        assert pointers(live.client.put(f"{small.at}/arms", json=more), Code.INVALID_EXPERIMENT) == [""]
        assert live.client.delete(small.at, params={"confirm": small.name}).status_code == 204


def test_of_experiments_made_at_the_same_moment_all_that_are_accepted_are_served() -> None:
    """Two servers with room for two and a half of six: what was answered 201 is served by both, whatever the order."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(20)]
    document = {"arms": [f"a{i}" for i in range(300)], "features": features, "rewards": {"click": {}}}
    context = {"context": {f"f{i}": 0 for i in range(20)}}
    with valkey() as url, two_servers(url, model_memory=8) as (one, other), ThreadPoolExecutor(6) as pool:

        def made(i: int) -> int:
            return (one, other)[i % 2].client.put(f"/v1/experiments/e{i}", json=document).status_code

        statuses = list(pool.map(made, range(6)))
        assert sorted(statuses) == [201] * 2 + [422] * 4
        for i, status in enumerate(statuses):
            for live in (one, other):
                answer = live.client.post(f"/v1/experiments/e{i}/recommendations", json=context)
                assert answer.status_code == (200 if status == 201 else 404)
        gone = statuses.index(201)
        assert one.client.delete(f"/v1/experiments/e{gone}?confirm=e{gone}").status_code == 204
        until(lambda: other.client.put("/v1/experiments/late", json=document).status_code == 201)


def test_a_store_that_may_evict_is_not_used_until_it_is_set_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set so under a running server: every worker ended, and even /healthz was not answered."""
    monkeypatch.setattr(follower, "CHECK", 0.05)
    monkeypatch.setattr(follower, "HOUSEKEEPING", 0.05)
    with valkey() as url, serving(url) as live, redis.Redis.from_url(url) as raw:
        one = live.experiment()
        one.decided()
        raw.config_set("maxmemory-policy", "allkeys-lru")
        until(lambda: live.client.get("/readyz").status_code == 503)
        assert "maxmemory-policy is 'allkeys-lru'" in live.client.get("/readyz").json()["reason"]
        assert "noeviction" in problem(one.recommend(), Code.STORE_UNAVAILABLE)["detail"]
        assert "noeviction" in problem(one.patch({"lambda": 2}), Code.STORE_UNAVAILABLE)["detail"]
        assert live.client.get("/healthz").status_code == 200
        raw.config_set("maxmemory-policy", "noeviction")
        until(lambda: one.recommend().status_code == live.client.get("/readyz").status_code == 200)


def test_what_was_deleted_is_forgotten_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batcher held its last document for as long as the server lived."""
    monkeypatch.setattr(follower, "FORGET", 0.05)
    with valkey() as url, serving(url) as live, redis.Redis.from_url(url) as raw:
        one = live.experiment()
        one.decided()
        assert one.name in live.service._batchers
        assert live.client.delete(one.at, params={"confirm": one.name}).status_code == 204
        raw.hset(Keys.of(one.name).config, "retention", 1)
        until(lambda: one.name not in live.service._batchers)
        assert not raw.keys(f"{Keys.of(one.name).prefix}:*")


@pytest.mark.parametrize("key", ["config", "log", "lease", "sums", "base"])
def test_data_of_another_kind_fails_its_experiment_alone_and_can_be_deleted(key: str) -> None:
    """Whatever wrote it: others are decided, now and after a start, and /readyz tells."""
    with valkey() as url, serving(url, checkpoint_seconds=0.05) as live, redis.Redis.from_url(url) as raw:
        one, other = live.experiment(), live.experiment()
        keys = Keys.of(one.name)
        where = {"config": keys.config, "log": keys.log, "lease": keys.lease}.get(key) or keys.table(key)
        raw.delete(where)
        raw.set(where, "a string")
        raw.sadd("bandit:experiments", b"\xff", b"Not/a name")
        for _ in range(8):
            assert one.recommend().status_code in (200, 404, 503)
            other.decided()
            time.sleep(0.05)
        assert live.service.failed is None
        with serving(url) as late:
            until(lambda: late.client.get("/readyz").status_code == 200)
            other.through(late).decided()
            assert late.client.delete(one.at, params={"confirm": one.name}).status_code == 204
            assert late.client.put(one.at, json=DOCUMENT).status_code == 201
            until(lambda: one.through(late).recommend().status_code == 200)


def test_a_document_that_grew_too_large_to_be_sent_is_refused(pair: tuple[Live, Live]) -> None:
    """Arm by arm it could reach 160 MB, each change of which is read and written whole; it can always shrink."""
    with serving(pair[0].service.settings.redis_url or "", body_limit=20_000) as live:
        one = live.experiment(arms=["a", {"id": "b", "payload": "x" * 16_000}])
        reserved = live.service.store.reserved()
        refused = live.client.put(f"{one.at}/arms/c", json={"payload": "x" * 16_000})
        assert live.service.store.reserved() == reserved
        assert pointers(refused, Code.INVALID_EXPERIMENT) == [""]
        assert "at most 20000 bytes, payloads included" in refused.text
        problem(live.client.get(f"{one.at}/arms/c"), Code.ARM_NOT_FOUND)
        whole = ok(live.client.get(one.at))
        assert live.client.put(one.at, json=whole).status_code == 200
        with serving(live.service.settings.redis_url or "", body_limit=5_000) as strict:
            assert pointers(strict.client.put(f"{one.at}/arms/c"), Code.INVALID_EXPERIMENT) == [""]
            assert strict.client.delete(f"{one.at}/arms/a").status_code == 204
            assert strict.client.delete(f"{one.at}/arms/b").status_code == 204
            assert strict.client.put(f"{one.at}/arms/c").status_code == 201


def test_a_server_is_ready_only_when_all_of_its_start_are() -> None:
    """One address for several workers: it is ready when the last of them is."""
    from bandit.serving.api.app import build_app

    ready: list[bool] = []
    service = Service(MemoryStore(), Settings())
    service.follower.start()

    async def ask() -> int:
        transport = httpx.ASGITransport(build_app(service, lambda: Phase.READY if ready else Phase.STARTING))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/readyz")).status_code

    until(service.ready.is_set)
    assert asyncio.run(ask()) == 503
    ready.append(True)
    assert asyncio.run(ask()) == 200
    asyncio.run(service.close())


def test_what_one_server_made_the_other_serves_at_once(pair: tuple[Live, Live]) -> None:
    """A new experiment, arm, kind, feature, or more of them: looked up before it is refused, twenty times each."""
    a, b = pair
    for i in range(20):
        one = a.experiment(features=[], arms=["a"])
        there = one.through(b)
        assert ok(there.post("recommendations", {}))["logged"]  # a new experiment
        ok(a.client.put(f"{one.at}/arms/new"), 201)
        assert ok(there.post("recommendations", {"candidates": ["new"], "decision_id": "d"}))["logged"]
        ok(a.client.put(f"{one.at}/arms/more"), 201)
        assert len(ok(there.post("recommendations", {"k": 3}))["arms"]) == 3
        ok(one.patch({"rewards": {f"kind-{i}": {}}}))
        assert ok(there.feedback(decision_id="d", event=f"kind-{i}"))["credited"] == 1
        ok(one.patch({"features": [{"name": "x", "type": "boolean"}]}, reset=True))
        assert ok(there.post("recommendations", {"context": {"x": True}}))["logged"]
        ok(a.client.put(f"{one.at}/arms/last"), 201)
        assert ok(b.client.get(f"{one.at}/arms/last"))["arm"] == "last"
        results = ok(a.client.put(f"{one.at}/arms/batched"), 201) and ok(
            there.post(
                "recommendations/batch",
                {"requests": [{"context": {"x": False}, "candidates": ["batched"]}, {"context": {}}]},
            )
        )
        assert results["results"][0]["logged"]
        assert results["results"][1]["problem"]["code"] == "invalid_context"
        assert a.client.delete(one.at, params={"confirm": one.name}).status_code == 204
        problem(there.post("recommendations", {"context": {"x": True}}), Code.EXPERIMENT_NOT_FOUND)


def test_decisions_of_one_server_are_known_to_the_other_at_once(pair: tuple[Live, Live]) -> None:
    """Feedback, activation and retry, wherever they come: whoever names decisions and under whichever name."""
    one = pair[0].experiment()
    there = one.through(pair[1])
    for i in range(10):
        made = one.decided(user_id=f"u{i}")["decision_id"]
        own = there.decided(decision_id=f"d{i}", defer=True)["decision_id"]
        assert ok(there.feedback(decision_id=made, event="click"))["credited"] == 1
        assert ok(one.feedback(decision_id=made, event="click"))["status"] == "duplicate"
        sale = {"event": "sale", "value": 5, "event_id": "order"}
        assert ok(there.feedback(user_id=f"u{i}", **sale))["decision_id"] == made
        assert ok(one.activate(own))["status"] == "activated"
        assert one.decided(decision_id=own, defer=True)["replayed"]


def test_a_decision_that_is_newer_than_what_was_paused_here_is_repeated(pair: tuple[Live, Live]) -> None:
    """Resumed with other columns and decided, between a repetition's answer as paused and the look for a decision."""
    a, b = pair
    one = a.experiment(features=[{"name": "x", "type": "boolean"}], status="paused", fallback_arm="a")
    there, store, asked = one.through(b), b.service.store, {"decision_id": "d", "context": {"x": True}}
    more = [{"name": "x", "type": "boolean"}, {"name": "y", "type": "boolean", "missing": "indicator"}]
    until(lambda: ok(there.post("recommendations", {"context": {"x": True}}))["decision_id"] is None)
    assert isinstance(store, Hard)
    made = dict[str, Any]()

    def resumed() -> None:
        store.before_decision = lambda: None
        ok(one.patch({"status": "active", "features": more}))
        made.update(ok(one.post("recommendations", asked)))

    store.before_decision = resumed
    repeated = ok(there.post("recommendations", asked))
    assert (repeated["replayed"], repeated["arms"][0]["arm"]) == (True, made["arms"][0]["arm"])


def test_a_server_that_has_not_heard_of_a_new_kind_corrupts_nothing(pair: tuple[Live, Live]) -> None:
    """Deaf while the other adds a kind, it waits instead of writing under the old schema; then it decides anew."""
    a, b = pair
    one = a.experiment(features=[])
    there, store = one.through(b), b.service.store
    ids = [ok(there.post("recommendations", {}))["decision_id"] for _ in range(8)]
    assert isinstance(store, Hard)
    store.deaf = True
    ok(one.patch({"rewards": {"first": {"default": 0.25}, "second": {}}}))
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(there.feedback, decision_id=each, event="click") for each in ids]
        answers += [pool.submit(there.post, "recommendations", {}) for _ in range(8)]
        time.sleep(0.3)  # the other's pace: so long it hears nothing
        assert not any(answer.done() for answer in answers)
        store.deaf = False
        results = [ok(answer.result()) for answer in answers]
    assert [result["credited"] for result in results[:8]] == [1.0] * 8
    kinds = "click", "first", "second"
    expected = 16, 8, 8 * 0.25, 0  # a default is of the decisions made under it
    for live in pair:
        Experiment(live.client, one.name).until_seen(
            lambda rows: (impressions(rows), *(rewarded(rows, kind) for kind in kinds)) == expected
        )
    records = [unpack_decision(e.record) for e in store.read(one.name, START, 100) if e.tag == b"d"]
    assert [record.head.m for record in records] == [2] * 8 + [4] * 8


def impressions(rows: dict[str, dict[str, Any]]) -> int:
    """How many there have been."""
    return sum(row["impressions"] for row in rows.values())


def rewarded(rows: dict[str, dict[str, Any]], kind: str) -> float:
    """What they have earned of one kind."""
    return sum(row["rewards"][kind]["sum"] for row in rows.values())


def test_many_bad_requests_cost_few_looks_at_the_store(pair: tuple[Live, Live]) -> None:
    """A hundred at once, each of which could be about a newer version: they share the looks."""
    one = pair[0].experiment().through(pair[1])
    one.decided()
    store = pair[1].service.store
    assert isinstance(store, Hard)
    before = store.looks
    with ThreadPoolExecutor(32) as pool:
        refusals = list(pool.map(lambda i: one.recommend(candidates=[f"zz{i}"]), range(100)))
    assert {pointers(each, Code.UNKNOWN_ARM)[0] for each in refusals} == {"/candidates/0"}
    assert store.looks - before < 80
    before = store.looks
    requests = [{"context": CONTEXT, "candidates": [f"zz{i}"]} for i in range(500)]
    ok(one.post("recommendations/batch", {"requests": requests}))
    assert store.looks - before <= 2


def test_a_forgotten_producer_is_a_gap_and_the_next_request_is_served(
    pair: tuple[Live, Live], caplog: pytest.LogCaptureFixture
) -> None:
    """503 and an alarm once, since acknowledged data may be gone; then a new name."""
    one = pair[0].experiment()
    for _ in range(3):
        one.decided()
    store = pair[0].service.settings.redis_url or ""
    with redis.Redis.from_url(store) as client:
        client.delete(*client.keys(f"{Keys.of(one.name).prefix}:p:*"))
    problem(one.recommend(decision_id="d"), Code.STORE_UNAVAILABLE)
    assert "forgotten acknowledged writes" in caplog.text
    assert not one.decided(decision_id="d")["replayed"]
    one.until_seen(lambda rows: impressions(rows) == 4)


def test_while_the_store_stands_still_nobody_waits_for_the_deadlines_of_others() -> None:
    """Of a hundred look-ups the last was answered after 34 s: six threads waited two seconds for each."""
    with valkey() as url, serving(url) as live, ThreadPoolExecutor(40) as pool:
        one = live.experiment()
        with redis.Redis.from_url(url) as store:
            store.execute_command("CLIENT", "PAUSE", "20000", "ALL")
        begun = time.monotonic()
        asked = [pool.submit(live.client.get, f"/v1/experiments/none-{i}") for i in range(40)]
        asked.append(pool.submit(live.client.get, one.at))
        assert {future.result().status_code for future in asked} == {503}
        assert time.monotonic() - begun < 8


def test_while_the_store_is_away_it_is_503_and_the_process_lives() -> None:
    """Retry-After, told by /readyz too; when the store is back, with what it had acknowledged, all is as before."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory, ExitStack() as stack:
        where = Path(directory)
        url = stack.enter_context(running(find_binary(), where))
        live = stack.enter_context(serving(url))
        one = live.experiment()
        one.decided(decision_id="before")
        with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
            client.execute_command("SHUTDOWN")
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            refusals = list(pool.map(lambda i: one.recommend(decision_id=f"d{i}"), range(8)))
        assert 2 < time.monotonic() - begun < 10
        for refusal in refusals:
            problem(refusal, Code.STORE_UNAVAILABLE)
        for response in (
            live.client.get(one.at),
            live.client.put(one.at, json=DOCUMENT),
            live.client.delete(one.at, params={"confirm": one.name}),
        ):
            problem(response, Code.STORE_UNAVAILABLE)
        response = live.client.get("/readyz")
        assert (response.status_code, response.json()["store"]) == (503, "unavailable")
        assert live.client.get("/healthz").status_code == live.client.get("/v1/version").status_code == 200
        stack.enter_context(running(find_binary(), where))
        until(lambda: live.client.get("/readyz").status_code == 200)
        assert one.decided(decision_id="before")["replayed"]
        assert not one.decided(decision_id="d0")["replayed"]  # what was refused was not decided
        one.until_seen(lambda rows: impressions(rows) == 2)


class Traffic:
    """Clients of several servers, in threads, that retry the same request until it is answered."""

    def __init__(self, servers: tuple[Live, ...], one: Experiment, clients: int = 6) -> None:
        self.servers, self.one, self.clients = servers, one, clients
        self.decided: dict[str, str] = {}
        self.credited: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.stopping = threading.Event()
        self._ids = itertools.count()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Traffic for as long as the block takes, and then until each request has its answer."""
        with ThreadPoolExecutor(self.clients) as pool:
            found = [pool.submit(self._client, i) for i in range(self.clients)]
            try:
                yield
            finally:
                self.stopping.set()
            for each in found:
                each.result()

    def _client(self, seed: int) -> None:
        pick = random.Random(seed)
        while not self.stopping.is_set():
            name = f"d{next(self._ids)}"
            answer = self._answered(pick, "recommendations", {"context": CONTEXT, "decision_id": name})
            self.decided[name] = answer["arms"][0]["arm"]
            for event_id in range(pick.choice([0, 1, 2])):
                body = {"decision_id": name, "event": "sale", "value": 10, "event_id": f"e{event_id}"}
                assert self._answered(pick, "feedback", body)["status"] in ("accepted", "duplicate")
                self.credited[name] += 10

    def _answered(self, pick: random.Random, what: str, body: Any) -> Any:
        limit = time.monotonic() + 20
        while True:
            response = self.one.through(pick.choice(self.servers)).post(what, body)
            self.statuses[response.status_code] += 1
            if response.status_code == 200:
                return response.json()
            assert response.status_code == 503, response.text
            assert time.monotonic() < limit

    def until_decided(self, more: int) -> None:
        """Wait for so many more decisions."""
        goal = len(self.decided) + more
        until(lambda: len(self.decided) >= goal, 20)


def sold(rows: dict[str, dict[str, Any]]) -> float:
    """The sum of all sales."""
    return float(sum(row["rewards"]["sale"]["sum"] for row in rows.values()))


def flushed(client: "redis.Redis") -> None:
    """Every script is forgotten."""
    client.script_flush()


def cut(client: "redis.Redis") -> None:
    """Every connection but our own ends, whatever it was waiting for: answers get lost."""
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def frozen(client: "redis.Redis") -> None:
    """Nothing is answered for longer than a command's timeout."""
    client.execute_command("CLIENT", "PAUSE", "2300", "ALL")
    time.sleep(2.4)  # as long as it stands still


@pytest.mark.parametrize(("disturb", "times"), [(flushed, 25), (cut, 25), (frozen, 1)])
def test_a_disturbed_store_loses_and_doubles_nothing(disturb: Callable[["redis.Redis"], None], times: int) -> None:
    """Two servers under traffic while scripts are forgotten, connections cut, or time stands still for 2.3 s.

    What clients were told is in the log once, the servers' sums are equal, and the checkpoints are the log's fold.
    """
    with valkey() as url, two_servers(url, checkpoint_seconds=0.2, lease_seconds=0.5) as servers:
        one = servers[0].experiment()
        traffic = Traffic(servers, one)
        with traffic.flowing(), redis.Redis.from_url(url) as client:
            traffic.until_decided(20)
            for _ in range(times):
                disturb(client)
                traffic.until_decided(3)
            traffic.until_decided(20)
        assert set(traffic.statuses) <= {200, 503}
        rows = list(export(servers[0].service.store, one.name))
        logged = {row["decision_id"]: row["arms"][0]["arm"] for row in rows if row["type"] == "decision"}
        assert logged == traffic.decided
        assert len(logged) == sum(row["type"] == "decision" for row in rows)
        credited: Counter[str] = Counter()
        for row in rows:
            credited.update({row["decision_id"]: row["credited"]} if row["type"] == "feedback" else {})
        assert credited == traffic.credited
        for live in servers:  # feedback may follow the last decision, so that impressions are complete before it is
            seen = Experiment(live.client, one.name).until_seen(lambda rows: sold(rows) == sum(credited.values()))
            assert impressions(seen) == len(logged)
        until(lambda: verify(servers[0].service.store, one.name)["equal"])
        until(lambda: verify(servers[0].service.store, one.name, 7)["equal"])


def test_closing_answers_what_waits() -> None:
    """Requests under way when the server is told to stop are answered; later ones find nobody."""
    with valkey() as url:
        with serving(url) as live, ThreadPoolExecutor(16) as pool:
            one = live.experiment()
            with httpx.Client(base_url=live.url) as client:
                there = Experiment(client, one.name)
                answers = [pool.submit(there.recommend, decision_id=f"d{i}") for i in range(200)]
                until(lambda: sum(answer.done() for answer in answers) > 20)
                asyncio.run_coroutine_threadsafe(live.service.close(), live.loop).result(10)
                statuses = Counter(answer.result().status_code for answer in answers)
        assert set(statuses) <= {200, 503}
        with serving(url) as again:
            logged = [e for e in again.service.store.read(one.name, START, 1000) if e.tag == b"d"]
            assert len(logged) == statuses[200]


def test_closing_waits_for_no_thread_of_others() -> None:
    """All threads that requests run in are busy, and stay so: the last checkpoint is written all the same."""
    over = threading.Event()

    async def play() -> None:
        service = Service(MemoryStore(), Settings(redis_url="redis://none"))
        service.follower.start()
        busy = [asyncio.ensure_future(asyncio.to_thread(over.wait)) for _ in range(100)]
        try:
            await asyncio.wait_for(service.close(), 30)
            assert not service.follower.is_alive()
        finally:
            over.set()
            await asyncio.gather(*busy)

    asyncio.run(play())


def test_a_user_is_in_one_slice_on_every_server_and_after_a_restart() -> None:
    """The secret that users are hashed with is the store's."""
    slices = {"learned": {}, "random": {"share": 0.5, "policy": {"type": "uniform"}}}
    users = [{"context": CONTEXT, "user_id": f"u{i}"} for i in range(100)]

    def named(one: Experiment) -> list[str]:
        answers = ok(one.post("recommendations/batch", {"requests": users}))["results"]
        return [each["slice_name"] for each in answers]

    with valkey() as url:
        with two_servers(url) as (a, b):
            one = a.experiment(slices=slices)
            first = named(one)
            assert 20 < first.count("random") < 80
            assert named(one.through(b)) == first
        with serving(url) as again:
            assert named(one.through(again)) == first
