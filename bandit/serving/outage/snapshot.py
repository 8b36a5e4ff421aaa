"""What is kept on the disk of an experiment, so that a server can decide without a store: its config and its sums.

A file is `MAGIC`, the digest of the rest, and the rest in MessagePack. It is replaced as a whole or not at all, and
nobody but its owner may read it: it has the key that user ids are hashed with.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bandit.core.document import NAME
from bandit.core.engine import Model
from bandit.core.experiment import Config, compile_config
from bandit.core.sums import Sums
from bandit.errors import CorruptLog
from bandit.log.records import Position
from bandit.replica.replica import AT_START, UNREADABLE, Replica
from bandit.store.protocol import Store

log = logging.getLogger(__name__)

MAGIC = b"bandit-server snapshot\n"
FORMAT = 1
DIGEST = 32  # bytes
LARGEST = 256 << 20  # bytes of a file
SUFFIX = ".snapshot"


class Snapshot(msgspec.Struct, frozen=True):
    """One experiment at a position of its log."""

    format: int
    position: bytes
    secret: bytes
    config: bytes
    rows: dict[int, bytes]  # of arms that were shown


def packed(config: Config, sums: Sums, position: Position, secret: bytes) -> bytes:
    """A snapshot as a file has it."""
    own = compile_config(config).layout.own
    rows = {arm: sums.pack(arm, config.generation, own) for arm in sums.n.nonzero()[0].tolist()}
    made = Snapshot(FORMAT, position.text(), secret, msgspec.json.encode(config), rows)
    body = msgspec.msgpack.encode(made)
    return MAGIC + hashlib.blake2b(body, digest_size=DIGEST).digest() + body


def unpacked(data: bytes) -> Snapshot:
    """The snapshot that a file has.

    Raises:
        CorruptLog: it has none, or one of a later format.
    """
    head, digest, body = data[: len(MAGIC)], data[len(MAGIC) : len(MAGIC) + DIGEST], data[len(MAGIC) + DIGEST :]
    if head != MAGIC or hashlib.blake2b(body, digest_size=DIGEST).digest() != digest:
        raise CorruptLog("it is no snapshot, or not whole")
    form = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw]).get("format", msgspec.Raw())
    if msgspec.msgpack.decode(form) != FORMAT:
        raise CorruptLog(f"it is of another format; this version reads {FORMAT}")
    return msgspec.msgpack.decode(body, type=Snapshot)


def write(directory: Path, name: str, data: bytes) -> None:
    """Replace an experiment's file.

    Raises:
        OSError: it cannot be written; the earlier one stands.
    """
    part = directory / f".{name}.part"
    part.unlink(missing_ok=True)
    part.touch(0o600)
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(directory / f"{name}{SUFFIX}")


def names(directory: Path) -> list[str]:
    """The experiments that have a file."""
    found = (path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}"))
    return sorted(name for name in found if NAME.fullmatch(name))


def restored(directory: Path, store: Store, room: int) -> Iterator[tuple[Replica, bytes]]:
    """(a replica that decides, the key of user ids) of each file that can be read; of others it is said why not.

    Args:
        directory: where they are.
        store: nothing is asked of it.
        room: bytes that all models may take.
    """
    for name in names(directory):
        try:
            path = directory / f"{name}{SUFFIX}"
            if path.stat().st_size > LARGEST:
                raise CorruptLog(f"it is larger than {LARGEST >> 20} MiB")
            replica, secret = _replica(name, store, unpacked(path.read_bytes()))
        except (OSError, msgspec.MsgspecError, *UNREADABLE) as error:
            log.warning("%s: its snapshot is not used: %s", name, error)
            continue
        if (room := room - replica.size) < 0:
            log.warning("%s: its snapshot is not used: its model does not fit into BANDIT_MODEL_MEMORY", name)
            continue
        yield replica, secret


def _replica(name: str, store: Store, snapshot: Snapshot) -> tuple[Replica, bytes]:
    config = msgspec.json.decode(snapshot.config, type=Config)
    if config.name != name:
        raise CorruptLog(f"it is of {config.name!r}")
    experiment = compile_config(config)
    sums = Sums.zeros(*experiment.shape)
    for arm, row in snapshot.rows.items():
        sums.unpack(arm, row, experiment.layout.local)
    replica = Replica(name, store)
    replica.config, replica.model = config, Model(experiment, sums)
    replica.position = replica.scored = Position.parse(snapshot.position)
    while replica.model.refresh(AT_START):
        pass
    return replica, snapshot.secret
