"""What a store promises, whichever one it is; `tests/bandit/store/test_store.py` holds every store to it.

One log for each experiment. `append` writes a batch of one producer in one atomic step, once: a repeated number gets
its first answer, a number that skips is a gap (acknowledged data vanished), and a stale schema is refused with nothing
written and the number unused. Feedback is judged inside that step: unknown, other generation, duplicate, late, range,
credit; a refused event spends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from bandit.core.document import Aggregation, Attribution
from bandit.core.experiment import Config, Experiment
from bandit.core.times import seconds, time_of
from bandit.errors import Code, Problem
from bandit.log.records import Entry, Position
from bandit.store.access import AccessStore
from bandit.store.counted.promises import SeriesStore

Table = Literal["sums", "base"]

EVENTS_MAX = 1000  # of one decision
USER_MAX = 100  # decisions kept of one user
DELETED_MS = 3_600_000  # a deleted experiment's log stays for an hour at least, so that every server hears of it
RETENTION = "7d"  # and by default for as long, so that it can be exported
READ_BYTES = 4 << 20  # of entries in one read, about: a config can be as large as its document
FULL = 0.8  # of the store's memory: above it there are warnings
CLOCK_AHEAD_MS = 300_000  # a store's clock that is so far ahead of its log and of our own is not believed
NO_ARM = -1


class Decide(NamedTuple):
    """A decision to be logged."""

    record: bytes
    caller: bytes  # the caller's own id, or empty
    user: bytes  # keyed hash, or empty
    window_ms: int
    sticky_ms: int = 0  # a user's last decision that is younger is answered instead; 0: none


class Ref(NamedTuple):
    """Which decision is meant: by the server's id (entry and nonce), the caller's id, or a user."""

    entry: bytes = b""
    nonce: bytes = b""
    caller: bytes = b""
    user: bytes = b""


class Reward(NamedTuple):
    """Feedback to be judged and logged."""

    ref: Ref
    kind: int
    credit: int  # the value, in the kind's units
    event: bytes  # event id; the kind's name where none was given, empty under `last`
    own_id: bool  # the caller gave the event id
    arm: int  # index, or NO_ARM
    refund_of: bytes = b""  # the event that `credit` is taken back of (0: all that is left), or empty


class Activate(NamedTuple):
    """A deferred decision that has been shown."""

    ref: Ref


Item = Decide | Reward | Activate


class KindRule(NamedTuple):
    """How feedback of one kind of reward is credited, in the kind's units."""

    aggregation: Aggregation
    low: int
    high: int
    clip: bool
    default: int


class Rules(NamedTuple):
    """What of an experiment the judgement of feedback depends on."""

    generation: int
    schema: int
    explicit: bool  # only an activation activates
    attribution: Attribution
    grace_ms: int  # how long after its deadline a decision is still known
    kinds: tuple[KindRule, ...]
    refunds_ms: int = 0  # how long after its deadline events of a decision may be taken back


class Batch(NamedTuple):
    """What one producer appends in one step: a micro-batch's items."""

    producer: str
    sequence: int
    rules: Rules
    items: Sequence[Item]
    clock_ms: int = 2**53  # the producer's clock; by default the store's own is not doubted


class Logged(NamedTuple):
    """A decision was logged; where it had been before, or the user's last one will do, with the record of then."""

    position: Position
    record: bytes = b""
    sticky: bool = False  # it is the user's last one


class Outcome(NamedTuple):
    """What became of feedback or an activation.

    Status: accepted, activated, duplicate, late; or why it was refused: unknown, range, events, arm (must be named),
    shown (that arm was not); of a refund: event (unknown), left (less than that is), amount (not known).
    """

    status: str
    credited: int = 0
    clipped: bool = False
    position: Position = Position(0, 0)
    nonce: bytes = b""
    caller: bytes = b""


class Stale(NamedTuple):
    """The batch's schema is not the store's: nothing was written, and the number is still unused."""


class Gap(NamedTuple):
    """The producer's last number is not the one before: what was acknowledged since has vanished."""

    last: int


def is_ahead(store_ms: int, clock_ms: int, log_ms: int) -> bool:
    """Whether the store's clock is so far ahead of the caller's and of a log's last entry that it is not believed."""
    return store_ms > max(clock_ms, log_ms) + CLOCK_AHEAD_MS


class Ahead(NamedTuple):
    """The store's clock is ahead of the log and of ours by more than `CLOCK_AHEAD_MS`: nothing was written."""

    store_ms: int
    log_ms: int

    def problem(self, ours_ms: int) -> Problem:
        """Why nothing is written, with the three clocks."""
        store, end, ours = map(time_of, (self.store_ms, self.log_ms, ours_ms))
        detail = f"the store's clock says {store}; its log ends at {end}, and here it is {ours}: set the clocks right"
        return Problem(Code.STORE_UNAVAILABLE, f"nothing is written while clocks differ by minutes: {detail}")


Result = Logged | Outcome | list[Outcome]
Reply = list[Result] | Stale | Gap | Ahead


class Stored(NamedTuple):
    """An experiment as the store has it."""

    config: Config
    learned: bool  # a decision of this generation has been logged
    identity: Position  # the entry of its creation
    updated: Position


class Row(NamedTuple):
    """One arm's checkpoint: its packed sums at a position of the log."""

    arm: int
    position: Position
    sums: bytes


class Lease(NamedTuple):
    """Who writes checkpoints: the holder's token, and a counter that it raises while it lives."""

    token: bytes
    beat: int


class Archived(NamedTuple):
    """Up to where a log is in an archive outside the store; trimming stays behind it."""

    id: bytes  # the archive's own
    cursor: Position
    seen_ms: int  # when that was last said, by the store's clock


class Store(AccessStore, SeriesStore, Protocol):
    """The promises. Every method raises `StoreUnavailable` where the store does not answer or cannot write."""

    def check(self) -> None:
        """Raise `StoreUnsuitable` for a store that would lose what it is given."""

    def memory(self) -> tuple[int, int]:
        """Bytes in use, and how many there may be; 0 where nothing limits them."""

    def names(self) -> list[str]:
        """Every experiment's name, sorted; some may have been deleted since."""

    def config(self, name: str) -> Stored | None:
        """An experiment as it stands, deleted or not; None where there never was one.

        Raises:
            CorruptLog: it is there, and this version cannot read it.
        """

    def remains(self, name: str) -> Stored | None:
        """What is known of an experiment whose config cannot be read: enough to delete it."""

    def put(self, config: Config, before: Stored | None, clock_ms: int = 2**53) -> Position | Ahead | None:
        """Log and store a config if the store still has `before`; if not, None, with nothing written.

        `clock_ms` is as in `Batch`; a deletion is logged whatever the clocks say.
        """

    def secret(self) -> bytes:
        """The key that user ids are hashed with: made once, the same for every server of this store."""

    def append(self, name: str, batch: Batch) -> Reply:
        """Log a batch in one atomic step, once."""

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """The same, for an event loop."""

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """Up to `count` entries of the log after a position, in order: fewer where they are large, none at its end."""

    def read_back(self, name: str, upto: Position, count: int) -> list[Entry]:
        """Up to `count` entries of the log at or before a position, the newest first."""

    def end(self, name: str) -> Position:
        """The position of the log's last entry; zero where it is empty."""

    def at(self, name: str, position: Position) -> Entry | None:
        """The log's entry at this position, if it still has it."""

    def decision(self, name: str, caller: bytes) -> Entry | None:
        """The decision that a caller's own id names, if there is one."""

    def happened(self, name: str, decision: Position) -> list[Entry]:
        """What the log has of a decision's feedback and its activation, in order, for as long as its state is kept."""

    def grown(self, positions: Mapping[str, Position]) -> list[str]:
        """The experiments whose log has entries after these positions: one command for all of them."""

    def grown_within(self, positions: Mapping[str, Position], seconds: float) -> list[str]:
        """The same, as soon as there are any: at most so many seconds later, or earlier, none."""

    def now_ms(self) -> int:
        """The store's clock."""

    def close(self) -> None:
        """Close the connections of threads."""

    async def aclose(self) -> None:
        """Close the event loop's connections."""

    def reconnected(self) -> bool:
        """Whether the connection is a new one since this was last asked: then positions must be checked."""

    def lease(self, name: str) -> Lease | None:
        """The lease as it stands."""

    def take_lease(self, name: str, seen: Lease | None, holder: bytes) -> bytes | None:
        """Take the lease if it is still `seen`, whose beat stood still: a new token; None if somebody was faster."""

    def attend(self, held: Mapping[str, bytes | None]) -> dict[str, bool | Lease | None]:
        """Attend to the leases of several experiments in one message.

        Where we hold a token, the beat is raised: whether the lease is still ours. Where we hold none: the lease, if
        there is one. An experiment whose lease cannot be read is left out.
        """

    def probe(self) -> None:
        """Raise `StoreUnavailable` if the store takes no writes now."""

    async def probe_async(self) -> None:
        """The same, for an event loop: over the connection that appends take."""

    def reserve(self, name: str, need: int, most: int) -> int | None:
        """Reserve `need` bytes in every worker for an experiment's model, in one step for all servers.

        Returns:
            None where they fit into `most` beside all others, or are no more than were reserved; else, with nothing
            changed, the bytes of all others.
        """

    def reserved(self) -> dict[str, tuple[int, int]]:
        """(bytes, since when in the store's ms) of every experiment."""

    def account(self, sizes: Mapping[str, int | None]) -> None:
        """Correct the bytes reserved for experiments; None: nothing is reserved."""

    def sweep(self, names: Sequence[str], at: int) -> int:
        """Delete some of the keys that are left of deleted experiments, all but their names and configs.

        Args:
            names: of all of them, the same until the end.
            at: where to go on; 0 at first.

        Returns:
            Where to go on; 0 when nothing of them is left.
        """

    def forget(self, name: str) -> bool:
        """Delete the name and config of a deleted experiment whose log has been kept for long enough; else False."""

    def cursor(self, name: str, table: Table) -> Position:
        """The position that a pass over a table has completed: read it before the rows."""

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """Every arm's row of a table."""

    def row(self, name: str, table: Table, arm: int) -> Row | None:
        """One arm's row."""

    def write_rows(self, name: str, table: Table, token: bytes, rows: Sequence[Row], cursor: Position | None) -> bool:
        """Write rows, then the cursor; False, with nothing written, where the token is not the lease's, the log lacks
        the entry of one of the positions, or a position would move back from one that the log still has.
        """

    def base_config(self, name: str) -> bytes:
        """The config in force where the log was cut, or nothing."""

    def trim(self, name: str, token: bytes, cut: Position, config: bytes) -> bool:
        """Drop the entries before `cut`, which `base` holds; False where the token is not the lease's, an archive does
        not have them yet, or a backup is reading.
        """

    def archived(self, name: str) -> Archived | None:
        """Up to where the log is in an archive; None where there is none."""

    def move_archive(self, name: str, archive: bytes, before: Position | None, upto: Position) -> bool:
        """Say that an archive has the log up to a position; False, with nothing changed, where another archive has it
        or the cursor is not `before` (None: there is no archive).
        """

    def forget_archive(self, name: str) -> bool:
        """Trimming waits for no archive any more; whether there was one."""


def retention_ms(config: Config) -> int:
    """How long the log of an experiment stays once it is deleted."""
    return max(DELETED_MS, round(seconds(config.document.deleted_retention or RETENTION) * 1000))


def rules_of(experiment: Experiment, grace_ms: int) -> Rules:
    """The rules by which an experiment's feedback is judged."""
    kinds = tuple(
        KindRule(
            kind.aggregation,
            kind.credit(kind.range[0]),
            kind.credit(kind.range[1]),
            kind.over_range == "clip",
            kind.credit(kind.default),
        )
        for kind in experiment.kinds
    )
    config, document = experiment.config, experiment.document
    explicit = document.activation == "explicit"
    refunds_ms = experiment.refunds_ms
    return Rules(config.generation, config.schema, explicit, document.attribution, grace_ms, kinds, refunds_ms)
