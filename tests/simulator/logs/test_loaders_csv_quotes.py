"""Quotes in a CSV that are left open take no row with them, and nothing of a reader outlives an error."""

import csv
import gzip
import io
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.logs.contexts import LogError
from simulator.logs.loaders import load
from simulator.logs.loaders.csv_blocks import Blocks, parsed
from simulator.logs.loaders.csv_text import form_of
from simulator.logs.log import Log

COLUMNS = {"arm": "arm", "reward": "click", "propensity": "p"}
PLAIN = [f"{'ab'[k % 2]},{k % 3 % 2},0.5,x" for k in range(500)]


def read(folder: Path, rows: list[str], head: str = "arm,click,p,txt", **options: Any) -> Log:
    """A log of these rows."""
    path = folder / "log.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return load(path, "csv", **{**COLUMNS, **options})


@pytest.fixture(params=[200, 1 << 24])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of a few rows, or of all."""
    monkeypatch.setattr("simulator.logs.loaders.csv_source.BLOCK", request.param)
    return int(request.param)


def test_a_quote_that_is_never_closed_is_an_error_with_its_row(tmp_path: Path, size: int) -> None:
    """Row 200 of 500: those after it were gone without a word. In the last row nothing is lost, but it is a fault."""
    for number in (200, 500):
        rows = [*PLAIN[: number - 1], 'b,0,0.5,"open', *PLAIN[number:]]
        with pytest.raises(LogError, match=rf"log.csv, row {number} \(line {number + 1}\): a quote opens .* left open"):
            read(tmp_path, rows)


@pytest.mark.parametrize("closing", ['b,0,0.5,x"', 'b,0,0.5,"x"', 'b,0,0.5,a "nice" text'])
@pytest.mark.parametrize("last", [201, 210, 350])
def test_a_quote_that_another_row_closes_is_an_error_with_its_row(
    tmp_path: Path, size: int, closing: str, last: int
) -> None:
    """Opened in row 200, closed in a later one: what is between looks like rows, or what comes after is no end."""
    rows = [*PLAIN[:199], 'a,0,0.5,"20 inch', *PLAIN[200 : last - 1], closing, *PLAIN[last:]]
    with pytest.raises(LogError, match=r"log.csv, row 200 \(line 201\): a quote opens here and is "):
        read(tmp_path, rows)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_rows_are_known_wherever_the_text_stands(tmp_path: Path, place: int) -> None:
    """First, in the middle, last; by their numbers, whatever other texts there are."""
    names, cells = ["arm", "click", "p"], ["a", "0", "0.5"]
    lines = [",".join([*cells[:place], text, *cells[place:]]) for text in ['"20 inch', "x", "y", 'x"']]
    head = ",".join([*names[:place], "txt", *names[place:]])
    with pytest.raises(LogError, match=r"row 2 \(line 3\): a quote opens here"):
        read(tmp_path, [lines[1], *lines], head=head)


TEXTS = [
    'one\ntwo', 'one, two\nthree, four, five\n\n6, 7', '""quoted""\n""', ',,,\n,,,', '\r\n\r\n',
    'a, b, c, d\ne, f, g, h', 'x\r,y',
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_line_breaks_within_quotes_are_part_of_a_text(tmp_path: Path, size: int, text: str) -> None:
    """With commas and quotes in them too: every row is there."""
    log = read(tmp_path, [f'{row[:-1]}"{text}"' for row in PLAIN])
    assert (len(log), log.reward.sum()) == (500, sum(k % 3 % 2 for k in range(500)))
    first = read(tmp_path, [f'"{text}",{row[:-2]}' for row in PLAIN], head="txt,arm,click,p")
    assert len(first) == 500


def test_quotes_within_a_text_that_has_none_around_it_are_letters(tmp_path: Path, size: int) -> None:
    """As in 20"; two rows of them are two rows."""
    log = read(tmp_path, ['a,1,0.5,20"', 'b,0,0.5,5" x 3"', 'b,0,0.5,"20"""'] * 20)
    assert {column for column in log.columns if '"' in column} == {'txt=20"', 'txt=5" x 3"'}
    assert len(log) == 60


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [64, 100, 1000])
def test_blocks_are_whole_rows_and_nothing_is_lost(tmp_path: Path, end: str, size: int) -> None:
    """Joined they are the file, each ends where a row does, and they know where their rows stand."""
    path = tmp_path / "log.csv.gz"
    text = end.join(["arm,click,p,txt", *[f'a,{k},0.5,"{k}{end}{k}"' for k in range(100)], ""])
    path.write_bytes(gzip.compress(("\ufeffsep=,\n" + text).encode()))
    blocks, whole, row = Blocks(path, form_of(path), size), b"", 0
    for data in blocks:
        whole += data
        count = data.count(b',0.5,"')
        if count:
            assert f"a,{row}," in data.decode()
            assert blocks.at(blocks.names + 1) == f"row {row + 1} (line {3 + 2 * row})"
        row += count
        blocks.rows += count + blocks.names
    assert whole.decode() == text
    assert row == 100


def test_the_quotes_of_open_bandits_files_are_looked_at_too(tmp_path: Path) -> None:
    """Of its items as of its log."""
    items, log = tmp_path / "item_context.csv", tmp_path / "men.csv"
    items.write_text('item_id,f\n0,"x\n1,y\n')
    log.write_text("timestamp,item_id,position,click,propensity_score,user_feature_0\n2019-11-24,0,1,0,0.5,a\n")
    with pytest.raises(LogError, match=r"item_context.csv, row 1 \(line 2\): a quote opens here"):
        load(tmp_path, "open-bandit")


TEXT = st.lists(st.sampled_from(["a", ",", ";", '"', "\n", "\r\n", " "]), max_size=6).map("".join)


@given(
    rows=st.lists(st.tuples(*[TEXT] * 3), min_size=1, max_size=30),
    all_=st.booleans(), end=st.sampled_from(["\n", "\r\n"]), size=st.integers(40, 300),
)  # fmt: skip
def test_what_another_program_writes_is_read_as_it_was(
    rows: list[tuple[str, ...]], all_: bool, end: str, size: int
) -> None:
    """Texts of marks and line ends, quoted where they must be or all, in blocks of any size: the same cells."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL if all_ else csv.QUOTE_MINIMAL, lineterminator=end)
            writer.writerows([("w", "x", "y", "z"), *(("-", *row) for row in rows)])
        form, found = form_of(path, ","), list[tuple[str, ...]]()
        blocks = Blocks(path, form, size)
        for data in blocks:
            batch = parsed(data, form, blocks.names, types=dict.fromkeys(form.names, pa.string()))
            found += zip(*(column.to_pylist() for column in batch.columns), strict=True)
            blocks.rows += len(batch) + blocks.names
    assert found == [("-", *row) for row in rows]
    assert blocks.rows == len(rows)


class Watched(io.BufferedReader):
    """A file that knows which threads read it."""

    threads: ClassVar[set[int]] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        self.threads.add(threading.get_ident())
        return super().read(size)


@pytest.mark.parametrize("row", ["a,1,0.5,x", "a,yes,0.5,x", "a,1,0.5,x,y", "a,1,0.5,\xff", 'a,1,0.5,"x'])
@pytest.mark.parametrize("format_", ["csv", "open-bandit"])
def test_a_file_is_read_by_nobody_but_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, format_: str
) -> None:
    """A reader's own thread outlives an error, and calls the file while the interpreter ends: that aborted it."""
    path = tmp_path / "log.csv"
    path.write_bytes(("arm,click,p,txt\n" + "a,1,0.5,x\n" * 50_000 + f"{row}\n").encode("latin-1"))
    (tmp_path / "item_context.csv").write_text("item_id,f\n0,x\n")
    monkeypatch.setattr(Path, "open", lambda self, *_: Watched(io.FileIO(self)))
    Watched.threads.clear()
    with suppress(LogError):
        load(path if format_ == "csv" else tmp_path, format_, **(COLUMNS if format_ == "csv" else {}))
    assert Watched.threads == {threading.get_ident()}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_empty_lines_are_no_rows_however_many(tmp_path: Path, size: int, end: str) -> None:
    """More of them than a block has bytes, at the end and between rows."""
    path = tmp_path / "log.csv"
    path.write_bytes(f"arm,click,p{end}a,1,0.5{end * 1500}b,0,0.5{end * 1500}".encode())
    assert load(path, "csv", **COLUMNS).reward.tolist() == [1, 0]
    path.write_bytes(f"arm,click,p{end}a,1,0.5{end * 1500}b,0,x{end}".encode())
    with pytest.raises(LogError, match=r"row 2 \(line 1502\)"):
        load(path, "csv", **COLUMNS)
