"""The series as it is read: the store's rows, and what the log has grown by since, folded here.

So every server answers alike up to the position that it names, and a decision is seen as soon as its replica has it.
What was folded is kept for the next time it is asked, until the store's rows have passed it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bandit.log.records import Position
from bandit.replica.replica import Replica
from bandit.replica.series import Bucket, Names, Resolution, Sums, fold, name_of, put, strangers, touched, unpacked
from bandit.store.protocol import Store

READ = 2000  # entries a read
TAIL = 20_000  # entries that are folded for one answer; more are left to the next
KEPT = 64  # experiments whose tail is kept


class Rows(NamedTuple):
    """Some buckets as they are at a position of the log."""

    position: Position
    complete: bool  # whether that is as far as this server has read the log
    buckets: dict[int, list[Bucket]]  # by number, one a generation; those that there are


@dataclass
class _Tail:
    """What the log has after the rows' cursor."""

    cursor: Position
    generation: int
    position: Position
    sums: Sums = field(default_factory=dict)


class SeriesReader:
    """Reads series for one server, from any thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, replica: Replica, resolution: Resolution, numbers: Sequence[int]) -> Rows:
        """These buckets, up to the position of this server's replica."""
        (found,) = self.read_several(replica, {resolution: numbers}).values()
        return found

    def read_several(self, replica: Replica, wanted: dict[Resolution, Sequence[int]]) -> dict[Resolution, Rows]:
        """Buckets of several resolutions, all at one position."""
        names = {name_of(resolution, n): (resolution, n) for resolution, own in wanted.items() for n in own}
        with self._lock:
            cursor, rows = self.store.series(replica.name, list(names))
            tail, upto = self._tail(replica, cursor)
            buckets = {row: unpacked(value) for row, value in rows.items()}
            for row, added in touched(tail.sums, max(tail.position, cursor).ms):
                if row in names:
                    put(buckets.setdefault(row, []), added)
        position = max(tail.position, cursor)
        found = {each: Rows(position, position >= upto, {}) for each in wanted}
        for row, own in sorted(buckets.items(), key=lambda each: names[each[0]][1]):
            resolution, number = names[row]
            found[resolution].buckets[number] = own
        return found

    def _tail(self, replica: Replica, cursor: Position) -> tuple[_Tail, Position]:
        """(what comes after the cursor, up to where this server has read)."""
        names, upto = Names.of(replica.served.experiment), replica.position
        tail = self._tails.get(replica.name)
        if tail is None or (tail.cursor, tail.generation) != (cursor, names.generation):
            tail = _Tail(cursor, names.generation, cursor)
        self._tails[replica.name] = tail
        self._tails.move_to_end(replica.name)
        while len(self._tails) > KEPT:
            self._tails.popitem(last=False)
        for _ in range(TAIL // READ):
            found = self.store.read(replica.name, tail.position, READ) if tail.position < upto else []
            entries = [entry for entry in found if entry.position <= upto]
            if not entries:
                break
            others = self.store.several(replica.name, sorted(strangers(entries))) if names.slices else {}
            fold(tail.sums, entries, names, others)
            tail.position = entries[-1].position
        return tail, upto
