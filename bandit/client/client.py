"""The client: decisions, feedback and activations, one at a time, many at once, or in the background."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

from bandit.client.manager import Manager
from bandit.client.outage import Outage
from bandit.client.queue import Counts, FeedbackQueue, Lost
from bandit.client.values import Id, listed, name_sent, names_sent
from bandit.client.wire import (
    BATCH,
    ClientError,
    Event,
    Receipt,
    Recommendation,
    Shown,
    Told,
    Wanted,
    Wish,
    encode,
    item,
    named,
    own_arm,
    question,
    told,
)

A = TypeVar("A")

DECIDING: Final = 1.0  # seconds a page waits for a decision
OTHERWISE: Final = 10.0  # seconds for everything else
CLOSING: Final = 5.0  # seconds for what is enqueued, once the client is closed
WAITING: Final = 10_000  # events of feedback that wait at most


class Client(Manager):
    """A connection pool to one server; use it as an async context manager, from one event loop.

        async with Client("http://127.0.0.1:8080") as client:
            choice = await client.recommend("home", {"age": 41.0}, fallback="newest")
            if choice.logged:
                client.enqueue_feedback("home", decision_id=choice.decision_id, event="click")

    A call that meets 429, 502, 503, 504, a cut connection or a timeout is sent again, with the same ids and after
    exponentially growing, randomised pauses (or the server's Retry-After), until its deadline. It can then not be
    known whether the server acted, so every request is made safe to repeat: see `recommend` and `feedback`. What
    cannot be, a reset or a deletion, is sent once.

    Args:
        url: where the server is, such as "http://127.0.0.1:8080"; a path in it is kept.
        api_key: sent as `Authorization: Bearer`; by default what BANDIT_API_KEY in the environment is, or none.
        timeout: seconds one attempt may take, connecting included.
        deadline: seconds one call may take with all its attempts and pauses. (An experiment's first feedback without
            an event_id may take two such calls: it asks for the reward kinds first.)
        decision_deadline: the same of `recommend` and `recommend_several`, for which a page waits.
        close_deadline: seconds that closing may take to send what is enqueued; what is left is lost, and told.
        connections: at most this many at once; further calls wait for one.
        queue_size: how many enqueued events may wait; further ones are dropped, counted and told.
        on_lost: told of each enqueued event that was refused or dropped; by default a warning is logged.

    Raises:
        ValueError: if the url is not an absolute one of http or https, or has a query or a fragment.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        deadline: float = OTHERWISE,
        decision_deadline: float = DECIDING,
        close_deadline: float = CLOSING,
        connections: int = 100,
        queue_size: int = WAITING,
        on_lost: Callable[[Lost], None] | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout, deadline, connections)
        self._decision_deadline, self._close_deadline = decision_deadline, close_deadline
        self._outage = Outage()
        self._queue = FeedbackQueue(self._sent, queue_size, on_lost)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._queue.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._queue.close(self._close_deadline)
        finally:
            await super().__aexit__(kind, error, trace)

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
        strict: bool = False,
        baseline: str | None = None,
        fallback: str | Shown | None = None,
        deadline: float | None = None,
    ) -> Recommendation:
        """The arms to show for this context, drawn, logged and learned from by the server.

        A decision_id is always sent, a random one if none is given: a repeated request then gets the same decision
        again (`replayed`) in place of a second impression.

        A context may have scalars of NumPy and pandas, dates (sent as ISO 8601) and Decimals.

        With a `fallback`, an arm's name or a `Shown` with its payload too, nobody is without a page where the server
        does not answer within the deadline, or with 5xx or 429 only, or where an editor has left nothing to show (409
        `paused`, 422 `not_enough_arms`): that arm is answered, with `fallback` and the `error`. It is not logged, and
        takes no feedback. After 5 calls in a row without an answer it is answered at once, but for one call each
        second that looks whether the server is back.

        Raises:
            TypeError: if there is no way to send a value, such as an array.
            ClientError: if the server refused (such as 422 `invalid_context`, whether or not there is a fallback) or,
                without one, the deadline passed.
        """
        asked = question(
            context, decision_id=decision_id, user_id=user_id, k=k, candidates=candidates, exclude=exclude,
            defer=defer, strict=strict, baseline=baseline,
        )  # fmt: skip
        own = None if fallback is None else own_arm(fallback)
        path, seconds = self._path(experiment, "/recommendations"), self._deciding(deadline)
        ask = functools.partial(self._call, "POST", path, named(asked), Recommendation, deadline=seconds)
        try:
            return await self._decided(ask, own is not None)
        except ClientError as error:
            if own is None or not error.falls_back:
                raise
            return Recommendation.instead(own, error)

    async def recommend_several(
        self,
        experiments: Iterable[str] | Mapping[str, Wish],
        context: Mapping[str, Any],
        *,
        user_id: Id | None = None,
        decision_id: Id | None = None,
        fallback: Mapping[str, str | Shown] | None = None,
        deadline: float | None = None,
    ) -> dict[str, Recommendation | ClientError]:
        """Of each experiment its recommendation, or why there is none: one round trip for a page with several.

        `experiments` are names, or of each name what else is asked, such as `{"top": {"k": 3}, "side": {}}`. The
        context is that of all: of each experiment its own features are taken. `fallback` has an arm for those
        experiments that need one, such as `{"top": "newest"}`, and is used as by `recommend`.

        Raises:
            ClientError: if the whole request was refused or, where an experiment has no fallback, the deadline passed.
        """
        given = experiments if isinstance(experiments, Mapping) else listed(experiments, "experiments' names")
        wishes = given if isinstance(given, Mapping) else {name: Wish() for name in given}
        chosen = uuid4().hex if decision_id is None else name_sent(decision_id)
        body = {
            "experiments": {name: question(**wish) for name, wish in wishes.items()},
            "context": context,
            "decision_id": chosen,
        } | ({} if user_id is None else {"user_id": name_sent(user_id)})
        own = {name: own_arm(arm) for name, arm in (fallback or {}).items()}
        path, seconds = "/v1/recommendations", self._deciding(deadline)
        ask = functools.partial(self._by_experiment, path, body, Recommendation, seconds)
        try:
            found = await self._decided(ask, wishes.keys() <= own.keys())
        except ClientError as error:
            if not error.falls_back or not wishes.keys() <= own.keys():
                raise
            found = dict.fromkeys(wishes, error)
        return {
            name: Recommendation.instead(own[name], each)
            if isinstance(each, ClientError) and each.falls_back and name in own
            else each
            for name, each in found.items()
        }

    async def recommend_batch(self, experiment: str, requests: Iterable[Wanted]) -> list[Recommendation | ClientError]:
        """Of each request its recommendation, or why there is none; a request has the arguments of `recommend`.

            await client.recommend_batch("mail", [{"context": {"age": 41}, "user_id": "u-1"}, ...])

        What may pass is asked again, with the same ids, until the deadline of all.
        """
        asked = [named(question(**each)) for each in listed(requests, "requests")]
        return await self._batch(experiment, "/recommendations/batch", asked, Recommendation)

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

        Give the decision_id or the user_id, and the arm where several were shown. By user_id a repeat within the
        deadline may go to a decision that the same user received in between: give the decision_id where it is known.
        Give the value where the kind's range is not [0, 1], and there under `sum` an event_id too, the same for each
        attempt of yours. `refund_of` takes back of an earlier event, by default all that is left of it.

        Raises:
            ValueError: if it names neither a decision_id nor a user_id.
            ClientError: if the server refused (such as 404 `decision_not_found`) or the deadline passed.
        """
        body = told(
            event, decision_id=decision_id, user_id=user_id, value=value, event_id=event_id, arm=arm,
            refund_of=refund_of,
        )  # fmt: skip
        await self._identify(experiment, [body])
        return await self._call("POST", self._path(experiment, "/feedback"), body, Receipt)

    async def feedback_batch(self, experiment: str, events: Iterable[Told]) -> list[Receipt | ClientError]:
        """What became of each event, or why it was refused; an event has the arguments of `feedback`.

        What may pass is sent again, with the same ids, until the deadline of all.
        """
        bodies = [told(**each) for each in listed(events, "events")]
        await self._identify(experiment, bodies)
        return await self._batch(experiment, "/feedback/batch", bodies, Receipt)

    async def feedback_everywhere(
        self,
        *,
        user_id: Id,
        event: str,
        event_id: Id,
        value: float | Decimal | None = None,
        arm: str | None = None,
        refund_of: Id | None = None,
    ) -> dict[str, Receipt | ClientError]:
        """What became of a user's event in each experiment that has its kind, or why it was refused there.

        The event_id is required here: it makes the request safe to repeat, however an experiment adds up.

        Raises:
            ClientError: if no experiment has the kind, or the deadline passed.
        """
        body = told(event, user_id=user_id, value=value, event_id=event_id, arm=arm, refund_of=refund_of)
        return await self._by_experiment("/v1/feedback", body, Receipt, self._deadline)

    def enqueue_feedback(
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
    ) -> bool:
        """Whether the event was taken, to be sent in the background; False where too many wait.

        It is sent in batches, again and again with the same event_id until it is answered, and before the client is
        closed. `feedback_counts` says what became of all; what is lost is told to `on_lost`. May be called from any
        thread.

        Raises:
            TypeError: if there is no way to send a value.
            ValueError: if it names neither a decision_id nor a user_id.
        """
        body = told(
            event, decision_id=decision_id, user_id=user_id, value=value, event_id=event_id, arm=arm,
            refund_of=refund_of,
        )  # fmt: skip
        encode(body)  # what cannot be sent is the caller's to know, now
        return self._queue.put(experiment, body)

    async def flush(self, seconds: float = OTHERWISE) -> int:
        """How many enqueued events still wait, once none does or the time is over."""
        return await self._queue.flush(seconds)

    @property
    def feedback_counts(self) -> Counts:
        """What became of the events that were enqueued: each is counted once."""
        return self._queue.counts

    async def activate(self, experiment: str, decision_id: Id) -> Receipt:
        """Whether the deferred decision, now seen, was activated; a repeat is `duplicate` and changes nothing."""
        body = {"decision_id": name_sent(decision_id)}
        return await self._call("POST", self._path(experiment, "/activations"), body, Receipt)

    async def activate_batch(self, experiment: str, decision_ids: Iterable[Id]) -> list[Receipt | ClientError]:
        """Of each deferred decision whether it was activated, or why it was refused."""
        bodies = [{"decision_id": each} for each in names_sent(decision_ids, "decision_ids") or ()]
        return await self._batch(experiment, "/activations/batch", bodies, Receipt)

    def _deciding(self, deadline: float | None) -> float:
        return self._decision_deadline if deadline is None else deadline

    async def _decided(self, ask: Callable[..., Awaitable[A]], own: bool) -> A:
        """The answer; of a caller with an arm of its `own` nothing, or only once, is asked in a known outage."""
        if own and (away := self._outage.known(asyncio.get_running_loop().time())) is not None:
            raise away
        try:
            found = await ask(repeat=not (own and self._outage.lasts))
        except ClientError as error:
            self._outage.learn(error)
            raise
        self._outage.learn(None)
        return found

    async def _batch(
        self, experiment: str, what: str, bodies: Sequence[object], answer: type[A]
    ) -> list[A | ClientError]:
        """The result of each body, in order; what may pass is sent again."""
        path, found = self._path(experiment, what), list[A | ClientError]()

        async def ask(
            part: Sequence[object], settled: dict[int, A | ClientError], seconds: float
        ) -> dict[int, A | ClientError]:
            open_ = [i for i in range(len(part)) if i not in settled]
            body = {"requests": [part[i] for i in open_]}
            results = (await self._call("POST", path, body, dict[str, Any], deadline=seconds))["results"]
            return {i: item(each, answer) for i, each in zip(open_, results, strict=True)}

        for start in range(0, len(bodies), BATCH):
            part = bodies[start : start + BATCH]
            results = await self._settled(functools.partial(ask, part), self._deadline)
            found += [results[i] for i in range(len(part))]
        return found

    async def _by_experiment(
        self, path: str, body: object, answer: type[A], deadline: float, *, repeat: bool = True
    ) -> dict[str, A | ClientError]:
        """The result of each experiment; where one may pass all is sent again, and what was settled stays."""

        async def ask(_: dict[str, A | ClientError], seconds: float) -> dict[str, A | ClientError]:
            found = await self._call("POST", self._url + path, body, dict[str, Any], deadline=seconds, repeat=repeat)
            return {name: item(each, answer) for name, each in found["results"].items()}

        return await self._settled(ask, deadline)

    async def _sent(self, experiment: str, events: Sequence[Event]) -> list[Receipt | ClientError]:
        """What became of the events, sent once; for the queue."""
        await self._identify(experiment, events)
        path, body = self._path(experiment, "/feedback/batch"), {"requests": events}
        results = (await self._call("POST", path, body, dict[str, Any], repeat=False))["results"]
        return [item(each, Receipt) for each in results]

    async def _identify(self, experiment: str, bodies: Sequence[Event]) -> None:
        """Give each event an id of our own under `last`, none under `sum` and `first`."""
        # Under sum and first the server takes the kind's name for a missing id: a repeat is a duplicate already, and an
        # id of ours would turn a caller's second click into a second credit. Under last each event without an id
        # counts and the last one stands: a first attempt that was held up on its way, and arrives after its own repeat
        # and a newer value, would undo the newer value.
        kinds = self._aggregations.setdefault(experiment, {})
        bare = [each for each in bodies if each.event_id is None]
        if unknown := {each.event for each in bare} - kinds.keys():
            await self._learn_aggregations(experiment, unknown)
        for each in bare:
            if each.event is not None and kinds.get(each.event) == "last":
                each.event_id = uuid4().hex

    async def _learn_aggregations(self, experiment: str, events: Iterable[str | None]) -> None:
        """Ask once how the experiment's kinds add up: that is fixed once learned from."""
        try:
            await self.get_experiment(experiment)
        except ClientError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            # a key that may not read: take the default, do not ask again
            self._remember(experiment, {"rewards": {event: {} for event in events}})
