"""One experiment of a backup, read as a store is: for `verify`, and for a restore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bandit.archive.forward import Forward
from bandit.archive.frames import read_frames
from bandit.archive.manifest import Saved
from bandit.core.experiment import Config
from bandit.errors import CorruptLog
from bandit.log.records import START, Entry, Position
from bandit.store.protocol import Row, Stored, Table
from bandit.store.redis_wire import row, stored


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The first record of a log's file."""

    config: dict[bytes, bytes]  # the fields of its hash
    base: Position  # the tables' cursors
    sums: Position
    base_config: bytes
    cut: Position = START


class Copy:
    """See `bandit.store.readable.Readable`; the log is read forward, once or several times."""

    def __init__(self, folder: Path, saved: Saved) -> None:
        self.saved, self._folder = saved, folder
        self.head: Head = msgspec.convert(next(read_frames(folder / saved.log)), Head)
        self._log = Forward(lambda _: self.entries())

    def entries(self) -> Iterator[list[Entry]]:
        """The log, some entries at a time."""
        frames = read_frames(self._folder / self.saved.log)
        next(frames)  # the head
        for frame in frames:
            yield [Entry(Position(ms, seq), tag, record) for ms, seq, tag, record in frame]

    def fields(self) -> Iterator[tuple[Table, list[bytes]]]:
        """The tables: names and values in turn, about a megabyte at a time."""
        frames: Iterator[Any] = read_frames(self._folder / self.saved.tables)
        yield from frames

    def config(self, name: str) -> Stored | None:
        """See `Store`."""
        try:
            return stored(msgspec.json.decode(self.head.config[b"config"], type=Config), self.head.config)
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise CorruptLog(f"{name}: its config cannot be read, was it of a later version? ({error!r})") from None

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """See `Store`."""
        return self._log.read(after, count)

    def end(self, name: str) -> Position:
        """See `Store`."""
        return self.saved.cut

    def at(self, name: str, position: Position) -> Entry | None:
        """See `Store`."""
        found = (entry for entries in self.entries() for entry in entries if entry.position == position)
        return next(found, None)

    def cursor(self, name: str, table: Table) -> Position:
        """See `Store`."""
        return self.head.base if table == "base" else self.head.sums

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """See `Store`."""
        for of, fields in self.fields():
            if of == table:
                yield from (row(int(at), value) for at, value in zip(fields[::2], fields[1::2], strict=True))

    def base_config(self, name: str) -> bytes:
        """See `Store`."""
        return self.head.base_config
