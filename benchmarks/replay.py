"""How many logged events a second a replay gets through, on one core, and other libraries on the same log.

The log is uniform over 20 arms with 32 features and click rates of about 20 %. A figure is the median over the rounds;
times are the processor's, which on a busy machine leave out what others took.

- fixed: a LinUCB that no longer learns: its probabilities from each context, then the matches.
- learning: LinUCB that learns from its matches, refreshed after every 100; and its doubly robust variant.
- peers, learning, on the first rows of the log: MABWiser's LinUCB and Vowpal Wabbit's epsilon-greedy in our replay, and
  MABWiser's own Simulator in batches of 2,000 rows (it learns from every row, matched or not).
- obp's replay of its LinUCB, where `--obp` names an interpreter that has it (replay_obp.py says how to make one).

Run: python benchmarks/replay.py [--rows 200000] [--obp PYTHON] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from simulator.logs.log import Log
from simulator.policies.adapters.library import MissingLibraryError, library
from simulator.policies.on_log import frozen, task_of
from simulator.policies.protocol import Outcomes
from simulator.policies.specs import build, parse
from simulator.studies.replay import replay, replay_fixed
from simulator.studies.replay_dr import replay_dr

ARMS, FEATURES, REFRESH = 20, 32, 100
ROUNDS, PEER_ROWS = 3, 10_000
BATCH = REFRESH * ARMS  # rows in which about `REFRESH` match
Figure = tuple[str, float, float | None, dict[str, Any]]  # name, events a second, target, settings


def logged(n: int) -> Log:
    """A uniform log of n rows with clicks that are logistic in the context."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, FEATURES))])
    arm, theta = rng.integers(0, ARMS, n), rng.normal(size=(ARMS, FEATURES + 1)) * 0.2
    rate = 1 / (1 + np.exp(1.5 - np.einsum("nd,nd->n", X, theta[arm])))
    even = np.broadcast_to(np.float64(1 / ARMS), (n, ARMS))
    names = tuple(f"arm{a}" for a in range(ARMS))
    return Log(names, arm, (rng.random(n) < rate) * 1.0, np.full(n, 1 / ARMS), even, X)


def rate(log: Log, run: Callable[[Log], object]) -> float:
    """Events a second."""
    took = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run(log)
        took.append(time.process_time() - start)
    return len(log) / statistics.median(took)


def fixed(log: Log) -> Callable[[Log], object]:
    """Replay of a LinUCB that has learned the first 5,000 rows."""
    learner = build(parse("linucb"), task_of(log))
    seen, x = log.take(slice(0, 5000)), np.rint(np.asarray(log.context)[:5000] * 4096).astype(np.int16)
    learner.learn(Outcomes(x, seen.arm, seen.reward, seen.propensity, np.ones((1, ARMS), bool)), told=False)
    learner.refresh()
    return lambda rows: replay_fixed(rows, frozen(learner, rows))


def mabwiser_simulator(log: Log) -> object:
    """MABWiser's own simulation of its LinUCB: a tenth to begin with, then batches."""
    mab, simulator = library("mabwiser.mab", ""), library("mabwiser.simulator", "")
    bandit = mab.MAB(list(range(ARMS)), mab.LearningPolicy.LinUCB(alpha=1.0))
    made = simulator.Simulator(
        [("linucb", bandit)], log.arm, log.reward, log.context, test_size=0.9, is_ordered=True, batch_size=BATCH,
        is_quick=True,
    )  # fmt: skip
    return made.run()


def obp(python: str, log: Log) -> float:
    """Events a second of obp, which has an interpreter of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.npz"
        np.savez(path, arm=log.arm, reward=log.reward, context=np.asarray(log.context), arms=ARMS, refresh=REFRESH)
        command = [python, str(Path(__file__).with_name("replay_obp.py")), str(path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        took = [
            float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
            for _ in range(ROUNDS)
        ]
    return len(log) / statistics.median(took)


def figures(n: int, python: str | None) -> Iterator[Figure]:
    """Ours, then the peers that are installed."""
    log = logged(n)
    settings = {"rows": n, "arms": ARMS, "features": FEATURES, "refresh": REFRESH}
    yield "replay_fixed_events_per_s", rate(log, fixed(log)), 100_000, settings
    yield "replay_learning_events_per_s", rate(log, lambda rows: replay(rows, "linucb")), 20_000, settings
    yield "replay_dr_events_per_s", rate(log, lambda rows: replay_dr(rows, "linucb")), None, settings
    few = log.take(slice(0, PEER_ROWS))
    peers: dict[str, Callable[[Log], object]] = {
        "replay_mabwiser_events_per_s": lambda rows: replay(rows, "mabwiser"),
        "replay_vw_events_per_s": lambda rows: replay(rows, "vw:epsilon=0.02"),
        "mabwiser_simulator_events_per_s": mabwiser_simulator,
    }
    for name, run in peers.items():
        try:
            yield name, rate(few, run), None, {**settings, "rows": len(few)}
        except MissingLibraryError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
    if python is not None:
        yield "replay_obp_events_per_s", obp(python, few), None, {**settings, "rows": len(few)}
    else:
        print("replay_obp_events_per_s: left out, --obp names no interpreter", file=sys.stderr)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of the log")
    parser.add_argument("--obp", metavar="PYTHON", help="an interpreter that has obp")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    options = parser.parse_args()
    logging.disable(logging.INFO)  # MABWiser's Simulator tells all it does
    with threadpool_limits(1):
        for name, value, target, settings in figures(options.rows, options.obp):
            figure = {"name": name, "value": round(value), "unit": "1/s", "target": target, "settings": settings}
            aim = f"   aim {target:,.0f}" if target else ""
            print(json.dumps(figure) if options.json else f"{name:36} {value:12,.0f}{aim}", flush=True)


if __name__ == "__main__":
    main()
