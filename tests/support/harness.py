"""A whole server as real processes, and traffic that remembers what was acknowledged."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import redis

from bandit.store.keys import Keys

DOCUMENT = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "country", "type": "category", "levels": ["cn", "us"]},
    ],
    "rewards": {"click": {}, "sale": {"range": [0, 1000], "weight": 0.01}},
    "arms": [f"arm-{i}" for i in range(8)],
}


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value, or an error that says what did not come."""
    limit = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > limit:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.02)
    return value


class Server:
    """`bandit-server serve` with its children, in a process group of its own."""

    def __init__(self, data_dir: Path, workers: int = 2, **environment: str) -> None:
        self.data_dir, self.workers, self.environment = data_dir, workers, environment
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.start()

    def start(self) -> None:
        """Start it, or start it again on the same directory."""
        command = [sys.executable, "-m", "bandit", "serve", "--data-dir", str(self.data_dir), "--port", "0"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--workers", str(self.workers)],
                stderr=output,
                stdout=output,
                start_new_session=True,
                env=os.environ | self.environment,
            )
        until(lambda: self._address() or self.process.poll() is not None, 30, "a ready server")
        assert self.process.poll() is None, self.log.read_text()

    def _address(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.data_dir / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found if found["pid"] == self.process.pid else None

    @property
    def url(self) -> str:
        """Where it answers."""
        address = self._address()
        assert address is not None
        return f"http://{address['host']}:{address['port']}"

    def store(self) -> "redis.Redis":
        """A client of its store."""
        socket = json.loads((self.data_dir / "valkey.json").read_text())["socket"]
        return redis.Redis(unix_socket_path=socket)

    def store_pid(self) -> int:
        """The store's process."""
        return int(json.loads((self.data_dir / "valkey.json").read_text())["pid"])

    def worker_pids(self) -> list[int]:
        """The workers' processes, but any that just ends."""
        pid, found = self.process.pid, []
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"bandit.process.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
        return found

    def elected_pid(self, experiment: str) -> int:
        """The worker that writes the experiment's checkpoints."""

        def holder() -> int | None:
            with self.store() as store:
                token = store.hget(Keys.of(experiment).lease, "token")
            pid = int(token.split(b"-")[1].split(b".")[0]) if token else 0
            return pid if pid in self.worker_pids() else None

        return int(until(holder, 20, "an elected worker"))

    def said(self, text: str) -> bool:
        """Whether its log has a text."""
        return text in self.log.read_text()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command on its data directory."""
        command = [sys.executable, "-m", "bandit", *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def kill_group(self) -> None:
        """kill -9 of the whole process group, and of the store, which has a group of its own."""
        store = self.store_pid()
        os.killpg(self.process.pid, signal.SIGKILL)
        os.kill(store, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop it as an operator would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@dataclass
class Acknowledged:
    """What clients were told, and what they asked."""

    decisions: dict[str, str] = field(default_factory=dict)  # decision id -> arm
    feedback: dict[tuple[str, str], float] = field(default_factory=dict)  # decision id, event id -> credited
    tried: set[tuple[str, str]] = field(default_factory=set)  # feedback that was sent
    statuses: Counter[int] = field(default_factory=Counter)
    cut: int = 0  # connections cut, and answers that did not come


class Traffic:
    """Clients that ask, report, and retry the same request until it is answered."""

    def __init__(self, url: Callable[[], str], experiment: str, clients: int = 6, seed: int = 1) -> None:
        self.url, self.experiment, self.clients = url, experiment, clients
        self.random = random.Random(seed)
        self.acknowledged = Acknowledged()
        self.stopping = False

    async def run(self) -> None:
        """Send until `stopping`."""
        timeout = aiohttp.ClientTimeout(total=6, connect=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._client(session) for _ in range(self.clients)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self.stopping:
            name = uuid.uuid4().hex
            context = {"age": self.random.randint(18, 80), "country": self.random.choice(["cn", "us", "fr"])}
            answer = await self._until_answered(session, "recommendations", {"context": context, "decision_id": name})
            if answer is None:
                return
            self.acknowledged.decisions[name] = answer["arms"][0]["arm"]
            for _ in range(self.random.choice([0, 0, 1, 2])):
                await self._feedback(session, name)

    async def _feedback(self, session: aiohttp.ClientSession, name: str) -> None:
        event_id = uuid.uuid4().hex
        body = {"decision_id": name, "event": "sale", "value": 10, "event_id": event_id}
        self.acknowledged.tried.add((name, event_id))
        answer = await self._until_answered(session, "feedback", body)
        if answer is not None:
            assert answer["status"] in ("accepted", "duplicate")
            self.acknowledged.feedback[name, event_id] = 10.0

    async def _until_answered(self, session: aiohttp.ClientSession, what: str, body: dict[str, Any]) -> Any:
        while not self.stopping:
            try:
                address = f"{self.url()}/v1/experiments/{self.experiment}/{what}"
                async with session.post(address, json=body) as response:
                    self.acknowledged.statuses[response.status] += 1
                    if response.status == 200:
                        return await response.json()
            except (aiohttp.ClientError, TimeoutError, AssertionError):
                self.acknowledged.cut += 1
            await asyncio.sleep(0.05)
        return None


def check(server: Server, experiment: str, told: Acknowledged) -> dict[str, Any]:
    """Hold the log against what clients were told: nothing lost, nothing twice, and the state proves itself."""
    verified = server.command("verify", experiment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    exported = server.command("export", experiment)
    assert exported.returncode == 0, exported.stderr
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    decisions = [row for row in rows if row["type"] == "decision"]
    feedback = [row for row in rows if row["type"] == "feedback"]
    logged = {row["decision_id"]: row["arms"][0]["arm"] for row in decisions}
    assert len(logged) == len(decisions), "a decision stands in the log twice"
    assert told.decisions.items() <= logged.items(), "an acknowledged decision is lost or another"
    events = Counter((row["decision_id"], row["event_id"]) for row in feedback)
    assert set(events.values()) <= {1}, "feedback stands in the log twice"
    assert set(told.feedback) <= set(events), "acknowledged feedback is lost"
    assert set(events) <= told.tried, "feedback stands in the log that nobody sent"
    assert {row["credited"] for row in feedback} <= {10.0}
    result: dict[str, Any] = json.loads(verified.stdout)
    return result


@contextmanager
def traffic(server: Server, experiment: str = "e2e", clients: int = 6) -> Iterator[Traffic]:
    """Traffic from a thread of its own for as long as the block takes."""
    sending = Traffic(lambda: server.url, experiment, clients)
    thread = threading.Thread(target=lambda: asyncio.run(sending.run()))
    thread.start()
    try:
        yield sending
    finally:
        sending.stopping = True
        thread.join(timeout=30)
    assert not thread.is_alive()
