"""From the documented table to the `Log` that estimators read, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.contexts import Feature, LogError, column_names, context_type, matrix, missing
from simulator.logs.log import Log
from simulator.logs.table import (
    COLUMNS,
    ELIGIBLE,
    REWARD,
    ROWS,
    SHARE,
    SHOWN,
    Header,
    Mask,
    Table,
    column,
    floats,
    list_array,
    own,
    propensities,
)

SKIPPED = "deferred and never activated"
FILLED = "rows with missing features, filled in"
INVENTED_TIME = "rows without a time, given that of the row beside"


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
    arm = arm_indices(header.arms, pc.struct_field(own(batch), "arm"), np.arange(len(batch)))
    mixture = _mixture(header, batch, probability)
    return Log(
        arms=header.arms,
        arm=arm,
        reward=floats(batch.column("reward")),
        propensity=propensities(batch) if mixture is None else mixture[np.arange(len(arm)), arm],
        probability=probability if mixture is None else mixture,
        eligible=eligible,
        conditional=_conditional(batch),
        context=_context(header, batch, counts),
        columns=column_names(header.features) if "context" in header.columns else (),
        position=_integers(column(batch, "position")),
        time_ms=_times(column(batch, "time"), counts),
        weight=_weights(column(batch, "weight")),
        decision_id=_strings(column(batch, "decision_id")),
        user=_users(batch),
        part=_integers(column(batch, "slice")),
        learning=header.learning,
        reward_range=header.reward_range,
        shares=_named(batch, "shares", header.slices),
        within=None if mixture is None else probability,
        rewards=_named(batch, "rewards", tuple(kind.name for kind in header.kinds)),
        kinds=header.kinds,
        slices=header.slices,
        uniform=header.uniform,
        changes=header.changes,
        cleaning={what: count for what, count in counts.items() if count},
    )


def _conditional(batch: pa.RecordBatch) -> Vector | None:
    """The probability of each row's arm given the positions above it, where it is told apart from the marginal one."""
    shown = own(batch)
    if column(batch, "position") is None or pc.struct_field(shown, "marginal").null_count == len(batch):
        return None
    return floats(pc.struct_field(shown, "propensity"))


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
    counts[FILLED] += missing(header.features, contexts, grid=header.grid)
    return matrix(header.features, contexts, grid=header.grid)


def _probability(header: Header, batch: pa.RecordBatch) -> tuple[Matrix | None, Mask | None]:
    """mu(a|x), shape (n, K), None where only the propensity was logged; and which arms could be shown, shape (n, K),
    where that is not said by the probabilities above 0.
    """
    n, K = len(batch), len(header.arms)
    if header.probability == "uniform":
        return np.broadcast_to(np.float64(1 / K), (n, K)), None  # takes no memory, whatever n
    if header.probability == "shown":
        return None, _of_lists(header, batch)
    rows, arms, p = _eligible_arms(header, batch, "eligible")
    P = np.zeros((n, K))
    P[rows, arms] = p
    if (p > 0).all():
        return P, None
    known = np.zeros((n, K), bool)
    known[rows, arms] = True
    return P, known


def _mixture(header: Header, batch: pa.RecordBatch, probability: Matrix | None) -> Matrix | None:
    """The probability of every arm over all slices, shape (n, K); None where no row had several."""
    told = column(batch, "mixture")
    if told is None or probability is None or told.null_count == len(batch):
        return None
    rows, arms, p = _eligible_arms(header, batch, "mixture")
    mixture = np.where(told.is_null().to_numpy(zero_copy_only=False)[:, None], probability, 0.0)
    mixture[rows, arms] = p
    return mixture


def _named(batch: pa.RecordBatch, name: str, names: Sequence[str]) -> Matrix | None:
    """A column of names with numbers, shape (n, names), 0 where a row does not have one; None where there is none."""
    told = column(batch, name)
    if told is None or not names:
        return None
    lengths = pc.list_value_length(told).fill_null(0).to_numpy(zero_copy_only=False)
    values, rows = told.flatten(), np.repeat(np.arange(len(batch)), lengths)
    place = pc.index_in(values.field(0), value_set=pa.array(names, pa.string()))
    known = place.is_valid().to_numpy(zero_copy_only=False)
    found = np.zeros((len(batch), len(names)))
    found[rows[known], place.to_numpy(zero_copy_only=False)[known].astype(np.int64)] = floats(values.field(1))[known]
    return found


def _eligible_arms(header: Header, batch: pa.RecordBatch, name: str) -> tuple[Int, Int, Vector]:
    """(row, arm's index, probability) of every arm that could be shown, of rows that tell them."""
    eligible = batch.column(name)
    lengths = pc.list_value_length(eligible).fill_null(0).to_numpy(zero_copy_only=False)
    values, rows = eligible.flatten(), np.repeat(np.arange(len(batch)), lengths)
    return rows, arm_indices(header.arms, values.field("arm"), rows), floats(values.field("probability"))


def _of_lists(header: Header, batch: pa.RecordBatch) -> Mask | None:
    """Which arms could be shown in each row's decision, where lists have them in the row of their first position."""
    eligible, ids = column(batch, "eligible"), column(batch, "decision_id")
    if eligible is None or ids is None or eligible.null_count == len(batch):
        return None
    there = eligible.is_valid().to_numpy(zero_copy_only=False)
    first = np.maximum.accumulate(np.where(there, np.arange(len(batch)), -1))
    names = ids.to_pylist()
    if first[0] < 0 or any(names[row] != names[at] for row, at in enumerate(first.tolist())):
        return None
    rows, arms, _ = _eligible_arms(header, batch, "eligible")
    known = np.zeros((len(batch), len(header.arms)), bool)
    known[rows, arms] = True
    mask: Mask = known[first]
    return mask


def _integers(values: pa.Array | None) -> Int | None:
    if values is None:
        return None
    found: Int = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _times(values: pa.Array | None, counts: Counter[str]) -> Int | None:
    """Milliseconds since 1970; a row without a time has that of the row before, or else of the one after."""
    if values is None:
        return None
    counts[INVENTED_TIME] += values.null_count
    found = pc.fill_null_backward(pc.fill_null_forward(values.cast(pa.int64()))).fill_null(0)
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
        "rewards": log.rewards is not None,
        "slice": log.part is not None,
        "shares": log.shares is not None,
        "mixture": log.within is not None,
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
        reward_range=log.reward_range,
        slices=log.slices,
        uniform=log.uniform,
        kinds=log.kinds,
        changes=log.changes,
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
    drawn, at = log.probability if log.within is None else log.within, (np.arange(n), log.arm)
    given = [pa.array(log.propensity if log.within is None else log.within[at]), pa.nulls(n, pa.float64())]
    if log.conditional is not None:
        given = [pa.array(log.conditional), pa.array(log.propensity)]
    shown = [names.take(pa.array(log.arm)), *given]
    made = {"shown": list_array(SHOWN, np.ones(n, np.int64), shown), "reward": pa.array(log.reward)}
    if drawn is not None and log.probability is not None:
        known = log.probability > 0 if log.eligible is None else log.eligible
        made |= {"eligible": _eligible(drawn, known, names), "mixture": _eligible(log.probability, known, names)}
    for name, told, kind, each in (
        ("rewards", log.rewards, REWARD, [kind.name for kind in log.kinds]),
        ("shares", log.shares, SHARE, log.slices),
    ):
        if told is not None:
            flat = [pa.array([*each] * n, pa.string()), pa.array(told.ravel())]
            made[name] = list_array(kind, np.full(n, len(each)), flat)
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
