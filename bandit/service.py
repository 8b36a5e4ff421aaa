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
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bandit.errors import Code, Fault, Problem, StoreUnavailable, nearest
from bandit.experiment import (
    ArmSpec,
    Config,
    Document,
    Experiment,
    arm_spec,
    compile_config,
    first,
    parse,
    parse_document,
    plain,
    revise,
)
from bandit.export import time_of
from bandit.follower import Follower
from bandit.lane import Lane, Reader
from bandit.redis_store import RedisStore
from bandit.replica import Replica
from bandit.settings import Settings
from bandit.store import Store, Stored
from bandit.sums import ONE

log = logging.getLogger(__name__)

CONFLICTS = 20  # how often a change is made anew because another came between
TAKE_UP = 2.0  # seconds to wait for this server's replica to take up a change

Change = Callable[[Document], Document]


class Service:
    """Everything a server does. Make it with `open`, end it with `close`."""

    def __init__(self, store: Store, settings: Settings, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.store, self.settings, self.entropy = store, settings, entropy
        self.grace_ms = round(settings.late_grace * 1000)
        self.follower = Follower(
            store,
            f"{os.getpid()}.{secrets.token_hex(8)}".encode(),  # the process, for people who look at the lease
            lease_seconds=settings.lease_seconds,
            checkpoint_seconds=settings.checkpoint_seconds,
            grace_ms=self.grace_ms,
        )
        self.ready = self.follower.ready
        self._lanes: dict[str, Lane] = {}
        self._secret: bytes | None = None

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
        document = parse_document(data)
        before = await self._change(name, lambda _: document, reset=reset, if_match=if_match, create=True)
        return before is None or before.config.deleted, described(await self._stored(name))

    async def patch(self, name: str, data: bytes, *, reset: bool, if_match: int | None) -> dict[str, Any]:
        """Change an experiment by a JSON merge patch (RFC 7386)."""
        patch = parse(data, dict[str, Any], Code.INVALID_EXPERIMENT)

        def merged(document: Document) -> Document:
            whole = _merge(msgspec.json.decode(msgspec.json.encode(document)), patch)
            return parse_document(msgspec.json.encode(whole))

        await self._change(name, merged, reset=reset, if_match=if_match)
        return described(await self._stored(name))

    async def get(self, name: str) -> dict[str, Any]:
        """An experiment's document with name, version, generation and times."""
        stored = await self._stored(name)
        return described(stored)

    async def delete(self, name: str, if_match: int | None) -> None:
        """End an experiment: nothing of it is served any more."""
        await self._change(name, None, if_match=if_match)

    async def experiments(self, limit: int, cursor: str) -> dict[str, Any]:
        """Experiments by name, a page at a time."""
        names = [name for name in await self._call(self.store.names) if name > cursor]
        found: list[dict[str, Any]] = []
        for name in names:
            stored = await self._call(self.store.config, name)
            if stored is not None and not stored.config.deleted:
                if len(found) == limit:
                    return {"experiments": found, "next": found[-1]["name"]}
                found.append(described(stored))
        return {"experiments": found}

    async def _change(
        self, name: str, change: Change | None, *, reset: bool = False, if_match: int | None = None,
        create: bool = False,
    ) -> Stored | None:  # fmt: skip
        """Store and log what `change` makes of the document (None: delete); again if another change came between."""
        for _ in range(CONFLICTS):
            before: Stored | None = await self._call(self.store.config, name)
            exists = before is not None and not before.config.deleted
            if not exists and not create:
                raise self._unknown(name)
            if if_match is not None and (not exists or before is None or before.config.version != if_match):
                now = f"version {before.config.version}" if exists and before else "no such experiment"
                raise Problem(Code.PRECONDITION_FAILED, f"If-Match asks for version {if_match}; the store has {now}")
            config = _changed(name, before, change, reset)
            if await self._call(self.store.put, config, before) is not None:
                await self._taken_up(config)
                return before
        raise Problem(Code.OVERLOADED, f"experiment {name!r} is being changed by others; try again in a second")

    async def _taken_up(self, config: Config) -> None:
        """Wait for this server's own replica, so that who changed an experiment finds it changed."""
        limit = time.monotonic() + TAKE_UP
        self.follower.want(config.name)
        while time.monotonic() < limit:
            replica = self.follower.replicas.get(config.name)
            if replica is not None and replica.config is not None and replica.config.version >= config.version:
                return
            await asyncio.sleep(0.002)

    async def _stored(self, name: str) -> Stored:
        stored: Stored | None = await self._call(self.store.config, name)
        if stored is None or stored.config.deleted:
            raise self._unknown(name)
        return stored

    def _unknown(self, name: str) -> Problem:
        known = [other for other, replica in self.follower.replicas.items() if replica.model is not None]
        return Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}{nearest(name, known)}")

    # arms

    async def arms(self, name: str, limit: int, cursor: int) -> dict[str, Any]:
        """What each arm has seen, by index from `cursor`, with the position of the log that it reflects."""
        replica = await self._replica(name)
        return await asyncio.to_thread(_arms, replica, limit, cursor)

    async def arm(self, name: str, arm: str) -> dict[str, Any]:
        """One arm as the document has it, with what it has seen."""
        replica = await self._replica(name)
        if replica.model is None or arm not in replica.model.experiment.arm_index:
            await self._newer(name)
        model = replica.model
        if model is None or arm not in model.experiment.arm_index:
            raise Problem(Code.ARM_NOT_FOUND, f"experiment {name!r} has no arm {arm!r}")
        index = model.experiment.arm_index[arm]
        page: dict[str, Any] = await asyncio.to_thread(_arms, replica, 1, index)
        found: dict[str, Any] = page["arms"][0]
        spec = model.experiment.arms.get(arm)
        return found | ({"payload": spec.payload} if spec and spec.payload is not msgspec.UNSET else {})

    async def put_arms(self, name: str, data: bytes) -> dict[str, Any]:
        """Replace the list of arms."""
        arms = parse(data, tuple[str | ArmSpec, ...], Code.INVALID_EXPERIMENT)
        await self._change(name, lambda document: msgspec.structs.replace(document, arms=arms))
        return described(await self._stored(name))

    async def put_arm(self, name: str, arm: str, data: bytes, *, merge: bool = False) -> tuple[bool, dict[str, Any]]:
        """Add or replace one arm; with `merge`, change what the body names: (whether it is new, the arm)."""
        body = parse(data, dict[str, Any], Code.INVALID_EXPERIMENT) if data.strip() else {}
        if body.get("id", arm) != arm:
            fault = Fault("/id", "the arm of the address, or nothing", "another id")
            raise Problem(Code.INVALID_EXPERIMENT, "the body names another arm than the address", [fault])
        new = False

        def changed(document: Document) -> Document:
            nonlocal new
            old = {spec.id: spec for spec in map(arm_spec, document.arms)}
            new = arm not in old
            if merge and new:
                raise Problem(Code.ARM_NOT_FOUND, f"experiment {name!r} has no arm {arm!r}{nearest(arm, old)}")
            base = msgspec.json.decode(msgspec.json.encode(old[arm])) if merge else {}
            spec = parse(msgspec.json.encode(_merge(base, body) | {"id": arm}), ArmSpec, Code.INVALID_EXPERIMENT)
            return msgspec.structs.replace(document, arms=tuple(map(plain, (old | {arm: spec}).values())))

        await self._change(name, changed)
        return new, await self.arm(name, arm)

    async def retire(self, name: str, arm: str) -> None:
        """Take an arm out of the document; what it has learned is kept."""

        def without(document: Document) -> Document:
            kept = tuple(each for each in document.arms if arm_spec(each).id != arm)
            if len(kept) == len(document.arms):
                raise Problem(Code.ARM_NOT_FOUND, f"experiment {name!r} has no arm {arm!r}")
            return msgspec.structs.replace(document, arms=kept)

        await self._change(name, without)

    # the hot path

    async def ask(self, name: str, read: Reader) -> Any:
        """Serve one request of a lane (`bandit.lane`). What this server does not know, it looks up before refusing."""
        return (await self.ask_all(name, [read]))[0]

    async def ask_all(self, name: str, reads: Sequence[Reader]) -> list[Any]:
        """Serve requests together; of one alone a problem is raised, of several each problem is a result."""
        if not self.ready.is_set():
            raise Problem(Code.NOT_READY, "this server is still reading the log; try again in a second")
        replica = await self._replica(name)
        lane = self._lane(replica)
        if len(reads) == 1:
            return [await (await self._enqueued(lane, reads[0]))]
        answers = [await self._enqueued_or_problem(lane, read) for read in reads]
        return await asyncio.gather(*answers, return_exceptions=True)

    async def _enqueued(self, lane: Lane, read: Reader) -> asyncio.Future[Any]:
        try:
            return lane.enqueue(read, _experiment(lane.replica))
        except Problem as problem:
            if problem.code not in (Code.UNKNOWN_ARM, Code.UNKNOWN_EVENT, Code.INVALID_CONTEXT):
                raise
            if not await self._newer(lane.replica.name):
                raise
            return lane.enqueue(read, _experiment(lane.replica))

    async def _enqueued_or_problem(self, lane: Lane, read: Reader) -> asyncio.Future[Any]:
        try:
            return await self._enqueued(lane, read)
        except Problem as problem:
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(problem)
            return failed

    def _lane(self, replica: Replica) -> Lane:
        if replica.name not in self._lanes:
            self._lanes[replica.name] = Lane(replica, self.store, self.grace_ms, self.entropy, self._suspect)
        return self._lanes[replica.name]

    def _suspect(self) -> None:
        self.follower.suspicious = True

    async def _replica(self, name: str) -> Replica:
        """This server's replica of an experiment; one that it does not know yet is looked up in the store."""
        replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            if replica is not None and replica.failed is not None:
                raise Problem(Code.NOT_READY, f"experiment {name!r} cannot be served here: {replica.failed}")
            stored = await self._stored(name)
            await self._taken_up(stored.config)
            replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            raise Problem(Code.NOT_READY, f"experiment {name!r} is not loaded yet; try again in a second")
        return replica

    async def _newer(self, name: str) -> bool:
        """Whether the store has a later version than this server; then it has been taken up."""
        stored = await self._stored(name)
        replica = self.follower.replicas.get(name)
        if replica is None or replica.config is None or replica.config.version >= stored.config.version:
            return False
        await self._taken_up(stored.config)
        return True

    async def secret(self) -> bytes:
        """The key that user ids are hashed with."""
        if self._secret is None:
            self._secret = await self._call(self.store.secret)
        return self._secret

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a store's operation in a thread; a store that is away is a problem."""
        try:
            return await asyncio.to_thread(work, *args)
        except StoreUnavailable as error:
            raise Problem(Code.STORE_UNAVAILABLE, "the store does not answer or cannot write now") from error

    # health

    def state(self) -> dict[str, Any]:
        """What `/readyz` tells of the store and the replicas."""
        now = time.monotonic()
        replicas = {
            name: {
                "position": replica.position.text().decode(),
                "lag_ms": round((now - replica.read_at) * 1000) if replica.read_at else None,
            }
            for name, replica in sorted(self.follower.replicas.items())
            if replica.model is not None
        }
        store = "unavailable" if self.follower.store_down else "ok"
        return {"ready": self.ready.is_set() and not self.follower.store_down, "store": store, "replicas": replicas}

    async def digests(self) -> dict[str, dict[str, str]]:
        """Each experiment's position and the fingerprint of its sums there: equal on every server, or one is wrong."""
        return await asyncio.to_thread(lambda: {name: _digest(r) for name, r in list(self.follower.replicas.items())})


def _experiment(replica: Replica) -> Experiment:
    if replica.model is None:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {replica.name!r}")
    return replica.model.experiment


def _changed(name: str, before: Stored | None, change: Change | None, reset: bool) -> Config:
    """The config after a change, checked whole."""
    if before is not None and change is None:
        return msgspec.structs.replace(before.config, version=before.config.version + 1, deleted=True)
    if change is None:
        raise ValueError("only what exists can be deleted")
    if before is None:
        config = first(name, change(Document({}, ())))
    else:
        config = revise(before.config, change(before.config.document), learned=before.learned, reset=reset)
    compile_config(config)
    return config


def described(stored: Stored) -> dict[str, Any]:
    """An experiment as the wire shows it."""
    document = msgspec.json.decode(msgspec.json.encode(stored.config.document))
    config, evaluable = stored.config, stored.config.document.policy.explore > 0
    return {
        "name": config.name,
        "version": config.version,
        "generation": config.generation,
        "created_at": time_of(stored.identity.ms),
        "updated_at": time_of(stored.updated.ms),
        "evaluable": evaluable,
        **document,
    }


def _arms(replica: Replica, limit: int, cursor: int) -> dict[str, Any]:
    model = replica.model
    if model is None:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {replica.name!r}")
    with model.learning:
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
    model = replica.model
    if model is None:
        return {}
    with model.learning:
        return {"position": replica.position.text().decode(), "digest": model.sums.digest()}


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
