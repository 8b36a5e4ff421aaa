"""A log in pieces is valued as the whole log is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from logs import World, open_bandit

from simulator.logs.log import Log
from simulator.ope.additive import SPLITS
from simulator.ope.evaluate import EstimatorRow, evaluate
from simulator.ope.stream import MakeTarget, Pieces, evaluate_stream, parted
from simulator.ope.targets import fixed, uniform
from simulator.ope.terms import ESTIMATORS
from simulator.policies.targets import Learned, frozen, of_pieces

N = 1500
MODEL = "; error of the fitted model not included"
EVEN: MakeTarget = lambda _, __: uniform  # noqa: E731


def logged(explore: float = 0.5, **fields: Any) -> Log:
    """A log of the usual world."""
    world = World()
    log, _ = world.log(np.random.default_rng(3), N, world.policy(explore), **fields)
    return log


def cut(log: Log, *sizes: int) -> Pieces:
    """The log in pieces of these sizes, and the rest."""
    ends = [0, *np.cumsum(sizes).tolist(), len(log)]

    def pieces() -> Iterator[Log]:
        for start, end in pairwise(ends):
            yield log.take(slice(start, end))

    return pieces


def close(found: list[EstimatorRow], expected: list[EstimatorRow]) -> None:
    """EstimatorRow by row the same, but for rounding."""
    for one, other in zip(found, expected, strict=True):
        ends = (
            ("low", "high", "standard_error", "skewness") if one.estimator != "dm" else ()
        )  # DM's model is not fitted anew here
        for name in ("value", "share", "n_eff", "max_weight", "mean_weight", *ends):
            a, b = getattr(one, name), getattr(other, name)
            assert a == (b if b is None else pytest.approx(b, rel=1e-9, abs=1e-12)), (name, one, other)
        assert (one.estimator, one.verdict, one.n) == (other.estimator, other.verdict, other.n)
        assert one.note.replace(MODEL, "") == other.note.replace(MODEL, "")
        assert (MODEL in one.note) == (one.estimator == "dm")


def without_one_arm() -> Log:
    """Arm 1 could not be shown in every thirtieth row, whose arms were drawn from the others."""
    log = logged(1.0)
    rows = np.arange(N) % 30 == 0
    probability = np.where(rows[:, None], [0.25, 0.0, 0.25, 0.25, 0.25], 0.2)
    arm = np.where(rows & (log.arm == 1), 0, log.arm)
    return replace(log, arm=arm, probability=probability, propensity=probability[np.arange(N), arm])


LOGS: dict[str, Callable[[], Log]] = {
    "all probabilities": lambda: logged(),
    "little exploration": lambda: logged(0.05),
    "only the shown one's": lambda: replace(logged(), probability=None),
    "uniform, only the shown one's": lambda: replace(logged(1.0), probability=None),
    "users that come back": lambda: logged(user=np.array([f"u{i % 400}" for i in range(N)])),
    "some nobody's": lambda: logged(user=np.array([f"u{i % 400}" if i % 3 else "" for i in range(N)])),
    "decisions that are there again": lambda: logged(decision_id=np.array([f"d{i % 400}" for i in range(N)])),
    "decisions that all differ": lambda: logged(decision_id=np.arange(N).astype(str)),
    "positions of lists, all of nobody": lambda: logged(
        decision_id=(np.arange(N) // 3).astype(str), position=np.arange(N) % 3, user=np.full(N, "")
    ),
    "row weights": lambda: logged(weight=np.where(np.arange(N) % 2, 2.0, 0.5)),
    "slices": lambda: logged(part=np.arange(N) % 2),
    "an arm that some could not be shown": lambda: without_one_arm(),
    "no context": lambda: replace(logged(), context=None),
    "open bandit": lambda: open_bandit("bts", "men"),
}


@pytest.mark.parametrize("q", ["ridge", "mean"])
@pytest.mark.parametrize("name", LOGS)
def test_pieces_are_valued_as_the_whole(name: str, q: str) -> None:
    """Every estimator, with the model fitted on the past, as for a policy that learned; tau is given."""
    log = replace(LOGS[name](), learning=True)
    one = name in ("slices", "an arm that some could not be shown")
    target = fixed(log, log.arms[1]) if one else uniform(log)
    make: MakeTarget = (lambda _, __: lambda piece: fixed(piece, piece.arms[1])) if one else EVEN
    how: dict[str, Any] = {"q": q, "tau": 2.0}
    whole = evaluate(log, target, **how)
    close(evaluate_stream(cut(log, 7, 300, 60, 1), make, **how), whole)
    close(evaluate_stream(cut(log), make, **how), whole)


@pytest.mark.parametrize("learning", [False, True])
def test_arms_of_few_rows_are_fitted_by_their_rows(learning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more features than rows of an arm as many equations are solved as it has rows; the answer is the whole's."""
    rng, d = np.random.default_rng(5), 200
    X = np.column_stack([np.ones(N), rng.normal(size=(N, d - 1)) / 10])
    log, sizes, solve = replace(logged(), context=X, learning=learning), [], np.linalg.solve
    few, most = log.take(slice(0, 200)), int(np.bincount(log.arm[:200]).max())
    how: dict[str, Any] = {"estimators": ["dr"], "q_fit": "past" if learning else "in_sample"}
    whole, all_rows = (evaluate(each, uniform(each), **how) for each in (few, log))
    monkeypatch.setattr(np.linalg, "solve", lambda A, b: sizes.append(A.shape[-1]) or solve(A, b))
    close(evaluate_stream(cut(few, 7, 100), EVEN, **how), whole)
    assert max(sizes) <= most < d
    close(evaluate_stream(cut(log, 7, 300, 900), EVEN, **how), all_rows)  # some arms have more rows than that by now
    assert max(sizes) == d


def test_fitted_on_all_rows_it_is_the_same_too() -> None:
    """`in_sample`, for comparison with others."""
    log = logged()
    how: dict[str, Any] = {"q_fit": "in_sample", "tau": 2.0}
    close(evaluate_stream(cut(log, 300, 300), EVEN, **how), evaluate(log, uniform(log), **how))


def test_other_splits_are_other_rows_of_other_people() -> None:
    """Cross-fitted values are near those of other splits; they do not depend on where the log was cut."""
    log = logged(user=np.array([f"u{i % 700}" for i in range(N)]))
    found = evaluate_stream(cut(log, 300, 300), EVEN, tau=2.0)
    close(evaluate_stream(cut(log, 77), EVEN, tau=2.0), found)
    for one, other in zip(found, evaluate(log, uniform(log), tau=2.0), strict=True):
        assert one.value == pytest.approx(other.value, abs=0.003)  # the standard error of DR is .011
    again = evaluate_stream(cut(log, 300, 300), EVEN, tau=2.0, seed=1)
    assert [row.value for row in again] != [row.value for row in found]


def test_no_reward_is_in_its_own_prediction() -> None:
    """A reward far out in one row moves DM of the other splits only: with one row of an arm, its own q is the prior."""
    log = logged()
    rows = np.flatnonzero(log.arm == 4)
    one = log.take(np.sort(np.append(np.flatnonzero(log.arm != 4), rows[0])))
    own = replace(one, reward=np.where(one.arm == 4, 1.0, 0.0))
    target: MakeTarget = lambda _, __: lambda piece: fixed(piece, "arm-4")  # noqa: E731
    (found,) = evaluate_stream(cut(own, 500), target, estimators=["dm"], q="mean")
    held, seen = 1 / SPLITS, 1 - 1 / SPLITS  # shares of rows whose model has not, and has, seen the one reward
    assert found.value == pytest.approx(held * 0.01 + seen * 2 / 101, abs=0.002)


def test_a_target_that_learns_goes_on_from_piece_to_piece() -> None:
    """Refreshed every 100 rows, wherever the log is cut; with the range of all rewards from the first piece on."""
    log = replace(logged(), reward=logged().reward * np.where(np.arange(N) > 1000, 3.0, 1.0))
    make: MakeTarget = lambda first, span: Learned(first, "linucb:alpha=0.5", span=span)  # noqa: E731
    whole = evaluate(log, Learned(log, "linucb:alpha=0.5")(log), estimators=["ips", "snips"], drifts=True)
    close(evaluate_stream(cut(log, 130, 470), make, estimators=["ips", "snips"], drifts=True), whole)


@pytest.mark.parametrize("learning", [False, True])
def test_the_rows_after_the_first_ones_are_valued_by_what_these_taught(learning: bool) -> None:
    """Cut inside a piece or between two: a policy that stays as it was, or learns on, in the range it has met."""
    log = replace(logged(), reward=logged().reward * np.where(np.arange(N) > 1000, 3.0, 1.0))
    make = of_pieces("linucb:alpha=0.5")
    whole = Learned(log, "linucb:alpha=0.5")(log)[600:] if learning else frozen(log, "linucb:alpha=0.5", 600)
    expected = evaluate(log.take(slice(600, None)), whole, estimators=["ips", "snips"])
    for sizes in ((130, 470), (130, 500, 400), (7, 300)):
        rest, made = parted(cut(log, *sizes), make, 600, learning=learning)
        close(evaluate_stream(rest, made, estimators=["ips", "snips"]), expected)


def test_tau_is_chosen_by_what_was_drawn() -> None:
    """Near the choice by all arms: both say how it was chosen."""
    log = logged()
    found, whole = (
        each[0].value for each in (
            evaluate_stream(cut(log, 400), EVEN, estimators=["switch-dr"]),
            evaluate(log, uniform(log), estimators=["switch-dr"]),
        )
    )  # fmt: skip
    assert found == pytest.approx(whole, abs=0.02)


def test_a_log_that_lost_rows_is_refused_in_pieces_too() -> None:
    """An arm's rewarded rows are gone: the sample-ratio check says so, with and without users."""
    log = logged(1.0)
    lost = log.take(np.flatnonzero((log.arm != 2) | (np.arange(N) % 2 == 0)))
    users = replace(lost, user=np.array([f"u{i % 500}" for i in range(len(lost))]))
    for each in (lost, users):
        (row,) = evaluate_stream(cut(each, 300), EVEN, estimators=["ips"])
        assert row.verdict == "refused"
        assert "arm 'arm-2'" in row.note


def test_readings_are_told_and_no_more_are_made_than_needed() -> None:
    """One for the range, unless it is given; one for the columns; another for a model."""
    log, told = logged(), []
    readings = 0

    def pieces() -> Iterator[Log]:
        nonlocal readings
        readings += 1
        yield from cut(log, 1000)()

    evaluate_stream(pieces, EVEN, estimators=["ips"], reward_range=(0, 1), show=told.append)
    assert (readings, told) == (2, [1000, 1500])  # the first piece is looked at beforehand
    readings = 0
    told.clear()
    evaluate_stream(pieces, EVEN, show=told.append)
    assert (readings, told) == (4, [1000, 1500, 2500, 3000])


def test_what_cannot_be_is_refused() -> None:
    """Other models, unknown names, a target that is none, a reward outside the range."""
    log = logged()
    with pytest.raises(ValueError, match="q of a stream is one of ridge, mean; got 'mean-position'"):
        evaluate_stream(cut(log), EVEN, q="mean-position")
    with pytest.raises(ValueError, match="estimators are"):
        evaluate_stream(cut(log), EVEN, estimators=["ipz"])
    with pytest.raises(ValueError, match="sum to 1"):
        evaluate_stream(cut(log), lambda _, __: lambda piece: 2 * uniform(piece))
    with pytest.raises(ValueError, match="rewards must be in"):
        evaluate_stream(cut(log), EVEN, reward_range=(0, 0.5))
    with pytest.raises(ValueError, match="q_fit must be one of"):
        evaluate_stream(cut(log), EVEN, q_fit="future")


def test_all_estimators_are_there() -> None:
    """In their order."""
    assert [row.estimator for row in evaluate_stream(cut(logged(), 100), EVEN)] == list(ESTIMATORS)
