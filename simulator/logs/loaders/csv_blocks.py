"""A CSV file in blocks of whole rows, whose quotes are looked at before Arrow parses them.

Arrow takes a quote that is never closed for the end of its row, and one that a later row closes for a text of many
lines: rows vanish. Here both are errors that name the row in which the quote opened.

A block is parsed from memory, at once. Arrow's own reader of a stream reads ahead in a thread, which may still call the
Python file when the interpreter ends; that aborts the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from simulator.logs.contexts import LogError
from simulator.logs.loaders.csv_text import ABOVE, LINE, NUMBER, Form
from simulator.logs.storage import BOM, opened

BLOCK = 1 << 24  # bytes: of some 100,000 rows
HEAD = 1024  # bytes that what stands above the names is looked for in
ENDS = re.compile(LINE.pattern.encode())
ROW = re.compile(r"Row #(\d+): ")  # of a block, from 1, the names counted
SAME_ROW = b"\0"  # stands for a line end within quotes where lines are counted


class Blocks:
    """The blocks of a file; whoever parses one adds its rows to `rows`.

    Args:
        path: the file, compressed or not.
        form: how it is written.
        size: bytes of a block, and the most of a row; None: the whole file is one.
    """

    def __init__(self, path: Path, form: Form, size: int | None = BLOCK) -> None:
        self.path, self.form, self.size = path, form, size
        self.rows = -1 if form.header else 0  # before the block; the names are its first one
        self.lines = form.above  # before the block
        self.data = b""
        self.separator = form.separator.encode()
        opens = b'"(?<=[%b\r\n]")' % re.escape(self.separator) + b'|"(?<=\\A")'
        self.quoted = re.compile(b"(?:%b)" % opens + b'(?:[^"]++|"")*+("?)')

    @property
    def names(self) -> int:
        """How many rows of names the block begins with."""
        return int(self.rows < 0)

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of whole rows.

        Raises:
            LogError: a quote is left open, or what it encloses looks like rows; or a row is longer than a block.
        """
        with opened(self.path) as file:
            data, final = self._begin(file), False
            while not final:
                more = file.read(self.size or -1)
                final, data = not more or self.size is None, data + more
                self.data = data
                end = self._whole(data, final)
                if self.size and end == 0 and len(data) > self.size:
                    raise LogError(f"{self._at(0)}: expected a row of less than {self.size:,} bytes, got a longer one")
                self.data, data = data[:end], data[end:]
                if self.data.strip(b"\r\n"):
                    yield self.data
                self.lines += _lines(self.data)

    def _begin(self, file: IO[bytes]) -> bytes:
        """The first bytes, without what stands above the names."""
        data = file.read(max(self.size or 0, HEAD)).removeprefix(BOM)
        found = ABOVE.match(data.decode("latin-1"))
        return data[found.end() :] if found else data

    def _whole(self, data: bytes, final: bool) -> int:
        """Where the last whole row ends."""
        rows = self._rows_of_many_lines(data) if b'"' in data else [0]
        begin = rows.pop()
        for row, end in zip(rows[::2], rows[1::2], strict=True):
            self._scan(data, row, end, final=True)
        end = self._scan(data, begin, len(data), final)
        return len(data) if final else end

    def _rows_of_many_lines(self, data: bytes) -> list[int]:
        """Begin and end of each row with line ends and separators within quotes; begin of the last, which may go on.

        All at once where no quote stands within a text, but doubled ones; else the data are one row.
        """
        b = np.frombuffer(data, np.uint8)
        quote = b == ord('"')
        within = np.bitwise_xor.accumulate(quote)
        beside = quote | (b == ord("\n")) | (b == ord("\r")) | (b == self.separator[0])
        if ((quote & within)[1:] & ~beside[:-1]).any() or ((quote & ~within)[:-1] & ~beside[1:]).any():
            return [0]
        ends = np.flatnonzero((b == ord("\n")) & ~within)
        if not len(ends):
            ends = np.flatnonzero((b[:-1] == ord("\r")) & ~within[:-1])
        begins = np.concatenate([[0], ends + 1])
        inner = ((b == ord("\n")) | (b == ord("\r"))) & within, (b == self.separator[0]) & within
        lines, cells = np.zeros((2, len(begins)), bool)  # whether a row has some
        for has, each in zip((lines, cells), inner, strict=True):
            has[np.searchsorted(ends, np.flatnonzero(each))] = True
        rows = np.flatnonzero((lines & cells)[:-1])
        found: list[int] = np.column_stack([begins[rows], ends[rows] + 1]).ravel().tolist()
        return [*found, int(begins[-1])]

    def _scan(self, data: bytes, begin: int, stop: int, final: bool) -> int:
        """Look at the quotes from a row's begin on, and tell where the last whole row ends."""
        end = at = begin  # of the last row; of the last text between quotes
        for found in self.quoted.finditer(data, begin, stop):
            end = _row_end(data, at, found.start(), end)
            at = found.end()
            unclosed = not found[1] or (at == stop and not final)  # another quote may follow
            if unclosed and (final or at - found.start() > (self.size or at)):
                raise LogError(
                    f"{self._at(found.start())}: a quote opens here and is left open (in a text it is doubled)"
                )
            if unclosed:
                return end
            if ENDS.search(text := found[0]):
                self._check(data, end, found.start(), text, data[at : at + 1])
        return _row_end(data, at, stop, end)

    def _check(self, data: bytes, row: int, start: int, text: bytes, after: bytes) -> None:
        """Refuse a text between quotes that has taken in rows: which begin in `row`, and `after` which stands what."""
        _, *inner, last = ENDS.split(text[1:-1])
        place = self.quoted.sub(b"", data[row:start]).count(self.separator)
        alike = [self._is_row(line) for line in inner]
        numbered = any(alike) if self.form.numbers else len(alike) > 1 and all(alike)
        if numbered or self._begins_row(last, place) or after not in (b"", b"\r", b"\n", self.separator):
            line = self.lines + _lines(data[:start]) + len(inner) + 2
            what = f"a quote opens here and is closed in line {line}, and what is between looks like rows"
            raise LogError(f"{self._at(start)}: {what}: is it left open? A quote inside a quoted text is written twice")

    def _is_row(self, line: bytes) -> bool:
        cells = line.split(self.separator)
        return len(cells) == len(self.form.names) and (not self.form.numbers or self._numbers(cells))

    def _begins_row(self, line: bytes, place: int) -> bool:
        """Whether the last line of a text looks like a row up to the column that the text is of."""
        cells = line.split(self.separator)
        return len(cells) == place + 1 and self._numbers(cells[:-1])

    def _numbers(self, cells: Sequence[bytes]) -> bool:
        """Whether cells are numbers where the first rows have some, and one at least is."""
        found = [cells[k].strip(b' \t"').decode("utf-8", "replace") for k in self.form.numbers if k < len(cells)]
        return any(found) and all(NUMBER.fullmatch(cell) for cell in found if cell)

    def _at(self, byte: int) -> str:
        """Where a byte of the block stands, of a row that begins before it."""
        begun = self._one_a_line(self.data[: byte + 1])
        return f"{self.path.name}, {self.at(sum(map(bool, ENDS.split(begun))))}"

    def at(self, row: int) -> str:
        """Where a row of the block stands, counted from 1 with the names if they are in it: in words."""
        pieces = ENDS.split(self._one_a_line(self.data))
        line, count = self.lines, 0
        for piece in pieces:
            line, count = line + 1, count + bool(piece)
            if count == row:
                break
            line += piece.count(SAME_ROW)
        number = self.rows + row
        return f"row {number} (line {line})" if number else f"the names (line {line})"

    def _one_a_line(self, data: bytes) -> bytes:
        """The data with a line for each row."""
        return self.quoted.sub(lambda found: ENDS.sub(SAME_ROW, found[0]), data)


def _lines(data: bytes) -> int:
    return data.count(b"\n") or data.count(b"\r")


def _row_end(data: bytes, low: int, high: int, before: int) -> int:
    """Where the last line between two bytes ends, where one does; else `before`."""
    found = data.rfind(b"\n", low, high)
    if found < 0:  # \r at the very end may be half of \r\n
        found = data.rfind(b"\r", low, high - (high == len(data)))
    return found + 1 if found >= 0 else before


def parsed(
    data: bytes,
    form: Form,
    names: int,
    *,
    columns: Sequence[str] = (),
    types: Mapping[str, pa.DataType] | None = None,
    missing: Sequence[str] | None = None,
) -> pa.RecordBatch:
    """Rows of a CSV file.

    Args:
        data: whole rows.
        form: how they are written.
        names: how many rows of names come first.
        columns: those that are wanted; none: all.
        types: of columns; others are found out.
        missing: texts that stand for nothing; None: Arrow's own, and of texts none.

    Raises:
        pa.ArrowInvalid: a row has more or fewer columns, or a value is not of its column's type.
    """
    texts = {} if missing is None else {
        "strings_can_be_null": True, "quoted_strings_can_be_null": True, "null_values": list(missing),
    }  # fmt: skip
    convert = csv.ConvertOptions(
        column_types=dict(types or {}), include_columns=list(columns), decimal_point=form.decimal, **texts
    )
    reading = csv.ReadOptions(
        use_threads=False, block_size=len(data) + 1, column_names=form.names, skip_rows_after_names=names
    )
    parsing = csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
    table = csv.read_csv(pa.BufferReader(data), reading, parsing, convert).combine_chunks()
    return table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], schema=table.schema)


def whole(
    path: Path, form: Form, *, columns: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None
) -> pa.RecordBatch:
    """All rows of a file; of its texts none is missing.

    Raises:
        LogError: a quote is left open, or a row has too few or too many columns; says where.
    """
    blocks = Blocks(path, form, None)
    data = b"".join(blocks)
    try:
        return parsed(data, form, int(form.header), columns=columns, types=types)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path.name}{fault(str(error), blocks)}") from None


def fault(message: str, blocks: Blocks) -> str:
    """Arrow's words for a row of the block that is read, with its place."""
    words = message.removeprefix("CSV parse error: ")
    found = ROW.match(words)
    return f", {blocks.at(int(found[1]))}: {words[found.end() :]}" if found else f": {words}"
