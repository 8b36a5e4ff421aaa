"""The decisions of a micro-batch: made together, and packed for the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bandit.core.draw import Choice
from bandit.core.engine import Decided, Model
from bandit.core.experiment import Experiment
from bandit.log.records import DEFERRED, FORMAT, USER, Head, Position, pack_all_probabilities, pack_decision, pack_x
from bandit.serving.requests import RecommendationRequest
from bandit.store.protocol import Decide


class Scores(NamedTuple):
    """What is answered about the arms of one decision, in order."""

    score: list[float]
    means: list[list[float]]  # of each kind
    width: list[float]


class Made(NamedTuple):
    """A micro-batch's decisions, ready to be logged."""

    decided: Decided
    items: list[Decide]
    heads: list[Head]


def decide(
    model: Model, experiment: Experiment, requests: Sequence[RecommendationRequest], scored: Position,
    entropy: Callable[[int], bytes],
) -> Made | None:  # fmt: skip
    """Make the decisions of these requests; None where there are none.

    Args:
        model: what has learned.
        experiment: the version that the requests were read for.
        requests: recommendations, all read for that version.
        scored: the position of the log that the model's scores reflect; it is logged with each decision.
        entropy: gives that many random bytes; each decision takes 16, for a nonce and the number it is drawn with.

    Raises:
        Outdated: the model has a later version by now.
    """
    if not requests:
        return None
    random = entropy(16 * len(requests))
    nonces = [random[16 * i : 16 * i + 8] for i in range(len(requests))]
    bits = np.frombuffer(random, "<u8").reshape(-1, 2)[:, 1]
    u = (bits >> np.uint64(11)) * 2.0**-53
    x = experiment.encoder.encode([request.context for request in requests])
    shared = all(request.eligible is experiment.active for request in requests)
    eligible = None if shared else np.stack([request.eligible for request in requests])
    decided = model.decide(experiment, x, eligible, [request.k for request in requests], u)
    packed = pack_x(x)
    tails = pack_all_probabilities(decided.probabilities, experiment.active[None] if eligible is None else eligible)
    heads = [
        _head(request, experiment, choice, *data, nonce, float(number), scored)
        for request, choice, data, nonce, number in zip(requests, decided.choices, packed, nonces, u, strict=True)
    ]
    items = [
        _record(request, head, choice, data, tail)
        for request, head, choice, (data, _), tail in zip(requests, heads, decided.choices, packed, tails, strict=True)
    ]
    return Made(decided, items, heads)


def decisions_of(made: Made) -> Iterator[tuple[Choice, Head, Scores]]:
    """Each decision with the scores of its arms; arrays become lists once a micro-batch, not once a decision."""
    score, means, width = (part.tolist() for part in made.decided.shown)
    start = 0
    for choice, head in zip(made.decided.choices, made.heads, strict=True):
        end = start + len(choice.arms)
        yield choice, head, Scores(score[start:end], means[start:end], width[start:end])
        start = end


def _head(
    request: RecommendationRequest, experiment: Experiment, choice: Choice, x: bytes, sparse: int, nonce: bytes,
    u: float, scored: Position,
) -> Head:  # fmt: skip
    config = experiment.config
    flags = sparse | DEFERRED * request.deferred | USER * bool(request.user)
    sizes = len(choice.arms), len(x), len(request.caller)
    versions = config.generation, config.schema, config.version
    digest = request.digest(x) if request.caller else bytes(8)
    return Head(
        FORMAT, flags, len(experiment.kinds), 0, *sizes, *versions, experiment.window_ms, nonce, digest, u, *scored
    )


def _record(request: RecommendationRequest, head: Head, choice: Choice, x: bytes, tail: bytes) -> Decide:
    shown = zip(choice.arms, choice.propensities, choice.marginals, strict=True)
    record = pack_decision(head, x, request.caller, request.user, shown, tail)
    return Decide(record, request.caller, request.user, head.window_ms)
