"""Tables as environments: a classification table, one with a reward for each arm, or ratings of items by users.

    label     arms are the values of one column; the reward is 1 where the arm is the row's label, else 0
    rewards   columns PREFIX0, PREFIX1, ... hold what each arm earns; the arms are what follows the prefix
    gamble    two arms: skip earns 0; eat earns 5, but where the label is `bad` 5 or -35 with even chances
              (Riquelme, Tucker, Snoek 2018, section 5, of the UCI mushrooms: https://arxiv.org/abs/1802.09127)
    ratings   rows (user, item, rating): arms are the most rated items, features the next ones, as in `msweb`

All other columns are features, read from the whole table: numbers are standardised, 0 or 1 and true or false are
booleans, texts are categories (an empty one is a level; texts nearly all different are left out).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandit.arrays import Matrix
from bandit.core.features import Boolean, Category, Feature, Number, compile_encoder
from simulator.environments.episode import Grid, on_grid
from simulator.environments.full import FullEnvironment
from simulator.logs import contexts
from simulator.logs.contexts import Survey
from simulator.logs.loaders.csv_blocks import whole
from simulator.logs.loaders.csv_numbers import Marks, all_grouped, ungrouped
from simulator.logs.loaders.csv_text import form_of

ARMS_MAX = 1000  # values of a label: more are not a label
GAIN, LOSS = 5.0, -35.0  # of eating: what is good, and what is bad half of the time


def read(
    path: str | Path,
    *,
    label: str | None = None,
    rewards: str = "reward_",
    bad: str | None = None,
    ignore: Sequence[str] = (),
    header: bool = True,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> FullEnvironment:
    """The environment of a table in a file, plain or compressed (.gz).

    Args:
        path: where it is.
        label: the column of the right arms; None: columns that begin with `rewards` hold each arm's reward.
        rewards: how those columns begin. Columns that end alike but begin otherwise (cost_0, cost_1, ...) are outcomes
            too and no features.
        bad: the label of what must not be eaten: makes a gamble of the table.
        ignore: columns that are no features.
        header: whether the first line names the columns; else they are f0, f1, ...
        delimiter: what stands between two values; None: found out, as of a log.
        decimal: the decimal mark, `.` or `,`; None: found out.

    Raises:
        ValueError: a column is missing, or the table cannot be read so.
    """
    table = _read(Path(path), delimiter, decimal, header=header)
    _present(table, [name for name in (label, *ignore) if name is not None])
    name = Path(path).name.split(".")[0]
    if label is None:
        return _rewarded(name, table.drop_columns(list(ignore)), rewards)
    labels, rest = table[label].cast(pa.string()).fill_null(""), table.drop_columns([label, *ignore])
    return _labelled(name, rest, labels) if bad is None else _gamble(name, rest, labels, bad)


def ratings(
    path: str | Path,
    *,
    user: str,
    item: str,
    rating: str | None = None,
    arms: int = 20,
    features: int = 60,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> FullEnvironment:
    """The environment of a table of ratings: which of the popular items would this user rate high?

    Features are whether the user rated each of the next `features` items, and how many of those, capped at 5 and
    divided by 5. The reward is the rating as a share of the largest, 0 where there is none.

    Args:
        path: of the table, with a header.
        user: the column of users, one round each.
        item: the column of items; equally often rated ones are ranked by their name.
        rating: the column of ratings, above 0; None: each row is a rating of 1.
        arms: how many items can be recommended.
        features: how many items after those are known of a user.
        delimiter: what stands between two values; None: found out.
        decimal: the decimal mark; None: found out.

    Raises:
        ValueError: a column is missing, there is no row, or a rating is not above 0.
    """
    table = _read(Path(path), delimiter, decimal)
    _present(table, [name for name in (user, item, rating) if name is not None])
    users, row = np.unique(table[user].to_numpy(), return_inverse=True)
    items, column, times = np.unique(table[item].cast(pa.string()).to_pylist(), return_inverse=True, return_counts=True)
    value = np.ones(len(row)) if rating is None else table[rating].cast(pa.float64()).to_numpy()
    if not (len(value) and (value > 0).all()):
        raise ValueError(f"expected ratings above 0; got {'no rows' if not len(value) else f'{value.min():g}'}")
    rated = np.zeros((len(users), len(items)))
    np.maximum.at(rated, (row, column), value / value.max())
    ranked = np.argsort(-times, kind="stable")[: arms + features]
    others = rated[:, ranked[arms:]] > 0
    document = {
        "features": [{"name": str(items[j]), "type": "boolean"} for j in ranked[arms:]]
        + [{"name": "how many", "type": "number", "mean": 0, "scale": 1}],
        "arms": [str(items[j]) for j in ranked[:arms]],
        "rewards": {"rating": {}},
    }
    X = np.column_stack([np.ones(len(users)), others, np.minimum(others.sum(axis=1), 5) / 5])
    return FullEnvironment(Path(path).name.split(".")[0], document, on_grid(X), rated[:, ranked[:arms]])


def _read(path: Path, delimiter: str | None, decimal: str | None, *, header: bool = True) -> pa.Table:
    """The table of a file, with numbers as they are meant.

    Raises:
        LogError: a quote is left open, a row has too few columns, or nothing tells what the marks of numbers are.
    """
    form = form_of(path, delimiter, decimal, header=header)
    table = pa.Table.from_batches([whole(path, form)])
    wanted = pa.string() if decimal else pa.float64()
    if not (names := [name for name in table.column_names if name and table.schema.field(name).type == wanted]):
        return table
    texts = dict(zip(names, whole(path, form, columns=names, types=dict.fromkeys(names, pa.string())), strict=True))
    if decimal is None:
        marks = Marks(form.decimal)
        for name, each in texts.items():
            marks.add(name, each)
        marks.check(path.name)
        return table
    for name, each in texts.items():
        if all_grouped(each, decimal):
            table = table.set_column(table.column_names.index(name), name, ungrouped(each, decimal)[0])
    return table


def _present(table: pa.Table, names: Sequence[str]) -> None:
    if repeated := [name for name, count in Counter(table.column_names).items() if count > 1]:
        raise ValueError(f"expected columns of different names, got {repeated[0]!r} twice: is there no header?")
    if unknown := [name for name in names if name not in table.column_names]:
        raise ValueError(f"the table has columns {', '.join(table.column_names)}; missing {unknown}")


def _labelled(name: str, rest: pa.Table, labels: pa.ChunkedArray) -> FullEnvironment:
    arms = sorted(set(labels.to_pylist()))
    if not 2 <= len(arms) <= ARMS_MAX:
        raise ValueError(f"a label has 2 to {ARMS_MAX} values; got {len(arms)}")
    reward = (np.array(labels.to_pylist())[:, None] == np.array(arms)).astype(np.float64)
    return _made(name, rest, arms, reward)


def _gamble(name: str, rest: pa.Table, labels: pa.ChunkedArray, bad: str) -> FullEnvironment:
    harmful = np.array(labels.to_pylist()) == bad
    if not harmful.any():
        raise ValueError(f"no row has the label {bad!r}")
    zero = np.zeros(len(harmful))
    mean = np.column_stack([zero, np.where(harmful, (GAIN + LOSS) / 2, GAIN)])
    gamble = np.column_stack([zero, np.where(harmful, (GAIN - LOSS) / 2, 0.0)])
    return _made(name, rest, ["skip", "eat"], mean, gamble)


def _rewarded(name: str, table: pa.Table, prefix: str) -> FullEnvironment:
    columns = [column for column in table.column_names if column.startswith(prefix)]
    if len(columns) < 2:
        more = f"two columns or more that begin with {prefix!r} (--rewards)"
        raise ValueError(f"expected --label COLUMN, or {more}; got {', '.join(columns) or 'none'}")
    arms = [column.removeprefix(prefix) for column in columns]
    outcomes = [column for column in _alike(table.column_names, arms, prefix) if column not in columns]
    reward = np.column_stack([table[column].cast(pa.float64()).to_numpy() for column in columns])
    if not np.isfinite(reward).all():
        first = int(np.flatnonzero(~np.isfinite(reward).all(1))[0]) + 1
        raise ValueError(f"every arm's reward must be known; row {first} lacks one")
    notes = (f"outcomes, no features: {', '.join(outcomes)}",) if outcomes else ()
    return _made(name, table.drop_columns([*columns, *outcomes]), arms, reward, notes=notes)


def _alike(names: Sequence[str], arms: Sequence[str], prefix: str) -> list[str]:
    """Columns of every prefix that is followed by each arm and by nothing else, and ends like `prefix`."""
    prefixes = {name.removesuffix(arms[0]) for name in names if name.endswith(prefix[-1:] + arms[0])}
    whole = [each for each in prefixes if {n.removeprefix(each) for n in names if n.startswith(each)} == set(arms)]
    return [name for name in names if name.startswith(tuple(whole))]


def _made(
    name: str, rest: pa.Table, arms: Sequence[str], mean: Matrix, gamble: Matrix | None = None,
    notes: tuple[str, ...] = (),
) -> FullEnvironment:  # fmt: skip
    features, x, rows, done = encoded(rest)
    spread = 0.0 if gamble is None else gamble
    low, high = float((mean - spread).min()), float((mean + spread).max())
    kind = {} if (low >= 0 and high <= 1) else {"range": [low, high]}
    document = {"features": msgspec.to_builtins(list(features)), "arms": list(arms), "rewards": {"reward": kind}}
    return FullEnvironment(name, document, x, mean, gamble, (*notes, *done), rows)


def encoded(table: pa.Table) -> tuple[tuple[Feature, ...], Grid, pa.StructArray | None, tuple[str, ...]]:
    """(features of an experiment's document, the rows as its encoder makes them, the rows as they are, what was done to
    the columns).
    """
    columns = {name: _boolean(table[name].combine_chunks()) for name in table.column_names}
    survey = Survey()
    survey.add_columns(list(columns), list(columns.values()))
    kept, counts = survey.result()
    features = tuple(map(of_document, kept))
    compile_encoder(features)  # refuses what no server would take
    X: Matrix = np.ones((len(table), 1))
    rows = None
    if kept:
        values = [columns[feature.name].cast(contexts.ARROW[feature.type]) for feature in kept]
        rows = pa.StructArray.from_arrays(values, fields=list(contexts.context_type(kept)))
        X = contexts.matrix(kept, rows)
    return features, on_grid(X), rows, tuple(f"{what}: {count}" for what, count in counts.items())


def _boolean(column: pa.Array) -> pa.Array:
    """Whole numbers that are all 0 or 1 as truth: standardised, a rare 1 would be cut off."""
    if pa.types.is_integer(column.type) and pc.min(column).as_py() == 0 and pc.max(column).as_py() == 1:
        return column.cast(pa.bool_())
    return column


def of_document(feature: contexts.Feature) -> Feature:
    """A feature of a table as a document has it."""
    if feature.type == "number":
        return Number(feature.name, mean=feature.mean, scale=feature.scale)
    if feature.type == "category":
        return Category(feature.name, feature.levels, feature.other)
    return Boolean(feature.name)
