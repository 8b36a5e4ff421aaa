"""A store that goes away for ten seconds under load: when is that noticed, and who waits for how long?

A server in processes of its own (two workers) on a store that is killed (`kill -9`, started again on the same
directory) or frozen (SIGSTOP, SIGCONT). Clients ask, one request after the other each, an experiment with
`degraded: "answer"` and one without. Of each outage:

- `outage_KIND_noticed`: from the moment that the store went until the first answer that says so (degraded, or refused);
- `outage_KIND_answers_p99`, `_max`: how long those took that were answered degraded, of what was asked for after both
  workers had noticed and before the store was back; `_refusals_p99`: the same of 503;
- `outage_KIND_back`: from the store's return until the first logged answer;
- `outage_KIND_lost`: acknowledged decisions that the log does not have, or has twice, and those answered degraded that
  it has although they were asked for after the notice. That the sums are those of the log is checked as well.

`append_p999` is what a decision takes before all that, as clients see it.

Run: python benchmarks/outage.py [--json] [--seconds 10] [--clients 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import redis
from http_ladder import environment

from bandit.process.embedded import find_binary
from bandit.replica.export import export
from bandit.replica.verify import verify
from bandit.store.open import open_store

TARGETS = {f"outage_{how}_answers_p99": 50.0 for how in ("killed", "frozen")}
TARGETS |= {f"outage_{how}_lost": 0.0 for how in ("killed", "frozen")}
NOTICE = 1.5  # seconds after the first notice in which the other worker's comes as well, and who refuses has followed
DOCUMENT = {"arms": [f"a{i}" for i in range(20)], "rewards": {"click": {}}, "policy": {"type": "uniform"}}


class Told(NamedTuple):
    """One answer: when it was asked for and came, of which experiment, under which name, and what it said."""

    begun: float
    ended: float
    experiment: str
    name: str
    status: int
    logged: bool


class Store:
    """Valkey in a directory, which is killed and frozen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder}/s"
        self.start()

    def start(self) -> None:
        """Start it on what it has written, and wait until it answers."""
        options = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        command = [str(find_binary()), *options, "--unixsocket", f"{self.folder}/s", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            limit = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > limit:
                        raise
                    time.sleep(0.01)

    def leave(self, how: str) -> None:
        """Go away."""
        if how == "killed":
            self.process.kill()
            self.process.wait()
        else:
            self.process.send_signal(signal.SIGSTOP)

    def come_back(self, how: str) -> None:
        """Be there again."""
        if how == "killed":
            self.start()
        else:
            self.process.send_signal(signal.SIGCONT)


class Clients:
    """Who asks."""

    def __init__(self, address: str, many: int) -> None:
        self.address, self.many, self.told, self.over = address, many, list[Told](), False

    async def run(self) -> None:
        """Ask until it is over."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            await asyncio.gather(*(self._ask(session, ("answers", "refuses")[i % 2]) for i in range(self.many)))

    async def _ask(self, session: aiohttp.ClientSession, experiment: str) -> None:
        at = f"{self.address}/v1/experiments/{experiment}/recommendations"
        while not self.over:
            name, begun = uuid.uuid4().hex, time.monotonic()
            async with session.post(at, json={"decision_id": name}) as answer:
                body: Any = await answer.json()
            logged = bool(body.get("logged"))
            self.told.append(Told(begun, time.monotonic(), experiment, name, answer.status, logged))
            await asyncio.sleep(0.002)


async def played(address: str, store: Store, how: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One outage."""
    clients = Clients(address, arguments.clients)
    running = asyncio.create_task(clients.run())
    await asyncio.sleep(3)
    before = [1000 * (told.ended - told.begun) for told in clients.told]
    went = time.monotonic()
    store.leave(how)
    await asyncio.sleep(arguments.seconds)
    came = time.monotonic()
    await asyncio.to_thread(store.come_back, how)
    returned = time.monotonic()
    await asyncio.sleep(3)
    clients.over = True
    await running
    away = [told for told in clients.told if went < told.ended and not told.logged]
    noticed = min(told.ended for told in away)
    during = [told for told in away if noticed + NOTICE <= told.begun < came]
    answers = [1000 * (told.ended - told.begun) for told in during if told.status == 200]
    refusals = [1000 * (told.ended - told.begun) for told in during if told.status == 503]
    back = min(told.ended for told in clients.told if told.logged and told.begun > came and told.ended > returned)
    return {
        "append_p999": float(np.quantile(before, 0.999)),
        f"outage_{how}_noticed": 1000 * (noticed - went),
        f"outage_{how}_answers_p99": float(np.quantile(answers, 0.99)),
        f"outage_{how}_answers_max": max(answers),
        f"outage_{how}_answers": float(len(answers)),
        f"outage_{how}_refusals_p99": float(np.quantile(refusals, 0.99)),
        f"outage_{how}_back": 1000 * (back - returned),
        f"outage_{how}_lost": float(lost(store, clients.told, noticed)),
    }


def lost(store: Store, told: list[Told], noticed: float) -> int:
    """How many answers the log contradicts."""
    reading, wrong = open_store(store.url), 0
    for experiment in ("answers", "refuses"):
        names = [row["decision_id"] for row in export(reading, experiment) if row["type"] == "decision"]
        logged = set(names)
        wrong += len(names) - len(logged)
        mine = [each for each in told if each.experiment == experiment and each.status == 200]
        wrong += sum(each.name not in logged for each in mine if each.logged)
        wrong += sum(each.name in logged for each in mine if not each.logged and each.begun > noticed + NOTICE)
        if verify(reading, experiment)["equal"] is not True:
            raise RuntimeError("the sums are not those of the log")
    reading.close()
    return wrong


def main() -> None:
    """Print the figures, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    settings = {"seconds": arguments.seconds, "clients": arguments.clients, "workers": 2, "store_patience": 0.25}
    for how in ("killed", "frozen"):
        with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
            store = Store(Path(folder))
            command = [
                sys.executable,
                "-m",
                "bandit",
                "serve",
                "--redis-url",
                store.url,
                "--port",
                "0",
                "--workers",
                "2",
            ]
            process = subprocess.Popen(
                command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, env=environment(), cwd=folder
            )
            try:
                assert process.stdout is not None
                address = next(line for line in process.stdout if "ready on " in line).split("ready on ")[1].split()[0]
                asyncio.run(made(address.rstrip("/")))
                figures = asyncio.run(played(address.rstrip("/"), store, how, arguments))
            finally:
                process.terminate()
                process.wait()
                store.process.kill()
                store.process.wait()
        for name, value in figures.items():
            if name != "append_p999" or how == "killed":
                unit = "answers" if name.endswith(("_answers", "_lost")) else "ms"
                row = {"name": name, "value": value, "unit": unit, "target": TARGETS.get(name), "settings": settings}
                print(json.dumps(row) if arguments.json else f"{name}: {value:.4g} {unit}", flush=True)


async def made(address: str) -> None:
    """Make both experiments."""
    async with aiohttp.ClientSession() as session:
        for name, more in (("answers", {"degraded": "answer"}), ("refuses", {})):
            async with session.put(f"{address}/v1/experiments/{name}", json=DOCUMENT | more) as answer:
                answer.raise_for_status()


if __name__ == "__main__":
    main()
