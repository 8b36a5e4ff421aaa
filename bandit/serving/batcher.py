"""A batcher: serves one experiment's requests on one server, in micro-batches.

While an append is under way the next requests gather; then one vectorised decide and one script serve them all. Where
enough have gathered, a second micro-batch goes beside the first: the server decides while the store writes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any, cast

from bandit.core.engine import Outdated
from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem
from bandit.log.records import Position
from bandit.replica.replica import Replica
from bandit.serving.decisions import Made, decide, decisions_of
from bandit.serving.outage.unlogged import Appending, answer_in_flight, answer_unlogged, answers
from bandit.serving.outage.watch import Outage
from bandit.serving.producer import PATIENCE, Producer
from bandit.serving.repeated import digest_then, will_do
from bandit.serving.requests import RecommendationRequest
from bandit.serving.telemetry.tally import Tally
from bandit.serving.waiting.admission import FLOOR, QUEUE_WAIT, Admission
from bandit.serving.waiting.outcomes import Credited, NewDecision, Paused, Replayed, Unlogged
from bandit.serving.waiting.pending import (
    Answer,
    PendingRequest,
    Reader,
    answer_paused,
    awaited,
    fresh,
    own_work,
    read_again,
    work_of,
)
from bandit.store.protocol import (
    Ahead,
    Gap,
    Item,
    Logged,
    Result,
    Reward,
    Rules,
    Stale,
    Store,
    rules_of,
)
from bandit.telemetry.counters import Counters
from bandit.telling import REQUEST_ID

__all__ = ["Batcher", "Credited", "NewDecision", "Paused", "Reader", "Replayed", "Unlogged"]

log = logging.getLogger(__name__)

MICRO_BATCH = 256  # requests served at once, at most
WORK = 0.02  # seconds of work in one micro-batch, as estimated: every other request, of all experiments, waits for it
PRODUCERS = 2  # micro-batches under way at once, at most: a producer appends one at a time
ALONGSIDE = 8  # requests that gather before one goes beside another: fewer cost more each than it saves
WAITING = 2048  # requests waiting, at most
REREADS = 5
CROWDED = "more requests come than can be answered; try again in a second"


class _Undecided(Exception):  # noqa: N818
    """The decisions of a micro-batch could not be made, and nothing of it was written."""


class Batcher:
    """Serves one experiment's requests. Lives on the event loop."""

    def __init__(
        self, replica: Replica, store: Store, grace_ms: int, entropy: Callable[[int], bytes],
        on_gap: Callable[[], None], outage: Outage, counters: Counters | None = None, longest: float = QUEUE_WAIT,
    ) -> None:  # fmt: skip
        self.replica, self.store, self.grace_ms = replica, store, grace_ms
        self.entropy, self.on_gap, self.outage = entropy, on_gap, outage
        self.tally = Tally(counters or Counters(), replica.name)
        outage.noticed.append(self._noticed)
        self._waiting: list[PendingRequest] = []
        self.work = 0.0  # estimated seconds that the waiting requests will take
        self._own, self._begun = 0.0, 0.0  # of those that are in no batch: seconds that wait, and that are under way
        self.admission, self._sheds = Admission(longest), self.tally.counters.cell("bandit_sheds_total", "waiting")
        self._rules: tuple[Experiment, Rules] | None = None  # of the version last appended for
        self._idle: list[Producer] = []
        self._runners: set[asyncio.Task[None]] = set()
        self._under_way = 0.0  # estimated seconds of the micro-batches under way
        self._appending: dict[Producer, Appending] = {}
        self._unlogged: asyncio.Handle | None = None  # the next turn of `_decide_unlogged`

    def ask(self, read: Reader, experiment: Experiment) -> asyncio.Future[Any]:
        """`let_in` and `enqueue` with a future for the answer, which is returned."""
        self.let_in()
        answer = asyncio.get_running_loop().create_future()
        self.enqueue(read, experiment, answer)
        return answer

    def enqueue(self, read: Reader, experiment: Experiment, answer: Answer, *, patient: bool = False) -> None:
        """Read one request, which was let in, and have it wait for a micro-batch.

        Args:
            read: reads it.
            experiment: the version to read it by.
            answer: gets `NewDecision`, `Replayed`, `Paused`, `Unlogged`, `Credited` or `Outcome`, or why there is none.
            patient: it is one of a batch, whose items come as those before them are answered: it may wait for longer.

        Raises:
            Problem: the request is at fault, or the store is away and it takes one.
        """
        if (away := self.outage.away) and not answers(experiment):
            raise self.outage.refusal()
        request = read(experiment)
        if away and not isinstance(request, RecommendationRequest):
            raise self.outage.refusal()
        work = work_of(request, experiment, self.replica.longest)
        now = time.monotonic()
        self._waiting.append(PendingRequest(read, request, experiment, answer, now, work, patient=patient))
        self.work += work
        self._own += 0.0 if patient else work
        if (spans := self.tally.spans) is not None:
            self._waiting[-1].trace = spans.current()
        if away or self.outage.silent:
            self._go_on()
        elif len(self._runners) < PRODUCERS:
            self._begin()

    def let_in(self) -> None:
        """Refuse one more request where it would wait for too long: before it is read, for that costs something.

        Raises:
            Problem: overloaded.
        """
        if self.crowded:
            self.shed()
            raise Problem(Code.OVERLOADED, CROWDED)

    def _go_on(self) -> None:
        """Have what waits served."""
        if self._apart:
            if self._unlogged is None and (any(map(_decides, self._waiting)) or (self._waiting and self.outage.away)):
                self._unlogged = asyncio.get_running_loop().call_soon(self._decide_unlogged)
        elif len(self._runners) < PRODUCERS:
            self._begin()

    def _begin(self) -> None:
        """Serve what waits by one producer more, if it should have one."""
        if self._may_begin(len(self._runners)):
            self._runners.add(asyncio.get_running_loop().create_task(self._run()))

    @property
    def crowded(self) -> bool:
        """Whether one more request would wait for too long, by the pace of late."""
        waiting = len(self._waiting)
        work = self._own + self._begun
        return waiting >= WAITING or (waiting >= FLOOR and self.admission.refuses(work, time.monotonic()))

    def shed(self, what: str = "") -> None:
        """Count a request that is refused for it; where its operation is said, as a problem as well."""
        self._sheds[0] += 1
        if what:
            self.tally.overloaded(what)
        self.tally.counters.moved = True

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def alone(self) -> bool:
        """Whether it decides without the store now: nothing can be looked up either."""
        return (self.outage.silent or self.outage.away) and answers(self.replica.served.experiment)

    @property
    def _apart(self) -> bool:
        """Whether no append begins now: the store is away, or is silent and decisions are made without it."""
        if not self.outage.silent:
            return self.outage.away
        model = self.replica.model
        return self.outage.away or (model is not None and answers(model.experiment))

    async def drain(self) -> None:
        """Wait until every request has its answer."""
        while self._runners or self._waiting or self._unlogged is not None:
            await (asyncio.wait(self._runners) if self._runners else asyncio.sleep(0.001))

    def retire(self) -> None:
        """Hear of no more outages: another batcher has taken over."""
        self.outage.noticed.remove(self._noticed)

    def _noticed(self) -> None:
        """The store is away or silent: whoever can be answered without it is, and nobody of these waits behind what is
        under way. Or it has been heard again: what is left is served.
        """
        if self._apart:
            for under_way in self._appending.values():
                answer_in_flight(under_way, self.tally)
        self._go_on()

    def _decide_unlogged(self) -> None:
        """Serve a micro-batch of those who wait while the store is away; in a silence what needs the store waits on."""
        REQUEST_ID.set("")  # as in `_run`
        self._unlogged = None
        if self._apart:
            held = [] if self.outage.away else [p for p in self._waiting if not _decides(p)]
            self._waiting = list(filter(_decides, self._waiting)) if held else self._waiting
            begun, (batch, work) = time.monotonic(), self._next()
            again = answer_unlogged(self.replica, batch, self.entropy, self.outage.refusal(), self.tally)
            self._waiting = [*again, *self._waiting, *held]
            self.work = sum(pending.work for pending in self._waiting)
            self.admission.served(begun, time.monotonic(), work)
        self._go_on()

    def _producer(self) -> Producer:
        return Producer(self.replica.name, self.store, self.entropy, self.outage, self.tally.counters)

    def _may_begin(self, others: int) -> bool:
        """Whether to begin a micro-batch beside so many others."""
        waiting = self._waiting
        if others and (len(waiting) < ALONGSIDE or self._under_way + waiting[0].work > WORK):
            return False
        return bool(waiting) and not self._apart

    async def _run(self) -> None:
        """Serve micro-batches by one producer for as long as any should begin."""
        REQUEST_ID.set("")  # this task was begun by one request, and serves others
        producer = self._idle.pop() if self._idle else self._producer()
        try:
            while self._may_begin(len(self._runners) - 1):
                batch, work = self._next()
                overdue = time.monotonic() - PATIENCE
                if batch := [pending for pending in batch if awaited(pending, overdue)]:
                    begun, own = time.monotonic(), own_work(batch)
                    self._under_way, self._begun = self._under_way + work, self._begun + own
                    try:
                        await self._serve(batch, producer)
                    finally:
                        self._under_way, self._begun = self._under_way - work, self._begun - own
                        self._appending.pop(producer, None)
                    if self.outage.since < begun:
                        self.admission.served(begun, time.monotonic(), work)
        finally:
            self._idle.append(producer)
            self._runners.discard(cast(Any, asyncio.current_task()))
        self._go_on()

    async def _serve(self, batch: list[PendingRequest], producer: Producer) -> None:
        """Answer a micro-batch; where its decisions cannot be made, each by itself: only those at fault fail."""
        try:
            await self._serve_together(batch, producer)
        except _Undecided as error:
            if len(batch) > 1:
                for pending in batch:
                    await self._serve([pending], producer)
            else:
                log.error("%s: a decision failed", self.replica.name, exc_info=error.__cause__)
                batch[0].fail(error)
        except Exception as error:  # whatever it is, those who wait must hear of it
            if not isinstance(error, Problem):
                log.exception("%s: a micro-batch failed", self.replica.name)
            elif error.code == Code.STORE_UNAVAILABLE and producer in self._appending:
                answer_in_flight(self._appending[producer], self.tally)
            for pending in batch:
                pending.fail(error)

    def _next(self) -> tuple[list[PendingRequest], float]:
        """The next micro-batch: as many requests as one script, and one turn of the event loop, should take.

        Returns:
            the requests, and the seconds that they are estimated to take.
        """
        count, work = 0, 0.0
        for pending in self._waiting[:MICRO_BATCH]:
            if count and self._under_way + work + pending.work > WORK:
                break
            count, work = count + 1, work + pending.work
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self.work = sum(pending.work for pending in self._waiting)
        self._own = own_work(self._waiting)
        self.admission.left(self._own, time.monotonic())
        return batch, work

    async def _serve_together(self, batch: list[PendingRequest], producer: Producer) -> None:
        model = self.replica.served
        experiment, scored = model.experiment, self.replica.scored
        batch = [p for p in batch if p.experiment is experiment or read_again(p, experiment)]
        paused: list[PendingRequest] = []
        if experiment.document.status == "paused":
            paused = [pending for pending in batch if isinstance(pending.request, RecommendationRequest)]
            batch = [pending for pending in batch if not isinstance(pending.request, RecommendationRequest)]
        if not batch and not paused:
            return
        requests = [pending.request for pending in batch]
        recommendations = [request for request in requests if isinstance(request, RecommendationRequest)]
        begun, number = time.monotonic(), (producer.name, producer.sequence)
        try:
            made = decide(model, experiment, recommendations, scored, self.entropy)
        except Outdated:
            self._waiting = batch + self._waiting
            return
        except Exception as error:
            raise _Undecided from error
        decisions = iter(made.items) if made else iter(())
        items: list[Item] = [
            next(decisions) if isinstance(request, RecommendationRequest) else request for request in requests
        ]
        self._appending[producer] = Appending(batch, paused, experiment, made, scored)
        try:  # also where nothing is to be written: whether they are paused still, and how, only the store knows
            since = min((pending.since for pending in batch), default=-math.inf)
            decided = time.monotonic()
            reply = await producer.append(self._rules_of(experiment), items, since)
            self.tally.tick(batch, (begun, decided, time.monotonic()), number)
            if isinstance(reply, Ahead):
                raise reply.problem(round(time.time() * 1000))
        except Problem:
            answer_paused(paused)  # by what is known here: nobody would know more
            raise
        if isinstance(reply, Stale):
            await self._read_later(batch + paused, experiment)
        elif isinstance(reply, Gap):
            self._gap(reply, producer)
        else:
            answer_paused(paused)
            self._answer(batch, reply, experiment, made, scored)

    def _rules_of(self, experiment: Experiment) -> Rules:
        if self._rules is None or self._rules[0] is not experiment:
            self._rules = experiment, rules_of(experiment, self.grace_ms)
        return self._rules[1]

    async def _read_later(self, batch: list[PendingRequest], experiment: Experiment) -> None:
        """The store has a later schema: wait for the replica to have it, then read and decide anew."""
        limit = time.monotonic() + PATIENCE
        while self.replica.model is not None and self.replica.model.experiment is experiment:
            if time.monotonic() > limit or self.outage.away:
                raise Problem(
                    Code.STORE_UNAVAILABLE, "the experiment has changed, and its new version has not come yet"
                )
            await asyncio.sleep(0.005)
        for pending in batch:
            pending.reads += 1
            if pending.reads > REREADS:
                pending.fail(Problem(Code.OVERLOADED, "the experiment changes faster than it can be read"))
        self._waiting = [pending for pending in batch if not pending.answer.done()] + self._waiting

    def _gap(self, gap: Gap, producer: Producer) -> None:
        """Acknowledged data has vanished: say so, and go on under a new name."""
        log.error(
            "%s: the store has forgotten acknowledged writes (its last number is %d, ours %d)",
            self.replica.name, gap.last, producer.sequence,
        )  # fmt: skip
        self.tally.counters.add("bandit_gaps_total", self.replica.name)
        self.on_gap()
        producer.renew()
        raise Problem(Code.STORE_UNAVAILABLE, "the store has lost writes; nothing of this request was written")

    def _answer(
        self, batch: list[PendingRequest], reply: list[Result], experiment: Experiment, made: Made | None,
        scored: Position,
    ) -> None:  # fmt: skip
        decisions, tally, place = decisions_of(made) if made else iter(()), self.tally, -1
        tally.version(experiment)
        for pending, result in zip(batch, reply, strict=True):
            request, answer = pending.request, cast(Any, result)
            if isinstance(request, Reward):
                tally.judged(request, answer)
                answer = Credited(experiment, request.kind, answer)
            elif isinstance(request, RecommendationRequest):
                choice, nonce, digest, scores, play, shadow = next(decisions)
                place += 1
                if isinstance(result, Logged):
                    at, record, _ = result
                    if record and result.sticky and not pending.answer.done() and not will_do(record, request):
                        pending.read = fresh(pending.read)
                        pending.request, pending.experiment = request._replace(fresh=True), experiment
                        self._waiting.insert(0, pending)
                        continue
                    if record:
                        tally.again("sticky" if result.sticky else "replayed")
                        then: bytes | None = None if result.sticky else digest
                        if then is not None and experiment.layout.changes:  # else the digests are of the same columns
                            then = digest_then(request, experiment, record) or b""
                        answer = Replayed(at, experiment, record, then)
                    else:
                        tally.decided(request, choice, cast(Made, made), place, at.ms)
                        answer = NewDecision(at, experiment, choice, nonce, request, scores, scored, play, shadow)
            else:
                tally.activated(answer)
            if not pending.answer.done():
                pending.answer.set_result(answer)


def _decides(pending: PendingRequest) -> bool:
    """Whether a decision is asked for, which can be made without the store."""
    return isinstance(pending.request, RecommendationRequest)
