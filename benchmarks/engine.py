"""A decision in this process against the two obvious ways to make one: `numpy.einsum` over the arms, and Vowpal Wabbit.

All three choose among the same number of arms with the same number of features, one after the other in each round, on
one core; a figure is the median over the rounds, a ratio the median of each round's ratio. Times are the processor's,
which on an idle machine are those of the clock, and on a busy one leave out what others took.

- engine: `Model.decide`, from an encoded context to arm, propensities, score and estimates, one at a time and with 32
  requests waiting. Warm: after `EVENTS` impressions an arm at random and `STEPS` batches of its own choosing, dense
  features. Cold: before the first event.
- einsum: x'theta + sigma sqrt(x'Gx) by `einsum("kij,i,j->k")` over float64 inverses of the same sums, then argmax. It
  draws nothing, knows no eligible arms and gives no propensity.
- VW: `--cb_explore_adf --squarecb -q SA`, a weight for each feature and arm as the engine has, predict only. It is
  given contexts and arms that it has parsed before, so that no text is read and nothing hashed while the clock runs.

Run: python benchmarks/engine.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from vowpalwabbit import Workspace

from bandit.arrays import Matrix, Vector
from bandit.core.draw import Choice
from bandit.core.engine import Model
from bandit.core.experiment import Document, compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE, Events

SIZES = ((100, 32), (1000, 64), (10_000, 32))
WAITING = 32
EVENTS, STEPS, STEP = 20, 10, 1000
ROUNDS, BUDGET = 7, 100_000_000  # rounds, and nanoseconds for each contender in each
TARGET = 5.0  # times faster, warm; with 100 arms one decision alone is the time of calling NumPy 50 times, and has none
POOL = 16  # different contexts
SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would slow the matrix products down
Run = Callable[[], object]


def alone() -> None:
    """Start anew where BLAS was told to use other than one thread and its own idea of the processor."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1" or any(name in os.environ for name in SETTINGS):
        env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**env, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606


class Problem:
    """K arms and d features; click rates are linear in the context, around 10 %."""

    def __init__(self, K: int, d: int) -> None:
        self.K, self.d = K, d
        self.rng = np.random.default_rng(K + d)
        self.theta = self.rng.normal(size=(K, d)) * 0.03
        self.theta[:, 0] = 0.1
        features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(d - 1)]
        document = {"features": features, "arms": [f"a{i}" for i in range(K)], "rewards": {"click": {}}}
        self.model = Model(compile_config(first("benchmark", msgspec.convert(document, Document))))

    def contexts(self, n: int) -> NDArray[np.int16]:
        """Contexts of independent normal features, encoded."""
        x = self.rng.normal(size=(n, self.d))
        x[:, 0] = 1
        return np.clip(np.rint(x * ONE), -32768, 32767).astype(np.int16)

    def learn(self, x: NDArray[np.int16], arms: NDArray[np.int64]) -> None:
        """Show these arms in these contexts, and learn what comes of it."""
        rate = np.einsum("nd,nd->n", x / ONE, self.theta[arms])
        credit = (self.rng.random(len(x)) < rate)[:, None] * np.int64(self.model.experiment.kinds[0].credit(1.0))
        self.model.learn(Events(arms, x, np.ones(len(x), np.int64), np.zeros_like(credit), credit))
        while self.model.refresh():
            pass

    def warm_up(self) -> None:
        """A realistic past: every arm seen at random, then the engine's own choices."""
        n = EVENTS * self.K
        self.learn(self.contexts(n), self.rng.integers(0, self.K, n))
        for _ in range(STEPS):
            x = self.contexts(STEP)
            self.learn(x, np.array([choice.arms[0] for choice in self.decide(x, self.rng.random(STEP))], np.int64))

    def decide(self, x: NDArray[np.int16], u: Vector) -> list[Choice]:
        """A decision for each context."""
        e = self.model.experiment
        return self.model.decide(e, x, e.active[None], [1] * len(x), u).choices

    def engine(self, waiting: int) -> Run:
        """A run of the engine with so many requests waiting."""
        pool = cycle([(self.contexts(waiting), self.rng.random(waiting)) for _ in range(POOL)])
        return lambda: self.decide(*next(pool))

    def einsum(self) -> Run:
        """A run of the plain way with the same theta, inverses and noise."""
        W, derived = self.model.scorer.rows.factors.W, self.model.scorer.derived
        G: Matrix = W.swapaxes(1, 2) @ W
        pool = cycle(self.contexts(POOL) / ONE)

        def run() -> int:
            x = next(pool)
            score = derived.theta @ x + derived.sigma * np.sqrt(np.einsum("kij,i,j->k", G, x, x))
            return int(score.argmax())

        return run


def vowpal_wabbit(K: int, d: int) -> Run:
    """A run of VW on contexts and arms that it parsed before; it has learned a little, so that no weight is missing."""
    rng = np.random.default_rng(1)
    arms = [f"|A a{i}" for i in range(K)]

    def context() -> str:
        return "shared |S " + " ".join(f"f{i}:{value:.6f}" for i, value in enumerate(rng.normal(size=d - 1)))

    vw = Workspace("--cb_explore_adf --squarecb -q SA -b 22 --quiet")
    for arm in rng.integers(0, K, 20).tolist():
        label = f"0:{-rng.random():.3f}:{1 / K:.6f}"
        vw.learn([context(), *arms[:arm], f"{label} {arms[arm]}", *arms[arm + 1 :]])
    _, *parsed = vw.parse([context(), *arms])
    pool = cycle([[vw.parse([context(), arms[0]])[0], *parsed] for _ in range(POOL)])
    return lambda: vw.predict(next(pool))


def microseconds(run: Run) -> float:
    """The median time of a run, over as many as the budget allows."""
    run()
    times: list[int] = []
    while len(times) < 5 or sum(times) < BUDGET:
        start = time.process_time_ns()
        run()
        times.append(time.process_time_ns() - start)
    return statistics.median(times) / 1000


def measured(runs: dict[str, tuple[Run, int]]) -> list[dict[str, float]]:
    """Microseconds a decision of each run, round by round."""
    return [{name: microseconds(run) / size for name, (run, size) in runs.items()} for _ in range(ROUNDS)]


def figures(K: int, d: int) -> Iterator[dict[str, Any]]:
    """The figures of one size: times without a target, ratios with one."""
    problem, size = Problem(K, d), f"{K}x{d}"
    mine: dict[str, tuple[Run, int]] = {
        "engine": (problem.engine(1), 1),
        "engine_32_waiting": (problem.engine(WAITING), WAITING),
    }
    peers: dict[str, tuple[Run, int]] = {"vw": (vowpal_wabbit(K, d), 1)}
    for state in ("cold", "warm"):
        if state == "warm":
            problem.warm_up()
        peers["einsum"] = problem.einsum(), 1
        rounds = measured({**mine, **peers})
        settings = {"arms": K, "features": d, "state": state, "rounds": ROUNDS, "cores": 1}
        suffix = size if state == "warm" else f"{size}_cold"
        for name in (*mine, *peers):
            yield figure(f"{name}_us_{suffix}", [r[name] for r in rounds], "us", None, settings)
        for ours in mine:
            for peer in peers:
                aimed = state == "warm" and (K >= 1000 or ours != "engine")
                ratios = [r[peer] / r[ours] for r in rounds]
                yield figure(f"{ours}_vs_{peer}_{suffix}", ratios, "times", TARGET if aimed else None, settings)


def figure(name: str, values: list[float], unit: str, target: float | None, settings: dict[str, Any]) -> dict[str, Any]:
    """One figure: the median of the rounds' values."""
    value = float(f"{statistics.median(values):.4g}")
    return {"name": name, "value": value, "unit": unit, "target": target, "settings": settings}


def table(found: list[dict[str, Any]]) -> str:
    """The figures for reading: a ratio below its target is marked."""
    lines = []
    for each in found:
        target = "" if each["target"] is None else f"at least {each['target']:g}"
        missed = "  MISSED" if each["target"] is not None and each["value"] < each["target"] else ""
        lines.append(f"{each['name']:<38}{each['value']:>10g} {each['unit']:<6}{target}{missed}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    asked = parser.parse_args()
    alone()
    for K, d in SIZES:
        print(f"{K} arms, {d} features ...", file=sys.stderr)
        found = list(figures(K, d))
        print("\n".join(map(json.dumps, found)) if asked.json else table(found), flush=True)


if __name__ == "__main__":
    main()
