"""The files of an archive: DIR/archive.json, and DIR/NAME/FIRST_LAST.parquet for each run of entries of a log.

A file's name says the positions of its first and last entry, and its footer the position of the entry before: so files
that follow one another can be told from a gap. A file has its name only once it is whole, and is never changed again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bandit import __version__
from bandit.archive.frames import sync_folder
from bandit.archive.manifest import check_format
from bandit.errors import CorruptLog
from bandit.log.records import Entry, Position

FORMAT = 1  # of an archive
KIND = "bandit-server archive"
IDENTITY = "archive.json"
ABOUT = b"bandit-server"  # of a file's footer
PATTERN = re.compile(r"(\d{13,20})-(\d{6,20})_(\d{13,20})-(\d{6,20})\.parquet")
READ = 5000  # entries decoded at a time
RAW = ["position_ms", "position_seq", "tag", "record"]


class About(msgspec.Struct, frozen=True):
    """What a file says of itself."""

    kind: str
    format: int
    made_by: str
    experiment: str
    previous: str  # the position before its first entry, in the log that it was read from
    begins: bool  # its first entry is the experiment's creation
    before: str  # the config in force before its first entry (JSON, as in the log), or nothing
    after: str  # the one after its last entry


class File(NamedTuple):
    """A file of an archive."""

    first: Position
    last: Position
    path: Path

    @property
    def about(self) -> About:
        """What it says of itself.

        Raises:
            CorruptLog: it is damaged, or of a later format.
        """
        with opened(self.path) as file:
            return about(self.path, file)

    def entries(self) -> Iterator[list[Entry]]:
        """Its entries, some at a time; raises as `about` does."""
        with opened(self.path) as file:
            about(self.path, file)
            try:
                for batch in file.iter_batches(READ, columns=RAW):
                    columns = [batch.column(name).to_pylist() for name in RAW]
                    yield [Entry(Position(ms, seq), tag.encode(), r) for ms, seq, tag, r in zip(*columns, strict=True)]
            except (pa.ArrowException, OSError) as error:
                raise CorruptLog(f"{self.path} is damaged: {error}") from None


def opened(path: Path) -> pq.ParquetFile:
    """A Parquet file whose pages are checked as they are read."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError) as error:  # pyarrow raises the second for what is in the file, too
        raise CorruptLog(f"{path} is no Parquet file, or damaged: {error}") from None


def about(path: Path, file: pq.ParquetFile) -> About:
    """What a file says of itself, once its format is one that this version reads."""
    try:
        found: dict[str, Any] = msgspec.json.decode((file.metadata.metadata or {}).get(ABOUT, b"{}"))
        check_format(path, found, KIND, FORMAT)
        return msgspec.convert(found, About)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptLog(f"{path} is damaged: {error}") from None


def name_of(first: Position, last: Position) -> str:
    """The name of a file; names are in the order of positions."""
    return f"{first.ms:013d}-{first.seq:06d}_{last.ms:013d}-{last.seq:06d}.parquet"


def files_of(folder: Path, experiment: str) -> list[File]:
    """The files of an experiment, in order.

    Raises:
        CorruptLog: two overlap: somebody has put the files of two archives together.
    """
    found = []
    for path in (folder / experiment).glob("*.parquet") if (folder / experiment).is_dir() else ():
        if match := PATTERN.fullmatch(path.name):
            ms, seq, last_ms, last_seq = map(int, match.groups())
            found.append(File(Position(ms, seq), Position(last_ms, last_seq), path))
    found.sort()
    for one, other in pairwise(found):
        if other.first <= one.last:
            raise CorruptLog(f"{other.path} overlaps {one.path.name}: are these the files of one archive?")
    return found


def identity(folder: Path, *, new: bool = False) -> bytes:
    """The archive's own id, so that a store can tell it from another; made where `new` and there is none.

    Raises:
        CorruptLog: the folder is no archive, or one of a later format.
    """
    path = folder / IDENTITY
    if not path.exists():
        if not new:
            raise CorruptLog(f"{folder} is no archive: expected {path.name} in it, got none")
        if folder.exists() and any(folder.iterdir()):
            raise CorruptLog(f"{folder} has other files, and is no archive: name a new folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = {"kind": KIND, "format": FORMAT, "made_by": __version__, "id": secrets.token_hex(8)}
        part = folder / f"{IDENTITY}.part"
        part.write_bytes(msgspec.json.encode(told) + b"\n")
        part.rename(path)
        sync_folder(folder)
    try:
        found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        check_format(path, found, KIND, FORMAT)
        return str(found["id"]).encode()
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, KeyError) as error:
        raise CorruptLog(f"{path} is damaged: {error}") from None
