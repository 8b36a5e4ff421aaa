"""The decisions of a micro-batch: made together, and packed for the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bandit.arrays import Vector
from bandit.core.draw import Choice
from bandit.core.engine import Decided, Model
from bandit.core.experiment import Experiment
from bandit.log.records import DEFERRED, FORMAT, USER, Position, pack_all_probabilities, pack_decision
from bandit.log.vectors import pack_x
from bandit.serving.requests import RecommendationRequest
from bandit.store.protocol import Decide

NO_DIGEST = bytes(8)  # of a request that nobody can repeat


class Scores(NamedTuple):
    """What is answered about the arms of one decision, in order."""

    score: list[float]
    means: list[list[float]]  # of each kind
    width: list[float]


class Made(NamedTuple):
    """A micro-batch's decisions, ready to be logged."""

    decided: Decided
    nonces: list[bytes]
    digests: list[bytes]  # of the requests
    items: list[Decide]


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
    packed = pack_x(x, experiment.layout)
    tails = pack_all_probabilities(decided.probabilities, experiment.active[None] if eligible is None else eligible)
    return Made(decided, nonces, *_records(requests, experiment, decided.choices, packed, nonces, u, tails, scored))


def decisions_of(made: Made) -> Iterator[tuple[Choice, bytes, bytes, Scores]]:
    """(choice, nonce, digest, scores) of each decision; arrays become lists once a micro-batch, not once a decision."""
    return zip(made.decided.choices, made.nonces, made.digests, _scores(made.decided), strict=True)


def _scores(decided: Decided) -> Iterator[Scores]:
    score, means, width = (part.tolist() for part in decided.shown)
    start = 0
    for choice in decided.choices:
        end = start + len(choice.arms)
        yield Scores(score[start:end], means[start:end], width[start:end])
        start = end


def _records(
    requests: Sequence[RecommendationRequest], experiment: Experiment, choices: Sequence[Choice],
    packed: Sequence[tuple[bytes, int]], nonces: Sequence[bytes], u: Vector, tails: Sequence[bytes], scored: Position,
) -> tuple[list[bytes], list[Decide]]:  # fmt: skip
    """(digest of each request, what is logged of it)."""
    config, window, m = experiment.config, experiment.window_ms, len(experiment.kinds)
    versions = config.generation, config.schema, config.version, window
    digests, items = [], []
    rows = zip(requests, choices, packed, nonces, u.tolist(), tails, strict=True)
    for request, (arms, propensities, marginals), (x, sparse), nonce, number, tail in rows:
        caller, user = request.caller, request.user
        flags = sparse | (DEFERRED if request.deferred else 0) | (USER if user else 0)
        digest = request.digest(x) if caller else NO_DIGEST
        head = (FORMAT, flags, m, 0, len(arms), len(x), len(caller), *versions, nonce, digest, number, *scored)
        one = len(arms) == 1
        shown = ((arms[0], propensities[0], marginals[0]),) if one else zip(arms, propensities, marginals, strict=True)
        digests.append(digest)
        items.append(Decide(pack_decision(head, x, caller, user, shown, tail), caller, user, window))
    return digests, items
