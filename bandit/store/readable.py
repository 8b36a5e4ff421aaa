"""What reading an experiment takes, wherever it is: a store, a backup, or an archive with the log that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from bandit.log.records import Entry, Position
from bandit.store.protocol import Row, Stored, Table


class Readable(Protocol):
    """Some of `bandit.store.protocol.Store`, which has the promises."""

    def config(self, name: str) -> Stored | None:
        """See `Store`."""

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """See `Store`."""

    def end(self, name: str) -> Position:
        """See `Store`."""

    def at(self, name: str, position: Position) -> Entry | None:
        """See `Store`."""

    def cursor(self, name: str, table: Table) -> Position:
        """See `Store`."""

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """See `Store`."""

    def base_config(self, name: str) -> bytes:
        """See `Store`."""
