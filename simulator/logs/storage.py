"""Tables in files: Parquet or JSON lines. The header stands first; what was done to the rows stands at the end.

Parquet      the header is JSON under `bandit-log` of the schema's metadata, the counts under `bandit-log-cleaning`
JSON lines   {"bandit-log": header}, then a row a line, then {"cleaning": counts, "rows": number of rows}
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bandit.errors import nearest
from simulator.logs.contexts import LogError
from simulator.logs.table import PIECE, ROWS, VERSION, Header, Row, Table, batch_of, rows_of

T = TypeVar("T")
KEY, CLEANING = b"bandit-log", b"bandit-log-cleaning"
LAST = b'{"cleaning":'
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
BOM = b"\xef\xbb\xbf"  # that some programs write before UTF-8
CUT_SHORT = "files without their last line: perhaps cut short"


class _First(msgspec.Struct):
    header: msgspec.Raw = msgspec.field(name="bandit-log")


class _Last(msgspec.Struct):
    cleaning: dict[str, int]
    rows: int


class _Known(Row, forbid_unknown_fields=True):
    """A row of nothing but columns of the table."""


_KNOWN, _ROW = msgspec.json.Decoder(_Known), msgspec.json.Decoder(Row)
_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes and not by its name."""
    return starts(path, GZIP)


def starts(path: Path, magic: bytes) -> bool:
    """Whether a file begins with these bytes."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, decompressed where it is compressed.

    Raises:
        LogError: the compressed data are damaged or end early.
    """
    with cast("IO[bytes]", gzip.open(path) if is_gzip(path) else path.open("rb")) as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LogError(f"{path.name}: expected whole gzip data, got {error}") from None


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of each line that is not blank."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line := (line.removeprefix(BOM) if number == 1 else line).strip(b" \t\r\n"):
                yield number, line


def json_of(path: Path, number: int, line: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A line's value.

    Raises:
        LogError: it is not JSON, or not of this form; says in which line.
    """
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LogError(f"{path.name}, line {number}: {error}") from None


def read_table(path: Path) -> Table:
    """A table from its file.

    Args:
        path: Parquet or JSON lines, told apart by their first bytes.

    Raises:
        LogError: the file has no header, or that of a later version.
    """
    return _read_parquet(path) if starts(path, PARQUET) else _read_jsonl(path)


def _read_parquet(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        described, counted = file.schema_arrow.metadata or {}, file.metadata.metadata or {}
    if KEY not in described:
        raise LogError(f"{path.name}: expected a header under {KEY.decode()!r} in the metadata, got none")
    counts = msgspec.json.decode(counted.get(CLEANING, b"{}"), type=dict[str, int])
    return Table(_header(path, described[KEY]), _parquet_batches(path), Counter(counts))


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):  # over all groups at once, what has been read stays in memory
            yield from file.iter_batches(ROWS, row_groups=[group])


def _header(path: Path, data: bytes | msgspec.Raw) -> Header:
    try:
        header = msgspec.json.decode(data, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogError(f"{path.name}: expected a table's header, got another: {error}") from None
    if header.version > VERSION:
        raise LogError(f"{path.name}: expected a table of version {VERSION} or before, got {header.version}")
    return header


def has_header(path: Path) -> bool:
    """Whether a file of JSON lines begins with a header."""
    return next(lines(path), (0, b""))[1].lstrip().startswith(b'{"bandit-log"')


def _read_jsonl(path: Path) -> Table:
    if not has_header(path):
        raise LogError(f"{path.name}: expected Parquet, or a first line with the header 'bandit-log', got neither")
    number, line = next(lines(path))
    header = _header(path, json_of(path, number, line, msgspec.json.Decoder(_First)).header)
    cleaning: Counter[str] = Counter()
    found = (batch_of(header, piece) for piece in chunks(_rows(path, cleaning), PIECE))
    return Table(header, found, cleaning)


def _rows(path: Path, cleaning: Counter[str]) -> Iterator[Row]:
    """The rows between the header and the last line, whose counts are added."""
    for count, (number, line) in enumerate(islice(lines(path), 1, None)):
        if line.startswith(LAST):
            last = json_of(path, number, line, msgspec.json.Decoder(_Last))
            if last.rows != count:
                raise LogError(f"{path.name}, line {number}: expected {last.rows} rows before it, got {count}")
            cleaning.update(last.cleaning)
            return
        yield _row(path, number, line, cleaning)
    cleaning[CUT_SHORT] += 1


def plain_rows(path: Path, cleaning: Counter[str]) -> Iterator[Row]:
    """The rows of JSON lines without a header; counts fields that are no columns."""
    for number, line in lines(path):
        yield _row(path, number, line, cleaning)


def _row(path: Path, number: int, line: bytes, cleaning: Counter[str]) -> Row:
    """The row of a line.

    Raises:
        LogError: it is none, or has another field where its context should be.
    """
    try:
        return _KNOWN.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        row = json_of(path, number, line, _ROW)
    names = json_of(path, number, line, _NAMES)
    for name in names.keys() - set(Row.__struct_fields__):
        meant = nearest(name, Row.__struct_fields__)
        if "'context'" in meant and "context" not in names:
            raise LogError(f"{path.name}, line {number}: expected columns of the table, got {name!r}{meant}")
        cleaning[f"lines with an unknown field, which was ignored: {name!r}{meant}"] += 1
    return row


def write_parquet(table: Table, path: Path) -> int:
    """Write a table as Parquet, in row groups of about `ROWS`; returns how many rows."""
    metadata, count = {KEY: msgspec.json.encode(table.header)}, 0
    schema = table.header.schema().with_metadata(metadata)
    with _replaced(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for group in _groups(table.batches):
            writer.write_table(pa.Table.from_batches(group).cast(schema))
            count += sum(map(len, group))
        counts = msgspec.json.encode(+table.cleaning).decode()
        writer.add_key_value_metadata({CLEANING.decode(): counts})
    return count


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches that have `ROWS` rows together, but for the last ones."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= ROWS:
            yield group
            group = []
    if group:
        yield group


def write_jsonl(table: Table, path: Path) -> int:
    """Write a table as JSON lines, compressed where the name ends in .gz; returns how many rows."""
    encode, count = msgspec.json.Encoder().encode, 0
    with writing(path) as write:
        write(encode({"bandit-log": table.header}))
        for batch in table.batches:
            for row in rows_of(batch):
                write(encode(row))
            count += len(batch)
        write(encode({"cleaning": +table.cleaning, "rows": count}))
    return count


@contextmanager
def writing(path: Path) -> Iterator[Callable[[bytes], Any]]:
    """A function that writes a line to a file, compressed where the name ends in .gz; complete, or not there at all."""
    with _replaced(path) as part, cast("IO[bytes]", (gzip.open if path.suffix == ".gz" else open)(part, "wb")) as file:
        yield lambda line: file.write(line + b"\n")


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A path beside this one that takes its place at the end, and is gone where there was an error.

    A device or a pipe is no file to be replaced: it is written to itself.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def whole(batches: Iterable[pa.RecordBatch], header: Header) -> pa.RecordBatch:
    """All batches as one."""
    joined = pa.Table.from_batches(batches, schema=header.schema()).combine_chunks().to_batches()
    return next(chain(joined, [pa.RecordBatch.from_pylist([], schema=header.schema())]))
