"""Comparisons: paired differences and their intervals by hand, by tables, and by how often they cover the truth."""

import numpy as np
import pytest

from simulator.studies.across_seeds import bands, bootstrap, differences, half_width, summaries
from simulator.studies.run import Curve, RunRow


def rows(policy: str, values: list[float], first_seed: int = 0) -> list[RunRow]:
    """A row for each value, with seeds in order."""
    return [RunRow(policy, first_seed + i, 100, value, 100 - value) for i, value in enumerate(values)]


def test_differences_are_paired_by_seed() -> None:
    """By hand: differences .1, .2, .3 have mean .2 and sd .1; t(2, .975) = 4.3027 makes .2 -+ .2484."""
    runs = rows("old", [0.5, 0.1, 0.9]) + rows("new", [0.6, 0.3, 1.2])
    (found,) = differences(runs, "old")
    assert (found.policy, found.baseline, found.seeds) == ("new", "old", 3)
    assert found.difference == pytest.approx(0.2)
    half = 4.3027 * 0.1 / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    assert 0.1 - 1e-9 <= found.bootstrap_low < 0.2 < found.bootstrap_high <= 0.3 + 1e-9


def test_only_seeds_that_both_have_are_compared() -> None:
    """Seeds 1 and 2 of three each, whatever the order of the rows."""
    runs = rows("new", [3.0, 5.0, 9.0], first_seed=1) + rows("old", [0.0, 1.0, 2.0])
    (found,) = differences(runs, "old")
    assert (found.seeds, found.difference) == (2, 2.5)


def test_a_baseline_that_is_not_there_is_refused() -> None:
    """With the policies that are; so is one without a common seed."""
    with pytest.raises(ValueError, match="one of a, b; got 'c'"):
        differences(rows("a", [1.0]) + rows("b", [1.0]), "c")
    with pytest.raises(ValueError, match="no seed in common"):
        differences(rows("a", [1.0]) + rows("b", [1.0], first_seed=5), "a")


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.7062), (5, 2.7764), (11, 2.2281), (31, 2.0423)])
def test_t_intervals_have_the_quantiles_of_the_tables(n: int, quantile: float) -> None:
    """Student's t, two-sided 95 %, for n - 1 degrees of freedom, from printed tables."""
    values = np.random.default_rng(n).normal(size=(n, 1))
    assert half_width(values)[0] == pytest.approx(quantile * values.std(ddof=1) / np.sqrt(n), rel=1e-4)


def test_one_seed_has_an_infinite_interval() -> None:
    """Nothing is known of the spread."""
    (found,) = summaries(rows("a", [0.4]))
    assert (found.mean, found.low, found.high) == (0.4, -np.inf, np.inf)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """2,000 times 12 normal values around 1: t covers 95 % give or take 4 errors, the bootstrap a little less."""
    rng = np.random.default_rng(0)
    values = 1 + rng.normal(size=(12, 2000))
    covered = (np.abs(values.mean(axis=0) - 1) <= half_width(values)).mean()
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 2000))
    ends = np.array([bootstrap(each, seed=i) for i, each in enumerate(values.T[:400])])
    assert 0.85 < ((ends[:, 0] <= 1) & (ends[:, 1] >= 1)).mean() < 0.97


def test_summaries_name_the_worst_seed() -> None:
    """The lowest reward, or the highest regret."""
    runs = rows("a", [0.2, 0.4, 0.3])
    assert summaries(runs)[0].worst == 0.2
    assert summaries(runs, "regret_of_uniform")[0].worst == 99.8


def test_bands_are_the_t_intervals_of_each_window() -> None:
    """Two seeds, two windows, by hand: t(1, .975) = 12.7062."""
    curves = [Curve("a", seed, [5, 10], [0.0 + seed, 0.5], [1, 1], [0, 0]) for seed in (0, 1)]
    (band,) = bands(curves)
    assert (band.policy, band.ends, band.mean) == ("a", [5, 10], [0.5, 0.5])
    half = 12.7062 * np.sqrt(0.5) / np.sqrt(2)
    assert band.low == pytest.approx([0.5 - half, 0.5], abs=1e-3)
    assert band.high == pytest.approx([0.5 + half, 0.5], abs=1e-3)


def test_curves_of_different_windows_have_no_band() -> None:
    """Their means would be of different rounds."""
    with pytest.raises(ValueError, match="different windows"):
        bands([Curve("a", 0, [5], [0.0], [1], [0]), Curve("a", 1, [6], [0.0], [1], [0])])
