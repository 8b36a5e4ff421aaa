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
from simulator.ope.lift.sentence import told
from simulator.wording import beside, noted, number

BESIDE = {  # ends of an interval, and what stands beside it
    ("low", "high"): ("value", "mean", "difference", "choosing", "held_out", "worst"),
    ("behind_low", "behind_high"): ("behind",),
    ("regret_low", "regret_high"): ("regret_of_uniform",),
    ("bootstrap_low", "bootstrap_high"): (),
}
DIGITS = 5  # of a number without an interval
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
    if title:  # not the table's own title, which is folded where the table is narrow
        _console().print(printable(title))
    table = Table()
    for name in rows[0]:
        table.add_column(
            printable(name), justify="left" if isinstance(rows[0][name], str) else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*cells(row))
    _console().print(table)


def _console() -> Console:
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def print_evaluation(target: str, rows: Sequence[Mapping[str, Any]], capped: str = "") -> None:
    """A target's values for people: numbers in a table, what must be known beside them under it.

    Args:
        target: its name.
        rows: of its estimators.
        capped: what a cap does to the values; empty where there is none.
    """
    columns = "estimator", "value", "low", "high", "verdict"
    weight = number(rows[0]["max_weight"])
    title = f"{target}: n {rows[0]['n']:,}, n_eff {rows[0]['n_eff']:,.0f}, largest weight {weight}"
    title += f"; {capped}" if capped else ""
    print_rows([{name: row[name] for name in columns} for row in rows], as_json=False, title=title)
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, str(row["note"]).split("; ")):
            notes.setdefault(note, []).append(str(row["estimator"]))
    for note, names in notes.items():
        who = "all" if len(names) == len(rows) else ", ".join(names)
        _console().print(printable(f"  {who}: {noted(note)}"))


def print_lift(found: tuple[str, Any], *, as_json: bool) -> None:
    """How much more one slice of the traffic earned than another: the sentence, or all of it."""
    whole = msgspec.json.encode({"lift": told(found[1])}).decode() if as_json else ""
    sys.stdout.write((whole or printable(found[0])) + "\n")  # a sentence is not folded where nobody sees it


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row for people: what has an interval beside it in the digits that its width deserves."""
    found = {ends: names for ends, names in BESIDE.items() if ends[0] in row}
    widths = {name: _width(row, ends) for ends, names in found.items() for name in (*names, *ends)}
    return [shown(value, widths.get(name), 3 if name in widths else DIGITS) for name, value in row.items()]


def _width(row: Mapping[str, Any], ends: tuple[str, str]) -> float | None:
    """The width of a row's interval; None where it has none."""
    low, high = (row.get(end) for end in ends)
    width = math.nan if low is None or high is None else high - low
    return width if math.isfinite(width) else None


def shown(value: Any, width: float | None = None, digits: int = DIGITS) -> str:
    """A value for people, a dash for nothing.

    Args:
        value: of any kind.
        width: of the interval that it stands beside; None: there is none.
        digits: significant ones where there is no interval.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return (number(value, digits) if width is None else beside(value, width)).replace("−", "-")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))
