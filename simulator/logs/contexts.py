"""Contexts as numbers: the features of a log, given or learned from its rows, and the matrix that they make.

    x[0] = 1      the intercept
    number        (v - mean) / scale: one column; a missing number is the mean
    boolean       0 or 1: one column; a missing one is 0
    category      one column a level, and one for every other value if `other`; a missing one is another value

Features are written like those of an experiment's document, so a log can become an experiment and the reverse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandit.arrays import Matrix, Vector
from bandit.core.features import D_MAX, X_MIN
from bandit.core.sums import ONE, X_MAX

MOST = 1e140  # size of a number: sums of squares of larger ones are infinite
LEVELS = 50  # of a category: the most frequent ones, all others are one level
DISTINCT = 20_000  # texts of one feature that are told apart: more are names, not categories
INTERCEPT = "1"

Value = bool | float | str | None


class LogError(ValueError):
    """A log that cannot be read: what was expected, what came, and in which row or column."""


class Feature(msgspec.Struct, frozen=True, omit_defaults=True):
    """One feature of the contexts; which of the fields count depends on the type.

    One that is `made` is a column that a document's feature made of a value, which is not known itself.
    """

    name: str
    type: Literal["number", "boolean", "category"]
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    other: bool = False
    made: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        if self.type != "category":
            return (self.name,)
        return tuple(f"{self.name}={level}" for level in self.levels) + (f"{self.name}=*",) * self.other


ARROW = {"number": pa.float64(), "boolean": pa.bool_(), "category": pa.string()}


def context_type(features: Sequence[Feature]) -> pa.DataType:
    """How the contexts of these features are stored: a struct with a field for each feature."""
    return pa.struct([(feature.name, ARROW[feature.type]) for feature in features])


def column_names(features: Sequence[Feature]) -> tuple[str, ...]:
    """The names of the matrix's columns."""
    return (INTERCEPT, *(name for feature in features for name in feature.columns))


def matrix(features: Sequence[Feature], contexts: pa.StructArray, *, grid: bool = False) -> Matrix:
    """The contexts as numbers, shape (n, d).

    Args:
        features: what the contexts consist of.
        contexts: n structs, a field for each feature, in the same order.
        grid: whether x is rounded to 2^-12 and clipped to [-8, 8), as a server does.
    """
    X = np.zeros((len(contexts), len(column_names(features))))
    X[:, 0] = 1.0
    at = 1
    for i, feature in enumerate(features):
        _fill(X[:, at : at + len(feature.columns)], feature, _measured(feature, contexts.field(i), grid))
        at += len(feature.columns)
    return np.clip(np.rint(X * ONE), X_MIN, X_MAX) / ONE if grid else X


def _fill(X: Matrix, feature: Feature, values: pa.Array) -> None:
    """Write one feature's columns, which are zero."""
    if feature.type == "boolean":
        X[:, 0] = values.fill_null(False).to_numpy(zero_copy_only=False)
    elif feature.type == "number":
        x = (as_floats(values) - feature.mean) / feature.scale
        X[:, 0] = np.where(np.isfinite(x), x, 0.0)
    else:
        levels = pa.array(feature.levels, pa.string())
        level = pc.index_in(values, value_set=levels).fill_null(len(levels)).to_numpy(zero_copy_only=False)
        (rows,) = np.nonzero(level < X.shape[1])
        X[rows, level[rows]] = 1.0


def as_floats(values: pa.Array) -> Vector:
    """Numbers, NaN where there is none."""
    found: Vector = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _measured(feature: Feature, values: pa.Array, grid: bool) -> pa.Array:
    """The values, but numbers too large to be squared, which are missing; a grid has an end for these."""
    if feature.type != "number" or grid:
        return values
    v = as_floats(values)
    return pa.array(v, mask=~(np.abs(v) <= MOST))


def missing(features: Sequence[Feature], contexts: pa.StructArray, *, grid: bool = False) -> int:
    """How many rows lack a number or a boolean, which is filled in."""
    lacking = np.zeros(len(contexts), bool)
    for i, feature in enumerate(features):
        if feature.type != "category":
            lacking |= ~np.isfinite(as_floats(_measured(feature, contexts.field(i), grid)))
    return int(lacking.sum())


def struct_array(
    features: Sequence[Feature], rows: Sequence[Mapping[str, Value] | None], *, sparse: bool = False
) -> pa.StructArray:
    """Contexts given as dictionaries, in the stored form; values of no feature are left out.

    Args:
        features: what to keep.
        rows: feature name to value.
        sparse: whether a number that is not there is 0, as in Vowpal Wabbit's formats.
    """
    columns = [_column(feature, rows, 0.0 if sparse else None) for feature in features]
    return pa.StructArray.from_arrays(columns, fields=list(context_type(features)))


def _column(feature: Feature, rows: Sequence[Mapping[str, Value] | None], absent: float | None) -> pa.Array:
    default = absent if feature.type == "number" else None
    values = [row.get(feature.name, default) if row else default for row in rows]
    try:
        return pa.array(values, ARROW[feature.type])  # most are of the right type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        convert = {"number": number, "boolean": _boolean, "category": text}[feature.type]
        return pa.array([None if value is None else convert(value) for value in values], ARROW[feature.type])


def number(value: Value) -> float | None:
    """A value as a number, where it is one."""
    return None if value is None or isinstance(value, str) else float(value)


def _boolean(value: Value) -> bool | None:
    return None if value is None or isinstance(value, str) else bool(value)


def text(value: Value) -> str | None:
    """A value as text: whole numbers without a point, truth as JSON writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float | int) else value


class _Seen:
    """What one feature's values have been: moments of the numbers, counts of the texts."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares: sum of (v - mean)^2
        self.booleans = 0
        self.ones = 0
        self.levels: Counter[str] = Counter()
        self.too_many = False

    @property
    def present(self) -> int:
        """How many values there were."""
        return self.count + self.booleans + self.levels.total()

    def numbers(self, v: Vector) -> None:
        """Add numbers (Chan, Golub, LeVeque 1979: sums of squares around the running mean)."""
        v = v[np.abs(v) <= MOST]
        if not len(v):
            return
        self.ones += int((v == 1).sum())
        n, mean = self.count + len(v), float(v.mean())
        gap = mean - self.mean
        self.squares += float(((v - mean) ** 2).sum()) + gap * gap * self.count * len(v) / n
        self.mean += gap * len(v) / n
        self.count = n

    def texts(self, counts: Mapping[str, int]) -> None:
        """Add texts, with how often each came."""
        if not self.too_many:
            self.levels.update(counts)
            self.too_many = len(self.levels) > DISTINCT

    def feature(self, name: str, absent: int | None) -> Feature | None:
        """The feature of these values; None where its texts are too many for a category.

        Args:
            name: its name.
            absent: how many rows have no value, which count as zeros; None where they do not count.
        """
        if self.levels:
            return self._category(name)
        if self.booleans and not self.count:
            return Feature(name, "boolean")
        if absent is not None:
            if self.ones == self.count:
                return Feature(name, "boolean")
            self.numbers(np.zeros(absent))
        spread = math.sqrt(self.squares / self.count) if self.count else 0.0
        flat = spread <= 1e-12 * abs(self.mean)  # all values equal, but for rounding
        return Feature(name, "number", self.mean, 1.0 if flat else spread)

    def _category(self, name: str) -> Feature | None:
        mixed = Counter(self.levels)
        rest = self.count + self.booleans  # numbers among texts are another value
        distinct = len(mixed)
        if self.too_many or (distinct > LEVELS and distinct > self.present / 2):
            return None
        kept = sorted(level for level, _ in mixed.most_common(LEVELS))
        return Feature(name, "category", levels=tuple(kept), other=distinct > LEVELS or rest > 0)


class Survey:
    """Learns the features of contexts from a first reading of all of them."""

    def __init__(self, *, sparse: bool = False) -> None:
        self.sparse = sparse
        self.rows = 0
        self.seen: dict[str, _Seen] = {}

    def add_rows(self, rows: Iterable[Mapping[str, Value] | None]) -> None:
        """Add contexts given as dictionaries."""
        values: dict[str, list[Value]] = {}
        for row in rows:
            self.rows += 1
            for name, value in (row or {}).items():
                values.setdefault(name, []).append(value)
        for name, found in values.items():
            seen = self._of(name)
            seen.texts(Counter(value for value in found if isinstance(value, str)))
            seen.booleans += sum(isinstance(value, bool) for value in found)
            real = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
            seen.numbers(np.array(real, np.float64))

    def add_columns(self, names: Sequence[str], columns: Sequence[pa.Array]) -> None:
        """Add contexts given as columns of numbers, booleans or texts."""
        self.rows += len(columns[0]) if columns else 0
        for name, column in zip(names, columns, strict=True):
            self._add_column(self._of(name), column)

    def _of(self, name: str) -> _Seen:
        return self.seen.setdefault(name, _Seen())

    @staticmethod
    def _add_column(seen: _Seen, column: pa.Array) -> None:
        if pa.types.is_boolean(column.type):
            seen.booleans += len(column) - column.null_count
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            seen.numbers(as_floats(column))
        elif not pa.types.is_null(column.type):
            counts: list[dict[str, Any]] = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
            seen.texts({each["values"]: each["counts"] for each in counts})

    def result(self) -> tuple[tuple[Feature, ...], dict[str, int]]:
        """(the features in the order of their first appearance, what was done to how many columns)."""
        made = {name: seen.feature(name, self._absent(seen)) for name, seen in self.seen.items()}
        known = [feature for feature in made.values() if feature]
        kept = _within(known, {name: seen.present for name, seen in self.seen.items()})
        counts = {
            "columns scaled": sum((f.mean, f.scale) != (0.0, 1.0) for f in kept),
            f"columns left out: texts of more than {LEVELS} values, mostly different": len(made) - len(known),
            f"columns left out: beyond {D_MAX}, the rarest": len(known) - len(kept),
            f"categories cut to their {LEVELS} most frequent values": sum(
                len(s.levels) > LEVELS for s in self._of_(kept)
            ),
        }
        return tuple(kept), {what: count for what, count in counts.items() if count}

    def _absent(self, seen: _Seen) -> int | None:
        return self.rows - seen.present if self.sparse else None

    def _of_(self, features: Iterable[Feature]) -> list[_Seen]:
        return [self.seen[feature.name] for feature in features]


def _within(features: list[Feature], present: Mapping[str, int]) -> list[Feature]:
    """The features that fit into `D_MAX` columns, the most frequent first, in their own order."""
    ranked = sorted(features, key=lambda feature: -present[feature.name])
    ends = accumulate((len(feature.columns) for feature in ranked), initial=1)
    fit = {feature.name for feature, end in zip(ranked, list(ends)[1:], strict=True) if end <= D_MAX}
    return [feature for feature in features if feature.name in fit]
