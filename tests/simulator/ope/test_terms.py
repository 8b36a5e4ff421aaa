"""What sequences bet on: the same mean by every draw there could be, floors that hold, and caps that suffice."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from logs import Array, World, log_of

from simulator.logs.log import Log
from simulator.ope.evaluate import evaluate, options_of
from simulator.ope.problem import InMemory
from simulator.ope.terms import ESTIMATORS, bounds, difference_stakes, estimate, own_stakes, stakes_of, sufficient_cap

MU = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
PI = np.array([[0.5, 0.5], [0.0, 1.0], [0.7, 0.3]])
OTHER = np.array([[1.0, 0.0], [0.3, 0.7], [0.7, 0.3]])
RATE = np.array([[0.2, 0.9], [0.1, 0.6], [0.5, 0.3]])
Q = np.array([[0.3, 0.3], [0.8, 0.1], [0.0, 1.0]])  # a model as wrong as it likes
S = np.array([1.0, 2.0, 0.5])


def draws() -> list[tuple[Log, float]]:
    """Every log of three rows of two arms with rewards of 0 and 1, and how probable it is."""
    found = []
    for shown in product((0, 1), repeat=3):
        arm = np.array(shown)
        rate, chance = RATE[np.arange(3), arm], MU[np.arange(3), arm].prod()
        for given in product((0.0, 1.0), repeat=3):
            reward = np.array(given)
            log = replace(log_of(MU, arm, reward), weight=S)
            found.append((log, chance * np.where(reward > 0, rate, 1 - rate).prod()))
    return found


def truth(pi: Array) -> Array:
    """s times the value of each row."""
    return S * (pi * RATE).sum(axis=1)


def problem_of(log: Log) -> InMemory:
    """With the target and the model."""
    return InMemory(log, PI, options_of(log, (0.0, 1.0), q=Q))


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr"])
def test_every_bet_has_the_value_for_its_mean(name: str) -> None:
    """Row by row over all 64 draws: s times the value for each gain, the rest for each loss, whatever the model."""
    mean: dict[tuple[str, int], Array] = {}
    for log, chance in draws():
        problem = problem_of(log)
        stakes = stakes_of(name, problem, estimate(name, problem))
        assert (stakes.t.tolist(), stakes.both, stakes.least, stakes.most) == (S.tolist(), 1, 0, 1)
        for side, bets in (("gains", stakes.gains), ("losses", stakes.losses)):
            for i, bet in enumerate(bets):
                bet.check(stakes.t)  # no draw is below the floor
                mean[side, i] = mean.get((side, i), np.zeros(3)) + chance * bet.X
    assert set(mean) >= {("gains", 0), ("losses", 0), ("losses", 1)}
    assert (("gains", 1) in mean) == (name in ("dr", "sndr"))
    for (side, _), found in mean.items():
        assert found == pytest.approx(truth(PI) if side == "gains" else S - truth(PI))


def test_every_bet_on_a_difference_has_the_difference_for_its_mean() -> None:
    """Of two targets, by the weights of every arm; losses are the gains with the other sign."""
    less = PI - OTHER
    d, v = less / MU, (less * Q).sum(axis=1)
    mean: dict[tuple[str, int], Array] = {}
    for log, chance in draws():
        shown = d[np.arange(3), log.arm]
        stakes = difference_stakes(log.reward, shown, Q, v, d, log.arm, S, None)
        assert (stakes.both, stakes.least, stakes.most) == (0, -1, 1)
        for side, bets in (("gains", stakes.gains), ("losses", stakes.losses)):
            for i, bet in enumerate(bets):
                bet.check(stakes.t)
                mean[side, i] = mean.get((side, i), np.zeros(3)) + chance * bet.X
    assert len(mean) == 4
    value = S * (less * RATE).sum(axis=1)
    for (side, _), found in mean.items():
        assert found == pytest.approx(value if side == "gains" else -value)


def test_a_side_alone_bets_on_its_own_value() -> None:
    """Where only drawn weights are known: w r and w (1 - r), which have no floor to be guessed."""
    gain, loss = np.zeros((2, 3))
    for log, chance in draws():
        w = (PI / MU)[np.arange(3), log.arm]
        stakes = own_stakes(log.reward, w, S, None)
        gain, loss = gain + chance * stakes.gains[0].X, loss + chance * stakes.losses[0].X
        assert (stakes.gains[0].floor, stakes.losses[0].floor) == (0, 0)
    assert gain == pytest.approx(truth(PI))
    assert loss == pytest.approx(S - truth(PI))


def test_the_floor_is_the_worst_draw_there_could_be() -> None:
    """Some draw comes as near to it as a row does: half of it would be broken."""
    for place in (0, 1):
        worst: dict[int, float] = {}
        for log, _ in draws():
            problem = problem_of(log)
            stakes = stakes_of("dr", problem, estimate("dr", problem))
            bet = (stakes.gains, stakes.losses)[place][1]
            worst[place] = min(worst.get(place, 0.0), float((bet.X / S).min()))
            floor = bet.floor
        assert -worst[place] == pytest.approx(floor)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_rows_of_every_estimator_are_between_its_bounds(name: str) -> None:
    """Bets are made of what is scaled by them: over a log of heavy weights, with rewards from -2 to 3."""
    world = World()
    log, rows = world.log(np.random.default_rng(0), 400, world.policy(0.2))
    log = replace(log, reward=5 * log.reward - 2)
    how = options_of(log, (-2.0, 3.0), q="mean", tau=3.0, lam=4.0, clip=2.0)
    problem = InMemory(log, world.policy(1.0)[rows], how)
    found, (low, high) = estimate(name, problem), bounds(name, problem)
    assert low <= found.value <= high
    if name in ("clipped", "dm", "switch-dr", "dros", "replay"):  # these are bet on as they are
        counted = found.bottom[0] > 0
        each = found.top[0][counted] / found.bottom[0][counted]
        assert low <= each.min() <= each.max() <= high
        stakes = stakes_of(name, problem, found)
        assert float(stakes.gains[0].X.sum() / stakes.t.sum()) == pytest.approx((found.value - low) / (high - low))
    for bet in (*(stakes := stakes_of(name, problem, found)).gains, *stakes.losses):
        bet.check(stakes.t)


def test_users_rows_are_bet_on_together() -> None:
    """Each user is one row of the sums of theirs."""
    world, n = World(), 60
    log, rows = world.log(np.random.default_rng(0), n, world.policy(0.5), user=np.arange(n).astype(str))
    twice = replace(log.take(np.repeat(np.arange(n), 2)), user=np.repeat(np.arange(n), 2).astype(str))
    pi, how = world.policy(1.0)[rows], options_of(log, (0.0, 1.0), q="mean")
    alone, both = (InMemory(each, t, how) for each, t in ((log, pi), (twice, np.repeat(pi, 2, axis=0))))
    one, two = (stakes_of("ips", each, estimate("ips", each)) for each in (alone, both))
    assert two.t.tolist() == [2.0] * n
    assert (2 * one.gains[0].X).tolist() == pytest.approx(two.gains[0].X.tolist())


def orders(n: int = 12_000) -> tuple[Log, Array]:
    """An even log of orders of 1 to 3, and two of 400 among some 6,000; one arm is asked about."""
    rng = np.random.default_rng(0)
    logging = np.full((n, 2), 0.5)
    reward = np.where(rng.random(n) < 0.5, rng.integers(1, 4, n), 0).astype(float)
    reward[[100, 5000]] = 400.0
    return log_of(logging, rng.integers(0, 2, n), reward), np.tile([1.0, 0.0], (n, 1))


def test_the_cap_that_is_proposed_gives_an_interval() -> None:
    """Two orders of 400 hide what orders of 1 to 3 say: a cap of 3 shows it, and the note says so."""
    log, target = orders()
    (row,) = evaluate(log, target, estimators=["dr"], q="mean", reward_range=(0, 500))
    assert (row.verdict, "or a cap of" in row.note) == ("sequence", True)
    cap = float(row.note.partition("(cap=")[2].partition(")")[0])
    (capped,) = evaluate(log, target, estimators=["dr"], q="mean", reward_range=(0, 500), cap=cap)
    assert capped.verdict == "interval"
    assert f"rewards above {cap:g} count as {cap:g}" in capped.note
    assert capped.high - capped.low < (row.high - row.low) / 10


def test_no_cap_is_proposed_where_none_would_do() -> None:
    """Of too few rows, and of none with a reward."""
    log, target = orders()
    few = slice(60, 130)
    nothing = replace(log, reward=np.zeros(len(log)))
    assert sufficient_cap(InMemory(nothing, target, options_of(log, (0.0, 500.0), q="mean"))) is None
    (row,) = evaluate(log.take(few), target[few], estimators=["dr"], q="mean", reward_range=(0, 500))
    assert "cap" not in row.note
    assert math.isfinite(row.high)
