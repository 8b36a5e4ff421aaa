"""What only a real server shows: lost replies, restarts, refusals, and what it keeps for how long."""

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import redis
from conftest import opened, running
from proxy import Swallowing
from redis.backoff import NoBackoff
from redis.retry import Retry
from trial import DAY, DOCUMENT, HOUR, SALE, Trial, at, until

from bandit.core.document import Document
from bandit.core.revision import first, revise
from bandit.core.validation import parse_document
from bandit.errors import CorruptLog, StoreUnavailable, StoreUnsuitable
from bandit.log.records import START, Position
from bandit.process.embedded import find_binary
from bandit.store.keys import EXPERIMENTS, META, Keys
from bandit.store.protocol import Activate, Ahead, Logged, Outcome, Ref, Row, Store
from bandit.store.redis_connection import SCRIPTS, Script
from bandit.store.redis_store import RedisStore


@contextmanager
def opened_raw(url: str) -> Iterator[redis.Redis]:
    """A plain client, which tries once."""
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5) as client:
        yield client


@pytest.fixture
def raw(url: str) -> Iterator[redis.Redis]:
    """A plain client of the same server."""
    with opened_raw(url) as client:
        yield client


@pytest.fixture
def real(url: str) -> Iterator[RedisStore]:
    """The store on each kind of server."""
    with opened(url) as store:
        yield store


@contextmanager
def lasting(directory: Path) -> Iterator[str]:
    """A server whose writes survive its own kill -9, which on a busy disk `everysec` does not promise."""
    with running(find_binary(), directory) as url, opened_raw(url) as client:
        client.config_set("appendfsync", "always")
        yield url


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def proxy(url: str, short: Path) -> Iterator[Swallowing]:
    """A proxy in front of each kind of server."""
    with Swallowing(url, short) as between:
        yield between


def keys(trial: Trial) -> Keys:
    """The experiment's keys."""
    return Keys.of(trial.name)


# lost replies


def test_a_swallowed_reply_counts_once_and_the_same_bytes_get_it(proxy: Swallowing, name: str) -> None:
    """The store has written, the client hears nothing: repeated, the batch is answered and nothing is added."""
    with opened(proxy.url) as store:
        trial = Trial(store, name)
        ref = trial.decide()
        batch = trial.batch(trial.reward(ref, 5, event="e"), trial.decision())
        proxy.drop_next(2)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.append(name, batch)
        judged, decided = store.append(name, batch)
        assert (judged.status, judged.credited) == ("accepted", 5)
        assert decided.position == trial.log()[-1].position
        assert trial.tags() == "dfd"
        assert proxy.swallowed == 2


def test_forty_events_through_a_lossy_proxy_are_forty(proxy: Swallowing, name: str) -> None:
    """Every fourth reply is lost; without numbers this counts 50 (measured), with them 40."""
    with opened(proxy.url) as store:
        trial = Trial(store, name, rewards={"sale": {"range": [0, 1000], "unit": 1}})
        ref = trial.decide()
        proxy.every = 4
        for i in range(40):
            batch = trial.batch(trial.reward(ref, 1, 0, str(i)))
            reply = None
            while reply is None:
                with suppress(StoreUnavailable):
                    reply = store.append(name, batch)
            trial.sequence += 1
        proxy.every = 0
        assert proxy.swallowed >= 10
        assert trial.slow()[0][1] == [[40 * 4096, 40 * 100]]


def test_the_event_loops_client_repeats_nothing_by_itself_either(proxy: Swallowing, name: str) -> None:
    """One append, one lost reply, one command that the server saw; then the same bytes get the answer."""

    async def story(store: RedisStore, trial: Trial) -> None:
        batch = trial.batch(trial.decision())
        before = proxy.counted
        proxy.drop_next()
        with pytest.raises(StoreUnavailable):
            await store.append_async(trial.name, batch)
        assert proxy.counted == before + 1
        assert await store.append_async(trial.name, batch) == [Logged(trial.log()[-1].position)]
        await store.aclose()

    with opened(proxy.url) as store:
        trial = Trial(store, name)
        asyncio.run(story(store, trial))
        assert trial.tags() == "d"


def test_a_lost_reply_to_a_change_is_told_by_the_version(proxy: Swallowing, name: str) -> None:
    """The change was made; made again over the old version it is refused, so it is never logged twice."""
    with opened(proxy.url) as store:
        trial = Trial(store, name)
        before = store.config(name)
        proxy.drop_next()
        with pytest.raises(StoreUnavailable):
            trial.change(reward_window="1h")
        now = store.config(name)
        assert before is not None
        assert now is not None
        assert now.config.version == before.config.version + 1
        assert store.put(now.config, before) is None
        assert [entry.tag for entry in trial.log()] == [b"x", b"x"]


def test_a_frozen_server_is_given_up_in_time_and_answers_the_same_bytes_later(short: Path, name: str) -> None:
    """Frozen for longer than the timeout: one attempt, not the client library's ten; thawed, it counts once."""
    with running(find_binary(), short) as url, opened_raw(url) as raw, opened(url) as store, opened(url, 1) as hasty:
        trial = Trial(store, name)
        trial.decide()  # so that the server knows the script, and the frozen one needs no second message
        assert hasty.end(name) == store.end(name)  # and the connection stands
        pid, batch = raw.info()["process_id"], trial.batch(trial.decision())
        os.kill(pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            with pytest.raises(StoreUnavailable):
                hasty.append(name, batch)
            waited = time.monotonic() - start
        finally:
            os.kill(pid, signal.SIGCONT)
        assert 1 <= waited < 4
        until(lambda: trial.tags() == "dd", "the frozen append")
        assert isinstance(store.append(name, batch), list)
        assert trial.tags() == "dd"


# restarts


def everything(trial: Trial) -> None:
    """Use every script once."""
    store, name = trial.store, trial.name
    trial.change(reward_window="1h")
    trial.decide()
    token, entries = trial.lease(), trial.log()
    assert store.attend({name: token})[name]
    assert store.write_rows(name, "sums", token, [Row(0, entries[-1].position, b"row")], entries[-1].position)
    assert store.write_rows(name, "base", token, [], entries[-2].position)
    assert store.trim(name, token, entries[-1].position, b"")
    assert store.write_series(name, token, START, entries[-1].position, {}, ())
    assert isinstance(store, RedisStore)
    store.reserve(name, 1, 10)
    store.hold(name, 0)
    assert store.move_archive(name, b"archive", None, entries[-1].position)
    assert store.changes(name, START).is_end
    assert not store.change_keys(b"no such version", b"", {}, b"", 1)
    assert store.audited("", 1) == []
    store._run("forget", [keys(trial).config], [1])  # refused: it is still there


def test_an_empty_script_cache_is_filled_again(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """Every script goes by its text where the server does not know its digest, and by digest from then on."""
    everything(Trial(real, name + "-before"))
    raw.script_flush()
    digests = [Script(script).digest for script in SCRIPTS]
    assert raw.script_exists(*digests) == [False] * len(SCRIPTS)
    everything(Trial(real, name))
    assert raw.script_exists(*digests) == [True] * len(SCRIPTS)


def test_the_event_loops_client_fills_the_script_cache_too(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """The first append after a restart is answered like any other."""
    trial = Trial(real, name)
    raw.script_flush()

    async def story() -> None:
        assert len(await real.append_async(name, trial.batch(trial.decision()))) == 1
        await real.aclose()

    asyncio.run(story())
    assert trial.tags() == "d"


def test_a_silent_reconnect_is_told_once(short: Path, name: str) -> None:
    """The client library connects anew without an error; who asks afterwards hears of it, whoever used it first."""
    with opened(f"unix://{short / 's'}") as store:
        with lasting(short):
            trial = Trial(store, name)
            assert [store.reconnected() for _ in range(3)] == [True, False, False]
        with lasting(short):
            assert len(trial.log()) == 1
            assert [store.reconnected() for _ in range(3)] == [True, False, False]
        with lasting(short):
            assert [store.reconnected() for _ in range(3)] == [True, False, False]


def test_a_restart_forgets_nothing_that_was_answered(short: Path, name: str) -> None:
    """kill -9 and a new process on the same directory: log, numbers, credits, lease and rows are there."""
    with opened(f"unix://{short / 's'}") as store:
        with lasting(short):
            trial = Trial(store, name)
            ref = trial.decide()
            trial.feed(ref, 5, event="e")
            token, end = trial.lease(), store.end(name)
            assert store.write_rows(name, "sums", token, [Row(0, end, b"row")], end)
            batch = trial.batch(trial.decision())
            answer = store.append(name, batch)
            entries = trial.log()
        with lasting(short):
            assert store.append(name, batch) == answer
            assert trial.log() == entries
            trial.sequence += 1
            assert trial.feed(ref, 5, event="e").status == "duplicate"
            assert store.attend({name: token})[name]
            assert (store.cursor(name, "sums"), store.row(name, "sums", 0)) == (end, Row(0, end, b"row"))


# refusals


CODES = ("LOADING", "BUSY", "OOM", "MISCONF", "READONLY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")


@pytest.mark.parametrize("code", CODES)
def test_a_store_that_cannot_write_now_is_unavailable(proxy: Swallowing, name: str, code: str) -> None:
    """Every such answer, as the client library makes errors of them: the same bytes are sent again later."""
    with opened(proxy.url) as store:
        trial = Trial(store, name)
        proxy.answer_next(f"-{code} something is wrong\r\n".encode())
        with pytest.raises(StoreUnavailable):
            store.append(name, trial.batch(trial.decision()))

        async def story() -> None:
            proxy.answer_next(f"-{code} something is wrong\r\n".encode())
            with pytest.raises(StoreUnavailable):
                await store.append_async(name, trial.batch(trial.decision()))
            await store.aclose()

        asyncio.run(story())
        trial.decide()
        assert trial.tags() == "d"


def test_an_error_of_ours_is_not_taken_for_an_outage(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """A key of the wrong type will not get better by waiting."""
    trial = Trial(real, name)
    raw.set(keys(trial).lease, "a string")
    with pytest.raises(CorruptLog, match="does not hold our data: WRONGTYPE"):
        real.lease(name)


def test_without_memory_a_batch_is_refused_before_its_first_write(
    real: RedisStore, raw: redis.Redis, name: str
) -> None:
    """noeviction: no item of it is written, the number is unused, and with memory again the same bytes are taken."""
    trial = Trial(real, name)
    ref = trial.decide()
    batch = trial.batch(trial.decision(caller="c"), trial.reward(ref, 5), trial.decision())
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            real.append(name, batch)
        assert trial.tags() == "d"
        assert not raw.keys(f"{keys(trial).prefix}:[di]:*")
    finally:
        raw.config_set("maxmemory", 0)
    assert len(real.append(name, batch)) == 3
    assert trial.tags() == "ddfd"


def test_without_memory_everything_that_frees_some_goes_on(own: str, name: str) -> None:
    """Else a full store would stay full: the lease, checkpoints, the base and the trim; and who starts then, starts."""
    with opened(own) as store, opened_raw(own) as raw:
        store.check()
        secret = store.secret()
        trial = Trial(store, name)
        refs = [trial.decide() for _ in range(3)]
        raw.config_set("maxmemory", 1)
        token = store.take_lease(name, None, b"one")
        assert token is not None
        assert store.attend({name: token})[name]
        first_, last = (Position.parse(ref.entry) for ref in (refs[0], refs[-1]))
        assert store.write_rows(name, "sums", token, [Row(0, last, b"sums")], last)
        assert store.write_rows(name, "base", token, [Row(0, first_, b"sums")], first_)
        assert store.trim(name, token, Position.parse(refs[1].entry), b"")
        assert trial.tags() == "dd"
        with opened(own) as started:
            started.check()
            assert started.secret() == secret
        used, most = store.memory()
        assert used > most == 1
        raw.config_set("maxmemory", 0)


@pytest.mark.parametrize("code", ["READONLY", "MASTERDOWN", "LOADING"])
def test_a_node_that_is_no_longer_the_one_is_parted_from(proxy: Swallowing, name: str, code: str) -> None:
    """Nobody ends connections to a node that was demoted: by themselves they would go there for ever."""
    with opened(proxy.url) as store:
        trial = Trial(store, name)
        trial.decide()
        assert store.reconnected()
        assert not store.reconnected()
        proxy.answer_next(f"-{code} is not what you look for\r\n".encode())
        with pytest.raises(StoreUnavailable):
            store.append(name, trial.batch(trial.decision()))
        assert store.reconnected()

        async def story() -> int:
            await store.append_async(name, trial.batch(trial.decision()))
            trial.sequence += 1
            before = proxy.connected
            proxy.answer_next(f"-{code} is not what you look for\r\n".encode())
            with pytest.raises(StoreUnavailable):
                await store.append_async(name, trial.batch(trial.decision()))
            await store.append_async(name, trial.batch(trial.decision()))
            await store.aclose()
            return proxy.connected - before

        assert asyncio.run(story()) == 1


def test_a_clock_that_jumped_ahead_writes_nothing(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """By more than five minutes of ours and of the log: an idle log alone is no jump, nor is a clock of ours behind."""
    trial = Trial(real, name)
    now = real.now_ms()
    behind = trial.batch(trial.decision())._replace(clock_ms=now - 400_000)
    assert isinstance(real.append(name, behind), list)  # the log is of this minute
    trial.sequence += 1
    (config,) = (entry for entry in trial.log() if entry.tag == b"x")
    raw.delete(keys(trial).log)
    raw.xadd(keys(trial).log, {b"x": config.record}, id=f"{now - 3_600_000}-0")
    batch = trial.batch(trial.decision(caller="c"))
    found = real.append(name, batch._replace(clock_ms=now - 400_000))
    assert isinstance(found, Ahead)
    assert found.log_ms == now - 3_600_000
    assert abs(found.store_ms - now) < 10_000
    assert len(trial.log()) == 1
    assert not raw.keys(f"{keys(trial).prefix}:i:*")
    stored = real.config(name)
    assert stored is not None
    changed = msgspec.structs.replace(stored.config, version=2)
    assert isinstance(real.put(changed, stored, now - 400_000), Ahead)  # it would vouch for the clock
    assert real.config(name) == stored
    assert isinstance(real.append(name, batch._replace(clock_ms=now)), list)  # the number was unused
    gone = msgspec.structs.replace(stored.config, version=2, deleted=True)
    assert isinstance(real.put(gone, real.config(name), now - 400_000), Position)  # who deletes needs no windows


@pytest.fixture
def own(short: Path) -> Iterator[str]:
    """A server of the test's own, whose role and settings it may change."""
    with running(find_binary(), short) as url:
        yield url


def test_a_replica_and_a_busy_server_are_unavailable(own: str, name: str) -> None:
    """Really: a read-only replica, one that serves no stale data, too few replicas, and a script that does not end."""
    with opened(own) as store, opened_raw(own) as raw:
        trial = Trial(store, name)
        batch = trial.batch(trial.decision())

        def refused() -> None:
            with pytest.raises(StoreUnavailable):
                store.append(name, batch)

        raw.config_set("min-replicas-to-write", 1)
        refused()
        raw.config_set("min-replicas-to-write", 0)
        raw.replicaof("127.0.0.1", "1")
        refused()
        raw.config_set("replica-serve-stale-data", "no")
        refused()
        with pytest.raises(StoreUnavailable):
            store.end(name)
        raw.replicaof("NO", "ONE")
        raw.config_set("busy-reply-threshold", 10)
        with endless_script(own):
            until(lambda: raises(raw.ping, redis.ResponseError), "BUSY")
            refused()
        assert isinstance(store.append(name, batch), list)
        assert trial.tags() == "d"


def raises(work: Callable[[], object], kind: type[Exception]) -> bool:
    """Whether it raises such an error."""
    try:
        work()
    except kind:
        return True
    return False


@contextmanager
def endless_script(url: str) -> Iterator[None]:
    """A script that runs until the end of `with`."""

    def run() -> None:
        with suppress(redis.RedisError), opened_raw(url) as client:
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        with opened_raw(url) as client:
            until(lambda: not raises(client.script_kill, redis.ResponseError), "the script's end")
        thread.join()


def test_an_absent_store_is_unavailable_whatever_is_asked(short: Path) -> None:
    """No method lets a foreign error through."""
    nowhere = START._replace(ms=1)
    with opened(f"unix://{short / 'nobody'}", timeout=0.2) as store:
        calls: list[Callable[[], object]] = [
            store.check,
            store.names,
            store.secret,
            store.now_ms,
            store.reconnected,
            lambda: store.config("e"),
            lambda: store.read("e", START, 1),
            lambda: store.end("e"),
            lambda: store.at("e", nowhere),
            lambda: store.lease("e"),
            lambda: store.take_lease("e", None, b"h"),
            lambda: store.attend({"e": b"t"}),
            lambda: store.cursor("e", "sums"),
            lambda: list(store.rows("e", "sums")),
            lambda: store.row("e", "sums", 0),
            lambda: store.write_rows("e", "sums", b"t", [], nowhere),
            lambda: store.base_config("e"),
            lambda: store.trim("e", b"t", nowhere, b""),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()


# unsuitable stores


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
def test_a_store_that_may_evict_is_unsuitable(own: str, policy: str) -> None:
    """volatile-lru ate a deduplication key once: every policy but noeviction is refused, and named."""
    with opened(own) as store, opened_raw(own) as raw:
        store.check()
        raw.config_set("maxmemory-policy", policy)
        with pytest.raises(StoreUnsuitable, match=policy):
            store.check()


def test_an_old_server_is_unsuitable(proxy: Swallowing, raw: redis.Redis) -> None:
    """Redis below 7.0 and Valkey below 7.2, by what INFO says; the floor is named."""
    info = raw.info()
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info[f"{kind}_version"])
    old = {"redis": "6.2", "valkey": "7.1"}[kind] + version[3:]
    with opened(proxy.url) as store:
        store.check()
        proxy.rewrites[f"{kind}_version:{version}".encode()] = f"{kind}_version:{old}".encode()
        with pytest.raises(StoreUnsuitable, match=f"{kind} {old}; {'7.0' if kind == 'redis' else '7.2'} or later"):
            store.check()


def test_data_of_another_format_are_not_touched(own: str) -> None:
    """A later version's store is refused; an empty one is marked with this format."""
    with opened(own) as store, opened_raw(own) as raw:
        store.check()
        assert raw.hget(META, "format") == b"1"
        raw.hset(META, "format", "2")
        with pytest.raises(StoreUnsuitable, match="format"):
            store.check()


# the event loop


def test_three_hundred_appends_at_once_are_all_answered(real: RedisStore, name: str) -> None:
    """The client library's own pool refuses the 101st concurrent call; ours lets it wait."""
    trial = Trial(real, name)
    batches = [trial.batch(trial.decision())._replace(producer=f"p{i}") for i in range(300)]

    async def story() -> list[object]:
        replies = await asyncio.gather(*(real.append_async(name, batch) for batch in batches))
        await real.aclose()
        return list(replies)

    assert all(isinstance(reply, list) for reply in asyncio.run(story()))
    assert trial.tags() == "d" * 300


# what lies in the server


def test_everything_of_an_experiment_lies_in_one_slot(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """Every key but the two of the whole store carries the experiment's hash tag."""
    trial = Trial(real, name)
    ref = trial.decide(caller="c", user="u")
    trial.feed(ref, 5)
    trial.feed(ref, 5)  # it wrote nothing, which is counted
    everything(trial)
    ours = {key.decode() for key in raw.keys(f"*{name}*")}
    assert all(key.startswith(f"bandit:{{{name}/0}}:") for key in ours)
    assert {key.split("}:")[1].split(":")[0] for key in ours} == set("diupmh") | {
        "config",
        "log",
        "sums",
        "base",
        "lease",
        "archive",
        "series",
    }
    assert name.encode() in raw.smembers(EXPERIMENTS)


def test_what_is_kept_for_a_while_goes_by_itself_and_not_too_soon(
    real: RedisStore, raw: redis.Redis, name: str
) -> None:
    """Credits, callers' names and users' lists outlive the deadline by the grace period, a producer's reply 2 days."""
    trial = Trial(real, name)
    ref = trial.decide(caller="c", user="u", window_ms=HOUR)
    trial.decide(user="u", window_ms=2 * HOUR)
    trial.decide(user="u", window_ms=1000)
    trial.feed(ref, 5, event="e")
    entry = trial.log()[1].position
    prefix = keys(trial).prefix
    grace_end = entry.ms + HOUR + DAY
    assert raw.pexpiretime(f"{prefix}:i:c") == grace_end
    assert raw.pexpiretime(f"{prefix}:d:{entry.text().decode()}") == grace_end + 1
    assert raw.pexpiretime(f"{prefix}:u:{'u'.rjust(16, '-')}") == trial.log()[2].position.ms + 2 * HOUR + DAY
    assert 2 * DAY - 60_000 < raw.pttl(keys(trial).producer(trial.producer)) <= 2 * DAY
    forever = [keys(trial).config, keys(trial).log]
    assert [raw.ttl(key) for key in forever] == [-1, -1]


def test_feedback_at_the_last_moment_of_a_window_without_grace_is_remembered(own: str, name: str) -> None:
    """The credits outlive the deadline's own millisecond: noted at it, they are there for a repetition at it.

    The log is made to be exactly at the deadline, and the clock before it, so that moment lasts as long as the test.
    """
    with opened(own) as store, opened_raw(own) as raw:
        trial = Trial(store, name, grace_ms=0)
        ref = trial.decide(window_ms=60_000)
        raw.xadd(keys(trial).log, {"x": trial.log()[0].record}, id=f"{at(ref).ms + 60_000}-0")
        assert [trial.feed(ref, 5, event="e").status for _ in range(2)] == ["accepted", "duplicate"]
        state = f"{keys(trial).prefix}:d:{ref.entry.decode()}"
        assert raw.pexpiretime(state) == at(ref).ms + 60_000 + 1
        raw.xadd(keys(trial).log, {"x": trial.log()[0].record}, id=f"{at(ref).ms + 60_001}-0")
        assert trial.feed(ref, 5, event="f").status == "late"


def test_windows_are_judged_by_the_log_where_it_is_ahead_of_the_clock(
    real: RedisStore, raw: redis.Redis, name: str
) -> None:
    """After the clock was set back: now is the last entry's time, and entries go on from there."""
    trial = Trial(real, name)
    ref = trial.decide(window_ms=HOUR)
    raw.xadd(keys(trial).log, {"x": trial.log()[0].record}, id=f"{at(ref).ms + 2 * HOUR}-0")
    assert trial.feed(ref, 5).status == "late"
    later = trial.decide()
    assert at(later).ms == at(ref).ms + 2 * HOUR
    assert trial.feed(later, 5).status == "accepted"


def test_credits_of_another_generation_at_the_same_entry_count_as_absent(
    real: RedisStore, raw: redis.Redis, name: str
) -> None:
    """After a lost suffix entry ids may come again: what was credited to the old entry is not the new one's."""
    trial = Trial(real, name)
    ref = trial.decide(user="u")
    trial.send(trial.reward(ref, 5, event="e"), trial.reward(ref, 5, event="f"))
    trial.change(reset=True)
    raw.delete(keys(trial).log)
    decision = trial.decision(user="u", deferred=True)
    raw.xadd(keys(trial).log, {"d": decision.record}, id=ref.entry)
    again = trial.ref(decision, Logged(at(ref)))
    by_user = Ref(user=decision.user)
    assert trial.send(trial.reward(by_user, 5, event="e")) == [Outcome("unknown")]  # deferred, and not activated yet
    assert trial.feed(again, 7, event="e").credited == 7
    assert trial.feed(again, 7, event="e").status == "duplicate"
    assert trial.tags() == "daf"
    assert trial.feed(again, 1, event="f").credited == 1


def test_a_position_may_move_back_from_what_the_log_has_lost(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """What stands there is of no log any more: the sums of what remains take its place."""
    trial = Trial(real, name)
    trial.decide()
    token, (early, late) = trial.lease(), [entry.position for entry in trial.log()]
    assert real.write_rows(name, "sums", token, [Row(0, late, b"late")], late)
    raw.xdel(keys(trial).log, late.text())
    assert not real.write_rows(name, "sums", token, [Row(0, late, b"late")], late)
    assert real.write_rows(name, "sums", token, [Row(0, early, b"early")], early)
    assert (real.row(name, "sums", 0), real.cursor(name, "sums")) == (Row(0, early, b"early"), early)


@pytest.mark.parametrize(("kept", "ms"), [({}, 604_800_000), ({"deleted_retention": "30s"}, 3_600_000)])
def test_a_deleted_experiments_log_stays(
    real: RedisStore, raw: redis.Redis, name: str, kept: dict[str, str], ms: int
) -> None:
    """A week or as asked, and an hour at least so that every server hears of it; made again meanwhile, it is kept."""
    trial = Trial(real, name, **kept)
    trial.decide()
    token, end = trial.lease(), real.end(name)
    assert real.write_rows(name, "sums", token, [Row(0, end, b"row")], end)
    assert real.write_rows(name, "base", token, [], trial.log()[0].position)
    data = [keys(trial).log, keys(trial).lease, keys(trial).table("sums"), keys(trial).table("base")]
    trial.delete()
    assert all(ms - 100_000 < raw.pttl(key) <= ms for key in data)
    deleted = real.config(name)
    assert deleted is not None
    again = first(name, deleted.config.document, deleted.config)
    assert real.put(again, deleted) is not None
    assert [raw.ttl(key) for key in data] == [-1] * 4


def test_a_log_has_no_payloads_but_the_config_does(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """Of 200 arms of 2 kB, one is changed 20 times: 8 MB in the log, were they in it each time."""

    def document(payload: str) -> Document:
        arms = [{"id": f"a{i}", "payload": payload if i == 0 else "x" * 2000} for i in range(200)]
        return parse_document(msgspec.json.encode(DOCUMENT | {"arms": arms}))

    config = first(name, document("x" * 2000))
    assert real.put(config, None) is not None
    for i in range(20):
        config = revise(config, document(str(i) * 500), learned=False, reset=False)
        assert real.put(config, real.config(name)) is not None
    log = real.read(name, START, 1000)
    assert len(log) == 21
    assert sum(len(entry.record) for entry in log) < 100_000
    stored = real.config(name)
    assert stored is not None
    assert len(bytes(stored.config.document.arms[7].payload)) == 2002
    assert raw.memory_usage(Keys.of(name).log) < 200_000


def test_a_config_of_a_later_version_can_be_deleted(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """It is told apart from one that is not there; what is left of it is enough to end it."""
    trial = Trial(real, name)
    raw.hset(keys(trial).config, "config", b'{"of":"the future"}')
    with pytest.raises(CorruptLog, match="cannot be read"):
        real.config(name)
    left = real.remains(name)
    assert left is not None
    assert left.config.version == trial.config.version
    assert real.put(msgspec.structs.replace(left.config, version=2, deleted=True), left) is not None
    found = real.config(name)
    assert found is not None
    assert found.config.deleted


def test_once_its_log_is_no_longer_kept_nothing_is_left(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """Not of one that is there or was made again, and not another one's: also what outlives the log by days."""
    trial, other = Trial(real, name), Trial(real, name + "-other")
    for each in (trial, other):
        each.send(each.decision(caller="c", user="anna"), each.reward(Ref(caller=b"c"), 5, event="e"))
    swept(real, [name])  # it is there
    assert not real.forget(name)
    assert raw.keys(f"{keys(trial).prefix}:d:*")
    trial.delete()
    swept(real, [name, other.name])
    assert {key.decode() for key in raw.keys(f"{keys(trial).prefix}:*")} <= set(keys(trial).all)
    assert "d" in trial.tags()
    assert not real.forget(name)
    kept_no_longer(raw, trial)
    assert real.forget(name)
    assert not raw.keys(f"{keys(trial).prefix}:*")
    assert len(raw.keys(f"{keys(other).prefix}:*")) >= 6
    assert (name in real.names(), other.name in real.names()) == (False, True)
    Trial(real, name)
    swept(real, [name])
    assert not real.forget(name)
    assert name in real.names()


def test_until_it_is_forgotten_a_generation_does_not_begin_again(real: RedisStore, raw: redis.Redis, name: str) -> None:
    """What may be left of a user's events is of the one that was deleted."""
    trial = Trial(real, name)
    trial.send(trial.decision(caller="c", user="anna"), trial.reward(Ref(caller=b"c"), 5, event="e"))
    trial.delete()
    kept_no_longer(raw, trial)
    before = real.config(name)
    assert before is not None
    assert real.put(first(name, trial.config.document, before.config), before) is not None
    again = real.config(name)
    assert again is not None
    assert (again.config.generation, again.config.deleted) == (2, False)
    assert not real.forget(name)
    assert raw.keys(f"{keys(trial).prefix}:e:*")


def kept_no_longer(raw: redis.Redis, trial: Trial) -> None:
    """Long after its deletion."""
    raw.hset(keys(trial).config, "updated", f"{trial.store.now_ms() - 605_000_000}-0")
    raw.delete(keys(trial).log)


def swept(store: RedisStore, names: list[str]) -> None:
    """A sweep, whole."""
    at = store.sweep(names, 0)
    while at:
        at = store.sweep(names, at)


def test_activation_and_feedback_by_a_servers_id_are_read_from_the_log_alone(real: Store, name: str) -> None:
    """A decision that was never rewarded has no key of its own: the log is the table in which feedback finds it."""
    trial = Trial(real, name)
    ref = trial.decide(deferred=True)
    assert [each.status for each in trial.send(Activate(ref), trial.reward(ref, 5, SALE))] == ["activated", "accepted"]
