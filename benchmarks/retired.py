"""What arms that were retired cost: memory and the time of a decision, while live arms are replaced again and again.

`ARMS` live arms with `FEATURES` features, one decision at a time, on one core: with the first arms, and after they have
all been replaced `TIMES` times, each of them shown `SHOWN` times before it went. The sums of every arm stay, 8 d^2
bytes each; matrices to score with are kept of the live ones alone.

Run: python benchmarks/retired.py [--json]   (Linux: it reads /proc)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit.core.document import Document
from bandit.core.engine import Model
from bandit.core.experiment import Config, compile_config
from bandit.core.revision import first, revise
from bandit.core.sums import ONE, Events

ARMS, FEATURES, TIMES, SHOWN = 300, 33, 30, 5  # features with the intercept
DECISIONS = 2000
TARGET = 1.5  # times as long for a decision


def document(turn: int) -> Document:
    """The experiment with the arms of a turn."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(FEATURES - 1)]
    arms = [f"r{turn}-{i}" for i in range(ARMS)]
    return msgspec.convert({"features": features, "arms": arms, "rewards": {"click": {}}}, Document)


def contexts(rng: np.random.Generator, n: int) -> Any:
    """Contexts of independent normal features, encoded."""
    x = rng.normal(size=(n, FEATURES))
    x[:, 0] = 1
    return np.clip(np.rint(x * ONE), -32768, 32767).astype(np.int16)


def replaced(model: Model, turn: int) -> None:
    """Put the arms of a turn in place of those before."""
    config: Config = revise(model.experiment.config, document(turn), learned=True, reset=False)
    model.adopt(compile_config(config))


def learn(model: Model, rng: np.random.Generator) -> None:
    """Show each of the live arms a few times, and refresh."""
    arms = np.repeat(np.flatnonzero(model.experiment.active), SHOWN)
    credit = (rng.random(len(arms)) < 0.1)[:, None] * np.int64(model.experiment.kinds[0].credit(1.0))
    model.learn(Events(arms, contexts(rng, len(arms)), np.ones(len(arms), np.int64), np.zeros_like(credit), credit))
    while model.refresh():
        pass


def microseconds(model: Model, rng: np.random.Generator) -> float:
    """The median time of a decision alone."""
    e, x, u, times = model.experiment, contexts(rng, DECISIONS), rng.random(DECISIONS), []
    for i in range(DECISIONS):
        begun = time.process_time_ns()
        model.decide(e, x[i : i + 1], e.active[None], [1], u[i : i + 1])
        times.append(time.process_time_ns() - begun)
    return statistics.median(times) / 1000


def resident() -> float:
    """Memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def figures() -> Iterator[tuple[str, float, str, float | None]]:
    """(name, value, unit, target) of each."""
    rng, model = np.random.default_rng(1), Model(compile_config(first("retired", document(0))))
    learn(model, rng)
    alone, before = microseconds(model, rng), resident()
    for turn in range(1, TIMES + 1):
        replaced(model, turn)
        learn(model, rng)
    begun = time.perf_counter()
    replaced(model, 0)
    returned = (time.perf_counter() - begun) * 1000
    replaced(model, TIMES)
    after, late = resident(), microseconds(model, rng)
    sums = sum(part.nbytes for part in (model.sums.A, model.sums.B, model.sums.R, model.sums.n)) / 1e6
    yield "decide_us", alone, "us", None
    yield "decide_us_replaced", late, "us", None
    yield "decide_replaced_over_first", late / alone, "times", TARGET
    yield "memory_grown", after - before, "MB", None
    yield "sums", sums, "MB", None
    yield "arms_come_back", returned, "ms", None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    asked = parser.parse_args()
    settings = {"arms": ARMS, "features": FEATURES, "replaced": TIMES, "shown": SHOWN, "cores": 1}
    for name, value, unit, target in figures():
        figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target, "settings": settings}
        print(json.dumps(figure) if asked.json else f"{name:<30}{value:>10.4g} {unit}")


if __name__ == "__main__":
    main()
