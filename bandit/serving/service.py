"""The service: what the wire contract's operations do, whatever the protocol in front.

It owns one follower (a thread that keeps replicas of every experiment) and a lane for each experiment. Operations on
the hot path run on the event loop; changes of experiments go through the store in a thread, and are answered when this
server's own replica has taken them up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from bandit.core.engine import Model, model_bytes
from bandit.core.experiment import NAME, Config, Document, Experiment, shape_of
from bandit.core.sums import ONE
from bandit.errors import Code, CorruptLog, Fault, Problem, StoreUnavailable, StoreUnsuitable, nearest
from bandit.log.records import decision_head, pack_x
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.serving.batcher import Lane, Paused, Reader, Replayed
from bandit.serving.changes import (
    Change,
    config_after,
    described,
    names_arm,
    no_arm,
    patched,
    pointing_into,
    replaced,
    with_arm,
    with_arms,
    without_arm,
)
from bandit.serving.evaluation import Asked, Evaluation, Evaluator
from bandit.serving.requests import Recommendation
from bandit.settings import Settings
from bandit.store.protocol import Ahead, Store, Stored
from bandit.store.redis_store import RedisStore

log = logging.getLogger(__name__)

CONFLICTS = 20  # how often a change is made anew because another came between
PAGE = 4 << 20  # bytes of documents on one page, about
TURN = 0.01  # seconds of a batch's reading or rendering after which others have theirs
FED = 0.25  # seconds of work that a batch puts in a lane at once
TAKE_UP = 2.0  # seconds to wait for this server's replica to take up a change
ANY_VERSION = 0  # If-Match: *
# what a newer version of the experiment may know better
MOVED = {Code.UNKNOWN_ARM, Code.NOT_ENOUGH_ARMS}  # of a request that was right when it was first sent
DOUBTFUL = {Code.UNKNOWN_ARM, Code.UNKNOWN_EVENT, Code.INVALID_CONTEXT, Code.NOT_ENOUGH_ARMS}


Again = Callable[[Experiment], Recommendation | None]


def never_before(_: Experiment) -> None:
    """Of a request that names no decision of its own."""
    return


class Service:
    """Everything a server does. Make it with `open`, end it with `close`."""

    def __init__(self, store: Store, settings: Settings, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.store, self.settings, self.entropy = store, settings, entropy
        self.grace_ms = round(settings.late_grace * 1000)
        self._lanes: dict[str, Lane] = {}
        self.follower = Follower(
            store,
            f"{os.getpid()}.{secrets.token_hex(8)}".encode(),  # the process, for people who look at the lease
            lease_seconds=settings.lease_seconds,
            checkpoint_seconds=settings.checkpoint_seconds,
            grace_ms=self.grace_ms,
            budget=settings.model_bytes,
            forgot=self._forgot,
        )
        self.ready = self.follower.ready
        self._looks: dict[str, asyncio.Task[Stored]] = {}  # into the store, under way
        self._secret: bytes | None = None
        self._evaluator = Evaluator(settings.redis_url or "")

    @classmethod
    def open(cls, settings: Settings) -> Service:
        """A service on the settings' store, loading in the background; `ready` is set when it has."""
        if settings.redis_url is None:
            raise ValueError("a service needs the address of a store")
        service = cls(RedisStore(settings.redis_url), settings)
        service.follower.start()
        return service

    @property
    def failed(self) -> BaseException | None:
        """Why this service can never serve, if so."""
        return self.follower.failed

    async def close(self) -> None:
        """Answer what waits, fold the rest, write the last checkpoint, and let go of the store."""
        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))
        self.follower.stop()
        await asyncio.to_thread(self.follower.join)
        await self.store.aclose()
        self.store.close()

    # experiments

    async def put(self, name: str, data: bytes, *, reset: bool, if_match: int | None) -> tuple[bool, dict[str, Any]]:
        """Create or replace an experiment: (whether it is new, the experiment as `get` gives it)."""
        before = await self._change(name, replaced(data), reset=reset, if_match=if_match, create=True)
        return before is None or before.config.deleted, described(await self._stored(name))

    async def patch(self, name: str, data: bytes, *, reset: bool, if_match: int | None) -> dict[str, Any]:
        """Change an experiment by a JSON merge patch (RFC 7386)."""
        await self._change(name, patched(data), reset=reset, if_match=if_match)
        return described(await self._stored(name))

    async def get(self, name: str) -> dict[str, Any]:
        """An experiment's document with name, version, generation and times, and what is doubtful about it."""
        stored = await self._stored(name)
        replica = self.follower.replicas.get(name)
        model = None if replica is None else replica.model
        same = model is not None and model.experiment.config.generation == stored.config.generation
        return described(stored, await asyncio.to_thread(model.loose_ranges) if model is not None and same else ())

    async def delete(self, name: str, if_match: int | None) -> None:
        """End an experiment: nothing of it is served any more."""
        await self._change(name, None, if_match=if_match)

    async def experiments(self, limit: int, cursor: str) -> dict[str, Any]:
        """Experiments by name, a page at a time."""
        names = [name for name in await self._call(self.store.names) if name > cursor]
        found: list[dict[str, Any]] = []
        size = 0
        for name in names:
            try:
                stored = await self._call(self.store.config, name)
            except CorruptLog:
                continue  # /readyz names it
            if stored is not None and not stored.config.deleted:
                if len(found) == limit or size > PAGE:
                    return {"experiments": found, "next": found[-1]["name"]}
                found.append(described(stored))
                size += len(msgspec.json.encode(stored.config.document))
        return {"experiments": found}

    async def _change(
        self, name: str, change: Change | None, *, reset: bool = False, if_match: int | None = None,
        create: bool = False,
    ) -> Stored | None:  # fmt: skip
        """Store and log what `change` makes of the document (None: delete); again if another change came between."""
        self._suits()
        for _ in range(CONFLICTS):
            before = await self._before(name, deleting=change is None)
            exists = before is not None and not before.config.deleted
            if not exists and not create:
                raise self._unknown(name)
            now = before.config.version if exists and before else None
            if if_match is not None and (now is None or if_match not in (ANY_VERSION, now)):
                has = "no such experiment" if now is None else f"version {now}"
                raise Problem(Code.PRECONDITION_FAILED, f"If-Match asks for another version: the store has {has}")
            config = config_after(name, before, change, reset=reset)
            if not config.deleted:
                await self._fits(config)
                self._can_be_sent(config.document, before)
            done = await self._call(self.store.put, config, before, ours := round(time.time() * 1000))
            if isinstance(done, Ahead):
                raise done.problem(ours)
            if done is not None:
                if config.deleted:
                    await self._call(self.store.account, {name: None})
                await self._taken_up(config)
                return before
        raise Problem(Code.OVERLOADED, f"experiment {name!r} is being changed by others; try again in a second")

    def _suits(self) -> None:
        if self.follower.unsuitable:
            raise Problem(Code.STORE_UNAVAILABLE, f"the store must not be used as it is: {self.follower.unsuitable}")

    async def _before(self, name: str, *, deleting: bool) -> Stored | None:
        """The experiment as the store has it; one that this version cannot read can be deleted all the same."""
        try:
            found: Stored | None = await self._call(self.store.config, name)
        except CorruptLog as error:
            if not deleting:
                raise Problem(Code.NOT_READY, f"experiment {name!r} cannot be served here: {error}") from error
            found = await self._call(self.store.remains, name)
        return found

    async def _fits(self, config: Config) -> None:
        """Refuse what would not fit beside all other experiments: whoever loads it would end, again and again."""
        need, budget = model_bytes(*shape_of(config)), self.follower.budget
        others: int | None = await self._call(self.store.reserve, config.name, need, budget)
        if others is not None:
            most = f"{budget >> 20} MiB for the models of all experiments (BANDIT_MODEL_MEMORY)"
            fault = Fault("/arms", f"arms x features^2 within {most}", f"{need >> 20} MiB beside {others >> 20}")
            detail = f"the experiment is too large: expected {fault.expected}, got {fault.got}"
            raise Problem(Code.INVALID_EXPERIMENT, detail, [fault])

    def _can_be_sent(self, document: Document, before: Stored | None) -> None:
        """Refuse a document that has grown too large, arm by arm: what GET gives can be sent back."""
        size, most = len(msgspec.json.encode(document)), self.settings.body_limit
        if size > most and (before is None or size > len(msgspec.json.encode(before.config.document))):
            fault = Fault("", f"a document of at most {most} bytes, payloads included", f"{size} bytes")
            raise Problem(Code.INVALID_EXPERIMENT, f"expected {fault.expected}, got {fault.got}", [fault])

    async def _taken_up(self, config: Config) -> None:
        """Wait for this server's own replica, so that who changed an experiment finds it changed."""
        limit = time.monotonic() + TAKE_UP
        self.follower.want(config.name)
        while time.monotonic() < limit:
            replica = self.follower.replicas.get(config.name)
            if _version(replica) >= config.version or (replica is not None and replica.failed is not None):
                return
            await asyncio.sleep(0.002)

    async def _stored(self, name: str) -> Stored:
        stored = await self._before(name, deleting=False) if NAME.fullmatch(name) else None
        if stored is None or stored.config.deleted:
            raise self._unknown(name)
        return stored

    def _unknown(self, name: str) -> Problem:
        if not NAME.fullmatch(name):
            return Problem(Code.EXPERIMENT_NOT_FOUND, "there is no such experiment: no experiment can have this name")
        known = [other for other, _, _ in self._served()]
        return Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}{nearest(name, known)}")

    # arms

    async def arms(self, name: str, limit: int, cursor: int) -> dict[str, Any]:
        """What each arm has seen, by index from `cursor`, with the position of the log that it reflects."""
        replica = await self._replica(name)
        return await asyncio.to_thread(_arms, replica, limit, cursor)

    async def arm(self, name: str, arm: str) -> dict[str, Any]:
        """One arm as the document has it, with what it has seen."""
        replica = await self._replica(name)
        experiment = _experiment(replica)
        if arm not in experiment.arm_index and await self._newer(name, experiment):
            experiment = _experiment(replica)
        if arm not in experiment.arm_index:
            raise no_arm(arm, experiment.arm_index)
        page: dict[str, Any] = await asyncio.to_thread(_arms, replica, 1, experiment.arm_index[arm])
        found: dict[str, Any] = page["arms"][0]
        spec = experiment.arms.get(arm)
        return found | ({"payload": spec.payload} if spec and spec.payload is not UNSET else {})

    async def put_arms(self, name: str, data: bytes) -> dict[str, Any]:
        """Replace the list of arms."""
        with pointing_into("/arms"):
            await self._change(name, with_arms(data))
        return described(await self._stored(name))

    async def put_arm(self, name: str, arm: str, data: bytes, *, merge: bool = False) -> tuple[bool, dict[str, Any]]:
        """Add or replace one arm; with `merge`, change what the body names: (whether it is new, the arm)."""
        with pointing_into(r"/arms/\d+"):
            before = await self._change(name, with_arm(arm, data, merge=merge))
        found = await self.arm(name, arm)
        named = before is not None and names_arm(before.config.document, arm)
        return not named and found["status"] != "retired", found

    async def retire(self, name: str, arm: str) -> None:
        """Take an arm out of the document; what it has learned is kept."""
        await self._change(name, without_arm(arm))

    async def evaluation(self, asked: Asked) -> Evaluation:
        """What slices earned and candidates would have earned on the newest decisions."""
        await self._replica(asked.experiment)
        return await self._evaluator.evaluate(asked)

    # the hot path

    async def ask(self, name: str, read: Reader, again: Again = never_before) -> Any:
        """Serve one request of a lane (`batcher`). What this server does not know, it looks up before refusing.

        Args:
            name: of the experiment.
            read: reads the request.
            again: reads it as one that may have been answered before, whatever has changed since.
        """
        lane = await self._lane_of(name)
        answer = _tried(lane, read, tried := _experiment(lane.replica))
        if isinstance(answer, Problem) and answer.code in DOUBTFUL and await self._newer(name, tried):
            answer = _tried(lane, read, _experiment(lane.replica))
        settled = await self._as_before(lane, await _settled(answer), again)
        if isinstance(settled, Problem):
            raise settled
        return settled

    async def ask_all(
        self, name: str, reads: Sequence[Reader], again: Sequence[Again] | None = None
    ) -> list[Any]:  # fmt: skip
        """Serve requests together: each one's answer or problem, in order."""
        lane = await self._lane_of(name)
        tried = _experiment(lane.replica)
        answers = await _fed(lane, reads, tried)
        doubtful = [isinstance(answer, Problem) and answer.code in DOUBTFUL for answer in answers]
        if any(doubtful) and await self._newer(name, tried):
            newer = _experiment(lane.replica)
            better = iter(await _fed(lane, [read for read, doubt in zip(reads, doubtful, strict=True) if doubt], newer))
            answers = [next(better) if doubt else answer for answer, doubt in zip(answers, doubtful, strict=True)]
        settled = [await _settled(answer) for answer in answers]
        each = again or [never_before] * len(reads)
        return [await self._as_before(lane, answer, same) for answer, same in zip(settled, each, strict=True)]

    async def _as_before(self, lane: Lane, answer: Any, again: Again) -> Any:
        """The answer, or the one of before where this is a retry: what has changed since is not its fault."""
        moved = isinstance(answer, Paused) or (isinstance(answer, Problem) and answer.code in MOVED)
        if not moved or (ask := again(experiment := _experiment(lane.replica))) is None:
            return answer
        entry = await self._call(self.store.decision, lane.replica.name, ask.caller)
        if entry is None or decision_head(entry.record).generation != experiment.config.generation:
            return answer
        ((x, _),) = pack_x(experiment.encoder.encode([ask.context]))
        return Replayed(entry.position, experiment, entry.record, ask.digest(x))

    async def _lane_of(self, name: str) -> Lane:
        if not self.ready.is_set():
            raise Problem(Code.NOT_READY, "this server is still reading the log; try again in a second")
        self._suits()
        return self._lane(await self._replica(name))

    def _lane(self, replica: Replica) -> Lane:
        lane = self._lanes.get(replica.name)
        if lane is None or lane.replica is not replica:  # another one: it was loaded again, or deleted and made anew
            lane = Lane(replica, self.store, self.grace_ms, self.entropy, self._suspect, self.follower.wrote)
            self._lanes[replica.name] = lane
        return lane

    def _forgot(self, name: str) -> None:
        self._lanes.pop(name, None)

    def _suspect(self) -> None:
        self.follower.suspicious = True

    async def _replica(self, name: str) -> Replica:
        """This server's replica of an experiment; one that it does not know yet is looked up in the store."""
        replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            if replica is not None and replica.failed is not None:
                raise Problem(Code.NOT_READY, f"experiment {name!r} cannot be served here: {replica.failed}")
            stored = await self._look(name)
            await self._taken_up(stored.config)
            replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            raise Problem(Code.NOT_READY, f"experiment {name!r} is not loaded yet; try again in a second")
        return replica

    async def _newer(self, name: str, tried: Experiment) -> bool:
        """Whether there is a later version than was tried, in the store or here by now; then it has been taken up."""
        stored = await self._look(name)
        if tried.config.version < stored.config.version:
            await self._taken_up(stored.config)
        replica = self.follower.replicas.get(name)
        return replica is not None and replica.model is not None and replica.model.experiment is not tried

    async def _look(self, name: str) -> Stored:
        """The experiment as the store has it now. Many bad requests cost few looks: who asks while another's look is
        under way shares the next one, because that one may have begun before what is asked for was written.
        """
        if (before := self._looks.get(name)) is not None:
            await asyncio.wait([before])
        if (look := self._looks.get(name)) is None or look is before:
            look = self._looks[name] = asyncio.create_task(self._stored(name))
            look.add_done_callback(lambda done: self._looked(name, done))
        return await asyncio.shield(look)

    def _looked(self, name: str, look: asyncio.Task[Stored]) -> None:
        if self._looks.get(name) is look:
            del self._looks[name]
        if not look.cancelled():
            look.exception()  # whoever asked may be gone

    async def secret(self) -> bytes:
        """The key that user ids are hashed with."""
        if self._secret is None:
            self._secret = await self._call(self.store.secret)
        return self._secret

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a store's operation in a thread; a store that is away is a problem."""
        try:
            return await asyncio.to_thread(work, *args)
        except (StoreUnavailable, StoreUnsuitable) as error:
            raise Problem(Code.STORE_UNAVAILABLE, "the store does not answer or cannot write now") from error

    # health

    def state(self) -> dict[str, Any]:
        """What `/readyz` tells of the store and the replicas."""
        now = time.monotonic()
        replicas: dict[str, Any] = {
            name: {
                "position": replica.position.text().decode(),
                "lag_ms": round((now - replica.read_at) * 1000) if replica.read_at else None,
            }
            for name, replica, _ in self._served()
        }
        for name, replica in list(self.follower.replicas.items()):
            if (failed := replica.failed) is not None:
                replicas[name] = {"failed": str(failed) or type(failed).__name__}
        store = "unavailable" if self.follower.store_down else "ok"
        why = {"reason": self.follower.reason} if self.follower.store_down and self.follower.reason else {}
        ready = self.ready.is_set() and not self.follower.store_down
        return {"ready": ready, "store": store, **why, "replicas": replicas}

    async def digests(self) -> dict[str, dict[str, str]]:
        """Each experiment's position and the fingerprint of its sums there: equal on every server, or one is wrong."""
        return await asyncio.to_thread(lambda: dict(_digests([replica for _, replica, _ in self._served()])))

    def _served(self) -> list[tuple[str, Replica, Model]]:
        """What is served here, by name; the follower's thread may add to it meanwhile."""
        found = list(self.follower.replicas.items())
        return sorted((name, replica, model) for name, replica in found if (model := replica.model) is not None)


def _version(replica: Replica | None) -> int:
    """The version that is served; a replica knows its config a moment before it serves it."""
    if replica is None or replica.config is None:
        return 0
    if (model := replica.model) is not None:
        return model.experiment.config.version
    return replica.config.version if replica.config.deleted else 0


def _experiment(replica: Replica) -> Experiment:
    return replica.served.experiment


def _arms(replica: Replica, limit: int, cursor: int) -> dict[str, Any]:
    with replica.held() as model:
        experiment, position = model.experiment, replica.position
        n, totals = model.sums.n.copy(), model.sums.B[:, :, 0].copy()
    names = experiment.config.index[cursor : cursor + limit]
    rows = [_arm_row(experiment, name, int(n[i]), totals[i].tolist()) for i, name in enumerate(names, cursor)]
    more = {"next": str(cursor + limit)} if cursor + limit < len(experiment.config.index) else {}
    return {"arms": rows, "position": position.text().decode(), **more}


def _arm_row(experiment: Experiment, name: str, n: int, totals: list[int]) -> dict[str, Any]:
    spec = experiment.arms.get(name)
    sums = [kind.value(total // ONE) for kind, total in zip(experiment.kinds, totals, strict=True)]
    rewards = {
        kind: {"sum": total, "mean": total / n if n else None}
        for kind, total in zip(experiment.config.kinds, sums, strict=True)
    }
    return {"arm": name, "status": spec.status if spec else "retired", "impressions": n, "rewards": rewards}


def _digest(replica: Replica) -> dict[str, str]:
    with replica.held() as model:
        return {"position": replica.position.text().decode(), "digest": model.sums.digest()}


def _digests(replicas: Iterable[Replica]) -> Iterator[tuple[str, dict[str, str]]]:
    for replica in replicas:
        with suppress(Problem):  # it has ended meanwhile
            yield replica.name, _digest(replica)


def _tried(lane: Lane, read: Reader, experiment: Experiment) -> asyncio.Future[Any] | Problem:
    """A request in its lane, or why it is refused."""
    try:
        return lane.enqueue(read, experiment)
    except Problem as problem:
        return problem


async def _fed(lane: Lane, reads: Sequence[Reader], tried: Experiment) -> list[asyncio.Future[Any] | Problem]:
    """A batch's requests in their lane, as many at a time as others do not feel."""
    answers: list[asyncio.Future[Any] | Problem] = []
    turn = time.monotonic()
    for read in reads:
        answers.append(_tried(lane, read, tried))
        if time.monotonic() - turn > TURN:
            await asyncio.sleep(0)
            turn = time.monotonic()
        while lane.work > FED:
            waiting = [answer for answer in answers if isinstance(answer, asyncio.Future) and not answer.done()]
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            turn = time.monotonic()
    return answers


async def _settled(answer: asyncio.Future[Any] | Problem) -> Any:
    if isinstance(answer, Problem):
        return answer
    try:
        return await answer
    except Problem as problem:
        return problem
