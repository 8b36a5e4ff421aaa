"""Whether rows of a log without ids are copies, as of a file that was joined or loaded twice; or alike by chance.

N_j different rows are there j times. By chance, however often each of them is expected:
    at most about half of the different rows are there an even number of times, fewer by 3 or 5
    N_3 >= 2/3 N_2^2 / N_1  on average: j! N_j are the moments of the numbers expected (Cauchy and Schwarz)
Copies break one of them: all rows twice the first, some of the rows twice the second.
"""

from __future__ import annotations

import math
from array import array

import numpy as np
import pyarrow as pa

from bandit.arrays import Int

LARGEST = 1 << 64  # of a position in 8 bytes
MOST = 100_000  # different rows that are counted; of a longer log a share, chosen by the rows' hashes
EVEN = 0.9  # share of the different rows from which on all are told to be there twice, or more often
SPREADS = 2.5  # ... and so many times the root of their number above one half: 5 standard deviations
TWICE = 0.1  # share of the different rows from which on some are told to be there twice
TRIPLES = 20.0  # rows expected three times at least, below which nothing is said; a quarter of them is far too few


class Repeats:
    """How often each row occurs."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.step = 1

    def add(self, batch: pa.RecordBatch) -> None:
        """Some rows."""
        counts, step = self.counts, self.step
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if (key := hash(row)) % step == 0:
                counts[key] = counts.get(key, 0) + 1
        while len(self.counts) > MOST:
            self.step *= 2
            self.counts = {key: count for key, count in self.counts.items() if key % self.step == 0}

    def copies(self) -> int:
        """How many rows are duplicates that chance does not explain; 0 where that cannot be told."""
        times: Int = np.fromiter(self.counts.values(), np.int64)
        D, even = len(times), max(int((times % j == 0).sum()) for j in (2, 3, 5))
        if even >= max(EVEN * D, D / 2 + SPREADS * math.sqrt(D), 1):
            return self.step * int(times.sum())
        once, twice, thrice = (int((times == j).sum()) for j in (1, 2, 3))
        expected = 2 / 3 * max(twice - 3 * math.sqrt(twice), 0) ** 2 / (once + 3 * math.sqrt(once) + 9)  # at least
        if twice >= TWICE * D and expected >= TRIPLES and thrice < expected / 4:
            return self.step * int(times[times > 1].sum())
        return 0


class Once:
    """Tells whether a log position comes for the first time, in a few bytes for each while they come in order."""

    def __init__(self) -> None:
        self.last = -1
        self.ordered = array("Q")  # all so far, where none was before another
        self.all: set[int] | None = None

    def is_new(self, position: tuple[int, int]) -> bool:
        """Take a position."""
        key = (position[0] << 20) + position[1]  # never a million in a millisecond
        if self.all is None and self.last < key < LARGEST:
            self.last = key
            self.ordered.append(key)
            return True
        if self.all is None:
            self.all, self.ordered = set(self.ordered), array("Q")
        new = key not in self.all
        self.all.add(key)
        return new
