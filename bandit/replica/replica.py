"""A replica: one experiment's log, folded into sums and scoring data in this server's memory.

Every server folds the same log with the same pure function. The position it has folded up to must exist in the log:
it is checked whenever the connection is a new one, because a store that restarts with a shorter log does not say so.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from bandit.core.engine import CHUNK, Model, model_bytes
from bandit.core.experiment import Config, compile_config
from bandit.core.sums import row_columns, row_head
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.batch import EventBatch
from bandit.log.events import read_events
from bandit.log.records import START, Entry, Position, read_config
from bandit.replica.figures import Freshness
from bandit.replica.folded import Folded, load, stands
from bandit.store.protocol import READ_BYTES, Row, Store, Stored
from bandit.telemetry.counters import Counters

log = logging.getLogger(__name__)

READ = 8192  # entries a read
TURN = 2048  # entries a turn, where other experiments wait for theirs
UNREADABLE = (  # errors that one experiment's data can raise: only that experiment fails
    CorruptLog, ArithmeticError, LookupError, Problem, struct.error, ValueError, TypeError, MemoryError,
)  # fmt: skip
AT_START = 4 * CHUNK  # arms refreshed at a time while nobody decides by them
ANEW = 3  # times that a load begins anew within itself, as the store may have come back meanwhile
QUANTUM = 0.005  # seconds of refreshing in one turn


class Replica:
    """One experiment in this server's memory. One thread changes it; others read attributes, `served` and `held`."""

    def __init__(self, name: str, store: Store, room: int = 2**63, counters: Counters | None = None) -> None:
        self.name, self.store, self.room = name, store, room  # bytes that the model may take
        self.freshness = Freshness(counters or Counters())
        self.model: Model | None = None  # None: never was, deleted, or not loaded yet
        self.config: Config | None = None
        self.position = START  # folded up to here
        self.scored = START  # what decisions reflect
        self.failed: BaseException | None = None  # why it cannot be served
        self.read_at = 0.0  # when the log was last read to its end (monotonic)
        self.busy = False  # whether so much is written to the log that more will come soon
        self.longest = 1  # arms of the longest list that was folded here
        self.dirty: dict[int, None] = {}  # arms changed since their row was written
        self.grown_bytes = 0  # of the log, since the last pass of checkpoints
        self.readers: list[Callable[[Position, list[Entry]], None]] = []  # told what was read, and after which position
        self.loads = 0  # how often it was loaded anew: entries told before may have gone from the log
        self._folded: Folded | None = None
        self._last: bytes | None = None  # the record at `position`, where it has been read here
        self._anew = 0  # loads within each other that this one is made in
        self._chunk = CHUNK  # arms refreshed in one turn
        self._goal: tuple[Model | None, Position, set[int]] = None, START, set()  # scored up to there with these arms

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, m, d) of the sums."""
        return self.model.sums.shape if self.model else (0, 0, 0)

    @property
    def size(self) -> int:
        """Bytes that the model takes."""
        return model_bytes(*self.shape)

    @property
    def served(self) -> Model:
        """The model that decides.

        Raises:
            Problem: `not_ready` where it has failed, `experiment_not_found` where it was deleted.
        """
        if self.model is not None:
            return self.model
        if self.failed is not None:
            raise unserved(self.name, self.failed)
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {self.name!r}")

    @classmethod
    def whole(cls, name: str, store: Store) -> Replica:
        """One that is folded up to the log's end, for whoever looks once."""
        replica = cls(name, store)
        replica.load()
        replica.fold_to_end()
        return replica

    def load(self) -> None:
        """Start from the checkpoints; `step` reads the rest of the log."""
        stored = self._load(self.store.config(self.name))
        while (now := self.store.config(self.name)) and stored and now.config.version > stored.config.version:
            stored = self._load(now)  # the cursor may be past a change that the config read before it did not have

    def _load(self, stored: Stored | None) -> Stored | None:
        """Load by this config, which was read before the cursor and the rows."""
        self.model, self._folded, self.config, self.position, self.dirty = None, None, None, START, {}
        self._last = None
        if stored is None:
            return None
        self.config = stored.config
        if stored.config.deleted:
            self.position = stored.updated
            return stored
        experiment = compile_config(stored.config)
        if (need := model_bytes(*experiment.shape)) > self.room:
            left = max(0, self.room) >> 20
            raise MemoryError(f"its model takes {need >> 20} MiB, and BANDIT_MODEL_MEMORY leaves {left}")
        folded = load(self.store, self.name, "sums", experiment)
        if folded.cursor < self.store.cursor(self.name, "base") or not stands(self.store, self.name, folded):
            log.error("%s: the log has lost an entry that a checkpoint stands at; folding from its start", self.name)
            folded = load(self.store, self.name, "base", experiment)
            self.dirty = dict.fromkeys(range(len(folded.upto)))
        self._folded, self.position = folded, folded.cursor
        self.model = Model(experiment, folded.sums)
        return stored

    def catch_up(self) -> None:
        """Fold up to the log's end as it is now, and bring the scoring data up to date."""
        self.fold_to_end()
        while self.model is not None and self.model.refresh(AT_START):
            pass
        self.scored = self.position
        self.freshness.loaded()

    def fold_to_end(self) -> None:
        """Fold up to the log's end as it is now; others may go on writing."""
        seen, end = time.monotonic(), self.store.end(self.name)
        while self.position < end and self.step():
            pass
        self.read_at = max(self.read_at, seen)  # a checkpoint may stand at the end: then nothing is read

    def step(self, count: int = READ) -> int:
        """Read and fold up to `count` entries of what the log has grown by; returns how many."""
        entries, now = self.store.read(self.name, self.position, count), time.monotonic()
        if len(entries) < count and sum(len(entry.record) for entry in entries) < READ_BYTES:
            self.read_at = now
        if entries and not self._stands():  # asked after reading: the store may have come back in between
            self.check_position()
        elif entries:
            after = self.position
            self.fold(entries)
            for told in self.readers:
                told(after, entries)
        return len(entries)

    def fold(self, entries: list[Entry]) -> None:
        """Fold entries that follow the position, in order; a config between them takes effect where it stands."""
        run: list[Entry] = []
        for entry in entries:
            if entry.tag == b"x":
                self._fold_run(run)
                run = []
                self._take_config(read_config(entry.record), entry.position)
                self._last = entry.record
            else:
                run.append(entry)
        self._fold_run(run)
        self.grown_bytes += sum(len(entry.record) for entry in entries)
        if entries:
            self.freshness.folded(len(entries), entries[0].position.ms)

    @property
    def is_fresh(self) -> bool:
        """Whether decisions reflect all that was folded."""
        return self.scored == self.position and not (self.model and self.model.busy)

    def refresh_some(self) -> None:
        """Refresh arms for one turn."""
        end = time.monotonic() + QUANTUM
        while self.refresh() and time.monotonic() < end:
            pass

    def refresh(self) -> bool:
        """Refresh a chunk of arms; False where all are fresh.

        Under load some arms always wait. What was folded up to a position counts as scored once every arm that waited
        then has been refreshed, even if others wait since.
        """
        if self.model is None or not self.model.busy:
            self._reflect(self.position)
            return False
        model, position, waiting = self._goal
        if not waiting or model is not self.model:
            position, waiting = self.position, set(self.model.waiting.learned)
            self.freshness.aim()
        self._goal = self.model, position, waiting
        begun = time.thread_time()  # of our own work: who else had the core meanwhile says nothing about an arm
        self.model.refresh(self._chunk)
        took = time.thread_time() - begun
        waiting.difference_update(self.model.refreshed)
        if took > 2 * QUANTUM:  # a part of it is the same for however few arms
            self._chunk = max(1, self._chunk // 2)
        elif took < QUANTUM and len(self.model.refreshed) >= self._chunk:
            self._chunk = min(CHUNK, 2 * self._chunk)
        if not waiting:
            self._reflect(position if self.model.waiting.learned else self.position)
        return True

    def _reflect(self, position: Position) -> None:
        self.scored = position
        self.freshness.reflected(position, all_=position == self.position)

    def check_position(self) -> None:
        """Load anew if the log no longer has the entry folded last: what was folded before it may be gone too."""
        if self.model is not None and self._stands():
            return
        lost, trimmed = self.position, self.position < self.store.cursor(self.name, "base")
        silent = self.model is None  # deleted: the log may be gone, or be that of another one by now
        self._load_anew()
        if silent or self.deleted:
            return
        if trimmed:
            log.warning("%s: the log was trimmed past entry %s; loaded anew", self.name, lost.text().decode())
            return
        log.error(
            "%s: the log has lost its end: entry %s is gone, it now ends at %s; the sums are folded from what remains",
            self.name, lost.text().decode(), self.position.text().decode(),
        )  # fmt: skip

    @property
    def deleted(self) -> bool:
        """Whether the experiment was deleted or never existed: nothing is served, and nothing has failed."""
        return self.model is None and self.failed is None

    def _stands(self) -> bool:
        """Whether the log goes on from this replica's position: it has the same entry, or was trimmed exactly to it."""
        entry = self.store.at(self.name, self.position)
        if entry is not None:
            return self._last is None or entry.record == self._last  # ids are times: another entry may have the same
        return self.store.cursor(self.name, "base") == self.position

    def _load_anew(self) -> None:
        """Load and fold anew, then replace what is in memory, which decides until then.

        Raises:
            CorruptLog: the log does not go on from where its checkpoints and its config say, however often it is asked.
        """
        if self._anew >= ANEW:
            raise CorruptLog("the log does not go on from where its checkpoints and its config say")
        self.freshness.counters.add("bandit_replica_reloads_total", self.name)
        self.loads += 1
        new = Replica(self.name, self.store, self.room)
        new._anew = self._anew + 1
        new.load()
        new.catch_up()
        self.dirty, self.scored, self.grown_bytes, self._last = new.dirty, new.scored, new.grown_bytes, new._last
        self.freshness.loaded()
        self._put(new.position, new.config, new.model, new._folded)

    def check_row(self, arm: int) -> None:
        """Compare an arm's sums with its checkpoint where both hold the same events; load anew if they differ."""
        row = self.store.row(self.name, "sums", arm)
        if row is None or self.model is None or self._folded is None or row.position > self.position:
            return
        ours, touched = self.row(arm), Position(*self._folded.upto[arm].tolist())
        alike = _meaning(row.sums) == _meaning(ours.sums)
        if alike and touched <= row.position and row.sums != ours.sums:
            log.error("%s: arm %d's sums differ from its checkpoint at the same position; loading anew", self.name, arm)
            self._load_anew()

    def row(self, arm: int) -> Row:
        """An arm's sums at the position folded up to."""
        if self.model is None or self.config is None:
            raise RuntimeError(f"{self.name} is not loaded")
        own = self.model.experiment.layout.own
        return Row(arm, self.position, self.model.sums.pack(arm, self.config.generation, own))

    def _fold_run(self, run: list[Entry]) -> None:
        if not run:
            return
        if self.model is not None and self._folded is not None and self.config is not None:
            _, m, d = self.shape
            experiment = self.model.experiment
            batch = read_events(run, self.config.generation, experiment.defaults, m, d, experiment.layout)
            self.longest = max(self.longest, batch.longest)
            batch = batch.only(self._folded.ahead(batch))
            with self.model.learning:  # so that whoever holds it sees sums and position that belong together
                if len(batch.events):
                    self._learn(self.model, self._folded, batch)
                self.position = run[-1].position
        self.position, self._last = run[-1].position, run[-1].record

    def _learn(self, model: Model, folded: Folded, batch: EventBatch) -> None:
        arms = model.learn(batch.events)
        folded.upto[batch.events.arm] = batch.at  # in the log's order, so the last one of an arm stays
        self.dirty.update(dict.fromkeys(arms.tolist()))

    def _take_config(self, config: Config, position: Position) -> None:
        """Take up a config of the log, unless it is no newer than the one in force, which has its effect already."""
        before = self.config
        if before is not None and config.version <= before.version:
            self.position = position
            return
        if config.stripped and not config.deleted:
            config = self._whole(config)  # first: where the store fails now, this entry is read again
        if config.deleted:
            self._put(position, config, None, None)
            return
        experiment = compile_config(config)
        if self.model is None or self._folded is None or before is None or before.generation != config.generation:
            folded = Folded.empty(experiment)  # a new generation, from zero
            self.dirty = {}
            self._put(position, config, Model(experiment, folded.sums), folded)
            return
        with self.model.learning:
            self.model.adopt(experiment)
            self._put(position, config, self.model, self._folded.with_sums(self.model.sums))

    def _put(self, position: Position, config: Config | None, model: Model | None, folded: Folded | None) -> None:
        """Replace the model together with its position, so that whoever holds the model sees both or neither."""
        with self.model.learning if self.model is not None else nullcontext():
            self.position, self.config, self.model, self._folded = position, config, model, folded

    @contextmanager
    def held(self) -> Iterator[Model]:
        """The model that decides, its sums at `position` while it is held.

        Raises:
            Problem: as `served`.
        """
        while True:
            with (model := self.served).learning:
                if model is self.model:
                    yield model
                    return

    def _whole(self, config: Config) -> Config:
        """A config of the log with its payloads, which only the store has; or a later one, if the store has it now."""
        stored = self.store.config(self.name)
        if stored is None or stored.config.generation != config.generation or stored.config.deleted:
            return config  # what comes next in the log says more
        return stored.config if stored.config.version >= config.version else config


def _meaning(row: bytes) -> object:
    """What a row is of: generation, kinds and columns."""
    return row_head(row)[:2], row_columns(row).tolist()


def unserved(name: str, why: BaseException) -> Problem:
    """The problem of an experiment that exists and cannot be served."""
    return Problem(Code.NOT_READY, f"experiment {name!r} cannot be served here: {why}")
