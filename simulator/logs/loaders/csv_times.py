"""Times as files have them: numbers of one unit since 1970, ISO 8601, or day and month in an order that is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandit.arrays import Vector
from bandit.core.inferred.words import MISSING
from simulator.logs.contexts import LogError, as_floats

NOTHING = pa.array([*MISSING, "NaT"])
UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
LEAST = np.array([1e8, 1e11, 1e14, 1e17, 1e20])  # sizes of a time in 1973 in each unit, and of none
FACTORS = np.array([1e3, 1.0, 1e-3, 1e-6])  # to milliseconds
COMPACT = r"^(19|20)\d{6}$"  # a date, and no number since 1970
DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[T ,]+(.*))?")
CLOCK = re.compile(
    r"(\d{1,2})(:\d\d(?::\d\d(?:[.,]\d+)?)?)?\s*(?:([ap])\.?m\.?)?\s*(UTC|GMT|Z|[-+]\d\d(?::?\d\d)?)?", re.IGNORECASE
)
UNZONED = "times without a zone, beside others that have one: taken for UTC"


class Times:
    """Times of a column, block by block.

    Args:
        name: of the column.
        day_first: whether 3.4.2026 is in April (True) or in March (False); None: such dates are refused.
        counts: where it is counted what was taken for granted.
        where: says where a row of the block that is read stands, counted from 0.
    """

    def __init__(self, name: str, day_first: bool | None, counts: Counter[str], where: Callable[[int], str]) -> None:
        self.name, self.day_first, self.counts, self.where = name, day_first, counts, where
        self.form = ""  # a unit, or dates
        self.zoned = self.unzoned = 0

    def read(self, values: pa.Array) -> pa.Array:
        """Milliseconds since 1970, null where there is none.

        Raises:
            LogError: a time is of no form that is known, or of another form than those before; says in which row.
        """
        texts = pc.utf8_trim_whitespace(values)
        texts = pc.if_else(pc.is_in(texts, NOTHING), pa.scalar(None, pa.string()), texts)
        found = self._at_once(texts)
        if found is None:
            each = enumerate(texts.to_pylist())
            found = np.array([np.nan if text is None else self._one(text, row) for row, text in each])
        if self.zoned and self.unzoned:
            self.counts[UNZONED] = self.unzoned
        return pa.array(found, mask=np.isnan(found)).cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))

    def _at_once(self, texts: pa.Array) -> Vector | None:
        """All of them where they are numbers, or ISO 8601 alike; else None."""
        if (numbers := _cast(texts, pa.float64())) is not None and not _any(texts, COMPACT):
            return self._numbers(as_floats(numbers), 0)
        there = len(texts) - texts.null_count
        for zone in (None, "UTC"):
            if (times := _cast(texts, pa.timestamp("us", zone))) is not None:
                self._same("dates", 0, str(texts.drop_null()[:1].to_pylist()))
                self.zoned += there * (zone is not None)
                self.unzoned += there * (zone is None)
                nearest = pc.round_temporal(times, unit="millisecond").cast(pa.timestamp("ms", zone))
                return as_floats(nearest.cast(pa.int64()))
        return None

    def _numbers(self, values: Vector, first: int) -> Vector:
        kinds = np.searchsorted(LEAST, np.abs(values), side="right") - 1
        there = np.flatnonzero(~np.isnan(values))
        for i in there[np.unique(kinds[there], return_index=True)[1]]:
            if not 0 <= kinds[i] < len(UNITS):
                raise self._error("seconds or finer units since 1970", f"{values[i]:.15g}", first + int(i))
            self._same(UNITS[kinds[i]], first + int(i), f"{values[i]:.15g}")
        return np.asarray(np.rint(values * FACTORS[np.clip(kinds, 0, len(UNITS) - 1)]))

    def _same(self, form: str, row: int, got: str) -> None:
        self.form = self.form or form
        if form != self.form:
            raise self._error(f"times in {self.form}, as before", f"{form}: {got}", row)

    def _error(self, expected: str, got: str, row: int) -> LogError:
        return LogError(f"column {self.name!r}, {self.where(row)}: expected {expected}, got {got}")

    def _one(self, text: str, row: int) -> float:
        try:
            return float(self._numbers(np.array([float(text.replace(",", "."))]), row)[0])
        except ValueError as error:
            if isinstance(error, LogError) and not re.match(COMPACT, text):
                raise
        time = self._date(text, row)
        self._same("dates", row, text)
        self.zoned += time.tzinfo is not None
        self.unzoned += time.tzinfo is None
        return float(round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000))

    def _date(self, text: str, row: int) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        expected, found = "ISO 8601 or a number since 1970", DATE.fullmatch(text)
        if found and self.day_first is not None and len(found[1]) < 4:
            order = ("day", "month") if self.day_first else ("month", "day")
            expected = f"a date with the {order[0]} first, then the {order[1]} (--{order[0]}-first)"
        if not found or len(found[1]) not in (1, 2, 4):
            raise self._error(expected, repr(text), row)
        if len(found[1]) < 4 and self.day_first is None:
            say = ": say whether the day is first (--day-first or --month-first)"
            raise self._error(expected, repr(text) + say, row)
        try:
            return datetime.fromisoformat(f"{_day(found, bool(self.day_first))} {_clock(found[5])}")
        except ValueError:
            raise self._error(expected, repr(text), row) from None


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        return None


def _any(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _day(found: re.Match[str], day_first: bool) -> str:
    """A date as ISO 8601 has it."""
    first, mark, second, third = found[1], found[2], found[3], found[4]
    if len(first) == 4:
        return f"{first}-{second:0>2}-{third:0>2}"
    day, month = (first, second) if day_first else (second, first)
    year = f"20{third}" if len(third) == 2 and mark != "-" else third
    return f"{year}-{month:0>2}-{day:0>2}"


def _clock(text: str | None) -> str:
    """A time of day as ISO 8601 has it.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return "00:00"
    if not (found := CLOCK.fullmatch(text.strip())) or not (found[2] or found[3]):
        raise ValueError(text)
    hour = int(found[1]) if not found[3] else int(found[1]) % 12 + 12 * (found[3] in "pP")
    zone = (found[4] or "").upper()
    return f"{hour:02}{(found[2] or ':00').replace(',', '.')}{'+00:00' if zone in ('UTC', 'GMT', 'Z') else zone}"
