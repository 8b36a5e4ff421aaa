"""Verification says equal where checkpoints and log agree bit for bit, and never where they do not."""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from trial import CLICK, HOUR, SALE, Trial, Watched

from bandit.errors import Code, CorruptLog, Problem
from bandit.log.records import DEFERRED, START, Entry, Position, decision_head
from bandit.replica import trim as trimming
from bandit.replica.replica import Replica
from bandit.replica.verify import verify
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Row, Store
from bandit.store.redis_store import RedisStore

ARMS = 4


def some(trial: Trial, window_ms: int = HOUR) -> None:
    """A decision and feedback of each arm, a list, and a deferred decision."""
    for arm in range(ARMS):
        ref = trial.decide(arm, x=(4096, 50 + trial.nonces), window_ms=window_ms, deferred=arm == 1)
        trial.feed(ref, 1 + arm, SALE)
    trial.decide(3, 0, x=(4096, 7), window_ms=window_ms)


def checkpointed(trial: Trial) -> bytes:
    """Write every arm's row at the log's end, and the cursor; the token."""
    replica = Replica(trial.name, trial.store)
    replica.load()
    replica.catch_up()
    rows, token = [replica.row(arm) for arm in range(replica.shape[0])], trial.lease()
    assert trial.store.write_rows(trial.name, "sums", token, rows, replica.position)
    return token


@pytest.fixture
def clock() -> list[float]:
    """Seconds, set by hand."""
    return [1e9]


@pytest.fixture
def here(name: str, clock: list[float]) -> Trial:
    """An experiment in memory that was trimmed once, was checkpointed since, and has gone on."""
    trial = Trial(MemoryStore(lambda: clock[0]), name, grace_ms=0)
    some(trial, window_ms=1000)
    clock[0] += 10
    token = checkpointed(trial)
    assert trimming.trim(trial.store, trial.name, token, trial.experiment, 0) > 5
    some(trial)
    checkpointed(trial)
    some(trial)
    return trial


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100, 8192])
def test_it_is_equal_whatever_the_batch(here: Trial, batch: int) -> None:
    """And says how much it folded: entries of the log, decisions and feedback among them, and where it ended."""
    log = here.log()
    assert verify(here.store, here.name, batch) == {
        "equal": True,
        "folded": len(log),
        "decisions": len([entry for entry in log if entry.tag == b"d"]),
        "feedback": len([entry for entry in log if entry.tag == b"f"]),
        "position": log[-1].position.text().decode(),
    }


def test_each_arm_is_compared_at_its_own_position(store: Store, name: str) -> None:
    """Rows of different ages, some ahead of the cursor, an arm without a row: on every store."""
    trial = Trial(store, name)
    some(trial)
    token = checkpointed(trial)
    for arm in (2, 0):
        trial.feed(trial.decide(arm, x=(4096, 999)), 9)
        replica = Replica(name, store)
        replica.load()
        replica.catch_up()
        assert store.write_rows(name, "sums", token, [replica.row(arm)], None)
        assert verify(store, name)["equal"]


@pytest.fixture
def real(valkey: str, name: str) -> Iterator[tuple[Trial, redis.Redis]]:
    """An experiment with a base and checkpoints on a real store, and a plain client to damage it with."""
    store = RedisStore(valkey)
    trial = Trial(store, name, grace_ms=0)
    some(trial, window_ms=1000)
    trimming.trim(later(store), name, checkpointed(trial), trial.experiment, 0)
    some(trial)
    trial.feed(trial.decide(2), 700_000, CLICK)
    checkpointed(trial)
    with redis.Redis.from_url(valkey) as raw:
        yield trial, raw
    store.close()


def later(store: Store) -> Any:
    """A store whose clock is two minutes ahead for who asks it: not so far that it is not believed."""
    watched = Watched(store)
    watched.now_ms = lambda: store.now_ms() + 120_000
    return watched


PARTS = {"n": 16, "A": 24, "B": 24 + 8 * 3, "R": 24 + 8 * (3 + 4)}  # where they begin in a row of d = 2, m = 2


@pytest.mark.parametrize("table", ["sums", "base"])
def test_one_bit_of_one_row_makes_it_unequal(real: tuple[Trial, redis.Redis], table: str) -> None:
    """Of any arm, of any part, of the checkpoints or of the base; put right, it is equal again."""
    trial, raw = real
    key = Keys.of(trial.name).table(table)
    for arm in range(ARMS):
        good = raw.hget(key, str(arm))
        assert good is not None
        for at in PARTS.values():
            broken = bytearray(good)
            broken[16 + at] ^= 1  # a row begins with its position
            raw.hset(key, str(arm), bytes(broken))
            assert not verify(trial.store, trial.name)["equal"]
        raw.hset(key, str(arm), good)
        assert verify(trial.store, trial.name)["equal"]


def test_one_entry_less_makes_it_unequal(real: tuple[Trial, redis.Redis]) -> None:
    """Whichever it is that the checkpoints hold: each alone is taken out and put back."""
    trial, raw = real
    log, entries = Keys.of(trial.name).log, trial.log()
    assert verify(trial.store, trial.name)["equal"]
    learned = [entry for entry in entries if entry.tag in b"daf" and not is_deferred(entry)]
    assert len(learned) > 10
    for entry in learned:
        raw.xdel(log, entry.position.text())
        result = verify(trial.store, trial.name)
        assert not result["equal"], entry
        assert result["folded"] == len(entries) - 1
        raw.delete(log)
        for each in entries:
            raw.xadd(log, {each.tag: each.record}, id=each.position.text())
        assert verify(trial.store, trial.name)["equal"]


def is_deferred(entry: Entry) -> bool:
    """Whether it folds to nothing: its activation is what counts."""
    return entry.tag == b"d" and bool(decision_head(entry.record).flags & DEFERRED)


def test_a_lost_row_or_a_row_too_many_makes_it_unequal(real: tuple[Trial, redis.Redis]) -> None:
    """Also where an arm's whole row vanished, or stands at a later entry than its sums."""
    trial, raw = real
    key = Keys.of(trial.name).table("sums")
    row = raw.hget(key, "1")
    raw.hdel(key, "1")
    assert not verify(trial.store, trial.name)["equal"]
    raw.hset(key, "1", row)
    assert verify(trial.store, trial.name)["equal"]
    trial.feed(trial.decide(1, x=(4096, 3)), 9)
    end = trial.store.end(trial.name)
    raw.hset(key, "1", struct.pack(">QQ", *end) + row[16:])
    assert not verify(trial.store, trial.name)["equal"]


def test_an_entry_that_cannot_be_read_is_an_error_not_a_result(real: tuple[Trial, redis.Redis]) -> None:
    """Neither equal nor unequal can be said of a log that this version cannot read."""
    trial, raw = real
    raw.xadd(Keys.of(trial.name).log, {b"d": trial.decision().record[:80]})
    with pytest.raises(CorruptLog):
        verify(trial.store, trial.name)


def test_there_is_nothing_to_verify_where_there_is_no_experiment(here: Trial) -> None:
    """Never was, or deleted: a problem, not a vacuous success."""
    with pytest.raises(Problem) as never:
        verify(here.store, "never-" + here.name)
    here.delete()
    with pytest.raises(Problem) as deleted:
        verify(here.store, here.name)
    assert never.value.code == deleted.value.code == Code.EXPERIMENT_NOT_FOUND


def interrupted(trial: Trial, method: str, work: Any) -> Watched:
    """A store in which something happens before the next call of a method, once."""
    watched = Watched(trial.store)

    def before(called: str, _: object) -> None:
        if called == method:
            watched.before = lambda *_: None
            work()

    watched.before = before
    return watched


@pytest.mark.parametrize("method", ["cursor", "rows", "end", "read"])
def test_a_trim_or_a_change_meanwhile_is_no_difference(here: Trial, clock: list[float], method: str) -> None:
    """Servers are at work on it: what moved the ground is noticed, and it is read again."""

    def trim() -> None:
        clock[0] += 7200
        assert trimming.trim(here.store, here.name, checkpointed(here), here.experiment, 0) > 0

    def change() -> None:
        rewards = msgspec.to_builtins(here.config.document.rewards)
        here.change(rewards={**rewards, "visit": {}}, arms=["a", "b", "c", "d", "e"])
        here.feed(here.decide(4), 500_000, 2)
        checkpointed(here)

    def reset() -> None:
        here.change(reset=True)
        some(here)
        checkpointed(here)

    for work in (trim, change, reset):
        assert verify(interrupted(here, method, work), here.name)["equal"]


def trimming_at(trial: Trial, token: bytes, plan: dict[int, int]) -> tuple[Watched, list[Position]]:
    """(a store whose log is trimmed by so many entries before the i-th read, from where it was read)."""
    watched, reads = Watched(trial.store), list[Position]()

    def before(method: str, args: Any) -> None:
        if method == "read":
            for _ in range(plan.get(len(reads), 0)):
                assert trimming.trim(trial.store, trial.name, token, trial.experiment, 0) == 1
            reads.append(args[1])

    watched.before = before
    return watched, reads


@pytest.fixture
def growing(name: str, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Trial:
    """An experiment whose 40 checkpointed entries can be trimmed one at a time, with more that are not checkpointed."""
    monkeypatch.setattr(trimming, "STEP", 1)
    trial = Trial(MemoryStore(lambda: clock[0]), name, grace_ms=0)
    for _ in range(5):
        some(trial, window_ms=1000)
    clock[0] += 10
    checkpointed(trial)
    some(trial)
    return trial


def test_a_log_that_is_trimmed_behind_the_reader_is_read_once(growing: Trial) -> None:
    """An entry goes before every single read, as under load: each entry left is read once, and it ends."""
    log = growing.log()
    watched, reads = trimming_at(growing, checkpointed(growing), dict.fromkeys(range(1, 30), 1))
    result = verify(watched, growing.name, 2)
    assert len(growing.log()) < len(log) - 20
    assert (result["equal"], result["folded"]) == (True, len(log))
    assert reads == [START, *(entry.position for entry in log[1:-1:2])]


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 10])
def test_a_trim_that_overtakes_the_reader_begins_it_again(growing: Trial, at: int, beyond: int) -> None:
    """However little it goes beyond what has been read: nothing is missed, and nothing counted twice."""
    log = growing.log()
    watched, reads = trimming_at(growing, checkpointed(growing), {at: 2 * at + beyond})
    assert verify(watched, growing.name, 2)["equal"]
    assert (reads.count(START) > 1) == (beyond > 0)
    assert len(growing.log()) == len(log) - (2 * at + beyond)


def test_what_is_cut_before_the_base_is_read_does_not_matter(growing: Trial) -> None:
    """Ten entries go after two have been read: the base holds them, and nothing is read twice."""
    token = checkpointed(growing)
    watched, reads = trimming_at(growing, token, {})
    count = watched.before

    def before(method: str, args: Any) -> None:
        if method == "cursor" and args[1] == "base" and len(reads) == 1:
            while len(growing.log()) > 40:
                assert trimming.trim(growing.store, growing.name, token, growing.experiment, 0) == 1
        count(method, args)

    watched.before = before
    assert len(growing.log()) > 50
    assert verify(watched, growing.name, 2)["equal"]
    assert reads.count(START) == 1


def test_a_base_that_is_ahead_of_the_log_does_not_matter(growing: Trial) -> None:
    """A trim that failed has moved the base and cut nothing: also where one entry is read at a time."""
    watched = Watched(growing.store)
    watched.trim = lambda *_: False
    for _ in range(3):
        trimming.trim(watched, growing.name, checkpointed(growing), growing.experiment, 0)
    watched, reads = trimming_at(growing, checkpointed(growing), {4: 1})
    assert verify(watched, growing.name, 1)["equal"]
    assert reads.count(START) == 1


def test_a_base_that_moves_ahead_of_the_cut_overtakes_nobody(growing: Trial) -> None:
    """A trim that fails moves the base ten entries on and cuts nothing: what has not been read yet still stands."""
    token, log = checkpointed(growing), growing.log()
    watched, reads = trimming_at(growing, token, {})
    count, moving = watched.before, Watched(growing.store)
    moving.trim = lambda *_: False

    def before(method: str, args: Any) -> None:
        if method == "read" and len(reads) == 2:
            trimming.STEP = 10  # as the fixture has it set, and sets it back
            trimming.trim(moving, growing.name, token, growing.experiment, 0)
        count(method, args)

    watched.before = before
    assert verify(watched, growing.name, 2)["folded"] == len(log)
    assert growing.store.cursor(growing.name, "base") == log[9].position
    assert reads.count(START) == 1


def test_what_comes_after_the_end_was_taken_is_not_read(growing: Trial) -> None:
    """Not even where it stands in the same batch: it may be of a kind and an arm that were not known then."""
    log = growing.log()

    def change() -> None:
        rewards = msgspec.to_builtins(growing.config.document.rewards)
        growing.change(rewards={**rewards, "visit": {}}, arms=["a", "b", "c", "d", "e"])
        growing.feed(growing.decide(4), 500_000, 2)
        checkpointed(growing)

    watched, reads = trimming_at(growing, b"", {})
    count = watched.before

    def before(method: str, args: Any) -> None:
        if method == "read" and len(reads) == 1:
            change()
        count(method, args)

    watched.before = before
    result = verify(watched, growing.name, len(log) - 1)
    assert (result["equal"], result["folded"]) == (True, len(log))
    assert reads == [START, log[-2].position]


@pytest.mark.parametrize("when", range(14))
def test_servers_may_be_at_work_between_any_two_questions(growing: Trial, clock: list[float], when: int) -> None:
    """They learn, write checkpoints and trim past those of before, all between two things that it asks for."""
    watched, asked = Watched(growing.store), []

    def before(method: str, _: Any) -> None:
        asked.append(method)
        if len(asked) == when + 1:
            for _ in range(3):
                some(growing, window_ms=1)
                clock[0] += 7200
                trimming.STEP = 25  # as the fixture has it set, and sets it back
                trimming.trim(growing.store, growing.name, checkpointed(growing), growing.experiment, 0)

    watched.before = before
    assert verify(watched, growing.name, 2)["equal"]
    assert len(asked) > when


@pytest.mark.parametrize("table", ["sums", "base"])
def test_what_is_wrong_is_found_also_under_trimming(growing: Trial, table: Any) -> None:
    """Two arms' rows in place of each other: unequal, as it is equal without that."""
    token = checkpointed(growing)
    for _ in range(12):
        assert trimming.trim(growing.store, growing.name, token, growing.experiment, 0) == 1
    watched, reads = trimming_at(growing, token, dict.fromkeys(range(1, 9), 1))
    assert verify(watched, growing.name, 2)["equal"]
    reads.clear()

    def rows(name: str, of: Any) -> list[Row]:
        found = list(growing.store.rows(name, of))
        swapped = [found[1]._replace(arm=found[0].arm), found[0]._replace(arm=found[1].arm), *found[2:]]
        return swapped if of == table else found

    watched.rows = rows
    assert not verify(watched, growing.name, 2)["equal"]


def test_a_log_that_is_always_trimmed_meanwhile_is_given_up(here: Trial, clock: list[float]) -> None:
    """It says so rather than say something else."""
    watched = Watched(here.store)

    def trim(method: str, _: object) -> None:
        if method == "end":
            some(here, window_ms=1)
            clock[0] += 7200
            assert trimming.trim(here.store, here.name, checkpointed(here), here.experiment, 0) > 0

    watched.before = trim
    with pytest.raises(Problem, match="trimmed"):
        verify(watched, here.name)


def test_without_checkpoints_it_folds_the_log_and_compares_nothing_else(name: str) -> None:
    """A new experiment before its first pass: what was read is told, so that nobody takes it for more."""
    trial = Trial(MemoryStore(), name)
    some(trial)
    assert trial.store.cursor(name, "sums") == START
    result = verify(trial.store, name)
    assert (result["equal"], result["decisions"]) == (True, 5)
