"""The columns of an archive's files: the entry as the log had it, and beside it what an export says of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bandit.archive.files import ABOUT, About
from bandit.log.records import Entry
from bandit.replica.export import Rows

SCHEMA = pa.schema(
    [
        pa.field("position_ms", pa.int64(), nullable=False),
        pa.field("position_seq", pa.int64(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("record", pa.binary(), nullable=False),  # these four are the entry itself; the rest is read from them
        ("type", pa.string()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("generation", pa.int64()),
        ("version", pa.int64()),
        ("decision_id", pa.string()),
        ("arm", pa.string()),  # of a list the first
        ("propensity", pa.float64()),
        ("slice", pa.string()),
        ("user", pa.string()),
        ("event", pa.string()),
        ("event_id", pa.string()),
        ("value", pa.float64()),
        ("credited", pa.float64()),
        ("row", pa.string()),  # JSON, as `bandit-server export` writes it
    ]
)
TOLD = 16 << 20  # bytes of lists of arms that are kept as JSON
DICTIONARY = ["tag", "type", "arm", "slice", "event"]  # columns of few values


class Writer:
    """Writes one file: under a name of its own until it is whole."""

    def __init__(self, part: Path, rows: Rows) -> None:
        self.part, self._rows = part, rows
        self._told: dict[int, tuple[Any, msgspec.Raw]] = {}  # lists of eligible arms as JSON, by their identity
        self._size = 0  # bytes of these
        self._file = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._writer = pq.ParquetWriter(
            self._file, SCHEMA, compression="zstd", use_dictionary=DICTIONARY, write_page_checksum=True
        )

    def write(self, entries: Sequence[Entry]) -> None:
        """Write some entries."""
        rows = self._rows.rows(entries)  # one at a time: thousands of them, each with all arms, are much memory
        cells = [_cells(entry, row, self._json(row)) for entry, row in zip(entries, rows, strict=True)]
        columns = zip(*cells, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))

    def _json(self, row: dict[str, Any]) -> str:
        """A row as `export` writes it; a list of arms that many rows share is written once."""
        if (eligible := row.get("eligible")) is not None:
            if id(eligible) not in self._told:
                if self._size > TOLD:
                    self._told, self._size = {}, 0
                text = msgspec.json.encode(eligible)
                self._size += len(text)
                self._told[id(eligible)] = eligible, msgspec.Raw(text)
            row = {**row, "eligible": self._told[id(eligible)][1]}
        return msgspec.json.encode(row).decode()

    def close(self, about: About) -> None:
        """End the file; it is on the disk then."""
        self._writer.add_key_value_metadata({ABOUT: msgspec.json.encode(about)})
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Take away what was written."""
        self._file.close()
        self.part.unlink(missing_ok=True)


def _cells(entry: Entry, row: dict[str, Any], shown_as: str) -> tuple[Any, ...]:
    """The values of an entry's columns."""
    shown = row["arms"][0] if row.get("arms") else {"arm": row.get("arm")}
    number = row.get("slice")
    return (
        *entry.position,
        entry.tag.decode(),
        entry.record,
        row["type"],
        entry.position.ms,
        row["generation"],
        row.get("version", row.get("experiment_version")),
        row.get("decision_id"),
        shown["arm"],
        shown.get("propensity"),
        None if number is None else row.get("slice_name", str(number)),
        row.get("user"),
        row.get("event"),
        row.get("event_id"),
        row.get("value"),
        row.get("credited"),
        shown_as,
    )
