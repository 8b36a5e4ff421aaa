"""Keys made, rotated and revoked in the store, each change with its entry of the audit log in the same step."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from bandit.access.audit import ITSELF, Actor, entry_of
from bandit.access.keys import ADMIN, KEYS_MAX, Limit, Row, checked, digest, id_in, new_text
from bandit.access.limits import PLACES
from bandit.access.ring import PEPPER, ROW, Keys, keys_in, written
from bandit.core.times import time_of
from bandit.errors import Code, Problem, printable
from bandit.store.access import AccessStore

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 20  # how often a change is made anew because another came between


class Wanted(NamedTuple):
    """A key to be made; see `Row`."""

    name: str
    roles: tuple[str, ...]
    experiments: tuple[str, ...] | None = None
    expires: int = 0
    limit: Limit | None = None
    text: str = ""  # that somebody has already; else it is drawn


class Made(NamedTuple):
    """A new key: its text, which nothing else ever tells, and its row."""

    text: str
    row: Row


class Keyring:
    """The keys in a store, to be changed.

    Args:
        store: where they are.
        actor: who changes them.
        most: entries that the audit log keeps.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: AccessStore, actor: Actor = ITSELF, most: int = 10_000, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._actor, self._most, self._clock = store, actor, most, clock

    def rows(self) -> list[Row]:
        """Every key there is or was, the oldest first."""
        return sorted(keys_in(self._store).rows.values(), key=lambda row: (row.created, row.id))

    def create(self, wanted: Wanted) -> Made:
        """Make a key.

        Raises:
            Problem: no key can be so, or there are `KEYS_MAX` of them.
        """
        checked(wanted.name, wanted.roles, wanted.experiments)

        def change(keys: Keys) -> tuple[Made, list[Row]]:
            made = self._made(wanted, keys)
            return made, [made.row]

        return self._changed("key.create", change)

    def rotate(self, key: str, overlap_ms: int, term_ms: int | None = None) -> Made:
        """Make another key like this one, which goes on for so long.

        Args:
            key: its id.
            overlap_ms: until the old one expires, at most.
            term_ms: until the new one expires; by default as long as the old one had from its making, if it had an end.

        Raises:
            Problem: there is no such key in force, or another has its place already.
        """

        def change(keys: Keys) -> tuple[Made, list[Row]]:
            old, now = self._live(keys, key), self._now()
            if (heir := next((row.id for row in keys.rows.values() if row.replaces == key), None)) is not None:
                raise Problem(Code.INVALID_REQUEST, f"{heir} has this key's place already: rotate that one")
            end = now + overlap_ms
            term = term_ms or (old.expires - old.created if old.expires else 0)
            wanted = Wanted(old.name, old.roles, old.experiments, now + term if term else 0, old.limit)
            made = self._made(wanted, keys)
            made = Made(made.text, msgspec.structs.replace(made.row, replaces=old.id))
            expires = min(end, old.expires or end)
            return made, [made.row, msgspec.structs.replace(old, expires=expires)]

        return self._changed("key.rotate", change)

    def revoke(self, key: str) -> Row:
        """End a key.

        Raises:
            Problem: there is no such key in force.
        """

        def change(keys: Keys) -> tuple[Row, list[Row]]:
            row = msgspec.structs.replace(self._live(keys, key), revoked=self._now())
            return row, [row]

        return self._changed("key.revoke", change)

    def given(self, text: str) -> bool:
        """Make an admin key of this text, unless its id is known already, revoked or not: whether it was made.

        Raises:
            Problem: it is not the text of a key.
        """
        if not id_in(text.encode()):
            raise Problem(Code.INVALID_REQUEST, "an admin key is bs_ID_SECRET, as `bandit-server keys new` prints one")
        wanted = Wanted("given by the settings", (ADMIN,), text=text)

        def change(keys: Keys) -> tuple[bool, list[Row]]:
            new = id_in(text.encode()) not in keys.rows
            return new, [self._made(wanted, keys).row] if new else []

        return self._changed("key.create", change)

    def first(self, text: str) -> bool:
        """Make an admin key of this text if there never was one, once for all servers: whether it was made here."""

        def change(keys: Keys) -> tuple[bool, list[Row]]:
            if any(ADMIN in row.roles for row in keys.rows.values()):
                return False, []
            return True, [self._made(Wanted("first admin key", (ADMIN,), text=text), keys).row]

        return self._changed("key.create", change)

    def _changed(self, action: str, change: Callable[[Keys], tuple[T, list[Row]]]) -> T:
        """What a change results in, once the store has it."""
        for _ in range(TRIES):
            fields = self._store.key_rows()
            pepper = fields.get(PEPPER) or secrets.token_bytes(32)
            keys = Keys.of(fields)._replace(pepper=pepper)
            result, rows = change(keys)
            if not rows:
                return result
            written = {(ROW + row.id.encode()).decode(): msgspec.json.encode(row) for row in rows}
            named = {row.id: keys.rows.get(row.id) for row in rows}
            before, after = differences((named[row.id], row) for row in rows)
            entry = entry_of(self._actor, action, rows[0].id, before, after).done().encoded()
            whole = {**written, PEPPER.decode(): pepper}
            version = secrets.token_bytes(12)
            if self._store.change_keys(keys.version, version, whole, entry, self._most):
                return result
        raise Problem(Code.OVERLOADED, "the keys are being changed by others; try again")

    def _made(self, wanted: Wanted, keys: Keys) -> Made:
        if len(keys.rows) >= KEYS_MAX:
            raise Problem(Code.INVALID_REQUEST, f"there are {KEYS_MAX} keys, revoked ones too: no more are possible")
        text = wanted.text or new_text()
        places = {row.place for row in keys.rows.values() if row.limit}
        place = next(place for place in range(PLACES) if place not in places)
        row = Row(
            id_in(text.encode()), wanted.name, tuple(sorted(set(wanted.roles))), digest(text.encode(), keys.pepper),
            self._now(), wanted.experiments, wanted.expires, 0, wanted.limit, place,
        )  # fmt: skip
        return Made(text, row)

    def _live(self, keys: Keys, key: str) -> Row:
        row = keys.rows.get(key)
        if row is None or not row.lives(self._now()):
            state = "no key of this id" if row is None else "this key has been revoked" if row.revoked else "it expired"
            raise Problem(Code.INVALID_REQUEST, f"{state}: see `bandit-server keys list`")
        return row

    def _now(self) -> int:
        return round(self._clock() * 1000)


def differences(rows: Iterable[tuple[Row | None, Row]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What keys were and are, by JSON pointer, as the audit log has it: only what has changed."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for old, new in rows:
        was, is_ = shown(old) if old else {}, shown(new)
        before |= {f"/{new.id}/{name}": value for name, value in was.items() if is_.get(name) != value}
        after |= {f"/{new.id}/{name}": value for name, value in is_.items() if was.get(name) != value}
    return before, after


def shown(row: Row) -> dict[str, Any]:
    """What anybody who may list keys sees of one: all but its hash. Times are RFC 3339."""
    times = {name: time_of(ms) for name in ("created", "expires", "revoked") if (ms := getattr(row, name))}
    found = {
        "name": row.name, "role": row.role, "experiments": row.experiments,
        "limit": row.limit.text if row.limit else None, "replaces": row.replaces or None,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None} | times


def begin(store: AccessStore, given: Sequence[str], file: Path, most: int) -> None:
    """See to it that there is an admin key: those given, else one that is made at the very first start.

    It is shown on a terminal, or where there is none, written to a file that only its owner can read; never logged.

    Raises:
        StoreUnavailable: then it is to be tried again.
    """
    keyring = Keyring(store, ITSELF, most)
    for text in given:
        keyring.given(text)
    if given or any(ADMIN in row.roles for row in keyring.rows()):
        return
    text, shows = new_text(), sys.stderr.isatty()
    try:
        part = None if shows else written(file, text.encode() + b"\n")
    except OSError as error:
        detail = f"cannot write {printable(str(file))}: {error.strerror}"
        log.error("%s; there is no admin key: make one with `bandit-server keys create --role admin`", detail)
        return
    if not keyring.first(text):  # another worker or server was faster, and tells of its own
        if part is not None:
            part.unlink()
    elif part is None:
        print(f"first admin key, shown this once: {text}", file=sys.stderr, flush=True)
    else:
        part.replace(file)
        log.warning("API keys are on, and there was none: the first admin key is in %s", printable(str(file)))
