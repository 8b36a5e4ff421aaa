"""What commands print: one JSON object a line, or a table for people. Nothing else goes to stdout.

Names are shown as they are: what a terminal, or rich's markup, would take for an order is text like all else.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bandit.errors import printable

WIDTH = 160  # of a table that goes to a file or a program, which folds no lines


def rows_of(results: Iterable[Any]) -> list[dict[str, Any]]:
    """Results as plain rows."""
    return [asdict(each) if is_dataclass(each) and not isinstance(each, type) else dict(each) for each in results]


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "") -> None:
    """Print rows, all with the same columns."""
    if as_json:
        for row in rows:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        return
    if not rows:
        return
    table = Table(title=printable(title) or None, title_justify="left")
    for name in rows[0]:
        table.add_column(
            printable(name), justify="left" if isinstance(rows[0][name], str) else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(shown(value) for value in row.values()))
    _console().print(table)


def _console() -> Console:
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def print_evaluation(target: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A target's values for people: numbers in a table, what must be known beside them under it."""
    columns = "estimator", "value", "low", "high", "verdict"
    title = f"{target}: n {rows[0]['n']:,}, n_eff {rows[0]['n_eff']:,.0f}, largest weight {rows[0]['max_weight']:.4g}"
    print_rows([{name: row[name] for name in columns} for row in rows], as_json=False, title=title)
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, str(row["note"]).split("; ")):
            notes.setdefault(note, []).append(str(row["estimator"]))
    for note, names in notes.items():
        _console().print(printable(f"  {'all' if len(names) == len(rows) else ', '.join(names)}: {note}"))


def shown(value: Any) -> str:
    """A value for people: five significant digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else printable(str(value))
