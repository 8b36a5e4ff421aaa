"""The events of a run of entries, whichever way they were read."""

from __future__ import annotations

from typing import NamedTuple

from bandit.arrays import Int, Mask
from bandit.core.sums import Events


class EventBatch(NamedTuple):
    """The events of a run of entries, of one generation, and what was counted on the way."""

    events: Events
    at: Int  # (N, 2) position of each event
    decisions: int
    feedback: int
    longest: int  # arms of the longest list among the decisions

    def only(self, mask: Mask) -> EventBatch:
        """The events that the mask marks."""
        return self if mask.all() else self._replace(events=self.events[mask], at=self.at[mask])
