"""The one table of logged decisions that is kept on disk. Columns: docs/logged-data.md; as a `Log`: `bridge`.

A row is a decision, or one position of a list. A table is its header and record batches, so that a log larger than
memory is read and written piece by piece; `simulator.logs.storage` keeps both in a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bandit.arrays import Int, Vector
from bandit.core.draw import UNKNOWN
from simulator.logs.contexts import Feature, LogError, Value, context_type, struct_array
from simulator.logs.log import Kind

VERSION = 1
ROWS = 65_536  # of a `Log` in a stream, and of a row group
CELLS = 2**22  # rows x arms of a `Log` in a stream at most
PIECE = 2048  # rows that are Python's objects at a time: each may have thousands of arms

ELIGIBLE = pa.struct([("arm", pa.string()), ("probability", pa.float64())])
SHOWN = pa.struct([("arm", pa.string()), ("propensity", pa.float64()), ("marginal", pa.float64())])
REWARD = pa.struct([("kind", pa.string()), ("value", pa.float64())])
SHARE = pa.struct([("slice", pa.string()), ("share", pa.float64())])

# Every column but `context`, whose type depends on the features; `shown` and `reward` are in every table.
COLUMNS: dict[str, pa.DataType] = {
    "decision_id": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "shown": pa.list_(SHOWN),
    "eligible": pa.list_(ELIGIBLE),
    "reward": pa.float64(),
    "rewards": pa.list_(REWARD),
    "slice": pa.int32(),
    "slice_name": pa.string(),
    "shares": pa.list_(SHARE),
    "mixture": pa.list_(ELIGIBLE),
    "user": pa.string(),
    "weight": pa.float64(),
    "position": pa.int32(),
    "model": pa.string(),
    "skipped": pa.bool_(),
}
Mask = NDArray[np.bool_]
ALWAYS = ("shown", "reward")
ROUNDING = 1e-6  # a propensity so little above 1 was 1 before it was rounded to float32


class Eligible(msgspec.Struct):
    """An arm that could have been shown."""

    arm: str
    probability: float | None


class Shown(msgspec.Struct, omit_defaults=True):
    """An arm that was shown."""

    arm: str
    propensity: float | None
    marginal: float | None = None  # None: as the propensity; `UNKNOWN`: nobody knows


class KindReward(msgspec.Struct):
    """What was earned of one kind."""

    kind: str
    value: float | None


class Share(msgspec.Struct):
    """The share that a slice of the traffic had."""

    slice: str
    share: float


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A row as JSON has it; loaders of line formats make these."""

    decision_id: str | None = None
    time: datetime | None = None
    context: Mapping[str, Value] | None = None
    shown: list[Shown]
    eligible: list[Eligible] | None = None
    reward: float | None
    rewards: list[KindReward] | None = None
    slice: int | None = None
    slice_name: str | None = None
    shares: list[Share] | None = None
    mixture: list[Eligible] | None = None
    user: str | None = None
    weight: float | None = None
    position: int | None = None
    model: str | None = None
    skipped: bool | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is true of all rows of a table.

    Attributes:
        arms: ids of the K arms, in the order of their indices.
        columns: the columns that there are, of `COLUMNS` and `context`.
        features: what `context` consists of, and how it becomes numbers.
        grid: whether those are rounded and clipped as by a server.
        probability: what is known: `every`: `eligible` has a probability for each arm that could be shown, in each
            row; `uniform`: 1 / K for every arm in every row, without that column; `shown`: that of the arm shown.
        learning: whether the logging policy learned while it logged.
        unique: whether repeated decision ids have been dropped.
        sparse: whether a number missing from a JSON context is 0.
        reward_range: lowest and highest possible reward, where the log says so.
        slices: names of the slices of the traffic, by index.
        uniform: index of the slice that plays uniformly, if there is just one.
        kinds: the kinds of reward that `rewards` has.
        changes: when policies or weights changed, in milliseconds since 1970, and how.
        version: of the table's form.
    """

    arms: tuple[str, ...]
    columns: tuple[str, ...] = ALWAYS
    features: tuple[Feature, ...] = ()
    grid: bool = False
    probability: Literal["every", "uniform", "shown"] = "shown"
    learning: bool = False
    unique: bool = False
    sparse: bool = False
    reward_range: tuple[float, float] | None = None
    slices: tuple[str, ...] = ()
    uniform: int | None = None
    kinds: tuple[Kind, ...] = ()
    changes: tuple[tuple[int, str], ...] = ()
    version: int = VERSION

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns that have values: a context of no features has none."""
        return tuple(name for name in self.columns if name != "context" or self.features)

    def schema(self) -> pa.Schema:
        """The stored columns with their types."""
        types = COLUMNS | {"context": context_type(self.features)}
        return pa.schema([(name, types[name]) for name in self.stored])


@dataclass(frozen=True)
class Table:
    """A header and its rows, which can be gone through once."""

    header: Header
    batches: Iterator[pa.RecordBatch]
    cleaning: Counter[str]  # what was done to how many rows, complete once the batches have been read


def list_array(
    kind: pa.StructType, lengths: Int, children: Sequence[pa.Array], null: Mask | None = None
) -> pa.ListArray:
    """Lists of structs, of these lengths, from their children one after the other; where `null`, no list at all."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    mask = None if null is None else np.append(null, False)
    values = pa.StructArray.from_arrays(list(children), fields=list(kind))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32(), mask=mask), values)


def batch_of(header: Header, rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as a record batch of the header's columns."""
    arrays = [_array(header, name, rows) for name in header.stored]
    return pa.record_batch(arrays, schema=header.schema())


def _array(header: Header, name: str, rows: Sequence[Row]) -> pa.Array:
    if name == "context":
        return struct_array(header.features, [row.context for row in rows], sparse=header.sparse)
    values = [getattr(row, name) for row in rows]
    kind = COLUMNS[name]
    if not pa.types.is_list(kind):
        return _plain(name, values)
    flat = [each for value in values for each in value or ()]
    children = [pa.array([getattr(each, field.name) for each in flat], field.type) for field in kind.value_type]
    lengths = np.array([len(value or ()) for value in values], np.int64)
    return list_array(kind.value_type, lengths, children, np.array([value is None for value in values], bool))


def _plain(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, COLUMNS[name])
    except (pa.ArrowInvalid, OverflowError) as error:
        raise LogError(f"column {name!r}: expected values of {COLUMNS[name]}, got others: {error}") from None


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a record batch."""
    for start in range(0, len(batch), PIECE):
        columns = [column.to_pylist() for column in batch.slice(start, PIECE).columns]
        for values in zip(*columns, strict=True):
            yield msgspec.convert(dict(zip(batch.schema.names, values, strict=True)), Row)


def column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column, where the batch has it."""
    return batch.column(name) if name in batch.schema.names else None


def floats(array: pa.Array) -> Vector:
    """Numbers, NaN where there is none."""
    found: Vector = array.to_numpy(zero_copy_only=False)
    return found.astype(np.float64, copy=False)


def own(batch: pa.RecordBatch) -> pa.StructArray:
    """Each row's own arm: the last of the arms shown; null where a row has none."""
    shown = batch.column("shown")
    ends = shown.offsets.to_numpy()[1:].astype(np.int64) - 1
    empty = pc.list_value_length(shown).fill_null(0).to_numpy(zero_copy_only=False) == 0
    return shown.values.take(pa.array(ends, mask=empty))


def propensities(batch: pa.RecordBatch) -> Vector:
    """The probability with which each row's own arm came to its position: the marginal, where there is one; `UNKNOWN`
    where nobody knows it.
    """
    shown = own(batch)
    p = floats(pc.coalesce(pc.struct_field(shown, "marginal"), pc.struct_field(shown, "propensity")))
    return np.where((p > 1) & (p <= 1 + ROUNDING), 1.0, p)


def drawn_with(batch: pa.RecordBatch) -> Vector:
    """The same; where nobody knows the marginal, the propensity given the arms above."""
    shown, p = own(batch), propensities(batch)
    unknown = floats(pc.struct_field(shown, "marginal")) == UNKNOWN
    return np.where(unknown, floats(pc.struct_field(shown, "propensity")), p) if unknown.any() else p
