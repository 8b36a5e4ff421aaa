"""How long heavy requests keep others waiting, and what a hundred idle experiments cost: a server with its own store.

- stall_feedback: 1,000 feedback by one user of 100 decisions, attribution `all`: the longest that a decision of another
  experiment waits meanwhile, and how many of the 1,000 were refused.
- stall_lists: a batch of 200 lists of 10 of 1,000 arms that nobody has seen: the longest that /healthz waits.
- idle_commands, idle_cpu: of 100 experiments x 100 arms that nobody asks: commands a second that the store is sent, and
  the share of a core that the worker takes.

Run: python benchmarks/stalls.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis

Figure = tuple[str, float, str, float | None, dict[str, Any]]  # name, value, unit, target, settings
FEATURES = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(32)]
CONTEXT = {f"f{i}": 0.1 for i in range(32)}
SECONDS = 5.0


class Server:
    """A server that answers, with the store that it started."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url, self.client = url, httpx.Client(base_url=url, timeout=120)
        self.store = redis.Redis(unix_socket_path=json.loads((data_dir / "valkey.json").read_text())["socket"])

    def post(self, path: str, body: Any) -> Any:
        """The answer's JSON."""
        return self.client.post(f"/v1/experiments/{path}", json=body).raise_for_status().json()

    def put(self, name: str, **document: Any) -> None:
        """Make an experiment."""
        self.client.put(f"/v1/experiments/{name}", json={"rewards": {"click": {}}} | document).raise_for_status()


@contextmanager
def serving() -> Iterator[tuple[Server, int]]:
    """A server, and its process."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        command = [sys.executable, "-m", "bandit", "serve", "--data-dir", f"{folder}/d", "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "ready on " in line)
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield Server(line.split("ready on ")[1].split()[0], Path(folder) / "d"), process.pid
        finally:
            process.terminate()
            process.wait()


def during(work: Callable[[], Any], probe: Callable[[], Any]) -> tuple[Any, float]:
    """What the work answers, and the longest that the probe took meanwhile, in seconds."""
    done, waits = threading.Event(), [0.0]

    def watch() -> None:
        while not done.is_set():
            begun = time.monotonic()
            probe()
            waits.append(time.monotonic() - begun)
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        answer = work()
    finally:
        done.set()
        thread.join()
    return answer, max(waits)


def feedback(server: Server) -> Iterator[Figure]:
    """Many events of one user."""
    server.put("other", arms=["a", "b"])
    server.put("sales", arms=["a", "b"], attribution="all", rewards={"sale": {"range": [0, 1e7], "unit": 1}})
    server.post("sales/recommendations/batch", {"requests": [{"context": {}, "user_id": "u"}] * 100})
    events = [{"user_id": "u", "event": "sale", "value": 1, "event_id": f"e{i}"} for i in range(1000)]
    with httpx.Client(base_url=server.url, timeout=120) as client:

        def probe() -> None:
            client.post("/v1/experiments/other/recommendations", json={"context": {}}).raise_for_status()

        answer, wait = during(lambda: server.post("sales/feedback/batch", {"requests": events}), probe)
    said = Counter("problem" if "problem" in each else each["status"] for each in answer["results"])
    settings = {"events": 1000, "decisions": 100, "refused": said["problem"]}
    yield "stall_feedback", 1000 * wait, "ms", None, settings


def lists(server: Server) -> Iterator[Figure]:
    """Long lists of many arms."""
    server.put("lists", arms=[f"a{i}" for i in range(1000)], features=FEATURES)
    body = {"requests": [{"context": CONTEXT, "k": 10}] * 200}
    with httpx.Client(base_url=server.url, timeout=120) as client:
        _, wait = during(lambda: server.post("lists/recommendations/batch", body), lambda: client.get("/healthz"))
    yield "stall_lists", 1000 * wait, "ms", 50.0, {"lists": 200, "k": 10, "arms": 1000}


def idle(server: Server, pid: int) -> Iterator[Figure]:
    """Experiments that nobody asks."""
    for i in range(100):
        server.put(f"idle-{i}", arms=[f"a{j}" for j in range(100)])
    time.sleep(2)
    before, spent = server.store.info("stats")["total_commands_processed"], _processor(pid)
    time.sleep(SECONDS)
    after = server.store.info("stats")["total_commands_processed"]
    settings = {"experiments": 100, "arms": 100}
    yield "idle_commands", (after - before) / SECONDS, "1/s", None, settings
    yield "idle_cpu", (_processor(pid) - spent) / SECONDS, "cores", None, settings


def _processor(pid: int) -> float:
    """Seconds of the processor that the server's workers have taken."""
    command = ["pgrep", "-P", str(pid), "-f", "bandit.process.worker"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    total = 0
    for child in found.stdout.split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    options = parser.parse_args(arguments)
    with serving() as (server, pid):
        for name, value, unit, target, settings in (*feedback(server), *lists(server), *idle(server, pid)):
            figure = {
                "name": name,
                "value": float(f"{value:.4g}"),
                "unit": unit,
                "target": target,
                "settings": settings,
            }
            print(json.dumps(figure) if options.json else f"{name:16} {value:8.4g} {unit:6} {settings}")


if __name__ == "__main__":
    main()
