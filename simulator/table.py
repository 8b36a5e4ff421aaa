"""The one table of logged decisions that is kept on disk, and the `Log` that it makes. Columns: docs/logged-data.md.

A row is a decision, or one place of a list. A table is its header and record batches, so that a log larger than
memory is read and written piece by piece; `simulator.storage` keeps both in a file.
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

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator.contexts import Feature, LogError, Value, column_names, context_type, matrix, missing, struct_array
from simulator.logged import Log

VERSION = 1
ROWS = 65_536  # of a `Log` in a stream, and of a row group
CELLS = 2**22  # rows x arms of a `Log` in a stream at most
PIECE = 2048  # rows that are Python's objects at a time: each may have thousands of arms

ELIGIBLE = pa.struct([("arm", pa.string()), ("probability", pa.float64())])
SHOWN = pa.struct([("arm", pa.string()), ("propensity", pa.float64()), ("marginal", pa.float64())])
REWARD = pa.struct([("kind", pa.string()), ("value", pa.float64())])

# Every column but `context`, whose type depends on the features; `shown` and `reward` are in every table.
COLUMNS: dict[str, pa.DataType] = {
    "decision_id": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "shown": pa.list_(SHOWN),
    "eligible": pa.list_(ELIGIBLE),
    "reward": pa.float64(),
    "rewards": pa.list_(REWARD),
    "slice": pa.int32(),
    "user": pa.string(),
    "weight": pa.float64(),
    "position": pa.int32(),
    "model": pa.string(),
    "skipped": pa.bool_(),
}
Mask = NDArray[np.bool_]
ALWAYS = ("shown", "reward")
ROUNDING = 1e-6  # a propensity so little above 1 was 1 before it was rounded to float32
SKIPPED = "deferred and never activated"
FILLED = "rows with missing features, filled in"
INVENTED_TIME = "rows without a time, given that of the row before"


class Eligible(msgspec.Struct):
    """An arm that could have been shown."""

    arm: str
    probability: float | None


class Shown(msgspec.Struct, omit_defaults=True):
    """An arm that was shown."""

    arm: str
    propensity: float | None
    marginal: float | None = None


class Reward(msgspec.Struct):
    """What was earned of one kind."""

    kind: str
    value: float | None


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A row as JSON has it; loaders of line formats make these."""

    decision_id: str | None = None
    time: datetime | None = None
    context: Mapping[str, Value] | None = None
    shown: list[Shown]
    eligible: list[Eligible] | None = None
    reward: float | None
    rewards: list[Reward] | None = None
    slice: int | None = None
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
    """The probability with which each row's own arm came to its place: the marginal, where there is one."""
    shown = own(batch)
    p = floats(pc.coalesce(pc.struct_field(shown, "marginal"), pc.struct_field(shown, "propensity")))
    return np.where((p > 1) & (p <= 1 + ROUNDING), 1.0, p)


def to_log(header: Header, batch: pa.RecordBatch, cleaning: Counter[str] | None = None) -> Log:
    """The rows as a `Log`; those that were never shown are left out.

    Args:
        header: the table's.
        batch: some or all of its rows.
        cleaning: what was done to them before.

    Raises:
        LogError: a row's arm is not one of the header's.
    """
    counts = Counter(cleaning or {})
    batch, counts[SKIPPED] = _without_skipped(batch, counts[SKIPPED])
    probability, eligible = _probability(header, batch)
    return Log(
        arms=header.arms,
        arm=arm_indices(header.arms, pc.struct_field(own(batch), "arm"), np.arange(len(batch))),
        reward=floats(batch.column("reward")),
        propensity=propensities(batch),
        probability=probability,
        eligible=eligible,
        context=_context(header, batch, counts),
        columns=column_names(header.features) if "context" in header.columns else (),
        position=_integers(column(batch, "position")),
        time_ms=_times(column(batch, "time"), counts),
        weight=_weights(column(batch, "weight")),
        decision_id=_strings(column(batch, "decision_id")),
        user=_users(batch),
        part=_integers(column(batch, "slice")),
        learning=header.learning,
        cleaning={what: count for what, count in counts.items() if count},
    )


def _without_skipped(batch: pa.RecordBatch, before: int) -> tuple[pa.RecordBatch, int]:
    skipped = column(batch, "skipped")
    if skipped is None:
        return batch, before
    kept = batch.filter(pc.invert(skipped.fill_null(False)))
    return kept, before + len(batch) - len(kept)


def arm_indices(arms: Sequence[str], names: pa.Array, rows: Int) -> Int:
    """The index of each name among the arms; `rows` says where each name stands.

    Raises:
        LogError: a name is not there; the row is told.
    """
    found = pc.index_in(names, value_set=pa.array(arms, pa.string()))
    if found.null_count:
        i = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
        raise LogError(f"row {rows[i] + 1}: expected one of {len(arms)} arms, got {names[i].as_py()!r}")
    indices: Int = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices


def _context(header: Header, batch: pa.RecordBatch, counts: Counter[str]) -> Matrix | None:
    """x, shape (n, d); None where the table has no contexts."""
    if "context" not in header.columns:
        return None
    if not header.features:
        return np.ones((len(batch), 1))
    contexts = batch.column("context")
    counts[FILLED] += missing(header.features, contexts)
    return matrix(header.features, contexts, grid=header.grid)


def _probability(header: Header, batch: pa.RecordBatch) -> tuple[Matrix | None, Mask | None]:
    """mu(a|x), shape (n, K), None where only the propensity was logged; and which arms could be shown, shape (n, K),
    where that is not said by the probabilities above 0.
    """
    n, K = len(batch), len(header.arms)
    if header.probability == "uniform":
        return np.broadcast_to(np.float64(1 / K), (n, K)), None  # takes no memory, whatever n
    if header.probability == "shown":
        return None, None
    eligible = batch.column("eligible")
    lengths = pc.list_value_length(eligible).fill_null(0).to_numpy(zero_copy_only=False)
    values = eligible.flatten()
    rows = np.repeat(np.arange(n), lengths)
    arms, p = arm_indices(header.arms, values.field("arm"), rows), floats(values.field("probability"))
    P = np.zeros((n, K))
    P[rows, arms] = p
    if (p > 0).all():
        return P, None
    known = np.zeros((n, K), bool)
    known[rows, arms] = True
    return P, known


def _integers(values: pa.Array | None) -> Int | None:
    if values is None:
        return None
    found: Int = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _times(values: pa.Array | None, counts: Counter[str]) -> Int | None:
    """Milliseconds since 1970; a row without a time has that of the row before."""
    if values is None:
        return None
    counts[INVENTED_TIME] += values.null_count
    found = pc.fill_null_forward(values.cast(pa.int64())).fill_null(0)
    return _integers(found)


def _weights(values: pa.Array | None) -> Vector | None:
    return None if values is None else floats(values.fill_null(1.0))


def _strings(values: pa.Array | None) -> NDArray[np.str_] | None:
    if values is None:
        return None
    found: NDArray[np.str_] = np.array(values.fill_null("").to_pylist(), dtype=np.str_)
    return found


def _users(batch: pa.RecordBatch) -> NDArray[np.str_] | None:
    """Users; a row without one is a user of its own, named by its decision."""
    users, decisions = column(batch, "user"), column(batch, "decision_id")
    return _strings(users if users is None or decisions is None else pc.coalesce(users, decisions))


def from_log(log: Log) -> Table:
    """A log as a table: contexts become numbers under their columns' names.

    Raises:
        LogError: the context's first column is not 1, or names of columns repeat.
    """
    features = _features(log)
    present = {
        "decision_id": log.decision_id is not None,
        "time": log.time_ms is not None,
        "context": log.context is not None,
        "shown": True,
        "eligible": log.probability is not None,
        "reward": True,
        "slice": log.part is not None,
        "user": log.user is not None,
        "weight": log.weight is not None,
        "position": log.position is not None,
    }
    header = Header(
        arms=log.arms,
        columns=tuple(name for name, there in present.items() if there),
        features=features,
        probability="shown" if log.probability is None else "every",
        learning=log.learning,
        unique=True,  # whoever made the log has seen to that
    )
    return Table(header, _pieces(header, log), Counter(log.cleaning))


def _features(log: Log) -> tuple[Feature, ...]:
    if log.context is None:
        return ()
    if not (log.context[:, 0] == 1).all():
        raise LogError("context: expected a first column of 1, got others")
    names = log.columns[1:] or tuple(f"x{j}" for j in range(1, log.context.shape[1]))
    if len(set(names)) < len(names):
        raise LogError("context: expected columns with different names, got one twice")
    return tuple(Feature(name, "number") for name in names)


def _pieces(header: Header, log: Log) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(log), ROWS):
        piece = log.take(slice(start, start + ROWS))
        arrays = _arrays(piece)
        yield pa.record_batch([arrays[name] for name in header.stored], schema=header.schema())


def _arrays(log: Log) -> dict[str, Any]:
    """Every column that the log has."""
    n, names = len(log), pa.array(log.arms, pa.string())
    shown = [names.take(pa.array(log.arm)), pa.array(log.propensity), pa.nulls(n, pa.float64())]
    made = {"shown": list_array(SHOWN, np.ones(n, np.int64), shown), "reward": pa.array(log.reward)}
    if log.probability is not None:
        known = log.probability > 0 if log.eligible is None else log.eligible
        made["eligible"] = _eligible(log.probability, known, names)
    if log.context is not None and (features := _features(log)):
        columns = [pa.array(np.ascontiguousarray(x)) for x in log.context.T[1:]]
        made["context"] = pa.StructArray.from_arrays(columns, fields=list(context_type(features)))
    numbers = {"time": log.time_ms, "slice": log.part, "position": log.position, "weight": log.weight}
    made |= {name: pa.array(each).cast(COLUMNS[name]) for name, each in numbers.items() if each is not None}
    texts = {"decision_id": log.decision_id, "user": log.user}
    return made | {name: pa.array(each.tolist(), pa.string()) for name, each in texts.items() if each is not None}


def _eligible(probability: Matrix, known: Mask, names: pa.Array) -> pa.ListArray:
    rows, arms = np.nonzero(known)
    children = [names.take(pa.array(arms)), pa.array(probability[rows, arms])]
    return list_array(ELIGIBLE, np.bincount(rows, minlength=len(probability)), children)
