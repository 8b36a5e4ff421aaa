"""A pool of connections to one server, and calls that are repeated until they are answered or their time is over."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from bandit.client.wire import ClientError, decoded, encode, masked, refusal, unreachable

T = TypeVar("T")
K = TypeVar("K")

FIRST_PAUSE: Final = 0.05  # seconds before the second attempt; doubled for each further one
LONGEST_PAUSE: Final = 2.0
IDLE: Final = 60.0  # seconds a connection is kept: the server's are 75, so no call meets one that was closed there


class Pauses:
    """The seconds to wait before each further attempt."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def after(self, error: ClientError | None) -> float:
        """The next pause. Jitter keeps the callers that one outage stopped from coming back at one instant."""
        asked = 0.0 if error is None else error.retry_after or 0.0
        wait = asked + self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - it guards nothing
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return wait


class Connection:
    """What every call goes through; it is used as an async context manager, from one event loop."""

    def __init__(self, url: str, api_key: str | None, timeout: float, deadline: float, connections: int) -> None:
        if not _usable(url):
            raise ValueError(f"url must be like 'http://127.0.0.1:8080'; got {masked(url)!r}")
        self._url = url.rstrip("/")
        self._timeout, self._deadline, self._connections = timeout, deadline, connections
        self._headers = {"Content-Type": "application/json"}
        api_key = os.environ.get("BANDIT_API_KEY") if api_key is None else api_key
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = None

    async def ready(self) -> bool:
        """Whether the server can decide now. Asks once, without repeating, so that a caller may poll."""
        try:
            await self._attempt("GET", f"{self._url}/readyz", None, self._timeout)
        except (ClientError, aiohttp.ClientError, TimeoutError):
            return False
        return True

    def _path(self, experiment: str, rest: str = "") -> str:
        return f"{self._url}/v1/experiments/{quote(experiment, safe='')}{rest}"

    async def _call(
        self,
        method: str,
        url: str,
        body: object,
        answer: type[T],
        *,
        repeat: bool = True,
        deadline: float | None = None,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """The decoded answer, after as many attempts as the deadline allows, or after one.

        Args:
            method: of HTTP.
            url: whole.
            body: None, or what is sent.
            answer: the type of the answer.
            repeat: whether the same request may be sent again.
            deadline: seconds for all attempts; by default the client's.
            patient: whether one attempt may take as long as all.
            headers: further ones.
        """
        data = None if body is None else encode(body)
        clock, pauses = asyncio.get_running_loop().time, Pauses()
        end = clock() + (self._deadline if deadline is None else deadline)
        said: ClientError | None = None
        while True:
            try:
                seconds = end - clock() if patient else min(self._timeout, end - clock())
                found = await self._attempt(method, url, data, seconds, once=not repeat, headers=headers)
                return decoded(found, answer)
            except ClientError as refused:
                if not refused.passes:
                    raise
                error = said = refused
            except (aiohttp.ClientError, TimeoutError) as cause:
                error = unreachable(url, cause)
            wait = pauses.after(error)
            if not repeat or clock() + wait >= end:
                raise said or error  # what the server last said tells more than that time was up
            await asyncio.sleep(wait)

    async def _settled(
        self, ask: Callable[[dict[K, T | ClientError], float], Awaitable[dict[K, T | ClientError]]], deadline: float
    ) -> dict[K, T | ClientError]:
        """The result of each of several, asked again while what refuses some of them may pass.

        Args:
            ask: given what is settled so far, and the seconds left: the results of what it asked.
            deadline: seconds for all.
        """
        clock, pauses = asyncio.get_running_loop().time, Pauses()
        end = clock() + deadline
        found: dict[K, T | ClientError] = {}
        settled: dict[K, T | ClientError] = {}
        while True:
            try:
                found |= await ask(settled, end - clock()) | settled
            except ClientError:
                if not found:
                    raise
                return found
            settled = {key: each for key, each in found.items() if not isinstance(each, ClientError) or not each.passes}
            if len(settled) == len(found) or clock() + (wait := pauses.after(None)) >= end:
                return found
            await asyncio.sleep(wait)

    async def _attempt(
        self,
        method: str,
        url: str,
        data: bytes | None,
        seconds: float,
        *,
        once: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of a 2xx answer to one request; anything else is raised.

        aiohttp sends a PUT or DELETE whose connection is cut again by itself, but not one whose body can be read only
        `once`.
        """
        if self._session is None:
            raise RuntimeError("use the client inside `async with Client(...) as client:`")
        limit = aiohttp.ClientTimeout(total=seconds)
        sent = b"" if data is None and once else data
        body = sent if sent is None or not once else _read_once(sent)
        length = {} if sent is None else {"Content-Length": str(len(sent))}  # else it would be sent in chunks
        async with self._session.request(
            method, url, data=body, headers={**length, **(headers or {})}, timeout=limit, allow_redirects=False
        ) as response:
            found = await response.read()
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(response.status, found, response.headers.get("Retry-After", ""))
        return found


async def _read_once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _usable(url: str) -> bool:
    """Whether this is where a server may be. A password with a bare sign in it would be taken for host and port."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    odd = parsed.query_string or parsed.fragment or "@" in parsed.path
    return parsed.scheme in ("http", "https") and bool(parsed.host) and not odd
