"""The series in this process's memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from bandit.log.records import START, Entry, Position
from bandit.store.counted.promises import LOGGED, MINUTE
from bandit.store.memory_append import MemoryLog
from bandit.store.protocol import Outcome, Result


class MemorySeries:
    """See `bandit.store.counted.promises.SeriesStore`."""

    _lock: threading.RLock
    _logs: dict[str, MemoryLog]

    def several(self, name: str, positions: Sequence[Position]) -> dict[Position, Entry]:
        """See `SeriesStore`."""
        entries = self._logs[name].entries if name in self._logs else {}
        return {position: entries[position] for position in positions if position in entries}

    def series(self, name: str, rows: Sequence[str]) -> tuple[Position, dict[str, bytes]]:
        """See `SeriesStore`."""
        with self._lock:
            if (log := self._logs.get(name)) is None:
                return START, {}
            return log.counted, {row: log.series[row] for row in rows if row in log.series}

    def write_series(
        self, name: str, token: bytes, before: Position, after: Position, rows: Mapping[str, bytes], gone: Sequence[str]
    ) -> bool:
        """See `SeriesStore`."""
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            ours = log.lease is not None and log.lease.token == token
            if not ours or log.counted != before or after not in log.entries:
                return False
            for row in gone:
                log.series.pop(row, None)
            log.series.update(rows)
            log.counted = after
            return True

    def outcomes(self, name: str, since_ms: int, until_ms: int, width_ms: int) -> dict[int, dict[str, int]]:
        """See `SeriesStore`."""
        counted: dict[int, dict[str, int]] = {}
        for (minute, status), count in self._logs[name].outcomes.items() if name in self._logs else ():
            start = minute * MINUTE // width_ms * width_ms
            if since_ms - width_ms < start <= until_ms:
                of = counted.setdefault(start, {})
                of[status] = of.get(status, 0) + count
        return counted


def count(log: MemoryLog, now_ms: int, results: Sequence[Result]) -> None:
    """Count what became of items that wrote nothing; a decision's record that did not fit is none of them."""
    for result in results:
        for each in result if isinstance(result, list) else [result]:
            if isinstance(each, Outcome) and each.status not in (*LOGGED, "record"):
                log.outcomes[now_ms // MINUTE, each.status] += 1
