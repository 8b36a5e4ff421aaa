"""Decisions while the store is away: from this server's replica, not logged, not learned from.

They are drawn as ever, with the same eligible arms, slices and probabilities. What only the store knows, nobody can
tell: whether the same `decision_id` was decided before, what a user was shown last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from bandit.core.engine import Outdated
from bandit.core.experiment import Experiment
from bandit.errors import Problem
from bandit.log.records import START, Position
from bandit.replica.replica import Replica
from bandit.serving.decisions import Made, decide, decisions_of
from bandit.serving.requests import RecommendationRequest
from bandit.serving.telemetry.tally import Tally
from bandit.serving.waiting.outcomes import NewDecision, Unlogged
from bandit.serving.waiting.pending import PendingRequest, answer_paused, read_again

log = logging.getLogger(__name__)


class Appending(NamedTuple):
    """A micro-batch whose append is under way, with the decisions made for it."""

    batch: Sequence[PendingRequest]
    paused: Sequence[PendingRequest]
    experiment: Experiment
    made: Made | None
    scored: Position


def answers(experiment: Experiment) -> bool:
    """Whether an experiment is answered for while the store is away; a paused one has its fallback arm."""
    return experiment.document.degraded == "answer" or experiment.document.status == "paused"


def answer_in_flight(under_way: Appending, tally: Tally) -> None:
    """Answer those whose append is under way with what was drawn for them; who asked for anything else waits on.

    Their write is repeated as ever. If it comes through, the log has the impression that was shown.
    """
    answer_paused(under_way.paused)
    if under_way.experiment.document.degraded == "answer":
        _tell([p for p in under_way.batch if isinstance(p.request, RecommendationRequest)], under_way, tally)


def answer_unlogged(
    replica: Replica,
    batch: Sequence[PendingRequest],
    entropy: Callable[[int], bytes],
    refusal: Problem,
    tally: Tally,
) -> Sequence[PendingRequest]:
    """Decide for these without a store; who asked for anything that needs one is refused.

    Returns:
        those who are to ask again, as the model has just taken another version.
    """
    try:
        model = replica.served
    except Problem as problem:
        for pending in batch:
            pending.fail(problem)
        return ()
    experiment, scored = model.experiment, replica.scored
    batch = [p for p in batch if p.experiment is experiment or read_again(p, experiment)]
    asked = []
    for pending in batch:
        if isinstance(pending.request, RecommendationRequest) and answers(experiment):
            asked.append(pending)
        else:
            pending.fail(refusal)
    if experiment.document.status == "paused":
        answer_paused(asked)
        return ()
    try:
        made = decide(model, experiment, [p.request for p in asked], scored, entropy)  # type: ignore[misc]
    except Outdated:
        return asked
    except Exception as error:
        if len(asked) > 1:  # only those at fault fail
            return [again for each in asked for again in answer_unlogged(replica, [each], entropy, refusal, tally)]
        log.exception("%s: a decision failed", replica.name)
        asked[0].fail(error)
        return ()
    _tell(asked, Appending(batch, (), experiment, made, scored), tally)
    return ()


def _tell(asked: Sequence[PendingRequest], of: Appending, tally: Tally) -> None:
    """Answer these, whose decisions were made, unless they have been."""
    if of.made is None:
        return
    for pending, (choice, nonce, _, scores, play, shadow) in zip(asked, decisions_of(of.made), strict=True):
        if not pending.answer.done():
            request = cast(RecommendationRequest, pending.request)
            told = NewDecision(START, of.experiment, choice, nonce, request, scores, of.scored, play, shadow)
            pending.give(Unlogged(told))
            tally.again("degraded")
