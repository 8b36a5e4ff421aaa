"""Any CSV file with a decision a row: which column is the arm, the reward and the propensity is said by name.

Other columns become the context: numbers standardised, texts one column a value. Columns of names (mostly different
texts) are left out, and counted; columns that sound like what came after the decision are refused unless named.
The file is read twice, in blocks. Of texts only an empty cell is missing: an arm may be called NA.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bandit.errors import nearest
from bandit.experiment import ARMS_MAX
from simulator.contexts import ARROW, Feature, LogError, Survey, as_floats
from simulator.loaders.csv_text import MISSING, Repeats, Times, after_the_fact, dialect, names_of
from simulator.loaders.rows import ordered
from simulator.storage import opened
from simulator.table import COLUMNS, REWARD, SHOWN, Header, Table, list_array

PLAIN = ("decision_id", "user", "weight", "position")  # columns that are taken as they are
BLOCK = 1 << 24  # bytes: of some 100,000 rows
WIDER = {"null": pa.float64(), "int64": pa.float64(), "bool": pa.string(), "double": pa.string()}
COPIED = "rows of a log that has each of them {} times: intervals are too narrow if these are copies"
FAULT = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Roles:
    """What the columns are.

    Attributes:
        arm: column of the arm shown.
        reward: column of the reward, or several, which are added up by their weights.
        propensity: column of its propensity, or one number for all rows.
        context: columns of the context, in order; None for all that have no other role.
        position: column of the place in a list.
        time: column of the time: ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970.
        user: column of the user.
        decision_id: column of the decision's id.
        weight: column of 1 / the share of such rows that was kept.
        first_position: what the first place is called.
        weights: of several rewards; 1 each where there is none.
        delimiter: what separates columns; None: found out.
        decimal: of numbers, `.` or `,`; None: found out.
        day_first: whether dates such as 3.4.2026 have the day first; None: they are refused.
    """

    arm: str
    reward: str | Sequence[str]
    propensity: str | float
    context: Sequence[str] | None = None
    position: str | None = None
    time: str | None = None
    user: str | None = None
    decision_id: str | None = None
    weight: str | None = None
    first_position: int = 0
    weights: Mapping[str, float] | None = None
    delimiter: str | None = None
    decimal: str | None = None
    day_first: bool | None = None

    @property
    def rewards(self) -> tuple[str, ...]:
        """The columns of the reward."""
        return (self.reward,) if isinstance(self.reward, str) else tuple(self.reward)

    def types(self) -> dict[str, pa.DataType]:
        """The columns with a role, and the types that they must have; a time's is found out."""
        number, name = pa.float64(), pa.string()
        pairs = [(self.arm, name), (self.position, pa.int64()), (self.weight, number)]
        pairs += [(column, number) for column in self.rewards]
        pairs += [(self.user, name), (self.decision_id, name), (self.time, name)]
        pairs += [(self.propensity, number)] if isinstance(self.propensity, str) else []
        return {column: kind for column, kind in pairs if column is not None}


@dataclass
class _Source:
    """A file with the types of its columns, as far as they are known."""

    path: Path
    roles: Roles
    known_texts: set[str] = field(default_factory=set)
    types: dict[str, pa.DataType] = field(default_factory=dict)

    @cached_property
    def form(self) -> tuple[str, str]:
        """(separator, decimal mark)."""
        separator, decimal = dialect(self.path)
        return self.roles.delimiter or separator, self.roles.decimal or decimal

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The blocks of the file, columns that are not needed left out.

        Raises:
            LogError: a value is not of its column's type; says which.
        """
        names = self.names()
        types = self.roles.types() | self.types
        wanted = [name for name in names if name and (name in self.roles.types() or name in self.context(names))]
        texts = [name for name in wanted if types.get(name) == pa.string()]
        numbers = [name for name in wanted if name not in texts]
        try:
            if not texts or not numbers:
                yield from self._columns(wanted, types, MISSING if numbers else ("",))
                return
            pair = self._columns(texts, types, ("",)), self._columns(numbers, types, MISSING)
            for one, other in zip(*pair, strict=True):
                found = dict(zip(texts, one.columns, strict=True)) | dict(zip(numbers, other.columns, strict=True))
                yield pa.record_batch([found[name] for name in wanted], names=wanted)
        except pa.ArrowInvalid as error:
            raise self.fault(str(error), names) from None

    def _columns(
        self, wanted: list[str], types: Mapping[str, pa.DataType], missing: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Blocks of these columns; those of one file are equally long, whichever columns are asked for."""
        separator, decimal = self.form
        known = {name: types[name] for name in wanted if name in types}
        convert = csv.ConvertOptions(
            column_types=known, include_columns=wanted, strings_can_be_null=True, null_values=list(missing),
            quoted_strings_can_be_null=True, decimal_point=decimal,
        )  # fmt: skip
        reading = csv.ReadOptions(use_threads=False, block_size=BLOCK)
        parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        with opened(self.path) as file:
            yield from csv.open_csv(file, reading, parsing, convert)

    def fault(self, message: str, names: Sequence[str]) -> LogError:
        """Arrow's words with the column's name; a context column's type is widened for the next try."""
        if not (found := FAULT.match(message)):
            return LogError(f"{self.path.name}: {message}")
        name, row = names[int(found[1])], f", row {found[2]}" if found[2] else ""
        error = LogError(f"{self.path.name}, column {name!r}{row}: {found[3]}")
        kind = re.search(r"conversion error to (\w+)", found[3])
        if name in self.roles.types() or not kind or kind[1] == "string":
            return error
        self.types[name] = WIDER.get(kind[1], pa.string())
        return _WidenedError(str(error))

    def names(self) -> list[str]:
        """The names of all columns.

        Raises:
            LogError: there are none, or one with a role is missing.
        """
        found = names_of(self.path, self.form[0])
        for name in [*self.roles.types(), *(self.roles.context or ())]:
            if name not in found:
                what = f"expected a column {name!r}, got {found[:20]}{nearest(name, found)}"
                raise LogError(f"{self.path.name}: {what}")
        return found

    def context(self, names: Sequence[str]) -> list[str]:
        """The columns of the context."""
        if self.roles.context is not None:
            return list(self.roles.context)
        rest = [name for name in names if name and name not in self.roles.types()]
        if later := after_the_fact(rest):
            kept = " ".join(f"--context {name}" for name in rest if name not in later) or "--context NAME"
            why = "may be known only after a decision, and would tell a model what it should predict"
            raise LogError(f"{self.path.name}: {later} {why}; name the columns of the context: {kept}")
        return rest


class _WidenedError(LogError):
    """A context column has values of a wider type than its first ones: read again."""


class _Found:
    """What a first reading of the file has seen."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.survey = Survey()
        self.arms: dict[str, None] = {}
        self.low, self.high = np.inf, -np.inf  # propensities
        self.repeats = Repeats()
        context = source.context(source.names())
        for batch in source.batches():
            self._add(batch, context)

    def _add(self, batch: pa.RecordBatch, context: Sequence[str]) -> None:
        self.source.types.update({name: batch.schema.field(name).type for name in context})
        texts = {name for name in context if pa.types.is_string(batch.schema.field(name).type)}
        if not texts <= self.source.known_texts:  # they were read with what is missing of numbers
            self.source.known_texts |= texts
            raise _WidenedError("texts")
        self.repeats.add(batch)
        self.survey.add_columns(context, [batch.column(name) for name in context])
        self.arms.update(dict.fromkeys(pc.unique(batch.column(self.source.roles.arm).drop_null()).to_pylist()))
        if len(self.arms) > ARMS_MAX:
            raise LogError(f"column {self.source.roles.arm!r}: expected at most {ARMS_MAX} arms, got more")
        p = as_floats(_propensity(self.source.roles, batch).drop_null())
        self.low, self.high = min(self.low, p.min(initial=np.inf)), max(self.high, p.max(initial=-np.inf))

    def uniform(self, K: int) -> bool:
        """Whether every propensity is 1 / K."""
        return bool(np.isclose([self.low, self.high], 1 / max(K, 1), rtol=1e-9, atol=0).all())


def read(path: Path, *, arms: Sequence[str] = (), learning: bool = False, **roles: Any) -> Table:
    """A CSV file as a table; a propensity of exactly 1 / K in every row means that the logging policy was uniform.

    Args:
        path: the file, compressed or not.
        arms: all arms there are, in order; none: those that were shown.
        learning: whether the logging policy learned while it logged.
        roles: what the columns are: the attributes of `Roles`.

    Raises:
        LogError: a column is missing, or a value is not of its column's type; says in which row. Or an arm is none.
    """
    source = _Source(path, Roles(**roles))
    found = _first_reading(source)
    features, counts = found.survey.result()
    known = ordered(arms, found.arms)
    if arms and (others := known[len(arms) :]):
        raise LogError(f"column {source.roles.arm!r}: expected one of {len(arms)} arms, got {others[0]!r}")
    header = Header(
        arms=known,
        columns=_columns(source.roles, features),
        features=features,
        probability="uniform" if found.uniform(len(known)) else "shown",
        learning=learning,
    )
    cleaning = Counter(counts)
    if source.roles.decision_id is None and (times := found.repeats.times()) > 1:
        cleaning[COPIED.format(times)] = found.repeats.rows
    return Table(header, _batches(header, source), cleaning)


def _first_reading(source: _Source) -> _Found:
    while True:
        try:
            return _Found(source)
        except _WidenedError:
            continue  # each time a column's type is wider, and there are but three


def _columns(roles: Roles, features: Sequence[Feature]) -> tuple[str, ...]:
    given = {name for name in COLUMNS if name != "rewards" and getattr(roles, name, None) is not None}
    given |= {"shown", "reward"} | ({"rewards"} if len(roles.rewards) > 1 else set())
    order = ["decision_id", "time", "context", *COLUMNS]
    return tuple(dict.fromkeys(name for name in order if name in given or (name == "context" and features)))


def _batches(header: Header, source: _Source) -> Iterator[pa.RecordBatch]:
    times = Times(source.roles.time or "", source.roles.day_first)
    for batch in source.batches():
        made: Mapping[str, pa.Array] = {
            "shown": _shown(source.roles, batch),
            "context": _context(header.features, batch),
            "reward": _reward(source.roles, batch),
            "rewards": _rewards(source.roles, batch),
            **({"time": times.read(batch.column(source.roles.time).to_pylist())} if source.roles.time else {}),
            **{name: _column(source.roles, name, batch) for name in header.columns if name in PLAIN},
        }
        yield pa.record_batch([made[name] for name in header.stored], schema=header.schema())


def _reward(roles: Roles, batch: pa.RecordBatch) -> pa.Array:
    """The weighted sum; where one is missing there is none."""
    weights = roles.weights or {}
    return reduce(pc.add, (pc.multiply(batch.column(name), weights.get(name, 1.0)) for name in roles.rewards))


def _rewards(roles: Roles, batch: pa.RecordBatch) -> pa.ListArray:
    k, n = len(roles.rewards), len(batch)
    values = np.column_stack([as_floats(batch.column(name)) for name in roles.rewards]).ravel()
    kinds = pa.array(np.tile(np.array(roles.rewards), n), pa.string())
    return list_array(REWARD, np.full(n, k), [kinds, pa.array(values)])


def _propensity(roles: Roles, batch: pa.RecordBatch) -> pa.Array:
    if isinstance(roles.propensity, str):
        return batch.column(roles.propensity)
    return pa.array(np.full(len(batch), float(roles.propensity)))


def _shown(roles: Roles, batch: pa.RecordBatch) -> pa.ListArray:
    children = [batch.column(roles.arm), _propensity(roles, batch), pa.nulls(len(batch), pa.float64())]
    return list_array(SHOWN, np.ones(len(batch), np.int64), children)


def _context(features: Sequence[Feature], batch: pa.RecordBatch) -> pa.Array:
    columns = [pc.cast(batch.column(feature.name), ARROW[feature.type]) for feature in features]
    fields = [pa.field(feature.name, ARROW[feature.type]) for feature in features]
    return pa.StructArray.from_arrays(columns, fields=fields) if features else None


def _column(roles: Roles, name: str, batch: pa.RecordBatch) -> pa.Array:
    values = batch.column(getattr(roles, name))
    if name == "position":
        values = pc.subtract(values, roles.first_position)
        if (least := pc.min(values).as_py() or 0) < 0:
            got = least + roles.first_position
            raise LogError(f"column {roles.position!r}: expected {roles.first_position} or more, got {got}")
    return pc.cast(values, COLUMNS[name])
