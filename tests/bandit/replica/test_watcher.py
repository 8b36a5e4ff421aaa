"""An idle follower waits for entries in one read: it sees them at once, asks for little, and outlives its store."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from conftest import running, served
from test_follower import caught_up, followed, some, sums
from trial import Trial, Watched, until

from bandit.errors import StoreUnavailable
from bandit.process.embedded import find_binary
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.replica.watcher import Watcher
from bandit.store.memory_store import MemoryStore
from bandit.store.redis_store import RedisStore

SOON = 0.1  # seconds in which an entry is scored, whoever wrote it
TRIES = 5  # the best of so many: other processes take the processor too


@pytest.fixture(scope="module", params=["valkey", "redis"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A store of its own, as its commands are counted."""
    with served(request.param) as url:
        yield url


@pytest.fixture
def store(address: str) -> Iterator[RedisStore]:
    """A client of it, empty."""
    with redis.Redis.from_url(address) as client:
        client.flushall()
    made = RedisStore(address)
    yield made
    made.close()


@pytest.fixture
def trial(store: RedisStore, name: str) -> Trial:
    """An experiment in it."""
    return Trial(store, name)


def idle(follower: Follower) -> None:
    """Wait until it leaves all to its watcher."""
    until(lambda: follower._dozing and follower.watcher.waiting, "the silence")


def delays(follower: Follower, trial: Trial) -> list[float]:
    """Seconds from another server's append until it is scored, several times from idleness."""
    found = []
    for arm in range(TRIES):
        idle(follower)
        begun = time.monotonic()
        trial.decide(arm % 4)
        end = trial.store.end(trial.name)
        until(lambda end=end: follower.replicas[trial.name].scored >= end, "the entry")
        found.append(time.monotonic() - begun)
    return found


def test_an_entry_of_another_server_wakes_an_idle_follower(address: str, trial: Trial) -> None:
    """Within a tenth of a second, although it looks by itself only once a second."""
    other = Trial.__new__(Trial)
    other.__dict__.update(trial.__dict__ | {"store": RedisStore(address)})
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        assert sorted(delays(follower, other))[TRIES // 2] < SOON
        assert sums(caught_up(follower, trial)) == trial.slow()
    other.store.close()


def test_an_idle_follower_asks_for_little(address: str, store: RedisStore, name: str) -> None:
    """A few commands a second for all experiments together, where it used to be a hundred; the leases' come beside."""
    trials = [Trial(store, f"{name}-{i}") for i in range(20)]
    with followed(store, checkpoint_seconds=60, lease_seconds=60) as follower, redis.Redis.from_url(address) as raw:
        for trial in trials:
            caught_up(follower, trial)
        idle(follower)
        raw.config_resetstat()
        time.sleep(3)
        stats = raw.info("commandstats")
    calls = {command.removeprefix("cmdstat_"): each["calls"] for command, each in stats.items()}
    assert calls["xread"] <= 9, calls  # a second's own look, and the read that waits
    assert calls.get("xrange", 0) <= len(trials), calls  # trimming looks at each start, twice a minute
    assert calls.get("ping", 0) <= 4, calls


def test_an_experiment_made_meanwhile_is_watched_too(trial: Trial, name: str) -> None:
    """While a read is under way that it is not in, the follower asks for it itself."""
    with followed(trial.store) as follower:
        caught_up(follower, trial)
        idle(follower)
        new = Trial(trial.store, name + "-new")
        follower.want(new.name)
        until(lambda: new.name in follower.replicas, "the new one")
        waits = []
        for arm in range(TRIES):
            begun = time.monotonic()
            new.decide(arm % 4)
            end = new.store.end(new.name)
            until(lambda end=end: follower.replicas[new.name].scored >= end, "its entry")
            waits.append(time.monotonic() - begun)
        assert sorted(waits)[TRIES // 2] < SOON
        assert sorted(delays(follower, new))[TRIES // 2] < SOON
        assert sorted(delays(follower, trial))[TRIES // 2] < SOON
        for each in (trial, new):
            assert sums(caught_up(follower, each)) == each.slow()


def test_what_is_wanted_is_read_at_once(name: str) -> None:
    """Somebody waits for a change: it is not left to gather with others."""
    trial = Trial(MemoryStore(), name)
    watched = Watched(trial.store)
    watched.grown_within = lambda positions, seconds: time.sleep(seconds) or []
    with followed(watched) as follower:
        caught_up(follower, trial)
        idle(follower)
        trial.decide()
        begun = time.monotonic()
        follower.want(trial.name)
        caught_up(follower, trial)
        assert time.monotonic() - begun < SOON


def test_it_goes_on_after_its_store_was_away(name: str) -> None:
    """Killed while a read waits, and back with what it had: what is written then is seen as quickly as before."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder, contextlib.ExitStack() as stack:
        binary, place = find_binary(), Path(folder)
        assert binary is not None
        with running(binary, place) as url:
            store = RedisStore(url)
            stack.callback(store.close)
            trial = Trial(store, name)
            some(trial)
            follower = stack.enter_context(followed(store))
            caught_up(follower, trial)
            idle(follower)
            with redis.Redis.from_url(url) as raw:  # killed while it syncs, it would forget: docs/operations.md
                raw.set("last", 1)
                assert raw.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1
        until(lambda: follower.store_down, "the outage")
        with running(binary, place):
            until(lambda: not follower.store_down, "the return")
            assert sorted(delays(follower, trial))[TRIES // 2] < SOON
            assert sums(caught_up(follower, trial)) == trial.slow()
            stack.close()


def test_it_goes_on_after_a_pause(address: str, trial: Trial) -> None:
    """CLIENT PAUSE keeps every answer back for longer than a client waits: then all is as before."""
    with followed(trial.store) as follower, redis.Redis.from_url(address) as raw:
        caught_up(follower, trial)
        idle(follower)
        raw.client_pause(4000)
        until(lambda: follower.store_down, "the outage")
        until(lambda: not follower.store_down, "the return")
        assert sorted(delays(follower, trial))[TRIES // 2] < SOON
        assert sums(caught_up(follower, trial)) == trial.slow()


def test_it_needs_no_rights_over_other_clients(address: str, trial: Trial) -> None:
    """Of a user that may not unblock, kill or list clients: entries are seen all the same, and it stops at once."""
    with redis.Redis.from_url(address) as raw:
        raw.acl_setuser(
            "bound", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-client"], reset=True
        )
    bound = RedisStore(f"{address}?username=bound&password=pw")
    with followed(bound) as follower:
        caught_up(follower, trial)
        assert sorted(delays(follower, trial))[TRIES // 2] < SOON
        idle(follower)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.5  # it does not wait for the end of the read
    bound.close()


def test_a_read_that_fails_is_no_reason_to_be_blind(name: str) -> None:
    """Whatever the store answers to it: the follower looks itself."""
    trial = Trial(MemoryStore(), name)
    watched, fails = Watched(trial.store), threading.Event()

    def fail(positions: object, seconds: float) -> list[str]:
        fails.set()
        raise StoreUnavailable("no such read here")

    watched.grown_within = fail
    with followed(watched) as follower:
        caught_up(follower, trial)
        assert fails.wait(5)
        for arm in range(3):
            begun = time.monotonic()
            trial.decide(arm)
            caught_up(follower, trial)
        assert time.monotonic() - begun < 0.5


# the watcher alone


def replica(trial: Trial) -> Replica:
    """One that stands at the log's end."""
    made = Replica(trial.name, trial.store)
    made.load()
    made.catch_up()
    return made


def test_it_watches_what_is_quiet_and_leaves_the_rest(name: str) -> None:
    """A busy one is not in the read; one that has moved is left to the follower until the read is over."""
    store = MemoryStore()
    trials = [Trial(store, f"{name}-{i}") for i in range(3)]
    quiet, busy, new = (replica(each) for each in trials)
    busy.busy, woken = True, threading.Event()
    watcher = Watcher(store, woken.set)
    watcher.start()
    watcher.watch([quiet, busy])
    assert (watcher.covers(quiet), watcher.covers(busy), watcher.covers(new)) == (True, False, False)
    assert watcher.left([quiet, busy, new]) == {busy.name, new.name}
    trials[0].decide()
    assert woken.wait(1)
    assert watcher.left([quiet, busy, new]) == {quiet.name, busy.name}
    woken.clear()
    quiet.step()
    watcher.watch([quiet, busy])
    watcher.watch([quiet, busy, new])  # the read under way is not broken off
    assert not watcher.covers(new)
    assert woken.wait(2)
    watcher.watch([quiet, busy, new])
    assert watcher.covers(new)
    watcher.stop()
    watcher.join(2)
    assert not watcher.is_alive()


def test_a_store_waits_no_longer_than_its_client_would(address: str, trial: Trial) -> None:
    """A client with a timeout of half a second gets its answer, none, before that; and what comes, at once."""
    impatient = RedisStore(f"{address}?socket_timeout=0.5")
    end = {trial.name: impatient.end(trial.name)}
    begun = time.monotonic()
    assert impatient.grown_within(end, 1.0) == []
    assert 0.1 < time.monotonic() - begun < 0.5
    later = threading.Timer(0.05, trial.decide)
    later.start()
    assert impatient.grown_within(end, 1.0) == [trial.name]
    later.join()
    assert time.monotonic() - begun < 1.0
    impatient.close()
