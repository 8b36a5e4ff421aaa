"""A file of records: each a length (4 bytes, little-endian) and so many bytes of msgpack, the whole compressed (gzip).

A file is read and written a record at a time, so memory does not depend on its size. Its SHA-256 is that of the bytes
on the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from bandit.errors import CorruptLog

LENGTH = struct.Struct("<I")
LARGEST = 1 << 30  # bytes of one record: a length beyond it is no length
LEVEL = 1  # of gzip: the quickest
CHUNK = 1 << 20


class FileInfo(msgspec.Struct, frozen=True):
    """What a manifest says of a file."""

    bytes: int
    records: int
    sha256: str


class _Hashed:
    """A file that keeps a digest of what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class FrameWriter:
    """Writes a file of records, readable by its owner only; `close` says what is in it, once it is on the disk."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._hashed = _Hashed(self._file)
        self._packed = gzip.GzipFile("", "wb", LEVEL, self._hashed, mtime=0)
        self._encoder, self._records = msgspec.msgpack.Encoder(), 0

    def write(self, record: Any) -> None:
        """Write one record."""
        data = self._encoder.encode(record)
        self._packed.write(LENGTH.pack(len(data)))
        self._packed.write(data)
        self._records += 1

    def close(self) -> FileInfo:
        """End the file."""
        self._packed.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileInfo(self._hashed.size, self._records, self._hashed.digest.hexdigest())

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()


def read_frames(path: Path, type: Any = Any) -> Iterator[Any]:  # noqa: A002 - msgspec's own word
    """The records of a file, in order, each of this type.

    Raises:
        CorruptLog: the file is damaged, or cut short; it says where.
    """
    decoder, number = msgspec.msgpack.Decoder(type), 0
    try:
        with gzip.open(path, "rb") as file:
            while head := file.read(LENGTH.size):
                (size,) = LENGTH.unpack(head)
                if size > LARGEST:
                    raise ValueError(f"a length of {size}")
                data = file.read(size)
                if len(data) != size:
                    raise EOFError("its end is missing")
                number += 1
                yield decoder.decode(data)
    except (EOFError, ValueError, zlib.error, struct.error, gzip.BadGzipFile, msgspec.DecodeError) as error:
        raise CorruptLog(f"{path}: record {number} cannot be read ({error})") from error


def sha256_of(path: Path) -> tuple[int, str]:
    """(size, SHA-256) of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def sync_folder(path: Path) -> None:
    """Put a folder's names on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
