"""Logs of known truth for `coverage.py`: a server's own, shops with money, values that move, users, fixed slots.

Each case draws a log and names targets with what each would have earned: over all visitors there could be or, where
rates move or a target learns, over the very rows of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from bandit.core.draw import draw
from simulator.logs.log import Log
from simulator.policies import specs, targets
from simulator.policies.on_log import grid_of, task_of
from simulator.policies.protocol import Outcomes

Rng = np.random.Generator
D = 6  # columns of context
MANY = 200_000  # visitors over whom a truth is averaged
REFRESH = 200


class Question(NamedTuple):
    """A target on a log."""

    name: str
    log: Log
    target: Matrix  # (n, K)
    truth: float
    span: tuple[float, float] | None = None
    drifts: bool = True


@dataclass(frozen=True)
class World:
    """Visitors, and arms with rates (n, K) of clicks for them."""

    coefficients: Matrix  # (D, K)
    base: float

    @classmethod
    def of(cls, K: int, rng: Rng, rate: float = 0.05, spread: float = 0.4) -> World:
        """With arms that differ by context, as much as `spread` says; 0: all equal."""
        return cls(rng.normal(0, spread / np.sqrt(D), (D, K)) + 0.0, float(np.log(rate / (1 - rate))))

    def visitors(self, n: int, rng: Rng) -> Matrix:
        """Contexts, (n, D), the first column 1."""
        return np.column_stack([np.ones(n), rng.normal(size=(n, D - 1))])

    def rates(self, X: Matrix) -> Matrix:
        """Click rates, (n, K)."""
        return np.asarray(1 / (1 + np.exp(-(self.base + X @ self.coefficients))))


def own(K: int, n: int, rng: Rng, *, spread: float = 0.4, policy: str = "linucb") -> Iterator[Question]:
    """A server's own log of clicks, and candidates on it: fixed arms, a contextual one, frozen and learning ones."""
    world = World.of(K, rng, spread=spread)
    X = world.visitors(n, rng)
    log = learned(world, X, world.rates(X), rng, policy)
    everyone = world.visitors(MANY, rng)
    shares = np.bincount(log.arm, minlength=K)
    other = World.of(K, rng, spread=spread)
    for name, arm in (("most_shown", int(shares.argmax())), ("least_shown", int(shares.argmin()))):
        yield Question(f"{name}", log, one_hot(np.full(n, arm), K), float(world.rates(everyone)[:, arm].mean()))
    best = (everyone @ other.coefficients).argmax(axis=1)
    truth = float(world.rates(everyone)[np.arange(MANY), best].mean())
    yield Question("contextual", log, one_hot((X @ other.coefficients).argmax(axis=1), K), truth)
    yield Question("uniform", log, np.full((n, K), 1 / K), float(world.rates(everyone).mean()))
    rates = world.rates(X)
    for text in ("linucb:alpha=0.5", "linucb:alpha=0,explore=0"):
        pi = targets.target(log, text)
        yield Question(f"learning {text}", log, pi, float((pi * rates).sum(axis=1).mean()))
        half = n // 2
        rest, pi = log.take(slice(half, None)), targets.frozen(log, text, half)
        yield Question(f"frozen {text}", rest, pi, float((pi * rates[half:]).sum(axis=1).mean()))


def learned(world: World, X: Matrix, rates: Matrix, rng: Rng, policy: str) -> Log:
    """What the server would have logged with these visitors."""
    n, K = rates.shape
    arms = tuple(map(str, range(K)))
    names = tuple(f"x{j}" for j in range(D))
    first = Log(arms, np.zeros(n, np.int64), np.zeros(n), np.ones(n), context=X, columns=names, learning=True)
    learner = specs.build(specs.parse(policy), task_of(first))
    P, arm, reward, u = np.zeros((n, K)), np.zeros(n, np.int64), np.zeros(n), np.asarray(rng.random(n))
    everything = np.ones((1, K), bool)
    for start in range(0, n, REFRESH):
        rows = slice(start, min(n, start + REFRESH))
        x = grid_of(first, rows)
        P[rows] = learner.probabilities(x, everything)
        arm[rows] = draw(P[rows], u[rows])
        each = np.arange(start, rows.stop)
        reward[rows] = rng.random(len(each)) < rates[each, arm[rows]]
        learner.learn(Outcomes(x, arm[rows], reward[rows], P[each, arm[rows]], everything), told=False)
        learner.refresh()
    return Log(arms, arm, reward, P[np.arange(n), arm], P, X, names, learning=True)


def one_hot(arm: Int, K: int) -> Matrix:
    """Probabilities of a target that is certain, (n, K)."""
    return np.eye(K)[arm]


def disagreeing(n: int, rng: Rng) -> Iterator[Question]:
    """A fixed log of clicks, explored by .05, and a target that differs from it in 5 % of contexts."""
    K = 5
    world = World.of(K, rng)
    X, everyone = world.visitors(n, rng), world.visitors(MANY, rng)

    def choice(X: Matrix, shift: bool) -> Int:
        usual = (X @ world.coefficients).argmax(axis=1)
        found: Int = np.where(shift & (X[:, 1] > 1.645), (usual + 1) % K, usual)
        return found

    mu = 0.95 * one_hot(choice(X, False), K) + 0.05 / K
    log = drawn(X, mu, lambda arm: (rng.random(n) < world.rates(X)[np.arange(n), arm]) * 1.0, rng)
    truth = float(world.rates(everyone)[np.arange(MANY), choice(everyone, True)].mean())
    yield Question("disagreeing", log, one_hot(choice(X, True), K), truth)


def hot(n: int, rng: Rng) -> Iterator[Question]:
    """In one context of twenty the target's arm is clicked six times as often as that arm is anywhere else."""
    K = 5
    X, edge = rng.normal(size=(n, 2)), 1.6448536
    X[:, 0], where = 1.0, X[:, 1] > edge
    mu = np.tile(np.array([0.8, 0.0, 0.0, 0.0, 0.0]) + 0.2 / K, (n, 1))
    rates = np.full((n, K), 0.05)
    rates[where, 1] = 0.3
    log = drawn(X, mu, lambda arm: (rng.random(n) < rates[np.arange(n), arm]) * 1.0, rng)
    yield Question("hot", log, one_hot(where.astype(np.int64), K), 0.95 * 0.05 + 0.05 * 0.3)


def drawn(X: Matrix | None, mu: Matrix, reward_of: Callable[[Int], Vector], rng: Rng) -> Log:
    """A log of a policy that does not learn."""
    n, K = mu.shape
    arm = draw(mu, np.asarray(rng.random(n)))
    names = () if X is None else tuple(f"x{j}" for j in range(X.shape[1]))
    return Log(tuple(map(str, range(K))), arm, reward_of(arm), mu[np.arange(n), arm], mu, X, names)


def shop(n: int, rng: Rng, explore: float = 0.02) -> Iterator[Question]:
    """Purchases to 500 euros among 12 offers, and a target that agrees with the log on about half of the rows."""
    K = 12
    world = World.of(K, rng, rate=0.03)
    X, everyone = world.visitors(n, rng), world.visitors(MANY, rng)
    price = rng.uniform(30, 90, K)
    usual = np.where(X[:, 1] > 0.07, 0, 1 + (X[:, 2] > 0))
    mu = (1 - explore) * one_hot(usual, K) + explore / K

    def money(arm: Int) -> Vector:
        bought = rng.random(n) < world.rates(X)[np.arange(n), arm]
        return np.where(bought, np.minimum(price[arm] * rng.lognormal(-0.3, 0.8, n), 500), 0.0)

    log = drawn(X, mu, money, rng)
    size = np.minimum(rng.lognormal(-0.3, 0.8, MANY)[:, None] * price, 500).mean(axis=0)
    worth = (world.rates(everyone) * size).mean(axis=0)
    yield Question("agreeing_half", log, one_hot(np.zeros(n, np.int64), K), float(worth[0]), (0.0, 500.0))
    yield Question("uniform", log, np.full((n, K), 1 / K), float(worth.mean()), (0.0, 500.0))


def tails(n: int, rng: Rng, size: Callable[[Rng, int], Vector], rate: float, high: float) -> Iterator[Question]:
    """Orders of uneven size on a uniform log of 5 arms that are all alike."""
    K = 5
    mu = np.full((n, K), 1 / K)
    log = drawn(None, mu, lambda arm: np.where(rng.random(n) < rate, np.minimum(size(rng, n), high), 0.0), rng)
    many = np.random.default_rng(7)
    truth = rate * float(np.mean([np.minimum(size(many, 1_000_000), high).mean() for _ in range(4)]))
    yield Question("fixed", log, one_hot(np.zeros(n, np.int64), K), truth, (0.0, high))
    yield Question("uniform", log, mu, truth, (0.0, high))


def rare(rng: Rng, n: int) -> Vector:
    """Orders of 1, and one in a thousand of 100."""
    return np.where(rng.random(n) < 0.001, 100.0, 1.0).astype(np.float64)


def pareto(rng: Rng, n: int) -> Vector:
    """Orders with a tail that has no variance."""
    return np.asarray(rng.pareto(1.5, n) + 1)


def lognormal(rng: Rng, n: int) -> Vector:
    """Orders over two orders of magnitude."""
    return np.asarray(rng.lognormal(3.0, 1.5, n))


def moving(n: int, rng: Rng) -> Iterator[Question]:
    """Rates that rise and fall under a policy whose exploration falls: the truth is over the rows."""
    K = 4
    t = np.arange(n) / n
    rates = np.column_stack([0.05 + 0.1 * t, 0.15 - 0.1 * t, np.where(t < 0.5, 0.05, 0.2), np.full(n, 0.1)])
    explore = np.where(t < 0.5, 1.0, 0.2)[:, None]
    mu = (1 - explore) * one_hot(np.where(t < 0.7, 1, 2), K) + explore / K
    log = drawn(None, mu, lambda arm: (rng.random(n) < rates[np.arange(n), arm]) * 1.0, rng)
    for a in (0, 2):
        yield Question(f"fixed_{a}", log, one_hot(np.full(n, a), K), float(rates[:, a].mean()))
    yield Question("uniform", log, np.full((n, K), 1 / K), float(rates.mean()))


def users(n: int, rng: Rng) -> Iterator[Question]:
    """Visitors who come back, each with a liking of his own, on a uniform log."""
    K = 4
    count = rng.geometric(0.2, n)
    who = np.repeat(np.arange(n), count)[:n]
    liking = rng.beta(0.5, 4.5, who[-1] + 1)
    rates = np.clip(liking[who, None] * np.array([0.5, 1.0, 1.0, 1.5]), 0, 1)
    order = rng.permutation(n)
    log = drawn(None, np.full((n, K), 1 / K), lambda arm: (rng.random(n) < rates[order, arm]) * 1.0, rng)
    many = np.random.default_rng(8).beta(0.5, 4.5, 1_000_000)
    log = Log(log.arms, log.arm, log.reward, log.propensity, log.probability, user=who[order].astype(np.str_))
    for a, factor in ((0, 0.5), (3, 1.5)):
        yield Question(f"fixed_{a}", log, one_hot(np.full(n, a), K), float(np.clip(many * factor, 0, 1).mean()))


def slots(n: int, rng: Rng) -> Iterator[Question]:
    """Only the shown arm's propensity is known, and every tenth visitor is shown arm 0 for certain."""
    K = 4
    certain = rng.random(n) < 0.1
    rate = np.where(certain[:, None], 0.3, np.array([0.05, 0.1, 0.1, 0.15]))
    mu = np.where(certain[:, None], one_hot(np.zeros(n, np.int64), K), rng.dirichlet(np.ones(K), n) * 0.6 + 0.1)
    log = drawn(None, mu, lambda arm: (rng.random(n) < rate[np.arange(n), arm]) * 1.0, rng)
    log = Log(log.arms, log.arm, log.reward, log.propensity)
    yield Question("fixed_1", log, one_hot(np.full(n, 1), K), 0.1)
    yield Question("uniform", log, np.full((n, K), 1 / K), 0.1)


def same(n: int, rng: Rng) -> tuple[Log, dict[str, Matrix]]:
    """A log explored by a third, and two targets of equal value that disagree in half of the contexts."""
    K = 4
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    mu = 2 / 3 * one_hot(np.zeros(n, np.int64), K) + 1 / 3 / K
    log = drawn(X, mu, lambda arm: (rng.random(n) < 0.1) * 1.0, rng)
    return log, {"a": one_hot(np.where(X[:, 1] > 0, 1, 2), K), "b": one_hot(np.full(n, 2), K)}


CASES: dict[str, Callable[[Rng], Iterator[Question]]] = {
    "own_2": lambda rng: own(2, 10_000, rng),
    "own_2_equal": lambda rng: own(2, 10_000, rng, spread=0.0),
    "own_5": lambda rng: own(5, 30_000, rng),
    "own_20": lambda rng: own(20, 30_000, rng),
    "disagreeing": lambda rng: disagreeing(10_000, rng),
    "hot": lambda rng: hot(20_000, rng),
    "shop": lambda rng: shop(10_000, rng),
    "shop_explore_20": lambda rng: shop(10_000, rng, 0.2),
    "rare_orders": lambda rng: tails(5_000, rng, rare, 0.2, 100.0),
    "pareto": lambda rng: tails(30_000, rng, pareto, 0.05, 10_000.0),
    "lognormal": lambda rng: tails(30_000, rng, lognormal, 0.05, 10_000.0),
    "moving": lambda rng: moving(6_000, rng),
    "users": lambda rng: users(8_000, rng),
    "slots": lambda rng: slots(6_000, rng),
}
