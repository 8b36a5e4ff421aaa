"""Target policies of a log: those that learn, frozen before the rows that value them."""

from dataclasses import replace

import numpy as np
import pytest
from logs import World, log_of

from simulator.logs.log import Log
from simulator.ope.evaluate import evaluate
from simulator.policies.targets import Learned, frozen, learns, target
from simulator.wording import named

HALF = 600


def logged(n: int = 2 * HALF) -> Log:
    """An even log of the usual world."""
    world = World()
    return world.log(np.random.default_rng(0), n, world.policy(1.0), learning=True)[0]


def changed(log: Log, rows: slice) -> Log:
    """Other rewards, beyond the range there was, and other arms in these rows."""
    reward, arm = log.reward.copy(), log.arm.copy()
    reward[rows], arm[rows] = 40 - 90 * reward[rows], 4 - arm[rows]
    return replace(log, reward=reward, arm=arm)


@pytest.mark.parametrize(
    "text", ["linucb:alpha=0.5", "linucb:refresh=7,alpha=0.5", "epsilon-greedy:explore=0.1", "ucb1"]
)
def test_a_frozen_policy_does_not_change_with_the_rows_that_value_it(text: str) -> None:
    """Whatever came in them: not even their range of rewards is known to it. With the first rows it does change."""
    log = logged()
    found = frozen(log, text, HALF)
    assert found.shape == (HALF, log.K)
    assert (frozen(changed(log, slice(HALF, None)), text, HALF) == found).all()
    assert (frozen(changed(log, slice(HALF)), text, HALF) != found).any()
    assert (frozen(log.take(slice(HALF + 100)), text, HALF) == found[:100]).all()


def test_it_is_what_a_policy_that_learns_is_before_it_has_met_another_row() -> None:
    """The same for the first rows after, as long as no refresh is due; then the other goes on."""
    log = logged()
    found, on = frozen(log, "linucb:alpha=0.5", HALF), Learned(log, "linucb:alpha=0.5", refresh=100)(log)[HALF:]
    assert found[:100] == pytest.approx(on[:100])
    assert (found[100:] != on[100:]).any()


def test_a_frozen_policys_value_is_right() -> None:
    """All arms alike, each worth .3: over 40 logs its value is not off by more than chance."""
    rng, values = np.random.default_rng(0), []
    for _ in range(40):
        even = np.full((400, 4), 0.25)
        log = log_of(even, rng.integers(0, 4, 400), (rng.random(400) < 0.3).astype(float))
        pi, rest = frozen(log, "linucb:alpha=0,explore=0", 200), log.take(slice(200, None))
        values.append(evaluate(rest, pi, estimators=["ips"])[0].value)
    assert np.mean(values) == pytest.approx(0.3, abs=4 * np.std(values) / np.sqrt(40))


def test_nothing_to_learn_from_leaves_it_as_it_began() -> None:
    """Cut at the first row: the same probabilities in all that are alike."""
    log = replace(logged(50), context=None)
    assert np.ptp(frozen(log, "linucb:alpha=0.5", 0), axis=0).max() == 0


def test_what_learns_is_known_by_its_name() -> None:
    """Kinds of policies and documents; not the even one, a fixed one, or a table."""
    names = ("linucb", "linucb:alpha=1", "ucb1", "home.json", "uniform", "fixed:linucb", "table.csv", "als")
    assert [learns(name) for name in names] == [True, True, True, True, False, False, False, False]


def test_a_target_that_learns_meets_each_row_after_it_was_valued() -> None:
    """With a refresh at each row: a row's own reward is not in its probabilities, the one before is."""
    log = logged(60)
    own = replace(log, reward=np.where(np.arange(60) == 30, 1 - log.reward, log.reward))
    one, other = (target(each, "linucb:alpha=0.5", refresh=1) for each in (log, own))
    assert (one[:31] == other[:31]).all()
    assert (one[31:] != other[31:]).any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uniform", ("uniform", "uniform", "")),
        ("fixed:a:b", ("fixed", "fixed", "a:b")),
        ("fixed:a.csv", ("fixed", "fixed", "a.csv")),
        ("list:a,b", ("list", "list", "a,b")),
        ("plays/home.csv.gz", ("csv", "plays/home.csv.gz", "")),
        ("home.json:alpha=1", ("document", "home.json", "alpha=1")),
        ("linucb:alpha=1,explore=0", ("policy", "linucb", "alpha=1,explore=0")),
        ("fixed", ("policy", "fixed", "")),
    ],
)
def test_a_target_is_named_in_one_way_for_all_who_read_it(text: str, expected: tuple[str, str, str]) -> None:
    """Kind, first word and the rest, by hand; `fixed` without an arm is looked up as a policy, and not found."""
    assert named(text) == expected
