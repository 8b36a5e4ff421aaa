"""Requests that fail while a server is restarted: clients that never retry, over kept and over new connections.

- restart_hup_failed: of 10,000 requests, half over kept connections, half over new ones each, while SIGHUP after SIGHUP
  replaces the workers; restart_hup_p99: the 99th percentile of their times meanwhile; restart_hup_rounds: how many
  times all workers were replaced.
- restart_term_failed: two servers on one store behind a balancer that looks at /readyz and never retries, 200 requests
  a second: one server after the other gets SIGTERM, drains, and is started anew.
- restart_socket_failed: one server on a socket that outlives it, as systemd's: SIGTERM, then a new parent, with
  --keep-store; restart_socket_longest: the longest that a request waited for it.

Run: python benchmarks/restarts.py [--json] [--requests 10000] [--rate 500]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop

from bandit.process import embedded

Figure = tuple[str, float, str, float | None, dict[str, Any]]  # name, value, unit, target, settings
DOCUMENT = {
    "features": [{"name": "age", "type": "number", "mean": 40, "scale": 12}],
    "rewards": {"click": {}},
    "arms": ["a", "b", "c"],
}
RECOMMEND = b"POST", b"/v1/experiments/e/recommendations", b'{"context": {"age": 1}}'
LOOK = b"GET", b"/v1/experiments/e", b""  # the long way of a request
EVERY = 10  # so many requests, one is the other kind
IDLE = 64  # connections that a client keeps while they are idle
PATIENCE = 20.0  # seconds until a request without an answer has failed
# runs a command with a socket as its descriptor 3, as systemd does
ACTIVATE = """import os, sys
os.dup2({descriptor}, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[1], sys.argv[1:])
"""
PROBE = 0.2  # seconds between two looks of the balancer at /readyz


@dataclass
class Told:
    """What came of the requests."""

    seconds: list[float] = field(default_factory=list)  # of those that were answered with 200
    failures: Counter[str] = field(default_factory=Counter)


class Address:
    """Where one server is, and the kept connections to it that are idle."""

    def __init__(self, port: int, ready: bool = True) -> None:
        self.port, self.ready = port, ready
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: tuple[bytes, bytes, bytes], keep: bool) -> str:
        """The status of an answer, with a refusal's code, over an idle connection if one still stands; never twice.

        Raises:
            OSError, EOFError: the connection was refused, or ended without an answer.
        """
        reader, writer = await self._connection(keep)
        method, path, body = request
        head = b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
        writer.write(head % (method, path, len(body), b"" if keep else b"connection: close\r\n", body))
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].split(b"\r\n")[0])
        said = await reader.readexactly(length)
        if keep and b"connection: close" not in answer and len(self.idle) < IDLE:
            self.idle.append((reader, writer))
        else:
            writer.close()
        status = answer.split()[1].decode()
        return status if status == "200" else f"{status} {json.loads(said).get('code')}"

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self.idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connection(self, keep: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while keep and self.idle:
            reader, writer = self.idle.pop()  # the last one used first, as most pools do
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)


async def visit(addresses: Callable[[], Address], requests: int, rate: float, keep: bool, told: Told) -> None:
    """Send so many requests, so many a second whatever the answers do (open loop), each exactly once."""

    async def one(number: int) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                status = await addresses().ask(LOOK if number % EVERY == 0 else RECOMMEND, keep)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            told.failures[f"{type(error).__name__} {error}"] += 1
        else:
            if status == "200":
                told.seconds.append(time.monotonic() - begun)
            else:
                told.failures[status] += 1

    begun, tasks = time.monotonic(), []
    for number in range(requests):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)


class Parent:
    """A `bandit-server serve` that says on which port it is ready."""

    def __init__(self, folder: Path, *options: str, command: list[str] | None = None, **named: Any) -> None:
        self.log = folder / f"log{time.monotonic_ns()}"
        own = [sys.executable, "-m", "bandit", "serve", *options]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen([*(command or []), *own], stderr=output, **named)

    def says(self, words: str, times: int = 1) -> str:
        """What follows these words in its log, once they stand there so many times."""
        limit = time.monotonic() + 120
        while (text := self.log.read_text()).count(words) < times:
            assert self.process.poll() is None or self.process.returncode == 0, text
            assert time.monotonic() < limit, text
            time.sleep(0.02)
        return text.split(words)[-1]

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self.says("ready on http://127.0.0.1:").split()[0])

    def stop(self) -> None:
        """SIGTERM, to the end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()


def make_experiment(port: int) -> None:
    """The experiment that is asked."""
    httpx.put(f"http://127.0.0.1:{port}/v1/experiments/e", json=DOCUMENT, timeout=30).raise_for_status()


async def load_while(load: Coroutine[Any, Any, None], work: Callable[[], None], *addresses: Address) -> int:
    """Do the work again and again in a thread until the load has ended; how many times."""
    running, times = asyncio.create_task(load), 0
    while not running.done():
        await asyncio.to_thread(work)
        times += 1
    await running
    for address in addresses:
        await address.close()
    return times


def hup(folder: Path, requests: int, rate: float, workers: int = 2) -> tuple[Told, int]:
    """What came of requests while SIGHUPs replace the workers of one server, and how many rounds there were."""
    server = Parent(folder, "--data-dir", str(folder / "d"), "--port", "0", "--workers", str(workers))
    address, told, rounds = Address(server.port), Told(), 0
    make_experiment(address.port)

    def replace() -> None:
        nonlocal rounds
        server.process.send_signal(signal.SIGHUP)
        rounds += 1
        server.says("all workers are replaced", rounds)

    async def both() -> None:
        kept = visit(lambda: address, requests - requests // 2, rate / 2, True, told)
        await asyncio.gather(kept, visit(lambda: address, requests // 2, rate / 2, False, told))

    try:
        uvloop.run(load_while(both(), replace, address))
    finally:
        server.stop()
    return told, rounds


class Balancer:
    """Chooses among the servers that /readyz calls ready, in turn; it learns of a change only by asking."""

    def __init__(self, addresses: list[Address]) -> None:
        self.addresses = addresses
        self._turn = 0

    def choose(self) -> Address:
        """The next ready one."""
        ready = [address for address in self.addresses if address.ready] or self.addresses
        self._turn += 1
        return ready[self._turn % len(ready)]

    async def probe(self) -> None:
        """Look at each server, for ever: at one that does not answer and at the others meanwhile."""
        async with httpx.AsyncClient(timeout=2) as client:
            await asyncio.gather(*(self._look(client, address) for address in self.addresses))

    async def _look(self, client: httpx.AsyncClient, address: Address) -> None:
        while True:
            try:
                status = (await client.get(f"http://127.0.0.1:{address.port}/readyz")).status_code
            except httpx.HTTPError:
                status = 0
            address.ready = status == 200
            await asyncio.sleep(PROBE)


def term(folder: Path, requests: int, rate: float, drain: float = 5.0) -> tuple[Told, int]:
    """What came of requests while two servers behind a balancer are restarted in turn, and how many restarts."""
    (folder / "s").mkdir()
    with embedded.lock(folder / "s"):
        store = embedded.start(folder / "s")
        try:
            options = "--redis-url", store.url, "--drain-seconds", str(drain)
            servers = [Parent(folder, *options, "--port", "0") for _ in range(2)]
            balancer = Balancer([Address(server.port) for server in servers])
            make_experiment(servers[0].port)
            told, turn = Told(), 0

            def restart() -> None:
                nonlocal turn
                at, turn = turn % 2, turn + 1
                servers[at].stop()
                servers[at] = Parent(folder, *options, "--port", str(balancer.addresses[at].port))
                servers[at].says("ready on")
                until(lambda: balancer.addresses[at].ready)

            async def loaded() -> int:
                probing = asyncio.create_task(balancer.probe())
                load = visit(balancer.choose, requests, rate, True, told)
                times = await load_while(load, restart, *balancer.addresses)
                probing.cancel()
                return times

            times = uvloop.run(loaded())
            for server in servers:
                server.stop()
        finally:
            store.stop()
    return told, times


def until(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def activated(folder: Path, requests: int, rate: float, drain: float = 5.0) -> tuple[Told, int]:
    """What came of requests while the only server is stopped and started on a socket that outlives it."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        options = "--data-dir", str(folder / "a"), "--keep-store", "--drain-seconds", str(drain)

        def begin() -> Parent:
            descriptor = os.dup(listener.fileno())
            program = ACTIVATE.format(descriptor=descriptor)
            try:
                return Parent(folder, *options, command=[sys.executable, "-c", program], pass_fds=(descriptor,))
            finally:
                os.close(descriptor)

        server, address, told = begin(), Address(listener.getsockname()[1]), Told()
        server.says("ready on")
        make_experiment(address.port)

        def restart() -> None:
            nonlocal server
            server.stop()
            server = begin()
            server.says("ready on")

        times = uvloop.run(load_while(visit(lambda: address, requests, rate, True, told), restart, address))
        server.stop()
        embedded.end_kept(folder / "a")
    return told, times


def measured(folder: Path, requests: int, rate: float) -> Iterator[Figure]:
    """The figures."""
    told, rounds = hup(folder, requests, rate)
    said: dict[str, Any] = {"requests": requests, "rate": rate, "workers": 2}
    yield "restart_hup_failed", sum(told.failures.values()), "requests", 0, said | {"failures": dict(told.failures)}
    yield "restart_hup_p99", 1000 * float(np.quantile(told.seconds, 0.99)), "ms", None, said
    yield "restart_hup_rounds", rounds, "rounds", None, said
    told, times = term(folder, requests // 2, 200)
    said = {"requests": requests // 2, "rate": 200, "restarts": times, "drain": 5.0}
    yield "restart_term_failed", sum(told.failures.values()), "requests", 0, said | {"failures": dict(told.failures)}
    told, times = activated(folder, requests // 4, 200)
    said = {"requests": requests // 4, "rate": 200, "restarts": times, "drain": 5.0}
    yield "restart_socket_failed", sum(told.failures.values()), "requests", 0, said | {"failures": dict(told.failures)}
    yield "restart_socket_longest", 1000 * max(told.seconds), "ms", None, said


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        for name, value, unit, target, settings in measured(Path(folder), asked.requests, asked.rate):
            figure = {"name": name, "value": round(value, 2), "unit": unit, "target": target, "settings": settings}
            print(json.dumps(figure) if asked.json else f"{name}: {value:.4g} {unit}  {settings}", flush=True)


if __name__ == "__main__":
    main()
