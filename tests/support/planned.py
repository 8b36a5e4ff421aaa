"""A real HTTP server that gives planned answers, one at a time, for the tests of the client."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bandit.client import Client, ClientError

CHOICE = {"decision_id": "d", "arms": [{"arm": "a", "propensity": 0.5}], "logged": True, "replayed": False}
CREDITED = {"status": "accepted", "credited": 1, "decision_id": "d"}


@dataclass
class Answer:
    """One planned answer: a status with a JSON body, or a connection cut or held until the client gives up."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fate: str = "answer"


CUT, HELD = Answer(fate="cut"), Answer(fate="held")


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Planned:
    """A server that gives the planned answers in turn, the last one for ever, and keeps what it was asked."""

    plan: list[Answer]
    requests: list[Request] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while (answer := await self._next(reader)).fate == "answer":
                writer.write(_rendered(answer))
                await writer.drain()
            if answer is HELD:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done with this connection
        finally:
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, path, headers, json.loads(body) if body else None, time.monotonic()))
        return self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]


def _rendered(answer: Answer) -> bytes:
    """The answer as bytes of HTTP/1.1."""
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def talk(plan: list[Answer], use: Callable[[Client], Awaitable[Any]], **options: Any) -> tuple[Any, list[Request]]:
    """What a use of the client returned or raised (ClientError), and the requests that arrived."""
    options = {"decision_deadline": 10.0} | options

    async def main() -> tuple[Any, list[Request]]:
        planned = Planned(plan)
        server = await asyncio.start_server(planned.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server, Client(f"http://{host}:{port}", **options) as client:
            try:
                return await use(client), planned.requests
            except ClientError as error:
                return error, planned.requests

    return asyncio.run(main())


def problem(status: int, code: str, **more: Any) -> Answer:
    """An error as the server words it."""
    headers = more.pop("headers", {})
    return Answer({"type": "about:blank", "title": code, "status": status, "code": code, **more}, status, headers)
