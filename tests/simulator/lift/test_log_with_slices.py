"""A log of traffic with slices: the draw is checked within a slice, and a file keeps everything that a lift is from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.logs.bridge import from_log
from simulator.logs.loaders import load
from simulator.logs.log import Kind, Log, Played, changed
from simulator.logs.storage import write_jsonl, write_parquet
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.lift.sentence import said_of
from simulator.ope.lift.traffic import traffic_of


def log(n: int = 4000, *, swapped: bool = False) -> Log:
    """One slice shows arm a nine times of ten, the other both evenly; `swapped`: each draws as the other should."""
    rng = np.random.default_rng(0)
    part = (rng.random(n) < 0.5).astype(np.int64)
    own = np.array([[0.9, 0.1], [0.5, 0.5]])
    arm = (rng.random(n) >= own[1 - part if swapped else part][:, 0]).astype(np.int64)
    mixture = np.tile(own.mean(axis=0), (n, 1))
    click = (rng.random(n) < 0.3 + 0.2 * (arm == 0)).astype(float)
    return Log(
        arms=("a", "b"),
        arm=arm,
        reward=2 * click,
        propensity=mixture[np.arange(n), arm],
        probability=mixture,
        context=np.column_stack([np.ones(n), rng.standard_normal(n)]),
        time_ms=np.arange(n) * 1000,
        user=np.array([f"u{i % 1500}" for i in range(n)]),
        part=part,
        shares=np.full((n, 2), 0.5),
        within=own[part],
        rewards=click[:, None],
        kinds=(Kind("click", 2.0, cap=3.0, matured=0.75),),
        slices=("learned", "random"),
        uniform=1,
        changes=((2_000_000, "another policy"),),
    )


def test_slices_that_draw_as_others_should_are_seen_though_the_mixture_is_right() -> None:
    """Arm by arm the shares over all slices are as they say."""
    assert sample_ratio(log()).failures() == []
    wrong = log(swapped=True)
    assert sample_ratio(replace(wrong, within=None, part=None)).failures() == []
    assert "drawn" in sample_ratio(wrong).failures()[0]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_file_keeps_what_the_sentence_is_from(form: str, tmp_path: Path) -> None:
    """The same sentence, and the same numbers, from a table that was written and read."""
    made = log()
    path = tmp_path / f"log.{form}"
    (write_parquet if form == "parquet" else write_jsonl)(from_log(made), path)
    found = load(path, "table")
    before, after = said_of(made), said_of(found)
    assert before is not None
    assert after is not None
    assert after[0] == before[0]
    assert "; 75 % of the reward has come so far; another policy on 1970-01-01 00:33 UTC" in after[0]
    assert (found.kinds, found.slices, found.uniform, found.changes) == (
        made.kinds,
        made.slices,
        made.uniform,
        made.changes,
    )
    for name in ("shares", "within", "probability", "propensity", "rewards", "part"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name


def test_there_is_no_lift_without_slices_or_of_positions_of_lists() -> None:
    """A position is no decision."""
    assert traffic_of(replace(log(), shares=None)) is None
    assert traffic_of(replace(log(), shares=np.zeros((4000, 2)))) is None
    assert traffic_of(replace(log(), position=np.arange(4000) % 2)) is None


def test_a_change_of_a_policy_or_of_a_weight_is_told() -> None:
    """Each in words; slices that come or go tell of themselves by their shares."""
    old = Played("linucb", {"learned": None, "random": "uniform"}, {"click": 1.0, "sale": 0.1})
    new = Played("greedy", {"learned": None, "random": "fixed", "new": None}, {"click": 1.0, "sale": 0.25})
    assert list(changed(old, new)) == ["another policy", "another policy of random", "sale weighs 0.25, not 0.1"]
    assert list(changed(old, old)) == []
