"""What may become of a request."""

from __future__ import annotations

from typing import NamedTuple

from bandit.core.draw import Choice
from bandit.core.experiment import Experiment
from bandit.log.records import Position
from bandit.serving.decisions import Scores
from bandit.serving.requests import RecommendationRequest
from bandit.store.protocol import Outcome


class NewDecision(NamedTuple):
    """A new decision, and what is answered with it."""

    position: Position
    experiment: Experiment
    choice: Choice
    nonce: bytes
    request: RecommendationRequest
    scores: Scores
    model_position: Position
    play: int  # which slice decided it; -1 where there are none
    shadow: tuple[int, float] | None  # the arm that would have been shown, and its probability


class Unlogged(NamedTuple):
    """A decision that the store has not acknowledged, answered because it is away; its position is none."""

    told: NewDecision


class Replayed(NamedTuple):
    """The record of a decision that had been made before, by the same id."""

    position: Position
    experiment: Experiment
    record: bytes
    digest: bytes | None  # of the request now; None: it is the user's last one, whatever was asked for


class Paused(NamedTuple):
    """A recommendation of a paused experiment: nothing was decided, logged or learned."""

    request: RecommendationRequest


class Credited(NamedTuple):
    """What became of feedback of one kind: one outcome, or one for each of a user's decisions that it counts for."""

    experiment: Experiment
    kind: int
    judged: Outcome | list[Outcome]
