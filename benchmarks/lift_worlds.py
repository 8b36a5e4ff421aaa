"""Made worlds whose truth is known, for `lift.py`: a shop that learns, and users who come back as they like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np

from bandit.arrays import Int, Matrix, Vector
from bandit.core.engine import Model
from bandit.core.experiment import compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE, Events
from bandit.core.validation import parse_document
from simulator.logs.log import Kind
from simulator.ope.lift.traffic import Traffic

DAY_MS = 86_400_000
DAYS = 30
ARMS, FEATURES = 12, 6
CLICK_WEIGHT = 0.2  # euros that a click counts for
MEDIAN, SPREAD, LARGEST = 35.0, 0.9, 500.0  # of a purchase, log-normal
TAIL, MOST = 1.5, 300  # visits of a user: Pareto, whose variance is not finite, and at most so many
OFFERS = 3  # what the offers are like: the same in every run
TICK = 400  # decisions made by one state of the model


@dataclass(frozen=True)
class Visits:
    """Who came, in order of time: users (n,), days (n,), and how much each user buys (n,)."""

    user: Int
    day: Vector
    taste: Vector


def visits(rng: np.random.Generator, decisions: int, *, at_once: bool = False, tail: float = TAIL) -> Visits:
    """Some so many visits of `DAYS` days by users of whom few make most; `at_once`: all come on the first day."""
    counts = np.minimum((1 - rng.random(decisions)) ** (-1 / tail), MOST).astype(np.int64)
    users = int(np.searchsorted(np.cumsum(counts), decisions)) + 1
    counts = counts[:users]
    user = np.repeat(np.arange(users), counts)
    start = rng.random(users) * (1 if at_once else DAYS)
    day = start[user] + rng.random(len(user)) * (DAYS - start[user])
    day[np.cumsum(counts) - counts] = start  # the first visit of each
    taste = rng.gamma(2.0, 0.5, users)
    order = np.argsort(day, kind="stable")
    return Visits(user[order], day[order], taste[user[order]])


def purchases(rng: np.random.Generator, rate: Vector, spread: float = SPREAD) -> Vector:
    """Euros of each visit, mostly 0."""
    amount = np.minimum(LARGEST, MEDIAN * np.exp(spread * rng.standard_normal(len(rate))))
    return np.where(rng.random(len(rate)) < np.minimum(rate, 1.0), amount, 0.0)


@cache
def purchase_mean(cap: float = LARGEST) -> float:
    """The mean of a purchase, cut to a cap: exact to five digits."""
    z = np.random.default_rng(0).standard_normal(4_000_000)
    return float(np.minimum(min(cap, LARGEST), MEDIAN * np.exp(SPREAD * z)).mean())


def traffic_of(who: Visits, part: Int, shares: Matrix, rewards: Matrix, x: Matrix, cap: float | None = None) -> Traffic:
    """Two slices, learned and random, clicks and purchases."""
    kinds = Kind("click", CLICK_WEIGHT), Kind("purchase", 1.0, cap=cap)
    ms = (who.day * DAY_MS).astype(np.int64)
    return Traffic(("learned", "random"), part, shares, who.user, ms, kinds, rewards, x, uniform=1)


@dataclass(frozen=True)
class Shop:
    """Twelve offers: contexts (n, 1 + FEATURES), the chances of a click and of a purchase of each arm (n, ARMS)."""

    who: Visits
    x: Matrix
    click: Matrix
    buy: Matrix


def shop(seed: int, decisions: int) -> Shop:
    """A shop with visitors whose profiles stay and whose baskets do not; about 2 of 100 buy at random."""
    rng = np.random.default_rng(seed)
    who = visits(rng, decisions)
    n, users = len(who.user), int(who.user.max()) + 1
    profile = rng.standard_normal((users, FEATURES))[who.user]
    X = np.column_stack([np.ones(n), np.where(np.arange(FEATURES) < 4, profile, rng.standard_normal((n, FEATURES)))])
    X = np.rint(np.clip(X, -7, 7) * ONE) / ONE
    T = np.random.default_rng(OFFERS).standard_normal((2, ARMS, 1 + FEATURES)) * np.array([0.5, *[0.35] * FEATURES])
    z = X @ T[0].T
    click = 1 / (1 + np.exp(2.2 - z))
    buy = np.minimum(0.5, 0.0165 * np.exp(np.clip(0.25 * z + 0.4 * X @ T[1].T, -3, 2)) * who.taste[:, None])
    return Shop(who, X, click, buy)


def live(made: Shop, seed: int, holdout: float) -> tuple[Traffic, Matrix]:
    """(the traffic of a shop with an experiment of ours, what it played in each decision, shape (n, ARMS))."""
    rng = np.random.default_rng([seed, 1])
    n = len(made.x)
    held = rng.random(int(made.who.user.max()) + 1) < holdout
    part = held[made.who.user].astype(np.int64)
    model, rewards, played = _model(), np.zeros((n, 2)), np.zeros((n, ARMS))
    for start in range(0, n, TICK):
        rows = slice(start, min(n, start + TICK))
        while model.refresh():
            pass
        x = np.rint(made.x[rows] * ONE).astype(np.int16)
        played[rows] = P = model.probabilities(x, np.ones((1, ARMS), bool))
        P = np.where(part[rows, None] == 1, 1 / ARMS, P)
        arm = np.minimum((np.cumsum(P, axis=1) < rng.random(len(P))[:, None]).sum(axis=1), ARMS - 1)
        at = np.arange(start, start + len(P)), arm
        rewards[rows, 0] = rng.random(len(P)) < made.click[at]
        rewards[rows, 1] = np.round(purchases(rng, made.buy[at]), 2)
        kinds = model.experiment.kinds
        credits_ = np.array([[k.credit(v) for k, v in zip(kinds, row, strict=True)] for row in rewards[rows].tolist()])
        model.learn(Events(arm, x, np.ones(len(arm), np.int64), np.zeros_like(credits_), credits_))
    return traffic_of(made.who, part, np.tile([1 - holdout, holdout], (n, 1)), rewards, made.x), played


def _model() -> Model:
    numbers: list[dict[str, Any]] = [
        {"name": f"x{i}", "type": "number", "mean": 0, "scale": 1} for i in range(FEATURES)
    ]
    rewards = {"click": {"weight": CLICK_WEIGHT}, "purchase": {"range": [0, 500], "unit": 0.01}}
    document = {"features": numbers, "rewards": rewards, "arms": [f"offer{a}" for a in range(ARMS)]}
    return Model(compile_config(first("shop", parse_document(msgspec.json.encode(document)))))


def truth(made: Shop, played: Matrix, cap: float = LARGEST) -> Matrix:
    """What each decision would have earned more by the learned policy than at random: clicks and purchases, (n, 2)."""
    more = played - 1 / ARMS
    return np.column_stack([(more * made.click).sum(axis=1), (more * made.buy).sum(axis=1) * purchase_mean(cap)])
