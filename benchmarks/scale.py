"""How cost grows: with arms, features, the entries of a turn, experiments, and the length of the log.

Microseconds of the follower's processor time an entry (`scale_*`: read, decoded, added up and scored), one row a size,
where everything else stays as in the first row. Then of a server as it runs:

- idle_100_experiments_cpu: the share of a core that its worker takes with a hundred experiments that nobody asks;
- worker_rss_mb: the worker's memory with 1,000 arms x 64 features, all of them shown;
- experiments_1000_rss_mb, experiments_1000_first_decision_ms: with a thousand experiments of ten arms x 8 features, and
  how long the first decision of one takes that nobody has asked yet (the median of twenty).

Run: python benchmarks/scale.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from replica import Figure, experiment, fill, followed, stored
from stalls import Server, idle, serving

from bandit.store.redis_store import RedisStore

TARGETS = {"idle_100_experiments_cpu": 0.02, "worker_rss_mb": 150.0}
AT_FIRST = {"arms": 100, "features": 32, "turn": 200, "decisions": 5000}
ROWS = {
    "arms": (10, 100, 1000, 10_000),
    "features": (4, 32, 64, 128),
    "turn": (5, 50, 200, 2048),
    "decisions": (2500, 10_000, 30_000),
}
MOST = 4000  # entries folded in each row, but for the length of the log


def rows() -> Iterator[Figure]:
    """The table."""
    for what, sizes in ROWS.items():
        for size in sizes:
            chosen = AT_FIRST | {what: size}
            with stored() as store:
                fill(store, experiment(chosen["arms"], chosen["features"]), chosen["decisions"])
                count = 2**63 if what == "decisions" else MOST
                value = statistics.median(followed(store, chosen["turn"], count) for _ in range(3))
            yield f"scale_{what}_{size}", 1e6 * value, "us", None, chosen


def memory(pid: int) -> float:
    """MB that the server's largest worker has in memory."""
    command = ["pgrep", "-P", str(pid), "-f", "bandit.process.worker"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    texts = (Path(f"/proc/{child}/status").read_text() for child in found)
    return max(int(text.partition("VmRSS:")[2].split()[0]) / 1000 for text in texts)


def settled(server: Server, name: str, context: dict[str, float]) -> None:
    """Wait until the server has loaded an experiment, and all before it."""
    while server.client.post(f"/v1/experiments/{name}/recommendations", json={"context": context}).is_error:
        time.sleep(0.05)
    time.sleep(2)


def large() -> Iterator[Figure]:
    """One experiment of many arms and features."""
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(63)]
    with serving() as (server, pid):
        server.put("large", arms=[f"a{i}" for i in range(1000)], features=features)
        context = {f"f{i}": i / 64 for i in range(63)}
        for _ in range(30):
            server.post("large/recommendations/batch", {"requests": [{"context": context}] * 100})
        settled(server, "large", context)
        settings = {"arms": 1000, "features": 64, "decisions": 3000}
        yield "worker_rss_mb", memory(pid), "MB", TARGETS["worker_rss_mb"], settings


def quiet() -> Iterator[Figure]:
    """A hundred experiments that nobody asks."""
    with serving() as (server, pid):
        for name, value, unit, _, settings in idle(server, pid):
            if name == "idle_cpu":
                named = "idle_100_experiments_cpu"
                yield named, value, unit, TARGETS[named], settings


def thousand() -> Iterator[Figure]:
    """A thousand experiments, made by another server."""
    with serving() as (server, pid):
        store = RedisStore(f"unix://{server.store.connection_pool.connection_kwargs['path']}")
        for i in range(1000):
            store.put(experiment(10, 8, f"many-{i}").config, None)
        store.close()
        context = {f"f{i}": 0.5 for i in range(7)}
        settled(server, "many-999", context)  # the last by name
        waits = []
        for name in (f"many-{i}" for i in range(0, 1000, 50)):
            begun = time.monotonic()
            server.post(f"{name}/recommendations", {"context": context})
            waits.append(1000 * (time.monotonic() - begun))
        settings: dict[str, Any] = {"experiments": 1000, "arms": 10, "features": 8}
        yield "experiments_1000_rss_mb", memory(pid), "MB", None, settings
        worst = settings | {"worst": round(max(waits), 1)}
        yield "experiments_1000_first_decision_ms", statistics.median(waits), "ms", None, worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; exit 1 where one misses its target."""
    sys.setswitchinterval(0.001)  # as a worker has it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    given = parser.parse_args(arguments)
    missed = False
    for part in (quiet, large, thousand, rows):
        for name, value, unit, target, settings in part():
            figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target}
            line = f"{name:36} {value:10.4g} {unit:6} {settings}"
            print(json.dumps(figure | {"settings": settings}) if given.json else line, flush=True)
            missed |= target is not None and value > target
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
