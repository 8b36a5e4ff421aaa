"""What a policy that goes on learning would earn alone: played in an environment fitted to the log.

On a log it profits from what the logged policy explored. Here it meets the log's contexts with nothing learned, and is
told of its own choices only. The rewards are a model's: what it earns there has no interval, and is to be set beside
what the logged choices earn there.
"""

from __future__ import annotations

import numpy as np

from simulator.environments.episode import stream
from simulator.logs.log import Log
from simulator.ope.checks.overlap import row_weights
from simulator.ope.evaluate import EstimatorRow, ranged
from simulator.ope.models import in_sample, ridge_model
from simulator.studies.fitted import fitted
from simulator.studies.play import play
from simulator.studies.replay import made

LIVES = 4  # played one after the other and averaged: no two are alike
DRAWS = 3001  # stream of randomness under a seed


def alone(
    log: Log,
    policy: str,
    *,
    refresh: int = 100,
    seed: int = 0,
    reward_range: tuple[float, float] | None = None,
    cap: float | None = None,
) -> EstimatorRow:
    """What a policy earns on its own in an environment fitted to the log: a row of `evaluate`, without an interval.

    Args:
        log: n rows, in the order in which they were logged.
        policy: see `specs.parse`.
        refresh: rounds between two refreshes, where the policy has no interval of its own.
        seed: of rewards, draws and what is random inside the policy.
        reward_range: lowest and highest possible reward; None: see `evaluate`.
        cap: rewards above it count as it.

    Raises:
        ValueError: the log is empty, or the policy is not known.
    """
    log, span, _ = ranged(log, reward_range, cap)
    environment, s = fitted(log, in_sample(ridge_model(), log), span), row_weights(log)
    lives = []
    for life in stream(seed, DRAWS).integers(2**31, size=LIVES).tolist():
        episode = environment.episode(life)
        learner, every = made(log, policy, refresh, life)
        stops = [*range(every, len(log), every), len(log)]
        arms = play(learner, episode, stops, stream(life, DRAWS).random(len(log))).arms
        lives.append(float(np.average(episode.expected(arms), weights=s)))
    value = float(np.mean(lives))
    shown = float(np.average(environment.q[np.arange(len(log)), log.arm], weights=s))
    note = (
        f"simulated on its own in an environment fitted to the log, where the logged choices earn {shown:.3g}: "
        f"a model's value, bias not included"
    )
    return EstimatorRow("alone", value, None, None, len(log), 1.0, 0.0, None, 0.0, 0.0, None, "refused", note)
