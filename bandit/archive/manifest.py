"""What a backup consists of: `manifest.json`, which is written last and names every other file with its SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from bandit import __version__
from bandit.archive.frames import FileInfo, sha256_of
from bandit.errors import CorruptLog
from bandit.log.records import Position

FORMAT = 1  # of a backup
KIND = "bandit-server backup"
NAME = "manifest.json"
KEYS = "keys.gz"


class Saved(msgspec.Struct, frozen=True):
    """One experiment of a backup."""

    name: str
    position: str  # the cut: everything up to this entry is in the backup, and nothing after it
    first: str  # the log's first entry
    entries: int
    decisions: int
    feedback: int
    deleted: bool
    expires_ms: int  # when what is left of a deleted one goes; -1: never

    @property
    def cut(self) -> Position:
        """The position of the last entry."""
        return Position.parse(self.position.encode())

    @property
    def log(self) -> str:
        """The file of its log."""
        return f"{self.name}.log.gz"

    @property
    def tables(self) -> str:
        """The file of its config and checkpoints."""
        return f"{self.name}.tables.gz"


class Manifest(msgspec.Struct, frozen=True):
    """The manifest."""

    kind: str
    format: int
    made_by: str
    store: str  # kind and version
    began: str
    ended: str
    keys: int
    experiments: tuple[Saved, ...]
    files: dict[str, FileInfo]
    digest: str = ""  # SHA-256 of the manifest without it

    @property
    def sealed(self) -> Manifest:
        """With its own digest."""
        return msgspec.structs.replace(self, digest=_digest(self))

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(info.bytes for info in self.files.values())


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, digest=""), order="sorted")).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest, readable by its owner only."""
    (path := folder / NAME).touch(0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest.sealed), indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        CorruptLog: there is none, it is damaged, or of a later format; it says which.
    """
    if not (path := folder / NAME).is_file():
        raise CorruptLog(f"{folder} is no backup: expected {NAME} in it, got none")
    try:
        found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        check_format(path, found, KIND, FORMAT)
        manifest = msgspec.convert(found, Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise CorruptLog(f"{path} is damaged: {error}") from None
    if manifest.digest != _digest(manifest):
        raise CorruptLog(f"{path} is damaged: it is not what its digest says")
    return manifest


def check_format(path: Path, found: dict[str, Any], kind: str, reads: int) -> None:
    """Refuse a description of something else, or of a later format.

    Raises:
        CorruptLog: it says both formats.
    """
    if found.get("kind") != kind:
        raise CorruptLog(f"{path}: expected a {kind}, got another kind of file")
    form = found.get("format")
    if not isinstance(form, int) or form > reads:
        by = f", written by {found['made_by']}" if isinstance(found.get("made_by"), str) else ""
        raise CorruptLog(
            f"{path}: a {kind} of format {form}{by}; this version ({__version__}) reads up to {reads}: use a later one"
        )


def check_files(folder: Path, manifest: Manifest) -> None:
    """Read every file again, and compare it with the manifest.

    Raises:
        CorruptLog: one is missing, or not what was written.
    """
    for name, info in manifest.files.items():
        if Path(name).name != name or not (path := folder / name).is_file():
            raise CorruptLog(f"{folder}: the backup has lost its file {name}")
        if sha256_of(path) != (info.bytes, info.sha256):
            raise CorruptLog(f"{path} is damaged: its SHA-256 is not that in {NAME}")
