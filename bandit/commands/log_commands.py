"""`export` and `verify`: they read the store that a server uses, or a data directory that no server runs on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from bandit.errors import Code, Problem, nearest
from bandit.process import embedded
from bandit.replica.export import export
from bandit.replica.verify import verify
from bandit.settings import Settings
from bandit.store.memory_store import MemoryStore
from bandit.store.open import open_store
from bandit.store.protocol import Store
from bandit.store.readable import Readable
from bandit.store.redis_store import RedisStore
from bandit.telling import tell

if TYPE_CHECKING:
    from bandit.archive.joined import Joined

SHOWN = 10  # names of experiments, where none is like the one that was asked for


@contextmanager
def opened_store(settings: Settings, purpose: str = "command", *, restoring: bool = False) -> Iterator[RedisStore]:
    """The settings' store: the one at redis_url, a running server's, or one started for as long as this takes.

    Args:
        settings: where it is.
        purpose: what for, for others who want the same directory.
        restoring: a store that is half restored will do.

    Raises:
        StoreUnavailable, StoreUnsuitable, EmbeddedError: it cannot be used; each says why.
    """
    if settings.redis_url is not None:
        yield from _checked(settings.redis_url, restoring)
        return
    given = {
        "binary": settings.store_binary,
        "durability": settings.durability,
        "memory": settings.store_bytes,
        "purpose": purpose,
    }
    with embedded.opened(settings.data_dir, **given) as url:  # type: ignore[arg-type]
        yield from _checked(url, restoring)


def _checked(url: str, restoring: bool) -> Iterator[RedisStore]:
    store = open_store(url, timeout=30)  # nobody waits for these commands as a visitor does
    try:
        store.check(restoring=restoring)
        yield store
    finally:
        store.close()


def export_log(settings: Settings, experiment: str, output: Path | None, archive: Path | None = None) -> int:
    """Write every entry of an experiment's log, and of its archive before it, as JSON lines; returns how many."""
    with history_of(settings, experiment, archive) as history:
        if output is None:
            return _write(history, experiment, sys.stdout.buffer)
        with _replaced(output) as file:
            return _write(history, experiment, file)


@contextmanager
def history_of(settings: Settings, experiment: str, archive: Path | None) -> Iterator[Readable]:
    """An experiment's log, with its archive before it where there is one; the archive alone where there is no store."""
    if archive is not None and settings.redis_url is None and not settings.data_dir.exists():
        tell("bandit-server", f"there is no store at {settings.data_dir}: what follows is the archive alone")
        yield joined(MemoryStore(), archive, experiment)
        return
    with opened_store(settings) as store:
        if archive is None:
            known(store, experiment)
        yield store if archive is None else joined(store, archive, experiment)


def joined(store: Store, archive: Path, experiment: str) -> Joined:
    """An archive and the log that goes on from it."""
    from bandit.archive.joined import Joined  # and with it pyarrow
    from bandit.commands.copies import assert_pyarrow

    assert_pyarrow()
    return Joined(store, archive, experiment)


def known(store: RedisStore, experiment: str) -> None:
    """Refuse an experiment that the store has never had, with the one that may be meant."""
    if experiment not in (names := store.names()):
        there = f"; there are {', '.join(names[:SHOWN])}" if names else ""
        message = f"there is no experiment {experiment!r}{nearest(experiment, names) or there}"
        raise Problem(Code.EXPERIMENT_NOT_FOUND, message)


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the path's place once it is whole; a device or a pipe is written to as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    place = path.resolve()  # a link stays one
    part = place.with_name(f"{place.name[:50]}.{os.getpid()}.part")  # of this run alone: a file of that name is kept
    with part.open("xb") as file:
        try:
            yield file
            if place.exists():
                shutil.copymode(place, part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _write(store: Readable, experiment: str, file: BinaryIO) -> int:
    encoder, count = msgspec.json.Encoder(), 0
    for count, row in enumerate(export(store, experiment), 1):  # noqa: B007 - the count is the result
        file.write(encoder.encode(row) + b"\n")
    file.flush()
    return count


def verify_log(settings: Settings, experiment: str, batch: int, archive: Path | None = None) -> bool:
    """Print the verification of an experiment as one line of JSON; whether checkpoints and log are equal.

    With an archive that begins with the experiment, `whole`, the sums are those of the whole history from zero; with a
    later one what it lacks is taken from the store's base, and the archive itself is not needed.
    """
    with opened_store(settings) as store:
        known(store, experiment)
        history = None if archive is None else joined(store, archive, experiment)
        result = verify(history if history and history.whole else store, experiment, batch)
        if history is not None:
            ends = (history.files[0].first, history.upto) if history.files else ()
            first, last = [end.text().decode() for end in ends] or (None, None)  # None: nothing is past its window yet
            result |= {"whole": history.whole, "archived_from": first, "archived_to": last}
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return bool(result["equal"])
