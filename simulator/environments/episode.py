"""Rounds that a policy can be played on. An environment is a recipe: a seed in, an episode out, always the same one.

    n rounds, K arms, d columns of context, k arms shown each round (1, but for lists)

    x         (n, d)  feature vectors on the grid, as the server's encoder makes them
    mean      (n, K)  expected reward of each arm, in reward units: what regret is measured with
    reward    (n, K)  what each arm would have earned this time: what a policy learns from
    attention (k,)    chance that a position is looked at; a position earns attention x the arm's reward in expectation

What an arm would earn does not depend on what was shown before, so an episode is made whole, before anyone plays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.features import X_MIN
from bandit.core.sums import ONE, X_MAX

Grid = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Episode:
    """See the head of this file.

    Attributes:
        eligible: which arms may be shown, shape (n, K), or (1, K) where that never changes.
        delay: rounds until the reward is known, shape (n,): it can be learned after round i + delay; None: at once.
        time_ms: when each round comes, shape (n,), not falling; None: rounds come evenly.
        user: who visits, shape (n,); None: someone new each time.
        seen: whether each position was looked at, shape (n, k), 0 or 1.
    """

    x: Grid
    mean: Matrix
    reward: Matrix
    eligible: Mask
    delay: Int | None = None
    time_ms: Int | None = None
    user: Int | None = None
    attention: tuple[float, ...] = (1.0,)
    seen: Matrix | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def positions(self) -> int:
        """k, how many arms each round shows."""
        return len(self.attention)

    def take(self, rows: Int) -> Episode:
        """The episode of these rounds only, in this order."""

        def of(part: Any) -> Any:
            return None if part is None else part[rows]

        eligible = self.eligible if len(self.eligible) == 1 else self.eligible[rows]
        return Episode(
            self.x[rows], self.mean[rows], self.reward[rows], eligible, of(self.delay), of(self.time_ms), of(self.user),
            self.attention, of(self.seen),
        )  # fmt: skip

    def expected(self, arms: Int) -> Vector:
        """Expected reward of showing arms, shape (n, k), in each round."""
        result: Vector = np.take_along_axis(self.mean, arms, axis=1) @ np.array(self.attention)
        return result

    def earned(self, rows: Int, arms: Int) -> Matrix:
        """Rewards of each position in rounds `rows`, shape (r, k), that show arms, shape (r, k)."""
        reward = self.reward[rows[:, None], arms]
        return reward if self.seen is None else reward * self.seen[rows]

    def best(self) -> Vector:
        """Expected reward of the best choice of each round, shape (n,): the k best arms, the best one first."""
        allowed = np.where(self.eligible, self.mean, -np.inf)
        top = -np.sort(-allowed, axis=1)[:, : self.positions]
        result: Vector = top @ np.array(self.attention)
        return result

    def uniform(self) -> Vector:
        """Expected reward of an even choice among the eligible arms, shape (n,)."""
        shares = self.eligible / self.eligible.sum(axis=1, keepdims=True)
        result: Vector = (self.mean * shares).sum(axis=1) * sum(self.attention)
        return result

    def ranking(self) -> Int:
        """The arms from the highest to the lowest mean reward over all rounds, which is known in hindsight only."""
        return np.argsort(-self.mean.mean(axis=0), kind="stable")


class Environment(Protocol):
    """A recipe for episodes. It holds no state: the seed alone decides."""

    @property
    def name(self) -> str:
        """What it goes by."""

    @property
    def document(self) -> Mapping[str, Any]:
        """Features, arms and rewards as in an experiment's document."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, in words; may be empty."""

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed; None: as many rounds as the data have, or its own default."""


def stream(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each key under a seed, whatever order they are asked for in."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def on_grid(X: Matrix) -> Grid:
    """Numbers rounded to the grid and clipped, as the encoder does it."""
    return np.clip(np.rint(X * ONE), X_MIN, X_MAX).astype(np.int16)


def shown(environment: Environment) -> list[str]:
    """The features, arms and rewards of an environment in lines to read, with what was done to the data."""
    document = environment.document
    arms = [arm if isinstance(arm, str) else arm["id"] for arm in document["arms"]]
    lines = [_described(feature) for feature in document.get("features", ())]
    kinds = [f"reward {name}: {kind.get('range', (0, 1))[0]:g} to {kind.get('range', (0, 1))[1]:g}"
             for name, kind in document["rewards"].items()]  # fmt: skip
    return [f"{len(arms)} arms: {', '.join(arms)}", *kinds, f"{len(lines)} features:", *lines, *environment.notes]


def _described(feature: Mapping[str, Any]) -> str:
    match feature["type"]:
        case "number" if "transform" in feature:
            how = f"number, {feature['transform']['type']} of {len(feature['transform']['edges'])} edges"
        case "number" if "cycle" in feature:
            how = f"number, around a circle of {feature['cycle']:g}"
        case "number" if "mean" in feature:
            how = f"number, (v {-feature['mean']:+.6g}) / {feature['scale']:.6g}"
        case "number":
            how = f"number, {feature['min']:.6g} to {feature['max']:.6g} onto -1 to 1"
        case "category":
            levels = [level or '""' for level in feature["levels"]] + ["others"] * feature.get("other", True)
            how = f"category: {', '.join(levels)}"
        case "fourier":
            how = f"{feature['size']} random features of {', '.join(feature['of'])}, scale {feature['scale']:g}"
        case other:
            how = other
    return f"  {feature['name']}: {how}"
