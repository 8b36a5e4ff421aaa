"""Tables as environments are read as logs are: separators, marks and quotes."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from simulator_cli import run

from simulator.environments.tables import ratings, read
from simulator.logs.contexts import LogError

PLAIN = "age,size,kind\n" + "".join(f"{20 + k},{k / 8},{'good' if k % 3 else 'bad'}\n" for k in range(12))
GERMAN = PLAIN.replace(",", ";").replace(".", ",")


@pytest.mark.parametrize("above", ["", "\ufeff", "sep=;\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_spreadsheets_table_is_read(tmp_path: Path, above: str, packed: bool) -> None:
    """With `;` and decimal commas it is the table that it is with `,` and points, to the last bit."""
    path, other = tmp_path / "plain.csv", tmp_path / "german.csv"
    path.write_text(PLAIN)
    data = (above + GERMAN).encode()
    other.write_bytes(gzip.compress(data) if packed else data)
    one, two = read(path, label="kind"), read(other, label="kind")
    assert one.document["features"] == two.document["features"]
    assert [each["type"] for each in two.document["features"]] == ["number", "number"]
    assert np.array_equal(one.x, two.x)
    assert np.array_equal(one.mean, two.mean)
    assert run("run", "--table", other, "--label", "kind", "--policy", "uniform", "--rounds", "50", "--json")[0] == 0


def test_a_table_without_names_has_its_separator_found_in_its_first_row(tmp_path: Path) -> None:
    """Where a decimal comma is none."""
    path = tmp_path / "german.csv"
    path.write_text(GERMAN.partition("\n")[2])
    environment = read(path, label="f2", header=False)
    assert [each["name"] for each in environment.document["features"]] == ["f0", "f1"]
    path.write_text("1,2,a\n3,4,b\n")
    assert [each["name"] for each in read(path, label="f2", header=False).document["features"]] == ["f0", "f1"]


def test_ratings_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    """By hand: of 4,5 stars at most 2,25 are one half."""
    path = tmp_path / "ratings.csv"
    path.write_text("u;i;r\nann;a;4,5\nbob;a;2,25\nann;b;4,5\n")
    assert ratings(path, user="u", item="i", rating="r", arms=1, features=1).mean.ravel().tolist() == [1, 0.5]


def test_marks_that_may_be_of_thousands_are_asked_about(tmp_path: Path) -> None:
    """Of features and of rewards; the option reads them."""
    path = tmp_path / "log.csv"
    path.write_text("age;reward_a;reward_b\n30;1.234;7\n40;999;1.000\n")
    with pytest.raises(LogError, match=r"log.csv, column 'reward_a': cannot tell whether 1.234 is .*--decimal ,"):
        read(path)
    assert read(path, decimal=",").mean.tolist() == [[1234, 7], [999, 1000]]
    assert read(path, decimal=".").mean.tolist() == [[1.234, 7], [999, 1]]
    code, out, err = run("run", "--table", path, "--policy", "uniform", "--rounds", "50", "--decimal", ",", "--json")
    assert (code, bool(out)) == (0, True), err


def test_a_quote_that_is_left_open_takes_no_row_of_a_table(tmp_path: Path) -> None:
    """It is an error with its row; and so is a reward that is missing, with rows counted from 1."""
    path = tmp_path / "log.csv"
    lines = PLAIN.splitlines()
    path.write_text("\n".join([*lines[:4], '22,0.5,"good', *lines[5:], ""]))
    with pytest.raises(LogError, match=r"log.csv, row 4 \(line 5\): a quote opens here"):
        read(path, label="kind")
    path.write_text("age,reward_a,reward_b\n30,1,0\n40,1,\n")
    with pytest.raises(ValueError, match="every arm's reward must be known; row 2 lacks one"):
        read(path)
