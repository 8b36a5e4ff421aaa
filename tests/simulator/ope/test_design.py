"""What the design says of an estimate's error: by hand, by every draw there could be, and over many logs."""

import math
from collections.abc import Callable, Iterator
from itertools import islice, product

import numpy as np
import pytest
from logs import World, draw, greedy_with, log_of

from benchmarks import coverage_logs
from benchmarks.coverage_logs import Question
from simulator.ope.design import Crowd, Moments, Totals, crowd, moments, spread, totals, totals_drawn
from simulator.ope.estimators import mean
from simulator.ope.evaluate import evaluate, options_of
from simulator.ope.intervals import standard_error
from simulator.ope.problem import InMemory
from simulator.ope.terms import estimate, spread_of

MU = np.array([[0.5, 0.5], [0.9, 0.1]])
G = np.array([[1.0, 1.0], [0.0, 10.0]])  # weights of a target (.5, .5), then (0, 1)
S = np.array([1.0, 2.0])  # the second row counts twice


def test_the_totals_of_two_rows_are_those_worked_out_by_hand() -> None:
    """S2: 1 .5 1 and 1 .5 1 + 4 .1 100. S3: 1 .5 1 and 1 .5 1 + 8 .1 1000. As even as 41^3 / 801^2 equal draws."""
    found = totals(MU, G, S)
    assert found.squares == pytest.approx([0.5, 40.5])
    assert found.cubes == pytest.approx([0.5, 800.5])
    assert found.effective == pytest.approx(41**3 / 801**2)


def test_equal_weights_are_as_many_draws_as_rows() -> None:
    """A log of the target's own policy: n; without any weight: none."""
    assert totals(np.full((30, 2), 0.5), np.ones((30, 2)), np.ones(30)).effective == pytest.approx(30)
    assert Totals(np.zeros(2), np.zeros(2)).effective == 0


def test_totals_of_what_was_drawn_are_right_on_average() -> None:
    """Over all four draws of two rows, each as often as it comes; one draw sees 0 or 400 where 40 is right."""
    average = np.zeros((2, 2))
    for arms in product((0, 1), repeat=2):
        arm = np.array(arms)
        chance = MU[[0, 1], arm].prod()
        average += chance * np.array(totals_drawn(arm, G[[0, 1], arm], S, 2))
    assert average == pytest.approx(np.array(totals(MU, G, S)))
    assert totals_drawn(np.array([0, 0]), np.array([1.0, 0.0]), S, 2).squares.tolist() == [1, 0]
    assert totals_drawn(np.array([0, 1]), np.array([1.0, -10.0]), S, 2).squares.tolist() == [1, 400]


def test_moments_of_each_arm_are_shrunk_to_all_and_reach_to_what_may_come() -> None:
    """Residuals 1, -2 of one arm, 3 of another, none of a third; 20 rows like all; one row of three as far as 5."""
    found = moments(np.array([0, 0, 1]), np.array([1.0, -2.0, 3.0]), 3, 5.0)
    for power, of in ((2, found.second), (3, found.third), (4, found.fourth)):
        all_of_them = (1 + 2**power + 3**power) / 3
        here = [(1 + 2**power + 20 * all_of_them) / 22, (3**power + 20 * all_of_them) / 21, all_of_them]
        assert of == pytest.approx(np.array(here) + 5**power / 3)
    assert found.rows.tolist() == [22, 21, 20]


def test_the_arm_shown_most_is_not_all_arms() -> None:
    """10,000 rows of .1 count as a hundred do: an arm without rows has (100 .01 + 100 1) / 200."""
    arm, residual = np.repeat([0, 1], [10_000, 100]), np.repeat([0.1, 1.0], [10_000, 100])
    assert moments(arm, residual, 3, 0.0).second[2] == pytest.approx(0.505)


def test_a_spread_of_two_rows_is_that_worked_out_by_hand() -> None:
    """U, its standard error and the third moment; users who make the variance four times as large double both."""
    rows, k = mean(np.zeros(2), S), Moments(*np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [10.0, 20.0]]))
    v, c = np.array([0.2, 0.6]), 0.5
    off = 1.4 / 3 - 0.2  # of the first row; the second is half as far off and counts twice
    U = 0.5 * 1 + 40.5 * 2 - c**2 * 5 + 2 * off**2
    third = 0.5 * 1 + 800.5 * 3 + 2 * off**3
    unsure = math.sqrt(0.5**2 * 1 / 10 + 40.5**2 * 4 / 20)
    found = spread(rows, totals(MU, G, S), k, v, S, c)
    assert found == pytest.approx((math.sqrt(U + unsure) / 3, third / U**1.5))
    clustered = spread(rows, totals(MU, G, S), k, v, S, c, Crowd(4.0, 0.0))
    assert clustered == pytest.approx((2 * found.error, 2 * found.skewness))


def test_users_that_repeat_widen_it_by_their_rows_spread() -> None:
    """Every row three times, added up by user: three times the variance; users who cancel out do not narrow it."""
    values = np.random.default_rng(0).random(200)
    thrice, who = mean(np.repeat(values, 3)), np.repeat(np.arange(200), 3)
    assert crowd(thrice, who).times == pytest.approx(3)
    pairs = mean(np.tile([0.0, 1.0], 100))
    assert crowd(pairs, np.repeat(np.arange(100), 2)).times == 1
    assert crowd(mean(np.ones(4)), np.array([0, 0, 1, 1])).times == 1


def heavy(n: int, count: int) -> list[dict[str, list[float]]]:
    """Of `count` logs in which the target's arm is one draw of a hundred: values, errors by rows, errors by design."""
    world, rng = World(), np.random.default_rng(3)
    logging = greedy_with(0.05, np.zeros(len(world.context), np.int64), world.K)
    target = greedy_with(0.0, np.where(world.context[:, 1] > 1.6, 1, 0), world.K)  # in 5 % of the contexts
    told: list[dict[str, list[float]]] = [{name: [] for name in ("ips", "snips", "dr")} for _ in range(3)]
    for _ in range(count):
        log, rows = world.log(rng, n, logging)
        problem = InMemory(log, target[rows], options_of(log, (0.0, 1.0), q=np.full((n, world.K), 0.3)))
        for name in told[0]:
            found = estimate(name, problem)
            numbers = found.value, standard_error(found), spread_of(name, problem, found).error
            for each, number in zip(told, numbers, strict=True):
                each[name].append(number)
    return told


def test_the_standard_error_by_design_is_the_spread_over_many_logs() -> None:
    """Weights of a hundred in 5 % of the contexts: never below four fifths of it, and a third above at most.

    What the rows say is less than half of it in logs in which no heavy row was rewarded, and twice it in others.
    """
    values, by_rows, by_design = heavy(2000, 500)
    for name, each in values.items():
        true = float(np.std(each))
        assert 1.0 <= np.mean(by_design[name]) / true < 1.35, name
        assert min(by_design[name]) > 0.8 * true, name
        assert min(by_rows[name]) < 0.5 * true, name
        assert max(by_rows[name]) > 1.7 * true, name


def test_a_log_in_which_no_heavy_row_was_rewarded_gets_no_interval() -> None:
    """Rows that look calm: 400 contexts in which the target's arm is one draw of 200, and no click where it was one."""
    n = 20_000
    special = np.arange(n) % 50 == 0
    logging = greedy_with(0.01, np.zeros(n, np.int64), 2)
    rng = np.random.default_rng(1)
    arm = draw(rng, logging)
    reward = (rng.random(n) < 0.05) * (~(special & (arm == 1)))
    target = greedy_with(0.0, special.astype(np.int64), 2)
    for row in evaluate(log_of(logging, arm, reward.astype(float)), target, estimators=["ips", "snips"]):
        assert row.n_eff > 200
        assert row.verdict == "sequence"


def own(rng: np.random.Generator) -> Iterator[Question]:
    """The fixed and the contextual candidates on a server's own log."""
    return islice(coverage_logs.own(2, 3000, rng), 4)


KINDS: dict[str, tuple[int, Callable[[np.random.Generator], Iterator[Question]]]] = {
    "own": (30, own),
    "disagreeing": (60, lambda rng: coverage_logs.disagreeing(3000, rng)),
    "hot": (40, lambda rng: coverage_logs.hot(6000, rng)),
    "rare_orders": (30, lambda rng: coverage_logs.tails(2000, rng, coverage_logs.rare, 0.2, 100.0)),
    "lognormal": (30, lambda rng: coverage_logs.tails(4000, rng, coverage_logs.lognormal, 0.05, 10_000.0)),
    "moving": (60, lambda rng: coverage_logs.moving(4000, rng)),
    "users": (30, lambda rng: coverage_logs.users(4000, rng)),
    "slots": (60, lambda rng: coverage_logs.slots(3000, rng)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_between_the_ends_whatever_the_log_is_like(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few dozen logs of each kind, by IPS, SNIPS and DR: 5 % may miss, and 4 standard errors of that."""
    monkeypatch.setattr(coverage_logs, "MANY", 20_000)
    count, drawn = KINDS[kind]
    held: dict[tuple[str, str], list[bool]] = {}
    for seed in range(count):
        for question in drawn(np.random.default_rng(seed)):
            how = {"reward_range": question.span, "drifts": question.drifts}
            for row in evaluate(question.log, question.target, estimators=["ips", "snips", "dr"], **how):
                assert row.low <= row.value <= row.high
                held.setdefault((question.name, row.estimator), []).append(row.low <= question.truth <= row.high)
    least = 0.95 - 4 * math.sqrt(0.05 * 0.95 / count)
    assert {name: np.mean(each) for name, each in held.items() if np.mean(each) < least} == {}


def test_heavy_rows_that_pay_more_are_not_drowned_by_cheap_ones() -> None:
    """An arm that pays in one visitor of fifty, where the target shows it, and next to nothing elsewhere: no interval,
    or one that holds. By the arm's moments alone 30 of 300 logs had one, and a third of these held."""
    held = given = 0
    for seed in range(60):
        rng, n = np.random.default_rng([7, seed]), 20_000
        segment = rng.random(n) < 0.01
        logging = greedy_with(0.2, np.zeros(n, np.int64), 10)
        arm = draw(rng, logging)
        reward = (rng.random(n) < np.where(segment & (arm == 1), 0.5, 0.01)).astype(float)
        target = greedy_with(0.0, segment.astype(np.int64), 10)
        (row,) = evaluate(log_of(logging, arm, reward), target, estimators=["dr"], q="mean")
        given += row.verdict == "interval"
        held += row.verdict == "interval" and row.low <= 0.99 * 0.01 + 0.01 * 0.5 <= row.high
    assert held >= 0.92 * given


def test_a_few_users_with_most_of_the_rows_are_no_crowd() -> None:
    """Pareto visits, and who visits most buys most: an interval held .85. Users who are alike keep theirs."""
    rng = np.random.default_rng(0)
    for size, verdict in ((np.minimum(np.ceil(rng.pareto(1.5, 3000) * 3), 500).astype(int), "sequence"),
                          (np.full(3000, 8), "interval")):  # fmt: skip
        who = np.repeat(np.arange(3000), size)
        n = len(who)
        like = np.clip(0.01 * np.sqrt(size) * rng.gamma(1, 1, 3000), 0, 0.9)
        reward = (rng.random(n) < like[who]).astype(float)
        log = log_of(np.full((n, 2), 0.5), rng.integers(2, size=n), reward, user=who.astype(str))
        (row,) = evaluate(log, np.full((n, 2), 0.5), estimators=["dr"], q="mean")
        assert row.verdict == verdict
