"""A backup of a store that servers may be writing to: of each experiment everything up to one entry, and nothing later.

    S    the log's end when the backup begins
    P    the cut: its end when the backup has read all keys

Trimming is held off meanwhile. The checkpoints and all keys are read between S and P, each as it is at some moment. The
keys that entries after S have written to are then read again, a few entries at a time (`lua/changes.lua`), until one
step reaches the log's end: that is P. A key that was not read again has not changed since it was read, and nothing was
read after P; so what is in the backup is the state at P, whatever was written meanwhile. Then the log is read up to P.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bandit import __version__
from bandit.archive.copied import Copy, Head
from bandit.archive.frames import FileInfo, FrameWriter, sync_folder
from bandit.archive.manifest import FORMAT, KEYS, KIND, Manifest, Saved, check_files, read_manifest, write_manifest
from bandit.core.times import time_of
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.records import START, Position
from bandit.replica.verify import verify
from bandit.store.keys import EXPERIMENTS, META, MODELS, RESTORING, Keys
from bandit.store.redis_copying import Key
from bandit.store.redis_store import RedisStore
from bandit.store.redis_wire import POSITION

HOLD, RENEW = 120.0, 15.0  # seconds that trimming is held off for, and after which it is again
READ, ROWS_BYTES = 2000, 1 << 20  # entries in one step, and bytes of checkpoints in one record
REST = 0.1  # seconds between two steps at most: as long as a step took, so that half of the store's time is others'
OWN = {EXPERIMENTS, MODELS}  # written anew by `restore`, or by servers

Progress = Callable[[str, int, int], None]  # what, how many are done, of how many (0: not known)


def quiet(what: str, done: int, total: int) -> None:
    """Show nothing."""


def back_up(store: RedisStore, folder: Path, progress: Progress = quiet) -> Manifest:
    """Write a backup of a whole store, read it again, and only then give it its name.

    Args:
        store: servers may be at work on it.
        folder: must not be there, or be empty.
        progress: told now and then how far it has come.

    Returns:
        What is in it; `folder` is there once this returns, and never before it is whole.

    Raises:
        FileExistsError: the folder has something in it.
        CorruptLog: what was written is not what was read, or an experiment cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: name a new folder for each backup")
    with _part(folder.absolute()) as part:
        manifest = _Backup(store, part, progress).take()
        sync_folder(part)
        check_backup(part, progress)
        (part / LOCK).unlink()
        sync_folder(part)
        part.rename(folder.absolute())
        sync_folder(folder.absolute().parent)
    return manifest


def check_backup(folder: Path, progress: Progress = quiet) -> Manifest:
    """Read a backup whole: digests, counts, and whether the checkpoints are the fold of the log.

    Raises:
        CorruptLog: it is not; it says what.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    for i, saved in enumerate(manifest.experiments):
        progress("checked", i, len(manifest.experiments))
        copy = Copy(folder, saved)
        if saved.deleted:
            found = sum(len(entries) for entries in copy.entries())
        else:
            result = verify(copy, saved.name)
            if not result["equal"]:
                raise CorruptLog(f"{saved.name}: its checkpoints are not the fold of its log; see `verify`")
            found = result["folded"]  # type: ignore[assignment] # a number
        if found != saved.entries:
            raise CorruptLog(f"{folder / saved.log}: expected {saved.entries} entries, got {found}")
    return manifest


LOCK = "lock"


@contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """A folder beside the one to come, for this process alone; what a killed one left there is taken away."""
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(part / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileExistsError(f"another backup is being written to {folder}") from None
        for left in part.iterdir():
            if left.name != LOCK:
                left.unlink()
        yield part
    finally:
        os.close(descriptor)
        if part.exists():
            shutil.rmtree(part)


class _Backup:
    """One backup under way."""

    def __init__(self, store: RedisStore, part: Path, progress: Progress) -> None:
        self.store, self.part, self.progress = store, part, progress
        self.files: dict[str, FileInfo] = {}
        self.heads: dict[str, Head] = {}
        self.began: dict[str, Position] = {}  # S
        self._held = self._rested = 0.0
        self.keys = 0

    def take(self) -> Manifest:
        """Write all files."""
        store, began = self.store, self.store.now_ms()
        names = [name for name in store.names() if store.config(name) is not None]
        try:
            self._hold(names)
            self.began = {name: store.end(name) for name in names}
            with self._writing(KEYS) as keys:
                for i, name in enumerate(names):
                    self.progress("checkpoints", i, len(names))
                    self._tables(name)
                self._every_key(keys)
                self._cut(keys)
            saved = tuple(self._log(name) for name in self.heads)
        finally:
            for name in names:
                store.hold(name, 0)
        info = store.info()
        kind = "valkey" if "valkey_version" in info else "redis"
        manifest = Manifest(
            kind=KIND,
            format=FORMAT,
            made_by=__version__,
            store=f"{kind} {info[f'{kind}_version']}",
            began=time_of(began),
            ended=time_of(store.now_ms()),
            keys=self.keys,
            experiments=saved,
            files=self.files,
        )
        write_manifest(self.part, manifest)
        return manifest.sealed

    @contextmanager
    def _writing(self, name: str) -> Iterator[FrameWriter]:
        """A file of the backup."""
        writer = FrameWriter(self.part / name)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        self.files[name] = writer.close()

    def _hold(self, names: Any) -> None:
        """Hold off trimming, again after a while."""
        if (now := time.monotonic()) - self._held > RENEW or not self._held:
            for name in names:
                self.store.hold(name, HOLD)
            self._held = now

    def _rest(self) -> None:
        """Leave the store to others for as long as the last step took."""
        self._hold(self.began)
        time.sleep(min(REST, time.monotonic() - self._rested) if self._rested else 0)
        self._rested = time.monotonic()

    def _tables(self, name: str) -> None:
        """The checkpoints: each cursor before its rows, the base before the sums, all before the cut."""
        store, cursors = self.store, {}
        with self._writing(f"{name}.tables.gz") as file:
            for table in ("base", "sums"):
                cursors[table], fields, size = store.cursor(name, table), [], 0
                for row in store.rows(name, table):
                    fields += [b"%d" % row.arm, POSITION.pack(*row.position) + row.sums]
                    size += len(row.sums)
                    if size > ROWS_BYTES:
                        file.write((table, fields))
                        fields, size = [], 0
                        self._rest()
                file.write((table, fields))
        self.heads[name] = Head({}, cursors["base"], cursors["sums"], store.base_config(name))

    def _every_key(self, file: FrameWriter) -> None:
        """Every key but those that are written elsewhere."""
        for names in self.store.every_key():
            self._write(file, self.store.keys([name for name in names if self._is_wanted(name)]))
            self.progress("keys", self.keys, 0)
            self._rest()

    def _is_wanted(self, key: bytes) -> bool:
        text = key.decode(errors="replace")
        if not text.startswith("bandit:{"):
            return text not in OWN
        prefix, ended, rest = text.partition("}")
        name = prefix[len("bandit:{") :].rpartition("/")[0]
        if not ended or name not in self.heads or rest.startswith(":p:"):
            return False
        keys = Keys.of(name)
        return text not in {keys.config, keys.log, keys.table("sums"), keys.table("base"), keys.lease, keys.hold}

    def _cut(self, file: FrameWriter) -> None:
        """Read again what has changed since the backup began, up to each log's end as it is then."""
        for i, name in enumerate(list(self.heads)):
            self.progress("changes", i, len(self.heads))
            position = self.began[name]
            while True:
                changes = self.store.changes(name, position)
                self._write(file, changes.keys)
                position = changes.upto
                if changes.is_end:
                    break
                self._hold(self.began)
            if b"config" not in changes.config or position == START:
                del self.heads[name]  # it was deleted and forgotten meanwhile
                continue
            self.heads[name] = msgspec.structs.replace(self.heads[name], config=changes.config, cut=position)

    def _write(self, file: FrameWriter, keys: list[Key]) -> None:
        for key in keys:
            if key.key == META.encode():
                key = key._replace(value=_without(key.value, RESTORING))
            file.write(key)
        self.keys += len(keys)

    def _log(self, name: str) -> Saved:
        """The log up to the cut, whole from its first entry."""
        store, head, position = self.store, self.heads[name], START
        first, counts = START, {b"d": 0, b"f": 0, b"a": 0, b"x": 0}
        with self._writing(f"{name}.log.gz") as file:
            file.write(head)
            while position < head.cut and (read := store.read(name, position, READ)):
                entries = [entry for entry in read if entry.position <= head.cut]
                for entry in entries:
                    counts[entry.tag] = counts.get(entry.tag, 0) + 1
                file.write([(*entry.position, entry.tag, entry.record) for entry in entries])
                first, position = first if first != START else entries[0].position, read[-1].position
                self.progress(f"log of {name}", sum(counts.values()), 0)
                self._rest()
        base = store.cursor(name, "base")
        if (base > head.base and store.at(name, base) is None) or position < head.cut:
            raise Problem(Code.STORE_UNAVAILABLE, f"{name}: its log was trimmed while it was read; try again")
        deleted = head.config[b"deleted"] == b"1"
        expires = store.expires_ms(Keys.of(name).log) if deleted else -1
        at, start = head.cut.text().decode(), first.text().decode()
        return Saved(name, at, start, sum(counts.values()), counts[b"d"], counts[b"f"], deleted, expires)


def _without(fields: list[bytes], begun: str) -> list[bytes]:
    """A hash's fields and values without those whose name begins so."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [part for pair in pairs if not pair[0].decode().startswith(begun) for part in pair]
