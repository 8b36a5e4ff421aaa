"""Experiments as a server has them: created and changed in the store, then taken up by its replicas.

A change goes through the store in a thread, and is answered when this server's own replica has taken it up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from bandit.access.ring import GRANT
from bandit.core.document import NAME, ArmSpec, Document
from bandit.core.engine import model_bytes
from bandit.core.experiment import Config, Experiment, shape_of
from bandit.core.sums import ONE
from bandit.errors import Code, CorruptLog, Fault, Problem, StoreUnavailable, StoreUnsuitable, nearest
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica, unserved
from bandit.replica.survey import FeaturesAnswer, survey
from bandit.serving.access.audited import put_audited
from bandit.serving.changes import (
    Change,
    Sent,
    compared,
    config_after,
    described,
    difference,
    names_arm,
    no_arm,
    patched,
    pointing_into,
    replaced,
    with_arm,
    with_arms,
    without_arm,
)
from bandit.serving.outage.watch import UNAVAILABLE, Outage
from bandit.store.protocol import Ahead, Store, Stored

CONFLICTS = 20  # how often a change is made anew because another came between
PAGE = 4 << 20  # bytes of documents on one page, about
TAKE_UP = 2.0  # seconds to wait for this server's replica to take up a change
ANY_VERSION = 0  # If-Match: *
NO_VERSION = -1  # If-None-Match: *


class Experiments:
    """Every experiment there is, by name.

    Args:
        store: where they are.
        follower: has the replicas.
        body_limit: bytes that a document may take.
        outage: knows whether the store is away.
        audit: entries that the audit log keeps.
    """

    def __init__(self, store: Store, follower: Follower, body_limit: int, outage: Outage, audit: int = 10_000) -> None:
        self.store, self.follower, self.body_limit, self._audit = store, follower, body_limit, audit
        self.outage = outage
        self._looks: dict[str, asyncio.Task[Stored]] = {}  # reads of the store that are under way

    async def would_change(
        self, name: str, change: Change, *, reset: bool = False, if_match: int | None = None, create: bool = False
    ) -> dict[str, Any]:
        """What a change would do, checked like one: nothing is changed."""
        before, config = await self._made(name, change, reset=reset, if_match=if_match, create=create)
        sizes: dict[str, tuple[int, int]] = await self.call(self.store.reserved)
        need, own = model_bytes(*shape_of(config)), sizes.pop(name, (0, 0))[0]
        if need > own and need + (others := sum(size for size, _ in sizes.values())) > self.follower.budget:
            raise self._too_large(need, others)
        was = None if before is None or before.config.deleted else before.config
        starts = before is None or config.generation != before.config.generation
        found = difference(compared(was.document), compared(config.document)) if was is not None else ()
        return {"dry_run": True, "creates": was is None, "starts_from_zero": starts, "changes": list(found)}

    async def put(self, name: str, sent: Sent, *, reset: bool, if_match: int | None) -> tuple[bool, dict[str, Any]]:
        """Create or replace an experiment: (whether it is new, the experiment as `get` gives it)."""
        before = await self._change(name, replaced(sent), reset=reset, if_match=if_match, create=True)
        return before is None or before.config.deleted, described(await self._stored(name))

    async def patch(self, name: str, sent: Sent, *, reset: bool, if_match: int | None) -> dict[str, Any]:
        """Change an experiment by a JSON merge patch (RFC 7386)."""
        await self._change(name, patched(sent), reset=reset, if_match=if_match)
        return described(await self._stored(name))

    async def get(self, name: str) -> dict[str, Any]:
        """An experiment's document with its name, version, generation, times and warnings."""
        stored = await self._stored(name)
        replica = self.follower.replicas.get(name)
        model = None if replica is None else replica.model
        same = model is not None and model.experiment.config.generation == stored.config.generation
        return described(stored, await asyncio.to_thread(model.loose_ranges) if model is not None and same else ())

    async def delete(self, name: str, *, if_match: int | None, confirm: str) -> None:
        """Delete an experiment: it is not served any more.

        Raises:
            Problem: confirmation_required, where neither a version nor its name confirms that it is meant.
        """
        if if_match is None and confirm != name:
            fault = Fault(
                "/query/confirm",
                "the experiment's name, or a version as If-Match",
                "another name" if confirm else "nothing",
            )
            await self._stored(name)
            raise Problem.of(Code.CONFIRMATION_REQUIRED, [fault])
        await self._change(name, None, if_match=if_match)

    async def page(self, limit: int, cursor: str) -> dict[str, Any]:
        """Experiments by name, a page at a time."""
        names = [name for name in await self.call(self.store.names) if name > cursor and GRANT.get().may_touch(name)]
        found: list[dict[str, Any]] = []
        size = 0
        for name in names:
            try:
                stored = await self.call(self.store.config, name)
            except CorruptLog:
                continue  # /readyz names it
            if stored is not None and not stored.config.deleted:
                if len(found) == limit or size > PAGE:
                    return {"experiments": found, "next": found[-1]["name"]}
                found.append(described(stored))
                size += len(msgspec.json.encode(stored.config.document))
        return {"experiments": found}

    async def arms(self, name: str, limit: int, cursor: int) -> dict[str, Any]:
        """What each arm has seen, by index from `cursor`, with the position of the log that it reflects."""
        replica = await self.replica(name)
        return await asyncio.to_thread(_arms, replica, limit, cursor)

    async def features(self, name: str) -> FeaturesAnswer:
        """What came of each feature in the newest decisions."""
        replica = await self.replica(name)
        found: FeaturesAnswer = await self.call(survey, self.store, experiment_of(replica), replica.position)
        return found

    async def arm(self, name: str, arm: str) -> dict[str, Any]:
        """One arm as the document has it, with what it has seen."""
        replica = await self.replica(name)
        experiment = experiment_of(replica)
        if arm not in experiment.arm_index and await self.newer(name, experiment):
            experiment = experiment_of(replica)
        if arm not in experiment.arm_index:
            raise no_arm(arm, experiment.arm_index)
        page: dict[str, Any] = await asyncio.to_thread(_arms, replica, 1, experiment.arm_index[arm])
        found: dict[str, Any] = page["arms"][0]
        return found | (_more_of(spec) if (spec := experiment.arms.get(arm)) else {})

    async def put_arms(self, name: str, data: bytes, *, dry_run: bool = False) -> dict[str, Any]:
        """Replace the list of arms."""
        with pointing_into("/arms"):
            if dry_run:
                return await self.would_change(name, with_arms(data))
            await self._change(name, with_arms(data))
        return described(await self._stored(name))

    async def put_arm(
        self, name: str, arm: str, data: bytes, *, merge: bool = False, dry_run: bool = False
    ) -> tuple[bool, dict[str, Any]]:
        """Add or replace one arm; with `merge`, change what the body names: (whether it is new, the arm)."""
        with pointing_into(r"/arms/\d+"):
            if dry_run:
                return False, await self.would_change(name, with_arm(arm, data, merge=merge))
            before = await self._change(name, with_arm(arm, data, merge=merge))
        found = await self.arm(name, arm)
        named = before is not None and names_arm(before.config.document, arm)
        return not named and found["status"] != "retired", found

    async def retire(self, name: str, arm: str) -> None:
        """Take an arm out of the document; what it has learned is kept."""
        await self._change(name, without_arm(arm))

    async def with_kind(self, kind: str) -> tuple[list[str], set[str]]:
        """(the experiments that have a kind of reward, by name; every kind that any has). What this server has not
        heard of is looked up.
        """
        found, kinds = [], set[str]()
        for name in filter(GRANT.get().may_touch, await self.call(self.store.names)):
            replica = self.follower.replicas.get(name)
            try:
                replica = replica or await self.replica(name)
            except Problem as problem:
                if problem.code != Code.EXPERIMENT_NOT_FOUND:
                    found.append(name)  # whatever is wrong with it is its answer
                continue
            config = replica.model.experiment.config if replica.model else replica.config
            known = set() if config is None or config.deleted else {*config.kinds}
            if kind in known:
                found.append(name)
            kinds |= known
        return found, kinds

    async def replica(self, name: str) -> Replica:
        """This server's replica of an experiment; one that it does not know yet is looked up in the store."""
        replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            if replica is not None and replica.failed is not None:
                raise unserved(name, replica.failed)
            stored = await self._look(name)
            await self._taken_up(stored.config)
            replica = self.follower.replicas.get(name)
        if replica is None or replica.model is None:
            raise Problem(Code.NOT_READY, f"experiment {name!r} is not loaded yet; try again in a second")
        return replica

    async def newer(self, name: str, tried: Experiment) -> bool:
        """Whether there is a later version than the one tried, in the store or here; it has then been taken up here."""
        stored = await self._look(name)
        if tried.config.version < stored.config.version:
            await self._taken_up(stored.config)
        replica = self.follower.replicas.get(name)
        return replica is not None and replica.model is not None and replica.model.experiment is not tried

    async def _look(self, name: str) -> Stored:
        """The experiment as the store has it now. Many bad requests cost few reads of it: those that come during a read
        share the next one, as the first may have begun before what they ask for was written.
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
            look.exception()  # so that an error is not reported as never retrieved

    async def _change(
        self, name: str, change: Change | None, *, reset: bool = False, if_match: int | None = None,
        create: bool = False,
    ) -> Stored | None:  # fmt: skip
        """Store and log what `change` makes of the document (None: delete); try again if another change comes first."""
        for _ in range(CONFLICTS):
            before, config = await self._made(name, change, reset=reset, if_match=if_match, create=create)
            if not config.deleted:
                await self._fits(config)  # last: it reserves
            ours = round(time.time() * 1000)
            done = await self.call(put_audited, self.store, config, before, ours, self._audit)
            if isinstance(done, Ahead):
                raise done.problem(ours)
            if done is not None:
                if config.deleted:
                    await self.call(self.store.account, {name: None})
                await self._taken_up(config)
                return before
        raise Problem(Code.OVERLOADED, f"experiment {name!r} is being changed by others; try again in a second")

    async def _made(
        self, name: str, change: Change | None, *, reset: bool, if_match: int | None, create: bool
    ) -> tuple[Stored | None, Config]:
        """(the experiment as the store has it, what `change` makes of it); nothing is stored yet."""
        before = await self._before(name, deleting=change is None)
        now = None if before is None or before.config.deleted else before.config.version
        if now is None and not create:
            raise self._unknown(name)
        _check_version(if_match, now)
        config = config_after(name, before, change, reset=reset)
        if not config.deleted:
            self._can_be_sent(config.document, before)
        return before, config

    async def _before(self, name: str, *, deleting: bool) -> Stored | None:
        """The experiment as the store has it; one that this version cannot read can still be deleted."""
        try:
            found: Stored | None = await self.call(self.store.config, name)
        except CorruptLog as error:
            if not deleting:
                raise unserved(name, error) from error
            found = await self.call(self.store.remains, name)
        return found

    async def _fits(self, config: Config) -> None:
        """Refuse a model that does not fit beside all others: a worker that loads it would run out of memory."""
        need, budget = model_bytes(*shape_of(config)), self.follower.budget
        others: int | None = await self.call(self.store.reserve, config.name, need, budget)
        if others is not None:
            raise self._too_large(need, others)

    def _too_large(self, need: int, others: int) -> Problem:
        most = f"{self.follower.budget >> 20} MiB for the models of all experiments (BANDIT_MODEL_MEMORY)"
        fault = Fault("/arms", f"arms x features^2 within {most}", f"{need >> 20} MiB beside {others >> 20}")
        detail = f"the experiment is too large: expected {fault.expected}, got {fault.got}"
        return Problem(Code.INVALID_EXPERIMENT, detail, [fault])

    def _can_be_sent(self, document: Document, before: Stored | None) -> None:
        """Refuse a document that has grown too large, arm by arm, to be sent back as GET gives it."""
        size, most = len(msgspec.json.encode(document)), self.body_limit
        if size > most and (before is None or size > len(msgspec.json.encode(before.config.document))):
            fault = Fault("", f"a document of at most {most} bytes, payloads included", f"{size} bytes")
            raise Problem.of(Code.INVALID_EXPERIMENT, [fault])

    async def _taken_up(self, config: Config) -> None:
        """Wait for this server's own replica, so that whoever changed an experiment finds it changed here."""
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
        known = [replica.name for replica in self.served() if GRANT.get().may_touch(replica.name)]
        return Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}{nearest(name, known)}")

    async def call(self, work: Callable[..., Any], *args: Any, run: Callable[..., Any] = asyncio.to_thread) -> Any:
        """Run a store's operation in a thread that `run` has; where the store cannot be used, raise a problem: at once
        where that is known, or those who come would wait for each other's deadlines.
        """
        if self.outage.away:
            raise self.outage.refusal()

        def asked() -> Any:
            if self.follower.away:
                raise StoreUnavailable("it did not answer the follower")
            return work(*args)

        try:
            return await run(asked)
        except (StoreUnavailable, StoreUnsuitable) as error:
            raise Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE) from error

    def served(self) -> list[Replica]:
        """The replicas that are served here, by name; the follower's thread may add to them meanwhile."""
        served = [replica for replica in list(self.follower.replicas.values()) if replica.model is not None]
        return sorted(served, key=lambda replica: replica.name)


def _check_version(if_match: int | None, now: int | None) -> None:
    if if_match == NO_VERSION:
        if now is not None:
            raise Problem(Code.PRECONDITION_FAILED, f"there is an experiment of that name already, version {now}")
        return
    if if_match is not None and (now is None or if_match not in (ANY_VERSION, now)):
        has = "no such experiment" if now is None else f"version {now}"
        raise Problem(Code.PRECONDITION_FAILED, f"If-Match asks for another version than is in force: there is {has}")


def _version(replica: Replica | None) -> int:
    """The version that is served; a replica knows its config a moment before it serves it."""
    if replica is None or replica.config is None:
        return 0
    if (model := replica.model) is not None:
        return model.experiment.config.version
    return replica.config.version if replica.config.deleted else 0


def experiment_of(replica: Replica) -> Experiment:
    """The version that is served; raises as `Replica.served`."""
    return replica.served.experiment


def _arms(replica: Replica, limit: int, cursor: int) -> dict[str, Any]:
    with replica.held() as model:
        experiment, position = model.experiment, replica.position
        n, totals = model.sums.n.copy(), model.sums.B[:, :, 0].copy()
    names = experiment.config.index[cursor : cursor + limit]
    rows = [_arm_row(experiment, name, int(n[i]), totals[i].tolist()) for i, name in enumerate(names, cursor)]
    more = {"next": str(cursor + limit)} if cursor + limit < len(experiment.config.index) else {}
    return {"arms": rows, "position": position.text().decode(), **more}


def _more_of(spec: ArmSpec) -> dict[str, Any]:
    """What the document says of an arm besides its name and status."""
    more = {"when": spec.when, "from": spec.since, "until": spec.until, "tags": spec.tags, "payload": spec.payload}
    return {name: value for name, value in more.items() if value is not UNSET}


def _arm_row(experiment: Experiment, name: str, n: int, totals: list[int]) -> dict[str, Any]:
    spec = experiment.arms.get(name)
    sums = [kind.value(total // ONE) for kind, total in zip(experiment.kinds, totals, strict=True)]
    rewards = {
        kind: {"sum": total, "mean": total / n if n else None}
        for kind, total in zip(experiment.config.kinds, sums, strict=True)
    }
    status = "retired" if spec is None else "paused" if spec.paused else "active"
    return {"arm": name, "status": status, "impressions": n, "rewards": rewards}
