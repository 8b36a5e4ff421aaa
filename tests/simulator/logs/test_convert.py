"""Conversions: what a log is worth is the same in every form."""

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import vowpalwabbit
from trial import CLICK, FULL, Trial

from bandit.core.sums import ONE
from bandit.replica.export import export
from bandit.store.memory_store import MemoryStore
from simulator.logs.cleaning import Rules
from simulator.logs.contexts import LogError
from simulator.logs.convert import Converted, convert
from simulator.logs.loaders import FORMATS, load, open_table
from simulator.logs.loaders.server import UNSURE

DATA = Path(__file__).parents[2] / "data" / "open-bandit"


@pytest.fixture
def server_log(name: str, tmp_path: Path) -> Path:
    """An export of 60 decisions, every third one rewarded, every tenth deferred and never activated."""
    trial = Trial(MemoryStore(), name, activation="explicit")
    for i in range(60):
        ref = trial.decide(i % 4, x=(ONE, 40 * i), caller=f"d{i}", user=f"u{i % 7}", deferred=i % 10 == 9)
        if i % 3 == 0:
            trial.feed(ref, FULL, CLICK)
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in export(trial.store, trial.name)))
    return path


def first_rows(source: Path, folder: Path) -> Path:
    """A folder of the Open Bandit Dataset with the first 1,500 rows of a log."""
    folder.mkdir()
    shutil.copy(source / "item_context.csv.gz", folder)
    with gzip.open(source / "men.csv.gz") as file:
        (folder / "men.csv").write_bytes(b"".join(islice(file, 1501)))
    return folder


def values(path: Path, format_: str, **options: Any) -> dict[str, Any]:
    """A log's fields as lists, without its cleaning."""
    log = load(path, format_, **options)
    fields = {each.name: getattr(log, each.name) for each in dataclasses.fields(log) if each.name != "cleaning"}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}


@pytest.mark.parametrize("to", ["parquet", "jsonl"])
def test_a_converted_log_is_the_log(server_log: Path, tmp_path: Path, to: str) -> None:
    """Every field, of the server's and of the Open Bandit Dataset's; rows never shown are kept in the table."""
    output = tmp_path / "table"
    assert convert(server_log, "server", to, output) == Converted(60, {UNSURE: 60})
    assert values(output, "table") == values(server_log, "server")
    assert load(output, "table").cleaning == {UNSURE: 60, "deferred and never activated": 6}
    for policy in ("random", "bts"):
        folder = first_rows(DATA / policy / "men", tmp_path / policy)
        assert convert(folder, "open-bandit", to, output).rows == 1500
        assert values(output, "table") == values(folder, "open-bandit")


def test_server_to_table_to_dsjson_is_the_same_average_reward_in_vowpal_wabbit(
    server_log: Path, tmp_path: Path
) -> None:
    """Uniform propensities of 1 / 4 and uniform play: its average loss is minus the average reward, 18 clicks of 54."""
    table, lines = tmp_path / "log.parquet", tmp_path / "log.dsjson"
    convert(server_log, "server", "parquet", table)
    convert(table, "table", "dsjson", lines)
    vw = vowpalwabbit.Workspace(
        f"--cb_explore_adf --dsjson --epsilon 1 --quiet -d {lines} --extra_metrics {tmp_path}/m"
    )
    loss = vw.get_sum_loss()
    vw.finish()
    clicks = sum(i % 3 == 0 and i % 10 != 9 for i in range(60))
    assert -loss == pytest.approx(clicks, rel=1e-6)
    assert json.loads((tmp_path / "m").read_text())["number_skipped_events"] == 6
    back = load(lines, "dsjson")
    assert (len(back), back.reward.sum()) == (54, clicks)
    assert back.cleaning["deferred and never activated"] == 6


NAMES = ["a b", "a|b", "a:b", "NA", "null", "nan", "1", "01", "1.0", "\u6771\u4eac", "\u00e9", "e\u0301", " ", "\ttab",
         "a\nb", 'a"b', "[en]", "_x", "{}", ""]  # fmt: skip


@pytest.mark.parametrize("to", ["parquet", "jsonl", "dsjson"])
def test_every_name_comes_back_as_it_was(tmp_path: Path, to: str) -> None:
    """Of arms, ids, and levels, whatever their letters mean elsewhere."""
    rows = [
        {"decision_id": f"{name}-{i}", "context": {"level": name}, "reward": float(i), "model": name or None,
         "shown": [{"arm": name, "propensity": 1 / len(NAMES)}],
         "eligible": [{"arm": each, "probability": 1 / len(NAMES)} for each in NAMES]}
        for i, name in enumerate(NAMES * 20)
    ]  # fmt: skip
    source, output = tmp_path / "log.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert(source, "table", to, output)
    log, back = load(source, "table"), load(output, "dsjson" if to == "dsjson" else "table")
    assert set(log.arms) == set(NAMES)
    assert [log.arms[arm] for arm in log.arm] == [back.arms[arm] for arm in back.arm] == NAMES * 20
    assert log.decision_id is not None
    assert back.decision_id is not None
    assert log.decision_id.tolist() == back.decision_id.tolist() == [row["decision_id"] for row in rows]
    assert set(log.columns) == set(back.columns) == {"1"} | {f"level={name}" for name in NAMES}
    assert log.reward.tolist() == back.reward.tolist()


def test_open_bandit_to_dsjson_keeps_clicks_and_propensities(tmp_path: Path) -> None:
    """Of the uniform policy with all probabilities, of the other with the one that was logged."""
    for policy in ("random", "bts"):
        folder = first_rows(DATA / policy / "men", tmp_path / policy)
        path, log = tmp_path / "log.dsjson.gz", load(folder, "open-bandit")
        convert(folder, "open-bandit", "dsjson", path)
        back = load(path, "dsjson")
        assert (back.arms, back.arm.tolist()) == (log.arms, log.arm.tolist())
        assert (back.reward.tolist(), back.propensity.tolist()) == (log.reward.tolist(), log.propensity.tolist())
        assert (back.probability is None) == (log.probability is None)


def test_what_was_cleaned_is_told_once_and_kept(tmp_path: Path) -> None:
    """The counts are the conversion's result, are in its file, and a second reading adds nothing."""
    source, output = tmp_path / "log.csv", tmp_path / "log.parquet"
    source.write_text("a,r,p\nx,1,0.5\ny,0,0\ny,9,0.5\n")
    roles = {"arm": "a", "reward": "r", "propensity": "p"}
    for to in ("parquet", "jsonl"):
        done = convert(source, "csv", to, output, rules=Rules(reward_range=(0, 1)), **roles)
        counts = {"rows dropped: propensity not above 0": 1, "rows dropped: reward outside [0, 1]": 1}
        assert done == Converted(1, counts)
        assert load(output, "table").cleaning == counts


def test_a_log_is_written_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows than a batch are held: the writer gets them in pieces of that size."""
    monkeypatch.setattr("simulator.logs.loaders.rows.PIECE", 7)
    path = tmp_path / "log.jsonl"
    row = {"decision_id": "", "shown": [{"arm": "a", "propensity": 1}], "reward": 1}
    path.write_text("".join(json.dumps(row | {"decision_id": str(i)}) + "\n" for i in range(30)))
    assert [len(batch) for batch in open_table(path, "table").batches] == [7, 7, 7, 7, 2]
    convert(path, "table", "parquet", tmp_path / "out")
    assert load(tmp_path / "out", "table").reward.sum() == 30


Refused = Callable[[Path], object]
REFUSED: dict[str, Refused] = {
    r"to: expected one of \['parquet', 'jsonl', 'dsjson'\], got 'xml'": lambda path: convert(
        path, "table", "xml", path
    ),
    r"format: expected one of .*, got 'vw2'; did you mean 'vw'": lambda path: load(path, "vw2"),
    r"table: expected a file, but '.*nowhere' is not one": lambda path: load(path / "nowhere", "table"),
    r"server: expected a file, but '.*' is not one": lambda path: load(path, "server"),
    r"open-bandit: expected a folder, but '.*nowhere' is not one": lambda path: load(path / "nowhere", "open-bandit"),
    r"csv: expected a path, got none": lambda path: load(None, "csv"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_request_is_told(tmp_path: Path, message: str) -> None:
    """What was expected, and what came."""
    with pytest.raises(LogError, match=message):
        REFUSED[message](tmp_path)
    assert {"table", "server", "open-bandit", "dsjson", "vw", "csv", "criteo"} == set(FORMATS)
