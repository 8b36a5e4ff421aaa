"""The series: each entry is counted once, however the log is split and whoever is killed, and old buckets go."""

from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import DAY, HOUR, SALE, Clock, Killed, Trial, Watched, at

from bandit.core.slices import WHOLE
from bandit.errors import CorruptLog
from bandit.log.probabilities import level_ends, pack_all_probabilities, pack_slices
from bandit.log.records import DECISION, DEFERRED, SLICED, START, Entry, Position, unpack_decision, unpack_feedback
from bandit.replica import series, series_reader, series_writer
from bandit.replica.checkpoint import Checkpointer
from bandit.replica.replica import Replica
from bandit.replica.series import ARMS, KEPT, MS, Bucket, Resolution, name_of, unpacked
from bandit.replica.series_reader import SeriesReader
from bandit.replica.series_writer import SeriesWriter
from bandit.replica.trim import trim
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Decide, Store


def here(clock: Clock, **fields: Any) -> Trial:
    """An experiment in memory, on a clock of the test's own."""
    return Trial(MemoryStore(clock), "e", grace_ms=0, **fields)


SLICED_FIELDS = {"slices": {"learned": {"share": 0.9}, "random": {"share": 0.1, "policy": {"type": "uniform"}}}}


def sliced(trial: Trial, arm: int, part: int, best: int) -> Decide:
    """A decision of one of two slices: the first likes one arm best, the second all alike."""
    made, (K, _, _) = trial.decision(arm), trial.experiment.shape
    learned = np.full((1, K), 0.02 / K)
    learned[0, best] += 0.98
    (tail,) = pack_slices([(0, 900_000), (1, 100_000)], [learned, np.full((1, K), 1 / K)], np.ones((1, K), bool))
    head = list(DECISION.unpack_from(made.record))
    head[1] |= SLICED
    head[3] = part
    p = float(learned[0, arm]) if part == 0 else 1 / K
    plain = unpack_decision(made.record)
    shown = DECISION.pack(*head) + plain.x + np.array([arm], "<u4").tobytes() + np.array([p, p], "<f8").tobytes()
    return made._replace(record=shown + tail)


def written(trial: Trial, store: Store | None = None) -> SeriesWriter:
    """Write the whole series by a server of its own."""
    replica = Replica(trial.name, trial.store)
    replica.load()
    replica.fold_to_end()
    writer = SeriesWriter(replica, store or trial.store)
    writer.step(trial.lease(), 0.0, last=True)
    return writer


def rows_of(trial: Trial, resolution: Resolution) -> dict[int, list[Bucket]]:
    """Every row of the store, straight from it."""
    end = trial.store.end(trial.name).ms // MS[resolution]
    numbers = range(end - 2 * KEPT[resolution], end + 1)
    _, found = trial.store.series(trial.name, [name_of(resolution, n) for n in numbers])
    return {int(name[1:]): unpacked(row) for name, row in found.items()}


def counted(trial: Trial, entries: list[Entry], resolution: Resolution) -> dict[int, Counter[str]]:
    """The slow way: each entry by itself, by what its record says read whole."""
    kinds, arms, names = trial.config.kinds, trial.config.index, trial.config.slices
    decisions = {entry.position: unpack_decision(entry.record) for entry in entries if entry.tag == b"d"}
    found: dict[int, Counter[str]] = {}
    newest = entries[-1].position.ms // MS[resolution]

    def count(ms: int, what: str, n: int = 1) -> None:
        number = ms // MS[resolution]
        if number > newest - KEPT[resolution]:
            found.setdefault(number, Counter())[what] += n

    for entry in entries:
        ms = entry.position.ms
        if entry.tag == b"d":
            d = decisions[entry.position]
            count(ms, "decisions")
            count(ms, "deferred", bool(d.head.flags & DEFERRED))
            count(ms, "explored", d.propensities[0] < d.probabilities.max())
            count(ms, "even", len(d.eligible) > 1 and d.probabilities.min() == d.probabilities.max())
            for arm in d.arms:
                count(ms, "impressions")
                count(ms, f"arm {arms[arm]}")
            if d.slices:
                count(ms, f"slice {names[d.head.slice]}")
        elif entry.tag == b"a":
            count(ms, "activated")
        elif entry.tag == b"f":
            f = unpack_feedback(entry.record)
            d = decisions[f.decision]
            wheres = [(ms, "came"), (f.decision.ms, "earned")]
            wheres += [(f.decision.ms, f"slice {names[d.head.slice]} earned")] if d.slices else []
            for when, where in wheres:
                count(when, f"{where} {kinds[f.kind]}")
                count(when, f"{where} {kinds[f.kind]} credits", f.new[f.kind] - f.old[f.kind])
    return {number: +counts - Counter() for number, counts in found.items() if any(counts.values())}


def told(buckets: dict[int, list[Bucket]]) -> dict[int, Counter[str]]:
    """The same words of buckets."""
    found = {}
    for number, each in buckets.items():
        counts = Counter[str]()
        for bucket in each:
            for name in ("decisions", "impressions", "deferred", "activated", "explored", "even"):
                counts[name] += getattr(bucket, name)
            counts.update({f"arm {arm}": n for arm, n in bucket.arms.items()})
            places = [("came", bucket.came), ("earned", bucket.earned)]
            for name, part in bucket.slices.items():
                counts[f"slice {name}"] += part.decisions
                places.append((f"slice {name} earned", part.earned))
            for where, credited in places:
                for kind, own in credited.items():
                    counts[f"{where} {kind}"] += own.count
                    counts[f"{where} {kind} credits"] += own.credits
        found[number] = +counts
    return {number: counts for number, counts in found.items() if counts}


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def happen(trial: Trial, clock: Clock, steps: list[tuple[int, int, int]]) -> None:
    """Decisions of both slices, plain and deferred, feedback, activations, and time that passes."""
    refs = []
    for what, arm, other in steps:
        if what == 0:
            refs.append(trial.decide(arm, user="u"))
        elif what == 1:
            record = sliced(trial, arm, other % 2, other)
            refs.append(trial.ref(record, trial.send(record)[0]))
        elif what == 2:
            refs.append(trial.decide(arm, deferred=True, window_ms=40 * DAY))
        elif what == 3 and refs:
            trial.feed(refs[other % len(refs)], 1 + arm, SALE, event=f"{arm}{clock.ms}")
        elif what == 4 and refs:
            trial.activate(refs[other % len(refs)])
        else:
            clock.ms += [1000, 70_000, 26 * HOUR, 100 * DAY if arm == 3 else HOUR][other]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, step=st.integers(1, 7), kills=st.lists(st.integers(0, 12), max_size=4))
def test_however_the_log_is_split_and_whoever_is_killed_each_entry_is_counted_once(
    steps: list[tuple[int, int, int]], step: int, kills: list[int]
) -> None:
    """Rows of the store, and what a reader makes of them in between, are those of a count over the log, read whole."""
    clock, before = Clock(), series_writer.STEP
    trial = here(clock, **SLICED_FIELDS)
    series_writer.STEP = step
    try:
        for kill in [*kills, None]:
            happen(trial, clock, steps)
            check_reader(trial)
            calls = [0]

            def strike(method: str, args: tuple[Any, ...], kill: int | None = kill, calls: list[int] = calls) -> None:
                calls[0] += 1
                if kill is not None and calls[0] > kill:
                    raise Killed

            watched = Watched(trial.store)
            watched.before = watched.after = strike
            with suppress(Killed):
                written(trial, watched)  # type: ignore[arg-type]
            check_reader(trial)
    finally:
        series_writer.STEP = before
    for resolution in MS:
        assert told(rows_of(trial, resolution)) == counted(trial, trial.log(), resolution)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(st.tuples(STEPS, st.integers(0, 4)), min_size=1, max_size=6))
def test_what_the_replica_reads_is_counted_on_the_way(parts: list[tuple[list[tuple[int, int, int]], int]]) -> None:
    """The writer reads nothing again as long as it goes on from where it stood; whatever comes in between, each entry
    is counted once.
    """
    clock = Clock()
    trial, reads = here(clock), [0]
    replica = Replica("e", trial.store)
    replica.load()
    replica.fold_to_end()
    watched = Watched(trial.store)

    def count(method: str, args: tuple[Any, ...]) -> None:
        reads[0] += method == "read"

    watched.before = count
    writer, token = SeriesWriter(replica, watched), trial.lease()  # type: ignore[arg-type]
    writer.step(token, 0.0, last=True)
    for steps, then in parts:
        reads[0] = 0
        happen(trial, clock, [(0 if what == 1 else what, arm, other) for what, arm, other in steps])
        for _ in range(3):
            replica.step(max(1, len(steps) // 2))
        replica.fold_to_end()
        if then == 1:
            writer.step(token, 0.0, last=True)
            assert (reads[0], writer.position) == (0, replica.position)
        elif then == 2:
            written(trial)  # by another server
        elif then == 3:
            writer.rest()
        elif then == 4:
            replica._load_anew()
        if then > 1:
            token = trial.lease()
            writer.step(token, 0.0, last=True)
            assert writer.position == replica.position
    writer.step(token, 0.0, last=True)
    for resolution in MS:
        assert told(rows_of(trial, resolution)) == counted(trial, trial.log(), resolution)


def test_who_does_not_hold_the_lease_counts_nothing() -> None:
    """A server that lost it keeps no list of what was shown for ever."""
    trial = here(Clock())
    replica = Replica("e", trial.store)
    replica.load()
    replica.fold_to_end()
    checkpointer = Checkpointer(replica, trial.store, b"holder", 1.0, 1.0)
    for holding in (True, False):
        checkpointer.token = trial.lease() if holding else None
        checkpointer.step(0.0)
        trial.decide()
        replica.fold_to_end()
        assert bool(checkpointer.series._ahead) == holding


def check_reader(trial: Trial) -> None:
    """A server that is asked answers what a count over its log says."""
    replica = Replica(trial.name, trial.store)
    replica.load()
    replica.fold_to_end()
    reader, entries = SeriesReader(trial.store), trial.log()
    for resolution in MS:
        newest = entries[-1].position.ms // MS[resolution]
        found = reader.read(replica, resolution, range(newest - KEPT[resolution] + 1, newest + 1))
        assert found.complete
        assert told(found.buckets) == counted(trial, entries, resolution)


def test_of_more_arms_than_are_told_apart_the_counts_are_nearly_right_and_the_same_for_any_split() -> None:
    """No arm is counted too often, none misses more than impressions / (ARMS + 1), and splitting changes nothing."""
    names, found = [str(i) for i in range(3 * ARMS)], []
    shown = np.random.default_rng(1).zipf(1.3, 3000) % (3 * ARMS)
    for size in (3000, 700, 1):
        buckets: list[Bucket] = []
        for start in range(0, 3000, size):
            part = [names[arm] for arm in shown[start : start + size]]
            series.put(buckets, series.Added(Bucket(1, impressions=len(part)), part))
        found.append(buckets[0])
    assert found[0] == found[1] == found[2]
    exact = Counter(names[arm] for arm in shown)
    for name in names:
        assert exact[name] - 3000 // (ARMS + 1) <= found[0].arms.get(name, 0) <= exact[name]
    assert len(found[0].arms) <= ARMS


@settings(deadline=None, max_examples=100)
@given(data=st.data(), K=st.integers(1, 80))
def test_levels_are_the_least_and_largest_probability(data: st.DataObject, K: int) -> None:
    """As the reader of whole records has them, for every way in which a tail is packed."""
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=K, max_size=K).filter(any)))
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=K, max_size=K)), float) * eligible
    p = (weights / weights.sum())[None]
    (tail,) = pack_all_probabilities(p, eligible[None])
    assert level_ends(tail, 0, -1) == (p[0, eligible].min(), p[0].max())
    even = (eligible / eligible.sum())[None]
    (tail,) = pack_slices([(3, WHOLE // 2), (1, WHOLE // 2)], [even, p], eligible[None])
    assert level_ends(tail, 0, 1) == (p[0, eligible].min(), p[0].max())
    assert level_ends(tail, 0, 3) == (even.max(), even.max())


def test_old_buckets_go_in_the_same_write() -> None:
    """After a year of a decision a day, and then a minute of many, there are no more rows than are kept."""
    clock = Clock()
    trial = here(clock)
    for _ in range(400):
        trial.decide()
        clock.ms += DAY
        if clock.ms % 7:
            written(trial)
    for _ in range(50):
        trial.decide()
        clock.ms += 61_000
    written(trial)
    store: Any = trial.store
    names = store._logs["e"].series
    assert sum(name.startswith("m") for name in names) <= KEPT["minute"]
    assert sum(name.startswith("h") for name in names) <= KEPT["hour"]
    assert told(rows_of(trial, "hour")) == counted(trial, trial.log(), "hour")


def test_a_server_that_lost_the_lease_writes_nothing(store: Store, name: str) -> None:
    """Nor does one that was frozen while another wrote: the cursor is not the one it began with."""
    trial = Trial(store, name)
    trial.decide()
    writer = written(trial)
    old = writer.position
    token = trial.lease()
    ref = trial.decide()
    assert not store.write_series(name, b"1-another", old, at(ref), {"m1": b"x"}, ())
    assert not store.write_series(name, token, START, at(ref), {"m1": b"x"}, ())
    assert not store.write_series(name, token, old, Position(at(ref).ms + 1, 0), {"m1": b"x"}, ())
    assert store.series(name, ["m1"]) == (old, {})
    assert store.write_series(name, token, old, at(ref), {"m1": b"x", "m2": b"y"}, ["m3"])
    assert store.series(name, ["m1", "m2", "m3"]) == (at(ref), {"m1": b"x", "m2": b"y"})


def test_several_entries_are_read_at_once(store: Store, name: str) -> None:
    """Those that the log has."""
    trial = Trial(store, name)
    one, _, three = (at(trial.decide()) for _ in range(3))
    found = store.several(name, [one, Position(1, 1), three])
    assert found == {position: store.at(name, position) for position in (one, three)}
    assert store.several(name, []) == {}


def test_what_wrote_nothing_is_counted_where_it_was_judged(store: Store, name: str) -> None:
    """Repeats, late and unknown feedback, and activations, by minute and by hour; a repeated batch counts once."""
    trial = Trial(store, name)
    ref = trial.decide()
    late = trial.decide(window_ms=1)
    trial.feed(ref, 1, event="x")
    batch = trial.batch(
        trial.reward(ref, 1, event="x"), trial.reward(ref, 1, event="x"), trial.reward(ref, 99, event="y"),
        trial.reward(ref._replace(entry=b"1-1"), 1),
    )  # fmt: skip
    assert store.append(name, batch) == store.append(name, batch)
    trial.sequence += 1
    while store.now_ms() <= at(late).ms + 2:
        pass
    trial.feed(late, 1)
    trial.activate(ref)
    now = store.now_ms()
    for width in (MS["minute"], MS["hour"]):
        found = Counter[str]()
        for start, counts in store.outcomes(name, now - 2 * width, now, width).items():
            assert start % width == 0
            assert now - 3 * width < start <= now
            found.update(counts)
        unknown = {"late": 2} if found["late"] == 2 else {"late": 1, "unknown": 1}  # 1-1 is older than the log
        assert found == {"duplicate": 3, "range": 1} | unknown
    assert store.outcomes(name, now - 3 * DAY, now - 2 * DAY, MS["hour"]) == {}


@pytest.mark.parametrize("same", [True, False], ids=["the same token", "another's lease"])
def test_a_write_that_another_overtook_is_refused_and_made_anew(store: Store, name: str, same: bool) -> None:
    """A holder that was frozen between reading and writing, or a write that ran later: each entry counts once."""
    trial = Trial(store, name)
    for _ in range(5):
        trial.decide()
    replica = Replica(name, store)
    replica.load()
    replica.fold_to_end()
    token, watched, overtaken = trial.lease(), Watched(store), []

    def overtake(method: str, args: tuple[Any, ...]) -> None:
        if method == "write_series" and not overtaken:
            overtaken.append(True)
            SeriesWriter(replica, store).step(token if same else trial.lease(), 0.0, last=True)

    watched.before = overtake
    writer = SeriesWriter(replica, watched)  # type: ignore[arg-type]
    writer.step(token, 0.0, last=True)
    assert overtaken
    assert sum(counts["decisions"] for counts in told(rows_of(trial, "hour")).values()) == 5
    trial.decide()
    replica.fold_to_end()
    writer.step(token if same else trial.lease(), 1.0, last=True)
    assert sum(counts["decisions"] for counts in told(rows_of(trial, "hour")).values()) == 6
    assert writer.position == replica.position == store.series(name, ())[0]


def test_nothing_is_trimmed_before_it_is_counted() -> None:
    """Whatever else may go: the cut is at most where the series stands."""
    clock = Clock()
    trial = here(clock)
    places = [at(trial.decide(window_ms=1)) for _ in range(6)]
    clock.ms += DAY
    replica = Replica("e", trial.store)
    replica.load()
    replica.catch_up()
    token = trial.lease()
    rows = [replica.row(arm) for arm in range(replica.shape[0])]
    assert trial.store.write_rows("e", "sums", token, rows, replica.position)
    assert trim(trial.store, "e", token, trial.experiment, 0, START) == 0
    assert trim(trial.store, "e", token, trial.experiment, 0, places[2]) == 3  # the config, and two decisions
    assert [entry.position for entry in trial.log()] == places[2:]
    writer = SeriesWriter(replica, trial.store)
    writer.step(token, 0.0, last=True)
    assert trim(trial.store, "e", token, trial.experiment, 0, writer.position) == 3


def test_what_cannot_be_counted_is_said_and_does_not_hold_up_the_rest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cursor moves on, or the log would never be trimmed again."""
    trial = here(Clock())
    trial.decide()

    def broken(*_: Any) -> None:
        raise CorruptLog("a fault that nobody thought of")

    with monkeypatch.context() as patched:
        patched.setattr(series_writer, "fold", broken)
        assert written(trial).position == trial.log()[-1].position
    assert "are not counted" in caplog.text
    trial.decide()
    written(trial)
    assert sum(counts["decisions"] for counts in told(rows_of(trial, "hour")).values()) == 1


def test_a_reader_folds_only_what_is_new_and_a_bounded_part_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again it reads on from where it was; of a long tail it says that more is to come."""
    monkeypatch.setattr(series_reader, "READ", 2)
    monkeypatch.setattr(series_reader, "TAIL", 6)
    trial = here(Clock())
    for _ in range(9):
        trial.decide()
    replica = Replica("e", trial.store)
    replica.load()
    replica.fold_to_end()
    reads: list[Position] = []
    watched = Watched(trial.store)
    watched.before = lambda method, args: reads.append(args[1]) if method == "read" else None
    reader = SeriesReader(watched)  # type: ignore[arg-type]
    numbers = [replica.position.ms // MS["hour"]]
    seen = []
    while True:
        found = reader.read(replica, "hour", numbers)
        seen.append(found.buckets[numbers[0]][0].decisions if found.buckets else 0)
        if found.complete:
            break
    assert seen == [5, 9]  # the config is an entry too
    assert len(reads) == len(set(reads)) == 5
    reader.read(replica, "hour", numbers)
    assert len(reads) == 5
    written(trial)
    assert reader.read(replica, "hour", numbers).buckets[numbers[0]][0].decisions == 9
