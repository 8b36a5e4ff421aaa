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
from simulator.loaders.csv_text import AMOUNT, COMMA, Form, after_the_fact, form_of, like_times
from simulator.loaders.csv_times import MISSING, Times
from simulator.loaders.repeats import Repeats
from simulator.loaders.rows import ordered
from simulator.storage import opened
from simulator.table import COLUMNS, REWARD, SHOWN, Header, Table, list_array

PLAIN = ("decision_id", "user", "weight", "position")  # columns that are taken as they are
BLOCK = 1 << 24  # bytes: of some 100,000 rows
WIDER = {"null": pa.float64(), "int64": pa.float64(), "bool": pa.string(), "double": pa.string()}
COPIED = "rows that are there several times, more often than by chance: intervals are too narrow if these are copies"
UNFILLED = {"weight": "rows without a weight, taken for 1", "position": "rows without a place, taken for the first"}
AMOUNTS = 0.9  # share of a column's texts from which on they are told to look like numbers
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
        known: the columns that a policy of the log's kind is told before it decides; None: all may be.
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
    known: Sequence[str] | None = None

    @property
    def rewards(self) -> tuple[str, ...]:
        """The columns of the reward."""
        return (self.reward,) if isinstance(self.reward, str) else tuple(self.reward)

    def check(self) -> None:
        """Whether the roles go together.

        Raises:
            LogError: a column has two of them, there is no reward, or a weight is of none or no number.
        """
        others = [self.position, self.time, self.weight, self.decision_id or self.user]
        columns = [each for each in (self.arm, *self.rewards, self.propensity, *others) if isinstance(each, str)]
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise LogError(f"expected a column for each role, got {twice[0]!r} for two")
        if not self.rewards:
            raise LogError("reward: expected one column or several, got none")
        for kind, weight in (self.weights or {}).items():
            if kind not in self.rewards or not np.isfinite(weight):
                what = f"a number for each of {list(self.rewards)}"
                near = "" if kind in self.rewards else nearest(kind, self.rewards)
                raise LogError(f"weights: expected {what}, got {kind}={weight:g}{near}")

    def types(self) -> dict[str, pa.DataType]:
        """The columns with a role, and the types that they must have."""
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
    def form(self) -> Form:
        """How the file is written."""
        return form_of(self.path, self.roles.delimiter, self.roles.decimal)

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
        form = self.form
        known = {name: types[name] for name in wanted if name in types}
        convert = csv.ConvertOptions(
            column_types=known, include_columns=wanted, strings_can_be_null=True, null_values=list(missing),
            quoted_strings_can_be_null=True, decimal_point=form.decimal,
        )  # fmt: skip
        reading = csv.ReadOptions(
            use_threads=False, block_size=BLOCK, skip_rows=form.above, column_names=form.names, skip_rows_after_names=1
        )
        parsing = csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
        with opened(self.path) as file:
            yield from csv.open_csv(file, reading, parsing, convert)

    def fault(self, message: str, names: Sequence[str]) -> LogError:
        """Arrow's words with the column's name; a context column's type is widened for the next try."""
        if "straddling" in message:
            message = f"expected rows of less than {BLOCK >> 20} MiB, got a longer one: is a quote left open?"
        if not (found := FAULT.match(message)):
            return LogError(f"{self.path.name}: {message.removeprefix('CSV parse error: ')}")
        kind, got = _kind_and_value(found[3])
        name, row = names[int(found[1])], f", row {found[2]}" if found[2] else ""
        error = LogError(f"{self.path.name}, column {name!r}{row}: {found[3]}{self._hint(kind, got)}")
        if name in self.roles.rewards and got.lower() in ("true", "false"):
            self.types[name] = pa.bool_()
            return _WidenedError(str(error))
        if name in self.roles.types() or not kind or kind == "string":
            return error
        self.types[name] = WIDER.get(kind, pa.string())
        return _WidenedError(str(error))

    def _hint(self, kind: str | None, got: str) -> str:
        """What a value should have been."""
        if kind == "string":
            return ": expected text in UTF-8"
        if kind != "double":
            return ""
        other = " (or say --decimal ,)" if COMMA.fullmatch(got) and self.form.decimal == "." else ""
        return f"; expected a number such as 1234{self.form.decimal}5{other}"

    def names(self) -> list[str]:
        """The names of all columns.

        Raises:
            LogError: there are none, or one with a role is missing.
        """
        found = self.form.names
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
        known = self.roles.known
        if later := after_the_fact(rest) if known is None else [name for name in rest if name not in known]:
            kept = " ".join(f"--context {name}" for name in rest if name not in later) or "--context NAME"
            why = "may be known only after a decision, and would tell a model what it should predict"
            raise LogError(f"{self.path.name}: {later} {why}; name the columns of the context: {kept}")
        return rest


def _kind_and_value(words: str) -> tuple[str, str]:
    """The type that Arrow could not make of a value, and the value, as far as they are said."""
    kind, value = re.search(r"conversion error to (\w+)", words), re.search(r"invalid value '(.*)'", words, re.DOTALL)
    return kind[1] if kind else "", value[1] if value else ""


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
        types = {name: batch.schema.field(name).type for name in context}
        self.source.types.update({name: pa.string() if kind == pa.binary() else kind for name, kind in types.items()})
        texts = {name for name, kind in types.items() if kind in (pa.string(), pa.binary())}  # binary: no UTF-8
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

    def told(self, features: Sequence[Feature]) -> Counter[str]:
        """What is taken for the context, and what of the rows and of it looks odd."""
        names = [f"{each.name} ({len(each.levels)} values)" if each.levels else each.name for each in features]
        odd = [name for name, seen in self.survey.seen.items() if _amounts(seen.levels)]
        counts = Counter({f"columns of context: {', '.join(names)}": len(names)})
        counts[f"columns of context that look like numbers, read as texts: {', '.join(odd)}"] = len(odd)
        if self.source.roles.time is None and (times := like_times(each.name for each in features)):
            counts[f"columns of context that sound like times: {', '.join(times)}; --time puts rows in order"] = len(
                times
            )
        if self.source.roles.decision_id is None:
            counts[COPIED] = self.repeats.copies()
        return +counts

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
    known_roles = Roles(**roles)
    known_roles.check()
    source = _Source(path, known_roles)
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
    cleaning = Counter(counts) + found.told(features)
    return Table(header, _batches(header, source, cleaning), cleaning)


def _amounts(levels: Mapping[str, int]) -> bool:
    """Whether most of the texts are numbers as people write them."""
    return sum(n for text, n in levels.items() if AMOUNT.fullmatch(text)) > AMOUNTS * sum(levels.values())


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


def _batches(header: Header, source: _Source, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
    times = Times(source.roles.time or "", source.roles.day_first, counts, source.form.above + 2)
    for batch in source.batches():
        for name in UNFILLED.keys() & set(header.columns):
            counts[UNFILLED[name]] += batch.column(getattr(source.roles, name)).null_count
        made: Mapping[str, pa.Array] = {
            "shown": _shown(source.roles, batch),
            "context": _context(header.features, batch),
            "reward": _reward(source.roles, batch),
            "rewards": _rewards(source.roles, batch),
            **({"time": times.read(batch.column(source.roles.time))} if source.roles.time else {}),
            **{name: _column(source.roles, name, batch) for name in header.columns if name in PLAIN},
        }
        yield pa.record_batch([made[name] for name in header.stored], schema=header.schema())


def _reward(roles: Roles, batch: pa.RecordBatch) -> pa.Array:
    """The weighted sum; where one is missing there is none."""
    weights, values = roles.weights or {}, {name: batch.column(name).cast(pa.float64()) for name in roles.rewards}
    return reduce(pc.add, (pc.multiply(each, weights.get(name, 1.0)) for name, each in values.items()))


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
        ends, first = pc.min_max(values).as_py(), roles.first_position
        if wrong := [end for end in ends.values() if end is not None and not first <= end < first + ARMS_MAX]:
            what = f"a place from {first} to {first + ARMS_MAX - 1}"
            raise LogError(f"column {roles.position!r}: expected {what}, got {wrong[0]}")
        values = pc.subtract(values, first)
    return pc.cast(values, COLUMNS[name])
