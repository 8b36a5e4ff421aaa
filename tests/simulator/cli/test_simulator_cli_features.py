"""`features`: what is proposed from a table or a log, played or replayed, printed or written, and then run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from simulator_cli import rows, run

from simulator.cli.log_options import Source
from simulator.environments.tables import read
from simulator.studies.features import played
from simulator.studies.parallel import serial

FAST = ("--workers", "1", "--size", "8")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """One arm is right in the middle, the other at both ends."""
    v = np.random.default_rng(0).uniform(0, 99, 600).round(1)
    path = tmp_path / "bent.csv"
    path.write_text("v,label\n" + "".join(f"{each},{'ab'[int(abs(each - 50) < 22)]}\n" for each in v.tolist()))
    return path


@pytest.fixture
def log(tmp_path: Path) -> tuple[str | Path, ...]:
    """The options of a log of the same, drawn evenly."""
    rng = np.random.default_rng(1)
    v, arm = rng.uniform(0, 99, 800).round(1), rng.integers(0, 2, 800)
    lines = (f"{'ab'[a]},{int(a == (abs(x - 50) < 22))},0.5,{x}\n" for a, x in zip(arm, v.tolist(), strict=True))
    path = tmp_path / "log.csv"
    path.write_text("arm,reward,propensity,v\n" + "".join(lines))
    return path, "--format", "csv", "--arm", "arm", "--reward", "reward", "--propensity", "propensity"


def test_the_rows_are_the_studys(table: Path) -> None:
    """With every option once, each proposal with its features, its mean, and an interval over the seeds."""
    options = ("--bins", "4", "--seeds", "3", "--seed", "2", "--rounds", "300", "--refresh", "50", "--explore", "0.1")
    found = rows("features", "--table", table, "--label", "label", *FAST, *options, "--policy", "linucb:alpha=0.5")
    done = played(
        read(table, label="label"), "linucb:alpha=0.5", bins=4, size=8, seed=2, seeds=range(2, 5), rounds=300,
        refresh=50, explore=0.1, spread=serial,
    )  # fmt: skip
    assert [row["features"] for row in found] == [each.name for each in done.proposals]
    for row, each in zip(found, done.proposals, strict=True):
        own = [one for one in done.results.rows if one.policy == each.name]
        assert row["mean"] == pytest.approx(np.mean([one.mean_reward for one in own]))
        assert row["regret_of_uniform"] == pytest.approx(np.mean([one.regret_of_uniform for one in own]))
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["regret_low"] <= row["regret_of_uniform"] <= row["regret_high"]
        assert (row["seeds"], row["columns"]) == (3, each.columns)
    assert found[1]["proposed"][0]["transform"]["type"] == "bins"
    assert len(found[1]["proposed"][0]["transform"]["edges"]) == 3


def test_what_is_written_can_be_run_and_swept(table: Path, tmp_path: Path) -> None:
    """The best by default; a document whole, which `run` and `sweep` take: it earns there what it earned here."""
    path, where = tmp_path / "best.json", ("--table", table, "--label", "label", "--workers", "1")
    found = rows("features", *where, "--size", "8", "--seeds", "2", "--explore", "0", "-o", path)
    document = json.loads(path.read_text())
    assert list(document) == ["features", "arms", "rewards"]
    (best,) = (row for row in found if row["proposed"] == document["features"])
    assert best["mean"] > found[0]["mean"] + 0.1
    again = rows("run", *where, "--policy", path, "--seeds", "2", "--explore", "0")
    assert np.mean([row["mean_reward"] for row in again]) == pytest.approx(best["mean"])
    swept = rows("sweep", *where, "--policy", path, "--grid", "alpha=0.5,1", "--rounds", "200")
    assert len(swept) == 4
    assert rows("power", *where, "--policy", path, "--tests", "2", "--rounds", "100")[0]["looks"][-1] == 100


def test_one_can_be_taken_and_printed(table: Path) -> None:
    """For people: a table, then the features as a part of a document, alone on their lines."""
    code, out, err = run("features", "--table", table, "--label", "label", *FAST, "--rounds", "60", "--take", "rank")
    assert code == 0
    assert "rank, as part of a document" in err
    printed = json.loads(out[out.index('{"features"') :])
    assert printed["features"][0]["transform"]["type"] == "rank"
    assert printed["arms"] == ["a", "b"]
    assert "chosen on every other seed" in err
    code, _, err = run("features", "--table", table, "--label", "label", *FAST, "--rounds", "60", "--take", "ranks")
    assert (code, "--take is one of raw, bins 8, rank, fourier 8 at" in err) == (2, True)


def test_a_log_is_replayed_and_says_so(log: tuple[str | Path, ...], tmp_path: Path) -> None:
    """Each value is of the matches only, with its verdict; what it means is told beside it."""
    path = tmp_path / "part.json"
    found = rows("features", *log, *FAST, "--policy", "linucb:alpha=0.5,explore=0", "-o", path)
    value = {row["features"]: row["value"] for row in found}
    assert value["bins 8"] > value["raw"] + 0.1
    assert all(300 < row["matches"] < 500 and row["rows"] == 800 and row["verdict"] for row in found)
    assert all("that matched" in row["note"] for row in found)
    best = json.loads(path.read_text())
    assert list(best) == ["features"]
    assert best["features"] == max(found, key=lambda row: float(row["value"]))["proposed"]
    code, out, err = run("features", *log, *FAST)
    assert code == 0
    assert "lived only the decisions that match" in err
    assert '{"features"' in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--environment", "logistic"], "'logistic' keeps no values"),
        ([], "give either --table or --environment"),
        (["TABLE", "--policy", "ucb1"], "features are of the server's policies"),
        (["TABLE", "--arm", "a"], "a table takes no --arm"),
        (["LOG", "--seeds", "2"], "a log takes no --seeds"),
        (["LOG", "--refresh", "1s"], "--refresh is a number of matches"),
        (["LOG", "--table", "x.csv"], "a log takes no --table"),
        (["TABLE", "--bins", "1"], "bins"),
    ],
)
def test_what_does_not_go_together_is_told(
    options: list[str], said: str, table: Path, log: tuple[str | Path, ...]
) -> None:
    """In one line, and nothing is played."""
    whole = [
        each
        for part in options
        for each in {"TABLE": ("--table", table, "--label", "label"), "LOG": log}.get(part, (part,))
    ]
    code, out, err = run("features", *FAST, *whole)
    assert (code != 0, out) == (True, "")
    assert said in err


def test_a_table_without_numbers_has_nothing_to_transform(tmp_path: Path) -> None:
    """Said, not shown as a table of one row."""
    path = tmp_path / "texts.csv"
    path.write_text("v,label\n" + "x,a\ny,b\n" * 20)
    code, _, err = run("features", "--table", path, "--label", "label", *FAST)
    assert (code, "there is no number of two values or more" in err) == (1, True)


def test_what_a_document_made_is_named_as_it_is_not_printed(
    log: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of its transforms are not in the log: who takes what is printed has to add them."""
    path, *options = log
    before, wider = Source.described, tmp_path / "wider.csv"
    first, *lines = Path(path).read_text().splitlines()
    wider.write_text(
        "".join(f"{line}\n" for line in [f"{first},w", *(f"{line},{i % 7}" for i, line in enumerate(lines))])
    )

    def described(self: Source) -> Any:
        found, known = before(self)
        return found, tuple(structs.replace(each, made=each.name == "w") for each in known)

    monkeypatch.setattr(Source, "described", described)
    code, out, err = run("features", wider, *options, *FAST)
    assert (code, "w: made by the log's document" in err, '"w"' in out) == (0, True, False)


def test_where_none_can_be_valued_none_is_proposed(tmp_path: Path) -> None:
    """A log that says it drew what it seldom drew: it says so, and prints one only if it is asked for."""
    path = tmp_path / "few.csv"
    path.write_text("arm,reward,propensity,v\n" + "".join(f"{'ab'[i % 2]},{i % 3},0.001,{i}\n" for i in range(80)))
    asked = path, "--format", "csv", "--arm", "arm", "--reward", "reward", "--propensity", "propensity", *FAST
    code, out, err = run("features", *asked)
    assert (code, "none could be valued on this log" in err, '{"features"' in out) == (0, True, False)
    code, out, _ = run("features", *asked, "--take", "rank")
    assert (code, '{"features"' in out) == (0, True)
