"""A whole server in this process: uvicorn, as a worker runs it, in a thread in front of a service on a real store."""

import asyncio
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop
from conftest import running

from bandit.errors import Code
from bandit.process.direct import direct_protocol
from bandit.process.embedded import find_binary
from bandit.serving.api.app import build_app
from bandit.serving.api.hot import Hot
from bandit.serving.api.problems import STATUS
from bandit.serving.service import Service
from bandit.settings import Settings

DOCUMENT: dict[str, Any] = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "country", "type": "category", "levels": ["cn", "us"]},
    ],
    "rewards": {"click": {}, "sale": {"range": [0, 1000], "weight": 0.01}},
    "arms": ["a", "b", "c"],
}
CONTEXT = {"age": 31, "country": "us"}


class Live:
    """A server that answers."""

    def __init__(self, service: Service, port: int, runner: asyncio.AbstractEventLoop) -> None:
        self.service, self.port, self.loop = service, port, runner
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def experiment(self, **changes: Any) -> "Experiment":
        """A new experiment of its own name: `DOCUMENT` with these changes."""
        made = Experiment(self.client, f"t{uuid.uuid4().hex[:12]}")
        response = self.client.put(made.at, json=DOCUMENT | changes)
        assert response.status_code == 201, response.text
        return made

    def raw(self, data: bytes, seconds: float = 10) -> bytes:
        """What comes back for these bytes, until the answer is whole or the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data)
            return whole_answer(connection)


class Experiment:
    """One experiment over HTTP."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client, self.name, self.at = client, name, f"/v1/experiments/{name}"

    def through(self, other: Live) -> "Experiment":
        """The same experiment, through another server."""
        return Experiment(other.client, self.name)

    def post(self, what: str, body: Any) -> httpx.Response:
        """POST to one of its addresses."""
        return self.client.post(f"{self.at}/{what}", json=body)

    def recommend(self, **body: Any) -> httpx.Response:
        """A recommendation, with `CONTEXT` unless told otherwise."""
        return self.post("recommendations", {"context": CONTEXT} | body)

    def decided(self, **body: Any) -> dict[str, Any]:
        """A recommendation that succeeds."""
        return ok(self.recommend(**body))

    def feedback(self, **body: Any) -> httpx.Response:
        """Feedback."""
        return self.post("feedback", body)

    def activate(self, decision_id: str) -> httpx.Response:
        """An activation."""
        return self.post("activations", {"decision_id": decision_id})

    def patch(self, body: Any, **parameters: Any) -> httpx.Response:
        """A merge patch."""
        return self.client.patch(self.at, json=body, params=parameters)

    def seen(self) -> dict[str, dict[str, Any]]:
        """What each arm has seen, by its name."""
        return {row["arm"]: row for row in ok(self.client.get(f"{self.at}/arms"))["arms"]}

    def until_seen(self, true: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        """What each arm has seen, once it is so: what was logged is folded a moment later."""
        return until(lambda: rows if true(rows := self.seen()) else None)


def until(true: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true value; an error if none comes."""
    limit = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < limit, f"it did not come within {seconds} s"
        time.sleep(0.01)
    return value


def ok(response: httpx.Response, status: int = 200) -> Any:
    """The body of a success."""
    assert response.status_code == status, f"{response.status_code} {response.text}"
    return response.json()


def problem(response: httpx.Response, code: Code | None = None) -> Any:
    """The body of a refusal, which is a problem document of this code, and has that code's status."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail"}
    assert body["status"] == response.status_code == STATUS[Code(body["code"])]
    assert body["type"] == f"urn:bandit-server:problem:{body['code']}"
    for fault in body.get("errors", ()):
        assert set(fault) == {"pointer", "expected", "got"}
    assert ("retry-after" in response.headers) == (response.status_code in (429, 503))
    if code is not None:
        assert body["code"] == code, body
    return body


def pointers(response: httpx.Response, code: Code) -> list[str]:
    """The places that a refusal names."""
    return [fault["pointer"] for fault in problem(response, code)["errors"]]


def whole_answer(connection: socket.socket) -> bytes:
    """One answer, whole, or what comes until the connection ends."""
    received = b""
    while True:
        received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, ended, rest = received.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if ended and length and len(rest) >= int(length[0].split(b":")[1]):
            return received
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not more:
            return received
        received += more


@contextmanager
def valkey() -> Iterator[str]:
    """The address of an empty Valkey of one's own."""
    with (
        tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory,
        running(find_binary(), Path(directory)) as url,
    ):
        yield url


@contextmanager
def serving(url: str = "", *, made: Callable[[], Service] | None = None, **settings: Any) -> Iterator[Live]:
    """A server on this store, ready; or with a service that `made` makes, as it is."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        service = made() if made else Service.open(Settings(redis_url=url, **settings))
        loop = uvloop.new_event_loop()
        server = uvicorn.Server(_config(service))
        thread = threading.Thread(target=_run, args=(loop, server, listener, service))
        thread.start()
        try:
            live = Live(service, listener.getsockname()[1], loop)
            until(lambda: server.started and (made or service.ready.is_set()))
            with live.client:
                yield live
                assert made or service.failed is None, f"the follower failed: {service.failed!r}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(service),
        http=direct_protocol(30, 1000, Hot(service), service.gate, short=service.spans is None),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


def _run(loop: asyncio.AbstractEventLoop, server: uvicorn.Server, listener: socket.socket, service: Service) -> None:
    async def served() -> None:
        await server.serve(sockets=[listener])
        await service.close()

    try:
        loop.run_until_complete(served())
    finally:
        loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """One server on a real store for all tests of a module; what they make has a name of its own."""
    with valkey() as url, serving(url) as live:
        yield live
