"""Microseconds of the processor that one decision takes other libraries, for `benchmarks/engine.py`.

Each has seen 20 events of every arm, at random, and is given one context at a time, the way its own documentation does.
A library that this interpreter does not have is said to be missing. obp needs numpy < 2, so it takes an environment of
its own, made by

    python -m venv peers
    peers/bin/pip install mabwiser contextualbandits bayesianbandits gittins
    python -m venv obp
    obp/bin/pip install obp 'numpy<2' 'scikit-learn<1.5'

Run: python benchmarks/engine_peers.py ARMS FEATURES [LIBRARY ...]
"""

import importlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

EVENTS, POOL, LEAST, BUDGET = 20, 16, 5, 2e9  # at least so many runs, and nanoseconds
Run = Callable[[], object]


class Past:
    """What every library learns from, and the contexts that it then decides for."""

    def __init__(self, K: int, d: int) -> None:
        rng = np.random.default_rng(K + d)
        n = EVENTS * K
        self.K, self.d = K, d
        self.X, self.arm = rng.normal(size=(n, d)), rng.integers(0, K, n)
        self.X[:, 0] = 1
        self.reward = (rng.random(n) < 0.1).astype(float)
        self.pool = cycle([x[None] for x in self.X[:POOL]])


def obp(past: Past) -> Run:
    """obp's LinUCB: `select_action`, which draws nothing."""
    policy = importlib.import_module("obp.policy").LinUCB(dim=past.d, n_actions=past.K, epsilon=1.0)
    for x, arm, reward in zip(past.X, past.arm.tolist(), past.reward.tolist(), strict=True):
        policy.update_params(action=arm, reward=reward, context=x[None])
    return lambda: policy.select_action(next(past.pool))


def mabwiser(past: Past) -> Run:
    """MABWiser's LinUCB: `predict`."""
    mab = importlib.import_module("mabwiser.mab")
    bandit = mab.MAB(list(range(past.K)), mab.LearningPolicy.LinUCB(alpha=1.0))
    bandit.fit(past.arm, past.reward, past.X)
    return lambda: bandit.predict(next(past.pool))


def contextualbandits(past: Past) -> Run:
    """contextualbandits' LinUCB: `predict`."""
    policy = importlib.import_module("contextualbandits.online").LinUCB(past.K, fit_intercept=False)
    policy.fit(past.X, past.arm, past.reward)
    return lambda: policy.predict(next(past.pool))


def bayesianbandits(past: Past) -> Run:
    """bayesianbandits' agent with normal regressors and an upper confidence bound: `pull`."""
    library = importlib.import_module("bayesianbandits")
    arms = [library.Arm(arm, learner=library.NormalRegressor(alpha=1.0, beta=1.0)) for arm in range(past.K)]
    agent = library.ContextualAgent(arms, library.UpperConfidenceBound(), random_seed=0)
    for arm in range(past.K):
        own = past.arm == arm
        if own.any():
            agent.select_for_update(arm).update(past.X[own], past.reward[own])
    return lambda: agent.pull(next(past.pool))


def gittins(past: Past) -> Run:
    """gittins' hashed linear model: `decide`, from a dict of the features."""
    library = importlib.import_module("gittins")
    state = library.create(bits=22, horizon=1e-3)
    candidates: list[tuple[str, dict[str, float]]] = [(f"a{arm}", {}) for arm in range(past.K)]
    contexts = [{f"f{i}": value for i, value in enumerate(x[1:])} for x in past.X[:POOL].tolist()]
    pool, times = cycle(contexts), iter(range(1, 10**9))
    for context, reward in zip(contexts, past.reward.tolist(), strict=False):
        t = float(next(times))
        library.learn(state, library.decide(state, context, candidates, t, "b").decision_id, reward, t)

    def run() -> object:
        t = float(next(times))
        library.expire(state, t)
        return library.decide(state, next(pool), candidates, t, "b")

    return run


PEERS: dict[str, Callable[[Past], Run]] = {
    each.__name__: each for each in (obp, mabwiser, contextualbandits, bayesianbandits, gittins)
}


def microseconds(run: Run) -> float:
    """The median time of a run."""
    run()
    times: list[int] = []
    while len(times) < LEAST or (sum(times) < BUDGET and len(times) < 1000):
        start = time.process_time_ns()
        run()
        times.append(time.process_time_ns() - start)
    return statistics.median(times) / 1000


def main() -> None:
    """Print an object for each library: its name, and microseconds or why there are none."""
    warnings.simplefilter("ignore")
    K, d, *names = sys.argv[1:]
    for name in names or PEERS:
        found: dict[str, Any] = {"peer": name}
        try:
            found["us"] = microseconds(PEERS[name](Past(int(K), int(d))))
        except ImportError as error:
            found["missing"] = str(error)
        except Exception as error:
            found["missing"] = f"{type(error).__name__}: {error}"
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
