"""The decisions of a micro-batch: made together, and packed for the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bandit.core.draw import Choice
from bandit.core.engine import Decided, Model
from bandit.core.experiment import Experiment
from bandit.log.records import DEFERRED, FORMAT, USER, Head, Position, pack_decision, pack_probabilities, pack_x
from bandit.serving.requests import Recommendation
from bandit.store.protocol import Decide


class Scores(NamedTuple):
    """What is told of the arms of one decision, in order."""

    score: list[float]
    means: list[list[float]]  # of each kind
    width: list[float]


class Made(NamedTuple):
    """A tick's decisions, ready to be logged."""

    decided: Decided
    items: list[Decide]
    heads: list[Head]


def decide(
    model: Model, experiment: Experiment, asks: Sequence[Recommendation], scored: Position,
    entropy: Callable[[int], bytes],
) -> Made | None:  # fmt: skip
    """Decide them all; None where there are none.

    Args:
        model: what has learned.
        experiment: the version that the requests were read for.
        asks: the requests.
        scored: the position of the log that the model's scores reflect, which is logged.
        entropy: random bytes: each decision takes a nonce and the number it is drawn with.

    Raises:
        Outdated: the model has a later version by now.
    """
    if not asks:
        return None
    random = entropy(16 * len(asks))
    nonces = [random[16 * i : 16 * i + 8] for i in range(len(asks))]
    bits = np.frombuffer(random, "<u8").reshape(-1, 2)[:, 1]
    u = (bits >> np.uint64(11)) * 2.0**-53
    x = experiment.encoder.encode([ask.context for ask in asks])
    shared = all(ask.eligible is experiment.active for ask in asks)
    eligible = experiment.active[None] if shared else np.stack([ask.eligible for ask in asks])
    decided = model.decide(experiment, x, eligible, [ask.k for ask in asks], u)
    packed = pack_x(x)
    heads = [
        _head(ask, experiment, choice, *data, nonce, float(number), scored)
        for ask, choice, data, nonce, number in zip(asks, decided.choices, packed, nonces, u, strict=True)
    ]
    items = [
        _record(ask, head, choice, data, row)
        for ask, head, choice, (data, _), row in zip(
            asks, heads, decided.choices, packed, decided.probabilities, strict=True
        )
    ]
    return Made(decided, items, heads)


def decisions_of(made: Made) -> Iterator[tuple[Choice, Head, Scores]]:
    """Each decision with what is told of its arms; numbers leave their arrays once a tick, not once a decision."""
    score, means, width = (part.tolist() for part in made.decided.shown)
    place = 0
    for choice, head in zip(made.decided.choices, made.heads, strict=True):
        end = place + len(choice.arms)
        yield choice, head, Scores(score[place:end], means[place:end], width[place:end])
        place = end


def _head(
    ask: Recommendation, experiment: Experiment, choice: Choice, x: bytes, sparse: int, nonce: bytes, u: float,
    scored: Position,
) -> Head:  # fmt: skip
    config = experiment.config
    flags = sparse | DEFERRED * ask.deferred | USER * bool(ask.user)
    sizes = len(choice.arms), len(x), len(ask.caller)
    versions = config.generation, config.schema, config.version
    digest = ask.digest(x) if ask.caller else bytes(8)
    return Head(
        FORMAT, flags, len(experiment.kinds), 0, *sizes, *versions, experiment.window_ms, nonce, digest, u, *scored
    )


def _record(ask: Recommendation, head: Head, choice: Choice, x: bytes, probabilities: Any) -> Decide:
    shown = zip(choice.arms, choice.propensities, choice.marginals, strict=True)
    tail = pack_probabilities(probabilities, ask.eligible)
    record = pack_decision(head, x, ask.caller, ask.user, shown, tail)
    return Decide(record, ask.caller, ask.user, head.window_ms)
