"""Where `decisions.py` plays: environments whose truth is known, each with the scale that peers are told.

    clicks-R         ten arms without features that earn R % on average, half of it to one and a half times
    clicks-R-x       the same, each rate times exp(.5 z - .125), z normal in five features
    clicks-R-sure    without features, and an eleventh arm that always earns .8 R %
    linear-by-F      `linear` with a declared range F times as wide as the rewards'
    shop, shop-late  the world of examples/shop.py: euros of a click and of its purchases; late: all known after an
                     exponential delay of a twentieth of the run
    msweb and the simulator's own environments by their names, tables by those they are given

A peer is told rewards in [0, 1], mapped from the range that fits them, whatever range is declared.
"""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from learning import encoded as by_server

from bandit.arrays import Matrix
from simulator.environments.episode import Environment, Episode, Grid, on_grid, stream
from simulator.environments.named import named
from simulator.environments.tables import read
from simulator.wording import settings

SHOP = importlib.import_module("examples.shop")  # to mypy, which checks it by its path, it has another name
ARMS, FEATURES, SURE = 10, 5, 0.8
RATES = {"12": 0.12, "3": 0.03, "1": 0.01, "0.1": 0.001}
WIDER = (10, 100, 10_000)
ROUNDS, LONG, VISITS_OF_SHOP = 5_000, 10_000, 12_000
SYNTHETIC = (
    "linear",
    "logistic",
    "drift-abrupt",
    "drift-slow",
    "seasonal",
    "delayed",
    "arms-change",
    "users",
    "traffic",
)
TRUTH, VISITS, REWARDS, DELAYS = range(4)  # streams of randomness under a seed


class Set(NamedTuple):
    """An environment as we are told it and as peers are, and how many rounds are played."""

    ours: Environment
    peers: Environment
    rounds: int


@dataclass(frozen=True)
class Clicks:
    """Arms that are clicked at a rate; see the head of this file."""

    name: str
    rate: float
    features: int = 0
    sure: bool = False
    notes: tuple[str, ...] = ()

    @property
    def document(self) -> Mapping[str, Any]:
        """Features, arms and rewards."""
        features = [{"name": f"x{j}", "type": "number", "mean": 0, "scale": 1} for j in range(self.features)]
        return {"features": features, "arms": [f"arm{a}" for a in range(ARMS + self.sure)], "rewards": {"click": {}}}

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed."""
        n, rng = rounds or LONG, stream(seed, TRUTH)
        x = on_grid(np.column_stack([np.ones(n), stream(seed, VISITS).normal(size=(n, self.features))]))
        mean = np.tile(self.rate * rng.permutation(np.linspace(0.5, 1.5, ARMS)), (n, 1))
        if self.features:
            z = x[:, 1:] / x[0, 0] @ rng.normal(size=(self.features, ARMS)) / np.sqrt(self.features)
            mean = np.minimum(0.95, mean * np.exp(0.5 * z - 0.125))
        reward = (stream(seed, REWARDS).random(mean.shape) < mean).astype(np.float64)
        if self.sure:
            column = np.full((n, 1), SURE * self.rate)
            mean, reward = np.hstack([mean, column]), np.hstack([reward, column])
        return Episode(x, mean, reward, np.ones((1, mean.shape[1]), bool))


@dataclass(frozen=True)
class Shop:
    """The visits of examples/shop.py, whose offers have conditions; the reward is all the euros of a decision."""

    late: bool = False
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return "shop-late" if self.late else "shop"

    @property
    def document(self) -> Mapping[str, Any]:
        """Features, arms and rewards."""
        euros = {"range": [0, SHOP.CLICK + SHOP.CAP], "unit": 0.01}
        return {"features": SHOP.EXPERIMENT["features"], "arms": list(SHOP.OFFERS), "rewards": {"euros": euros}}

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed."""
        n, rng = rounds or VISITS_OF_SHOP, stream(seed, REWARDS)
        world = SHOP.World.made(stream(seed, TRUTH), n)
        mean = SHOP.CLICK * world.click + _purchase() * world.buy
        euros, back = SHOP.amounts(rng, world.buy.size)
        net = np.minimum(euros - back, SHOP.CAP).reshape(world.buy.shape)
        bought, clicked = rng.random(mean.shape) < world.buy, rng.random(mean.shape) < world.click
        delay = stream(seed, DELAYS).exponential(n / 20, n).astype(np.int64) if self.late else None
        x = encoded(self.document, world.contexts)
        return Episode(x, mean, SHOP.CLICK * clicked + net * bought, world.eligible, delay)


@cache
def _purchase() -> float:
    euros, back = SHOP.amounts(np.random.default_rng(0), 1_000_000)
    return float(np.minimum(euros - back, SHOP.CAP).mean())


def encoded(document: Mapping[str, Any], contexts: list[dict[str, Any]]) -> Grid:
    """Contexts as a server would encode them, without what is no feature, and with values as Python's own."""
    names = {feature["name"] for feature in document["features"]}
    kept = [{name: value for name, value in context.items() if name in names} for context in contexts]
    own = [{n: v.item() if isinstance(v, np.generic) else v for n, v in context.items()} for context in kept]
    return by_server(dict(document), own)


@dataclass(frozen=True)
class Scaled:
    """Another environment with rewards mapped onto [0, 1], or (`wider`) with another range declared."""

    base: Environment
    wider: float = 0.0

    @property
    def name(self) -> str:
        """Its name."""
        return self.base.name

    @property
    def notes(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def document(self) -> Mapping[str, Any]:
        """Features, arms and rewards."""
        low, high = self.span()
        kind = {"range": [low, low + self.wider * (high - low)]} if self.wider else {}
        return {**self.base.document, "rewards": {"reward": kind}}

    def span(self) -> tuple[float, float]:
        """The range that fits."""
        (kind,) = self.base.document["rewards"].values()
        low, high = kind.get("range", (0.0, 1.0))
        return float(low), float(high)

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The other's episode."""
        made, (low, high) = self.base.episode(seed, rounds), self.span()

        def scaled(reward: Matrix) -> Matrix:
            result: Matrix = (reward - low) / (high - low)
            return result

        return made if self.wider else replace(made, mean=scaled(made.mean), reward=scaled(made.reward))


def built_in() -> dict[str, Set]:
    """All sets that need no file."""
    clicks = [Clicks(f"clicks-{text}", rate) for text, rate in RATES.items()]
    clicks += [Clicks(f"clicks-{text}-x", rate, FEATURES) for text, rate in RATES.items()]
    clicks += [Clicks(f"clicks-{text}-sure", rate, sure=True) for text, rate in RATES.items()]
    sets = {each.name: of(each, ROUNDS if each.features else LONG) for each in clicks}
    sets |= {name: of(named(name), ROUNDS) for name in SYNTHETIC}
    base = named("linear")
    sets |= {f"linear-by-{wider}": Set(Scaled(base, wider), Scaled(base), ROUNDS) for wider in WIDER}
    sets |= {each.name: of(each, VISITS_OF_SHOP) for each in (Shop(), Shop(late=True))}
    return {"msweb": of(named("msweb"), LONG), **sets}


def of(environment: Environment, rounds: int) -> Set:
    """A set in which peers are told rewards in [0, 1]."""
    return Set(environment, Scaled(environment), rounds)


def table(text: str) -> tuple[str, Set]:
    """The set of NAME=FILE or NAME=FILE:OPTION=VALUE,... with the options of `simulator.environments.tables.read`.

    Without options a column `label` holds the right arm, or columns reward_... what each arm earns. At most one pass.
    """
    name, _, rest = text.partition("=")
    path, _, options = rest.partition(":")
    given = settings(options) or ({"label": "label"} if _has_label(path) else {})
    environment = read(path, **given)
    return name, of(environment, min(ROUNDS, len(environment.x)))


def _has_label(path: str) -> bool:
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as file:  # noqa: PTH123 - the same call twice
        return "label" in file.readline().strip().replace('"', "").split(",")
