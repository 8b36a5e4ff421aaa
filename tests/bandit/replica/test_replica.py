"""A replica: what it folds is the fold of the log, wherever it started and whatever happened to the store meanwhile."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from trial import CLICK, SALE, Trial, Watched, exact, past, slow_sums

from bandit.arrays import Int
from bandit.core.engine import CHUNK
from bandit.core.sums import Events, Sums
from bandit.errors import CorruptLog, StoreUnavailable
from bandit.log.records import START, Entry, Position, unpack_decision
from bandit.replica.replica import Replica
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Ref, Row, Store
from bandit.store.redis_store import RedisStore

OTHER = [{"name": "n", "type": "number", "mean": 0, "scale": 1}, {"name": "b", "type": "boolean"}]


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment of two kinds, click and sale."""
    return Trial(store, name)


@pytest.fixture
def here(name: str) -> Trial:
    """The same in memory, where the kind of store is not the point."""
    return Trial(MemoryStore(), name)


@pytest.fixture
def lossy(valkey: str, name: str) -> Iterator[tuple[Trial, Callable[[int], None]]]:
    """An experiment on a real store, and what makes its log lose its last entries."""
    store = RedisStore(valkey)

    def lose(count: int) -> None:
        with redis.Redis.from_url(valkey) as raw:
            raw.xdel(Keys.of(name).log, *(entry.position.text() for entry in store.read(name, START, 100_000)[-count:]))

    yield Trial(store, name), lose
    store.close()


def some(trial: Trial, times: int = 1) -> None:
    """Decisions and feedback of every sort."""
    for i in range(times):
        refs = [trial.decide(arm, x=(4096, 37 * arm - i), deferred=arm == 2) for arm in range(3)]
        several = trial.decide(3, 0, x=(4096, i), caller=f"c{trial.nonces}")
        trial.send(*(trial.reward(ref, 3 + i, SALE) for ref in refs))
        trial.send(trial.reward(several, 500_000, CLICK, arm=0), trial.reward(refs[1], -4, SALE, "e"))


def loaded(store: Store, name: str) -> Replica:
    """A replica that has just started."""
    replica = Replica(name, store)
    replica.load()
    replica.catch_up()
    return replica


def sums(replica: Replica) -> Sums:
    """Its sums."""
    assert replica.model is not None
    return replica.model.sums


def checkpoint(trial: Trial, replica: Replica) -> None:
    """Write every arm's row, and the cursor."""
    rows = [replica.row(arm) for arm in range(replica.shape[0])]
    assert trial.store.write_rows(trial.name, "sums", trial.lease(), rows, replica.position)


def test_its_sums_are_the_fold_of_the_log(trial: Trial) -> None:
    """Bit for bit, with lists, activations, several kinds; and it stands at the log's end, scored up to there."""
    some(trial, 3)
    replica = loaded(trial.store, trial.name)
    assert exact(sums(replica)) == trial.slow()
    assert replica.position == replica.scored == trial.store.end(trial.name)


def test_who_starts_at_a_checkpoint_of_the_logs_end_has_seen_it(here: Trial) -> None:
    """There is nothing to read; /readyz must not say that nobody knows how old its knowledge is."""
    here.decide()
    checkpoint(here, loaded(here.store, here.name))
    second = Replica(here.name, here.store)
    second.load()
    assert second.position == here.store.end(here.name)
    second.catch_up()
    assert second.read_at > 0


def test_what_is_read_in_pieces_is_the_same(trial: Trial) -> None:
    """A replica that was there from the start, and saw each entry alone, has the same sums as one that came late."""
    early = loaded(trial.store, trial.name)
    for _ in range(3):
        some(trial)
        entries = trial.store.read(trial.name, early.position, 1000)
        for entry in entries:
            early.fold([entry])
    assert early.position == trial.store.end(trial.name)
    assert sums(early).digest() == sums(loaded(trial.store, trial.name)).digest()


def test_who_reads_the_sums_finds_the_position_that_they_hold(here: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that comes the moment after the events were added waits until the position is theirs."""
    replica = loaded(here.store, here.name)
    some(here)
    model, found = replica.model, list[Position]()
    assert model is not None
    learn = model.learn

    def read() -> None:
        with model.learning:
            found.append(replica.position)

    readers: list[threading.Thread] = []

    def learned(events: Events) -> Int:
        arms = learn(events)
        readers.append(threading.Thread(target=read))
        readers[-1].start()
        readers[-1].join(0.05)
        return arms

    monkeypatch.setattr(model, "learn", learned)
    replica.step()
    for reader in readers:
        reader.join()
    assert found == [here.store.end(here.name)]


@pytest.mark.parametrize("what", ["arms", "generation"])
def test_who_reads_the_sums_while_they_change_finds_those_of_the_position(
    here: Trial, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """New arms and a new generation move the position and the model together."""
    some(here)
    replica = loaded(here.store, here.name)
    seen: list[tuple[Position, tuple[int, int, int], int]] = []
    made = Sums.zeros

    def looked(*shape: int) -> Sums:
        with replica.held() as model:
            seen.append((replica.position, model.sums.shape, model.experiment.config.version))
        return made(*shape)

    before, shape = replica.position, replica.shape
    if what == "arms":
        here.change(arms=["a", "b", "c", "d", "e"])
    else:
        here.change(reset=True)
    monkeypatch.setattr(Sums, "zeros", looked)
    replica.catch_up()
    monkeypatch.undo()
    assert {each for each in seen if each[0] == before} <= {(before, shape, 1)}
    assert len(seen) >= 1
    assert all(version == 2 for position, _, version in seen if position > before)


def test_a_store_that_fails_while_a_change_is_taken_up_is_no_lost_end(
    here: Trial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Decisions and then a change in one read: the position is that of the last decision, whose entry is there."""
    some(here)
    replica = loaded(here.store, here.name)
    some(here)
    here.change(arms=["a", "b", "c", "d", "e"])
    config = here.store.config
    calls = iter([True])

    def failing(name: str) -> Any:
        if next(calls, False):
            raise StoreUnavailable("away")
        return config(name)

    monkeypatch.setattr(here.store, "config", failing)
    with pytest.raises(StoreUnavailable):
        replica.step()
    replica.catch_up()
    assert "lost its end" not in caplog.text
    assert replica.shape[0] == 5
    assert replica.model is not None
    assert exact(replica.model.sums) == here.slow()


def test_scored_follows_only_when_every_arm_is_refreshed(here: Trial) -> None:
    """`scored` is what decisions reflect: it stays behind while an arm waits."""
    replica = loaded(here.store, here.name)
    before = replica.scored
    some(here)
    replica.step()
    assert (replica.position, replica.scored) == (here.store.end(here.name), before)
    while replica.refresh():
        pass
    assert replica.scored == replica.position


def test_scored_follows_under_load_too(name: str) -> None:
    """With more arms than a refresh takes, all changing all the time, none is ever idle; still it follows, truly.

    What decisions reflect is asked of the scoring data: each arm has at least the impressions up to `scored`.
    """
    trial = Trial(MemoryStore(), name, arms=[f"arm-{i}" for i in range(3 * CHUNK)])
    replica = loaded(trial.store, name)
    assert replica.model is not None
    followed = set()
    for _ in range(12):
        trial.send(*(trial.decision(arm) for arm in range(3 * CHUNK)))
        replica.step()
        replica.refresh()
        assert replica.model.waiting.learned
        shown = np.zeros(3 * CHUNK)
        for entry in trial.log():
            if entry.tag == b"d" and entry.position <= replica.scored:
                shown[list(unpack_decision(entry.record).arms)] += 1
        assert (replica.model.scorer.rows.moments.n >= shown).all()
        followed.add(replica.scored)
    assert len(followed) > 2
    assert trial.log()[-6 * 3 * CHUNK].position < replica.scored < replica.position


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_scored_follows_beside_arms_that_are_only_to_be_read_anew(name: str, chunk: int) -> None:
    """Whatever the size of a turn: as soon as all that learned something are refreshed, and not before."""
    trial = Trial(MemoryStore(), name, arms=[f"arm-{i}" for i in range(300)])
    replica = loaded(trial.store, name)
    assert replica.model is not None
    trial.send(*(trial.decision(arm) for arm in range(100)))
    replica.step()
    replica.model.waiting.renew(300)
    while replica.model.waiting.learned:
        assert replica.scored < replica.position
        replica._chunk = chunk
        replica.refresh()
    assert replica.model.waiting.stale
    assert replica.scored == replica.position


def test_what_arms_have_in_common_is_found_without_traffic(name: str) -> None:
    """A document that pools them is taken up whole while nobody decides: the look goes on when all arms are fresh."""
    trial = Trial(MemoryStore(), name, arms=[f"arm-{i}" for i in range(60)])
    replica = loaded(trial.store, name)
    trial.send(*(trial.decision(arm) for arm in range(60)))
    replica.catch_up()
    trial.change(prior="pooled")
    replica.step()
    for _ in range(60):
        replica.refresh()
    assert replica.model is not None
    assert replica.model.scorer.common
    assert not replica.refresh()


def test_a_kind_added_later_starts_at_zero_for_older_decisions(trial: Trial) -> None:
    """Through the log, through a checkpoint from before the change, and through one from after it."""
    live = loaded(trial.store, trial.name)
    some(trial)
    live.catch_up()
    checkpoint(trial, live)
    rewards = msgspec.to_builtins(trial.config.document.rewards)
    trial.change(rewards={**rewards, "visit": {"range": [-9, 9], "unit": 1, "default": -3}})
    some(trial)
    from_before = loaded(trial.store, trial.name)
    live.catch_up()
    checkpoint(trial, live)
    from_after = loaded(trial.store, trial.name)
    whole = trial.slow()
    assert [whole[arm][1][2][0] // 4096 for arm in range(4)] == [-6, -3, -3, -3]  # default x impressions since
    for replica in (live, from_before, from_after):
        assert exact(sums(replica)) == whole


def test_arms_added_later_take_their_own_place(trial: Trial) -> None:
    """New arms have seen nothing; retired ones keep what they have; an older row fits the larger experiment."""
    live = loaded(trial.store, trial.name)
    some(trial)
    live.catch_up()
    checkpoint(trial, live)
    trial.change(arms=["d", "e", "f"])
    assert trial.config.index == ("a", "b", "c", "d", "e", "f")
    trial.feed(trial.decide(5, x=(4096, 9)), 8)
    live.catch_up()
    assert exact(sums(live)) == exact(sums(loaded(trial.store, trial.name))) == trial.slow()
    assert trial.slow()[5][3] == 1


def test_a_new_generation_starts_from_zero(trial: Trial) -> None:
    """For a live replica and a new one: rows and entries of the older generation count for nothing."""
    live = loaded(trial.store, trial.name)
    some(trial)
    live.catch_up()
    checkpoint(trial, live)
    trial.change(reset=True, features=OTHER)
    live.catch_up()
    assert exact(sums(live))[0][3] == 0
    trial.decide(1, x=(4096, 5, 4096))
    live.catch_up()
    assert exact(sums(live)) == exact(sums(loaded(trial.store, trial.name))) == trial.slow()
    assert [trial.slow()[arm][3] for arm in range(4)] == [0, 1, 0, 0]


def test_a_deleted_experiment_is_gone_and_made_again_starts_from_zero(trial: Trial) -> None:
    """For a live replica and a new one."""
    live = loaded(trial.store, trial.name)
    some(trial)
    trial.delete()
    live.catch_up()
    assert live.model is None
    assert loaded(trial.store, trial.name).model is None
    stored = trial.store.config(trial.name)
    assert stored is not None
    trial.change()
    trial.decide(2)
    live.catch_up()
    assert exact(sums(live)) == exact(sums(loaded(trial.store, trial.name))) == trial.slow()
    assert trial.slow()[2][3] == 1


def test_an_experiment_that_never_was_has_no_model(here: Trial) -> None:
    """It stands at the start, and finds the experiment when it comes."""
    replica = Replica("later-" + here.name, here.store)
    replica.load()
    replica.catch_up()
    assert (replica.model, replica.position) == (None, START)
    later = Trial(here.store, "later-" + here.name)
    some(later)
    replica.catch_up()
    assert exact(sums(replica)) == later.slow()


# a log that loses entries


def test_a_log_that_lost_its_end_is_noticed_and_folded_anew(
    lossy: tuple[Trial, Callable[[int], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """The last folded entry is gone: it says so, and the sums are those of what remains, from the checkpoint on."""
    trial, lose = lossy
    some(trial)
    replica = loaded(trial.store, trial.name)
    checkpoint(trial, replica)
    some(trial, 2)
    replica.catch_up()
    gone = replica.position
    lose(7)
    replica.check_position()
    assert exact(sums(replica)) == trial.slow()
    assert replica.position == trial.log()[-1].position
    assert f"has lost its end: entry {gone.text().decode()} is gone" in caplog.text
    caplog.clear()
    replica.check_position()
    assert not caplog.records


def test_a_log_that_lost_its_end_is_noticed_by_reading_on(
    lossy: tuple[Trial, Callable[[int], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where nobody saw the store go: new entries follow on ones that are gone, and the store says nothing."""
    trial, lose = lossy
    some(trial)
    replica = loaded(trial.store, trial.name)
    lose(5)
    some(trial)
    assert replica.step() > 0
    replica.catch_up()
    assert exact(sums(replica)) == trial.slow()
    assert "has lost its end" in caplog.text


def test_a_store_that_comes_back_shorter_between_two_questions_is_noticed(
    lossy: tuple[Trial, Callable[[int], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """The connection was checked, then the store restarted, then it was read: the read alone would fold on."""
    trial, lose = lossy
    watched = Watched(trial.store)
    some(trial)
    replica = loaded(watched, trial.name)

    def restarted(method: str, _: object) -> None:
        if method == "read":
            watched.before = lambda *_: None
            lose(4)
            some(trial)

    watched.before = restarted
    replica.check_position()
    replica.step()
    replica.catch_up()
    assert exact(sums(replica)) == trial.slow()
    assert "has lost its end" in caplog.text


def test_a_checkpoint_of_lost_entries_is_not_used(
    lossy: tuple[Trial, Callable[[int], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its sums hold what the log no longer does: a new replica folds from the start, says so, and writes all anew."""
    trial, lose = lossy
    some(trial, 2)
    checkpoint(trial, loaded(trial.store, trial.name))
    lose(3)
    replica = loaded(trial.store, trial.name)
    assert exact(sums(replica)) == trial.slow()
    assert "an entry that a checkpoint stands at" in caplog.text
    assert set(replica.dirty) == set(range(4))


def test_a_vanished_table_of_checkpoints_leaves_the_base(
    valkey: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After a trim the base is the only place of the oldest events: it is used even where nothing points to a loss."""
    store = RedisStore(valkey)
    trial = Trial(store, name)
    everything = trimmed(trial)
    with redis.Redis.from_url(valkey) as raw:
        raw.delete(Keys.of(name).table("sums"))
    assert exact(sums(loaded(store, name))) == slow_sums(everything, trial.experiment)
    assert "folding from its start" in caplog.text
    store.close()


def trimmed(trial: Trial) -> list[Entry]:
    """Checkpoint all, move half of the log to the base and trim it; every entry that there was."""
    some(trial, 2)
    entries = trial.log()
    replica, token = loaded(trial.store, trial.name), trial.lease()
    half = Replica(trial.name, trial.store)
    half.load()
    half.fold(entries[:10])
    rows, base = [replica.row(arm) for arm in range(4)], [half.row(arm) for arm in range(4)]
    assert trial.store.write_rows(trial.name, "sums", token, rows, replica.position)
    assert trial.store.write_rows(trial.name, "base", token, base, half.position)
    assert trial.store.trim(trial.name, token, entries[10].position, b"")
    return entries


def test_a_replica_that_stood_still_while_the_log_was_trimmed_loads_anew(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading on would leave out what was trimmed between where it stands and where the log begins now."""
    caplog.set_level(logging.WARNING)
    frozen = loaded(trial.store, trial.name)
    everything = trimmed(trial)
    frozen.catch_up()
    assert exact(sums(frozen)) == slow_sums(everything, trial.experiment)
    assert "was trimmed past entry" in caplog.text
    assert "lost its end" not in caplog.text


def test_after_a_trim_a_replica_goes_on_from_the_base(trial: Trial) -> None:
    """One that stands exactly where the base does misses nothing, though that entry is gone."""
    at_base = Replica(trial.name, trial.store)
    at_base.load()
    watched = Watched(trial.store)
    everything = trimmed(trial)
    at_base.fold(everything[:10])
    reads = []
    watched.after = lambda method, args: reads.append(args) if method == "config" else None
    at_base.store = watched
    at_base.catch_up()
    assert exact(sums(at_base)) == slow_sums(everything, trial.experiment)
    assert reads == []  # it was not loaded anew


# a store that fails while a replica loads


class Failing:
    """Fails one call, counted over the methods that a load uses."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, method: str, _: object) -> None:
        """Count a call, and fail the one that is due."""
        self.calls += 1
        if self.calls == self.at:
            raise StoreUnavailable("away")


def test_a_store_that_fails_while_a_replica_loads_anew_leaves_it_as_it_was(
    lossy: tuple[Trial, Callable[[int], None]],
) -> None:
    """At whichever call: the model decides on, the position is still the lost one, and the next look does it all."""
    trial, lose = lossy
    watched = Watched(trial.store)
    for at in range(1, 100):
        some(trial)
        checkpoint(trial, loaded(trial.store, trial.name))
        some(trial)
        replica = loaded(watched, trial.name)
        before = replica.position, exact(sums(replica))
        lose(3)
        watched.before = failing = Failing(at)
        try:
            replica.check_position()
        except StoreUnavailable:
            assert (replica.position, exact(sums(replica))) == before
            replica.check_position()
        assert exact(sums(replica)) == trial.slow()
        if failing.calls < at:
            break
    assert at > 8, "fewer calls than a load makes: the test proves nothing"


@pytest.mark.parametrize("reset", [True, False])
def test_a_change_between_a_loads_questions_is_not_missed(trial: Trial, reset: bool) -> None:
    """The config was read, then came a change and a whole pass of checkpoints: its entry is behind the cursor."""
    some(trial)
    checkpoint(trial, loaded(trial.store, trial.name))
    watched, old = Watched(trial.store), trial.config

    def changed(method: str, _: object) -> None:
        if method == "cursor":
            watched.before = lambda *_: None
            trial.change(reset=reset, arms=["a", "b", "c", "d", "e"])
            trial.decide(4, x=(4096, 77))
            checkpoint(trial, loaded(trial.store, trial.name))

    watched.before = changed
    replica = loaded(watched, trial.name)
    assert replica.config == trial.config != old
    trial.decide(4)
    replica.catch_up()
    assert exact(sums(replica)) == trial.slow()


# comparison with the checkpoints


def test_sums_that_differ_from_their_checkpoint_are_loaded_anew(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    """The same events on both sides must have the same sums, bit for bit: one of the two is wrong, and it says so."""
    some(trial)
    replica = loaded(trial.store, trial.name)
    checkpoint(trial, replica)
    replica.check_row(1)
    assert not caplog.records
    sums(replica).B[1, 0, 0] += 1
    replica.check_row(0)
    assert not caplog.records
    replica.check_row(1)
    assert "arm 1's sums differ from its checkpoint" in caplog.text
    assert exact(sums(replica)) == trial.slow()


def test_sums_of_other_events_are_not_compared(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    """A row from before the arm's last event, one ahead of this replica, of fewer kinds or none at all."""
    some(trial)
    behind, replica = loaded(trial.store, trial.name), loaded(trial.store, trial.name)
    replica.check_row(0)
    checkpoint(trial, replica)
    some(trial)
    replica.catch_up()
    replica.check_row(0)
    checkpoint(trial, replica)
    behind.check_row(0)
    trial.change(rewards={**msgspec.to_builtins(trial.config.document.rewards), "visit": {}})
    replica.catch_up()
    replica.check_row(0)
    assert not caplog.records


# a log that cannot be read


def corrupted(trial: Trial) -> dict[str, tuple[bytes, bytes]]:
    """(tag, record) of entries that no fold may take."""
    wide = Trial(MemoryStore(), "wide", features=OTHER)
    kinds = Trial(MemoryStore(), "kinds", rewards={"click": {}, "sale": {}, "visit": {}})
    arms = Trial(MemoryStore(), "arms", arms=list("abcdefgh"))
    ref = trial.decide(deferred=True)
    trial.feed(ref, 5)
    activation, feedback = trial.log()[-2:]
    good = trial.decision().record
    return {
        "of an unknown tag": (b"z", good),
        "of another format": (b"d", b"\x02" + good[1:]),
        "empty": (b"d", b""),
        "decision cut short in its head": (b"d", good[:40]),
        "decision cut short in its arms": (b"d", good[:75]),
        "feedback cut short": (b"f", feedback.record[:-3]),
        "activation cut short": (b"a", activation.record[:-3]),
        "of other columns": (b"d", wide.decision(x=(4096, 5, 6)).record),
        "of more kinds": (b"d", kinds.decision().record),
        "of an arm that is not there": (b"d", arms.decision(7).record),
        "of no text": (b"f", feedback.record.replace(b"sale", b"\xff\xfe\xfd\xfc")),
        "a config that is no JSON": (b"x", b"{"),
    }


CORRUPT = list(corrupted(Trial(MemoryStore(), "corrupt")))


@pytest.mark.parametrize("what", CORRUPT)
def test_an_entry_that_cannot_be_read_is_refused_not_guessed(here: Trial, what: str) -> None:
    """Folding on would make wrong sums: nothing of the run is learned, and the replica stays where it was."""
    tag, record = corrupted(here)[what]
    some(here)
    replica = loaded(here.store, here.name)
    before, position = sums(replica).digest(), replica.position
    end = here.store.end(here.name)
    entries = [
        Entry(Position(end.ms, end.seq + 1), b"d", here.decision().record),
        Entry(Position(end.ms, end.seq + 2), tag, record),
    ]
    with pytest.raises(CorruptLog):
        replica.fold(entries if tag != b"x" else entries[1:])
    assert (sums(replica).digest(), replica.position) == (before, position)


def test_a_row_that_cannot_be_read_is_refused(trial: Trial) -> None:
    """Of another format, or of other columns than the experiment has."""
    some(trial)
    replica, token = loaded(trial.store, trial.name), trial.lease()
    row = replica.row(0)
    for broken in (b"\x09" + row.sums[1:], row.sums[:4] + b"\x09" + row.sums[5:]):
        assert trial.store.write_rows(trial.name, "sums", token, [Row(0, row.position, broken)], row.position)
        with pytest.raises(CorruptLog):
            loaded(trial.store, trial.name)


def test_late_feedback_after_a_trim_folds_without_its_decision(store: Store, name: str) -> None:
    """Feedback carries all that the fold needs: the decision may be long gone from the log."""
    trial = Trial(store, name, grace_ms=0)
    decision = trial.decision(2, x=(4096, 11), caller="c", window_ms=40)
    logged, _ = trial.send(decision, trial.reward(Ref(caller=b"c"), 6))
    past(store, logged.position.ms + 41)
    everything = trial.log()
    replica, token = loaded(store, name), trial.lease()
    base = Replica(name, store)
    base.load()
    base.fold(everything[:2])
    rows = [base.row(arm) for arm in range(4)]
    assert store.write_rows(name, "base", token, rows, base.position)
    assert store.write_rows(name, "sums", token, rows, replica.position)
    assert not store.write_rows(name, "sums", token, rows, base.position)
    assert store.trim(name, token, everything[2].position, b"")
    assert [entry.tag for entry in trial.log()] == [b"f"]
