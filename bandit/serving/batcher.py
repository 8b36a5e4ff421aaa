"""A batcher: one experiment's requests on one server, taken a tick at a time.

While one append is under way the next requests gather; then one vectorised decide and one script serve them all. A
tick's number belongs to its bytes until the store has answered: on a timeout the same bytes go again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from bandit.core.draw import Choice
from bandit.core.engine import Outdated
from bandit.core.experiment import Experiment
from bandit.errors import Code, CorruptLog, Problem, StoreUnavailable, StoreUnsuitable
from bandit.log.records import Position
from bandit.replica.replica import Replica
from bandit.serving.decisions import Made, Scores, decide, decisions_of
from bandit.serving.requests import Recommendation
from bandit.store.protocol import (
    USER_MAX,
    Activate,
    Ahead,
    Batch,
    Gap,
    Item,
    Logged,
    Outcome,
    Reply,
    Result,
    Reward,
    Rules,
    Stale,
    Store,
    rules_of,
)

log = logging.getLogger(__name__)

TICK = 256  # requests served at once
WORK = 0.02  # seconds of work in one tick, as estimated: other experiments, and every other request, wait for it
WAITING = 2048  # requests waiting; more are refused: a short queue answers sooner
BY_USER = 2.5e-5  # seconds of the store for each decision of a user that is looked at
PATIENCE = 4.0  # seconds a request waits for the store
IDLE = 86_400.0  # a producer that was silent for a day takes a new name: its last number may be forgotten
REREADS = 5
UNAVAILABLE = "the store does not answer or cannot write now"

Ask = Recommendation | Reward | Activate
Reader = Callable[[Experiment], Ask]


@dataclass
class PendingRequest:
    """One request in a batcher: how to read it, what it was read as, and who waits for its answer."""

    read: Reader
    ask: Ask
    experiment: Experiment
    answer: asyncio.Future[Any]
    since: float
    work: float  # seconds, about
    reads: int = 0


class NewDecision(NamedTuple):
    """A new decision, and what is told with it."""

    position: Position
    experiment: Experiment
    choice: Choice
    nonce: bytes
    caller: bytes
    scores: Scores
    model_position: Position


class Replayed(NamedTuple):
    """A decision that had been made: its record."""

    position: Position
    experiment: Experiment
    record: bytes
    digest: bytes  # of the request now


class Paused(NamedTuple):
    """A recommendation of a paused experiment: nothing was decided, logged or learned."""

    experiment: Experiment


class Credited(NamedTuple):
    """What became of feedback of one kind: one judgement, or one of each of a user's decisions."""

    experiment: Experiment
    kind: int
    judged: Outcome | list[Outcome]


class _Undecided(Exception):  # noqa: N818
    """Decisions could not be made, of all of a tick: nothing of it was written."""


class Batcher:
    """Serves one experiment's requests. Lives on the event loop."""

    def __init__(
        self, replica: Replica, store: Store, grace_ms: int, entropy: Callable[[int], bytes],
        on_gap: Callable[[], None], wrote: Callable[[Exception | None], None],
    ) -> None:  # fmt: skip
        self.replica, self.store, self.grace_ms = replica, store, grace_ms
        self.entropy, self.on_gap, self.wrote = entropy, on_gap, wrote
        self._waiting: list[PendingRequest] = []
        self.work = 0.0  # seconds that what waits will take, about
        self._runner: asyncio.Task[None] | None = None
        self._rules: tuple[Experiment, Rules] | None = None  # of the version last appended for
        self._renew()

    def _renew(self) -> None:
        """A new producer name: no number of the old one will be used again."""
        self._producer, self._sequence, self._used = self.entropy(12).hex(), 1, time.monotonic()

    def enqueue(self, read: Reader, experiment: Experiment) -> asyncio.Future[Any]:
        """Read one request and put it in the next tick; its answer: `NewDecision`, `Replayed`, `Credited` or `Outcome`.

        Raises:
            Problem: the request is at fault, or too many wait.
        """
        if len(self._waiting) >= WAITING:  # first: a refusal must cost less than a service
            raise Problem(Code.OVERLOADED, f"{WAITING} requests are waiting already; try again in a second")
        ask = read(experiment)
        loop = asyncio.get_running_loop()
        work = _work(ask, experiment, self.replica.longest)
        call = PendingRequest(read, ask, experiment, loop.create_future(), time.monotonic(), work)
        self._waiting.append(call)
        self.work += call.work
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        return call.answer

    async def drain(self) -> None:
        """Wait until every request has its answer."""
        while self._runner is not None and not self._runner.done():
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        while self._waiting:
            calls = self._next()
            if not (calls := [call for call in calls if _awaited(call)]):
                continue
            await self._serve(calls)

    async def _serve(self, calls: list[PendingRequest]) -> None:
        """Answer these calls, together; where one of them cannot be decided, each by itself, for the others' sake."""
        try:
            await self._tick(calls)
        except _Undecided as error:
            if len(calls) > 1:
                for call in calls:
                    await self._serve([call])
            else:
                log.error("%s: a decision failed", self.replica.name, exc_info=error.__cause__)
                _fail(calls[0], error)
        except Exception as error:  # whatever it is, those who wait must hear of it
            if not isinstance(error, Problem):
                log.exception("%s: a tick failed", self.replica.name)
            for call in calls:
                _fail(call, error)

    def _next(self) -> list[PendingRequest]:
        """The calls of the next tick: as many as one script, and one turn of the event loop, should take."""
        count, work = 0, 0.0
        for call in self._waiting[:TICK]:
            if count and work + call.work > WORK:
                break
            count, work = count + 1, work + call.work
        calls, self._waiting = self._waiting[:count], self._waiting[count:]
        self.work = sum(call.work for call in self._waiting)
        return calls

    async def _tick(self, calls: list[PendingRequest]) -> None:
        model = self.replica.served
        experiment, scored = model.experiment, self.replica.scored
        calls = [call for call in calls if self._current(call, experiment)]
        paused = [call for call in calls if _is_paused(call)]
        calls = [call for call in calls if not _is_paused(call)]
        if not calls and not paused:
            return
        try:
            made = decide(
                model, experiment, [c.ask for c in calls if isinstance(c.ask, Recommendation)], scored, self.entropy
            )
        except Outdated:
            self._waiting = calls + self._waiting
            return
        except Exception as error:
            raise _Undecided from error
        decisions = iter(made.items) if made else iter(())
        items: list[Item] = [next(decisions) if isinstance(call.ask, Recommendation) else call.ask for call in calls]
        try:  # also where nothing is to be written: whether they are paused still, and how, only the store knows
            reply = await self._append(experiment, items, min((call.since for call in calls), default=-math.inf))
            if isinstance(reply, Ahead):
                raise reply.problem(round(time.time() * 1000))
        except Problem:
            _answer_paused(paused)  # by what is known here: nobody would know more
            raise
        if isinstance(reply, Stale):
            await self._again(calls + paused, experiment)
        elif isinstance(reply, Gap):
            self._gap(reply)
        else:
            _answer_paused(paused)
            self._answer(calls, reply, experiment, made, scored)

    def _current(self, call: PendingRequest, experiment: Experiment) -> bool:
        """Read a call again if its experiment has changed since; False where it is at fault now."""
        if call.experiment is experiment:
            return True
        try:
            call.ask, call.experiment = call.read(experiment), experiment
        except Exception as error:  # whatever it is, it is this call's own
            _fail(call, error)
            return False
        return True

    async def _append(self, experiment: Experiment, items: list[Item], since: float) -> Reply:
        """Append under the next number; the same bytes again while the store does not answer.

        When those who wait have lost patience, the number's fate is unknown: so the producer takes a new name.
        """
        if time.monotonic() - self._used > IDLE:
            self._renew()
        if self._rules is None or self._rules[0] is not experiment:
            self._rules = experiment, rules_of(experiment, self.grace_ms)
        batch = Batch(self._producer, self._sequence, self._rules[1], items, round(time.time() * 1000))
        pause = 0.05
        while True:
            try:
                reply = await self.store.append_async(self.replica.name, batch)
            except StoreUnavailable as error:
                self.wrote(error)
                if time.monotonic() - since + pause > PATIENCE:
                    self._renew()
                    raise Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE) from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)
            except CorruptLog as error:
                self._renew()
                raise Problem(Code.NOT_READY, f"this experiment cannot be served: {error}") from error
            except StoreUnsuitable as error:  # our rights in it were taken away
                self.wrote(error)
                self._renew()
                raise Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE) from error
            except Exception:
                self._renew()  # a part of it may be written: this number is spent
                raise
            else:
                if not isinstance(reply, Ahead):
                    self.wrote(None)
                break
        self._used = time.monotonic()
        if not isinstance(reply, Stale | Gap | Ahead):
            self._sequence += 1
        return reply

    async def _again(self, calls: list[PendingRequest], experiment: Experiment) -> None:
        """The store has a later schema: wait for the replica to have it, then read and decide anew."""
        limit = time.monotonic() + PATIENCE
        while self.replica.model is not None and self.replica.model.experiment is experiment:
            if time.monotonic() > limit:
                raise Problem(
                    Code.STORE_UNAVAILABLE, "the experiment has changed, and its new version has not come yet"
                )
            await asyncio.sleep(0.005)
        for call in calls:
            call.reads += 1
            if call.reads > REREADS:
                _fail(call, Problem(Code.OVERLOADED, "the experiment changes faster than it can be read"))
        self._waiting = [call for call in calls if not call.answer.done()] + self._waiting

    def _gap(self, gap: Gap) -> None:
        """Acknowledged data has vanished: say so, and go on under a new name."""
        log.error(
            "%s: the store has forgotten acknowledged writes (its last number is %d, ours %d)",
            self.replica.name, gap.last, self._sequence,
        )  # fmt: skip
        self.on_gap()
        self._renew()
        raise Problem(Code.STORE_UNAVAILABLE, "the store has lost writes; nothing of this request was written")

    def _answer(
        self,
        calls: list[PendingRequest],
        reply: list[Result],
        experiment: Experiment,
        made: Made | None,
        scored: Position,
    ) -> None:
        decisions = decisions_of(made) if made else iter(())
        for call, result in zip(calls, reply, strict=True):
            answer: Any = result
            if isinstance(call.ask, Reward):
                answer = Credited(experiment, call.ask.kind, result)  # type: ignore[arg-type] # feedback is judged
            elif isinstance(call.ask, Recommendation):
                choice, head, scores = next(decisions)
                if isinstance(result, Logged) and result.record:
                    answer = Replayed(result.position, experiment, result.record, head.digest)
                elif isinstance(result, Logged):
                    answer = NewDecision(
                        result.position, experiment, choice, head.nonce, call.ask.caller, scores, scored
                    )
            if not call.answer.done():
                call.answer.set_result(answer)


def _work(ask: Ask, experiment: Experiment, longest: int) -> float:
    """Seconds that a request takes in the store and here, about: measured, see `benchmarks/stalls.py`.

    Which decision feedback or an activation means, the store knows: it may be the longest list of those that were made.
    """
    K, _, d = experiment.shape
    if isinstance(ask, Recommendation):
        lists = 1.5e-4 + 8e-10 * K * d * d + ask.k * (1e-9 * d * d + 6e-6) if ask.k > 1 else 0.0
        return 6e-5 + K * (3e-11 * d * d + 3e-8) + lists
    if isinstance(ask, Reward) and ask.ref.user:
        return BY_USER * (USER_MAX if experiment.document.attribution == "all" else 4)
    return 4e-5 + 7e-7 * longest


def _is_paused(call: PendingRequest) -> bool:
    """Whether this is a recommendation that is answered without deciding."""
    return isinstance(call.ask, Recommendation) and call.experiment.document.status == "paused"


def _answer_paused(calls: list[PendingRequest]) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_result(Paused(call.experiment))


def _awaited(call: PendingRequest) -> bool:
    """Whether somebody still waits; who has waited for too long, behind others, is told so."""
    if time.monotonic() - call.since > PATIENCE:
        _fail(call, Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE))
    return not call.answer.done()


def _fail(call: PendingRequest, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
