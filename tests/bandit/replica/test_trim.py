"""Trimming: what leaves the log is in the base, and only what no feedback can refer to any more leaves it."""

from typing import Any

import msgspec
import pytest
from trial import HOUR, SALE, Clock, Seen, Trial, Watched, exact, past, slow_sums, user

from bandit.core.sums import increments
from bandit.errors import StoreUnavailable
from bandit.log.events import read_events
from bandit.log.records import START, Entry, Position
from bandit.replica import trim as trimming
from bandit.replica.export import export
from bandit.replica.folded import Folded, load
from bandit.replica.replica import Replica
from bandit.replica.trim import trim
from bandit.replica.verify import verify
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store


@pytest.fixture
def clock() -> Clock:
    """The clock of `here`."""
    return Clock()


@pytest.fixture
def here(name: str, clock: Clock) -> Trial:
    """An experiment in memory, on a clock of the test's own."""
    return Trial(MemoryStore(clock), name, grace_ms=0)


def checkpointed(trial: Trial, upto: Position | None = None) -> bytes:
    """Write every arm's row at the log's end, and the cursor there or at an earlier entry; the token."""
    replica = Replica(trial.name, trial.store)
    replica.load()
    replica.catch_up()
    rows, token = [replica.row(arm) for arm in range(replica.shape[0])], trial.lease()
    assert trial.store.write_rows(trial.name, "sums", token, rows, upto or replica.position)
    return token


def trimmed(trial: Trial, token: bytes, grace_ms: int = 0) -> int:
    """Trim as far as it goes; how many entries went."""
    gone = 0
    while more := trim(trial.store, trial.name, token, trial.experiment, grace_ms):
        gone += more
    return gone


def from_base(trial: Trial) -> Seen:
    """The base, and the log's events that it does not hold."""
    folded: Folded = load(trial.store, trial.name, "base", trial.experiment)
    _, m, d = trial.experiment.shape
    found = read_events(trial.log(), trial.config.generation, trial.experiment.defaults, m, d)
    folded.sums.add(*increments(found.only(folded.ahead(found)).events))
    return exact(folded.sums)


def short(trial: Trial, arm: int = 0, window_ms: int = 1000, **how: Any) -> None:
    """A decision of a short window, with feedback."""
    ref = trial.decide(arm, x=(4096, trial.nonces), window_ms=window_ms, **how)
    trial.feed(ref, 1 + arm, SALE)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 5000])
def test_base_and_the_rest_of_the_log_are_the_fold_of_all(
    here: Trial, clock: Clock, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many entries go at a time, over several trims, with deferred decisions, lists, kinds and arms added."""
    monkeypatch.setattr(trimming, "STEP", step)
    everything: dict[Position, Entry] = {}
    for turn in range(3):
        for arm in range(4):
            short(here, arm, deferred=arm == turn)
        here.decide(0, 2, window_ms=1000)
        if turn == 1:
            rewards = msgspec.to_builtins(here.config.document.rewards)
            here.change(rewards={**rewards, "visit": {"default": 0.5}}, arms=["a", "b", "c", "d", "e"])
            short(here, 4)
        everything |= {entry.position: entry for entry in here.log()}
        clock.ms += 2000
        gone = trimmed(here, checkpointed(here))
        assert gone > 5
        assert len(here.log()) == 1
        whole = slow_sums(everything.values(), here.experiment)
        assert from_base(here) == whole
        assert verify(here.store, here.name)["equal"]


def test_a_real_stores_log_shrinks_too(store: Store, name: str) -> None:
    """The same over every store, with windows that pass while one waits."""
    trial = Trial(store, name, grace_ms=0)
    for arm in range(4):
        trial.decide(arm, x=(4096, arm), window_ms=5)
    everything = trial.log()
    past(store, everything[-1].position.ms + 5)
    assert trimmed(trial, checkpointed(trial)) == 4
    assert trial.log() == everything[-1:]
    assert from_base(trial) == slow_sums(everything, trial.experiment)
    assert verify(store, name)["equal"]
    trial.decide(0)
    assert verify(store, name)["equal"]


@pytest.mark.parametrize("named", ["entry", "caller", "user"])
def test_a_refund_past_the_trim_is_folded_as_any_other(here: Trial, clock: Clock, named: str) -> None:
    """Its entry has all that the sums need of a decision that is in the base: base + the rest is the fold of all."""
    here.change(refunds="1h")
    decision = here.decision(1, x=(4096, 9), user="u", caller="c" if named == "caller" else "", window_ms=1000)
    ref = here.ref(decision, here.send(decision)[0])
    here.feed(ref, 30, SALE, "order")
    short(here, 2)
    everything = {entry.position: entry for entry in here.log()}
    clock.ms += 2000
    here.decide(3, window_ms=HOUR)
    assert trimmed(here, checkpointed(here)) == 6
    for i in range(2):
        assert here.refund(user("u") if named == "user" else ref, f"r{i}", "order", 10).credited == -10
        assert verify(here.store, here.name)["equal"]
    everything |= {entry.position: entry for entry in here.log()}
    assert from_base(here) == slow_sums(everything.values(), here.experiment)
    assert from_base(here)[1][1][SALE] == [10 * 4096, 10 * 9]
    clock.ms += HOUR + 2000
    trimmed(here, checkpointed(here))
    assert from_base(here) == slow_sums(everything.values(), here.experiment)
    assert verify(here.store, here.name)["equal"]


def test_a_decision_whose_deadline_is_ahead_keeps_itself_and_all_after_it(here: Trial, clock: Clock) -> None:
    """Feedback may still refer to it; entries before it go."""
    short(here, 0)
    kept = here.decide(1, window_ms=HOUR)
    short(here, 2)
    clock.ms += 2000
    token = checkpointed(here)
    assert trimmed(here, token) == 3
    assert here.log()[0].position == Position.parse(kept.entry)
    assert here.feed(kept, 5).status == "accepted"
    clock.ms += HOUR
    assert trimmed(here, token) > 0


def test_the_grace_period_keeps_a_decision_longer(here: Trial, clock: Clock) -> None:
    """To the millisecond: deadline + grace must be past, so that a retry is a duplicate for as long as promised."""
    here.decide(0, window_ms=1000)
    here.decide(0, window_ms=1)
    made = here.log()[1].position.ms
    token = checkpointed(here)
    clock.ms = made + 1000 + 500 - 1
    assert trimmed(here, token, grace_ms=500) == 0  # nor the config before it
    clock.ms += 1
    assert trimmed(here, token, grace_ms=500) == 2
    assert len(here.log()) == 1


def test_the_creation_stays_as_long_as_the_first_decision(here: Trial, clock: Clock) -> None:
    """With the changes before it, so that an archive begun within the window has the whole history; many go."""
    for i in range(3):
        here.change(arms=["a", "b", "c", "d", f"n{i}"])
    clock.ms += 1000 * HOUR
    assert trimmed(here, checkpointed(here)) == 0
    here.decide(0, window_ms=HOUR)
    clock.ms += HOUR - 1000
    assert trimmed(here, checkpointed(here)) == 0
    assert len(here.log()) == 5
    clock.ms += 2000
    here.decide(0, window_ms=HOUR)
    assert trimmed(here, checkpointed(here)) == 5
    for i in range(trimming.KEPT + 1):
        here.change(arms=["a", "b", "c", "d", f"m{i}"])
    clock.ms += 2 * HOUR
    assert trimmed(here, checkpointed(here)) > 0
    for i in range(trimming.KEPT + 1):
        here.change(arms=["a", "b", "c", "d", f"o{i}"])
    assert trimmed(here, checkpointed(here)) > trimming.KEPT


def test_the_last_entry_is_never_trimmed(here: Trial, clock: Clock) -> None:
    """Positions of replicas, checkpoints and the next entry's order hang on it."""
    short(here)
    clock.ms += HOUR
    token, end = checkpointed(here), here.store.end(here.name)
    assert trimmed(here, token) == 2
    assert [entry.position for entry in here.log()] == [end]
    assert trimmed(here, token) == 0
    assert here.store.end(here.name) == end


def test_nothing_beyond_the_checkpoints_is_trimmed(here: Trial, clock: Clock) -> None:
    """What no checkpoint holds yet is nowhere else than in the log."""
    token = here.lease()
    for arm in range(3):
        short(here, arm)
    clock.ms += HOUR
    assert trimmed(here, token) == 0
    cursor = here.log()[3].position
    token = checkpointed(here, upto=cursor)
    assert trimmed(here, token) == 3
    assert here.log()[0].position == cursor


def test_without_the_lease_nothing_is_trimmed(here: Trial, clock: Clock) -> None:
    """A holder that was frozen and wakes moves neither the base nor the cut."""
    short(here)
    clock.ms += HOUR
    frozen = checkpointed(here)
    here.lease(b"other")
    assert trimmed(here, frozen) == 0
    assert here.store.cursor(here.name, "base") == START
    assert len(here.log()) == 3


def test_export_names_arms_and_kinds_after_their_config_was_trimmed(here: Trial, clock: Clock) -> None:
    """The config in force where the log was cut is kept with the base, also one that came in the middle."""
    short(here, 3)
    here.change(arms=["a", "b", "c", "d", "e"])
    short(here, 4)
    here.decide(4, window_ms=HOUR)
    rows = list(export(here.store, here.name))
    clock.ms += 2000
    assert trimmed(here, checkpointed(here)) == 6
    config, *rest = export(here.store, here.name)
    assert rest == rows[-1:]
    assert config["document"] == [row["document"] for row in rows if row["type"] == "experiment"][-1]
    assert rows[-1]["arms"][0]["arm"] == "e"


def test_a_new_generations_base_starts_from_zero(here: Trial, clock: Clock) -> None:
    """Rows of the older generation in the base are skipped, then replaced."""
    for arm in range(4):
        short(here, arm)
    clock.ms += 2000
    trimmed(here, checkpointed(here))
    everything = here.log()
    here.change(reset=True)
    short(here, 1)
    everything += here.log()[1:]
    clock.ms += 2000
    trimmed(here, checkpointed(here))
    assert from_base(here) == slow_sums(everything, here.experiment)
    assert [n for _, _, _, n in from_base(here).values()] == [0, 1, 0, 0]
    assert verify(here.store, here.name)["equal"]


@pytest.mark.parametrize("effect", [False, True], ids=["asked", "answered"])
def test_a_trim_that_fails_half_way_is_finished_by_the_next(
    name: str, effect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each write in turn: nothing is lost or doubled, and the config that was trimmed is kept with the base."""
    monkeypatch.setattr(trimming, "SLICE", 1)
    for at in range(1, 30):
        clock = Clock()
        trial = Trial(MemoryStore(clock), f"{name}-{at}", grace_ms=0)
        for arm in range(3):
            short(trial, arm)
        trial.change(arms=["a", "b", "c", "d", "e"])
        short(trial, 4)
        trial.decide(4, window_ms=HOUR)
        everything, rows = trial.log(), list(export(trial.store, trial.name))
        clock.ms += 2000
        token, watched, calls = checkpointed(trial), Watched(trial.store), list[str]()

        def fail(method: str, _: object, calls: list[str] = calls, at: int = at) -> None:
            if method in ("write_rows", "trim"):
                calls.append(method)
                if len(calls) == at:
                    raise StoreUnavailable("away")

        setattr(watched, "after" if effect else "before", fail)
        try:
            trim(watched, trial.name, token, trial.experiment, 0)
        except StoreUnavailable:
            assert from_base(trial) == slow_sums(everything, trial.experiment)
            assert verify(trial.store, trial.name)["equal"]
            assert list(export(trial.store, trial.name))[-1] == rows[-1]
            clock.ms += 1
            trimmed(trial, token)
        assert len(trial.log()) == 1
        assert from_base(trial) == slow_sums(everything, trial.experiment)
        config, *rest = export(trial.store, trial.name)
        assert (config["type"], rest) == ("experiment", rows[-1:])
        if len(calls) < at:
            break
    assert at > 5, "fewer writes than a trim makes: the test proves nothing"


def test_a_clock_that_is_set_back_in_the_middle_of_a_trim_does_no_harm(here: Trial, clock: Clock) -> None:
    """The base has moved further than what is now to be trimmed: it does not move back, and waits."""
    for arm in range(3):
        short(here, arm)
        clock.ms += 1000
    clock.ms += 500
    everything, token, watched = here.log(), checkpointed(here), Watched(here.store)

    def killed(method: str, _: object) -> None:
        if method == "trim":
            raise StoreUnavailable("away")

    watched.before = killed
    with pytest.raises(StoreUnavailable):
        trim(watched, here.name, token, here.experiment, 0)
    clock.ms -= 1000
    assert trimmed(here, token) == 0
    assert from_base(here) == slow_sums(everything, here.experiment)
    clock.ms += 1000
    assert trimmed(here, token) == 6
    assert from_base(here) == slow_sums(everything, here.experiment)
