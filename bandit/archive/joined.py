"""An archive and the log that goes on from it, read as one: the whole history, without a gap and without a repetition.

The archive has everything up to its last file's end, the log everything after it; what both have is read from the
archive. Where trimming takes entries out of the log while it is read, they are in the archive by then. An archive that
has begun, with nothing past its window yet, has no file: there is the log alone. Of an experiment that the store does
not know, or no longer, the archive alone is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bandit.archive.files import File, files_of, identity
from bandit.archive.forward import Forward
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.records import START, Entry, Position, read_config
from bandit.store.protocol import Row, Store, Stored, Table


class Joined:
    """See `bandit.store.readable.Readable`; it is read forward, once or several times.

    Raises:
        CorruptLog: the folder is no archive, of a later format, or lacks a file.
        Problem: it has nothing of this experiment.
    """

    def __init__(self, store: Store, folder: Path, name: str) -> None:
        own = identity(folder)
        self.store, self.folder, self.name = store, folder, name
        self.alone = store.config(name) is None
        begun, self._before = None if self.alone else store.archived(name), store.base_config(name)
        self._look()  # after the store, which moves on once a file is there
        if self.files:
            about = self.files[0].about
            self.whole = about.begins  # from the experiment's first entry on
            self._previous, self._before = Position.parse(about.previous.encode()), about.before.encode()
        elif begun and begun.id == own:
            self.whole, self._previous = not self._before, begun.cursor
        else:
            raise Problem(Code.EXPERIMENT_NOT_FOUND, f"{folder} has no archive of experiment {name!r}")
        self._archived = Forward(self._entries)

    def _look(self) -> None:
        """Find the files: those since the experiment's creation, where it was created more than once the last one."""
        files, previous = files_of(self.folder, self.name), START
        self.files: list[File] = []
        for file in files:
            about = file.about
            if about.begins:
                self.files = []
            elif self.files and Position.parse(about.previous.encode()) != previous:
                at = previous.text().decode()
                raise CorruptLog(
                    f"{self.folder / self.name}: the archive lacks what is between {at} and {file.path.name}"
                )
            self.files.append(file)
            previous = file.last

    def _entries(self, after: Position) -> Iterator[list[Entry]]:
        """What the archive has after a position."""
        for file in [file for file in self.files if file.last > after]:
            yield from file.entries()

    @property
    def upto(self) -> Position:
        """The archive's end."""
        return self.files[-1].last if self.files else self._previous

    def config(self, name: str) -> Stored | None:
        """See `Store`."""
        if not self.alone:
            return self.store.config(name)
        return Stored(read_config(self.files[-1].about.after.encode()), True, self.files[0].first, self.upto)

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """See `Store`.

        Raises:
            Problem: entries are in neither.
        """
        after = after if self.files else max(after, self._previous)
        while after >= self.upto:
            if self.alone:
                return []
            live = self.store.read(name, after, count)
            base = self.store.cursor(name, "base")  # read after the log: cuts only move forward
            if base <= after or self.store.at(name, base) is not None:
                return live
            before = self.upto
            self._look()
            self._archived.start(after)
            if self.upto == before:
                gap = f"{self.upto.text().decode()} and {base.text().decode()}"
                raise Problem(
                    Code.STORE_UNAVAILABLE, f"{name}: entries between {gap} left the log before they were archived"
                )
        return self._archived.read(after, count)

    def end(self, name: str) -> Position:
        """See `Store`."""
        return self.upto if self.alone else self.store.end(name)

    def at(self, name: str, position: Position) -> Entry | None:
        """See `Store`."""
        if position > self.upto:
            return self.store.at(name, position)
        file = next((file for file in self.files if file.first <= position <= file.last), None)
        found = (entry for entries in file.entries() for entry in entries) if file else iter(())
        return next((entry for entry in found if entry.position == position), None)

    def cursor(self, name: str, table: Table) -> Position:
        """See `Store`; the base is what is before the archive."""
        if table == "sums":
            return self.store.cursor(name, table)
        return START if self.whole else self._previous

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """See `Store`; the base is what is before the archive, and has no rows here."""
        yield from self.store.rows(name, table) if table == "sums" else ()

    def base_config(self, name: str) -> bytes:
        """See `Store`."""
        return self._before
