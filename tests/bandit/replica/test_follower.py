"""The thread that follows the logs: real stores that die, come back shorter, refuse and fail under it."""

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import running, served
from test_replica import CORRUPT, corrupted
from trial import HOUR, Killed, Trial, Watched, exact, slow_sums, until

from bandit.core.engine import CHUNK, Model
from bandit.errors import CorruptLog, StoreUnavailable
from bandit.log.records import START, Entry
from bandit.process.embedded import find_binary
from bandit.replica import follower as following
from bandit.replica import trim
from bandit.replica.checkpoint import Checkpointer
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.replica.verify import verify
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.redis_store import RedisStore


@contextmanager
def followed(store: Any, *, grace_ms: int = HOUR, holder: bytes = b"me", **how: float) -> Iterator[Follower]:
    """A follower that is stopped by the end of `with`."""
    settings = {"lease_seconds": 1.2, "checkpoint_seconds": 0.3} | how
    follower = Follower(store, holder, grace_ms=grace_ms, **settings)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
        follower.join(20)
        assert not follower.is_alive()


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    """A store that no other file's experiments are in: a follower takes up all there are."""
    with served() as url:
        yield url


@pytest.fixture
def raw(valkey: str) -> Iterator[redis.Redis]:
    """A plain client of it, as it is emptied."""
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
        client.config_resetstat()
        yield client


@pytest.fixture
def store(valkey: str, raw: redis.Redis) -> Iterator[RedisStore]:
    """A client of it, empty."""
    made = RedisStore(valkey)
    yield made
    made.close()


@pytest.fixture
def trial(store: RedisStore, name: str) -> Trial:
    """An experiment in it."""
    return Trial(store, name)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for a store of the test's own."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        yield Path(directory)


def some(trial: Trial, times: int = 1) -> None:
    """Decisions with feedback."""
    for i in range(times):
        for arm in range(4):
            trial.feed(trial.decide(arm, x=(4096, 10 * arm + i)), 1 + arm)


def caught_up(follower: Follower, trial: Trial) -> Replica:
    """The replica, once it stands at the log's end and is refreshed."""

    def there() -> Replica | None:
        replica = follower.replicas.get(trial.name)
        end = trial.store.end(trial.name)
        return replica if replica and replica.position == replica.scored == end else None

    found: Replica = until(there, "the replica at the log's end")
    return found


def sums(replica: Replica) -> Any:
    """Its sums, exactly."""
    assert replica.model is not None
    return exact(replica.model.sums)


def test_it_follows_folds_and_writes_checkpoints(trial: Trial) -> None:
    """What is written while it runs is folded; at its end the last checkpoint holds all, and `verify` agrees."""
    some(trial)
    with followed(trial.store) as follower:
        assert follower.ready.wait(10)
        assert sums(follower.replicas[trial.name]) == trial.slow()
        some(trial, 3)
        assert sums(caught_up(follower, trial)) == trial.slow()
        until(lambda: trial.store.cursor(trial.name, "sums") > START, "a checkpoint")
    assert trial.store.cursor(trial.name, "sums") == trial.store.end(trial.name)
    assert verify(trial.store, trial.name)["equal"]


def test_two_followers_agree_bit_for_bit(valkey: str, trial: Trial) -> None:
    """Whatever each read at a time: equal digests at the same position, and one of them writes checkpoints."""
    other = RedisStore(valkey)
    with followed(trial.store) as one, followed(other, holder=b"other") as two:
        for _ in range(20):
            some(trial)
        first, second = caught_up(one, trial), caught_up(two, trial)
        assert first.model is not None
        assert second.model is not None
        assert first.model.sums.digest() == second.model.sums.digest()
        tokens = [each.checkpointers[trial.name].token for each in (one, two)]
        assert len([token for token in tokens if token]) <= 1
    other.close()
    assert verify(trial.store, trial.name)["equal"]


def test_another_takes_over_from_one_that_was_killed(valkey: str, trial: Trial) -> None:
    """Killed without a word: its lease stands still, the other one goes on, nothing is lost."""
    watched, other = Watched(trial.store), RedisStore(valkey)
    killed = Follower(watched, b"killed", lease_seconds=1.2, checkpoint_seconds=0.1, grace_ms=HOUR)

    def kill(method: str, _: object) -> None:
        raise Killed

    killed.start()
    until(lambda: trial.name in killed.checkpointers and killed.checkpointers[trial.name].token, "the lease")
    with followed(other, holder=b"other") as follower:
        assert follower.ready.wait(10)
        some(trial)
        watched.before = kill
        killed.join(10)
        some(trial)
        until(lambda: follower.checkpointers[trial.name].token, "the takeover")
        until(lambda: trial.store.cursor(trial.name, "sums") == trial.store.end(trial.name), "the checkpoint")
    other.close()
    assert isinstance(killed.failed, Killed)
    assert verify(trial.store, trial.name)["equal"]


def test_a_new_experiment_is_taken_up(trial: Trial) -> None:
    """At once where somebody waits for it, else within the second."""
    with followed(trial.store) as follower:
        assert follower.ready.wait(10)
        wanted = Trial(trial.store, trial.name + "-wanted")
        some(wanted)
        follower.want(wanted.name)
        assert sums(caught_up(follower, wanted)) == wanted.slow()
        found = Trial(trial.store, trial.name + "-found")
        some(found)
        assert sums(caught_up(follower, found)) == found.slow()


def test_it_trims_what_nothing_can_refer_to_any_more(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has the lease; then a new replica has it all, from the checkpoints and the rest."""
    monkeypatch.setattr(following, "TRIM", 0.05)
    monkeypatch.setattr(following, "HOUSEKEEPING", 0.05)
    for arm in range(4):
        trial.decide(arm, x=(4096, 3 + arm), window_ms=1)
    everything = trial.log()
    with followed(trial.store, grace_ms=0):
        until(lambda: len(trial.log()) == 1, "the trim")
    late = Replica(trial.name, trial.store)
    late.load()
    late.catch_up()
    assert sums(late) == slow_sums(everything, trial.experiment)
    assert verify(trial.store, trial.name)["equal"]


def test_a_long_log_is_trimmed_in_one_go(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many entries as one step takes, between two looks of half a minute."""
    monkeypatch.setattr(trim, "STEP", 500)
    for _ in range(20):
        trial.send(*(trial.decision(window_ms=1) for _ in range(100)))
    with followed(trial.store, grace_ms=0, checkpoint_seconds=0.1) as follower:
        until(lambda: follower.checkpointers and trial.store.cursor(trial.name, "sums") > START, "a checkpoint")
        until(lambda: trial.store.series(trial.name, ())[0] == trial.store.end(trial.name), "the counts")
        follower._due["trim"] = 0.0
        until(lambda: len(trial.log()) == 1, "the trim", 5)


def test_a_deleted_experiment_is_forgotten_with_its_hour(
    trial: Trial, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever follows, what is left of it at once; made again it is another one, and nothing is said to be lost."""
    monkeypatch.setattr(following, "FORGET", 0.05)
    trial.decide()
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        trial.delete()
        until(lambda: follower.replicas[trial.name].model is None, "the deletion")
        prefix = Keys.of(trial.name).prefix
        until(lambda: follower._swept, "the sweep")
        assert {key.decode() for key in raw.keys(f"{prefix}:*")} <= set(Keys.of(trial.name).all)
        scans = raw.info("commandstats")["cmdstat_scan"]["calls"]
        time.sleep(1.3)
        assert trial.name in follower.replicas
        assert raw.info("commandstats")["cmdstat_scan"]["calls"] == scans  # of every key of every experiment
        raw.hset(Keys.of(trial.name).config, "retention", 1)
        until(lambda: trial.name not in follower.replicas, "that it is forgotten")
        assert not raw.keys(f"{prefix}:*")
        again = Trial(trial.store, trial.name)
        again.decide()
        assert sums(caught_up(follower, again)) == again.slow()


def test_a_config_that_stands_nowhere_in_its_log_fails_alone(trial: Trial, raw: redis.Redis) -> None:
    """Loading it anew found the same again, within itself, until the thread ended and the worker with it."""
    other, config = Trial(trial.store, f"{trial.name}-other"), Keys.of(trial.name).config
    trial.decide()
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        trial.delete()
        until(lambda: follower.replicas[trial.name].model is None, "the deletion")
        updated = raw.hget(config, "updated")
        raw.hset(config, "updated", f"{trial.store.now_ms() - 3_700_000}-0")
        follower.suspicious = True
        failed = until(lambda: follower.replicas[trial.name].failed, "the failure")
        assert isinstance(failed, CorruptLog)
        other.decide()
        assert sums(caught_up(follower, other)) == other.slow()
        raw.hset(config, "updated", updated)
        until(lambda: follower.replicas[trial.name].deleted, "that it is read again")
        assert follower.failed is None


def test_a_log_of_one_that_was_made_again_has_lost_nothing(
    trial: Trial, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Its hour over and made again before anybody looked: the log starts anew, as it should."""
    trial.decide()
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        trial.delete()
        until(lambda: follower.replicas[trial.name].model is None, "the deletion")
        keys = Keys.of(trial.name)
        raw.delete(keys.config, keys.log, keys.table("sums"), keys.table("base"), keys.lease)
        again = Trial(trial.store, trial.name)
        again.decide()
        assert sums(caught_up(follower, again)) == again.slow()
    assert "lost" not in caplog.text


def test_a_kind_that_comes_while_it_loads_fails_nothing_for_long(trial: Trial) -> None:
    """Between its config and its rows somebody adds a kind, and a checkpoint has it: it is read again, then ready."""
    for arm in range(4):
        trial.feed(trial.decide(arm), 5)
    watched = Watched(trial.store)

    def meanwhile(method: str, _: object) -> None:
        if method == "cursor":
            watched.before = lambda *_: None
            trial.change(rewards={"click": {}, "sale": {"range": [-50, 50], "unit": 1}, "stars": {"range": [0, 5]}})
            for arm in range(4):
                trial.feed(trial.decide(arm), 5)
            replica = Replica(trial.name, trial.store)
            replica.load()
            replica.catch_up()
            replica.dirty = dict.fromkeys(range(4))
            leader = Checkpointer(replica, trial.store, b"leader", 0.0, 0.0)
            leader.heard(None, 0.0)
            assert leader.step(0.0, last=True)

    watched.before = meanwhile
    with followed(watched) as follower:
        assert follower.ready.wait(10)
        assert follower.replicas[trial.name].failed is None
        assert sums(caught_up(follower, trial)) == trial.slow()


# not ready before


def test_it_is_not_ready_before_everything_is_folded(name: str) -> None:
    """`ready` comes after the end of the log as it was at the start, with the scoring data of it."""
    trial = Trial(MemoryStore(), name)
    some(trial, 5)
    watched, seen = Watched(trial.store), []
    follower = Follower(watched, b"me", lease_seconds=3, checkpoint_seconds=60, grace_ms=0)
    watched.before = lambda method, _: seen.append(follower.ready.is_set()) if method in ("read", "rows") else None
    follower.start()
    assert follower.ready.wait(10)
    replica = follower.replicas[name]
    assert replica.scored == trial.store.end(name)
    assert sums(replica) == trial.slow()
    assert seen[:2] == [False, False]
    follower.stop()
    follower.join(10)


@pytest.mark.parametrize("method", ["names", "config", "cursor", "rows", "at", "end", "read"])
def test_a_store_that_fails_while_it_starts_does_not_make_it_ready(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever question: it waits, asks again, and is ready when all is folded, not before."""
    monkeypatch.setattr(following, "HOUSEKEEPING", 0.05)
    trial = Trial(MemoryStore(), name)
    some(trial)
    early = Replica(name, trial.store)
    early.load()
    early.catch_up()
    rows = [early.row(arm) for arm in range(4)]
    assert trial.store.write_rows(name, "sums", trial.lease(), rows, early.position)
    some(trial)
    watched, ready = Watched(trial.store), list[bool]()
    follower = Follower(watched, b"me", lease_seconds=3, checkpoint_seconds=60, grace_ms=0)

    def away(called: str, _: object) -> None:
        if called == method:
            ready.append(follower.ready.is_set())
            raise StoreUnavailable("away")

    watched.before = away
    follower.start()
    until(lambda: len(ready) > 2, "three failures")
    assert not any(ready)
    assert not follower.ready.is_set()
    watched.before = lambda *_: None
    assert follower.ready.wait(10)
    assert follower.replicas[name].scored == trial.store.end(name)
    assert sums(follower.replicas[name]) == trial.slow()
    follower.stop()
    follower.join(10)


# a store that goes away


def always(url: str) -> None:
    """Sync each write: on a busy disk `everysec` does not promise that it survives the store's own kill -9."""
    with redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "always")


def file_of(place: Path) -> Path:
    """The end of the store's append-only file."""
    (file,) = (place / "appendonlydir").glob("*.incr.aof")
    return file


def test_a_store_that_comes_back_is_followed_on(place: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Away it is said once, and that it answers again; nothing was lost, so nothing is loaded anew."""
    client = RedisStore(f"unix://{place / 's'}", timeout=5)
    with contextlib.ExitStack() as stack:
        with running(find_binary(), place) as url:
            always(url)
            trial = Trial(client, name)
            some(trial)
            follower = stack.enter_context(followed(client))
            caught_up(follower, trial)
        until(lambda: follower.store_down, "the outage")
        with running(find_binary(), place):
            until(lambda: not follower.store_down, "the recovery")
            some(trial)
            assert sums(caught_up(follower, trial)) == trial.slow()
            until(lambda: "the store answers again" in caplog.text, "the word of it")
            follower.stop()
            follower.join(60)
    client.close()
    assert caplog.text.count("requests are refused") == caplog.text.count("the store answers again") == 1
    assert "lost its end" not in caplog.text


def test_a_store_that_takes_no_writes_is_told_of_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It answers every read between two heartbeats that it refuses: that is no recovery."""
    store = Watched(MemoryStore())
    trial = Trial(store.store, name)
    some(trial)
    refused: list[str] = []

    def refuse(method: str, _args: object) -> None:
        if method == "probe" and len(refused) < 3:
            refused.append(method)
            raise StoreUnavailable("it takes no writes")

    store.before = refuse
    with followed(store) as follower:
        until(lambda: refused, "a heartbeat refused")
        for _ in range(50):
            assert follower.store_down or len(refused) == 3
            assert len(refused) == 3 or "answers again" not in caplog.text
            time.sleep(0.01)
        until(lambda: "the store answers again" in caplog.text, "the recovery")
    assert caplog.text.count("requests are refused") == caplog.text.count("the store answers again") == 1


@pytest.mark.parametrize("experiments", [0, 1])
def test_a_clock_that_is_ahead_is_not_ready(name: str, experiments: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be decided: also before anybody has tried, and until it is set right."""
    ahead = [0.0]
    store = MemoryStore(lambda: time.time() + ahead[0])
    for i in range(experiments):
        some(Trial(store, f"{name}-{i}"))
    with followed(store) as follower:
        until(lambda: follower.ready.is_set() and not follower.store_down, "the start")
        ahead[0] = 600.0
        until(lambda: follower.store_down, "the doubt", 5)
        time.sleep(1.2)
        assert follower.store_down
        ahead[0] = 0.0
        until(lambda: not follower.store_down, "the end of it", 5)
    assert "nothing is written while clocks differ" in caplog.text


def test_a_store_that_comes_back_empty_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to serve, and it takes experiments."""
    with followed(MemoryStore()) as follower:
        follower.ready.wait(10)
        follower.wrote(StoreUnavailable("away"))
        until(lambda: not follower.store_down, "the next look", 5)


def test_a_store_that_never_answered_does_not_answer_again(caplog: pytest.LogCaptureFixture) -> None:
    """Also when the follower ends."""
    store = Watched(MemoryStore())

    def refuse(method: str, _args: object) -> None:
        raise StoreUnavailable("the store refuses the user")

    store.before = refuse
    with followed(store):
        until(lambda: "requests are refused" in caplog.text, "the word")
    assert "answers again" not in caplog.text


def test_a_full_store_refuses_decisions_and_takes_them_again_by_itself(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told of before it is full; a worker that starts meanwhile is ready; the window passes, and the log is cut."""
    monkeypatch.setattr(following, "TRIM", 0.1)
    monkeypatch.setattr(following, "CHECK", 0.1)
    with running(find_binary(), place) as url, redis.Redis.from_url(url) as raw:
        trial = Trial(RedisStore(url), name, grace_ms=0)
        with followed(RedisStore(url), grace_ms=0, checkpoint_seconds=0.1, lease_seconds=0.3) as follower:
            follower.ready.wait(10)
            raw.config_set("maxmemory", raw.info("memory")["used_memory"] + 600_000)

            def taken() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    return bool(trial.send(*(trial.decision(window_ms=2000) for _ in range(100))))
                return False

            other = Trial(trial.store, f"{name}-other")
            until(lambda: not taken(), "the end of its memory")
            other.delete()
            until(lambda: "at its end decisions are refused" in caplog.text, "the warning")
            with followed(RedisStore(url), holder=b"started") as started:
                assert started.ready.wait(10)
            until(taken, "room")


def test_a_truncated_file_under_a_live_follower_is_noticed(
    place: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Power loss as a store sees it: its file's end is gone. It is said, and the sums are the fold of what remains.

    The store says nothing: a reader at its old position reads on without an error.
    """
    client = RedisStore(f"unix://{place / 's'}", timeout=5)
    with contextlib.ExitStack() as stack:
        with running(find_binary(), place) as url:
            always(url)
            trial = Trial(client, name)
            some(trial, 3)
            follower = stack.enter_context(followed(client))
            follower._due["trim"] = math.inf  # the file's end must not be a trim
            caught_up(follower, trial)
            until(lambda: client.cursor(name, "sums") == client.end(name), "a checkpoint")
            some(trial, 1)
            size = file_of(place).stat().st_size
            some(trial, 2)
            before = trial.log()
            lost = caught_up(follower, trial).position
        os.truncate(file_of(place), size + 100)  # within an append
        with running(find_binary(), place):
            until(lambda: f"lost its end: entry {lost.text().decode()} is gone" in caplog.text, "the report")
            remaining = trial.log()
            assert [entry.position for entry in remaining] == [entry.position for entry in before[: len(remaining)]]
            assert remaining == before[: len(remaining)]
            assert len(before) - 16 <= len(remaining) < len(before)
            assert sums(caught_up(follower, trial)) == trial.slow()
            trial.producer, trial.sequence = "anew", 1  # as a server does when the store has forgotten its number
            some(trial)
            assert sums(caught_up(follower, trial)) == trial.slow()
            follower.stop()
            follower.join(10)
            assert verify(client, name)["equal"]
            client.close()


def test_positions_are_checked_even_if_the_store_fails_in_the_middle(
    place: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It came back shorter and could not answer all questions: they are asked again until they are answered."""
    watched = Watched(client := RedisStore(f"unix://{place / 's'}", timeout=5))
    checks: list[str] = []

    def refuse(method: str, _: object) -> None:
        if method == "check":
            checks.append(method)
            if len(checks) <= 2:
                raise StoreUnavailable("the store cannot write now")

    with contextlib.ExitStack() as stack:
        with running(find_binary(), place) as url:
            always(url)
            trial = Trial(client, name)
            some(trial)
            size = file_of(place).stat().st_size
            some(trial)
            follower = stack.enter_context(followed(watched))
            caught_up(follower, trial)
        os.truncate(file_of(place), size)
        watched.before = refuse
        with running(find_binary(), place):
            until(lambda: "lost its end" in caplog.text, "the report")
            assert len(checks) > 2
            assert sums(caught_up(follower, trial)) == trial.slow()
            follower.stop()
            follower.join(10)
            client.close()


def test_who_has_seen_data_vanish_can_ask_for_a_check(
    trial: Trial, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer that hears of a gap: the log is shorter though no connection was lost."""
    some(trial)
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        raw.xdel(Keys.of(trial.name).log, *(entry.position.text() for entry in trial.log()[-3:]))
        follower.suspicious = True
        until(lambda: "lost its end" in caplog.text, "the report")
        replica = follower.replicas[trial.name]
        until(lambda: replica.scored == trial.log()[-1].position, "the sums of what remains")
        assert sums(replica) == trial.slow()


def test_a_store_that_may_evict_ends_it(place: Path) -> None:
    """What it would keep could vanish: the server must not go on."""
    with running(find_binary(), place) as url, redis.Redis.from_url(url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        store = RedisStore(url)
        follower = Follower(store, b"me", lease_seconds=3, checkpoint_seconds=60, grace_ms=0)
        follower.start()
        follower.join(10)
        assert "noeviction" in str(follower.failed)
        assert not follower.ready.is_set()
        store.close()


def test_it_ends_though_others_go_on_writing(name: str) -> None:
    """At its end it folds up to the log's end as it is then: here the log grows with every look at it."""
    trial = Trial(MemoryStore(), name)
    watched = Watched(trial.store)
    with followed(watched) as follower:
        assert follower.ready.wait(10)
        watched.before = lambda method, _: trial.decide() if method == "read" else None
        follower.stop()
        follower.join(10)
        alive = follower.is_alive()
        watched.before = lambda *_: None
    assert not alive


# data that cannot be read


@pytest.mark.parametrize("what", CORRUPT)
def test_a_corrupt_entry_fails_its_experiment_and_no_other(
    name: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The follower lives, the experiment is not served here and says why; nothing wrong is written to checkpoints."""
    store = MemoryStore()
    trial, other = Trial(store, name), Trial(store, "other-" + name)
    tag, record = corrupted(trial)[what]
    watched = Watched(store)
    with followed(watched) as follower:
        caught_up(follower, trial)
        end = store.end(name)
        broken = Entry(end._replace(seq=end.seq + 1), tag, record)
        watched.read = lambda log, *args: [broken] if log == name else store.read(log, *args)
        watched.grown = lambda positions: [*store.grown(positions), *({name} & positions.keys())]
        until(lambda: follower.replicas[name].failed, "the failure")
        assert follower.replicas[name].model is None
        some(other)
        assert sums(caught_up(follower, other)) == other.slow()
    assert follower.failed is None
    assert f"{name}: its log cannot be folded" in caplog.text
    assert "the experiment is not served here" in caplog.text
    assert verify(store, name)["equal"]


@pytest.mark.parametrize("error", [ZeroDivisionError, FloatingPointError, LookupError])
def test_what_cannot_be_computed_fails_its_experiment_and_no_other(
    name: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that nobody thought of, and a formula that divides by nothing: the others are served on."""
    store = MemoryStore()
    trial, other = Trial(store, name), Trial(store, "other-" + name)
    refresh = Model.refresh

    def fails(model: Model, limit: int = CHUNK) -> bool:
        if model.experiment.name == name:
            raise error
        return refresh(model, limit)

    with followed(store) as follower:
        caught_up(follower, trial)
        monkeypatch.setattr(Model, "refresh", fails)
        some(trial)
        until(lambda: follower.replicas[name].failed, "the failure")
        some(other)
        assert sums(caught_up(follower, other)) == other.slow()
        monkeypatch.undo()
    assert follower.failed is None


def test_a_checkpoint_that_cannot_be_read_fails_its_experiment_and_no_other(
    trial: Trial, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, and where a live replica compares itself with it."""
    monkeypatch.setattr(following, "CHECK", 0.05)
    monkeypatch.setattr(following, "HOUSEKEEPING", 0.05)
    other = Trial(trial.store, "other-" + trial.name)
    some(trial)
    with followed(trial.store, checkpoint_seconds=60) as live:
        caught_up(live, trial)
        until(lambda: trial.store.cursor(trial.name, "sums") == trial.store.end(trial.name), "its own checkpoint")
        row = live.replicas[trial.name].row(0)
        position = row.position.ms.to_bytes(8, "big") + row.position.seq.to_bytes(8, "big")
        raw.hset(
            Keys.of(trial.name).table("sums"), mapping={str(arm): position + b"\x09" + row.sums[1:] for arm in range(4)}
        )
        until(lambda: live.replicas[trial.name].failed, "the failure of the live one")
        with followed(trial.store, holder=b"late") as late:
            assert late.ready.wait(10)
            assert late.replicas[trial.name].failed is not None
            some(other)
            for follower in (live, late):
                assert sums(caught_up(follower, other)) == other.slow()


def test_a_corrupt_entry_below_the_checkpoints_stops_trimming_and_nothing_else(
    trial: Trial, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that started from a checkpoint past it need not read it: it decides on, and the log is kept whole."""
    monkeypatch.setattr(following, "TRIM", 0.05)
    monkeypatch.setattr(following, "HOUSEKEEPING", 0.05)
    raw.xadd(Keys.of(trial.name).log, {b"z": b"?"})
    for arm in range(3):
        trial.decide(arm, window_ms=1)
    position = trial.store.end(trial.name)
    assert trial.store.write_rows(trial.name, "sums", trial.lease(), [], position)
    length = len(trial.log())
    with followed(trial.store, grace_ms=0) as follower:
        until(lambda: "it is not trimmed" in caplog.text, "the report")
        assert follower.replicas[trial.name].failed is None
        trial.decide(1)
        caught_up(follower, trial)
    assert len(trial.log()) == length + 1


def test_a_log_ahead_of_the_clock_is_an_alarm(trial: Trial, raw: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The clock was set back: windows are judged by the log's time until the clock has come after it."""
    ahead = trial.store.now_ms() + 90_000
    raw.xadd(Keys.of(trial.name).log, {b"d": trial.decision().record}, id=f"{ahead}-0")
    with followed(trial.store):
        until(lambda: "s ahead of the store's clock" in caplog.text, "the alarm")
    assert f"{trial.name}: the log is 9" in caplog.text or f"{trial.name}: the log is 8" in caplog.text


def test_a_log_that_is_not_ahead_is_none(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """59 s are within what clocks do; 61 s are not."""
    now = [1e9]
    trial = Trial(MemoryStore(lambda: now[0]), name)
    trial.decide()
    now[0] -= 59
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        assert "ahead" not in caplog.text
        now[0] -= 2
        until(lambda: "the log is 61 s ahead" in caplog.text, "the alarm")


def test_the_time_between_an_entry_and_its_scoring_is_short(trial: Trial) -> None:
    """Within half a second on a busy machine; benchmarks/freshness.py measures what it is."""
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        waits: list[float] = []
        for arm in range(4):
            start = time.monotonic()
            trial.decide(arm)
            caught_up(follower, trial)
            waits.append(time.monotonic() - start)
    assert min(waits) < 0.5
