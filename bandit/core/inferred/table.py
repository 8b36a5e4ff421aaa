"""A sample of rows as columns of texts, read from CSV; its cells are bounded here, its bytes by whoever reads them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bandit.core.inferred.amounts import PLAIN
from bandit.errors import Code, Fault, Problem

SEPARATORS = ",;\t|"
COLUMNS_MAX = 512
CELLS_MAX = 200_000  # looked at: 0.2 s of work, with hundreds of columns and sixteen rewards 1 s
COMMA, POINT = re.compile(r"[-+]?\d+,\d+"), re.compile(r"[-+]?\d*\.\d+")


@dataclass(frozen=True)
class Table:
    """Columns of texts.

    Attributes:
        names: of the columns.
        columns: each one's cells, without the spaces around them; as many of each as there are rows.
        decimal: the mark before a fraction, where a column does not tell.
        skipped: rows left out, as they have more or fewer cells than there are names.
        more: whether there were rows after the last one that is here.
    """

    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    decimal: str = "."
    skipped: int = 0
    more: bool = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.columns[0]) if self.columns else 0


def read_table(text: str, at: str = "") -> Table:
    """The rows of a CSV file, of which the first line has the names; the separator is found out.

    Args:
        text: what stands in the file.
        at: pointer to where the text was given, for errors.

    Raises:
        Problem: invalid_request: there are no names, or numbers in their place, or a name twice, or too many; or a
            quotation mark is left open.
    """
    text = text.removeprefix("\ufeff").lstrip("\r\n")
    first = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    separator = max(SEPARATORS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = tuple(cell.strip() for cell in next(lines, []))
        _check(names, at)
        rows, skipped, more = _rows(lines, len(names))
    except csv.Error:  # the library's own limit
        got = "a longer one: is a quotation mark not closed?"
        raise _refused(at, "cells of at most 131,072 characters", got) from None
    return Table(names, tuple(zip(*rows, strict=True)) or ((),) * len(names), _decimal(rows, separator), skipped, more)


def _rows(lines: Iterator[list[str]], width: int) -> tuple[list[tuple[str, ...]], int, bool]:
    rows: list[tuple[str, ...]] = []
    skipped = 0
    for line in lines:
        if (len(rows) + skipped + 1) * width > CELLS_MAX:
            return rows, skipped, True
        if len(line) == width and any(line):
            rows.append(tuple(cell.strip() for cell in line))
        elif line:  # an empty line is no row
            skipped += 1
    return rows, skipped, False


def _check(names: tuple[str, ...], at: str) -> None:
    if len(names) > COLUMNS_MAX:  # first, as the rest looks at each name
        raise _refused(at, f"at most {COLUMNS_MAX} columns", f"{len(names)}")
    if not any(names):
        raise _refused(at, "a first line with the names of the columns", "nothing")
    if all(PLAIN.fullmatch(name) for name in names if name):
        raise _refused(at, "a first line with the names of the columns", "numbers")
    if any(name and names.count(name) > 1 for name in names):
        raise _refused(at, "columns with different names", "a name twice")


def _decimal(rows: list[tuple[str, ...]], separator: str) -> str:
    """A comma where more numbers have one than a point."""
    if separator == ",":
        return "."
    cells = [cell for row in rows[:1000] for cell in row]
    commas, points = (sum(mark.fullmatch(cell) is not None for cell in cells) for mark in (COMMA, POINT))
    return "," if commas > points else "."


def _refused(at: str, expected: str, got: str) -> Problem:
    return Problem.of(Code.INVALID_REQUEST, [Fault(at, expected, got)])
