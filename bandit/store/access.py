"""What a store promises of API keys and of the audit log, and how both kinds of store keep it.

The keys' hash has a row a key, and a version that is another one after each change: whoever remembers the rows asks for
that alone. An entry of the audit log is bytes here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from bandit.store.keys import ACCESS_KEYS, AUDIT, AUDIT_OPEN
from bandit.store.redis_connection import Connected

VERSION = b"version"
UNDER_WAY_MS = 30_000  # a change that is under way for longer has an end that nobody will tell


class AccessStore(Protocol):
    """The promises; every method raises `StoreUnavailable` where the store does not answer or cannot write."""

    def key_version(self) -> bytes:
        """What stands for the keys as they are: another after each change; empty where there never was one."""

    def key_rows(self) -> dict[bytes, bytes]:
        """Every field of the keys' hash, the version among them: in one step."""

    def change_keys(self, before: bytes, after: bytes, rows: Mapping[str, bytes], entry: bytes, most: int) -> bool:
        """Write rows (an empty one is removed) and an entry of the audit log in one step, if the version is `before`.

        Args:
            before: the version that the change was made from; it becomes `after`.
            after: a version that there never was.
            rows: by field.
            entry: what the audit log is told.
            most: how many entries it keeps, about.
        """

    def audit_begin(self, name: str, entry: bytes, most: int) -> None:
        """Note what is about to be changed: the entry as it stands if nobody ever tells how it ended."""

    def audit_end(self, name: str, entry: bytes, most: int) -> None:
        """Put the entry in the log; an empty one says that nothing was changed, and nothing is noted."""

    def audited(self, before: str, count: int) -> list[tuple[str, bytes]]:
        """(position, entry) of up to `count` entries before a position, or of all (""), the newest first."""


class RedisAccess(Connected):
    """See `AccessStore`."""

    def key_version(self) -> bytes:
        """See `AccessStore`."""
        with self._asking():
            return self._sync.hget(ACCESS_KEYS, VERSION) or b""

    def key_rows(self) -> dict[bytes, bytes]:
        """See `AccessStore`."""
        with self._asking():
            return dict(self._sync.hgetall(ACCESS_KEYS))

    def change_keys(self, before: bytes, after: bytes, rows: Mapping[str, bytes], entry: bytes, most: int) -> bool:
        """See `AccessStore`."""
        pairs = [part for pair in rows.items() for part in pair]
        return bool(self._run("keys", [ACCESS_KEYS, AUDIT], [before, after, entry, most, *pairs]))

    def audit_begin(self, name: str, entry: bytes, most: int) -> None:
        """See `AccessStore`."""
        self._run("audit", [AUDIT_OPEN, AUDIT], [name, entry, 1, most, UNDER_WAY_MS])

    def audit_end(self, name: str, entry: bytes, most: int) -> None:
        """See `AccessStore`."""
        self._run("audit", [AUDIT_OPEN, AUDIT], [name, entry, 0, most, UNDER_WAY_MS])

    def audited(self, before: str, count: int) -> list[tuple[str, bytes]]:
        """See `AccessStore`."""
        self._run("audit", [AUDIT_OPEN, AUDIT], ["", "", 0, 1 << 40, UNDER_WAY_MS])
        with self._asking():
            found = self._sync.xrevrange(AUDIT, f"({before}" if before else "+", "-", count=count)
        return [(at.decode(), fields[fields.index(b"e") + 1]) for at, fields in found]


class MemoryAccess:
    """See `AccessStore`."""

    def __init__(self) -> None:
        self._access = threading.RLock()
        self._key_rows: dict[bytes, bytes] = {}
        self._audit: list[bytes] = []

    def key_version(self) -> bytes:
        """See `AccessStore`."""
        return self._key_rows.get(VERSION, b"")

    def key_rows(self) -> dict[bytes, bytes]:
        """See `AccessStore`."""
        with self._access:
            return dict(self._key_rows)

    def change_keys(self, before: bytes, after: bytes, rows: Mapping[str, bytes], entry: bytes, most: int) -> bool:
        """See `AccessStore`."""
        with self._access:
            if self.key_version() != before:
                return False
            whole = self._key_rows | {field.encode(): row for field, row in rows.items()} | {VERSION: after}
            self._key_rows = {field: row for field, row in whole.items() if row}
            self._audit.append(entry)
            return True

    def audit_begin(self, name: str, entry: bytes, most: int) -> None:
        """See `AccessStore`: nothing ends this process between both and leaves the store."""

    def audit_end(self, name: str, entry: bytes, most: int) -> None:
        """See `AccessStore`."""
        if entry:
            self._audit.append(entry)

    def audited(self, before: str, count: int) -> list[tuple[str, bytes]]:
        """See `AccessStore`."""
        end = int(before.partition("-")[0]) if before else len(self._audit)
        return [(f"{at}-0", self._audit[at]) for at in range(end - 1, -1, -1)][:count]
