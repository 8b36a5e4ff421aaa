"""How often intervals hold what they promise: logs drawn from data in which the reward of every arm is known.

Each resample draws contexts with replacement and one arm for each from a logging policy, evaluates a target, and asks
whether the interval holds the target's value over the whole data; logs of other kinds are those of coverage_logs.py.
Run: python benchmarks/coverage.py [--json] [--only own_5].
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from coverage_logs import CASES as LOGS
from coverage_logs import same

from bandit.arrays import Int, Matrix, Vector
from simulator.environments.datasets import msweb
from simulator.logs.log import Log
from simulator.ope.differences import compare
from simulator.ope.drifting import drifting
from simulator.ope.evaluate import EstimatorRow, evaluate, options_of
from simulator.ope.intervals import Band, Stakes, betting_running, weighted
from simulator.ope.problem import Ends, InMemory
from simulator.ope.terms import estimate, stakes_of
from simulator.studies.parallel import processes

SEQUENCES = ("betting_ips", "betting_dr", "moving_ips", "moving_dr", "fixed")
DAYS = 30
ESTIMATORS = ("ips", "snips", "dr")
MODEL_ROWS = 3000  # on which the logging policy's idea of the best arm was fitted
REFIT = 200  # rows after which a learning policy thinks again
Figure = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """X (n, d) contexts with the intercept, r (n, K) rewards in [0, 1]."""

    X: Matrix
    r: Matrix

    @property
    def K(self) -> int:  # noqa: N802 - the papers' letter
        """How many arms there are."""
        return len(self.r[0])


@dataclass(frozen=True)
class Case:
    """One logging policy and target, and how many rows are drawn of it."""

    name: str
    explore: float
    target: str
    n: int
    interval: Ends = "normal"
    learning: bool = False

    def bound(self, K: int) -> float:
        """What no weight can pass, by the design of the log: 1 / (explore / K)."""
        return K / self.explore


# Sizes at which n_eff* on msweb is a little above 400: where intervals are hardest.
CASES = (
    Case("uniform", 1.0, "soft", 2400),
    Case("uniform_to_greedy", 1.0, "greedy", 8600),
    Case("uniform_bootstrap", 1.0, "soft", 2400, interval="bootstrap"),
    Case("explore_50", 0.5, "uniform", 850),
    Case("explore_50_to_soft", 0.5, "soft", 2500),
    Case("explore_20", 0.2, "uniform", 2100),
    Case("explore_20_bootstrap", 0.2, "uniform", 2100, interval="bootstrap"),
    Case("explore_20_to_soft", 0.2, "soft", 6000),
    Case("explore_10", 0.1, "uniform", 4200),
    Case("explore_5", 0.05, "uniform", 8200),
    Case("learning_20", 0.2, "uniform", 2100, learning=True),
)
WATCHED = (
    Case("uniform", 1.0, "soft", 1000),
    Case("explore_20", 0.2, "uniform", 1000),
    Case("explore_20_to_soft", 0.2, "soft", 1000),
    Case("explore_5", 0.05, "uniform", 1000),
    Case("learning_20", 0.2, "uniform", 1000, learning=True),
)


class Bench:
    """Policies on the data, and logs drawn from them."""

    def __init__(self, data: Data, seed: int) -> None:
        self.data = data
        order = np.random.default_rng(seed).permutation(len(data.X))
        self.score = data.X @ ridge(data.X[order[:MODEL_ROWS]], data.r[order[:MODEL_ROWS]])
        other = data.X @ ridge(data.X[order[MODEL_ROWS:][:1000]], data.r[order[MODEL_ROWS:][:1000]])
        self.targets = {"uniform": np.full(data.r.shape, 1 / data.K), "soft": soft(other), "greedy": greedy(other, 0.0)}

    def truth(self, case: Case) -> float:
        """The target's value over all of the data."""
        return float((self.targets[case.target] * self.data.r).sum(axis=1).mean())

    def draw(self, case: Case, rng: np.random.Generator) -> tuple[Log, Matrix]:
        """A log of the case, and the target's probabilities on its rows."""
        rows = rng.integers(0, len(self.data.X), case.n)
        if case.learning:
            mu, arm = self.learn(rows, case.explore, rng)
        else:
            mu = greedy(self.score[rows], case.explore)
            arm = choose(mu, rng)
        reward, propensity = self.data.r[rows, arm], mu[np.arange(case.n), arm]
        arms = tuple(str(a) for a in range(self.data.K))
        log = Log(arms, arm, reward, propensity, mu, learning=case.learning)
        return log, self.targets[case.target][rows]

    def learn(self, rows: Int, explore: float, rng: np.random.Generator) -> tuple[Matrix, Int]:
        """Probabilities and arms of an epsilon-greedy policy that plays the arm with the best mean so far."""
        mu, arm, best = np.zeros((len(rows), self.data.K)), np.zeros(len(rows), np.int64), 0
        seen, earned = np.ones(self.data.K), np.zeros(self.data.K)
        for start in range(0, len(rows), REFIT):
            block = slice(start, start + REFIT)
            mu[block] = greedy(np.eye(self.data.K)[np.full(len(rows[block]), best)], explore)
            arm[block] = choose(mu[block], rng)
            np.add.at(seen, arm[block], 1)
            np.add.at(earned, arm[block], self.data.r[rows[block], arm[block]])
            best = int((earned / seen).argmax())
        return mu, arm


def ridge(X: Matrix, r: Matrix) -> Matrix:
    """Coefficients of each arm, shape (d, K)."""
    return np.asarray(np.linalg.solve(X.T @ X + np.eye(X.shape[1]), X.T @ r))


def greedy(score: Matrix, explore: float) -> Matrix:
    """Epsilon-greedy probabilities."""
    table = np.full(score.shape, explore / score.shape[1])
    table[np.arange(len(score)), score.argmax(axis=1)] += 1 - explore
    return table


def soft(score: Matrix, temperature: float = 0.1) -> Matrix:
    """Probabilities in proportion to exp(score / temperature)."""
    table = np.exp((score - score.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def choose(mu: Matrix, rng: np.random.Generator) -> Int:
    """An arm for each row."""
    u = rng.random((len(mu), 1))
    return np.asarray(np.minimum((u > mu.cumsum(axis=1)).sum(axis=1), mu.shape[1] - 1), np.int64)


def read(path: Path) -> Data:
    """Full-information data from a CSV file: columns reward_0, reward_1, ... and numbers; others are left out."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = list(csv.DictReader(text.decode().splitlines()))
    names = [name for name in rows[0] if not name.startswith("cost_") and _number(rows[0][name])]
    table = {name: np.array([float(row[name]) for row in rows]) for name in names}
    rewards = [table[name] for name in names if name.startswith("reward_")]
    contexts = [_standard(table[name]) for name in names if not name.startswith("reward_")]
    return Data(np.column_stack([np.ones(len(rows)), *contexts]), np.column_stack(rewards))


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _standard(values: Vector) -> Vector:
    return np.asarray((values - values.mean()) / (values.std() or 1))


def coverage(bench: Bench, case: Case, resamples: int, seed: int) -> Iterator[Figure]:
    """The share of intervals that hold the value, for each estimator, among those that were given."""
    rng, truth = np.random.default_rng(seed), bench.truth(case)
    held: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    sizes = []
    for k in range(resamples):
        log, target = bench.draw(case, rng)
        for row in evaluate(log, target, estimators=ESTIMATORS, q="mean", interval=case.interval, seed=k):
            sizes.append(row.n_eff)
            if row.verdict == "interval" and row.low is not None and row.high is not None:
                held[row.estimator].append(row.low <= truth <= row.high)
    for name, found in held.items():
        given = {"intervals_given": round(len(found) / resamples, 3), "n_eff": round(float(np.mean(sizes)))}
        value = round(float(np.mean(found)), 4) if found else None
        yield figure(f"coverage_{name}_{case.name}", value, [0.92, 0.97], case, resamples, **given)


def violations(bench: Bench, case: Case, resamples: int, seed: int) -> Iterator[Figure]:
    """The share of logs in which an interval excluded the value at any row, looked at after every one."""
    rng, truth = np.random.default_rng(seed), bench.truth(case)
    missed = np.zeros(len(SEQUENCES))
    for _ in range(resamples):
        log, target = bench.draw(case, rng)
        w = target[np.arange(len(log)), log.arm] / log.propensity
        stakes = weighted(w, log.reward, case.bound(bench.data.K)), doubly_robust(log, target)
        bands = [betting_running(each, steps=128) for each in stakes] + [drifting(each) for each in stakes]
        missed += [ever_wrong(band, truth) for band in (*bands, always_normal(w * log.reward))]
    for name, aim, count in zip(SEQUENCES, (0.05,) * 4 + (None,), missed, strict=True):
        yield figure(f"violated_{name}_{case.name}", round(float(count) / resamples, 4), aim, case, resamples)


def doubly_robust(log: Log, target: Matrix) -> Stakes:
    """What the sequence of DR bets on."""
    problem = InMemory(log, target, options_of(log, (0.0, 1.0), q="mean"))
    return stakes_of("dr", problem, estimate("dr", problem))


def of_logs(name: str, resamples: int, seed: int) -> Iterator[Figure]:
    """Of a case of `coverage_logs`: how often an answer is an interval, how wide, and how often it holds."""
    found: dict[tuple[str, str], list[tuple[EstimatorRow, float]]] = {}
    spread = processes()(rows_of, (name, seed), range(resamples), lambda done: None)
    for _, rows in spread:
        for target, row, truth in rows:
            found.setdefault((target, row.estimator), []).append((row, truth))
    for (target, estimator), rows in found.items():
        for said, aim in (("interval", [0.92, 1.0]), ("sequence", [0.95, 1.0])):
            held = [
                (row.low <= truth <= row.high, row.high - row.low)
                for row, truth in rows
                if row.verdict == said and row.low is not None and row.high is not None
            ]
            share, width = len(held) / len(rows), float(np.median([each for _, each in held])) if held else None
            yield {
                "name": f"{said}_{estimator}_{name}_{target}",
                "value": round(float(np.mean([each for each, _ in held])), 4) if held else None,
                "unit": "share", "target": aim,
                "settings": {"given": round(share, 3), "median_width": width, "logs": resamples,
                             "n_eff": round(float(np.median([row.n_eff for row, _ in rows])))},
            }  # fmt: skip


def rows_of(common: tuple[str, int], k: int, show: object) -> list[tuple[str, EstimatorRow, float]]:
    """One log of a case: each target with its rows and its true value."""
    name, seed = common
    return [
        (asked.name, row, asked.truth)
        for asked in LOGS[name](np.random.default_rng([seed, k]))
        for row in evaluate(asked.log, asked.target, estimators=["ips", "dr"], q="ridge", reward_range=asked.span)
    ]


def looks(resamples: int, seed: int) -> Iterator[Figure]:
    """Two targets of equal value: how often `compare` calls one clearly better, at one look and over daily ones."""
    clear = np.zeros(3)
    for _, each in processes()(looked, seed, range(resamples), lambda done: None):
        clear += each
    for name, aim, count in zip(("once", "daily_interval", "daily_sequence"), (0.05, None, 0.05), clear, strict=True):
        settings = {"series": resamples, "days": DAYS}
        value = round(float(count) / resamples, 4)
        yield {"name": f"clear_of_equals_{name}", "value": value, "unit": "share", "target": aim, "settings": settings}


def looked(seed: int, k: int, show: object) -> list[bool]:
    """Of one series: clear at the end by an interval, ever clear by intervals, ever clear by sequences."""
    log, targets = same(12_000, np.random.default_rng([seed, k]))
    once, daily = [], []
    for day in range(1, DAYS + 1):
        rows = slice(0, len(log) * day // DAYS)
        part = {name: pi[rows] for name, pi in targets.items()}
        one, every = (compare(log.take(rows), part, looks=each, q="mean")["b"] for each in ("one", "any"))
        once.append(one.clear)
        daily.append(every.clear)
    return [once[-1], any(once), any(daily)]


def always_normal(values: Vector) -> Band:
    """The fixed 95 % interval of a mean after each row from the 30th on, as one must not use it."""
    i = np.arange(1, len(values) + 1)
    centre = np.cumsum(values) / i
    spread = np.sqrt(np.maximum(np.cumsum(values**2) / i - centre**2, 0) / i)
    return Band((centre - 1.96 * spread)[30:], (centre + 1.96 * spread)[30:])


def ever_wrong(band: Band, truth: float) -> bool:
    """Whether an interval excluded the truth at any row."""
    return bool(((band.low > truth) | (band.high < truth)).any())


def too_little(bench: Bench, resamples: int, seed: int) -> Iterator[Figure]:
    """How often 500 rows with .05 explored were given an interval: never."""
    case, rng, given = Case("explore_5_rows_500", 0.05, "uniform", 500), np.random.default_rng(seed), 0
    for _ in range(resamples):
        rows = evaluate(*bench.draw(case, rng), estimators=ESTIMATORS, q="mean")
        given += any(row.verdict == "interval" for row in rows)
    yield figure(f"intervals_given_{case.name}", given / resamples, 0, case, resamples)


def figure(name: str, value: float | None, target: object, case: Case, resamples: int, **settings: object) -> Figure:
    """One figure as it is printed."""
    settings |= {"explore": case.explore, "target_policy": case.target, "rows": case.n, "resamples": resamples}
    return {"name": name, "value": value, "unit": "share", "target": target, "settings": settings}


def figures(data: Data, resamples: int, seed: int, only: Sequence[str]) -> Iterator[Figure]:
    """Those of the parts named, as they are ready."""
    if "msweb" in only:
        yield from of_data(Bench(data, seed), resamples, seed)
    for name in LOGS:
        if name in only:
            yield from of_logs(name, resamples, seed)
    if "looks" in only:
        yield from looks(resamples, seed)


def of_data(bench: Bench, resamples: int, seed: int) -> Iterator[Figure]:
    """Of logs drawn from the data."""
    for case in CASES:
        yield from coverage(bench, case, resamples, seed)
    for case in WATCHED:
        yield from violations(bench, case, resamples, seed)
    yield from too_little(bench, resamples, seed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[*LOGS, "msweb", "looks"], help="these parts; default: all")
    parser.add_argument("--data", type=Path, help="CSV file with columns reward_0, reward_1, ...; default: msweb")
    given = parser.parse_args(arguments)
    shipped = msweb()
    data = Data(shipped.matrix(), shipped.reward) if given.data is None else read(given.data)
    for each in figures(data, given.resamples, given.seed, given.only or [*LOGS, "msweb", "looks"]):
        aim = json.dumps(each["target"])
        print(json.dumps(each) if given.json else f"{each['name']:40} {each['value']}   aim {aim}", flush=True)


if __name__ == "__main__":
    main()
