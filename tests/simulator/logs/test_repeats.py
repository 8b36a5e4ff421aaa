"""Copies of rows are told from rows that are alike by chance, in logs of any length."""

import numpy as np
import pyarrow as pa
import pytest

from bandit.arrays import Int
from simulator.logs.loaders import repeats
from simulator.logs.loaders.repeats import Repeats


def told(rows: Int, *batches: Int) -> int:
    """How many rows are told to be copies; a row is its digits in base 10."""
    found = Repeats()
    for batch in (rows, *batches):
        found.add(pa.record_batch([pa.array(batch // 10), pa.array((batch % 10).astype(str))], names=["x", "y"]))
    return found.copies()


def alike(rng: np.random.Generator) -> Int:
    """Rows without copies: of few or many values, even or not, of visitors that come back or not."""
    n, values = int(10 ** rng.uniform(1, 4)), int(10 ** rng.uniform(0.3, 6))
    rows: Int = (values * rng.random(n) ** rng.uniform(1, 4)).astype(np.int64)
    if rng.random() < 0.3:  # each visit several times the same
        rows = np.repeat(rows, rng.geometric(rng.uniform(0.3, 1), n))
    return rows


def test_rows_that_are_alike_by_chance_are_not_copies() -> None:
    """In none of 500 logs of many kinds."""
    rng = np.random.default_rng(0)
    assert not [t for t in range(500) if told(alike(rng))]


@pytest.mark.parametrize("values", [60, 1000, 10**9])
@pytest.mark.parametrize("times", [2, 3, 4, 5])
def test_a_log_that_is_there_several_times_is_told_of_whole(values: int, times: int) -> None:
    """Row by row or one behind the other, of many values or few."""
    rows = np.random.default_rng(0).integers(0, values, 2000)
    assert told(np.repeat(rows, times)) == 2000 * times
    assert told(*[rows] * times) == 2000 * times


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_part_of_a_log_that_is_there_twice_is_told_of(share: float) -> None:
    """A day that was loaded twice: as many rows as are there twice; other rows hide nothing."""
    rows = np.random.default_rng(0).integers(0, 10**9, 4000)
    found = told(rows, rows[: int(share * 4000)])
    assert found == (4000 * (1 + share) if share > 0.9 else 2 * 4000 * share)


def test_of_a_long_log_a_share_of_the_rows_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """All copies of a row are in it, wherever they are."""
    monkeypatch.setattr(repeats, "MOST", 500)
    rows = np.random.default_rng(0).integers(0, 10**9, 20_000)
    assert told(rows) == 0
    assert told(rows, rows) == pytest.approx(40_000, rel=0.3)


def test_a_few_rows_tell_nothing() -> None:
    """Twenty different ones that are there twice may be so by chance, in one log of a million."""
    assert told(np.repeat(np.arange(20), 2)) == 0
    assert told(np.repeat(np.arange(30), 2)) == 60
