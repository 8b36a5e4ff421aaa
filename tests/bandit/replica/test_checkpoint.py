"""Checkpoints and the trim below them: whatever is killed wherever, what is loaded and the rest of the log are all."""

import logging
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from trial import SALE, Killed, Seen, Trial, Watched, exact, past, slow_sums

from bandit.core.sums import increments
from bandit.errors import StoreUnavailable
from bandit.log.events import read_events
from bandit.log.records import Entry, Position
from bandit.replica import checkpoint, trim
from bandit.replica.checkpoint import BEAT, Checkpointer
from bandit.replica.folded import Folded, load
from bandit.replica.replica import Replica
from bandit.replica.verify import verify
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Logged, Ref, Row, Store

SHORT = 30  # ms: a window that is waited for, so that there is something to trim
WRITES = ("take_lease", "beat", "write_rows", "trim")


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment without a grace period."""
    return Trial(store, name, grace_ms=0)


@pytest.fixture
def here(name: str) -> Trial:
    """The same in memory, where the kind of store is not the point."""
    return Trial(MemoryStore(), name, grace_ms=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a script, three entries a trim: every crash point shows."""
    monkeypatch.setattr(checkpoint, "SLICE", 1)
    monkeypatch.setattr(checkpoint, "BUDGET", -1.0)
    monkeypatch.setattr(trim, "SLICE", 1)
    monkeypatch.setattr(trim, "STEP", 3)


class Server:
    """A replica and its writer of checkpoints, stepped by hand on a clock of their own."""

    def __init__(self, trial: Trial, store: Any = None, holder: bytes = b"one", seconds: float = 60.0) -> None:
        self.trial, self.store = trial, store or trial.store
        self.replica = Replica(trial.name, self.store)
        self.replica.load()
        self.replica.catch_up()
        self.checkpointer = Checkpointer(self.replica, self.store, holder, lease_seconds=3.0, seconds=seconds)
        self.now, self.beaten = 0.0, -np.inf

    def step(self, seconds: float = 0.01, **how: bool) -> None:
        """What the follower does in a round."""
        self.now += seconds
        self.replica.step()
        if self.now - self.beaten >= BEAT:
            self.beaten = self.now
            held = {self.trial.name: self.checkpointer.token}
            self.checkpointer.heard(self.store.attend(held)[self.trial.name], self.now)
        self.checkpointer.step(self.now, **how)

    def trim(self) -> int:
        """What the follower does now and then."""
        assert self.checkpointer.token is not None
        return trim.trim(self.store, self.trial.name, self.checkpointer.token, self.trial.experiment, 0)


def written(trial: Trial, arms: tuple[int, ...] = (0, 1, 2, 3)) -> Position:
    """A decision with feedback for each arm, of a short window; the last entry."""
    for arm in arms:
        caller = f"c{trial.nonces}"
        decision = trial.decision(arm, x=(4096, 100 + trial.nonces), caller=caller, window_ms=SHORT, deferred=arm == 3)
        trial.send(decision, trial.reward(Ref(caller=caller.encode()), 1 + arm, SALE))
    return trial.store.end(trial.name)


class Archive:
    """Every entry that there ever was, and what they mean."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.entries = trial, dict[Position, Entry]()
        self.keep()

    def keep(self) -> None:
        """Take up what is in the log."""
        self.entries.update((entry.position, entry) for entry in self.trial.log())

    def seen(self) -> Seen:
        """The fold of everything, the slow way."""
        return slow_sums((self.entries[position] for position in sorted(self.entries)), self.trial.experiment)

    def check(self) -> None:
        """A server that starts now has it all: from the checkpoints, and from the base; and `verify` agrees."""
        self.keep()
        whole, store, name = self.seen(), self.trial.store, self.trial.name
        assert exact(started(self.trial)) == whole
        base = load(store, name, "base", self.trial.experiment)
        assert exact(rest_added(self.trial, base)) == whole
        assert verify(store, name)["equal"]


def started(trial: Trial) -> Any:
    """The sums of a server that starts now."""
    model = Server(trial).replica.model
    assert model is not None
    return model.sums


def rest_added(trial: Trial, folded: Folded) -> Any:
    """A table's sums and the log's events that they do not hold."""
    _, m, d = trial.experiment.shape
    found = read_events(trial.log(), trial.config.generation, trial.experiment.defaults, m, d)
    folded.sums.add(*increments(found.only(folded.ahead(found)).events))
    return folded.sums


# passes


@pytest.mark.usefixtures("small")
def test_whatever_is_killed_after_whichever_write_a_new_server_has_it_all(trial: Trial) -> None:
    """Passes interleaved with folding, and trims: after each single write of the store, load + rest = everything."""
    watched, writes = Watched(trial.store), []
    archive, server = Archive(trial), Server(trial, watched)

    def after(method: str, args: tuple[Any, ...]) -> None:
        if method in WRITES:
            writes.append((method, args[1:2]))
            archive.check()

    watched.after = after
    for _ in range(2):
        last = written(trial)
        for arms in ((0,), (1, 2), (), (3, 0), (2,), (1,), ()):
            last = written(trial, arms) or last
            archive.keep()
            server.step()
        past(trial.store, last.ms + SHORT)
        while server.trim():
            written(trial, (0,))
        server.step(61)
    assert len(trial.log()) < len(archive.entries)
    assert len([each for each in writes if each == ("write_rows", ("sums",))]) > 12
    assert len([each for each in writes if each == ("write_rows", ("base",))]) > 12
    assert len([method for method, _ in writes if method == "trim"]) > 3


@pytest.mark.usefixtures("small")
def test_what_was_left_half_done_is_taken_up_by_the_next(store: Store, name: str) -> None:
    """Killed after each write in turn: another server goes on, and nothing is lost or doubled."""

    class At:
        """Kills after a write."""

        def __init__(self, at: int) -> None:
            self.left = at

        def __call__(self, method: str, _: object) -> None:
            self.left -= method in WRITES
            if self.left == 0 and method in WRITES:
                raise Killed

    for at in range(1, 100):
        trial = Trial(store, f"{name}-{at}", grace_ms=0)
        archive, watched = Archive(trial), Watched(store)
        last, killer = written(trial), At(at)
        archive.keep()
        watched.after = killer
        past(store, last.ms + SHORT)
        with suppress(Killed):
            life(Server(trial, watched), archive)
        archive.keep()
        second = Server(trial, store, b"two")
        second.step()
        life(second, archive)
        archive.check()
        if killer.left > 0:
            break
    assert at > 15, "fewer writes than passes and trims make: the test proves nothing"


def life(server: Server, archive: Archive) -> None:
    """Two rounds of a pass in slices with writes in between, then trims as far as they go."""
    for arms in ((0, 1), (2,), (), (), (), ()):
        if arms:
            written(server.trial, arms)
        server.step(4.0)
    server.step(61)
    for _ in range(5):
        server.step(0.01)
    archive.keep()
    while server.checkpointer.token is not None and server.trim():
        archive.keep()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("effect", [False, True], ids=["asked", "answered"])
def test_a_store_that_fails_in_a_pass_lets_no_cursor_pass_an_unwritten_row(here: Trial, effect: bool) -> None:
    """Each write in turn is not made, or made and not answered: the pass goes on with the same row."""
    watched, archive = Watched(here.store), Archive(here)

    def fail(method: str, _: object) -> None:
        calls.append(method)
        if method == "write_rows" and len([each for each in calls if each == "write_rows"]) in failing:
            raise StoreUnavailable("away")

    for first_failure in range(1, 6):
        for second_failure in (first_failure, first_failure + 2):
            calls, failing = list[str](), {first_failure, second_failure}
            server = Server(here, watched)
            written(here)
            setattr(watched, "after" if effect else "before", fail)
            for i in range(8):
                written(here, (i % 4,))
                with suppress(StoreUnavailable):
                    server.step(4.0)
                archive.check()
            watched.before = watched.after = lambda *_: None


@pytest.mark.usefixtures("small")
def test_the_cursor_moves_where_the_pass_started_and_only_when_all_is_written(here: Trial) -> None:
    """Four dirty arms, a row a script: the cursor stands still for three, then moves to the start, not to now."""
    server = Server(here)
    server.step()
    before, start, cursors = here.store.cursor(here.name, "sums"), written(here), []
    for _ in range(4):
        server.step()
        cursors.append(here.store.cursor(here.name, "sums"))
        written(here, (0,))
    assert cursors == [before, before, before, start]
    rows = {row.arm: row.position for row in here.store.rows(here.name, "sums")}
    assert rows[3] == start
    assert min(rows[0], rows[1], rows[2]) > start


def test_an_arm_stands_at_its_own_row_or_the_cursor_whichever_is_later(trial: Trial) -> None:
    """An idle arm's old row must not make a new server read the log from there for ever; a newer row is not doubled."""
    one = written(trial)
    two = written(trial, (0,))
    three = written(trial, (1,))
    rows = [Row(arm, one, b"") for arm in range(4)]
    replica, token = Server(trial).replica, trial.lease()
    rows = [replica.row(arm)._replace(position=one) for arm in (2, 3)]
    assert trial.store.write_rows(trial.name, "sums", token, [*rows, replica.row(0), replica.row(1)], two)
    folded = load(trial.store, trial.name, "sums", trial.experiment)
    assert folded.cursor == two
    assert [Position(*row) for row in folded.upto.tolist()] == [three, three, two, two]
    watched, read = Watched(trial.store), list[Position]()
    watched.after = lambda method, args: read.append(args[1]) if method == "read" else None
    assert exact(Server(trial, watched).replica.model.sums) == trial.slow()
    assert read == [two]


def test_the_cursor_is_read_before_the_rows(trial: Trial) -> None:
    """A pass that ends between the two questions leaves rows ahead of the cursor that was read, never behind it."""
    server = Server(trial)
    written(trial)
    server.step(61)
    written(trial)
    watched = Watched(trial.store)

    def meanwhile(method: str, _: object) -> None:
        if method in ("cursor", "rows"):
            watched.after = lambda *_: None
            server.step(61)

    watched.after = meanwhile
    folded = load(watched, trial.name, "sums", trial.experiment)
    assert folded.cursor < server.replica.position
    assert exact(rest_added(trial, folded)) == trial.slow()


def test_nothing_is_written_before_it_is_due(here: Trial) -> None:
    """A row an arm costs more than a few entries: written when the log grew by more than that, or after so long."""
    server = Server(here, seconds=60.0)
    server.step()
    written(here, (0,))
    server.replica.step()
    server.replica.grown_bytes = 1
    server.checkpointer.step(server.now + 59)
    assert list(here.store.rows(here.name, "sums")) == []
    server.checkpointer.step(server.now + 61)
    assert [row.arm for row in here.store.rows(here.name, "sums")] == [0]
    server.replica.dirty[1] = None
    server.replica.grown_bytes = 100_000
    server.checkpointer.step(server.now + 61.01)
    assert {row.arm for row in here.store.rows(here.name, "sums")} == {0, 1}


@pytest.mark.usefixtures("small")
def test_the_last_step_writes_all_there_is(here: Trial) -> None:
    """At shutdown: also where a pass is half done, and what changed since it began."""
    server = Server(here)
    server.step()
    written(here)
    server.step()
    end = written(here)
    server.step(last=True)
    assert not server.replica.dirty
    assert here.store.cursor(here.name, "sums") == end
    assert load(here.store, here.name, "sums", here.experiment).sums.digest() == started(here).digest()


def test_rows_of_another_generation_count_for_nothing(trial: Trial) -> None:
    """The table's old rows stay until they are written again: a new server skips them."""
    server = Server(trial)
    written(trial)
    server.step(61)
    trial.change(reset=True)
    written(trial, (2,))
    folded = load(trial.store, trial.name, "sums", trial.experiment)
    assert folded.sums.n.tolist() == [0] * 4
    assert exact(started(trial)) == trial.slow()
    server.step()
    server.step(61)
    Archive(trial).check()
    begun = trial.log()[-3].position
    assert [row.arm for row in trial.store.rows(trial.name, "sums") if row.position > begun] == [2]


@pytest.mark.usefixtures("small")
def test_a_new_generation_of_fewer_arms_in_the_middle_of_a_pass_does_no_harm(here: Trial) -> None:
    """The pass goes on with what there is; arms that are no more are not written."""
    server, archive = Server(here), Archive(here)
    server.step()
    written(here)
    server.step()
    here.change(reset=True, arms=["a", "b"])
    written(here, (0,))
    for _ in range(6):
        server.step(10)
        archive.check()
    assert exact(server.replica.model.sums) == here.slow()


def test_arms_and_kinds_that_came_since_have_seen_nothing_in_an_older_row(here: Trial) -> None:
    """A row of fewer kinds fits a later experiment: what it did not know stays at zero."""
    server = Server(here)
    written(here)
    server.step(61)
    rewards = {**msgspec.to_builtins(here.config.document.rewards), "visit": {"default": 0.5}}
    here.change(rewards=rewards, arms=["a", "b", "c", "d", "e"])
    folded = load(here.store, here.name, "sums", here.experiment)
    assert folded.sums.shape == (5, 3, 2)
    assert folded.sums.B[:, 2].tolist() == [[0, 0]] * 5
    Archive(here).check()


# the lease


@pytest.fixture
def pair(here: Trial) -> tuple[Server, Server]:
    """Two servers of one experiment; the first has the lease."""
    one, two = Server(here, holder=b"one"), Server(here, holder=b"two")
    one.step()
    two.step()
    assert one.checkpointer.token is not None
    assert two.checkpointer.token is None
    return one, two


def test_while_the_holder_beats_nobody_takes_over(pair: tuple[Server, Server]) -> None:
    """For ten times the lease's length."""
    one, two = pair
    for _ in range(30):
        one.step(1.0)
        two.step(1.0)
    assert one.checkpointer.token is not None
    assert two.checkpointer.token is None


def test_a_lease_that_stands_still_is_taken_over_after_its_time_by_ones_own_clock(here: Trial) -> None:
    """Three seconds after it was first seen so, by the clock of who takes over: the holder's is not compared."""
    one, two = Server(here, holder=b"one"), Server(here, holder=b"two")
    one.now = 1e6
    one.step()
    taken = []
    for _ in range(6):
        two.step(1.0)
        taken.append(two.checkpointer.token is not None)
    assert taken == [False] * 3 + [True] * 3


def test_a_frozen_holder_is_fenced_and_writes_nothing_when_it_wakes(
    pair: tuple[Server, Server], caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, forgets its pass, and does not take the lease back while the other one lives."""
    one, two = pair
    trial = one.trial
    written(trial)
    for _ in range(5):
        two.step(1.0)
    two.step(61)
    rows = sorted(trial.store.rows(trial.name, "sums"))
    assert len(rows) == 4
    written(trial)
    for _ in range(10):
        one.step(0.5)
        two.replica.step()
        assert trial.store.attend({trial.name: two.checkpointer.token or b""})[trial.name]
    assert one.checkpointer.token is None
    assert sorted(trial.store.rows(trial.name, "sums")) == rows
    assert "another server has taken over the checkpoints" in caplog.text


@pytest.mark.usefixtures("small")
def test_a_holder_that_is_fenced_in_the_middle_of_a_pass_leaves_the_rest_to_the_other(
    pair: tuple[Server, Server],
) -> None:
    """Frozen after its first slice: the other one's rows stand, and no row or cursor goes back."""
    one, two = pair
    trial, archive = one.trial, Archive(one.trial)
    written(trial)
    one.step(0.01)
    written(trial)
    for _ in range(4):
        two.step(1.0)
    two.step(61)
    for _ in range(8):
        two.step(0.01)
    before = sorted(trial.store.rows(trial.name, "sums")), trial.store.cursor(trial.name, "sums")
    assert not one.checkpointer.step(one.now + 0.02)  # not yet time for a beat: the script itself must refuse
    assert (sorted(trial.store.rows(trial.name, "sums")), trial.store.cursor(trial.name, "sums")) == before
    one.step(1.0)
    assert one.checkpointer.token is None
    archive.check()


def test_a_holder_alone_takes_its_lost_lease_back(here: Trial, caplog: pytest.LogCaptureFixture) -> None:
    """A store that lost its end, lease and all: after a while there is a holder again, and checkpoints go on."""
    caplog.set_level(logging.ERROR)
    one = Server(here)
    one.step()
    here.lease(b"gone")
    for _ in range(6):
        one.step(1.0)
    assert one.checkpointer.token is not None
    written(here)
    one.step(61)
    Archive(here).check()
    assert here.store.cursor(here.name, "sums") == here.store.end(here.name)


def test_a_takeover_whose_answer_was_lost_is_made_again(here: Trial) -> None:
    """The token is not known, so it is nobody's: it stands still and is taken over like any other."""
    watched = Watched(here.store)
    one = Server(here, watched)

    def lost(method: str, _: object) -> None:
        if method == "take_lease":
            watched.after = lambda *_: None
            raise StoreUnavailable("away")

    watched.after = lost
    with pytest.raises(StoreUnavailable):
        one.step()
    assert here.store.lease(here.name) is not None
    for _ in range(6):
        one.step(1.0)
    assert one.checkpointer.token is not None


def test_logged_positions_are_what_rows_stand_at(here: Trial) -> None:
    """A row's position is the entry folded last, which the log has: so a lost suffix shows by it."""
    server = Server(here)
    end = written(here)
    server.step(61)
    assert {row.position for row in here.store.rows(here.name, "sums")} == {end}
    assert isinstance(here.send(here.decision())[0], Logged)
