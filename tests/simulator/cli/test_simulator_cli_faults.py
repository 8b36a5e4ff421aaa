"""What cannot be done is told in one line: exit 2 where options do not go together, else 1, and nothing on stdout."""

import gzip
import json
import os
from pathlib import Path

import pytest
from simulator_cli import CSV, MEN, run, write_log

from simulator.studies.run import Results

SMALL = ("run", "--environment", "linear:arms=3", "--rounds", "20", "--workers", "1")
LOGS = [
    # missing, of another kind, damaged
    (("evaluate", "nowhere.jsonl"), 1, "expected a file"),
    (("evaluate", "log.csv", "--format", "csw"), 1, "did you mean 'csv'?"),
    (("evaluate", "log.csv", "--format", "open-bandit"), 1, "expected a folder"),
    (("evaluate", MEN, *CSV), 1, "expected a file"),
    (("evaluate", "log.csv", "--format", "table"), 1, "log.csv, line 1"),
    (("evaluate", "log.csv", "--format", "vw"), 1, "log.csv, line 1"),
    (("evaluate", "log.csv", "--format", "dsjson"), 1, "log.csv, line 1"),
    (("evaluate", "log.csv", "--format", "criteo"), 1, "log.csv, line 1"),
    (("evaluate", "log.csv"), 1, "for one of another kind give --format (csv, vw, ...)"),
    (("evaluate", "cut.csv.gz", *CSV), 1, "expected whole gzip data"),
    (("evaluate", "empty.csv", *CSV), 1, "a line of names, got none"),
    (("evaluate",), 1, "expected a log file, or --experiment NAME to read the store, got neither"),
    (("evaluate", "--experiment", "home", "--data-dir", "nowhere"), 1, "nowhere does not exist"),
    (("evaluate", "--experiment", "home", "--redis-url", "redis://127.0.0.1:1"), 1, "the store does not answer"),
    # columns and values
    (("evaluate", "log.csv", *CSV[:-2]), 2, "--format csv needs --propensity"),
    (("evaluate", "log.csv", *CSV[:5], "clack", *CSV[6:]), 1, "expected a column 'clack'"),
    (("evaluate", "log.csv", *CSV, "--context", "agee"), 1, "did you mean 'age'?"),
    (("evaluate", "log.csv", *CSV, "--arms", "a,b"), 1, "expected one of 2 arms"),
    (("evaluate", "log.csv", *CSV, "--weight", "town"), 1, "column 'town', row 1 (line 2)"),
    (("evaluate", "log.csv", *CSV, "--time", "town"), 1, "expected ISO 8601 or a number"),
    (("evaluate", "log.csv", *CSV, "--position", "age", "--first-position", "500"), 1, "a position from 500"),
    (("evaluate", "log.csv", *CSV[:-1], "0"), 1, "expected a propensity in (0, 1], got 0"),
    (("evaluate", "log.csv", *CSV[:-1], "1.5"), 1, "expected a propensity in (0, 1], got 1.5"),
    (("evaluate", "log.csv", *CSV, "--keep-rewards", "5", "6"), 1, "expected a reward in [5, 6]"),
    (("evaluate", "log.csv", *CSV, "--reward-range", "0.5", "1"), 1, "rewards must be in [0.5, 1.0]"),
    # options of another format
    (("evaluate", "log.csv", *CSV, "--kept", "0.5"), 2, "--format csv takes no --kept"),
    (("convert", "log.csv", *CSV, "--data-dir", "."), 2, "--format csv takes no --data-dir"),
    (("evaluate", "x.jsonl", "--user", "u"), 2, "--format server takes no --user"),
    (("evaluate", "x.jsonl", "--places", "last"), 2, "--places is each or first"),
    (("evaluate", "x.jsonl", "--weights", "click"), 1, "expected NAME=VALUE"),
    (("evaluate", "x.jsonl", "--weights", "click=much"), 2, "click has 'much'"),
    # targets and policies
    (("evaluate", "log.csv", *CSV, "--target", "fixed:z"), 1, "the log has no arm 'z'"),
    (("evaluate", "log.csv", *CSV, "--target", "linucbb"), 1, "did you mean 'linucb'?"),
    (("evaluate", "log.csv", *CSV, "--target", "linucb:beta=1"), 1, "unknown field"),
    (("evaluate", "log.csv", *CSV, "--target", "nowhere.csv"), 1, "nowhere.csv"),
    (("evaluate", "log.csv", *CSV, "--target", "log.csv"), 1, "expected columns arm and probability"),
    (("evaluate", "log.csv", *CSV, "--target", "half.csv"), 1, "row 0 sums to 0.5"),
    (("evaluate", "log.csv", *CSV, "--target", "word.csv"), 1, "word.csv, line 3: expected a number as probability"),
    (("evaluate", "log.csv", *CSV, "--target", "below.csv"), 1, "row 0 has -0.5"),
    (("evaluate", "log.csv", *CSV, "--target", "epsilon-greedy:explore=5"), 1, "from 0 to 1; got 5"),
    (("evaluate", "log.csv", *CSV, "--target", "linucb:refresh=0"), 1, "1 or more; got 0"),
    (("evaluate", "log.csv", *CSV, "--target", "als"), 2, "--target als needs --train"),
    (("evaluate", "log.csv", *CSV, "--target", "als", "--train", "0.5"), 1, "needs to know the user"),
    (("evaluate", "log.csv", *CSV, "--user", "town", "--train", "0.5", "--target", "als:x=1"), 1, "unknown ['x']"),
    (("evaluate", "log.csv", *CSV, "--user", "town", "--train", "0.5", "--target", "als:factors=0"), 1, "1 or more"),
    (("evaluate", "log.csv", *CSV, "--user", "town", "--train", "0.5", "--target", "als:factors=1.5"), 1, "a whole"),
    (("replay", "log.csv", *CSV, "--policy", "foo"), 1, "unknown 'foo'"),
    (("replay", "log.csv", *CSV, "--floor", "2"), 1, "floor is a propensity, from 0 to 1; got 2"),
    (("replay", "log.csv", *CSV, "--policy", "vw:bag=x"), 1, "x"),
    # names of what there is
    (("evaluate", "log.csv", *CSV, "--estimator", "foo"), 1, "unknown ['foo']"),
    (("evaluate", "log.csv", *CSV, "--q", "foo"), 1, "got 'foo'"),
    (("evaluate", "log.csv", *CSV, "--q-fit", "foo"), 1, "got 'foo'"),
    (("evaluate", "log.csv", *CSV, "--interval", "foo"), 1, "got 'foo'"),
    (("evaluate", "log.csv", *CSV, "--acceptance", "foo"), 1, "got 'foo'"),
    (("convert", "log.csv", *CSV, "--to", "xml"), 1, "got 'xml'"),
    (("select", "log.csv", *CSV, "--target", "uniform", "--target", "fixed:a", "--estimator", "foo"), 1, "['foo']"),
    (("report", "log.csv", *CSV, "--segment", "foo"), 1, "got 'foo'"),
    (("report", "log.csv", *CSV, "--curves", "x.jsonl"), 1, "x.jsonl, line 1"),
    # where nothing can be written
    (("report", "log.csv", *CSV, "-o", "."), 1, "name a file, not a folder"),
    (("report", "log.csv", *CSV, "-o", "log.csv/a.html"), 1, "name another, or take it away"),
    (("report", "log.csv", *CSV, "--figures", "log.csv"), 1, "name another, or take it away"),
    (("convert", "log.csv", *CSV, "-o", "nowhere/a"), 1, "is the path right, and its folder there?"),
    (("convert", "log.csv", *CSV, "-o", "nowhere/a", "--to", "jsonl"), 1, "is the path right, and its folder there?"),
    (("evaluate", "log.csv", *CSV, "--target", "nowhere/a.csv"), 1, "is the path right, and its folder there?"),
    # what does not go together
    (("replay", "log.csv", *CSV, "--doubly-robust", "--floor", "0.1"), 2, "--floor excludes --doubly-robust"),
    (("replay", "log.csv", *CSV, "--c-max", "0.1"), 2, "--c-max needs --doubly-robust"),
    (("compare", "log.csv", *CSV, "--target", "uniform"), 2, "needs two --target"),
    (("compare", "log.csv", *CSV, "--target", "a", "--target", "b", "--baseline", "c"), 2, "one of a, b; got 'c'"),
    (("select", "log.csv", *CSV, "--target", "uniform"), 2, "needs two --target"),
    (("sweep", "log.csv", *CSV, "--seeds", "3"), 2, "a sweep on a log takes no --seeds"),
    (("sweep", "log.csv", *CSV, "--environment", "linear"), 2, "a sweep on a log takes no --environment"),
    (("sweep", "log.csv", *CSV, "--refresh", "100ms"), 2, "a number of matches"),
    (("sweep", "log.csv", *CSV, "--grid", "alpha"), 2, "NAME=VALUE,VALUE"),
    (("sweep", "log.csv", *CSV, "--grid", "alpha=x,y"), 1, 'expected "auto" or a number'),
    (("sweep", "--environment", "linear", "--floor", "0.1"), 2, "a sweep in an environment takes no --floor"),
    (("sweep", "--environment", "linear", "--arm", "a"), 2, "a sweep in an environment takes no --arm"),
    (("sweep",), 2, "give either --table or --environment"),
]
ENVIRONMENTS = [
    (("run", "--table", "twice.csv", "--label", "p"), 1, "different names, got 'p' twice"),
    (("power", "--rate", "0.05", "--lift", "1e-9"), 1, "more than 1e+15 decisions"),
    (("run",), 2, "give either --table or --environment"),
    (("run", "--environment", "linear", "--table", "log.csv"), 2, "give either --table or --environment"),
    (("run", "--environment", "logistik"), 1, "did you mean 'logistic'?"),
    (("run", "--environment", "linear:armz=3"), 1, "unknown ['armz']"),
    (("run", "--environment", "linear:arms=x"), 1, "linear: arms: expected a whole number, got 'x'"),
    (("run", "--environment", "linear:link=cubic"), 1, "link: expected linear or logistic, got 'cubic'"),
    (("run", "--environment", "linear:turnover=1"), 1, "turnover: expected true or false, got 1"),
    (("run", "--environment", "linear:delay=long"), 1, "delay: expected a number, got 'long'"),
    (("run", "--environment", "linear:attention=1"), 1, "attention: expected a list of numbers, got 1"),
    (("run", "--environment", "linear:rounds=0"), 1, "1 or more"),
    (("run", "--environment", "msweb:arms=3"), 1, "msweb takes no options"),
    (("run", "--environment", "linear", "--bad", "p"), 2, "--environment takes no --bad"),
    (("run", "--table", "nowhere.csv", "--label", "arm"), 1, "nowhere.csv"),
    (("run", "--table", "cut.csv.gz", "--label", "arm"), 1, "ompressed"),
    (("run", "--table", "empty.csv", "--label", "arm"), 1, "a line of names, got none"),
    (
        ("run", "--table", "log.csv"),
        1,
        "expected --label COLUMN, or two columns or more that begin with 'reward_' (--rewards)",
    ),
    (("run", "--table", "log.csv", "--label", "foo"), 1, "missing ['foo']"),
    (("run", "--table", "log.csv", "--label", "arm", "--ignore", "foo"), 1, "missing ['foo']"),
    (("run", "--table", "log.csv", "--label", "arm", "--bad", "z"), 1, "no row has the label 'z'"),
    (("run", "--table", "log.csv", "--bad", "a"), 2, "--bad needs --label"),
    (("run", "--table", "log.csv", "--label", "arm", "--delimiter", "::"), 1, "delimiter: expected one character"),
    (("run", "--table", "log.csv", "--label", "arm", "--items", "3"), 2, "takes no --items"),
    (("run", "--table", "log.csv", "--user", "town"), 2, "a table of ratings needs --user and --item"),
    (("run", "--table", "log.csv", "--user", "town", "--item", "arm", "--no-header"), 2, "takes no --no-header"),
    (("run", "--table", "log.csv", "--user", "town", "--item", "arm", "--label", "p"), 2, "takes no --label"),
    (("run", "--table", "log.csv", "--user", "town", "--item", "foo"), 1, "missing ['foo']"),
    (("run", "--table", "log.csv", "--user", "town", "--item", "arm", "--rating", "click"), 1, "above 0; got 0"),
    ((*SMALL, "--policy", "foo"), 1, "unknown 'foo'"),
    ((*SMALL, "--policy", "linucb:alpha=x"), 1, '/policy/alpha: expected "auto" or a number'),
    ((*SMALL, "--policy", "nowhere.json"), 1, "nowhere.json"),
    ((*SMALL, "--refresh", "soon"), 1, "got 'soon'"),
    ((*SMALL, "--refresh", "0"), 1, "got 0"),
    ((*SMALL, "--baseline", "foo"), 2, "--baseline is one of linucb, uniform; got 'foo'"),
    ((*SMALL, "--cluster", "tcp://127.0.0.1:1"), 2, "give either --workers or --cluster"),
    (("power",), 2, "give --rate and --lift"),
    (("power", "--rate", "0.1"), 2, "give --rate and --lift"),
    (("power", "--rate", "0.9", "--lift", "0.5"), 1, "both rates must be in (0, 1)"),
    (("power", "--rate", "0.1", "--lift", "0"), 1, "a lift of 0 cannot be detected"),
    (("power", "--rate", "0.1", "--lift", "0.1", "--policy", "linucb"), 2, "--rate takes no --policy"),
    (("power", "--rate", "0.1", "--environment", "linear"), 2, "takes no --rate"),
    (("power", "--environment", "linear", "--policy", "linucb:foo=1"), 1, "unknown field"),
]
VALUES = [
    ("evaluate", "--alpha", "1"),
    ("evaluate", "--train", "1.5"),
    ("evaluate", "--clip", "-1"),
    ("evaluate", "--reward-range", "1", "0"),
    ("evaluate", "--keep-rewards", "1"),
    ("replay", "--quantile", "2"),
    ("run", "--rounds", "x"),
    ("run", "--seed", "-1"),
    ("run", "--workers", "0"),
    ("power", "--rate", "2"),
    ("power", "--foo", "2"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a log and what is no log."""
    monkeypatch.chdir(tmp_path)
    log = write_log(Path("log.csv"), n=60).read_bytes()
    Path("cut.csv.gz").write_bytes(gzip.compress(log)[:150])
    Path("empty.csv").write_text("")
    Path("half.csv").write_text("arm,probability\na,0.5\n")
    Path("word.csv").write_text("arm,probability\na,0.5\nb,half\n")
    Path("below.csv").write_text("arm,probability\na,1.5\nb,-0.5\n")
    Path("twice.csv").write_text("p,x,p\na,1,b\n")
    Path("x.jsonl").write_text("no JSON\n")


@pytest.mark.parametrize(("arguments", "code", "says"), LOGS + ENVIRONMENTS, ids=lambda each: None)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[str | Path, ...], code: int, says: str) -> None:
    """Nothing on stdout, no traceback, and what was expected."""
    done, out, err = run(*arguments, "--json")
    assert (done, out) == (code, "")
    *before, last = err.splitlines()
    assert last.startswith("bandit-simulator: ")
    assert says in last
    assert all(line.startswith("policies learned from the first") for line in before)  # said as soon as it is known


@pytest.mark.parametrize("arguments", VALUES, ids=" ".join)
def test_a_value_out_of_range_is_refused_with_the_options_name(arguments: tuple[str, ...]) -> None:
    """Exit 2, with a hint at --help, as of every command line."""
    done, out, err = run(*arguments)
    assert (done, out) == (2, "")
    assert arguments[1] in err.splitlines()[-1]


def test_results_are_shown_before_curves_that_cannot_be_written() -> None:
    """What took long to play is not lost with them."""
    code, out, err = run(*SMALL, "--curves", "nowhere/curves.jsonl", "--json")
    assert code == 1
    assert [json.loads(line)["policy"] for line in out.splitlines()] == ["linucb", "uniform"]
    assert err.startswith("bandit-simulator: nowhere/curves.jsonl: No such file or directory; ")


def test_a_run_that_was_interrupted_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell reports it, after what was done; it is no fault to tell."""
    monkeypatch.setattr("simulator.studies.run.run", lambda *_, **__: Results([], [], complete=False))
    assert run(*SMALL, "--json") == (130, "", "interrupted: only what is finished is shown\n")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A device or a pipe as the file to write: what reads it gets the rows, and it is still there."""
    os.mkfifo(pipe := tmp_path / "pipe")
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # so that nobody waits for the other end
    assert run("convert", "log.csv", *CSV, "--to", "jsonl", "-o", pipe, "--json")[0] == 0
    assert pipe.is_fifo()
    assert len(os.read(end, 1 << 16).splitlines()) == 62  # the header, 60 rows and the counts
    os.close(end)
