"""Contexts that know which arm was shown: told of, and only they."""

from dataclasses import replace

import numpy as np
import pytest
from logs import Array, log_of

from simulator.logs.log import Log
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.evaluate import evaluate
from simulator.ope.stream import evaluate_stream

N = 4000


def made(seed: int, mu: tuple[float, ...] = (0.5, 0.5), *, after: str = "", known: bool = True) -> Log:
    """Clicks of .1 and .3; beside age, a column that came before the decision or, by `after`, did not."""
    rng = np.random.default_rng(seed)
    P = np.broadcast_to(np.array(mu), (N, len(mu)))
    arm = (rng.random(N)[:, None] > P.cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(N) < np.array([0.1, 0.3, 0.2])[arm]).astype(float)
    age, noise = rng.normal(size=N), rng.normal(size=N)
    column: dict[str, Array] = {"": noise, "price": 10.0 + 5 * arm, "seconds": 5 * reward + noise}
    log = log_of(P, arm, reward, context=np.column_stack([np.ones(N), age, column[after]]))
    log = replace(log, columns=("1", "age", after or "visits"))
    return log if known else replace(log, probability=None)


@pytest.mark.parametrize("after", ["price", "seconds"])
@pytest.mark.parametrize("known", [True, False])
def test_a_column_from_after_the_decision_is_refused_by_its_name(after: str, *, known: bool) -> None:
    """What was shown, or how long it was looked at: DR said .14 for a true .10, as an interval."""
    log = made(0, (0.8, 0.2), after=after, known=known)
    (row,) = evaluate(log, np.eye(2)[np.zeros(N, int)], estimators=["dr"])
    assert (row.verdict, row.low) == ("refused", None)
    assert f"context column '{after}' differs by the arm shown" in row.note


def test_columns_from_before_it_are_not() -> None:
    """In a thousand logs of four kinds, none: uneven, three arms, propensities of their own, and by users."""
    for seed in range(250):
        assert not sample_ratio(made(seed)).unbalanced
        assert not sample_ratio(made(seed, (0.97, 0.02, 0.01))).unbalanced
        assert not sample_ratio(made(seed, (0.6, 0.4), known=False)).unbalanced
        once = made(seed).take(np.arange(N // 20))
        again = once.take(np.repeat(np.arange(N // 20), 20))  # twenty times the same row of a user
        assert not sample_ratio(replace(again, user=np.repeat(np.arange(N // 20), 20).astype(str))).unbalanced


def test_where_only_the_shown_arms_propensity_is_known_it_is_a_doubt() -> None:
    """Arms that are not always eligible look the same."""
    log = made(0, (0.5, 0.5), after="price")
    p = np.where(np.arange(N) % 2, 0.5, 0.4)
    doubtful = sample_ratio(replace(log, probability=None, propensity=p))
    assert not doubtful.unbalanced
    assert any("context column 'price'" in each for each in doubtful.warnings)


def test_a_stream_says_the_same() -> None:
    """Piece by piece, with all probabilities known or only those of what was shown."""
    only = np.eye(2)[np.zeros(500, int)]
    for known in (True, False):
        log = made(1, (0.5, 0.5), after="price", known=known)
        pieces = [log.take(np.arange(start, start + 500)) for start in range(0, N, 500)]
        (row,) = evaluate_stream(lambda pieces=pieces: iter(pieces), lambda *_: lambda _: only, estimators=["dr"])
        assert row.verdict == "refused"
        assert "context column 'price'" in row.note
