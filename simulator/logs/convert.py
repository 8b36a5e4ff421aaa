"""Any log as the documented table, or as dsjson: read and written piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.logs.cleaning import Rules
from simulator.logs.contexts import LogError
from simulator.logs.loaders import open_table
from simulator.logs.loaders.dsjson import Writer
from simulator.logs.storage import write_jsonl, write_parquet, writing
from simulator.logs.table import Table

TARGETS = ("parquet", "jsonl", "dsjson")


@dataclass(frozen=True)
class Converted:
    """How many rows were written, and what was done to how many others."""

    rows: int
    cleaning: Mapping[str, int]


def convert(
    log_path: Path | str | None,
    format: str,  # noqa: A002 - the option's name
    to: str,
    output: Path,
    *,
    rules: Rules | None = None,
    **options: Any,
) -> Converted:
    """Write a log in another form; JSON is compressed where the output's name ends in .gz.

    Args:
        log_path: the log, as in `loaders.load`.
        format: its format.
        to: `parquet`, `jsonl` or `dsjson`.
        output: the file, which is complete or not there at all.
        rules: of cleaning, as in `loaders.load`.
        options: of the format.

    Raises:
        LogError: the log cannot be read, or the target cannot hold it.
    """
    if to not in TARGETS:
        raise LogError(f"to: expected one of {list(TARGETS)}, got {to!r}")
    table = open_table(log_path, format, rules=rules, **options)
    write = {"parquet": write_parquet, "jsonl": write_jsonl, "dsjson": _write_dsjson}[to]
    rows = write(table, output)
    return Converted(rows, dict(+table.cleaning))


def _write_dsjson(table: Table, output: Path) -> int:
    writer = Writer(table.header)
    with writing(output) as write:
        for batch in table.batches:
            for line in writer.lines(batch):
                write(line)
    return writer.written
