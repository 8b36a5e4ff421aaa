"""What counting costs a request, and what a scrape costs: the hot path in this process, with and without it.

64 connections without sockets, each of which sends its next request when it has its answer, go through the protocol,
the batcher and a real store. Rounds with and without counters, timings and request ids take turns, and a figure is the
median over pairs of rounds: processor's time of this process, so that who else uses the machine matters little. What is
left out, the sockets, costs a request some 20 us more in a server: the share is a bit less there.

Run: python benchmarks/telemetry.py [--json] [--rounds 8] [--requests 15000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import uvicorn
import uvloop
from uvicorn.server import ServerState

from bandit.core.document import Document
from bandit.core.draw import Choice
from bandit.core.experiment import compile_config
from bandit.core.revision import first
from bandit.process import embedded
from bandit.process.direct import direct_protocol
from bandit.serving.api.app import build_app
from bandit.serving.api.hot import Hot
from bandit.serving.changes import Sent
from bandit.serving.requests import RecommendationRequest
from bandit.serving.service import Service
from bandit.serving.telemetry.requests import Requests
from bandit.serving.telemetry.tally import Tally
from bandit.settings import overridden
from bandit.telemetry import request_ids
from bandit.telemetry.counters import Counters
from bandit.telemetry.exposition import rendered, together
from bandit.telemetry.table import ARMS, EXPERIMENTS

CONNECTIONS = 64
FEATURES = 31
DOCUMENT = {
    "features": [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(FEATURES)],
    "rewards": {"click": {}},
    "arms": [f"a{i}" for i in range(100)],
}
TARGET = 3.0  # per cent of a request


class Line(asyncio.Transport):
    """A connection without a socket: what is written is an answer, after which the next request comes."""

    def __init__(self, answered: Callable[[Line], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.answered = answered
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        """An answer."""
        if data[:12] != b"HTTP/1.1 200":
            raise RuntimeError(bytes(data[:200]).decode())
        self.answered(self)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Everything is taken at once."""
        return 0


def nothing(*_: Any) -> None:
    """Counts nothing."""


def without(hot: Hot) -> list[Any]:
    """What makes a server count nothing."""
    names = ("version", "tick", "again", "decided", "judged", "activated")
    return [
        *(patch.object(Tally, name, nothing) for name in names),
        patch.object(hot, "told", nothing),
        patch.object(request_ids, "made", lambda: b"x"),
    ]


class Bench:
    """A service and its protocol on this loop."""

    def __init__(self, service: Service) -> None:
        self.loop = asyncio.get_running_loop()
        config = uvicorn.Config(build_app(service), log_level="critical", lifespan="off", ws="none")
        config.load()
        self.hot = Hot(service)
        protocol: Any = direct_protocol(30, 1000, self.hot, service.gate)
        state = ServerState()
        state.default_headers = [(b"server", b"uvicorn")]
        self.lines = [Line(self._next) for _ in range(CONNECTIONS)]
        for line in self.lines:
            line.protocol = protocol(config=config, server_state=state, app_state={}, _loop=self.loop)
            line.protocol.connection_made(line)
        context = json.dumps({"context": {f"f{i}": i / 40 for i in range(FEATURES)}}).encode()
        head = (
            f"POST /v1/experiments/home/recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(context)}\r\n\r\n"
        )
        self.request = head.encode() + context

    async def run(self, requests: int) -> float:
        """Microseconds of this process's time a request."""
        self.left, self.out, self.done = requests, 0, asyncio.Event()
        begun = time.process_time()
        for line in self.lines:
            self._send(line)
        await self.done.wait()
        return (time.process_time() - begun) / requests * 1e6

    def _next(self, line: Line) -> None:
        self.out -= 1
        if self.left > 0:
            self.loop.call_soon(self._send, line)
        elif self.out == 0:
            self.done.set()

    def _send(self, line: Line) -> None:
        self.left -= 1
        self.out += 1
        line.protocol.data_received(self.request)


async def costs(url: str, rounds: int, requests: int) -> tuple[float, float]:
    """(microseconds of a request with everything, of what counting takes of it)."""
    service = Service.open(overridden({"redis_url": url}))
    await asyncio.to_thread(service.ready.wait)
    await service.experiments.put("home", Sent.read(json.dumps(DOCUMENT).encode()), reset=False, if_match=None)
    bench, whole, difference = Bench(service), list[float](), list[float]()
    await bench.run(requests)
    for i in range(rounds):
        pair = {}
        for on in (True, False) if i % 2 else (False, True):
            patches = [] if on else without(bench.hot)
            for each in patches:
                each.start()
            pair[on] = await bench.run(requests)
            for each in patches:
                each.stop()
        whole.append(pair[True])
        difference.append(pair[True] - pair[False])
    await service.close()
    return statistics.median(whole), statistics.median(difference)


def pieces(size: int, arms: int = 100) -> float:
    """Microseconds that counting takes of a decision in a micro-batch of so many: the calls alone, the best of many
    times, so that a busy machine says the same as a quiet one.
    """
    experiment = compile_config(first("home", msgspec.convert(DOCUMENT, Document)))
    counters = Counters()
    tally, requests = Tally(counters, "home"), Requests(counters)
    asked = [RecommendationRequest(experiment, None, experiment.active, 1, b"", b"", False, b"")] * size
    choice = Choice((0,), (0.9,), (0.9,))
    probabilities = np.full((size, arms), 0.1 / (arms - 1))
    probabilities[:, 0] = 0.9
    batch: Any = [SimpleNamespace(trace=None, since=0.0)] * size
    times, number = (0.0, 0.0, 0.001), ("p", 1)

    def tick() -> None:
        made: Any = SimpleNamespace(decided=SimpleNamespace(probabilities=probabilities), play=(), shadows=())
        time.monotonic()
        time.monotonic()
        tally.tick(batch, times, number)
        tally.version(experiment)
        for place, request in enumerate(asked):
            tally.decided(request, choice, made, place, 1)
            request_ids.made()
            begun = time.monotonic()
            requests.told("recommendations", 200, time.monotonic() - begun)

    count = max(1, 2000 // size)
    return min(timeit.repeat(tick, number=count, repeat=20)) / count / size * 1e6


def scrape() -> tuple[float, float]:
    """(milliseconds of a snapshot that blocks a worker, of the whole answer) with as many experiments as have labels,
    each with `ARMS` arms and three kinds of reward.
    """
    counters = Counters()
    for e in range(EXPERIMENTS):
        tally = Tally(counters, f"experiment-{e}")
        for kind in ("click", "sale", "score"):
            for outcome in ("accepted", "duplicate", "late"):
                tally._cell("bandit_feedback_total", kind, outcome)
        for arm in range(ARMS // 2):
            tally._cell("bandit_arm_decisions_total", f"arm-{arm}")
        for name in ("lag_seconds", "lag_entries", "failed"):
            counters.set(f"bandit_replica_{name}", 1, f"experiment-{e}")
    taken = list[tuple[float, float]]()
    for _ in range(9):
        begun = time.perf_counter()
        snapshot = counters.snapshot()
        blocked = time.perf_counter() - begun
        rendered(together([("0", True, snapshot), ("1", True, snapshot)]), "")
        taken.append((1e3 * blocked, 1e3 * (time.perf_counter() - begun)))
    blocks, whole = zip(*taken, strict=True)
    return statistics.median(blocks), statistics.median(whole)


def figures(rounds: int, requests: int) -> list[dict[str, Any]]:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as place:
        store = embedded.start(Path(place), durability="everysec")
        try:
            whole, counting = uvloop.run(costs(store.url, rounds, requests))
        finally:
            store.stop(5)
    blocked, all_of_it = scrape()
    settings = {"rounds": rounds, "requests": requests, "connections": CONNECTIONS}
    many = {"experiments": EXPERIMENTS}
    found = (
        ("telemetry_request_us", whole, "us", None, settings),
        ("telemetry_counting_us", counting, "us", None, settings),
        ("telemetry_calls_alone_us", pieces(1), "us", None, {"tick": 1}),
        ("telemetry_calls_us", pieces(32), "us", None, {"tick": 32}),
        ("telemetry_share", 100 * counting / whole, "%", TARGET, settings),
        ("telemetry_snapshot_ms", blocked, "ms", None, many),
        ("telemetry_scrape_ms", all_of_it, "ms", None, many),
    )
    return [dict(zip(("name", "value", "unit", "target", "settings"), each, strict=True)) for each in found]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=15_000)
    given = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # as in a worker: threads of BLAS that wait take time as well
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    for each in figures(given.rounds, given.requests):
        print(json.dumps(each) if given.json else f"{each['name']:24} {each['value']:8.2f} {each['unit']}")


if __name__ == "__main__":
    main()
