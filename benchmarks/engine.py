"""A decision in this process against other ways to make one: `numpy.einsum`, Vowpal Wabbit and other libraries.

All choose among the same number of arms with the same number of features, one after the other in each round, on one
core; a time is the median over the rounds, a ratio, ours divided by theirs, the median of each round's ratio. Times are
the processor's, which on an idle machine are those of the clock, and on a busy one leave out what others took.

- whole: from the caller's dict to arm, propensity, score and estimates: the context decoded and checked, encoded,
  decided, one at a time.
- engine: `Model.decide` alone, from an encoded context, one at a time and with 64 requests waiting.
- scoring: from an encoded context to the probabilities of all arms and the one that is drawn.
  Warm: after `EVENTS` impressions an arm at random and `STEPS` batches of its own choosing, dense features. Cold:
  before the first event.
- einsum: x'theta + sigma sqrt(x'Gx) by `einsum("kij,i,j->k")` over float64 inverses of the same sums, then argmax. It
  draws nothing, knows no eligible arms and gives no propensity.
- vw: `--cb_explore_adf --squarecb -q SA`, a weight for each feature and arm as the engine has, predict only, from the
  lines of text to the prediction. vw_predict is given contexts and arms that it has parsed before, so that no text is
  read and nothing hashed while the clock runs.
- obp, MABWiser, contextualbandits, bayesianbandits, gittins: `engine_peers.py`, in this interpreter and in those that
  `--peers` names; whichever has a library. Up to `PEER_CELLS` arms times features: some take seconds beyond.

Run: python benchmarks/engine.py [--peers PYTHON ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from vowpalwabbit import Workspace

from bandit.arrays import Matrix, Vector
from bandit.core.document import Document
from bandit.core.draw import Choice, draw
from bandit.core.engine import Model
from bandit.core.experiment import compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE, Events

SIZES = ((100, 32), (1000, 64), (10_000, 32))
WAITING = 64
EVENTS, STEPS, STEP = 20, 10, 1000
ROUNDS, BUDGET = 7, 100_000_000  # rounds, and nanoseconds for each contender in each
# ours divided by theirs, at most; warm
TARGETS = {
    "engine_100x32_of_vw": 0.1,
    "engine_100x32_of_obp": 0.1,
    "engine_1000x64_of_vw": 0.2,
    "engine_1000x64_of_einsum": 0.143,
    "engine_10000x32_of_vw": 0.05,
    "scoring_100x32_of_vw_predict": 0.5,
    "scoring_1000x64_of_vw_predict": 0.2,
    "scoring_10000x32_of_vw_predict": 0.05,
}
OURS = {"whole": "engine", "scoring": "scoring"}  # which run a ratio is of, and what it is called
PEER_CELLS = 64_000
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
        return self.model.decide(e, x, None, [1] * len(x), u).choices

    def whole(self) -> Run:
        """A run from the caller's dict to the answer."""
        model, e, u = self.model, self.model.experiment, self.rng.random(1)
        values = self.rng.normal(size=(POOL, self.d - 1)).tolist()
        pool = cycle([{f"f{i}": value for i, value in enumerate(row)} for row in values])

        def run() -> object:
            context = msgspec.convert(next(pool), e.encoder.context_type)
            return model.decide(e, e.encoder.encode([context]), None, [1], u)

        return run

    def scoring(self) -> Run:
        """A run from an encoded context to the arm drawn."""
        scorer, u = self.model.scorer, self.rng.random(1)
        policy = self.model.experiment.document.policy.rule(lambda _: -1)
        eligible, everyone = self.model.experiment.active[None], bool(self.model.experiment.active.all())
        pool = cycle([self.contexts(1) for _ in range(POOL)])
        return lambda: draw(policy.probabilities(scorer.estimate(next(pool), eligible, everyone)), u)

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


def vowpal_wabbit(K: int, d: int) -> dict[str, tuple[Run, int]]:
    """Runs of VW, from text and parsed before; it has learned a little, so that no weight is missing."""
    rng = np.random.default_rng(1)
    arms = [f"|A a{i}" for i in range(K)]

    def context() -> str:
        return "shared |S " + " ".join(f"f{i}:{value:.6f}" for i, value in enumerate(rng.normal(size=d - 1)))

    vw = Workspace("--cb_explore_adf --squarecb -q SA -b 22 --quiet")
    for arm in rng.integers(0, K, 20).tolist():
        label = f"0:{-rng.random():.3f}:{1 / K:.6f}"
        vw.learn([context(), *arms[:arm], f"{label} {arms[arm]}", *arms[arm + 1 :]])
    _, *parsed = vw.parse([context(), *arms])
    before = cycle([[vw.parse([context(), arms[0]])[0], *parsed] for _ in range(POOL)])
    text = cycle([[context(), *arms] for _ in range(POOL)])
    return {"vw": (lambda: vw.predict(next(text)), 1), "vw_predict": (lambda: vw.predict(next(before)), 1)}


def others(K: int, d: int, interpreters: Sequence[str]) -> dict[str, float]:
    """Microseconds of the libraries that these interpreters have; what none of them has is said to be missing."""
    script = str(Path(__file__).with_name("engine_peers.py"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    times: dict[str, float] = {}
    missing: dict[str, str] = {}
    for python in interpreters:
        command = [python, script, str(K), str(d), *missing]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        times |= {each["peer"]: each["us"] for each in found if "us" in each}
        missing = {each["peer"]: each["missing"] for each in found if "missing" in each}
        if not missing:
            break
    for name, reason in missing.items():
        print(f"{name}: missing, {reason}", file=sys.stderr)
    return times


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


def figures(K: int, d: int, interpreters: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The figures of one size: times without a target, ratios with one."""
    problem, size = Problem(K, d), f"{K}x{d}"
    runs: dict[str, tuple[Run, int]] = {
        "whole": (problem.whole(), 1),
        "engine": (problem.engine(1), 1),
        f"engine_{WAITING}_waiting": (problem.engine(WAITING), WAITING),
    }
    peers = vowpal_wabbit(K, d)
    for state in ("cold", "warm"):
        if state == "warm":
            problem.warm_up()
        peers["einsum"] = problem.einsum(), 1
        rounds = measured({**runs, "scoring": (problem.scoring(), 1), **peers})
        if state == "warm" and K * d <= PEER_CELLS:
            found = others(K, d, interpreters)
            rounds = [{**each, **found} for each in rounds]
        settings = {"arms": K, "features": d, "state": state, "rounds": ROUNDS, "cores": 1}
        yield from told(rounds, size if state == "warm" else f"{size}_cold", settings)


def told(rounds: list[dict[str, float]], suffix: str, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The times of one size and state, then the ratios."""
    for name in rounds[0]:
        yield figure(f"{name}_us_{suffix}", [each[name] for each in rounds], "us", None, settings)
    peers = [name for name in rounds[0] if name not in OURS and not name.startswith("engine")]
    for ours, called in OURS.items():
        for peer in peers if ours == "whole" else ["vw_predict"]:
            name, ratios = f"{called}_{suffix}_of_{peer}", [each[ours] / each[peer] for each in rounds]
            yield figure(name, ratios, "ratio", TARGETS.get(name), settings)


def figure(name: str, values: list[float], unit: str, target: float | None, settings: dict[str, Any]) -> dict[str, Any]:
    """One figure: the median of the rounds' values."""
    value = float(f"{statistics.median(values):.4g}")
    return {"name": name, "value": value, "unit": unit, "target": target, "settings": settings}


def table(found: list[dict[str, Any]]) -> str:
    """The figures for reading: a ratio above its target is marked."""
    lines = []
    for each in found:
        target = "" if each["target"] is None else f"at most {each['target']:g}"
        missed = "  MISSED" if each["target"] is not None and each["value"] > each["target"] else ""
        lines.append(f"{each['name']:<38}{each['value']:>10g} {each['unit']:<6}{target}{missed}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--peers", metavar="PYTHON", nargs="+", default=[], help="interpreters that have libraries")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    asked = parser.parse_args()
    alone()
    for K, d in SIZES:
        print(f"{K} arms, {d} features ...", file=sys.stderr)
        found = list(figures(K, d, [sys.executable, *asked.peers]))
        print("\n".join(map(json.dumps, found)) if asked.json else table(found), flush=True)


if __name__ == "__main__":
    main()
