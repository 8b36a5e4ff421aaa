"""What has been folded: sums, and for each arm the position of the log up to which they hold its events.

The store keeps it in two tables. `sums` is written by the elected server (`bandit.replica.checkpoint`). `base` gets the
entries that trimming is about to drop from the log (`bandit.replica.trim`), and a server starts from it where `sums`
cannot be used. In both a row is one arm's sums with the position that they are folded up to, and the table's cursor is
a position that every arm has reached: an arm's sums hold all its events up to max(its row's position, the cursor).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import Int, Mask
from bandit.core.experiment import Experiment
from bandit.core.sums import Sums, row_head
from bandit.errors import CorruptLog
from bandit.log.batch import EventBatch
from bandit.log.records import START, Position
from bandit.store.protocol import Store, Table
from bandit.store.readable import Readable


@dataclass
class Folded:
    """Sums, and the position that each arm's are folded up to, shape (K, 2)."""

    sums: Sums
    upto: Int
    cursor: Position

    @classmethod
    def empty(cls, experiment: Experiment) -> Folded:
        """Nothing folded yet."""
        return cls(Sums.zeros(*experiment.shape), np.zeros((experiment.shape[0], 2), np.int64), START)

    def ahead(self, batch: EventBatch) -> Mask:
        """Which events of a batch the sums do not hold yet.

        Raises:
            CorruptLog: an event is of an arm that the experiment does not have.
        """
        if len(batch.events) and batch.events.arm.max() >= len(self.upto):
            raise CorruptLog(f"the log has an event of arm {batch.events.arm.max()}; {len(self.upto)} are known")
        upto = self.upto[batch.events.arm]
        mask: Mask = (batch.at[:, 0] > upto[:, 0]) | ((batch.at[:, 0] == upto[:, 0]) & (batch.at[:, 1] > upto[:, 1]))
        return mask

    def with_sums(self, sums: Sums) -> Folded:
        """The same positions for sums that have grown."""
        upto = np.zeros((len(sums.n), 2), np.int64)
        upto[: len(self.upto)] = self.upto
        return Folded(sums, upto, self.cursor)


def load(store: Readable, name: str, table: Table, experiment: Experiment) -> Folded:
    """The sums that a table of checkpoints holds of this generation; the cursor is read first, so it is never ahead."""
    folded = Folded.empty(experiment)
    folded.cursor = store.cursor(name, table)
    folded.upto[:] = folded.cursor
    for row in store.rows(name, table):
        if row.arm < len(folded.upto) and row_head(row.sums)[0] == experiment.config.generation:
            folded.sums.unpack(row.arm, row.sums, experiment.layout.local)
            folded.upto[row.arm] = max(row.position, folded.cursor)
    return folded


def stands(store: Store, name: str, folded: Folded) -> bool:
    """Whether the log has every entry that these checkpoints stand at."""
    positions = {Position(*row) for row in np.unique(folded.upto, axis=0).tolist()} - {START}
    return all(store.at(name, position) is not None for position in positions)
