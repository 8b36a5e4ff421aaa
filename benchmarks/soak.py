"""A server under steady load for a long time: does its memory grow, or its store's beyond what the log takes?

One server (two workers) with its own store and a reward window so short that the log is trimmed all the while. Clients
in this process ask for decisions, by user and by id, report feedback, and change weights and arms now and then. Each
`--every` seconds the resident memory of each worker and of the store is read. The figures leave out the first quarter,
in which caches fill: `soak_worker_slope` and `soak_store_slope` are the slopes of a least-squares line through the
rest, in MiB an hour, the workers' being the largest of theirs; `soak_worker_growth` is the median of the last samples
over that of as many after the first quarter.

Run: python benchmarks/soak.py [--json] [--minutes 20] [--rate 300] [--every 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from http_ladder import environment

ARMS, CLIENTS = 20, 16
MIB = 1 << 20
TARGETS = {"soak_worker_growth": 1.05, "soak_errors": 0.0}
DOCUMENT = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "country", "type": "category", "levels": ["cn", "us", "de"], "other": True},
    ],
    "rewards": {"click": {}, "sale": {"range": [0, 1000], "weight": 0.01}},
    "arms": [f"arm-{i}" for i in range(ARMS)],
    "reward_window": "20s",
    "degraded": "answer",
}


def memory(pid: int) -> float:
    """MiB that a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Soak:
    """The load, and what came of it."""

    def __init__(self, address: str, rate: float, end: float) -> None:
        self.at, self.pause, self.end = f"{address}/v1/experiments/e", CLIENTS / rate, end
        self.statuses: Counter[int] = Counter()
        self.random = random.Random(1)

    async def run(self) -> None:
        """Send until the end."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            await asyncio.gather(self._operator(session), *(self._client(session) for _ in range(CLIENTS)))

    async def _post(self, session: aiohttp.ClientSession, what: str, body: Any) -> Any:
        async with session.post(f"{self.at}/{what}", json=body) as answer:
            self.statuses[answer.status] += 1
            return await answer.json()

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while time.monotonic() < self.end:
            begun, draw = time.monotonic(), self.random.random()
            context = {"age": self.random.randint(18, 80), "country": self.random.choice(["cn", "us", "fr"])}
            body: dict[str, Any] = {"context": context}
            if draw < 0.5:
                body["user_id"] = f"u{self.random.randrange(10_000)}"
            if draw > 0.75:
                body["decision_id"] = f"{self.random.getrandbits(64):x}"
            told = await self._post(session, "recommendations", body)
            if self.random.random() < 0.3 and told.get("decision_id"):
                event = {"decision_id": told["decision_id"], "event": "sale", "value": 10, "event_id": "one"}
                await self._post(session, "feedback", event)
            await asyncio.sleep(max(0.0, begun + self.pause - time.monotonic()))

    async def _operator(self, session: aiohttp.ClientSession) -> None:
        """Changes something now and then."""
        number = 0
        while time.monotonic() < self.end:
            await asyncio.sleep(5)
            number += 1
            arm = f"{self.at}/arms/extra-{number % 5}"
            change = {"rewards": {"sale": {"weight": 0.01 + number % 2 / 100}}}
            for method, url, json_ in (("PUT", arm, {}), ("PATCH", self.at, change), ("DELETE", arm, None)):
                async with session.request(method, url, json=json_) as answer:
                    self.statuses[answer.status] += 1


async def sampled(pids: list[int], every: float, end: float) -> list[list[float]]:
    """Time and memory of each process, again and again."""
    rows = []
    while time.monotonic() < end:
        rows.append([time.monotonic(), *map(memory, pids)])
        await asyncio.sleep(every)
    return rows


async def soaked(address: str, pids: list[int], arguments: argparse.Namespace) -> tuple[Soak, list[list[float]]]:
    """The load and the samples, side by side."""
    end = time.monotonic() + 60 * arguments.minutes
    soak = Soak(address, arguments.rate, end)
    _, rows = await asyncio.gather(soak.run(), sampled(pids, arguments.every, end))
    return soak, rows


def figures(soak: Soak, rows: list[list[float]], minutes: float) -> dict[str, float]:
    """What the samples say."""
    later = np.array(rows[len(rows) // 4 :])
    slopes = [float(np.polyfit((later[:, 0] - later[0, 0]) / 3600, column, 1)[0]) for column in later[:, 1:].T]
    tenth = max(1, len(later) // 8)
    workers = later[:, 1:-1]
    growth = [statistics.median(each[-tenth:]) / statistics.median(each[:tenth]) for each in workers.T.tolist()]
    return {
        "soak_worker_slope": max(slopes[:-1]),
        "soak_store_slope": slopes[-1],
        "soak_worker_growth": max(growth),
        "soak_worker_memory": float(workers[-tenth:].mean()),
        "soak_store_memory": float(later[-tenth:, -1].mean()),
        "soak_requests": sum(soak.statuses.values()) / (60 * minutes),
        "soak_errors": float(sum(n for status, n in soak.statuses.items() if status not in (200, 201, 204))),
    }


UNITS = {"slope": "MiB/h", "growth": "ratio", "memory": "MiB", "requests": "1/s", "errors": "answers"}


def main() -> None:
    """Print the figures, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--every", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        command = [
            sys.executable,
            "-m",
            "bandit",
            "serve",
            "--data-dir",
            f"{folder}/d",
            "--port",
            "0",
            "--workers",
            "2",
        ]
        more = {"BANDIT_LATE_GRACE": "10", "BANDIT_CHECKPOINT_SECONDS": "5", "BANDIT_SNAPSHOT_DIR": f"{folder}/s"}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stderr=output, stdout=output, env=environment() | more)
        try:
            address = _address(process, log)
            asyncio.run(_made(address))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            is_worker = {
                int(child): b"bandit.process.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
                for child in children
            }
            pids = sorted(is_worker, key=lambda pid: not is_worker[pid])  # the store is the last
            soak, rows = asyncio.run(soaked(address, pids, arguments))
        finally:
            process.terminate()
            process.wait()
        print(dict(soak.statuses), file=sys.stderr)
    settings = {"minutes": arguments.minutes, "rate": arguments.rate, "workers": 2, "arms": ARMS}
    for name, value in figures(soak, rows, arguments.minutes).items():
        unit = UNITS[name.rpartition("_")[2]]
        row = {"name": name, "value": value, "unit": unit, "target": TARGETS.get(name), "settings": settings}
        print(json.dumps(row) if arguments.json else f"{name}: {value:.4g} {unit}")


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it answers, once it is ready."""
    limit = time.monotonic() + 60
    while "ready on " not in (said := log.read_text()):
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(said)
        time.sleep(0.05)
    return said.split("ready on ")[1].split()[0].rstrip("/")


def _is_store(pid: int) -> bool:
    return b"bandit.process.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def _made(address: str) -> None:
    async with aiohttp.ClientSession() as session, session.put(f"{address}/v1/experiments/e", json=DOCUMENT) as answer:
        answer.raise_for_status()


if __name__ == "__main__":
    main()
