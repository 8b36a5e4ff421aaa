"""From log entries to events for the sums. It is pure, so the log alone determines what was learned."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bandit.core.features import Layout
from bandit.core.sums import Events
from bandit.errors import CorruptLog
from bandit.log.batch import EventBatch
from bandit.log.columns import Odd, columns
from bandit.log.records import (
    DECISION,
    DEFERRED,
    PENDING,
    SHOWN,
    USER,
    Entry,
    Position,
    unpack_activation,
    unpack_feedback,
    unpack_head,
)
from bandit.log.vectors import unpack_x

MANY = 64  # entries: fewer are quicker one by one


def read_events(
    entries: Iterable[Entry], generation: int, defaults: Sequence[int], m: int, d: int, layout: Layout | None = None
) -> EventBatch:
    """The events of these entries; entries of other generations, and configs, are no events.

    A decision counts the m kinds that its record knew: a kind added later starts at 0 for it. Of its x count the d
    columns of the layout (None: the first), those that came later as 0.

    Raises:
        CorruptLog: an entry is of no known kind or format, or does not fit m and d.
    """
    entries = list(entries)
    if len(entries) >= MANY:
        try:
            return columns(entries, generation, defaults, m, d, layout)
        except Odd:
            pass  # then one by one: to read it all the same, or to say where it ends
    return read_each(entries, generation, defaults, m, d, layout)


def read_each(
    entries: Iterable[Entry], generation: int, defaults: Sequence[int], m: int, d: int, layout: Layout | None = None
) -> EventBatch:
    """As `read_events`, record by record."""
    reader = _Reader(generation, tuple(defaults), m)
    for entry in entries:
        try:
            reader.take(entry)
        except (CorruptLog, struct.error, UnicodeDecodeError) as error:
            raise _unreadable(entry.position, error) from error
    arrays = np.array(reader.rows, np.int64).reshape(-1, 4 + 2 * m)
    x = _vectors(reader, d, layout)
    events = Events(arrays[:, 0], x, arrays[:, 1], arrays[:, 4 : 4 + m], arrays[:, 4 + m :])
    return EventBatch(events, arrays[:, 2:4], reader.decisions, reader.feedback, reader.longest)


def _vectors(reader: _Reader, d: int, layout: Layout | None) -> NDArray[np.int16]:
    try:
        return unpack_x(reader.x, d, layout)
    except CorruptLog:
        for row, x in zip(reader.rows, reader.x, strict=True):
            try:
                unpack_x([x], d, layout)
            except CorruptLog as error:
                raise _unreadable(Position(*row[2:4]), error) from error
        raise


def _unreadable(at: Position, error: Exception) -> CorruptLog:
    return CorruptLog(f"log entry {at.text().decode()} cannot be read: {error}")


class _Reader:
    """Collects the events of entries, row by row: arm, shown, position, old credits, new credits."""

    def __init__(self, generation: int, defaults: tuple[int, ...], m: int) -> None:
        self.generation, self.m = generation, m
        self.zeros = (0,) * m
        self.start = [defaults[:known] + (0,) * (m - known) for known in range(m + 1)]
        self.rows: list[tuple[int, ...]] = []
        self.x: list[tuple[bytes, int]] = []
        self.decisions = self.feedback = self.longest = 0

    def take(self, entry: Entry) -> None:
        if entry.tag == b"d":
            self._decision(entry)
        elif entry.tag == b"f":
            self._feedback(entry)
        elif entry.tag == b"a":
            self._activation(entry)
        elif entry.tag != b"x":
            raise CorruptLog("it is of no kind that this version knows")

    def _decision(self, entry: Entry) -> None:
        record = entry.record
        head = unpack_head(DECISION, record)
        _, flags, m, _, k, x_bytes, caller_bytes, generation = head[:8]
        if generation != self.generation:
            return
        self._fits(m)
        self.decisions += 1
        self.longest = max(self.longest, k)
        if flags & DEFERRED:
            return
        x = record[DECISION.size : DECISION.size + x_bytes], flags
        at = DECISION.size + x_bytes + caller_bytes + (16 if flags & USER else 0)
        if len(record) <= at + SHOWN.size * k:
            raise CorruptLog("it is cut short")
        for position in range(k):
            arm = int.from_bytes(record[at + SHOWN.size * position : at + SHOWN.size * position + 4], "little")
            self._add(arm, 1, entry.position, self.zeros, self.start[m], x)

    def _feedback(self, entry: Entry) -> None:
        feedback = unpack_feedback(entry.record)
        if feedback.generation != self.generation:
            return
        self._fits(len(feedback.new))
        self.feedback += 1
        if not feedback.flags & PENDING:
            x = feedback.x, feedback.flags
            self._add(feedback.arm, 0, entry.position, self._wide(feedback.old), self._wide(feedback.new), x)

    def _activation(self, entry: Entry) -> None:
        activation = unpack_activation(entry.record)
        if activation.generation != self.generation:
            return
        for arm, credit in zip(activation.arms, activation.credits, strict=True):
            self._fits(len(credit))
            x = activation.x, activation.flags
            self._add(arm, 1, entry.position, self.zeros, self._wide(credit), x)

    def _add(
        self, arm: int, shown: int, at: Position, old: tuple[int, ...], new: tuple[int, ...], x: tuple[bytes, int]
    ) -> None:
        self.rows.append((arm, shown, *at, *old, *new))
        self.x.append(x)

    def _wide(self, credit: tuple[int, ...]) -> tuple[int, ...]:
        return credit + self.zeros[len(credit) :]

    def _fits(self, m: int) -> None:
        if m > self.m:
            raise CorruptLog(f"it has {m} reward kinds; {self.m} are known")
