"""Who is refreshed first."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandit.core.waiting import Waiting


def test_arms_that_learned_something_go_first_and_few_others_beside_them() -> None:
    """Of 100 arms to factor again three learned something: they are done with one other, then the others alone."""
    waiting = Waiting()
    waiting.renew(100)
    waiting.mark(np.array([7, 9, 50]), factor=False)
    assert waiting.first(64) == [(7, True), (9, True), (50, True), (0, True)]
    waiting.done(waiting.first(64))
    assert [arm for arm, _ in waiting.first(64)] == [arm for arm in range(1, 70) if arm not in (7, 9, 50)][:64]
    assert len(waiting) == 96


@given(st.integers(1, 64), st.lists(st.integers(0, 19), min_size=1, max_size=12))
def test_nobody_waits_for_ever_while_others_learn(size: int, busy: list[int]) -> None:
    """However much is learned between two refreshes, all that was out of date is made anew in the end, once."""
    waiting, renewed = Waiting(), []
    waiting.renew(20)
    for _ in range(40):
        waiting.mark(np.array(busy), factor=False)
        first = waiting.first(size)
        assert len(first) <= size + 1
        renewed += [arm for arm, whole in first if whole]
        waiting.done(first)
    assert sorted(renewed) == list(range(20))
    assert not waiting.stale
