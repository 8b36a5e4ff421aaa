"""Rates: an independent count of what was let through, over many workers, by an exact clock."""

import os
import subprocess
import sys
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.access.keys import Limit
from bandit.access.limits import Limits, size_for
from bandit.process.slots import shared_file

HELD = """
import sys
from bandit.access.limits import Limits
from bandit.access.keys import Limit
limits = Limits(int(sys.argv[1]), clock=lambda: 100.5)
print(sum(limits.take("key", 3, Limit(10, 60)).admitted for _ in range(8)), flush=True)
sys.stdin.read()
"""


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 3)), min_size=1, max_size=120),
    st.sampled_from([1, 60]),
)
def test_no_stretch_has_more_than_two_quotas_and_no_window_more_than_one(
    quota: int, asked: list[tuple[float, int]], seconds: int
) -> None:
    """By brute force over what was let through; a request alone in two windows is always let through."""
    now, taken = [1000.0 * seconds], deque[tuple[float, int]]()
    limits, limit = Limits(clock=lambda: now[0]), Limit(quota, seconds)
    for pause, cost in asked:
        now[0] += pause * seconds
        if limits.take("k", 0, limit, cost).admitted:
            taken.append((now[0], cost))
    for at, _ in taken:
        assert sum(cost for when, cost in taken if at - seconds < when <= at) <= 2 * quota
        window = int(at // seconds)
        assert sum(cost for when, cost in taken if int(when // seconds) == window) <= quota
    now[0] += 2 * seconds
    assert limits.take("k", 0, limit).admitted


def test_a_refused_request_may_come_when_it_is_told() -> None:
    """The seconds that a refusal names are enough, and one less is not (where more than one is told)."""
    for phase in (0.0, 0.3, 0.7, 0.99):
        for cost in (1, 4):
            now = [60_000 + phase * 60]
            limits, limit = Limits(clock=lambda now=now: now[0]), Limit(10, 60)
            while (standing := limits.take("k", 0, limit, cost)).admitted:
                pass
            start = now[0]
            now[0] = start + standing.seconds - 1.5
            if standing.seconds > 2:
                assert not limits.take("k", 0, limit, cost).admitted
            now[0] = start + standing.seconds
            assert limits.take("k", 0, limit, cost).admitted


def test_one_limit_holds_for_all_workers() -> None:
    """Three processes that share their counts let through as many as one, not three times as many; what one that has
    ended counted goes on to count, and its column is used again.
    """
    counts = shared_file("counts", size_for(3))
    try:
        workers, admitted = [], 0
        for _ in range(3):
            worker = subprocess.Popen(
                [sys.executable, "-c", HELD, str(counts)],
                pass_fds=[counts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            workers.append(worker)
            assert worker.stdout is not None
            admitted += int(worker.stdout.readline())
        assert admitted == 10
        for worker in workers:
            worker.communicate("")
        again = [Limits(counts, clock=lambda: 100.5)]
        assert not again[0].take("key", 3, Limit(10, 60)).admitted
        assert again[0].take("other", 4, Limit(10, 60)).admitted
    finally:
        os.close(counts)


def test_a_place_that_is_used_again_begins_from_nothing() -> None:
    """Another key's requests in the same window are not this one's."""
    limits, limit = Limits(clock=lambda: 5.0), Limit(2, 3600)
    assert [limits.take("one", 0, limit).admitted for _ in range(3)] == [True, True, False]
    assert limits.take("two", 0, limit).admitted


def test_a_worker_without_a_column_counts_for_itself() -> None:
    """There are two for each worker, as again as many stand beside them while all are replaced. A further one must not
    write where another does, nor fail to start.
    """
    counts = shared_file("counts", size_for(1))
    others = [
        subprocess.Popen(
            [sys.executable, "-c", HELD, str(counts)],
            pass_fds=[counts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for other in others:
        assert other.stdout is not None
        other.stdout.readline()
    alone = Limits(counts, clock=lambda: 100.5)
    assert sum(alone.take("key", 3, Limit(10, 60)).admitted for _ in range(20)) == 10
    for other in others:
        other.communicate("")
    os.close(counts)
