"""The keys as a server remembers them: it answers from memory, and looks at the store beside that.

    find     text -> grant; what was found once is found again by one look-up
    look     ask the store whether anything has changed; one command where nothing has

A change makes a new table of what was found, so a key that was revoked is unknown from then on to everybody who asks,
whatever they remember. While the store is away the last known keys stay in force.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from bandit.access.keys import ADMIN, NOBODY, READ, WRITE, Limit, Row, id_in, is_same
from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.store.access import VERSION, AccessStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.4  # between two looks: a change is known everywhere within a second
FOUND = 4096  # texts remembered
PEPPER = b"pepper"
ROW = b"key:"

_ROW = msgspec.json.Decoder(Row)


class Grant(NamedTuple):
    """What a request may do.

    Attributes:
        id: of its key; None where there is none.
        name: of its key.
        role: in a word.
        admin: whether it may change everything.
        writes: whether it may ask for decisions and report feedback.
        reads: whether it may read.
        experiments: the only ones that it may touch; None: all.
        limit: how often; None: without a limit.
        place: where its requests are counted.
        plain: whether it may write in every experiment without a limit or an end: nothing else has to be asked.
    """

    id: str | None
    name: str
    role: str
    admin: bool
    writes: bool
    reads: bool
    experiments: frozenset[str] | None = None
    limit: Limit | None = None
    place: int = 0
    plain: bool = False

    @classmethod
    def of(cls, row: Row) -> Grant:
        """What a key may do."""
        admin, named = ADMIN in row.roles, None if row.experiments is None else frozenset(row.experiments)
        writes, reads = admin or WRITE in row.roles, admin or READ in row.roles
        plain = writes and named is None and row.limit is None and not row.expires
        return cls(row.id, row.name, row.role, admin, writes, reads, named, row.limit, row.place, plain)

    def may_touch(self, experiment: str) -> bool:
        """Whether this experiment is one of its own."""
        return self.experiments is None or experiment in self.experiments


ANYBODY = Grant(None, "anonymous", ADMIN, True, True, True, plain=True)  # where keys are not asked for
GRANT: ContextVar[Grant] = ContextVar("grant", default=ANYBODY)  # of the request at hand


class Keys(NamedTuple):
    """The keys at one moment."""

    version: bytes
    pepper: bytes
    rows: dict[str, Row]

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Keys:
        """The keys in the fields of the store's hash; a row that cannot be read is no key."""
        rows = {}
        for field, value in fields.items():
            if field.startswith(ROW):
                try:
                    row = _ROW.decode(value)
                except msgspec.DecodeError:
                    log.error("an API key cannot be read, and is refused: was a later version here?")
                    continue
                rows[row.id] = row
        return cls(fields.get(VERSION, b""), fields.get(PEPPER, b""), rows)


class Source(Protocol):
    """Where the keys are (a store)."""

    def key_version(self) -> bytes:
        """See `AccessStore`."""

    def key_rows(self) -> dict[bytes, bytes]:
        """See `AccessStore`."""


class Ring:
    """The keys of a store, in memory. `find` is for the event loop, `look` for a thread.

    Args:
        store: where they are kept.
        clock: seconds since 1970.
    """

    def __init__(self, store: Source, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._fields: dict[bytes, bytes] = {}
        self._keys = Keys(b"", b"", {})
        self._next_end = 0.0  # when the first of them expires, in ms; 0: none does
        self.next_end = 0.0  # the same of those that no other in force replaces: whose users would stand outside
        self.found: dict[bytes, Grant] = {}  # by the text of a key that is in force
        self.loaded = threading.Event()  # else nobody can be told from anybody

    def find(self, text: bytes) -> Grant | None:
        """The grant of a key's text; None where there is no such key in force. An unknown id costs the same."""
        found, keys = self.found, self._keys  # in this order: what is found by old keys is never put in a new table
        over = self._next_end and self._now() >= self._next_end  # one has ended since the last look
        if not over and (known := found.get(text)) is not None:
            return known
        row = keys.rows.get(id_in(text), NOBODY)
        same = is_same(row, text, keys.pepper)
        if not same or not row.lives(self._now()):
            return None
        if len(found) >= FOUND:
            found.clear()
        found[text] = grant = Grant.of(row)
        return grant

    def look(self) -> None:
        """Take up what has changed in the store, and drop what has expired. Raises as the store does."""
        if self._next_end and self._now() >= self._next_end:
            self._take(self._fields)
        if not self.loaded.is_set() or self._store.key_version() != self._keys.version:
            self._take(self._store.key_rows())
            self.loaded.set()

    def _take(self, fields: dict[bytes, bytes]) -> None:
        now, before = self._now(), self._keys
        keys = Keys.of(fields)
        if before.rows and not keys.rows:
            log.error("the store has no API keys any more: all are refused; make one with `bandit-server keys create`")
        lives = [row for row in keys.rows.values() if row.lives(now)]
        ends, replaced = [row for row in lives if row.expires], {row.replaces for row in lives}
        self._fields, self._next_end = dict(fields), min((row.expires for row in ends), default=0)
        self.next_end = min((row.expires for row in ends if row.id not in replaced), default=0)
        self._keys = keys
        self.found = {}  # after the keys: see `find`

    def dump(self) -> bytes:
        """The keys as bytes, hashed as in the store, for a copy beside it."""
        return msgspec.json.encode([[field, value] for field, value in self._fields.items()])

    def load(self, dumped: bytes) -> None:
        """Take the keys of a copy, for a start while the store is away; what the store has comes over it.

        Raises:
            msgspec.DecodeError: it is no copy.
        """
        if not self.loaded.is_set():
            fields = dict(msgspec.json.decode(dumped, type=list[tuple[bytes, bytes]]))
            self._take(fields | {VERSION: b"copy"})  # unlike any version of the store: the first look takes the store's
            self.loaded.set()

    def _now(self) -> int:
        return round(self._clock() * 1000)


class Looking:
    """A thread that keeps a ring up to date.

    Args:
        ring: which.
        first: called once, when the store has answered for the first time.
        copy: a file that the keys are kept in as well, hashed, for a start while the store is away; None: nowhere.
    """

    def __init__(self, ring: Ring, first: Callable[[], None], copy: Path | None = None) -> None:
        self._ring, self._first, self._copy = ring, first, copy
        self._copied = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a look under way ends by itself."""
        self._over.set()

    def _run(self) -> None:
        first: Callable[[], None] | None = self._first
        while True:
            try:
                if first is not None:
                    first()
                    first = None
                self._ring.look()
                self._keep()
            except (StoreUnavailable, StoreUnsuitable):  # the follower tells of it; the keys stay as they are
                self._recall()
            except Exception:
                log.exception("the API keys could not be read; those known before stay in force")
            if self._over.wait(LOOK_SECONDS):
                return

    def _keep(self) -> None:
        """Write the copy, where the keys have changed."""
        if self._copy is None or (dumped := self._ring.dump()) == self._copied:
            return
        self._copied = dumped
        try:
            written(self._copy, dumped).replace(self._copy)
        except OSError as error:
            log.warning("the copy of the API keys cannot be written: %s", error)

    def _recall(self) -> None:
        """Take the keys of the copy, where none have been read yet."""
        if self._copy is not None and not self._ring.loaded.is_set():
            try:
                self._ring.load(self._copy.read_bytes())
            except FileNotFoundError:
                return
            except (OSError, msgspec.DecodeError) as error:
                log.warning("the copy of the API keys cannot be read: %s", error)


def written(file: Path, data: bytes) -> Path:
    """A file beside this one, with the data, which only its owner can read: it is to take the place of this one."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{secrets.token_hex(6)}.part")  # containers that share it have the same pids
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(descriptor)
    return part


def keys_in(store: AccessStore) -> Keys:
    """The keys of a store as they are now."""
    return Keys.of(store.key_rows())
