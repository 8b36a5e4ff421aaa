"""What a CSV file is written in: its separator and decimal mark, its times, and names that tell of what came after."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from bandit.sums import Int
from simulator.contexts import LogError
from simulator.storage import BOM, opened

SEPARATORS = ",;\t|"
SAMPLE = 1 << 16  # bytes looked at
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")  # of a number; of a text only ""
COMMA = re.compile(r"[-+]?\d+,\d+")
# of an epoch: each unit from how large a time in it is, in the years from 1973 on
UNITS = ((1e17, 1e-6, "nanoseconds"), (1e14, 1e-3, "microseconds"), (1e11, 1.0, "milliseconds"), (1e8, 1e3, "seconds"))
DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[ T]+(.*))?")
AFTER = {
    "click", "clicked", "conversion", "converted", "convert", "purchase", "purchased", "bought", "revenue", "reward",
    "order", "ordered", "sale", "sold", "label", "outcome", "payoff", "profit", "feedback", "response",
    "cost", "ctr",
}  # fmt: skip


def dialect(path: Path) -> tuple[str, str]:
    """(separator, decimal mark) of a file, by its first lines.

    The separator is the one of `SEPARATORS` that stands most often in the line of names, outside quotes; the decimal
    mark a comma where another one separates and numbers have commas in them.
    """
    with opened(path) as file:
        text = file.read(SAMPLE).removeprefix(BOM).decode("utf-8", "replace")
    first = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    separator = max(SEPARATORS, key=first.count)
    cells = [cell.strip() for line in csv.reader(text.splitlines()[1:-1], delimiter=separator) for cell in line]
    return separator, "," if separator != "," and any(map(COMMA.fullmatch, cells)) else "."


def names_of(path: Path, separator: str) -> list[str]:
    """The names in the first line.

    Raises:
        LogError: there are none, or one is there twice.
    """
    with opened(path) as file:
        head = file.read(SAMPLE).removeprefix(BOM).decode("utf-8", "replace")
    found = next(csv.reader(head.splitlines(), delimiter=separator), [])
    if not any(found):
        raise LogError(f"{path.name}: expected a CSV file with a line of names, got none")
    if twice := sorted({name for name in found if name and found.count(name) > 1}):
        raise LogError(f"{path.name}: expected columns with different names, got {twice[0]!r} twice")
    return found


def after_the_fact(names: Iterable[str]) -> list[str]:
    """Names that sound like what is known only after a decision, such as clicked, order_value or netRevenue."""
    return [name for name in names if AFTER & {_singular(word) for word in _words(name)}]


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _singular(word: str) -> str:
    return word if word in AFTER else word.removesuffix("s")


class Times:
    """Times of a column, block by block: numbers of one unit since 1970, ISO 8601, or day and month as told.

    Args:
        name: of the column.
        day_first: whether 3.4.2026 is in April (True) or in March (False); None: such dates are refused.
    """

    def __init__(self, name: str, day_first: bool | None) -> None:
        self.name, self.day_first = name, day_first
        self.unit: tuple[float, str] | None = None

    def read(self, values: Sequence[str | None]) -> pa.Array:
        """Milliseconds since 1970, null where there is none.

        Raises:
            LogError: a time is of no form that is known, or of another unit than those before.
        """
        found = [None if value is None else self._one(value.strip()) for value in values]
        return pa.array(found, pa.int64()).cast(pa.timestamp("ms", "UTC"))

    def _one(self, text: str) -> int | None:
        if not text:
            return None
        if re.fullmatch(r"[-+]?\d+(\.\d+)?([eE]\+?\d+)?", text):
            return self._number(float(text), text)
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = self._written(text)
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)

    def _number(self, value: float, text: str) -> int:
        factor, unit = next(((f, unit) for least, f, unit in UNITS if abs(value) >= least), (0.0, ""))
        if not unit:
            raise LogError(f"column {self.name!r}: expected seconds or finer units since 1970, got {text!r}")
        if self.unit is not None and self.unit[1] != unit:
            raise LogError(f"column {self.name!r}: expected times in {self.unit[1]}, as before, got {unit}: {text!r}")
        self.unit = factor, unit
        return round(int(text) * factor) if text.isdigit() and factor >= 1 else round(value * factor)

    def _written(self, text: str) -> datetime:
        """A date with its year last."""
        expected = f"column {self.name!r}: expected ISO 8601 or a number since 1970"
        if not (found := DATE.fullmatch(text)):
            raise LogError(f"{expected}, got {text!r}")
        if self.day_first is None:
            raise LogError(f"{expected}, got {text!r}: say whether the day is first (--day-first or --month-first)")
        day, month = (found[1], found[2]) if self.day_first else (found[2], found[1])
        try:
            return datetime.fromisoformat(f"{found[3]}-{month:0>2}-{day:0>2} {found[4] or '00:00'}")
        except ValueError:
            raise LogError(f"{expected}, got {text!r}") from None


class Repeats:
    """Whether a log has every row several times, as one that was joined or loaded twice: by its first rows.

    The greatest common divisor of how often each row is there; rows that are alike by chance have 1.
    """

    MOST = 200_000  # rows looked at
    LEAST = 20  # different rows, below which nothing is said

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Some rows."""
        if self.rows >= self.MOST:
            return
        self.rows += len(batch)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            key = hash(row)
            self.counts[key] = self.counts.get(key, 0) + 1

    def times(self) -> int:
        """How often every row is there."""
        if len(self.counts) < self.LEAST or self.rows >= self.MOST:  # of a longer log the copies may come later
            return 1
        counts: Int = np.fromiter(self.counts.values(), np.int64)
        return int(np.gcd.reduce(counts))
