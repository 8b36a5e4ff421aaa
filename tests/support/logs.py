"""Logs made for the tests: drawn from known policies, or read from the Open Bandit sample."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.logs.log import Log

OPEN_BANDIT = Path(__file__).parents[1] / "data" / "open-bandit"
Array = NDArray[np.float64]


def greedy_with(explore: float, best: NDArray[np.int64], K: int) -> Array:
    """Probabilities of an epsilon-greedy policy, shape (n, K)."""
    table = np.full((len(best), K), explore / K)
    table[np.arange(len(best)), best] += 1 - explore
    return table


def draw(rng: np.random.Generator, probability: Array) -> NDArray[np.int64]:
    """One arm for each row."""
    u = rng.random((len(probability), 1))
    return np.minimum((u > probability.cumsum(axis=1)).sum(axis=1), probability.shape[1] - 1)


def log_of(probability: Array, arm: NDArray[np.int64], reward: Array, *, full: bool = True, **fields: Any) -> Log:
    """A log of what was drawn, with all probabilities or only those of the arm shown."""
    arms = tuple(f"arm-{a}" for a in range(probability.shape[1]))
    propensity = probability[np.arange(len(arm)), arm]
    return Log(arms, arm, reward, propensity, probability if full else None, **fields)


class World:
    """Contexts of two numbers in which each arm has its own rate of 0-1 rewards: the truth is known exactly."""

    def __init__(self, seed: int = 0, size: int = 4000, K: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.K = K
        self.context = np.column_stack([np.ones(size), rng.normal(size=(size, 2))])
        score = self.context @ rng.normal(0, 0.7, (3, K)) - 1
        self.rate: Array = 1 / (1 + np.exp(-score))
        self.best = (score + rng.normal(0, 1.0, score.shape)).argmax(axis=1)  # a greedy policy of poor judgement

    def policy(self, explore: float) -> Array:
        """Epsilon-greedy over every context, shape (size, K)."""
        return greedy_with(explore, self.best, self.K)

    def value(self, target: Array) -> float:
        """Exact value of a policy."""
        return float((target * self.rate).sum(axis=1).mean())

    def log(self, rng: np.random.Generator, n: int, logging: Array, **fields: Any) -> tuple[Log, NDArray[np.int64]]:
        """`n` decisions of a policy on contexts drawn with replacement; and which contexts."""
        rows = rng.integers(0, len(self.context), n)
        arm = draw(rng, logging[rows])
        reward = (rng.random(n) < self.rate[rows, arm]).astype(float)
        return log_of(logging[rows], arm, reward, context=self.context[rows], **fields), rows


def lists(n: int, *, conditional: bool, seed: int = 0) -> Log:
    """n lists of 3 of 4 arms in an order of chance, with 1/4, 1/3, 1/2 as propensities or with 1/4 everywhere."""
    rng = np.random.default_rng(seed)
    arm = np.array([rng.permutation(4)[:3] for _ in range(n)]).ravel()
    place = np.tile(np.arange(3), n)
    p = 1 / (4.0 - place) if conditional else np.full(3 * n, 0.25)
    ids = np.repeat(np.arange(n), 3).astype(str)
    reward = (rng.random(3 * n) < 0.05 * (arm + 1) / (1 + place)).astype(float)
    return Log(tuple("abcd"), arm, reward, p, position=place, decision_id=ids)


def open_bandit(policy: str, campaign: str) -> Log:
    """A log of the Open Bandit sample; only the propensity of the arm shown is in it."""
    with gzip.open(OPEN_BANDIT / policy / campaign / f"{campaign}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    K = len(open_bandit_target(campaign)[0])
    return Log(
        arms=tuple(str(a) for a in range(K)),
        arm=np.array([int(row["item_id"]) for row in rows]),
        reward=np.array([float(row["click"]) for row in rows]),
        propensity=np.array([float(row["propensity_score"]) for row in rows]),
        position=np.array([int(row["position"]) - 1 for row in rows]),
    )


def open_bandit_target(campaign: str) -> Array:
    """Probabilities of the Bernoulli Thompson sampling policy at each position, shape (3, K)."""
    with (OPEN_BANDIT / f"target_bts_{campaign}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = np.zeros((3, 1 + max(int(row["arm"]) for row in rows)))
    for row in rows:
        table[int(row["position"]) - 1, int(row["arm"])] = float(row["probability"])
    return table


def reference() -> dict[str, dict[str, float | None]]:
    """What obp estimates: logging policy / campaign / target to estimator to value."""
    values: dict[str, dict[str, float | None]] = json.loads((OPEN_BANDIT / "obp_reference.json").read_text())["values"]
    return values
