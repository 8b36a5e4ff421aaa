"""What a store promises of the series: rows of counts with the position that they are folded up to, and outcomes.

Rows go with their cursor: a write names the position that it was made from, and changes nothing where another write
came between. What feedback came to that wrote nothing is counted by `append` itself, in the same atomic step, because
the log does not tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bandit.log.records import Entry, Position

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
MINUTES_KEPT = 25 * HOUR  # after the beginning of their hour
HOURS_KEPT = 91 * DAY  # after the beginning of their day
LOGGED = ("accepted", "activated")  # outcomes that wrote an entry, and are counted there


class SeriesStore(Protocol):
    """See `bandit.store.protocol.Store`."""

    def several(self, name: str, positions: Sequence[Position]) -> dict[Position, Entry]:
        """The log's entries at these positions, of those that it still has, in one round trip."""

    def series(self, name: str, rows: Sequence[str]) -> tuple[Position, dict[str, bytes]]:
        """(the position up to which all rows are folded, those of the named rows that there are), at one moment."""

    def write_series(
        self, name: str, token: bytes, before: Position, after: Position, rows: Mapping[str, bytes], gone: Sequence[str]
    ) -> bool:
        """Put rows that were folded from `before` up to `after`, and take others away; False, with nothing written,
        where the token is not the lease's, the cursor is not `before`, or the log lacks the entry of `after`.
        """

    def outcomes(self, name: str, since_ms: int, until_ms: int, width_ms: int) -> dict[int, dict[str, int]]:
        """How many items of feedback and activations wrote nothing, by status, in each bucket from since to until.

        `width_ms` is `MINUTE` or `HOUR`; the keys are the times at which buckets begin.
        """
