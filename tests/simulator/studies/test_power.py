"""Power: against R's figures, against simulation, and against A/B tests that are played."""

import numpy as np
import pytest

from simulator.environments.full import FullEnvironment
from simulator.environments.synthetic import Synthetic
from simulator.studies.parallel import serial
from simulator.studies.power import decisions, decisions_until, lasting, simulated, z_scores


def test_decisions_are_those_of_r() -> None:
    """R's manual: power.prop.test(p1 = .50, p2 = .75, power = .90) gives n = 76.7 in each of two groups."""
    assert decisions(0.5, 0.5, power=0.9) == pytest.approx(2 * 76.65294, abs=1)


@pytest.mark.parametrize(
    ("rate", "lift", "share"), [(0.1, 0.2, 0.5), (0.1, -0.2, 0.5), (0.3, 0.1, 0.2), (0.02, 0.5, 0.5)]
)
def test_so_many_decisions_see_the_lift_as_often_as_asked(rate: float, lift: float, share: float) -> None:
    """In 20,000 made-up tests of that length 80 % see it, give or take 2 points."""
    n = decisions(rate, lift, share=share)
    assert simulated(rate, lift, n, share=share, repeats=20_000) == pytest.approx(0.8, abs=0.02)


def test_no_lift_is_seen_as_rarely_as_alpha_says() -> None:
    """Two equal rates differ at the 5 % level in 5 % of 20,000 tests."""
    assert simulated(0.1, 0.0, 5000, repeats=20_000) == pytest.approx(0.05, abs=0.007)


def test_a_smaller_lift_takes_more_decisions() -> None:
    """About four times as many for half the lift; unequal shares take more as well."""
    assert decisions(0.1, 0.1) / decisions(0.1, 0.2) == pytest.approx(4, rel=0.1)
    assert decisions(0.1, 0.1, share=0.1) > decisions(0.1, 0.1)


@pytest.mark.parametrize(
    ("rate", "lift", "says"), [(0.0, 0.1, "in \\(0, 1\\)"), (0.9, 0.2, "1.08"), (0.1, 0.0, "cannot be detected")]
)
def test_impossible_rates_are_refused(rate: float, lift: float, says: str) -> None:
    """With the rates that came of them."""
    with pytest.raises(ValueError, match=says):
        decisions(rate, lift)


def test_z_by_hand() -> None:
    """30 of 100 against 20 of 100: (.3 - .2) / sqrt(.25 .75 (2 / 100)) = 1.633; no variance, no z."""
    hundred = np.full(2, 100.0)
    z = z_scores(np.array([0.3, 0.0]), np.array([0.2, 0.0]), hundred, hundred)
    np.testing.assert_allclose(z, [1.63299, 0.0], atol=1e-5)


def test_played_tests_see_a_fixed_lift_when_the_formula_says() -> None:
    """The better of two arms earns .30, an even choice .24: looks from about the formula's n on see it 4 times in 5."""
    mean = np.tile([0.30, 0.18], (4000, 1))
    rng = np.random.default_rng(0)
    document = {"features": [], "arms": ["a", "b"], "rewards": {"click": {}}}
    environment = FullEnvironment(
        "two", document, np.full((4000, 1), 4096, np.int16), (rng.random(mean.shape) < mean).astype(float)
    )
    found = decisions_until(environment, "best-fixed", "uniform", looks=10, tests=60, spread=serial)
    assert found.looks == list(range(400, 4001, 400))
    n = decisions(0.24, 0.25)
    assert found.decisions is not None
    assert 0.5 * n < found.decisions < 2 * n
    assert found.seen[-1] > 0.9


def test_a_lucky_look_is_not_the_answer() -> None:
    """By hand: .9 at the first look does not last, from the third on all are .8 or more; an end below has no answer."""
    assert lasting([10, 20, 30, 40], np.array([0.9, 0.1, 0.85, 0.8]), 0.8) == 30
    assert lasting([10, 20], np.array([0.9, 0.7]), 0.8) is None


def test_policies_that_are_alike_are_not_told_apart() -> None:
    """Uniform against uniform: no look sees a difference 4 times in 5, and most see it rarely."""
    found = decisions_until(Synthetic(), "uniform", "uniform", rounds=1000, looks=4, tests=60, spread=serial)
    assert found.decisions is None
    assert np.mean(found.seen) < 0.15
