"""Numbers that nothing can be worked out from are refused in one line, wherever they come in."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import World
from simulator_cli import CSV, run, write_log

from simulator.logs.log import Log
from simulator.ope.differences import compare
from simulator.ope.evaluate import EstimatorRow, evaluate
from simulator.ope.evaluate_lists import evaluate_lists
from simulator.ope.models import model_of, predictions, regressor_model
from simulator.ope.problem import Options
from simulator.ope.stream import evaluate_stream
from simulator.ope.targets import uniform
from simulator.studies.select import select
from simulator.studies.sweep import sweep_log

N = 300
NAN, INF = math.nan, math.inf


def logged(**fields: Any) -> Log:
    """Three features, five arms, evenly drawn."""
    world = World()
    log, _ = world.log(np.random.default_rng(3), N, world.policy(1.0))
    return replace(log, **fields)


def lists(log: Log) -> Log:
    """Every two rows as the positions of a list, of different arms."""
    arm = np.where((np.arange(N) % 2 == 1) & (log.arm == np.roll(log.arm, 1)), (log.arm + 1) % log.K, log.arm)
    ids, even = np.repeat(np.arange(N // 2), 2).astype(str), np.full(N, 1 / log.K)
    p = even if (log.propensity == even).all() else log.propensity
    return replace(
        log, arm=arm, propensity=p, probability=None, position=np.arange(N) % 2, decision_id=ids,
        conditional=np.where(np.arange(N) % 2, 1 / (log.K - 1), p),
    )  # fmt: skip


def streamed(log: Log, **how: Any) -> list[EstimatorRow]:
    """In two pieces."""

    def pieces() -> Iterator[Log]:
        yield log.take(slice(0, 100))
        yield log.take(slice(100, None))

    return evaluate_stream(pieces, lambda _, __: uniform, **how)


def selected(log: Log, **how: Any) -> object:
    """Of two fixed arms."""
    return select(log, fixed_arms(log), **how)


def fixed_arms(log: Log) -> dict[str, Any]:
    """Probabilities of two targets."""
    return {name: np.eye(log.K)[np.full(len(log), arm)] for arm, name in enumerate("ab")}


def swept(log: Log, **how: Any) -> object:
    """Two settings of a policy, in this process."""
    one_by_one: Any = lambda work, common, tasks, show: {i: work(common, each) for i, each in enumerate(tasks)}  # noqa: E731
    return sweep_log(log, "epsilon-greedy", {"explore": [0.1, 0.5]}, spread=one_by_one, **how)


WAYS: dict[str, Callable[..., object]] = {
    "evaluate": lambda log, **how: evaluate(log, uniform(log), **how),
    "stream": streamed,
    "select": selected,
    "sweep": swept,
    "compare": lambda log, **how: compare(log, fixed_arms(log), **how),
    "lists": lambda log, **how: evaluate_lists(lists(log), "uniform", **how),
}
RANGES: list[Any] = [(5.0, 5.0), (10.0, 0.0), (0.0, INF), (-INF, 1.0), (NAN, NAN), (0.0, NAN), (0.0, 1e300)]
OPTIONS = [
    *({"reward_range": each} for each in RANGES),
    *({"cap": each} for each in (0.0, -1.0, NAN, INF)),
    *({"alpha": each} for each in (0.0, 1.0, 2.0, -1.0, NAN, 1e-20)),
]
OF_ESTIMATORS = [
    *({"clip": each} for each in (0.0, -1.0, NAN)),
    *({"tau": each} for each in (-1.0, NAN)),
    *({"lam": each} for each in (0.0, -1.0, NAN)),
]
CASES = [
    *((name, way, how) for name, way in WAYS.items() for how in OPTIONS),
    *((name, way, how) for name, way in WAYS.items() if name != "lists" for how in OF_ESTIMATORS),
]


@pytest.mark.parametrize(("name", "way", "how"), CASES, ids=lambda each: str(each) if isinstance(each, dict) else "")
def test_options_that_are_no_such_numbers_are_refused(
    name: str, way: Callable[..., object], how: dict[str, Any]
) -> None:
    """The message says what was expected and what came, of each option in each of the ways to evaluate."""
    with pytest.raises(ValueError, match=r"must be .*(got|row \d+ has) .*"):
        way(logged(), **how)


def broken(field: str, value: float, row: int = 7) -> Log:
    """The log with one number replaced."""
    log = logged()
    values = np.array(getattr(log, field), float) if getattr(log, field) is not None else np.ones(N)
    values[row] = value
    if field == "propensity":
        return replace(log, propensity=values, probability=None)
    return replace(log, **{field: values})


ROWS = [
    *(("reward", each, "rewards must be in") for each in (NAN, INF, -INF, 2e30, -1e200)),
    *(("context", each, "features must be numbers") for each in (NAN, INF, -INF, 1e200)),
    *(("weight", each, "row weights must be numbers") for each in (NAN, INF, -1.0, 1e200)),
    *(("propensity", each, r"propensities must be in \[1e-12, 1\]") for each in (1e-13, 0.0, NAN, 1.5)),
]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(("field", "value", "message"), ROWS)
def test_rows_with_numbers_that_are_none_are_named(name: str, field: str, value: float, message: str) -> None:
    """The row too, but where it is that of a half or a piece of the log; not in the middle of the arithmetic."""
    what = f"{message}.*; row \\d+ has {str(value).replace('+', '.')}"
    if name == "stream" and field == "reward":
        what += "|possible rewards"  # it looks for the range of all rewards before it reads them
    with pytest.raises(ValueError, match=what):
        WAYS[name](broken(field, value))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_predictions_that_are_no_numbers_are_refused(value: float) -> None:
    """Given as they are, or from a model."""
    log = logged()
    q = np.full((N, log.K), 0.5)
    q[9, 2] = value
    for way in (WAYS["evaluate"], WAYS["compare"], lambda log, q: evaluate(log, uniform(log), q=q, estimators=["dm"])):
        with pytest.raises(ValueError, match="predictions of rewards must be finite numbers; row 9 has"):
            way(log, q=q)

    class Lost:
        """A regressor that says nothing."""

        def fit(self, X: Any, y: Any) -> "Lost":
            return self

        def predict(self, X: Any) -> Any:
            return np.full(len(X), value)

    with pytest.raises(ValueError, match="predictions of rewards must be finite numbers; row 0 has"):
        predictions(regressor_model(Lost()), log, "cross")


def test_a_target_may_not_play_what_hardly_ever_could_be_shown() -> None:
    """A weight of 1e300 is no weight; the log's own probabilities are fine, however small."""
    mu = np.column_stack([np.ones(N), np.full(N, 1e-300)])
    log = Log(("a", "b"), np.zeros(N, int), logged().reward, np.ones(N), mu)
    with pytest.raises(ValueError, match=r"in row 0 arm 'b' has 0\.5, and could be shown with 1e-300"):
        evaluate(log, np.full((N, 2), 0.5))
    for row in evaluate(log, mu, estimators=["ips", "dr"]):
        assert row.value == pytest.approx(log.reward.mean(), abs=1e-3)


def test_probabilities_below_0_are_refused() -> None:
    """Or that are none."""
    for value in (-0.1, NAN):
        log = logged()
        P = log.probability.copy()
        P[4, 1] = value
        with pytest.raises(ValueError, match=f"probabilities must be at least 0; row 4 has {value} of an arm"):
            evaluate(replace(log, probability=P), uniform(log))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_numbers_within_the_limits_are_worked_out(scale: float) -> None:
    """Rewards, features and weights at the limit: ends are numbers and move with the rewards."""
    log = logged()
    one = evaluate(replace(log, reward_range=(0.0, 1.0)), uniform(log), q="mean")
    large = replace(log, reward=log.reward * scale, reward_range=(0.0, scale))
    for row, other in zip(one, evaluate(large, uniform(log), q=predicted(log) * scale), strict=True):
        assert row.estimator == other.estimator
        assert other.low is not None
        assert other.high is not None
        assert np.isfinite([other.low, other.high]).all()
        if row.estimator in ("ips", "snips", "clipped", "replay"):
            assert other.value == pytest.approx(row.value * scale)
    heavy = replace(log, weight=np.where(np.arange(N) % 2, 1e12, 1.0), context=log.context * 1e12)
    assert all(row.low is None or np.isfinite([row.low, row.high]).all() for row in evaluate(heavy, uniform(log)))


def predicted(log: Log) -> Any:
    """What the mean says."""
    return predictions(model_of("mean"), log, "cross")


def test_the_options_that_there_are_by_default_are_fine() -> None:
    """Each within its limits."""
    how = Options((0.0, 1.0), "cross")
    assert 0 < how.alpha < 1
    assert evaluate(logged(), uniform(logged()), alpha=how.alpha, clip=INF, tau=INF, lam=INF, cap=1e30)


ENDS = [("5", "5"), ("0", "inf"), ("nan", "nan"), ("2", "1")]
COMMANDS = [
    *((each, "--reward-range", *ends) for each in ("evaluate", "compare", "select") for ends in ENDS),
    *((each, "--cap", cap) for each in ("evaluate", "compare", "replay") for cap in ("0", "-1", "nan", "inf")),
    *((each, "--alpha", alpha) for each in ("evaluate", "compare", "select", "replay") for alpha in ("0", "nan")),
    *(("evaluate", name, value) for name in ("--tau", "--lambda", "--clip") for value in ("-1", "nan")),
    *(("evaluate", *rest) for rest in (("--lambda", "0"), ("--clip", "0"), ("--stream", "--cap", "0"))),
]


@pytest.mark.parametrize("options", COMMANDS, ids=" ".join)
def test_the_command_line_refuses_them_in_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Nothing on stdout, and an exit that is not 0."""
    command, *rest = options
    targets = () if command == "replay" else ("--target", "uniform", "--target", "fixed:a")
    code, out, err = run(command, write_log(tmp_path / "log.csv", 60), *CSV, *targets, *rest)
    assert code in (1, 2)
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith("bandit-simulator: ") or "Invalid value" in line]
    assert len(told) == 1, err
