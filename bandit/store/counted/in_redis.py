"""The series in Redis or Valkey: a hash an experiment, and short-lived ones of outcomes that `append.lua` counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandit.log.records import START, Entry, Position
from bandit.store.counted.promises import DAY, HOUR, MINUTE
from bandit.store.keys import Keys
from bandit.store.redis_connection import Connected
from bandit.store.redis_wire import POSITION, STATUSES, entries


class RedisSeries(Connected):
    """See `bandit.store.counted.promises.SeriesStore`."""

    def several(self, name: str, positions: Sequence[Position]) -> dict[Position, Entry]:
        """See `SeriesStore`."""
        if not positions:
            return {}
        key = Keys.of(name).log
        with self._asking():
            pipe = self._sync.pipeline(transaction=False)
            for at in positions:
                pipe.xrange(key, at.text(), at.text())
            return {entry.position: entry for found in pipe.execute() for entry in entries(found)}

    def series(self, name: str, rows: Sequence[str]) -> tuple[Position, dict[str, bytes]]:
        """See `SeriesStore`."""
        with self._asking():
            cursor, *found = self._sync.hmget(Keys.of(name).series, "cursor", *rows)
        there = {row: value for row, value in zip(rows, found, strict=True) if value is not None}
        return Position(*POSITION.unpack(cursor)) if cursor else START, there

    def write_series(
        self, name: str, token: bytes, before: Position, after: Position, rows: Mapping[str, bytes], gone: Sequence[str]
    ) -> bool:
        """See `SeriesStore`."""
        keys = Keys.of(name)
        cursor = POSITION.pack(*before) if before != START else b""
        fields = [part for row in rows.items() for part in row]
        args = [token, cursor, POSITION.pack(*after), len(rows), *fields, *gone]
        return bool(self._run("series", [keys.lease, keys.log, keys.series], args))

    def outcomes(self, name: str, since_ms: int, until_ms: int, width_ms: int) -> dict[int, dict[str, int]]:
        """See `SeriesStore`."""
        keys, span = Keys.of(name), HOUR if width_ms == MINUTE else DAY
        spans = range(max(0, since_ms) // span, until_ms // span + 1)
        with self._asking():
            pipe = self._sync.pipeline(transaction=False)
            for number in spans:
                pipe.hgetall(keys.outcomes(width_ms == MINUTE, number))
            found = pipe.execute()
        counted: dict[int, dict[str, int]] = {}
        for number, fields in zip(spans, found, strict=True):
            for field, count in fields.items():
                start = number * span + int(field[1:]) * width_ms
                if since_ms - width_ms < start <= until_ms:
                    counted.setdefault(start, {})[STATUSES[field[0]]] = int(count)
        return counted
