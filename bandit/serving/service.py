"""The service: what the wire contract's operations do, whatever the protocol in front.

It owns one follower (a thread that keeps replicas of every experiment), the experiments as documents, and a batcher for
each. Decisions and feedback run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bandit.access.limits import Limits
from bandit.access.manage import begin
from bandit.access.ring import Looking
from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem, StoreUnavailable
from bandit.log.records import Position, decision_head
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.serving.access.gate import Gate
from bandit.serving.batcher import CROWDED, Batcher, Paused, Reader, Replayed
from bandit.serving.evaluation import Asked, Evaluation, Evaluator
from bandit.serving.experiments import Experiments, experiment_of
from bandit.serving.feedback import ref_of, unknown_decision
from bandit.serving.inspection import DecisionAnswer, Look, described
from bandit.serving.outage.standby import Standby
from bandit.serving.outage.watch import Outage
from bandit.serving.repeated import digest_then
from bandit.serving.requests import RecommendationRequest
from bandit.serving.telemetry.gauges import set_gauges
from bandit.serving.telemetry.requests import Requests
from bandit.serving.waiting.gathered import Gathered
from bandit.settings import Settings
from bandit.store.open import open_store
from bandit.store.protocol import Ref, Store
from bandit.telemetry.counters import Counters

if TYPE_CHECKING:
    from bandit.serving.telemetry.spans import Spans

log = logging.getLogger(__name__)

# what a newer version of the experiment may know better
# of a request that was right when it was first sent
MOVED = {Code.UNKNOWN_ARM, Code.NOT_ENOUGH_ARMS, Code.INVALID_CONTEXT}
DOUBTFUL = {Code.UNKNOWN_ARM, Code.UNKNOWN_EVENT, Code.INVALID_CONTEXT, Code.NOT_ENOUGH_ARMS}

INTERNAL = "internal"  # in the place of a code: an error of our own
READING = "this server is still reading the log; try again in a second"

Again = Callable[[Experiment], RecommendationRequest | None]


def never_before(_: Experiment) -> None:
    """Read no earlier request: this one has no decision id of its own."""
    return


class Service:
    """Everything a server does. Make it with `open`, end it with `close`."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        entropy: Callable[[int], bytes] = os.urandom,
        limits: Limits | None = None,
    ) -> None:
        self.store, self.settings, self.entropy = store, settings, entropy
        self.gate = Gate(settings, store, limits)
        copy = None if settings.snapshot_dir is None else settings.snapshot_dir / "api-keys.json"
        self._looking = Looking(self.gate.ring, self._first_key, copy) if self.gate.on else None
        self.grace_ms = round(settings.late_grace * 1000)
        self._batchers: dict[str, Batcher] = {}
        self.counters = Counters()
        self.requests = Requests(self.counters)
        self.spans: Spans | None = None  # where requests are traced
        self.counters.gauges.append(lambda: set_gauges(self))
        self.follower = Follower(
            store,
            f"{os.getpid()}.{secrets.token_hex(8)}".encode(),  # the process, for people who look at the lease
            lease_seconds=settings.lease_seconds,
            checkpoint_seconds=settings.checkpoint_seconds,
            grace_ms=self.grace_ms,
            budget=settings.model_bytes,
            forgot=self._forgot,
            counters=self.counters,
        )
        self.ready = self.follower.ready
        self.outage = Outage(store, self.follower.wrote, settings.store_patience, lambda: self.follower.unsuitable)
        self.experiments = Experiments(store, self.follower, settings.body_limit, self.outage, settings.audit_entries)
        self._standby = None
        if settings.snapshot_dir is not None:
            self._standby = Standby(settings.snapshot_dir, self.follower, settings.checkpoint_seconds)
        self._stand_ins: dict[str, Batcher] = {}  # which decide by snapshots, until this is ready
        self._evaluator = Evaluator(settings.redis_url or "")

    @classmethod
    def open(cls, settings: Settings, limits: Limits | None = None) -> Service:
        """A service on the settings' store, loading in the background; `ready` is set when it has."""
        if settings.redis_url is None:
            raise ValueError("a service needs the address of a store")
        service = cls(open_store(settings.redis_url), settings, limits=limits)
        if settings.otel:
            from bandit.serving.telemetry.spans import exporting  # an extra

            service.spans = exporting(service.store)
        service.follower.start()
        if service._looking is not None:
            service._looking.start()
        if service._standby is not None:
            service._standby.start()
        return service

    @property
    def failed(self) -> BaseException | None:
        """Why this service can never serve, if so."""
        return self.follower.failed

    async def close(self) -> None:
        """Answer the waiting requests, fold the rest of the log, write the last checkpoint, and close the store. In a
        thread of its own: others may be busy for long, for requests that nobody waits for any more.
        """
        await asyncio.gather(*(batcher.drain() for batcher in self._batchers.values()))
        await self.outage.aclose()
        self.follower.stop()
        if self._looking is not None:
            self._looking.stop()
        with ThreadPoolExecutor(1) as own:
            await asyncio.wrap_future(own.submit(self.follower.join))
            if self._standby is not None:
                self._standby.stop()
                await asyncio.wrap_future(own.submit(self._standby.join))
            if self.spans is not None:
                await asyncio.wrap_future(own.submit(self.spans.close))
        await self.store.aclose()
        self.store.close()

    def _first_key(self) -> None:
        settings = self.settings
        file = settings.first_key_file or settings.data_dir / "first-admin-key"
        begin(self.store, settings.admin_keys(), file, settings.audit_entries)

    async def evaluation(self, asked: Asked) -> Evaluation:
        """What each slice earned and each candidate would have earned on the newest decisions."""
        await self.experiments.replica(asked.experiment)
        return await self._evaluator.evaluate(asked)

    async def decision(self, name: str, decision_id: str, *, explain: bool, limit: int) -> DecisionAnswer:
        """One decision, looked at.

        Raises:
            Problem: decision_not_found, where there is none of the generation in force.
        """
        replica, ref = await self.experiments.replica(name), ref_of(decision_id)
        look = await self.experiments.call(_look, self.store, name, decision_id, ref)
        if look is not None and decision_head(look.entry.record).version > experiment_of(replica).config.version:
            await self.experiments.newer(name, experiment_of(replica))  # it may name what is not known here yet
        model, scored = replica.served, replica.scored
        if look is None or decision_head(look.entry.record).generation != model.experiment.config.generation:
            raise unknown_decision()
        return await asyncio.to_thread(described, look, model, scored, limit, explain)

    # the hot path

    async def ask(self, name: str, read: Reader, again: Again = never_before) -> Any:
        """Serve one request: `ask_all`.

        Raises:
            Problem: it was refused.
        """
        (answer,) = await self.ask_all(name, [read], [again])
        if isinstance(answer, Problem):
            raise answer
        return answer

    async def ask_all(self, name: str, reads: Sequence[Reader], again: Sequence[Again]) -> list[Any]:
        """Serve requests together: each one's answer or problem, in order.

        What this server does not know, it looks up before refusing.

        Args:
            name: of the experiment.
            reads: each reads one request.
            again: each reads it as a repetition, which is answered as before, whatever has changed since.
        """
        batcher = await self.batcher(name)
        if len(reads) > 1 and batcher.crowded:
            batcher.shed()
            raise Problem(Code.OVERLOADED, CROWDED)
        tried, gathered = experiment_of(batcher.replica), Gathered(len(reads))
        await gathered.feed(batcher, enumerate(reads), tried)
        doubtful = [
            at for at, found in enumerate(gathered.found) if isinstance(found, Problem) and found.code in DOUBTFUL
        ]
        if batcher.alone:
            doubtful = []  # nothing can be looked up
        if doubtful and await self.experiments.newer(name, tried):
            await gathered.feed(batcher, ((at, reads[at]) for at in doubtful), experiment_of(batcher.replica))
        answers = await gathered.all()
        for at, answer in enumerate(answers):
            if isinstance(answer, Paused | Problem):
                answers[at] = await self.as_before(batcher, answer, again[at])
        return answers

    async def as_before(self, batcher: Batcher, answer: Any, again: Again) -> Any:
        """The answer, or the earlier one if this repeats a request that was answered before the experiment changed."""
        found = await self._as_before(batcher, answer, again)
        if isinstance(found, Replayed):
            batcher.tally.again("replayed")
        elif isinstance(found, Paused) and found.request.experiment.document.fallback_arm is not None:
            batcher.tally.again("fallback")
        return found

    async def _as_before(self, batcher: Batcher, answer: Any, again: Again) -> Any:
        moved = isinstance(answer, Paused) or (isinstance(answer, Problem) and answer.code in MOVED)
        if not moved or batcher.alone or (ask := again(experiment := experiment_of(batcher.replica))) is None:
            return answer
        name = batcher.replica.name
        entry = await self.experiments.call(self.store.decision, name, ask.caller)
        if entry is not None and decision_head(entry.record).version > experiment.config.version:
            await self.experiments.newer(name, experiment)  # made by a version with other columns, perhaps
            if (ask := again(experiment := experiment_of(batcher.replica))) is None:
                return answer
        if entry is None or decision_head(entry.record).generation != experiment.config.generation:
            return answer
        if (digest := digest_then(ask, experiment, entry.record)) is None:
            return answer
        return Replayed(entry.position, experiment, entry.record, digest)

    def known(self, name: str) -> tuple[Batcher, bytes] | None:
        """(batcher of an experiment, key of user ids); None where something has to be looked up first."""
        if not self.ready.is_set():
            return self._stand_in(name)
        replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            return None
        return self._batcher(replica), self.follower.secret

    def _stand_in(self, name: str) -> tuple[Batcher, bytes] | None:
        """(batcher that decides by a snapshot, key of user ids), where there is one and this server is not ready."""
        standby = self._standby
        if standby is None or standby.secret is None or (replica := standby.replicas.get(name)) is None:
            return None
        if name not in self._stand_ins:
            without = Outage(self.store)
            without.leave(StoreUnavailable("it has not been read yet"))
            made = Batcher(replica, self.store, self.grace_ms, self.entropy, self._suspect, without, self.counters)
            self._stand_ins[name] = made
        return self._stand_ins[name], standby.secret

    async def batcher(self, name: str) -> Batcher:
        """The batcher of an experiment; one that this server does not know yet is looked up in the store.

        Raises:
            Problem: there is none, or it cannot be served now.
        """
        if not self.ready.is_set():
            if (found := self._stand_in(name)) is not None:
                return found[0]
            raise Problem(Code.NOT_READY, READING)
        return self._batcher(await self.experiments.replica(name))

    def _batcher(self, replica: Replica) -> Batcher:
        batcher = self._batchers.get(replica.name)
        if batcher is None or batcher.replica is not replica:  # it was loaded again, or deleted and made anew
            self._forgot(replica.name)
            entropy, counters = self.entropy, self.counters
            longest, outage = self.settings.queue_wait, self.outage
            batcher = Batcher(replica, self.store, self.grace_ms, entropy, self._suspect, outage, counters, longest)
            batcher.tally.spans = self.spans
            self._batchers[replica.name] = batcher
            self._stand_ins = {}
        return batcher

    def refused(self, experiment: str, what: str, error: BaseException) -> None:
        """Count a refusal: of a request, or of an item of a batch.

        Args:
            experiment: the name that was given; one that is not known gets no label of its own.
            what: the operation.
            error: why; what is no problem is an error of our own.
        """
        known = experiment if experiment in self.follower.replicas else ""
        code = error.code.value if isinstance(error, Problem) else INTERNAL
        self.counters.add("bandit_problems_total", known, what, code)
        if code == INTERNAL:
            self.counters.add("bandit_bugs_total")

    @property
    def waiting(self) -> int:
        """How many requests wait for a micro-batch."""
        return sum(batcher.waiting for batcher in self._batchers.values())

    def _forgot(self, name: str) -> None:
        if (gone := self._batchers.pop(name, None)) is not None:
            gone.retire()

    def _suspect(self) -> None:
        self.follower.suspicious = True

    async def secret(self) -> bytes:
        """The key that user ids are hashed with."""
        if self.follower.secret:
            return self.follower.secret
        if self._standby is not None and self._standby.secret is not None:
            return self._standby.secret
        raise Problem(Code.NOT_READY, READING)

    # health

    def state(self) -> dict[str, Any]:
        """What `/readyz` answers of the store and the replicas."""
        now = time.monotonic()
        replicas: dict[str, Any] = {
            replica.name: {
                "position": replica.position.text().decode(),
                "lag_ms": round((now - replica.read_at) * 1000) if replica.read_at else None,
            }
            for replica in self.experiments.served()
        }
        for name, replica in list(self.follower.replicas.items()):
            if (failed := replica.failed) is not None:
                replicas[name] = {"failed": str(failed) or type(failed).__name__}
        down = self.follower.store_down or self.outage.away
        state: dict[str, Any] = {"ready": self.ready.is_set(), "store": "unavailable" if down else "ok"}
        if down:
            degraded = self._answered_for()
            state |= {"ready": bool(degraded), "degraded": degraded}
            state |= {"reason": self.follower.reason} if self.follower.reason else {}
        return state | {"replicas": replicas}

    def _answered_for(self) -> list[str]:
        """The experiments that are answered for while the store is away."""
        standby = self._standby.replicas.values() if self._standby is not None and not self.ready.is_set() else ()
        models = {replica.name: replica.model for replica in [*standby, *self.experiments.served()]}
        documents = {name: model.experiment.document for name, model in models.items() if model is not None}
        return sorted(name for name, document in documents.items() if document.degraded == "answer")

    @property
    def stands_in(self) -> bool:
        """Whether the store is away at the start, and there are snapshots to decide by."""
        return self.follower.store_down and not self.ready.is_set() and bool(self._answered_for())

    async def digests(self) -> dict[str, dict[str, str]]:
        """Each experiment's position and the fingerprint of its sums there: equal on every server, or one is wrong."""
        return await asyncio.to_thread(_digests, self.experiments.served())


def _look(store: Store, name: str, decision_id: str, ref: Ref) -> Look | None:
    """A decision that an id names, and what happened to it."""
    entry = store.decision(name, ref.caller) if ref.caller else store.at(name, Position.parse(ref.entry))
    if entry is None or entry.tag != b"d":
        return None
    if not ref.caller and (decision_head(entry.record).nonce != ref.nonce or decision_head(entry.record).caller_bytes):
        return None
    return Look(decision_id, entry, store.happened(name, entry.position))


def _digests(replicas: Sequence[Replica]) -> dict[str, dict[str, str]]:
    found = {}
    for replica in replicas:
        with suppress(Problem), replica.held() as model:  # it was deleted, or failed, meanwhile
            found[replica.name] = {"position": replica.position.text().decode(), "digest": model.sums.digest()}
    return found
