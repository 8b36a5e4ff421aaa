"""The Python client of the server: one coroutine for each thing a site does, safe to repeat until it is answered.

`examples/offers.py` shows it at work. Needs the extra `client` (aiohttp). Imports no other room, as it is a part of
other programs. Begin with `Client`; `values` turns what a caller has into JSON.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import msgspec
from yarl import URL

from bandit.client.values import Id, name_sent, names_sent, plain

T = TypeVar("T")

# What passes by itself. The two gateway codes are a proxy's while the server behind it restarts.
RETRIED: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
UNREACHABLE: Final = 0  # the status of a ClientError when no answer came at all
FIRST_PAUSE: Final = 0.05  # seconds before the second attempt; doubled for each further one
LONGEST_PAUSE: Final = 2.0
IDLE: Final = 60.0  # seconds a connection is kept: the server's are 75, so no call meets one that was closed there


def _masked(text: str) -> str:
    """An address, or what is said of one, without its user and password, however they are written."""
    return re.sub(r"(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)


class ClientError(Exception):
    """The server refused, or never answered within the deadline.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        code: the problem's code, such as `unknown_arm`; `unreachable` if no answer came.
        detail: what was expected and what came, for people.
        errors: `{pointer, expected, got}` of each faulty field, if the server named any.
        retry_after: seconds after which the server asked to be called again, if it did.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.errors = status, code, detail, list(errors)
        self.retry_after = retry_after


class Shown(msgspec.Struct, frozen=True):
    """One arm of an answer; score and estimates are left out of a replayed one."""

    arm: str
    propensity: float | None = None
    score: float | None = None
    estimates: dict[str, dict[str, float]] | None = None
    payload: Any = None


class Recommendation(msgspec.Struct, frozen=True):
    """The answer to `recommend`. `decision_id` is None where `logged` is False: such a decision takes no feedback."""

    arms: list[Shown]
    decision_id: str | None = None
    experiment_version: int | None = None
    model_position: str | int | None = None
    replayed: bool = False
    logged: bool = True
    slice: str | int | None = None
    expires_at: str | None = None

    @property
    def arm(self) -> str:
        """The first arm: the only one unless k > 1 were asked for."""
        return self.arms[0].arm


class Receipt(msgspec.Struct, frozen=True):
    """The answer to `feedback` and `activate`: what became of it, and how much was credited.

    `decisions` says it of each decision, where an experiment credits all of a user's.
    """

    status: str
    credited: float = 0.0
    decision_id: str | None = None
    clipped: bool = False
    decisions: list["Receipt"] = []


_ENCODER: Final = msgspec.json.Encoder(enc_hook=plain, decimal_format="number")


class _Question(msgspec.Struct, omit_defaults=True):
    """Body of a recommendation request."""

    context: Any
    decision_id: str | None
    user_id: str | None = None
    k: int = 1
    candidates: list[str | None] | None = None
    exclude: list[str | None] | None = None
    defer: bool = False


class _Event(msgspec.Struct, omit_defaults=True):
    """Body of a feedback request."""

    value: Any
    event: str | None
    decision_id: str | None = None
    user_id: str | None = None
    event_id: str | None = None
    arm: str | None = None
    refund_of: str | None = None


class _Problem(msgspec.Struct):
    """Body of an error (RFC 9457)."""

    code: str
    detail: str = ""
    errors: list[dict[str, Any]] = []


class Client:
    """A connection pool to one server; use it as an async context manager, from one event loop.

        async with Client("http://127.0.0.1:8080") as client:
            choice = await client.recommend("home", {"age": 41.0})
            await client.feedback("home", decision_id=choice.decision_id, event="click")

    A call that meets 429, 502, 503, 504, a cut connection or a timeout is sent again, with the same ids and after
    exponentially growing, randomised pauses (or the server's Retry-After), until its deadline. It can then not be
    known whether the server acted, so every request is made safe to repeat: see `recommend` and `feedback`. What
    cannot be, a reset, is sent once: see `put_experiment`.

    Args:
        url: where the server is, such as "http://127.0.0.1:8080"; a path in it is kept.
        api_key: sent as `Authorization: Bearer`.
        timeout: seconds one attempt may take, connecting included.
        deadline: seconds one call may take with all its attempts and pauses. (An experiment's first feedback without
            an event_id may take two such calls: it asks for the reward kinds first.)
        connections: at most this many at once; further calls wait for one.

    Raises:
        ValueError: if the url is not an absolute one of http or https, or has a query or a fragment.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        deadline: float = 30.0,
        connections: int = 100,
    ) -> None:
        if not _usable(url):
            raise ValueError(f"url must be like 'http://127.0.0.1:8080'; got {_masked(url)!r}")
        self._url = url.rstrip("/")
        self._timeout, self._deadline, self._connections = timeout, deadline, connections
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._aggregations: dict[str, dict[str, str]] = {}

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

    async def put_experiment(
        self, experiment: str, document: Mapping[str, Any], *, reset: bool = False
    ) -> dict[str, Any]:
        """The experiment as the server now has it, after creating or replacing it with the whole document.

        With `reset` it starts from zero. That is sent once, whatever the answer: a repeat would throw away what was
        learned after the first. A document that `get_experiment` gave has its version, and replaces only that one: then
        412 after a cut connection can also mean that it was done.

        Raises:
            ClientError: if the server refused, or the deadline passed; after a reset that met 503 or no answer, look
                at the `generation` to know whether it was done.
        """
        path = self._path(experiment, "?reset=true" if reset else "")
        answer = await self._call("PUT", path, document, dict[str, Any], repeat=not reset)
        return self._remember(experiment, answer)

    async def get_experiment(self, experiment: str) -> dict[str, Any]:
        """The experiment's document with its version and generation."""
        return self._remember(experiment, await self._call("GET", self._path(experiment), None, dict[str, Any]))

    async def recommend(
        self,
        experiment: str,
        context: Mapping[str, Any],
        *,
        decision_id: Id | None = None,
        user_id: Id | None = None,
        k: int = 1,
        candidates: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        defer: bool = False,
    ) -> Recommendation:
        """The arms to show for this context, drawn, logged and learned from by the server.

        A decision_id is always sent, a random one if none is given: a repeated request then gets the same decision
        again (`replayed`) in place of a second impression.

        A context may have scalars of NumPy and pandas, dates (sent as ISO 8601) and Decimals.

        Raises:
            TypeError: if there is no way to send a value, such as an array.
            ClientError: if the server refused (such as 422 `invalid_context`) or the deadline passed.
        """
        chosen_id = uuid4().hex if decision_id is None else name_sent(decision_id)
        question = _Question(
            context, chosen_id, name_sent(user_id), k, names_sent(candidates), names_sent(exclude), defer
        )
        return await self._call("POST", self._path(experiment, "/recommendations"), question, Recommendation)

    async def feedback(
        self,
        experiment: str,
        *,
        decision_id: Id | None = None,
        user_id: Id | None = None,
        event: str,
        value: float | Decimal | None = None,
        event_id: Id | None = None,
        arm: str | None = None,
        refund_of: Id | None = None,
    ) -> Receipt:
        """What became of the event: accepted, duplicate or late, and the reward it credited to its decision.

        Give the decision_id or the user_id, the arm where several were shown, and of amounts a value and an event_id,
        which also makes a repeat by user_id safe. `refund_of` takes back of an earlier event, by default all of it.

        Raises:
            ClientError: if the server refused (such as 404 `decision_not_found`) or the deadline passed.
        """
        event_id = await self._event_id(experiment, event) if event_id is None else event_id
        names = map(name_sent, (event, decision_id, user_id, event_id, arm, refund_of))
        body = _Event(msgspec.UNSET if value is None else value, *names)
        return await self._call("POST", self._path(experiment, "/feedback"), body, Receipt)

    async def activate(self, experiment: str, decision_id: Id) -> Receipt:
        """Whether the deferred decision, now seen, was activated; a repeat is `duplicate` and changes nothing."""
        body = {"decision_id": name_sent(decision_id)}
        return await self._call("POST", self._path(experiment, "/activations"), body, Receipt)

    async def ready(self) -> bool:
        """Whether the server can decide now. Asks once, without repeating, so that a caller may poll."""
        try:
            await self._attempt("GET", f"{self._url}/readyz", None, self._timeout)
        except (ClientError, aiohttp.ClientError, TimeoutError):
            return False
        return True

    def _path(self, experiment: str, rest: str = "") -> str:
        return f"{self._url}/v1/experiments/{quote(experiment, safe='')}{rest}"

    async def _event_id(self, experiment: str, event: str) -> str | None:
        """An id of our own under `last`, none under `sum` and `first`."""
        # Under sum and first the server takes the kind's name for a missing id: a repeat is a duplicate already, and an
        # id of ours would turn a caller's second click into a second credit. Under last each event without an id
        # counts and the last one stands: a first attempt that was held up on its way, and arrives after its own repeat
        # and a newer value, would undo the newer value.
        kinds = self._aggregations.setdefault(experiment, {})
        if event not in kinds:
            await self._learn_aggregations(experiment, event)
        return uuid4().hex if kinds.get(event) == "last" else None

    async def _learn_aggregations(self, experiment: str, event: str) -> None:
        """Ask once how the experiment's kinds add up: that is fixed once learned from."""
        try:
            await self.get_experiment(experiment)
        except ClientError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._aggregations[experiment][event] = "sum"  # a key that may not read: take the default, do not ask again

    def _remember(self, experiment: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Keep the aggregation of each reward kind, and pass the answer on."""
        kinds = {kind: rule.get("aggregation", "sum") for kind, rule in answer.get("rewards", {}).items()}
        self._aggregations.setdefault(experiment, {}).update(kinds)
        return answer

    async def _call(self, method: str, url: str, body: object, answer: type[T], *, repeat: bool = True) -> T:
        """The decoded answer, after as many attempts as the deadline allows, or after one."""
        data = None if body is None else _ENCODER.encode(body)
        clock = asyncio.get_running_loop().time
        end, pause = clock() + self._deadline, FIRST_PAUSE
        while True:
            try:
                seconds = min(self._timeout, end - clock())
                return _decoded(await self._attempt(method, url, data, seconds, once=not repeat), answer)
            except ClientError as refusal:
                if refusal.status not in RETRIED:
                    raise
                error = refusal
            except (aiohttp.ClientError, TimeoutError) as cause:
                error = _unreachable(url, cause)
            # Jitter keeps the callers that one outage stopped from coming back at one instant.
            wait = (error.retry_after or 0.0) + pause * random.uniform(0.5, 1.0)  # noqa: S311 - it guards nothing
            if not repeat or clock() + wait >= end:
                raise error
            await asyncio.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _attempt(self, method: str, url: str, data: bytes | None, seconds: float, *, once: bool = False) -> bytes:
        """The body of a 2xx answer to one request; anything else is raised.

        aiohttp sends a PUT whose connection is cut again by itself, but not one whose body can be read only `once`.
        """
        if self._session is None:
            raise RuntimeError("use the client inside `async with Client(...) as client:`")
        limit = aiohttp.ClientTimeout(total=seconds)
        body = data if data is None or not once else _read_once(data)
        length = {} if data is None else {"Content-Length": str(len(data))}  # else it would be sent in chunks
        async with self._session.request(
            method, url, data=body, headers=length, timeout=limit, allow_redirects=False
        ) as response:
            found = await response.read()
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(response.status, found, response.headers.get("Retry-After", ""))
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


def _decoded(body: bytes, answer: type[T]) -> T:
    """The answer as its type."""
    try:
        return msgspec.json.decode(body, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(HTTPStatus.OK, "malformed_answer", f"expected {answer.__name__}: {error}") from error


def _refusal(status: int, body: bytes, retry_after: str) -> ClientError:
    """The error of an answer that is not 2xx: its problem, or what a proxy said in its place."""
    seconds = float(retry_after) if retry_after.isdecimal() else None
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:200].decode("utf-8", "replace")
        return ClientError(status, "no_problem_document", f"expected a problem document, got {text!r}", (), seconds)
    return ClientError(status, problem.code, problem.detail, problem.errors, seconds)


def _unreachable(url: str, cause: Exception) -> ClientError:
    """The error of an attempt that got no answer."""
    why = f"no answer from {_masked(url)}: {type(cause).__name__} {_masked(str(cause))}"
    error = ClientError(UNREACHABLE, "unreachable", why.rstrip())
    error.__cause__ = cause
    return error
