"""Entries that come in order from files, read as those of a store: so many after a position."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bandit.log.records import START, Entry, Position


class Forward:
    """What comes is kept until it is given; to go back is to begin anew.

    Args:
        begin: gives the entries after a position, some at a time, in order; earlier ones are passed over.
    """

    def __init__(self, begin: Callable[[Position], Iterator[list[Entry]]]) -> None:
        self._begin = begin
        self.start(START)

    def start(self, after: Position) -> None:
        """Begin anew, after a position."""
        self._rest, self._read, self._last = self._begin(after), list[Entry](), after

    def read(self, after: Position, count: int) -> list[Entry]:
        """Up to `count` entries after a position; fewer at the end only."""
        if after < self._last:
            self.start(after)
        if after != self._last:
            self._read = [entry for entry in self._read if entry.position > after]
        while len(self._read) < count and (more := next(self._rest, None)) is not None:
            self._read += [entry for entry in more if entry.position > after]
        given, self._read = self._read[:count], self._read[count:]
        self._last = given[-1].position if given else self._last
        return given
