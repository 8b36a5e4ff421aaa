"""Any CSV file with a decision a row: which column is the arm, the reward and the propensity is said by name.

Other columns become the context: numbers standardised, texts one column a value. Columns of names (mostly different
texts) are left out, and counted; columns that sound like what came after the decision are refused unless named.
The file is read twice, in blocks. Of texts only an empty cell is missing: an arm may be called NA.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandit.core.document import ARMS_MAX
from bandit.core.inferred.words import like_times
from simulator.logs.cleaning import Rules, faults
from simulator.logs.contexts import ARROW, Feature, LogError, Survey, as_floats
from simulator.logs.loaders.csv_numbers import Marks
from simulator.logs.loaders.csv_roles import Roles
from simulator.logs.loaders.csv_source import Source, WidenedError
from simulator.logs.loaders.csv_text import AMOUNT, DATED
from simulator.logs.loaders.csv_times import Times
from simulator.logs.loaders.repeats import Repeats
from simulator.logs.loaders.rows import lost, ordered
from simulator.logs.table import COLUMNS, REWARD, SHOWN, Header, Table, list_array

PLAIN = ("decision_id", "user", "weight", "position")  # columns that are taken as they are
COPIED = "rows that are duplicated, more often than by chance: intervals are too narrow if these are copies"
UNFILLED = {"weight": "rows without a weight, taken for 1", "position": "rows without a position, taken for the first"}
MOSTLY = 0.9  # share of a column's texts from which on they are told to look like numbers or dates


class _Found:
    """What a first reading of the file has seen."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.survey = Survey()
        self.arms: dict[str, None] = {}
        self.dropped: dict[str, None] = {}  # arms of rows that cannot be used
        self.low, self.high = np.inf, -np.inf  # propensities
        self.rows = 0  # that can be used
        self.repeats = Repeats()
        self.marks = Marks(source.form.decimal)
        context = source.context(source.names())
        for batch in source.batches():
            self._add(batch, context)
        self.marks.check(source.path.name)

    def _add(self, batch: pa.RecordBatch, context: Sequence[str]) -> None:
        types = {name: batch.schema.field(name).type for name in context}
        self.source.types.update({name: pa.string() if kind == pa.binary() else kind for name, kind in types.items()})
        texts = {name for name, kind in types.items() if kind in (pa.string(), pa.binary())}  # binary: no UTF-8
        if not texts <= self.source.known_texts:  # they were read with what is missing of numbers
            for name in texts - self.source.known_texts:
                self.source.find_groups(name, batch.column(name))
            self.source.known_texts |= texts
            raise WidenedError("texts")
        self._marks(batch)
        self.repeats.add(batch)
        self.survey.add_columns(context, [batch.column(name) for name in context])
        roles = self.source.roles
        usable = _usable(roles, batch)
        arms = batch.column(roles.arm)
        self.arms.update(dict.fromkeys(pc.unique(arms.filter(usable).drop_null()).to_pylist()))
        self.dropped.update(dict.fromkeys(pc.unique(arms.filter(pc.invert(usable)).drop_null()).to_pylist()))
        if len(self.arms) > ARMS_MAX:
            raise LogError(f"column {roles.arm!r}: expected at most {ARMS_MAX} arms, got more")
        p = as_floats(_propensity(roles, batch).filter(usable))
        self.rows += len(p)
        self.low, self.high = min(self.low, p.min(initial=np.inf)), max(self.high, p.max(initial=-np.inf))

    def _marks(self, batch: pa.RecordBatch) -> None:
        """Look at marks that may be of thousands; of a propensity they cannot be."""
        roles, data = self.source.roles, self.source.blocks.data
        if roles.decimal is not None:
            return
        numbers = {name: batch.column(name) for name in batch.schema.names if name != roles.propensity}
        numbers = {name: each for name, each in numbers.items() if each.type == pa.float64()}
        for name, texts in self.source.texts(data, self.marks.asked(data, numbers)).items():
            self.marks.add(name, texts)

    def told(self, features: Sequence[Feature], K: int) -> Counter[str]:
        """What is taken for the context, and what of the rows and of it looks odd."""
        names = [f"{each.name} ({len(each.levels)} values)" if each.levels else each.name for each in features]
        odd = [name for name, seen in self.survey.seen.items() if _mostly(AMOUNT, seen.levels)]
        counts = Counter({f"columns of context: {', '.join(names)}": len(names)})
        if self.source.roles.context is None:
            counts["columns left out: without a name"] = self.source.form.names.count("")
        counts[f"columns of context that look like numbers, read as texts: {', '.join(odd)}"] = len(odd)
        dates = [name for name, seen in self.survey.seen.items() if _mostly(DATED, seen.levels)]
        times = list(dict.fromkeys([*like_times(each.name for each in features), *dates]))
        if self.source.roles.time is None and times:
            what = f"columns of context that sound like times: {', '.join(times)}; --time puts rows in order"
            counts[what] = len(times)
        if self.source.roles.decision_id is None:
            counts[COPIED] = self.repeats.copies()
        counts += lost(self.arms, self.dropped)
        if self.low == self.high and (digits := _rounded(self.low, K)):
            what = f"rows with a propensity of {self.low:g}, perhaps 1 / {K} in {digits} digits: if so, give that with"
            counts[f"{what} --propensity {1 / K!r}"] = self.rows
        return +counts

    def uniform(self, K: int) -> bool:
        """Whether every propensity is 1 / K."""
        return bool(np.isclose([self.low, self.high], 1 / max(K, 1), rtol=1e-9, atol=0).all())


def _usable(roles: Roles, batch: pa.RecordBatch) -> pa.Array:
    """Which rows cleaning keeps: of others neither arms nor propensities count."""
    columns = {"shown": _shown(roles, batch), "reward": _reward(roles, batch)}
    if roles.weight is not None:
        columns["weight"] = batch.column(roles.weight)
    good = np.ones(len(batch), bool)
    for fault in faults(Header(arms=()), pa.record_batch(columns), Rules()):
        good &= ~fault.bad
    return pa.array(good)


def _rounded(p: float, K: int) -> int:
    """In how many digits, from 2, a propensity is 1 / K, rounded or cut, where it is not 1 / K itself; else 0."""
    if not K or np.isclose(p, 1 / K, rtol=1e-9, atol=0):
        return 0
    ends = {d: (round(1 / K, d), np.floor(10**d / K) / 10**d) for d in range(2, 9)}
    return next((d for d, each in ends.items() if np.isclose(p, each, rtol=1e-12, atol=0).any()), 0)


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
    source = Source(path, known_roles)
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
    cleaning = Counter(counts) + found.told(features, len(known))
    return Table(header, _batches(header, source, cleaning), cleaning)


def _mostly(pattern: re.Pattern[str], levels: Mapping[str, int]) -> bool:
    """Whether most of the texts are written like this."""
    return sum(n for text, n in levels.items() if pattern.fullmatch(text)) > MOSTLY * sum(levels.values())


def _first_reading(source: Source) -> _Found:
    while True:
        try:
            return _Found(source)
        except WidenedError:
            continue  # each time a column's type is wider, and there are but three


def _columns(roles: Roles, features: Sequence[Feature]) -> tuple[str, ...]:
    given = {name for name in COLUMNS if name != "rewards" and getattr(roles, name, None) is not None}
    given |= {"shown", "reward"} | ({"rewards"} if len(roles.rewards) > 1 else set())
    order = ["decision_id", "time", "context", *COLUMNS]
    return tuple(dict.fromkeys(name for name in order if name in given or (name == "context" and features)))


def _batches(header: Header, source: Source, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
    times = Times(source.roles.time or "", source.roles.day_first, counts, source.at)
    for batch in source.batches():
        for name in UNFILLED.keys() & set(header.columns):
            counts[UNFILLED[name]] += batch.column(getattr(source.roles, name)).null_count
        made: Mapping[str, pa.Array] = {
            "shown": _shown(source.roles, batch),
            "context": _context(header.features, batch),
            "reward": _reward(source.roles, batch),
            "rewards": _rewards(source.roles, batch),
            **({"time": times.read(batch.column(source.roles.time))} if source.roles.time else {}),
            **{name: _column(source, name, batch) for name in header.columns if name in PLAIN},
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


def _column(source: Source, name: str, batch: pa.RecordBatch) -> pa.Array:
    called = getattr(source.roles, name)
    values = batch.column(called)
    if name == "position":
        first = source.roles.first_position
        outside = pc.or_(pc.less(values, first), pc.greater_equal(values, first + ARMS_MAX))
        if (wrong := pc.index(outside, True).as_py()) >= 0:
            what = f"a position from {first} to {first + ARMS_MAX - 1}"
            raise LogError(f"column {called!r}, {source.at(wrong)}: expected {what}, got {values[wrong].as_py()}")
        values = pc.subtract(values, first)
    return pc.cast(values, COLUMNS[name])
