"""Moves what is past its window out of the logs and into Parquet files, each entry once.

    cursor  what the store says that the archive has; trimming stays behind it
    last    where the archive's last file ends

1. Read entries after the cursor, up to where trimming could cut.  2. Write them to a file under another name, and put
it on the disk.  3. Rename it.  4. Move the cursor, if it is still what it was.

A crash before 3 leaves a part that nobody reads, and which the next run takes away. One between 3 and 4 leaves a file
whose `previous` is the cursor: the next run finds it, and moves the cursor only. So no entry is written twice, and none
is trimmed before its file is on the disk. Two archivers cannot work on one folder: the first holds a lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bandit import __version__
from bandit.archive.columns import Writer
from bandit.archive.files import FORMAT, IDENTITY, KIND, About, File, files_of, identity, name_of
from bandit.archive.frames import sync_folder
from bandit.errors import Code, Problem
from bandit.log.records import START, Entry, Position, read_config
from bandit.replica.export import Rows
from bandit.replica.trim import STEP, expired
from bandit.store.protocol import Store, is_ahead

FILE = 100_000  # entries of one file, about
PART = ".part"  # the file that is being written


class Moved(NamedTuple):
    """What one run did for an experiment."""

    experiment: str
    entries: int  # written
    found: int  # files whose cursor an earlier run had not moved
    upto: Position
    lost_before: Position | None = None  # entries before this one were trimmed by a server that knows no archive


@contextmanager
def archive_folder(folder: Path) -> Iterator[bytes]:
    """The archive's id, while it is ours alone. One that was made for it goes again where no experiment came into it.

    Raises:
        Problem: another process is archiving into it.
        CorruptLog: it is no archive, or one of a later format.
    """
    made, new = not folder.exists(), not (folder / IDENTITY).exists()
    archive = identity(folder, new=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Problem(Code.PRECONDITION_FAILED, f"another process is archiving into {folder}") from None
        try:
            yield archive
        finally:
            if new and not any(path.is_dir() for path in folder.iterdir()):
                _unmake(folder, made=made)
    finally:
        os.close(descriptor)


def _unmake(folder: Path, *, made: bool) -> None:
    for name in (IDENTITY, ".lock"):
        (folder / name).unlink(missing_ok=True)
    if made:
        folder.rmdir()


def archive(store: Store, name: str, folder: Path, own: bytes, grace_ms: int) -> Moved | None:
    """Archive what an experiment's log has past its window; None where its log is empty.

    Args:
        store: servers may be at work on it.
        name: the experiment; of a deleted one all that its log has.
        folder: held by `archive_folder`.
        own: the archive's id.
        grace_ms: how long after its deadline a decision stays in the log.

    Raises:
        Problem: the log is archived elsewhere, the folder lacks files, or has entries that the store does not; nothing
            was written.
        CorruptLog: a file or an entry cannot be read.
    """
    if not (begun := store.read(name, START, 1)):
        return None
    if (known := store.archived(name)) is not None and known.id != own:
        raise _taken(name)
    place, files = folder / name, files_of(folder, name)
    place.mkdir(mode=0o700, exist_ok=True)  # before the store is told: it stays, and with it the archive's id
    (place / PART).unlink(missing_ok=True)
    after = files[-1].about.after.encode() if files else b""  # of a later format: refused before the store is told
    cursor, found, lost = _settled(store, name, files, own, begun[0])
    before = after if files and lost is None else store.base_config(name)
    run = _Run(store, name, place, own, grace_ms, cursor, before)
    written = run.all()
    if not store.move_archive(name, own, run.cursor, run.cursor):  # it says that somebody was here
        raise _taken(name)
    return Moved(name, written, found, run.cursor, lost)


def _settled(
    store: Store, name: str, files: list[File], own: bytes, first: Entry
) -> tuple[Position, int, Position | None]:
    """(the cursor, files whose cursor was not moved, what was lost): the store's word and the files agree then."""
    known, last = store.archived(name), files[-1].last if files else None
    start = first.position.before()
    if known is not None and known.id != own:
        raise _taken(name)
    if known is None:
        cursor = _begun(store, name, last, first)
        if not store.move_archive(name, own, None, cursor):
            raise _taken(name)
        return cursor, 0, first.position if last and cursor == start and not _is_creation(first) else None
    if last != known.cursor and not (last is None and start == known.cursor):
        ahead = [i for i, file in enumerate(files) if file.first > known.cursor]
        follows = ahead and Position.parse(files[ahead[0]].about.previous.encode()) == known.cursor
        if last is None or not follows or store.at(name, last) is None:
            end = last.text().decode() if last else "nowhere"
            has = known.cursor.text().decode()
            raise Problem(
                Code.PRECONDITION_FAILED,
                f"{name}: the store says that its archive ends at {has}, but here it ends at {end}, and the log does"
                " not go on from there: is this folder whole, and of this store?",
            )
        if not store.move_archive(name, own, known.cursor, last):
            raise _taken(name)
        return last, len(ahead), None
    return _overtaken(store, name, known.cursor, own, first)


def _overtaken(
    store: Store, name: str, cursor: Position, own: bytes, first: Entry
) -> tuple[Position, int, Position | None]:
    """As `_settled`, where a server that knows no archive may have trimmed the log beyond the cursor."""
    base = store.cursor(name, "base")
    if base <= cursor or store.at(name, base) is not None:
        return cursor, 0, None
    start = first.position.before()
    if not store.move_archive(name, own, cursor, start):
        raise _taken(name)
    return start, 0, first.position


def _begun(store: Store, name: str, last: Position | None, first: Entry) -> Position:
    """Where to begin: after the last file if the log goes on from there, else at the log's first entry."""
    if last is None or (first.position > last and _is_creation(first)):
        return first.position.before()
    base = store.cursor(name, "base")
    if last == base or store.at(name, last) is not None:
        return last
    if last > base:
        raise Problem(
            Code.PRECONDITION_FAILED,
            f"{name}: the archive has entries up to {last.text().decode()} that the store does not have: was it"
            " restored from an older backup? Begin another archive, in a new folder",
        )
    return first.position.before()  # what is between was trimmed while nothing was archived


def _is_creation(entry: Entry) -> bool:
    return entry.tag == b"x" and read_config(entry.record).version == 1


def _taken(name: str) -> Problem:
    return Problem(
        Code.PRECONDITION_FAILED,
        f"{name}: its log is archived in another folder, or by another process; end that with `bandit-server archive"
        f" --forget {name}`",
    )


class _Run:
    """One run over an experiment's log."""

    def __init__(
        self, store: Store, name: str, place: Path, own: bytes, grace_ms: int, cursor: Position, config: bytes
    ) -> None:
        self.store, self.name, self.place, self.own, self.grace_ms = store, name, place, own, grace_ms
        self.cursor, self.config, self.rows = cursor, config, Rows()
        if config:
            self.rows.told(config)

    def all(self) -> int:
        """Write one file after the other; how many entries."""
        written = 0
        while count := self._file():
            written += count
        return written

    def _ripe(self, after: Position) -> list[Entry]:
        """The next entries that are past their window."""
        stored, now_ms = self.store.config(self.name), self.store.now_ms()
        entries = self.store.read(self.name, after, STEP + 1)
        if stored is None or stored.config.deleted:
            return entries  # its log will not be trimmed, but go as a whole
        if is_ahead(now_ms, round(time.time() * 1000), self.store.end(self.name).ms):
            return []  # the clock has jumped, as in `trim`
        return expired(entries, now_ms - self.grace_ms, self.store.cursor(self.name, "sums"))

    def _file(self) -> int:
        """Write a file, then move the cursor; how many entries it has."""
        if not (entries := self._ripe(self.cursor)):
            return 0
        first, count, begins = entries[0].position, 0, _is_creation(entries[0])
        before = b"" if begins else self.config
        writer = Writer(self.place / PART, self.rows)
        try:
            while entries:
                writer.write(entries)
                count, last = count + len(entries), entries[-1].position
                configs = [entry.record for entry in entries if entry.tag == b"x"]
                self.config = configs[-1] if configs else self.config
                entries = self._ripe(last) if count < FILE else []
            previous = self.cursor.text().decode()
            writer.close(
                About(KIND, FORMAT, __version__, self.name, previous, begins, before.decode(), self.config.decode())
            )
        except BaseException:
            writer.abandon()
            raise
        writer.part.rename(self.place / name_of(first, last))
        sync_folder(self.place)
        if not self.store.move_archive(self.name, self.own, self.cursor, last):
            raise _taken(self.name)
        self.cursor = last
        return count
