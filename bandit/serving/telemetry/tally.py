"""What one experiment's batcher counts: a few additions a request, on the event loop.

A decision is *explored* where its first arm was drawn with less than the largest probability, and *even* where all arms
that could be shown had the same one, as in the series of `replica.series`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bandit.arrays import Matrix
from bandit.core.draw import Choice
from bandit.core.experiment import Experiment
from bandit.errors import Code
from bandit.store.protocol import Outcome, Reward
from bandit.telemetry.counters import Cell, Counters
from bandit.telemetry.table import ARMS

if TYPE_CHECKING:
    from bandit.serving.decisions import Made
    from bandit.serving.requests import RecommendationRequest
    from bandit.serving.telemetry.spans import Spans
    from bandit.serving.waiting.pending import PendingRequest

ALIKE = 1 - 1e-9  # probabilities that differ by less were computed as equal ones


class Accepted(NamedTuple):
    """Where accepted feedback of a kind is counted: found once for each version, as most feedback is accepted."""

    events: Cell
    credited: Cell
    step: float  # reward of one unit of credit


class Tally:
    """The numbers of one experiment.

    Args:
        counters: of this process.
        name: of the experiment.
    """

    def __init__(self, counters: Counters, name: str) -> None:
        self.counters, self.name = counters, name
        self._kinds: dict[str, Cell] = {}
        self._new = counters.cell("bandit_decisions_total", name, "new")
        self._deferred = counters.cell("bandit_decisions_total", name, "deferred")
        self._explored = counters.cell("bandit_decisions_explored_total", name)
        self._even = counters.cell("bandit_decisions_even_total", name)
        self._decided_at = counters.cell("bandit_last_decision_timestamp_seconds", name)
        self._tick = counters.histogram("bandit_tick_requests")
        self._append = counters.histogram("bandit_append_duration_seconds")
        self._feedback: dict[tuple[int, str], Cell] = {}
        self._more: dict[Any, Cell] = {}  # cells by name, reward or slice and the like
        self._accepted: list[Accepted] = []  # of each kind
        self._arms: Sequence[str] = ()  # none where they are too many to be told apart
        self._rewarded_at: Cell | None = None  # None: no reward has come
        self.spans: Spans | None = None  # where requests are traced
        self._experiment: Experiment | None = None
        self._made: Made | None = None
        self._tops: list[float] = []  # of the decisions of `_made`

    def version(self, experiment: Experiment) -> None:
        """Count by this version from now on: a slice's or a reward's number may have another name."""
        if experiment is not self._experiment:
            self._experiment = experiment
            self._feedback.clear()
            self._more.clear()
            self._arms = experiment.config.index if len(experiment.config.index) <= ARMS else ()
            self._accepted = [  # at 0 from the start, so that rates begin with the first event
                Accepted(self._outcome(i, "accepted"), self._cell("bandit_reward_credited_total", name), kind.step)
                for i, (name, kind) in enumerate(zip(experiment.config.kinds, experiment.kinds, strict=True))
            ]

    def tick(self, batch: Sequence[PendingRequest], times: tuple[float, float, float], number: tuple[str, int]) -> None:
        """A micro-batch was appended.

        Args:
            batch: its requests.
            times: when deciding began, when appending, and when that was over (`time.monotonic()`).
            number: the producer's name and its number.
        """
        self._tick.observe(len(batch))
        self._append.observe(times[2] - times[1])
        self.counters.moved = True
        if self.spans is not None:
            self.spans.served(self.name, ((each.trace, each.since) for each in batch), times, number, len(batch))

    def again(self, kind: str) -> None:
        """A decision that was answered and not logged anew: replayed, sticky, fallback or degraded."""
        if (cell := self._kinds.get(kind)) is None:
            cell = self._kinds[kind] = self.counters.cell("bandit_decisions_total", self.name, kind)
        cell[0] += 1
        self.counters.moved = True

    def decided(self, request: RecommendationRequest, choice: Choice, made: Made, place: int, ms: int) -> None:
        """A new decision was logged.

        Args:
            request: what was asked for.
            choice: what was drawn.
            made: the micro-batch's decisions.
            place: which of them this is.
            ms: when it was logged.
        """
        if made is not self._made:
            self._made, self._tops = made, _largest(made.decided.probabilities)
        top = self._tops[place]
        (self._deferred if request.defer and request.deferred else self._new)[0] += 1
        if choice.propensities[0] < top * ALIKE:
            self._explored[0] += 1
        elif top <= 0.5:  # of two arms or more
            experiment = request.experiment
            whole = request.eligible is experiment.active
            count = experiment.active_count if whole else int(np.count_nonzero(request.eligible))
            self._even[0] += top * count <= 1 / ALIKE
        if made.play and not made.shadows:
            slices = request.experiment.slices
            self._cell("bandit_slice_decisions_total", slices[made.play[place]].name)[0] += 1
        for arm in choice.arms if self._arms else ():
            self._cell("bandit_arm_decisions_total", self._arms[arm])[0] += 1
        self._decided_at[0] = ms / 1000

    def judged(self, request: Reward, result: Outcome | list[Outcome]) -> None:
        """Feedback was judged: of each decision that it was for."""
        if isinstance(result, list):
            for outcome in result:
                self.judged(request, outcome)
            return
        if result.status != "accepted":
            cell = self._feedback.get((request.kind, result.status)) or self._outcome(request.kind, result.status)
            cell[0] += 1
            return
        events, credited, step = self._accepted[request.kind]
        events[0] += 1
        if (amount := result.credited * step) >= 0:
            credited[0] += amount
        else:
            self._by_kind("bandit_reward_taken_back_total", request)[0] -= amount
        if result.clipped:
            self._by_kind("bandit_feedback_clipped_total", request)[0] += 1
        if request.refund_of:
            self._by_kind("bandit_refunds_total", request)[0] += 1
        if self._rewarded_at is None:
            self._rewarded_at = self._cell("bandit_last_reward_timestamp_seconds")
        self._rewarded_at[0] = time.time()

    def _by_kind(self, metric: str, request: Reward) -> Cell:
        return self._cell(metric, self._experiment.config.kinds[request.kind] if self._experiment else "")

    def overloaded(self, what: str) -> None:
        """A request for this operation was refused as too many wait."""
        self._cell("bandit_problems_total", what, Code.OVERLOADED.value)[0] += 1

    def activated(self, outcome: Outcome) -> None:
        """An activation was judged."""
        self._cell("bandit_activations_total", outcome.status)[0] += 1

    def _outcome(self, kind: int, status: str) -> Cell:
        reward = self._experiment.config.kinds[kind] if self._experiment else ""
        cell = self._feedback[kind, status] = self.counters.cell("bandit_feedback_total", self.name, reward, status)
        return cell

    def _cell(self, metric: str, *labels: str) -> Cell:
        cell = self._more.get((metric, labels))
        if cell is None:
            cell = self._more[metric, labels] = self.counters.cell(metric, self.name, *labels)
        return cell


def _largest(probabilities: Matrix) -> list[float]:
    """The largest probability of each decision."""
    if len(probabilities) == 1:  # a third of the time of the general way
        return [probabilities.item(int(probabilities.argmax()))]
    tops: list[float] = probabilities.max(axis=1).tolist()
    return tops
