"""What is in doubt about a log, whatever its numbers say: in words, for the head of a report."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bandit.core.ridge.linear import loose_range
from simulator.logs.loaders.csv import COPIED
from simulator.logs.loaders.server import UNSURE
from simulator.logs.log import Log
from simulator.ope.differences import Data
from simulator.wording import amount, counted, number

SHARE = 0.01  # of the rows, from which on what is lost or still to come may turn an answer
UNUSABLE = ("rows dropped: ", "lines left out: ", "examples left out: ")
MEANT = (  # left out by design, or with nothing that an answer could be of
    "decision that came before",
    "without a label",
    "without cost and probability",
    "outcomes without their decision",
)


def doubts(log: Log, data: Data, each: str) -> Iterator[str]:
    """What the cleaning and the range of rewards leave in doubt; `each`: what a row is called."""
    yield from _copies(log, each)
    yield from _to_come(log, each)
    yield from _lost(log, each)
    yield from _loose(data)


def _copies(log: Log, each: str) -> Iterator[str]:
    if n := log.cleaning.get(COPIED, 0):
        told = counted(n, f"{each}s occur several times, more often than by chance")
        yield f"{told}: if these are copies, intervals are too narrow"


def _to_come(log: Log, each: str) -> Iterator[str]:
    n = log.cleaning.get(UNSURE, 0)
    if n > SHARE * len(log):
        yield (
            f"rewards of {counted(n, each + 's')} may still come, and count as 0: the log does not show how long "
            "rewards take (--min-age sets how old a decision must be to count)"
        )


def _lost(log: Log, each: str) -> Iterator[str]:
    """Rows that nothing could be made of, and rows that were dropped for their reward."""
    why = {what: n for what, n in log.cleaning.items() if what.startswith(UNUSABLE) and not what.endswith(MEANT)}
    asked = {what: n for what, n in why.items() if "reward outside [" in what}
    n = sum(why.values()) - sum(asked.values())
    if n > SHARE * (n + len(log)):
        names = ", ".join(what.partition(": ")[2] for what in why if what not in asked)
        told = f"{counted(n, 'rows')} could not be used ({names}), beside {counted(len(log), each + 's')}"
        yield f"{told}: if they differ systematically from these, the values are biased"
    for what, dropped in asked.items():
        told = counted(dropped, f"rows were dropped for a {what.partition(': ')[2]}")
        yield f"{told}: the values are of the others only"


def _loose(data: Data) -> Iterator[str]:
    """That intervals are wide because the range of rewards is, not because decisions are few."""
    r, (low, high) = data.log.reward, data.span
    size = loose_range(float(np.mean(r**2)), float(np.mean(np.abs(r))), low, high)
    if size is not None:
        told = f"rewards have a mean size of {number(size)} in a range of {amount(low)} to {amount(high)}"
        yield (
            f"{told}, and so wide a range makes intervals wide: give a narrower one, or a cap (the value is then of "
            "the capped reward)"
        )
