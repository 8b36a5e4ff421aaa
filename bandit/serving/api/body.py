"""The bytes of a body, read up to a limit, if its headers call it JSON. What it says is checked by `requests`.

After the body, a client says only that it has gone: what takes seconds is ended then (`while_asked`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from bandit.errors import Code, Fault, Problem

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]


async def read(headers: Headers, receive: Receive, limit: int, also: bytes = b"") -> bytes:
    """A request's body, which is JSON, or of the one other media type that the route takes.

    Raises:
        Problem: `too_large` by its declared or its real length, `unsupported_media_type`, or `malformed` where the
            client has gone before its end.
    """
    _check(headers, limit, also)
    body = bytearray()  # grows in place: if single bytes are sent, not all of them are copied each time
    while (message := await receive())["type"] == "http.request":
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return bytes(body + part) if body else part
        body += part
    raise Problem(Code.MALFORMED, "the connection ended before the body did")


def _check(headers: Headers, limit: int, also: bytes) -> None:
    """Refuse by the headers alone what can be refused by them."""
    for name, value in headers:
        if name == b"content-type" and value != b"application/json":
            kind = value.partition(b";")[0].strip().lower()
            json = kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
            if not json and (not also or kind != also):
                expected = "application/json" + (f" or {also.decode()}" if also else "")
                raise _unsupported("Content-Type", expected, "another type")
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise _unsupported("Content-Encoding", "a body that is not compressed", "another encoding")
        elif name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise _too_large(limit)


def _unsupported(header: str, expected: str, got: str) -> Problem:
    detail = f"bodies are JSON: {header}: expected {expected}, got {got}"
    return Problem(Code.UNSUPPORTED_MEDIA_TYPE, detail, [Fault(f"/header/{header}", expected, got)])


def _too_large(limit: int) -> Problem:
    return Problem(Code.TOO_LARGE, f"the body is larger than {limit} bytes", [Fault("", f"<= {limit} bytes", "more")])


async def while_asked(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; it is cancelled, and this is None, as soon as the client has gone, or closed its side."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(_gone(scope, receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a process of the work's has ended, too


async def _gone(scope: Scope, receive: Receive) -> None:
    while "bandit.closed" not in scope and (await receive())["type"] != "http.disconnect":
        pass
