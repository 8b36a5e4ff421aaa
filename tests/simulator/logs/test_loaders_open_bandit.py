"""The Open Bandit Dataset's sample against facts measured on its files before the loader was written."""

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from simulator.logs.contexts import LogError
from simulator.logs.loaders import load, stream

DATA = Path(__file__).parents[2] / "data" / "open-bandit"
FACTS = {  # clicks, items, smallest propensity
    "random/all": (38, 80, 1 / 80),
    "random/men": (46, 34, 1 / 34),
    "bts/all": (42, 80, 4.5e-5),
    "bts/men": (69, 34, 1.65e-4),
}


def source(folder: str) -> list[dict[str, str]]:
    """The log's lines, by the standard library."""
    with gzip.open(DATA / folder / f"{folder.split('/')[1]}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("folder", FACTS)
def test_clicks_items_and_propensities_are_those_of_the_source(folder: str) -> None:
    """10,000 rows each; 24 columns of users' categories or so, no row was cleaned away."""
    clicks, items, least = FACTS[folder]
    log = load(DATA / folder, "open-bandit")
    assert (len(log), log.reward.sum(), log.K) == (10000, clicks, items)
    assert log.arms == tuple(map(str, range(items)))
    assert log.propensity.min() == pytest.approx(least, rel=1e-9)
    assert ([what.partition(":")[0] for what in log.cleaning], log.learning) == (["columns of context"], False)


@pytest.mark.parametrize("folder", ["random/men", "bts/all"])
def test_rows_are_those_of_the_source_in_order(folder: str) -> None:
    """Item, position (from 0), click, propensity, time and categories of each row, read a second way."""
    rows, log = source(folder), load(DATA / folder, "open-bandit")
    assert log.position is not None
    assert log.time_ms is not None
    assert log.arm.tolist() == [int(row["item_id"]) for row in rows]
    assert log.position.tolist() == [int(row["position"]) - 1 for row in rows]
    assert log.reward.tolist() == [float(row["click"]) for row in rows]
    assert log.propensity.tolist() == [float(row["propensity_score"]) for row in rows]
    times = np.array([row["timestamp"].removesuffix("+00:00") for row in rows], "M8[us]").astype(int)
    assert abs(1000 * log.time_ms - times).max() <= 500  # the nearest millisecond
    assert log.context is not None
    hot = [set(np.array(log.columns)[x == 1]) for x in log.context]
    expected = [{f"user_feature_{i}={row[f'user_feature_{i}']}" for i in range(4)} | {"1"} for row in rows]
    assert hot == expected


def test_the_uniform_policys_probabilities_are_all_known() -> None:
    """1 / K for every item in every row; of the other policy only the propensity is known."""
    log = load(DATA / "random" / "men", "open-bandit")
    assert log.probability is not None
    assert log.probability.shape == (10000, 34)
    assert (log.probability == 1 / 34).all()
    assert load(DATA / "bts" / "men", "open-bandit").probability is None


@pytest.mark.parametrize("folder", FACTS)
def test_inverse_propensity_scores_are_those_of_obp(folder: str) -> None:
    """Of the uniform and the Thompson sampling policy, as another library reckoned them from the same files."""
    expected = json.loads((DATA / "obp_reference.json").read_text())["values"]
    log, campaign = load(DATA / folder, "open-bandit"), folder.split("/")[1]
    assert log.position is not None
    target = np.zeros((log.K, 3))
    with (DATA / f"target_bts_{campaign}.csv").open() as file:
        for row in csv.DictReader(file):
            target[int(row["arm"]), int(row["position"]) - 1] = float(row["probability"])
    for name, pi in (("uniform", np.full(len(log), 1 / log.K)), ("bts", target[log.arm, log.position])):
        ipw = (log.reward * pi / log.propensity).mean()
        assert ipw == pytest.approx(expected[f"{folder}/{name}"]["ipw"], rel=1e-9), name


def test_a_stream_adds_up_to_the_log() -> None:
    """Clicks of 11 pieces."""
    pieces = list(stream(DATA / "bts" / "men", "open-bandit", rows=999))
    assert len(pieces) == 11
    assert sum(piece.reward.sum() for piece in pieces) == 69


def test_file_names_are_free_and_compression_is_found_by_bytes(tmp_path: Path) -> None:
    """As of the full data set: uncompressed, and the log under any name."""
    items, log = tmp_path / "item_context.csv", tmp_path / "whatever.csv"
    items.write_bytes(gzip.decompress((DATA / "random/men/item_context.csv.gz").read_bytes()))
    shutil.copy(DATA / "random/men/men.csv.gz", log)
    assert load(tmp_path, "open-bandit").reward.sum() == 46


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    """It says which files were expected, and which are there."""
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.csv").touch()
    with pytest.raises(LogError, match=r"expected item_context.csv and one other CSV file .* got \['a.csv', 'b.csv'\]"):
        load(tmp_path, "open-bandit")


def test_an_item_that_is_no_item_is_refused(tmp_path: Path) -> None:
    """The column and the item are told."""
    shutil.copy(DATA / "random/men/item_context.csv.gz", tmp_path)
    head = "timestamp,item_id,position,click,propensity_score,user_feature_0\n"
    (tmp_path / "log.csv").write_text(head + "2019-11-24 00:03:13.442536+00:00,99,1,0,0.5,x\n")
    with pytest.raises(LogError, match="column 'item_id': expected one of 34 arms, got '99'"):
        load(tmp_path, "open-bandit")
