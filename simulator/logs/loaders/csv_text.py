"""What a CSV file is written in: separator, decimal mark, names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simulator.logs.contexts import LogError
from simulator.logs.storage import BOM, opened

SEPARATORS = ",;\t|"
SPELLED = {"tab": "\t", "\\t": "\t"}  # what a shell makes hard to type
SAMPLE = 1 << 16  # bytes looked at, to the end of their last line
COMMA = re.compile(r"[-+]?\d+,(\d+)")
POINT = re.compile(r"[-+]?\d*\.\d+")
NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*(?:e[-+]?\d+)?|true|false", re.IGNORECASE)  # as one of any column looks
PAIRED = re.compile(r"\d,(?=\d)")  # a comma that may be a decimal mark
AMOUNT = re.compile(r"[-+]?[$€£]?\s*\d+(?:[.,' \u00a0\u202f]\d{3})*(?:[.,]\d+)?\s*[%$€£]?")  # as people write numbers
DATED = re.compile(r"(?:\d{4}([./-])\d{1,2}\1\d{1,2}|\d{1,2}([./-])\d{1,2}\2\d{4})(?:[T ,].*)?")
ABOVE = re.compile(r"[\r\n]*(?:sep=(.)[\r\n]+)?", re.IGNORECASE)  # empty lines, and one that Excel understands
LINE = re.compile(r"\r\n|\r|\n")


class Form(NamedTuple):
    """How a file is written.

    Attributes:
        separator: of its columns.
        decimal: the mark before a fraction.
        names: of the columns.
        above: how many lines stand above these.
        numbers: the places of the columns that have numbers, or true and false, in most of the first rows.
        header: whether the names are in the file.
    """

    separator: str
    decimal: str
    names: list[str]
    above: int
    numbers: tuple[int, ...] = ()
    header: bool = True


def form_of(path: Path, delimiter: str | None = None, decimal: str | None = None, *, header: bool = True) -> Form:
    """How a file is written, by its first lines.

    Args:
        path: the file.
        delimiter: the separator, where it is known; else the one of `SEPARATORS` that is most often among the names.
        decimal: the decimal mark, where it is known.
        header: whether the first row has the names; else these are f0, f1, ...

    Raises:
        LogError: there are no names, or one is there twice; or it is no text in UTF-8; or no such separator can be.
    """
    text = _head(path)
    above = next(ABOVE.finditer(text))  # which may be nothing
    text = text[above.end() :]
    separator = _separator(delimiter, text, above[1], header)
    if decimal not in (None, ".", ","):
        raise LogError(f"decimal: expected . or , as the decimal mark, got {decimal!r}")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error as error:  # of a quote that is left open
        raise LogError(f"{path.name}: {error}") from None
    first = rows[0] if rows else []
    names, rows = (first, rows[1:]) if header else ([f"f{place}" for place in range(len(first))], rows)
    _check(path, names)
    decimal = decimal or _decimal((cell.strip() for row in rows for cell in row), separator)
    return Form(separator, decimal, names, len(LINE.findall(above[0])), _numbers(rows, len(names)), header)


def _numbers(rows: list[list[str]], columns: int) -> tuple[int, ...]:
    """The places of the columns that have a number in more than half of the rows."""
    found = [sum(len(row) > k and bool(NUMBER.fullmatch(row[k].strip())) for row in rows) for k in range(columns)]
    return tuple(k for k, count in enumerate(found) if 2 * count > len(rows))


def _head(path: Path) -> str:
    with opened(path) as file:
        data = (file.read(SAMPLE) + file.readline()).removeprefix(BOM)
    if b"\0" in data.partition(b"\n")[0]:
        raise LogError(f"{path.name}: expected text in UTF-8, got UTF-16 or no text at all")
    return data.decode("utf-8", "replace")


def _separator(delimiter: str | None, text: str, told: str | None, header: bool) -> str:
    if delimiter is None:
        first = re.sub(r'"[^"]*"', "", text.lstrip("\r\n")).partition("\n")[0]
        first = first if header else PAIRED.sub("", first)
        return told or max(SEPARATORS, key=first.count)
    found = SPELLED.get(delimiter, delimiter)
    if len(found.encode()) != 1 or found in '"\r\n':
        raise LogError(f"delimiter: expected one character (or tab), got {delimiter!r}")
    return found


def _check(path: Path, names: list[str]) -> None:
    if not any(names):
        raise LogError(f"{path.name}: expected a CSV file with a line of names, got none")
    if strange := [name for name in names if "\ufffd" in name]:
        raise LogError(f"{path.name}, line 1: expected text in UTF-8, got another encoding: {strange[0]!r}")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise LogError(f"{path.name}: expected columns with different names, got {twice[0]!r} twice")


def _decimal(cells: Iterator[str], separator: str) -> str:
    """A comma where more numbers have one than a point; where commas also separate, none may be one of thousands."""
    commas = points = thousands = 0
    for cell in cells:
        if found := COMMA.fullmatch(cell):
            commas += 1
            thousands += separator == "," and len(found[1]) == 3
        points += POINT.fullmatch(cell) is not None
    return "," if commas > points and not thousands else "."
