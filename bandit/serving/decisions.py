"""The decisions of a micro-batch: made together, and packed for the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from bandit.arrays import Mask, Matrix, Vector
from bandit.core.draw import Choice, draw
from bandit.core.engine import Decided, Model
from bandit.core.experiment import Experiment
from bandit.core.slices import WHOLE, owner_of
from bandit.log.probabilities import pack_all_probabilities, pack_slices
from bandit.log.records import DEFERRED, FORMAT, SLICED, USER, Position, pack_decision
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
    play: Sequence[int] = ()  # which slice decided each; nothing where traffic is not sliced
    shadows: Sequence[tuple[int, float]] = ()  # in shadow: (the arm that would have been shown, its probability)


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
    eligible = _shared(experiment, requests)
    ks, play, baseline = [request.k for request in requests], list[int](), list[int]()
    if experiment.slices:
        play, baseline = _players(experiment, requests, nonces)
    decided = model.decide(experiment, x, eligible, ks, u, play, baseline)
    packed, masks = pack_x(x, experiment.layout), experiment.active[None] if eligible is None else eligible
    if experiment.slices:
        tails = pack_slices([(each.number, each.share) for each in experiment.slices], decided.each, masks)
    else:
        tails = pack_all_probabilities(decided.probabilities, masks)
    records = _records(requests, experiment, decided.choices, packed, nonces, u, tails, scored, play)
    shadows = _shadows(decided.each[1], u) if baseline else ()
    return Made(decided, nonces, *records, play, shadows)


def _shared(experiment: Experiment, requests: Sequence[RecommendationRequest]) -> Mask | None:
    """The eligible arms of each request, (N, K); (1, K) where all have the same; None: the active ones."""
    first = requests[0].eligible
    if any(request.eligible is not first for request in requests):
        return np.stack([request.eligible for request in requests])
    return None if first is experiment.active else first[None]


def _players(
    experiment: Experiment, requests: Sequence[RecommendationRequest], nonces: Sequence[bytes]
) -> tuple[list[int], list[int]]:
    """(which of the slices decides each request, in shadow the arm that it is to show)."""
    if experiment.document.shadow:
        return [0] * len(requests), [request.baseline for request in requests]
    segments, order = experiment.config.segments, {each.number: i for i, each in enumerate(experiment.slices)}
    places = [
        int.from_bytes(nonce, "little") % WHOLE if request.place < 0 else request.place
        for request, nonce in zip(requests, nonces, strict=True)
    ]
    return [order[owner_of(segments, at)] for at in places], []


def _shadows(probabilities: Matrix, u: Vector) -> list[tuple[int, float]]:
    arms = draw(probabilities, u)
    return list(zip(arms.tolist(), probabilities[np.arange(len(u)), arms].tolist(), strict=True))


def decisions_of(made: Made) -> Iterator[tuple[Choice, bytes, bytes, Scores, int, tuple[int, float] | None]]:
    """(choice, nonce, digest, scores, slice, shadow) of each decision; arrays become lists once a micro-batch."""
    play, shadows = made.play or repeat(-1), made.shadows or repeat(None)
    return zip(made.decided.choices, made.nonces, made.digests, _scores(made.decided), play, shadows, strict=False)


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
    play: Sequence[int],
) -> tuple[list[bytes], list[Decide]]:  # fmt: skip
    """(digest of each request, what is logged of it)."""
    config, window, m = experiment.config, experiment.window_ms, len(experiment.kinds)
    versions = config.generation, config.schema, config.version, window
    digests, items = [], []
    rows = zip(requests, choices, packed, nonces, u.tolist(), tails, strict=True)
    part, sliced = 0, SLICED if play else 0
    for i, (request, (arms, propensities, marginals), (x, sparse), nonce, number, tail) in enumerate(rows):
        caller, user = request.caller, request.user
        flags = sparse | sliced | (DEFERRED if request.deferred else 0) | (USER if user else 0)
        if play:
            part = experiment.slices[play[i]].number
        digest = request.digest(x) if caller else NO_DIGEST
        head = (FORMAT, flags, m, part, len(arms), len(x), len(caller), *versions, nonce, digest, number, *scored)
        one = len(arms) == 1
        shown = ((arms[0], propensities[0], marginals[0]),) if one else zip(arms, propensities, marginals, strict=True)
        digests.append(digest)
        sticky = experiment.sticky_ms if user and not request.fresh else 0
        items.append(Decide(pack_decision(head, x, caller, user, shown, tail), caller, user, window, sticky))
    return digests, items
