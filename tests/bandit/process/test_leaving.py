"""How connections end when a worker leaves or a server stops: whole servers, and clients that never try again."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import harness
import httpx
import pytest
from harness import until

from benchmarks import restarts

RECOMMEND = b"POST", b"/v1/experiments/e/recommendations", b'{"context": {"age": 1, "country": "us"}}'
LOOK = b"GET", b"/v1/experiments/e", b""


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[harness.Server]:
    """One worker, an experiment, and a clean stop at the end."""
    running = harness.Server(folder / "data", workers=1, BANDIT_STOP_TIMEOUT="60", **environment)
    try:
        httpx.put(f"{running.url}/v1/experiments/e", json=harness.DOCUMENT, timeout=30).raise_for_status()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGINT)
            running.process.wait(60)


class Kept:
    """A connection that its client would like to keep."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, request: tuple[bytes, bytes, bytes], pieces: int = 1) -> bytes:
        """Sends the first of so many pieces of a request; what is left of it."""
        method, path, body = request
        data = b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (method, path, len(body), body)
        self.socket.sendall(data[: len(data) // pieces])
        return data[len(data) // pieces :]

    def answer(self) -> tuple[int, bool, bytes]:
        """(status, whether the answer ends the connection, body) of the next answer."""
        status, length, last = int(self.file.readline().split()[1]), 0, False
        while line := self.file.readline().strip().lower():
            last |= line == b"connection: close"
            length = int(line.split()[1]) if line.startswith(b"content-length") else length
        return status, last, self.file.read(length)

    def ask(self, request: tuple[bytes, bytes, bytes]) -> bool:
        """Whether the answer, which is a good one, ends the connection."""
        self.send(request)
        status, last, body = self.answer()
        assert status == 200, body
        return last

    def ended(self) -> bool:
        """Whether nothing more comes: the server has closed."""
        return self.file.read(1) == b""

    def close(self) -> None:
        """Close it."""
        self.file.close()
        self.socket.close()


Keep = Callable[[str], Kept]


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Makes connections that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(closing(Kept(url)))


def test_no_request_fails_while_all_workers_are_replaced(tmp_path: Path) -> None:
    """Over kept and over new connections, by clients that try nothing twice; the benchmark has 10,000 of them."""
    told, rounds = restarts.hup(tmp_path, requests=600, rate=100)
    assert dict(told.failures) == {}
    assert len(told.seconds) == 600
    assert rounds >= 1


@pytest.mark.parametrize("request_", [RECOMMEND, LOOK], ids=["short way", "long way"])
def test_a_leaving_worker_ends_connections_with_their_next_answer(
    tmp_path: Path, keep: Keep, request_: tuple[bytes, bytes, bytes]
) -> None:
    """One in use gets answers until one says that it is the last; one that was idle meanwhile still gets its own."""
    with server(tmp_path) as running:
        [old] = running.worker_pids()
        used, idle = keep(running.url), keep(running.url)
        assert not used.ask(request_)
        assert not idle.ask(request_)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: used.ask(request_), 60, "the last answer")
        assert used.ended()
        assert idle.ask(request_)
        assert idle.ended()
        until(lambda: old not in running.worker_pids(), 60, "the old worker's end")
        assert not running.said("did not end in time")


def test_a_drain_is_told_first_by_readyz_and_then_by_each_answer(tmp_path: Path, keep: Keep) -> None:
    """All is served to the end of it, over kept and new connections."""
    with server(tmp_path, BANDIT_DRAIN_SECONDS="3") as running:
        url, kept = running.url, keep(running.url)
        assert not kept.ask(RECOMMEND)
        running.process.terminate()
        readiness = until(lambda: (seen := httpx.get(f"{url}/readyz")).status_code == 503 and seen, 30, "a 503")
        assert readiness.json()["reason"] == "draining"
        assert running.process.poll() is None
        until(lambda: kept.ask(RECOMMEND), 30, "a last answer")
        assert kept.ended()
        assert keep(url).ask(RECOMMEND)
        assert running.process.wait(60) == 0


def test_a_request_that_has_begun_to_arrive_is_answered_by_a_server_that_stops(tmp_path: Path, keep: Keep) -> None:
    """Its connection looks idle to uvicorn, which would close it; here the decision is made, and is in the log."""
    with server(tmp_path) as running:
        late = keep(running.url)
        rest = late.send(RECOMMEND, pieces=2)
        assert keep(running.url).ask(LOOK) is False  # so the half has been read: it came before
        running.process.terminate()
        until(lambda: running.said("stopping"), 30, "the stop")
        late.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            late.socket.recv(1)  # longer than the grace: it is not closed
        late.socket.settimeout(30)
        late.socket.sendall(rest)
        status, last, body = late.answer()
        assert (status, last) == (200, True)
        assert json.loads(body)["decision_id"]
        assert running.process.wait(60) == 0
        verified = running.command("verify", "e")
        assert verified.returncode == 0
        assert running.command("export", "e").stdout.count('"type":"decision"') == 1
