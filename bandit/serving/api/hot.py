"""Deciding and feedback: from a body's bytes to an answer's, without the framework, as nearly all requests are these.

Three ways lead here. Most requests have a plain head and a small body: the server's protocol gives them to `Hot.begin`,
and no task is made for them. The others come as ASGI (`app.Front`). Where neither stands before the framework, its own
routes come here too; they are what the OpenAPI document describes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from starlette.types import Receive

from bandit.core.document import NAME
from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem
from bandit.serving.api import answers, batches, body
from bandit.serving.api.batches import Read, Render
from bandit.serving.api.problems import INTERNAL, JSON, Answer, problem_answer
from bandit.serving.batcher import CROWDED, Batcher, Paused
from bandit.serving.experiments import experiment_of
from bandit.serving.feedback import read_activation, read_feedback
from bandit.serving.requests import read_again, read_recommendation
from bandit.serving.service import DOUBTFUL, MOVED, Service
from bandit.telemetry.table import LABEL_MAX

log = logging.getLogger(__name__)

LOOKED_UP = 512  # requests at once that wait for something to be looked up: each holds its body

_ENCODER = msgspec.json.Encoder()
OVERLOADED = problem_answer(Problem(Code.OVERLOADED, CROWDED))


class Operation(NamedTuple):
    """What is done with a request."""

    read: Read
    render: Render
    again: Read = lambda *_: None  # as one that may have been answered before


OPERATIONS: Mapping[str, Operation] = {
    "recommendations": Operation(read_recommendation, answers.recommendation, read_again),
    "activations": Operation(read_activation, answers.activation),
    "feedback": Operation(read_feedback, answers.feedback),
}


NAMES = "|".join(OPERATIONS)  # as addresses have them: a part of a regular expression
PLAIN = re.compile(rf"/v1/experiments/({NAME.pattern})/({NAMES})".encode())  # the target of a single request


async def answer(service: Service, what: str, name: str, headers: body.Headers, receive: Receive) -> Answer:
    """Answer one request or one batch.

    Args:
        service: which serves.
        what: an operation's name, followed by `/batch` where it is a batch.
        name: of the experiment, as the address has it.
        headers: of the request.
        receive: gives the body, as in ASGI.

    Raises:
        Problem: the request is at fault, or cannot be served now.
    """
    kind, _, batch = what.partition("/")
    operation, settings = OPERATIONS[kind], service.settings
    data = await body.read(headers, receive, settings.batch_limit if batch else settings.body_limit)
    if batch:
        return Answer(200, JSON, await batches.answered(service, kind, name, data, *operation))
    try:
        return await _answered(service, operation, name, data)
    except Problem:
        raise
    except Exception as error:
        service.refused(name, kind, error)
        return failure(error, _about(name, data))


class _Named(msgspec.Struct):
    decision_id: str = ""


def _about(name: str, data: bytes) -> dict[str, str]:
    """What a log line says of a request that failed: its experiment, and the decision that its body names."""
    try:
        decision = msgspec.json.decode(data, type=_Named).decision_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        decision = ""
    return {"experiment": name, "decision_id": decision[:LABEL_MAX]}


def failure(error: Exception, about: Mapping[str, str] | None = None) -> Answer:
    """The answer where there is none: a problem, or an error of the server itself, which is logged."""
    if isinstance(error, Problem):
        return problem_answer(error)
    log.error("a request failed", exc_info=error, extra=about)
    return INTERNAL


async def _answered(service: Service, operation: Operation, name: str, data: bytes) -> Answer:
    secret = await service.secret()
    value = await service.ask(
        name,
        lambda experiment: operation.read(experiment, data, secret),
        lambda experiment: operation.again(experiment, data, secret),
    )
    return _rendered(operation, value)


def _rendered(operation: Operation, value: Any) -> Answer:
    return Answer(200, JSON, _ENCODER.encode(operation.render(value)))


class Client(Protocol):
    """Whoever waits for an answer, or did, as the server's protocol knows it."""

    request_id: bytes

    def answer(self, answer: Answer) -> None:
        """Send it."""


class Hot:
    """Answers requests whose body is all there. Lives on the event loop.

    Args:
        service: which serves.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.told = service.requests.told  # (operation, status, seconds): counts an answered request
        self.refused = service.refused
        self.full = False  # whether the last one asked about found too many waiting: `sheds` is worth asking
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, what: str, name: str, data: bytes, client: Client) -> None:
        """Serve one request; its client is answered now or later. What has to be looked up first takes a task."""
        operation, service = OPERATIONS[what], self.service
        try:
            known = service.known(name)
            if known is not None:
                batcher, secret = known
                if batcher.crowded:
                    self.full = True
                    batcher.shed(what)
                    client.answer(OVERLOADED)
                    return
                waiting = _Waiting(self, what, batcher, data, secret, client)
                batcher.enqueue(waiting.read, experiment_of(batcher.replica), waiting)
                return
        except Exception as error:
            if not isinstance(error, Problem) or error.code not in DOUBTFUL:
                client.answer(self.refusal(name, what, data, error, client))
                return
        self.later(client, name, what, data, _answered(service, operation, name, data))

    def sheds(self, what: str, name: str) -> Answer | None:
        """The refusal of one more request, counted, where too many wait; else nothing."""
        known = self.service.known(name)
        self.full = known is not None and known[0].crowded
        if known is None or not self.full:
            return None
        known[0].shed(what)
        self.told(what, OVERLOADED.status, 0.0)
        return OVERLOADED

    def refusal(self, name: str, what: str, data: bytes, error: Exception, client: Client) -> Answer:
        """`failure`, counted."""
        self.refused(name, what, error)
        if isinstance(error, Problem):
            return problem_answer(error)
        return failure(error, _about(name, data) | {"request_id": client.request_id.decode()})

    def later(self, client: Client, name: str, what: str, data: bytes, answered: Coroutine[Any, Any, Answer]) -> None:
        """Answer when this is done; refuse where too many wait for such, those whose clients have gone included."""
        if len(self._tasks) >= LOOKED_UP:
            answered.close()
            many = f"{LOOKED_UP} requests wait for the store already; try again in a second"
            self.service.counters.add("bandit_sheds_total", "looked_up")
            client.answer(self.refusal(name, what, data, Problem(Code.OVERLOADED, many), client))
            return
        task = asyncio.get_running_loop().create_task(self._finish(client, name, what, data, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, client: Client, name: str, what: str, data: bytes, answered: Coroutine[Any, Any, Answer]
    ) -> None:
        try:
            answer = await answered
        except Exception as error:
            answer = self.refusal(name, what, data, error, client)
        client.answer(answer)

    async def as_before(self, waiting: _Waiting, value: Any) -> Answer:
        """The answer to a request that found a paused experiment, or other arms than were decided among before."""
        found = await self.service.as_before(waiting.batcher, value, waiting.again)
        if isinstance(found, Problem):
            raise found
        return _rendered(waiting.operation, found)


class _Waiting:
    """A request that a batcher has, and who waits for its answer: in the place of a future and a task."""

    __slots__ = ("batcher", "client", "data", "hot", "operation", "over", "secret", "what")

    def __init__(self, hot: Hot, what: str, batcher: Batcher, data: bytes, secret: bytes, client: Client) -> None:
        self.hot, self.what, self.operation, self.batcher = hot, what, OPERATIONS[what], batcher
        self.data, self.secret, self.client = data, secret, client
        self.over = False

    def read(self, experiment: Experiment) -> Any:
        """The request, by a version of its experiment."""
        return self.operation.read(experiment, self.data, self.secret)

    def again(self, experiment: Experiment) -> Any:
        """The request as one that may have been answered before."""
        return self.operation.again(experiment, self.data, self.secret)

    def done(self) -> bool:
        """Whether it has its answer. Who has gone is served as well: what was sent whole is not lost."""
        return self.over

    def set_result(self, value: Any) -> None:
        """Answer."""
        self.over = True
        if isinstance(value, Paused):
            self._later(value)
            return
        try:
            answer = _rendered(self.operation, value)
        except Exception as error:
            answer = self._refusal(error)
        self.client.answer(answer)

    def set_exception(self, error: BaseException) -> None:
        """Answer with what was wrong; who failed has logged what is no problem."""
        self.over = True
        if isinstance(error, Problem) and error.code in MOVED:
            self._later(error)
        elif isinstance(error, Problem):
            self.client.answer(self._refusal(error))
        else:
            self.hot.refused(self.batcher.replica.name, self.what, error)
            about = _about(self.batcher.replica.name, self.data) | {"request_id": self.client.request_id.decode()}
            log.error("a request failed with others of its micro-batch, as told above", extra=about)
            self.client.answer(INTERNAL)

    def _later(self, value: Any) -> None:
        self.hot.later(self.client, self.batcher.replica.name, self.what, self.data, self.hot.as_before(self, value))

    def _refusal(self, error: Exception) -> Answer:
        return self.hot.refusal(self.batcher.replica.name, self.what, self.data, error, self.client)
