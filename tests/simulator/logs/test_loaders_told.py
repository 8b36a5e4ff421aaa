"""What looks odd in a log of any format is told of: names that look alike, unknown fields, rows out of order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulator_cli import run

from simulator.cli.common import counted
from simulator.logs.contexts import LogError
from simulator.logs.convert import convert
from simulator.logs.loaders import load, stream

ALIKE = "arms whose names differ only in case, blanks or how a letter is put together: "


def row(arm: str = "x", **more: Any) -> dict[str, Any]:
    """A row of JSON lines."""
    return {"shown": [{"arm": arm, "propensity": 0.5}], "reward": 1, "context": {"age": 41}, **more}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """Rows in a file."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


LOOK = {
    "a ": "'a' and 'a '", "a\u00a0": "'a' and 'a\\xa0'", "A": "'A' and 'a'", "a\u200b": "'a' and 'a\\u200b'",
    "\uff41": "'a' and '\\uff41'",
}  # fmt: skip


@pytest.mark.parametrize("other", LOOK)
@pytest.mark.parametrize("format_", ["table", "csv"])
def test_arms_whose_names_look_alike_are_told_of(tmp_path: Path, other: str, format_: str) -> None:
    """As they are written, so that the difference is seen; they stay two arms."""
    path, roles = tmp_path / "log", {"arm": "arm", "reward": "reward", "propensity": 0.5}
    if format_ == "csv":
        path.write_text(f"arm,reward\na,1\n{other},0\nb,1\n")
    else:
        write(path, row("a"), row(other), row("b"))
    log = load(path, format_, **(roles if format_ == "csv" else {}))
    assert (log.cleaning[ALIKE + LOOK[other]], log.K) == (2, 3)


def test_a_letter_put_together_in_two_ways_is_told_of(tmp_path: Path) -> None:
    """Both look the same, so both are spelled out; different names are not told of."""
    path = write(tmp_path / "log", row("Gr\u00f6\u00dfe"), row("Gro\u0308\u00dfe"), row("Grosse"), row("Große 2"))
    told = [what for what in load(path, "table").cleaning if what.startswith(ALIKE)]
    assert told == [ALIKE + r"'Gro\u0308\xdfe' and 'Größe'"]
    convert(path, "table", "parquet", tmp_path / "log.parquet")
    assert load(tmp_path / "log.parquet", "table").cleaning[told[0]] == 2  # and not twice as many


def test_a_field_that_is_nearly_the_context_is_refused(tmp_path: Path) -> None:
    """With its line: rows without their context are another log."""
    rows = [row(), {**{name: each for name, each in row().items() if name != "context"}, "contxt": {"age": 3}}]
    with pytest.raises(
        LogError, match=r"log, line 2: expected columns of the table, got 'contxt'; did you mean 'context'"
    ):
        load(write(tmp_path / "log", *rows), "table")


def test_fields_that_are_no_columns_are_counted(tmp_path: Path) -> None:
    """With what may have been meant; of a table with a header too."""
    rows = [row(weigth=2, page="x"), row(page="y"), row()]
    told = "lines with an unknown field, which was ignored: "
    expected = {f"{told}'weigth'; did you mean 'weight'?": 1, f"{told}'page'": 2}
    path = write(tmp_path / "log", *rows)
    for each in (path, write(tmp_path / "headed", {"bandit-log": {"arms": ["x"]}}, *rows, {"cleaning": {}, "rows": 3})):
        cleaning = load(each, "table").cleaning
        assert {what: count for what, count in cleaning.items() if what.startswith(told)} == expected


def test_every_row_that_changes_its_place_is_counted(tmp_path: Path) -> None:
    """Of days, the newest first, what was told were steps back; every row moves but those of a middle day."""
    for days, moved in ((30, 300), (31, 300), (1, 0)):
        times = [f"2026-01-{days - k // 10:02}T00:00:00Z" for k in range(10 * days)]
        path = write(tmp_path / "log", *(row(time=time) for time in times))
        log = load(path, "table")
        assert log.cleaning.get("rows put in the order of their times", 0) == moved
        assert log.time_ms is not None
        assert (np.diff(log.time_ms) >= 0).all()
        *_, last = stream(path, "table")
        assert last.cleaning.get("rows put in the order of their times", 0) == moved


def test_one_of_something_is_singular(tmp_path: Path) -> None:
    """In what the commands say."""
    assert counted(1, "rows dropped: no reward") == "1 row dropped: no reward"
    assert counted(1234, "rows dropped: no reward") == "1,234 rows dropped: no reward"
    assert (
        counted(1, "columns of context that sound like times: ts") == "1 column of context that sounds like times: ts"
    )
    assert counted(1, "categories cut to their 50 most frequent values").startswith("1 category ")
    assert counted(1, "deferred and never activated") == "1 deferred and never activated"
    path = tmp_path / "log.csv"
    path.write_text("arm,reward,age,ts\n" + "a,1,20,5\nb,0,30,7\n" * 20)
    roles = ("--format", "csv", "--arm", "arm", "--reward", "reward", "--propensity", "0.5", "--context", "ts")
    err = run("evaluate", path, *roles, "--target", "uniform")[2]
    assert "1 column of context: ts" in err.splitlines()
    assert "1 column of context that sounds like times: ts; --time puts rows in order" in err.splitlines()
    assert not [line for line in err.splitlines() if line.startswith(("1 columns", "1 rows", "1 files"))]
