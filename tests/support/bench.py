"""A batcher over a store in memory that is slow, away, forgetful or ahead, as a test plans it."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from bandit.core.experiment import Experiment
from bandit.core.revision import first, revise
from bandit.core.validation import parse_document
from bandit.errors import Code, Problem, StoreUnavailable
from bandit.log.records import START
from bandit.replica.replica import Replica
from bandit.serving.batcher import Batcher
from bandit.serving.feedback import read_feedback
from bandit.serving.outage.watch import Outage
from bandit.serving.requests import read_recommendation
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Batch, Gap, Reply

DOCUMENT: dict[str, Any] = {
    "features": [{"name": "age", "type": "number", "mean": 40, "scale": 12}],
    "rewards": {"click": {}},
    "arms": ["a", "b", "c"],
}
SECRET = b"s" * 32
GRACE = 86_400_000

Plan = Callable[["Store", str, Batch], Awaitable[Reply]]


class Store(MemoryStore):
    """A store in memory whose appends go as `plans` say, one after the other, and then as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[Plan] = []
        self.batches: list[Batch] = []
        self.probes = 0
        self.gone = False  # connections are refused
        self.frozen: asyncio.Event | None = None  # nothing is done before it is set

    async def _reached(self) -> None:
        if self.frozen is not None:
            await self.frozen.wait()
        if self.gone:
            raise StoreUnavailable("gone")

    async def probe_async(self) -> None:
        """Succeeds where an append would arrive."""
        self.probes += 1
        await self._reached()

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """As planned."""
        self.batches.append(batch)
        await self._reached()
        return await (self.plans.pop(0)(self, name, batch) if self.plans else usual(self, name, batch))

    def change(self, reset: bool = False, **changes: Any) -> None:
        """Another server changes the experiment."""
        before = self.config("e")
        assert before is not None
        document = parse_document(json.dumps(DOCUMENT | changes).encode())
        config = revise(before.config, document, learned=before.learned, reset=reset)
        assert self.put(config, before) is not None

    def logged(self, tag: bytes = b"d") -> int:
        """How many entries of a kind the log has."""
        return sum(entry.tag == tag for entry in self.read("e", START, 10_000))


async def usual(store: Store, name: str, batch: Batch) -> Reply:
    """As a store does."""
    return store.append(name, batch)


async def away(store: Store, name: str, batch: Batch) -> Reply:
    """It did not arrive."""
    raise StoreUnavailable("away")


async def lost(store: Store, name: str, batch: Batch) -> Reply:
    """It was written, and the answer got lost."""
    store.append(name, batch)
    raise StoreUnavailable("no answer")


async def forgetful(store: Store, name: str, batch: Batch) -> Reply:
    """Acknowledged data has vanished."""
    return Gap(0)


async def broken(store: Store, name: str, batch: Batch) -> Reply:
    """A fault that nobody thought of."""
    raise RuntimeError("a fault")


def held(gate: asyncio.Event) -> Plan:
    """It takes as long as the gate is closed."""

    async def wait(store: Store, name: str, batch: Batch) -> Reply:
        await gate.wait()
        return store.append(name, batch)

    return wait


class Bench:
    """A batcher on such a store."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom, **document: Any) -> None:
        self.store, self.gaps = Store(), 0
        self.outcomes: list[Exception | None] = []  # of writes
        self.store.put(first("e", parse_document(json.dumps(DOCUMENT | document).encode())), None)
        self.replica = Replica("e", self.store)
        self.replica.load()
        self.replica.catch_up()
        self.outage = Outage(self.store, self.outcomes.append, 30.0)  # a busy machine is no outage
        self.batcher = Batcher(self.replica, self.store, GRACE, entropy, self._gap, self.outage)

    def _gap(self) -> None:
        self.gaps += 1

    @property
    def experiment(self) -> Experiment:
        """The version that the replica has."""
        assert self.replica.model is not None
        return self.replica.model.experiment

    def ask(self, body: Any = None, read: Any = read_recommendation, **more: Any) -> "asyncio.Future[Any]":
        """One request."""
        data = msgspec.json.encode(({"context": {"age": 1}} if body is None else body) | more)
        return self.batcher.ask(lambda experiment: read(experiment, data, SECRET), self.experiment)

    def feedback(self, **body: Any) -> "asyncio.Future[Any]":
        """Feedback of a click."""
        return self.ask({"event": "click"}, read_feedback, **body)


def played(play: Callable[[], Awaitable[None]]) -> None:
    """Runs a test on a loop of its own, for 20 s at most."""
    asyncio.run(asyncio.wait_for(play(), 20))  # type: ignore[arg-type]


async def refused(answer: "asyncio.Future[Any]") -> Code:
    """The code of the problem that this ends in."""
    with pytest.raises(Problem) as caught:
        await answer
    return caught.value.code


async def until(true: Callable[[], Any]) -> None:
    """Wait until something is so; `played` ends it when it never is."""
    while not true():  # noqa: ASYNC110 - it is no event
        await asyncio.sleep(0.002)


def later(bench: Bench, seconds: float = 0.05) -> None:
    """The replica hears of the change after a while."""

    def hear() -> None:
        bench.replica.catch_up()

    asyncio.get_running_loop().call_later(seconds, hear)
