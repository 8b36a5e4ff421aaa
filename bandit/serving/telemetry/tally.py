"""What one experiment's batcher counts: a few additions a request, on the event loop.

A decision is *explored* where its first arm was drawn with less than the largest probability, and *even* where all arms
that could be shown had the same one, as in the series of `replica.series`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bandit.arrays import Matrix
from bandit.core.draw import Choice
from bandit.core.experiment import Experiment
from bandit.store.protocol import Outcome, Reward
from bandit.telemetry.counters import Cell, Counters
from bandit.telemetry.table import ARMS

if TYPE_CHECKING:
    from bandit.serving.decisions import Made
    from bandit.serving.requests import RecommendationRequest
    from bandit.serving.telemetry.spans import Spans
    from bandit.serving.waiting.pending import PendingRequest

ALIKE = 1 - 1e-9  # probabilities that differ by less were computed as equal ones


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
            for kind in range(len(experiment.kinds)):  # at 0 from the start, so that rates begin with the first event
                self._outcome(kind, "accepted")

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
        experiment, top = request.experiment, self._tops[place]
        (self._deferred if request.defer and request.deferred else self._new)[0] += 1
        if choice.propensities[0] < top * ALIKE:
            self._explored[0] += 1
        elif top <= 0.5:  # of two arms or more
            whole = request.eligible is experiment.active
            count = experiment.active_count if whole else int(np.count_nonzero(request.eligible))
            self._even[0] += top * count <= 1 / ALIKE
        if made.play and not made.shadows:
            self._cell("bandit_slice_decisions_total", experiment.slices[made.play[place]].name)[0] += 1
        if len(experiment.config.index) <= ARMS:
            for arm in choice.arms:
                self._cell("bandit_arm_decisions_total", experiment.config.index[arm])[0] += 1
        self._decided_at[0] = ms / 1000

    def judged(self, request: Reward, result: Outcome | list[Outcome]) -> None:
        """Feedback was judged: of each decision that it was for."""
        for outcome in result if isinstance(result, list) else (result,):
            cell = self._feedback.get((request.kind, outcome.status)) or self._outcome(request.kind, outcome.status)
            cell[0] += 1
            if outcome.status == "accepted":
                self._credited(request, outcome)

    def _credited(self, request: Reward, outcome: Outcome) -> None:
        experiment = self._experiment
        if experiment is None:
            return
        kind, amount = experiment.config.kinds[request.kind], experiment.kinds[request.kind].value(outcome.credited)
        if amount >= 0:
            self._cell("bandit_reward_credited_total", kind)[0] += amount
        else:
            self._cell("bandit_reward_taken_back_total", kind)[0] -= amount
        if outcome.clipped:
            self._cell("bandit_feedback_clipped_total", kind)[0] += 1
        if request.refund_of:
            self._cell("bandit_refunds_total", kind)[0] += 1
        self._cell("bandit_last_reward_timestamp_seconds")[0] = time.time()

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
