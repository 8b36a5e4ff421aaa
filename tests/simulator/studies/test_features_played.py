"""Proposed transforms: edges part the values evenly, whatever repeats; what bends is found, and straight lines stay."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.features import Bins, Boolean, Category, Feature, Fourier, Number, Rank, compile_encoder
from simulator.environments.tables import read
from simulator.logs.contexts import Feature as Known
from simulator.logs.loaders import described
from simulator.studies.features import edges, measured, played, proposals, quantiles, replayed, shortest
from simulator.studies.parallel import serial

AGE, SIZE, NEW = Number("age", mean=50, scale=30), Number("size", mean=0, scale=1), Boolean("new")


@pytest.mark.parametrize(
    ("values", "bins", "found"),
    [
        (range(100), 4, (25, 50, 75)),
        ([0] * 90 + [*range(1, 31)], 4, (1, 11, 21)),  # a frequent value has a bin for itself
        ([*range(30)] + [99] * 90, 4, (10, 20, 60)),  # a round number between 29 and 99
        ([0, 1] * 50, 8, (1,)),
        ([3.25, 3.75], 8, (3.5,)),
        ([1] * 99 + [2], 2, (2,)),
    ],
)
def test_edges_by_hand(values: Any, bins: int, found: tuple[float, ...]) -> None:
    """The same number of values in each interval, as far as equal ones are not parted."""
    assert edges(np.array(list(values), float), bins) == found


@given(st.lists(st.integers(-50, 50) | st.floats(-1e6, 1e6), min_size=2), st.integers(2, 12))
@settings(deadline=None)
def test_edges_part_values_and_ascend(values: list[float], bins: int) -> None:
    """At most so many bins, none empty, and none that could be half as full by an edge between its values."""
    told = np.array(values, float)
    if len(np.unique(told)) < 2:
        return
    found = edges(told, bins)
    assert list(found) == sorted(set(found))
    assert 1 <= len(found) < bins
    counts = np.bincount(np.digitize(told, found), minlength=len(found) + 1)
    assert counts.min() >= 1
    assert compile_encoder([Number("v", transform=Bins(found))]).d == len(found) + 2
    steps = quantiles(told, bins)
    assert compile_encoder([Number("v", transform=Rank(steps))]).d == 2
    assert (steps[0], steps[-1]) == (told.min(), told.max())


@pytest.mark.parametrize(
    ("below", "value", "found"), [(49.3, 50, 50), (1.2345, 1.2359, 1.235), (-3, 4, 4), (0, 1e-9, 1e-9), (7, 11, 10)]
)
def test_an_edge_is_a_short_number(below: float, value: float, found: float) -> None:
    """Above the one and not above the other."""
    assert shortest(below, value) == found


def test_what_is_proposed() -> None:
    """Raw first; transforms of the numbers only, what stands for missing ones kept; scales by the median distance."""
    rng = np.random.default_rng(0)
    values = {"age": rng.normal(50, 30, 4000), "size": rng.normal(size=4000)}
    values["age"][5] = np.nan
    age = Number("age", mean=50, scale=30, missing="indicator")
    found = {each.name: each for each in proposals([age, NEW, SIZE, Category("c", ("x",))], values, bins=4, size=10)}
    middle, norm = measured([AGE, SIZE], values)
    assert middle == pytest.approx(np.sqrt(4 * np.log(2)), rel=0.05)  # of two normals in the plane
    assert norm == pytest.approx(np.sqrt(2), rel=0.05)
    names = [
        "raw",
        "bins 4",
        "rank",
        *(f"fourier 10 at {float(f'{share * middle:.2g}'):g}" for share in (0.25, 0.5, 1)),
    ]
    assert list(found)[:6] == names
    assert [each.columns for each in found.values()] == [7, 13, 7, 17, 17, 17, 17, 17, 17]
    assert all(each.columns == compile_encoder(each.features).d for each in found.values())
    binned = found["bins 4"].features
    assert [each.name for each in binned] == ["age", "new", "size", "c"]
    assert isinstance(binned[0], Number)
    assert binned[0].missing == "indicator"
    assert isinstance(binned[0].transform, Bins)
    assert binned[0].transform.edges == pytest.approx(np.nanquantile(values["age"], (0.25, 0.5, 0.75)), abs=0.5)
    last = found[list(found)[-1]].features
    assert isinstance(last[-1], Fourier)
    assert last[-1].of == ("age", "size")
    assert last[-1].height == pytest.approx(np.sqrt(2 / 3), rel=0.05)  # of two ranks
    assert abs(compile_encoder(found[names[3]].features).waves[0].height / 4096 - 2 / np.sqrt(10)) < 0.05
    assert isinstance(last[0], Number)
    assert isinstance(last[0].transform, Rank)


def test_too_many_columns_are_not_proposed() -> None:
    """Of 300 numbers no bins, but ranks; a name that is taken is not given again; without numbers there is nothing."""
    names = [f"n{i}" for i in range(300)]
    values = {name: np.arange(50.0) for name in names}
    numbers: list[Feature] = [Number(name, mean=0, scale=1) for name in names]
    found = proposals([*numbers[:-1], Boolean("fourier")], values)
    assert "bins 8" not in [each.name for each in found]
    assert found[-1].features[-1].name == "fourier'"
    with pytest.raises(ValueError, match="no number of two values"):
        proposals([NEW], {})
    with pytest.raises(ValueError, match="no number of two values"):
        proposals([AGE], {"age": np.array([1, 1, np.nan])})


def bent(n: int, seed: int = 0) -> tuple[Any, Any]:
    """(values from 0 to 99, which of two arms is right: the one in the middle, the other at both ends)."""
    v = np.random.default_rng(seed).uniform(0, 99, n).round(1)
    return v, np.where(np.abs(v - 50) < 22, "a", "b")


def test_what_bends_is_found_in_a_table(tmp_path: Path) -> None:
    """No line tells the middle from both ends: raw is little better than chance, bins and random features are."""
    path = tmp_path / "bent.csv"
    v, label = bent(1500)
    path.write_text("v,label\n" + "".join(f"{a},{b}\n" for a, b in zip(v, label, strict=True)))
    found = played(read(path, label="label"), "linucb:alpha=0.5", size=20, seeds=2, explore=0, spread=serial)
    regret = {row.policy: row.regret_of_uniform for row in found.results.rows if row.seed == 1}
    assert list(regret) == [each.name for each in found.proposals]
    assert regret["raw"] > 60
    assert regret["bins 8"] < 30
    assert min(value for name, value in regret.items() if name.startswith("fourier")) < 30
    with pytest.raises(ValueError, match="features are of the server's policies"):
        played(read(path, label="label"), "ucb1")


def logged(tmp_path: Path) -> Path:
    """A uniform log of the same."""
    v, right = bent(3000, 1)
    rng = np.random.default_rng(2)
    arm, kind = rng.choice(["a", "b"], 3000), rng.choice(["x", "y"], 3000)
    path = tmp_path / "log.csv"
    lines = (f"{a},{int(a == b)},0.5,{c},{k}\n" for a, b, c, k in zip(arm, right, v, kind, strict=True))
    path.write_text("arm,reward,propensity,v,kind\n" + "".join(lines))
    return path


def test_what_bends_is_found_on_a_log(tmp_path: Path) -> None:
    """By replay, which lives the half of the rows that match; features that are no numbers stay, and come last."""
    log, known = described(logged(tmp_path), "csv", arm="arm", reward=["reward"], propensity="propensity")
    found = replayed(log, known, "linucb:alpha=0.5,explore=0", size=20, spread=serial)
    value = {each.name: row.value or 0 for each, row in zip(found.proposals, found.rows, strict=True)}
    assert value["raw"] < 0.65
    assert value["bins 8"] > 0.85
    assert max(each for name, each in value.items() if name.startswith("fourier")) > 0.85
    assert all(1300 < matches < 1700 for matches in found.matches)
    assert found.complete
    for each in found.proposals:
        assert each.features[-1] == Category("kind", ("x", "y"), False)
        assert each.columns == compile_encoder(each.features).d
    (v,) = (each for each in found.proposals[1].features if each.name == "v")
    assert isinstance(v, Number)
    assert isinstance(v.transform, Bins)
    assert v.transform.edges[3] == pytest.approx(50, abs=3)  # in units of the log, not of its columns


def test_raw_on_a_log_is_the_replay_of_its_own_columns(tmp_path: Path) -> None:
    """To the bit: what was made of the values is what the log has."""
    from simulator.studies.replay import replay

    log, known = described(logged(tmp_path), "csv", arm="arm", reward=["reward"], propensity="propensity")
    found = replayed(log, known, "linucb", spread=serial)
    assert found.rows[0].value == replay(log, "linucb").value
    assert found.matches[0] == replay(log, "linucb").matches


def test_columns_that_a_document_made_stay_as_they_are(tmp_path: Path) -> None:
    """Their values are not known, so nothing is made of them; a log of these alone has nothing to transform."""
    log, known = described(logged(tmp_path), "csv", arm="arm", reward=["reward"], propensity="propensity")
    made = tuple(msgspec.structs.replace(each, made=True) if each.name == "v" else each for each in known)
    with pytest.raises(ValueError, match="no number of two values"):
        replayed(log, made, "linucb", spread=serial)
    with pytest.raises(ValueError, match="no contexts"):
        replayed(log, (), "linucb", spread=serial)
    both = (*made, Known("w", "number", 3.0, 2.0))
    X = np.column_stack([log.context, np.linspace(-1, 1, len(log))])  # type: ignore[list-item]
    from dataclasses import replace

    found = replayed(replace(log, context=X), both, "linucb", bins=4, size=5, spread=serial)
    binned = found.proposals[1]
    assert [each.name for each in binned.features] == ["w", "kind"]
    assert binned.columns == 1 + 4 + 2 + 1  # with the column that was made
    assert isinstance(binned.features[0], Number)
    assert isinstance(binned.features[0].transform, Bins)
    assert binned.features[0].transform.edges == pytest.approx((2, 3, 4), abs=0.01)
