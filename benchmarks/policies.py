"""How long a policy takes to turn estimates into probabilities: for one context, and for each of 32 at once.

An experiment of K arms with 16 numbers has learned from `--events` decisions an arm, either evenly made (`even`) or by
the policy's own choice (`own`). A time is the least of `ROUNDS`, in microseconds of the processor a context, and
contains the widths, as far as the policy needs them. `above_the_least`: how many arms are likelier than the least
likely one, on average: so many numbers are logged.

Run: OPENBLAS_NUM_THREADS=1 python benchmarks/policies.py [--arms K ...] [--events N] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Mask, Matrix
from bandit.core.engine import Model
from bandit.core.experiment import compile_config
from bandit.core.policies import Rule
from bandit.core.revision import first
from bandit.core.sums import ONE, Events
from bandit.core.validation import parse_document

POLICIES = ("linucb", "epsilon-greedy", "inverse-gap", "softmax", "thompson")
ROUNDS, BUDGET = 5, 0.3  # of each time, and seconds for each round at most
D, STEP = 16, 1000


def model_of(K: int, policy: str, events: int, *, own: bool) -> Model:
    """A model of K arms that has learned so many decisions an arm."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(D)]
    document = {"features": features, "arms": [f"a{i}" for i in range(K)], "rewards": {"click": {}}}
    document["policy"] = {"type": policy}
    experiment = compile_config(first("timed", parse_document(json.dumps(document).encode())))
    model, rng = Model(experiment), np.random.default_rng(0)
    theta = rng.normal(size=(K, D + 1)) / 4
    for _ in range(0, events * K, STEP):
        x = contexts(rng, STEP)
        arm = rng.integers(0, K, STEP)
        if own:
            decided = model.decide(experiment, x, None, [1] * STEP, rng.random(STEP))
            arm = np.array([choice.arms[0] for choice in decided.choices])
        rate = 1 / (1 + np.exp(2 - np.einsum("nd,nd->n", x / ONE, theta[arm])))
        new = ((rng.random(STEP) < rate) * 1_000_000).astype(np.int64)[:, None]
        model.learn(Events(arm, x, np.ones(STEP, np.int64), 0 * new, new))
        while model.refresh():
            pass
    return model


def contexts(rng: np.random.Generator, n: int) -> NDArray[np.int16]:
    """Contexts on the grid."""
    x = np.clip(np.rint(rng.normal(size=(n, D + 1)) * ONE), -32768, 32767).astype(np.int16)
    x[:, 0] = ONE
    return x


def microseconds(run: Callable[[], object]) -> float:
    """The least time of a run."""
    least = np.inf
    for _ in range(ROUNDS):
        began, count = time.process_time(), 0
        while (taken := time.process_time() - began) < BUDGET and count < 1000:
            run()
            count += 1
        least = min(least, taken / count)
    return float(1e6 * least)


def rows(arms: list[int], events: int) -> Iterator[dict[str, object]]:
    """A row for each number of arms, way of learning and policy."""
    for K in arms:
        for own in (False, True):
            for policy in POLICIES:
                model = model_of(K, policy, events, own=own)
                (rule,) = [each.rule(lambda arm: -1) for each in model.experiment.policies]
                x, active = contexts(np.random.default_rng(1), 32), model.experiment.active[None]

                decide = partial(decided, model, rule, x, active)
                one, many = microseconds(partial(decide, 1)), microseconds(partial(decide, 32)) / 32
                p = decide(32)
                above = float((p > p.min(axis=1, keepdims=True)).sum(axis=1).mean())
                yield {
                    "arms": K, "learned": "own" if own else "even", "policy": policy, "one_us": round(one, 1),
                    "of_32_us": round(many, 1), "above_the_least": round(above, 1),
                }  # fmt: skip


def decided(model: Model, rule: Rule, x: NDArray[np.int16], active: Mask, n: int) -> Matrix:
    """The probabilities for the first n contexts."""
    return rule.probabilities(model.scorer.estimate(x[:n], active))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for row in rows(asked.arms, asked.events):
        print(json.dumps(row) if asked.json else "  ".join(f"{value!s:>14}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
