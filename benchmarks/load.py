"""A load generator: so many connections, each with one request under way, from a process of its own on its own core.

It sends bytes that were made before and reads no more of an answer than its length and status, so it can ask a bare
ASGI application for all it has. `busy` is its own share of a core: near 1 it is the bottleneck, and says so.

Run by `http_ladder.py`: it takes a JSON line of `Asked` for each measurement, and answers with one of `Found`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import count

import msgspec
import numpy as np
import uvloop

BOTTLENECK = 0.9  # of a core


class Asked(msgspec.Struct):
    """What to send: `bodies` in turn, for so many seconds, or each once where `once`; with a key, if it has one."""

    port: int
    path: str
    bodies: list[str]
    connections: int
    seconds: float
    once: bool = False
    key: str = ""


class Found(msgspec.Struct):
    """Requests answered, a second; milliseconds of a request; our own share of a core; answers by status."""

    requests: int
    seconds: float
    p50: float
    p95: float
    p99: float
    busy: float
    statuses: dict[int, int]


class _Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, run: _Run) -> None:
        self.run, self.missing, self.begun = run, 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        if (data := self.run.next()) is None:
            self.run.left(self)
            return
        self.begun = time.perf_counter_ns()
        self.transport.write(data)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.missing == 0:
            head, _, body = data.partition(b"\r\n\r\n")
            at = head.index(b"content-length: ") + 16
            end = head.find(b"\r", at)
            self.missing = int(head[at:] if end < 0 else head[at:end]) - len(body)
            self.status = head[9:12]
        else:
            self.missing -= len(data)
        if self.missing == 0:
            self.run.took(time.perf_counter_ns() - self.begun, self.status)
            self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.run.over:
            self.run.done.set_exception(exc or ConnectionError("the server closed a connection"))


class _Run:
    def __init__(self, asked: Asked, requests: list[bytes]) -> None:
        self.asked, self.requests, self.numbers = asked, requests, count()
        self.times: list[int] = []
        self.statuses: dict[bytes, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.end, self.over, self.open = time.perf_counter() + asked.seconds, False, asked.connections

    def next(self) -> bytes | None:
        """The next request; None where it is enough."""
        number = next(self.numbers)
        over = number >= len(self.requests) if self.asked.once else time.perf_counter() > self.end
        return None if over else self.requests[number % len(self.requests)]

    def took(self, ns: int, status: bytes) -> None:
        """An answer has come."""
        self.times.append(ns)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def left(self, connection: _Connection) -> None:
        """A connection has no more to ask."""
        self.open -= 1
        if not self.open:
            self.over = True
            self.done.set_result(None)


async def measured(asked: Asked) -> Found:
    """One measurement."""
    head = f"POST {asked.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {asked.key}\r\n" if asked.key else ""
    head += "content-length: "
    requests = [f"{head}{len(body.encode())}\r\n\r\n{body}".encode() for body in asked.bodies]
    run, loop = _Run(asked, requests), asyncio.get_running_loop()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(asked.connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", asked.port)
    await run.done
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    p50, p95, p99 = (np.quantile(run.times, [0.5, 0.95, 0.99]) / 1e6).tolist()
    statuses = {int(status): n for status, n in run.statuses.items()}
    return Found(len(run.times), wall, p50, p95, p99, cpu / wall, statuses)


def main() -> None:
    """Measure what is asked for, a line each."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            found = runner.run(measured(msgspec.json.decode(line, type=Asked)))
            sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
