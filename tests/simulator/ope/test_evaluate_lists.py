"""Logged lists: from rows to lists, targets by hand, and values against the truth over all lists."""

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live import ok, serving, until, valkey
from logs import Array
from simulator_cli import rows, run

from bandit.serving.service import Service
from bandit.settings import Settings
from bandit.store.redis_store import RedisStore
from simulator.logs.bridge import from_log
from simulator.logs.contexts import LogError
from simulator.logs.loaders import load
from simulator.logs.log import Log
from simulator.logs.storage import write_jsonl, write_parquet
from simulator.logs.table import Table
from simulator.ope import list_estimators as of
from simulator.ope.evaluate import EstimatorRow
from simulator.ope.evaluate_lists import ESTIMATORS, _model, evaluate_lists
from simulator.ope.list_estimators import Lists
from simulator.ope.targets import list_target

K, k = 4, 2
ARMS = tuple("abcd")
ALL = np.array(list(permutations(range(K), k)))
FIRST = np.array([0.4, 0.3, 0.2, 0.1])
CLICK = np.array([0.1, 0.2, 0.5, 0.3])  # at the first position; half of it at the second


def given(shown: Array) -> Array:
    """p_j of the logging policy: taste at the first position, even among the rest at the second."""
    return np.column_stack([FIRST[shown[:, 0]], np.full(len(shown), 1 / (K - 1))])


def whatever(shown: Array) -> Array:
    """m_j: the second position has an arm if the first has not."""
    return np.column_stack([FIRST[shown[:, 0]], (1 - FIRST[shown[:, 1]]) / (K - 1)])


def logged(n: int, seed: int = 0, **fields: Any) -> Log:
    """n lists of two positions with clicks on each, a row for each position."""
    rng = np.random.default_rng(seed)
    shown = ALL[rng.choice(len(ALL), n, p=given(ALL).prod(axis=1))]
    reward = (rng.random((n, k)) < CLICK[shown] * [1.0, 0.5]).astype(float)
    return rows_of(shown, reward, given(shown), whatever(shown), **fields)


def rows_of(shown: Array, reward: Array, conditional: Array, marginal: Array, **fields: Any) -> Log:
    """A log of these lists."""
    n = len(shown)
    return Log(
        ARMS, shown.ravel(), reward.ravel(), marginal.ravel(), conditional=conditional.ravel(),
        position=np.tile(np.arange(k), n), decision_id=np.repeat(np.array([f"d{i:05}" for i in range(n)]), k), **fields,
    )  # fmt: skip


def by_name(found: list[EstimatorRow]) -> dict[str, EstimatorRow]:
    """Rows under their estimators' names."""
    return {row.estimator: row for row in found}


def test_lists_are_put_together_whatever_the_order_of_their_rows() -> None:
    """Each position where it belongs; lists in the order in which they first came."""
    log = logged(50)
    order = np.random.default_rng(1).permutation(100)
    lists, mixed = Lists.of(log), Lists.of(log.take(order))
    first_seen = list(dict.fromkeys((order // 2).tolist()))
    for name in ("arm", "reward", "conditional", "marginal"):
        assert getattr(mixed, name).tolist() == getattr(lists, name)[first_seen].tolist(), name
    assert lists.arm.tolist() == log.arm.reshape(-1, 2).tolist()
    assert lists.conditional.tolist() == given(lists.arm).tolist()


def test_shorter_lists_have_empty_places() -> None:
    """Reward 0, probability 1 and no arm: they change no weight."""
    log = logged(3)
    short = log.take(np.array([0, 1, 2, 4, 5]))
    lists = Lists.of(short)
    assert lists.arm[1].tolist() == [log.arm[2], -1]
    assert (lists.reward[1, 1], lists.conditional[1, 1], lists.marginal[1, 1]) == (0.0, 1.0, 1.0)
    assert lists.there.tolist() == [[True, True], [True, False], [True, True]]
    uniform = list_target(short, lists, "uniform")
    assert uniform.conditional is not None
    assert uniform.choices is not None
    assert uniform.conditional[1].tolist() == [1 / 4, 1.0]
    assert not uniform.choices[1, 1].any()


@pytest.mark.parametrize("taken", [[0, 1, 1], [1, 2, 3], [0, 1, 3]])
def test_a_place_that_is_missing_or_there_twice_is_told(taken: list[int]) -> None:
    """With a decision's id, where one is known."""
    with pytest.raises(LogError, match="each position of a list once"):
        Lists.of(logged(2).take(np.array(taken)))


def test_rows_that_nothing_joins_are_no_lists() -> None:
    """Positions without decision ids, or ids without positions."""
    for field in ("position", "decision_id"):
        with pytest.raises(LogError, match="no lists"):
            Lists.of(replace(logged(2), **{field: None}))


def test_uniform_is_even_among_what_is_left() -> None:
    """1 / E, then 1 / (E - 1); an arm that could not be shown has none."""
    eligible = np.ones((8, K), bool)
    eligible[2:4, 3] = False  # of the second list
    log = logged(4, seed=3, eligible=eligible)
    found = list_target(log, lists := Lists.of(log), "uniform")
    assert found.choices is not None
    assert found.conditional is not None
    assert found.conditional.tolist() == [[1 / 4, 1 / 3], [1 / 3, 1 / 2], [1 / 4, 1 / 3], [1 / 4, 1 / 3]]
    assert found.marginal.tolist() == [[1 / 4] * 2, [1 / 3] * 2, [1 / 4] * 2, [1 / 4] * 2]
    assert found.choices.sum(axis=2) == pytest.approx(np.ones((4, 2)))
    assert (found.choices[np.arange(4), 1, lists.arm[:, 0]] == 0).all()


def test_an_order_shows_its_arms_one_below_the_other() -> None:
    """c, then a: 1 where they were shown so."""
    log = logged(200)
    lists = Lists.of(log)
    found = list_target(log, lists, "list:c,a,b")
    assert found.conditional is not None
    assert found.conditional.tolist() == ((lists.arm == [2, 0]) * 1.0).tolist()
    for text, said in (("list:c,x", "no arm 'x'"), ("list:c", "2 different arms"), ("list:c,c", "2 different arms")):
        with pytest.raises(LogError, match=said):
            list_target(log, lists, text)
    with pytest.raises(LogError, match="a target of lists is"):
        list_target(log, lists, "linucb")


def test_values_are_those_of_the_estimators_on_arrays(tmp_path: Path) -> None:
    """Each with the pair of probabilities that it takes; of a CSV only the independent one."""
    log = logged(400)
    lists = Lists.of(log)
    wanted = list_target(log, lists, "uniform")
    found = by_name(evaluate_lists(log, "uniform"))
    assert list(found) == list(ESTIMATORS)
    assert wanted.conditional is not None
    pair = lists.reward, lists.conditional, wanted.conditional
    assert found["standard"].value == of.standard(*pair).value
    assert found["reward-interaction"].value == of.reward_interaction(*pair).value
    assert found["independent"].value == of.independent(lists.reward, lists.marginal, wanted.marginal).value
    path = tmp_path / "even.csv"
    path.write_text("arm,probability,position\n" + "".join(f"{arm},0.25,{j}\n" for arm in ARMS for j in (1, 2)))
    (only,) = evaluate_lists(log, str(path))
    assert (only.estimator, only.value) == ("independent", found["independent"].value)


@pytest.mark.parametrize("learning", [False, True])
def test_the_truth_is_in_the_intervals(learning: bool) -> None:
    """100 logs: each estimator misses in 5 %, and 4 standard errors of that; chance refuses a few logs."""
    truth = float((CLICK[[2, 3]] * [1.0, 0.5]).sum())
    held: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in range(100):
        for row in evaluate_lists(logged(7500, seed, learning=learning), "list:c,d"):
            if row.verdict == "interval" and row.low is not None and row.high is not None:
                held[row.estimator].append(row.low <= truth <= row.high)
                errors[row.estimator].append(row.standard_error or 0.0)
    assert min(map(len, held.values())) >= 97
    assert {name: np.mean(found) >= 0.86 for name, found in held.items()} == dict.fromkeys(ESTIMATORS, True)
    assert np.mean(errors["cascade-dr"]) <= np.mean(errors["reward-interaction"]) <= np.mean(errors["standard"])


def test_the_model_of_cascade_dr_has_not_seen_the_list_it_values() -> None:
    """Of a policy that learned: the first block is predicted from nothing; else each block from all others."""
    log = logged(1000)
    past, others = (_model(Lists.of(replace(log, learning=learning))) for learning in (True, False))
    assert not past[:100].any()
    assert (past[100:] > 0).all()
    assert (others > 0).all()
    assert past[-100:] == pytest.approx(others[-100:])
    richer = replace(log, reward=np.where(np.arange(2000) < 200, 1.0, log.reward))
    assert (_model(Lists.of(richer))[:100] == others[:100]).all()


def test_few_lists_have_a_sequence() -> None:
    """Where few weights decide; with rewards on another scale the ends move along."""
    log = logged(200)
    found = by_name(evaluate_lists(log, "list:c,d"))
    assert {row.verdict for row in found.values()} == {"sequence"}
    assert all(row.low is not None and row.value is not None and row.low < row.value for row in found.values())
    one, other = found["standard"], found["reward-interaction"]
    assert (one.low, one.high) != (other.low, other.high)  # one weight for the whole list, or one for each position
    moved = replace(log, reward=40 * log.reward - 35)
    for name, row in by_name(evaluate_lists(moved, "list:c,d", reward_range=(-35, 5))).items():
        if name != "cascade-dr":
            ends = found[name].low, found[name].high
            assert (row.low, row.high) == pytest.approx([40 * end - 70 for end in ends if end is not None])
    assert {row.verdict for row in evaluate_lists(logged(20), "list:c,d")} == {"sequence"}


def test_single_decisions_among_lists_are_lists_of_one_place() -> None:
    """A second position in one of 2,000 is the sum of one more; its target's first position decides all others."""
    log = logged(2000)
    only = np.sort(np.append(np.arange(0, 4000, 2), 1))
    found = by_name(evaluate_lists(log.take(only), "list:c,d"))
    first = FIRST[log.arm[0::2]]
    alone = (log.arm[0::2] == 2) / first * log.reward[0::2]
    for name in ("standard", "reward-interaction", "independent"):
        assert found[name].n == 2000
        assert found[name].verdict == "interval"
        assert found[name].value == pytest.approx(alone.mean(), abs=0.01)
        assert found[name].low < 0.5 < found[name].high


def of_people(n: int, users: int, seed: int) -> Log:
    """Lists shown to people who return: some click on much, most on nothing (on .1 of what they see, on average)."""
    log, rng = logged(n, seed), np.random.default_rng([seed, 1])
    who = rng.permutation(n) % users
    clicks = rng.random(2 * n) < np.repeat(rng.beta(0.3, 2.7, users)[who], 2)
    return replace(log, reward=clicks * 1.0, user=np.repeat(np.char.add("u", who.astype(str)), 2))


def test_lists_of_people_who_return_are_counted_by_people() -> None:
    """200 people with 20 lists each: 100 logs, 5 % may miss, and 1.4 standard errors. By lists 38 % or more do."""
    held: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    for seed in range(100):
        for row in evaluate_lists(of_people(4000, 200, seed), "uniform"):
            if row.low is not None and row.high is not None:
                assert row.verdict == "interval"
                held[row.estimator].append(row.low <= 0.2 <= row.high)
                assert row.n_eff <= 200
                assert "clustered by 200 users" in row.note
    for name, each in held.items():
        assert len(each) >= 95, name
        assert np.mean(each) >= 0.92, name


def test_sequences_of_lists_are_of_people_too() -> None:
    """40 people are too few for an interval; a person's lists are one bet, whatever the order of the others."""
    log = of_people(1000, 40, 0)
    together = np.argsort(np.unique(log.user, return_inverse=True)[1], kind="stable")
    for row, other in zip(*(evaluate_lists(each, "uniform") for each in (log, log.take(together))), strict=True):
        assert (row.verdict, row.n_eff) == ("sequence", 40)
        if row.estimator == "standard":
            assert row.high - row.low == pytest.approx(other.high - other.low, rel=0.05)
    rows, users = (
        evaluate_lists(each, "uniform", looks="any", estimators=["standard"])[0]
        for each in (replace(log, user=None), log)
    )
    assert users.high - users.low > 2 * (rows.high - rows.low)


def test_the_model_of_cascade_dr_has_not_seen_the_person_it_values() -> None:
    """Other rewards in all lists of the first people leave what their lists are predicted as it was."""
    log = of_people(1000, 50, 0)
    first = np.isin(log.user, list(dict.fromkeys(log.user.tolist()))[:5])
    one, other = (_model(Lists.of(each)) for each in (log, replace(log, reward=np.where(first, 1.0, log.reward))))
    assert (one[first[::2]] == other[first[::2]]).all()
    assert (one != other).any()


def test_money_of_lists_has_an_interval_only_where_its_range_is_known() -> None:
    """One order in thirty is 30 times as large: as in `evaluate` what came does not tell what will come."""
    log = logged(6000)
    money = replace(log, reward=log.reward * np.where(np.arange(len(log)) % 30 == 7, 30.0, 1.0))
    for row in evaluate_lists(money, "uniform"):
        assert row.verdict == "assumed"
        assert (
            "state the possible rewards of a position: this holds only if none is above 30, the largest observed"
            in row.note
        )
    known = [
        evaluate_lists(money, "uniform", reward_range=(0.0, 30.0)),
        evaluate_lists(replace(money, reward_range=(0.0, 30.0)), "uniform"),
        evaluate_lists(money, "uniform", cap=3.0),
    ]
    assert {row.verdict for found in known for row in found} == {"interval"}
    assert known[0] == known[1]
    assert known[2][0].value < known[0][0].value
    assert "rewards above 3 count as 3" in known[2][0].note


def test_a_reward_of_a_place_outside_its_range_is_refused() -> None:
    """As in `evaluate`: the row is named."""
    log = logged(100)
    row = int(log.reward.argmax())
    with pytest.raises(ValueError, match=rf"rewards must be in \[0.0, 1.0\]; row {row} has 10.0"):
        evaluate_lists(replace(log, reward=10 * log.reward), "uniform", reward_range=(0.0, 1.0))


def test_lists_can_be_looked_at_again_and_again() -> None:
    """`looks="any"`: a sequence where one look has an interval; narrower where the value stays the same."""
    log = logged(5000)
    once, again, still = (
        evaluate_lists(log, "uniform", estimators=["independent"], **how)[0]
        for how in ({}, {"looks": "any"}, {"looks": "any", "drifts": False})
    )
    assert (once.verdict, again.verdict, still.verdict) == ("interval", "sequence", "sequence")
    assert once.high - once.low < still.high - still.low < again.high - again.low
    assert "the sequence assumes a constant mean" in still.note


def test_weights_of_long_lists_beyond_all_bounds_have_no_value() -> None:
    """150 positions of 1,000 arms: the weight of the whole list is 1e448; of each position alone it is small."""
    n, k, rng = 30, 150, np.random.default_rng(0)
    arm = np.array([rng.permutation(1000)[:k] for _ in range(n)])
    log = Log(
        tuple(map(str, range(1000))), arm.ravel(), (rng.random(n * k) < 0.1) * 1.0, np.full(n * k, 1e-3),
        conditional=np.tile(1 / (1000.0 - np.arange(k)), n), position=np.tile(np.arange(k), n),
        decision_id=np.repeat(np.arange(n).astype(str), k),
    )  # fmt: skip
    order = "list:" + ",".join(map(str, arm[0]))
    found = by_name(evaluate_lists(log, order))
    assert found["independent"].value is not None
    for name in ("standard", "reward-interaction", "cascade-dr"):
        assert (found[name].value, found[name].verdict, found[name].n) == (None, "refused", n)
        assert "exceed 1e+30" in found[name].note


def test_a_broken_log_of_lists_is_refused() -> None:
    """Propensities that are not those of the draw: the mean weight is not near 1."""
    log = logged(5000)
    wrong = replace(log, conditional=np.full(len(log), 0.25), propensity=np.full(len(log), 0.25))
    for row in evaluate_lists(wrong, "list:c,d"):
        assert (row.verdict, row.low) == ("refused", None)


@pytest.mark.parametrize("form", [write_parquet, write_jsonl])
def test_lists_are_valued_from_the_command_line(tmp_path: Path, form: Callable[[Table, Path], int]) -> None:
    """From a file that was written and read again; without --lists the hint that values are per position."""
    log, path = logged(800), tmp_path / "lists"
    form(from_log(log), path)
    found = rows("evaluate", path, "--format", "table", "--lists", "--target", "list:c,d", "--alpha", "0.1")
    expected = [{"target": "list:c,d", **asdict(row)} for row in evaluate_lists(log, "list:c,d", alpha=0.1)]
    assert found == [pytest.approx(row) for row in expected]
    (one,) = rows("evaluate", path, "--format", "table", "--lists", "--estimator", "standard")
    assert one["estimator"] == "standard"
    capped, expected = (
        rows("evaluate", path, "--format", "table", "--lists", "--cap", "0.5", "--looks", "any", "--stationary"),
        evaluate_lists(log, "uniform", cap=0.5, looks="any", drifts=False),
    )
    assert [row["high"] for row in capped] == [row.high for row in expected]
    code, _, err = run("evaluate", path, "--format", "table", "--estimator", "ips")
    assert (code, err) == (0, "the log has lists: values are per position; --lists values whole lists\n")
    code, out, err = run("evaluate", path, "--format", "table", "--lists", "--stream")
    assert (code, out, "--lists takes no --stream" in err) == (2, "", True)


def seeded(url: str) -> Service:
    """A service that draws the same lists each time, as long as all of them are exploration."""
    service = Service(RedisStore(url), Settings(redis_url=url), np.random.default_rng(7).bytes)
    service.follower.start()
    return service


def test_a_servers_lists_are_valued(tmp_path: Path) -> None:
    """Drawn, logged and exported by a real server: the truth of two targets is in every interval."""
    rate = {"a": 0.2, "b": 0.6, "c": 0.4, "d": 0.1}
    rng = np.random.default_rng(0)
    with valkey() as url, serving(made=lambda: seeded(url)) as server:
        until(server.service.ready.is_set)
        one = server.experiment(features=[], arms=list(rate), policy={"type": "linucb", "explore": 1})
        for _ in range(25):
            requests = [{"context": {}, "k": 2}] * 100
            answers = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
            events = [
                {"decision_id": answer["decision_id"], "event": "click", "arm": each["arm"]}
                for answer in answers
                for position, each in enumerate(answer["arms"])
                if rng.random() < rate[each["arm"]] / (position + 1)
            ]
            ok(one.post("feedback/batch", {"requests": events}))
        log = load(None, "server", experiment=one.name, redis_url=url)
    for text, truth in (("uniform", 1.5 * np.mean([*rate.values()])), ("list:b,c", 0.6 + 0.2)):
        for row in evaluate_lists(log, text, alpha=0.001):
            assert row.low is not None, row
            assert row.high is not None
            assert row.low < truth < row.high, row


def test_names_that_are_not_known_are_refused() -> None:
    """With those that are."""
    with pytest.raises(ValueError, match="estimators of lists are"):
        evaluate_lists(logged(10), "uniform", estimators=["ips"])
