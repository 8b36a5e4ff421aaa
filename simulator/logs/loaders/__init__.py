"""Logs of many kinds as one table, as a `Log`, or as a stream of `Log`s where they are larger than memory.

A module a format; several (`csv...`) read any CSV file. Imports what `simulator.logs` does. Begin with `open_table`
here, then `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bandit.errors import nearest
from simulator.logs.bridge import to_log
from simulator.logs.cleaning import Rules, clean
from simulator.logs.contexts import Feature, LogError
from simulator.logs.loaders.criteo import read as read_criteo
from simulator.logs.loaders.csv import read as read_csv
from simulator.logs.loaders.dsjson import read as read_dsjson
from simulator.logs.loaders.open_bandit import read as read_open_bandit
from simulator.logs.loaders.rows import alike, surveyed
from simulator.logs.loaders.server import read as read_server
from simulator.logs.loaders.vw import read as read_vw
from simulator.logs.log import Log
from simulator.logs.storage import PARQUET, has_header, plain_rows, read_table, starts, whole
from simulator.logs.table import CELLS, ROWS, Table


def _table(path: Path) -> Table:
    """The documented table, as Parquet or JSON lines; the latter without a header too, which is then learned."""
    if starts(path, PARQUET) or has_header(path):
        return read_table(path)
    return surveyed(partial(plain_rows, path))


REORDERED = "rows put in the order of their times"
SKEW_MS = 60_000  # that a piece's times may be before those of earlier pieces: clocks of several machines

FORMATS: dict[str, Callable[..., Table]] = {
    "table": _table,
    "server": read_server,
    "open-bandit": read_open_bandit,
    "dsjson": read_dsjson,
    "vw": read_vw,
    "csv": read_csv,
    "criteo": read_criteo,
}


TOLERANT = {"dsjson", "vw"}  # formats with lines that have no reward and are no rows


def open_table(
    path: Path | str | None,
    format: str,  # noqa: A002 - the option's name
    *,
    rules: Rules | None = None,
    faulty: float | None = None,
    **options: Any,
) -> Table:
    """A log as a table, cleaned.

    Args:
        path: the file or folder; None only for a server's store.
        format: one of `FORMATS`.
        rules: what else is cleaned; by default only what no estimator can use, and repeated decisions.
        faulty: the largest share of rows, in [0, 1], that may have no reward, or of lines that may be
            broken; None: that of `rules`, 0.25 if none are given.
        options: of the format: the arguments of its loader.

    Raises:
        LogError: there is no such format or file, or the log cannot be read; says what was expected and where.
    """
    if format not in FORMATS:
        raise LogError(f"format: expected one of {list(FORMATS)}, got {format!r}{nearest(format, FORMATS)}")
    where = None if path is None else Path(path)
    if where is None and format != "server":
        raise LogError(f"{format}: expected a path, got none")
    kind = "folder" if format == "open-bandit" else "file"
    if where is not None and not (where.is_dir() if kind == "folder" else where.is_file()):
        raise LogError(f"{format}: expected a {kind}, but {str(where)!r} is not one")
    asked = rules or Rules()
    asked = asked if faulty is None else replace(asked, faulty=faulty)
    table = FORMATS[format](where, **options, **({"faulty": asked.faulty} if format in TOLERANT else {}))
    for what, count in alike(table.header.arms).items():
        table.cleaning[what] = count  # a converted log may say so already
    return clean(table, asked if rules else replace(asked, duplicates=not table.header.unique))


def load(path: Path | str | None, format: str, *, rules: Rules | None = None, **options: Any) -> Log:  # noqa: A002
    """A whole log; the arguments are those of `open_table`."""
    return described(path, format, rules=rules, **options)[0]


def described(
    path: Path | str | None,
    format: str,  # noqa: A002
    *,
    rules: Rules | None = None,
    **options: Any,
) -> tuple[Log, tuple[Feature, ...]]:
    """A whole log, and what its columns are made of; the arguments are those of `open_table`."""
    table = open_table(path, format, rules=rules, **options)
    rows = whole(table.batches, table.header)
    return in_order(to_log(table.header, rows, table.cleaning)), table.header.features


def in_order(log: Log, moved: int = 0) -> Log:
    """The log in the order of its times, rows of one time as they came; what moved is counted, with `moved` before."""
    if log.time_ms is not None and (np.diff(log.time_ms) < 0).any():
        order = np.argsort(log.time_ms, kind="stable")
        log, moved = log.take(order), moved + int((order != np.arange(len(order))).sum())
    return replace(log, cleaning={**log.cleaning, REORDERED: moved}) if moved else log


def stream(
    path: Path | str | None,
    format: str,  # noqa: A002 - the option's name
    *,
    rows: int | None = None,
    rules: Rules | None = None,
    **options: Any,
) -> Iterator[Log]:
    """A log in pieces, with the same arms and columns in each; its `cleaning` counts the rows dropped up to there.

    Repeated decisions are found by keeping a few dozen bytes for each; a table that `convert` wrote has none.

    Args:
        path: as in `open_table`, like the other arguments.
        format: one of `FORMATS`.
        rows: the most rows of a piece; None: so many that its probabilities are 32 MiB at most.
        rules: of cleaning.
        options: of the format.
    """
    table, last = open_table(path, format, rules=rules, **options), None
    size = rows or max(1, min(ROWS, CELLS // max(1, len(table.header.arms))))
    moved = 0
    for batch in table.batches:
        for start in range(0, len(batch), size):
            log = in_order(to_log(table.header, batch.slice(start, size), table.cleaning), moved)
            moved = log.cleaning.get(REORDERED, 0)
            if log.time_ms is not None and len(log):
                _check_order(int(log.time_ms[0]), last)
                last = max(int(log.time_ms[-1]), last or 0)
            yield log


def _check_order(first: int, last: int | None) -> None:
    if last is not None and first < last - SKEW_MS:
        what = f"expected times after {_when(last)}, got {_when(first)}"
        raise LogError(f"a log in pieces has to be in the order of its times, earliest first: {what}")


def _when(ms: int) -> str:
    return str(np.datetime64(ms, "ms"))
