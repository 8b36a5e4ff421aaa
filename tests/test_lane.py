"""A lane over a store that is slow, away, forgetful or ahead: nothing is lost or doubled, and everybody is answered."""

import asyncio
import itertools
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from bandit.errors import Code, Problem, StoreUnavailable
from bandit.experiment import Experiment, first, parse_document, revise
from bandit.lane import Credited, Lane, Paused, Replayed, Told
from bandit.log import START
from bandit.memory_store import MemoryStore
from bandit.replica import Replica
from bandit.requests import read_activation, read_feedback, read_recommendation
from bandit.store import Batch, Gap, Judged, Reply, Stale

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

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """As planned."""
        self.batches.append(batch)
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
    """A lane on such a store."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom, **document: Any) -> None:
        self.store, self.gaps = Store(), 0
        self.store.put(first("e", parse_document(json.dumps(DOCUMENT | document).encode())), None)
        self.replica = Replica("e", self.store)
        self.replica.load()
        self.replica.catch_up()
        self.lane = Lane(self.replica, self.store, GRACE, entropy, self._gap)

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
        return self.lane.enqueue(lambda experiment: read(experiment, data, SECRET), self.experiment)

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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane waits for 0.4 s instead of 4."""
    monkeypatch.setattr("bandit.lane.PATIENCE", 0.4)


def test_a_tick_serves_decisions_feedback_and_activations_together() -> None:
    """One append for all that gathered; each gets its own answer, in whatever order they came."""

    async def play() -> None:
        bench = Bench()
        await asyncio.gather(bench.ask(decision_id="x"), bench.ask(decision_id="waits", defer=True))
        answers = await asyncio.gather(
            bench.feedback(decision_id="x"),
            bench.ask(k=2),
            bench.ask({"decision_id": "waits"}, read_activation),
            bench.ask(decision_id="x"),
            bench.feedback(decision_id="never"),
            bench.ask(decision_id="new"),
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [Credited, Told, Judged, Replayed, Credited, Told]
        assert [len(answer.choice.arms) for answer in answers if isinstance(answer, Told)] == [2, 1]
        assert [len(batch.items) for batch in bench.store.batches] == [2, 6]
        assert (answers[0].judged.status, answers[2].status, answers[4].judged.status) == (
            "accepted",
            "activated",
            "unknown",
        )

    played(play)


def test_what_comes_during_an_append_goes_with_the_next_one() -> None:
    """One append is under way at a time; the next serves all who came meanwhile, up to a tick's size."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        bench.store.plans = [held(gate)]
        answers = [bench.ask()]
        await asyncio.sleep(0)
        answers += [bench.ask() for _ in range(300)]
        await asyncio.sleep(0.01)
        assert len(bench.store.batches) == 1
        gate.set()
        await asyncio.gather(*answers)
        assert [len(batch.items) for batch in bench.store.batches] == [1, 256, 44]
        assert [batch.sequence for batch in bench.store.batches] == [1, 2, 3]
        assert len({batch.producer for batch in bench.store.batches}) == 1

    played(play)


@pytest.mark.parametrize("plans", [[lost], [away], [away, lost, away], [lost, lost, lost]])
def test_the_same_bytes_go_again_under_the_same_number(plans: list[Plan]) -> None:
    """Whether it arrived or not: one entry, and the answer as if nothing had happened."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = list(plans)
        told, credited = await asyncio.gather(bench.ask(decision_id="x"), bench.feedback(decision_id="x"))
        assert isinstance(told, Told)
        assert (credited.judged.status, credited.judged.credited) == ("accepted", 1_000_000)
        assert len(bench.store.batches) == len(plans) + 1
        assert all(batch == bench.store.batches[0] for batch in bench.store.batches)
        assert (bench.store.logged(), bench.store.logged(b"f")) == (1, 1)
        await bench.ask()
        assert bench.store.batches[-1].sequence == 2

    played(play)


def test_when_patience_ends_it_is_503_and_the_producer_has_a_new_name() -> None:
    """The number's fate is unknown, so neither it nor its name is used again; what was written stays written."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [lost] + [away] * 50
        begun = time.monotonic()
        assert await refused(bench.ask(decision_id="x")) == Code.STORE_UNAVAILABLE
        assert 0.2 < time.monotonic() - begun < 5
        bench.store.plans = []
        again = await bench.ask(decision_id="x")  # what the client does: the same request again
        assert isinstance(again, Replayed)
        before, after = bench.store.batches[0], bench.store.batches[-1]
        assert (before.sequence, after.sequence) == (1, 1)
        assert before.producer != after.producer
        assert bench.store.logged() == 1

    played(play)


def test_whoever_waits_behind_an_outage_is_answered_too() -> None:
    """Three ticks' worth of requests: none waits for longer than its own patience and one try of the store's."""

    async def play() -> None:
        bench = Bench()

        async def slow(store: Store, name: str, batch: Batch) -> Reply:
            await asyncio.sleep(0.2)
            raise StoreUnavailable("away")

        bench.store.plans = [slow] * 100
        begun = time.monotonic()
        codes = await asyncio.gather(*(refused(bench.ask()) for _ in range(700)))
        assert set(codes) == {Code.STORE_UNAVAILABLE}
        assert time.monotonic() - begun < 2
        assert len(bench.store.batches) < 5  # who has waited too long is not sent any more
        bench.store.plans = []
        assert isinstance(await bench.ask(), Told)

    played(play)


def test_a_gap_is_503_alarms_and_takes_a_new_name(caplog: pytest.LogCaptureFixture) -> None:
    """Acknowledged data has vanished: it is logged as an error, the replica is to be checked, nothing was written."""

    async def play() -> None:
        bench = Bench()
        await bench.ask()
        bench.store.plans = [forgetful]
        assert await refused(bench.ask(decision_id="x")) == Code.STORE_UNAVAILABLE
        assert bench.gaps == 1
        assert "forgotten acknowledged writes" in caplog.text
        assert isinstance(await bench.ask(decision_id="x"), Told)
        producers = [batch.producer for batch in bench.store.batches]
        assert producers[0] == producers[1] != producers[2]
        assert bench.store.batches[2].sequence == 1

    with caplog.at_level(logging.ERROR):
        played(play)


def test_an_unforeseen_fault_fails_its_tick_alone_and_its_number_is_spent() -> None:
    """A part of it may have been written: the next tick has another name, and works."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [broken]
        with pytest.raises(RuntimeError):
            await bench.ask()
        assert isinstance(await bench.ask(), Told)
        assert bench.store.batches[0].producer != bench.store.batches[1].producer

    played(play)


def later(bench: Bench, seconds: float = 0.05) -> None:
    """The replica hears of the change after a while."""

    def hear() -> None:
        bench.replica.catch_up()

    asyncio.get_running_loop().call_later(seconds, hear)


def test_a_stale_schema_makes_the_lane_read_and_decide_anew() -> None:
    """Another server added a kind: nothing is written under the old schema, the number is used for the new one."""

    async def play() -> None:
        bench = Bench()
        await bench.ask(decision_id="x")
        bench.store.change(rewards={"click": {}, "sale": {}})
        later(bench)
        told, credited = await asyncio.gather(bench.ask(), bench.feedback(decision_id="x"))
        assert (told.experiment.config.version, len(told.experiment.kinds)) == (2, 2)
        assert credited.judged.credited == 1_000_000
        batches = bench.store.batches
        assert [batch.rules.schema for batch in batches] == [1, 1, 2]
        assert [batch.sequence for batch in batches] == [1, 2, 2]
        bench.replica.catch_up()
        assert bench.replica.failed is None
        assert bench.experiment.config.version == 2

    played(play)


def test_features_changed_meanwhile_are_read_anew_each_request_for_itself() -> None:
    """A reset between the reading and the append: a context of the old features is refused, its tick is not."""

    async def play() -> None:
        bench = Bench(features=[])
        bench.store.change(reset=True, features=[{"name": "new", "type": "boolean"}])
        later(bench)
        old, feedback = bench.ask({}), bench.feedback(decision_id="x")
        assert await refused(old) == Code.INVALID_REQUEST
        assert (await feedback).judged.status == "unknown"
        assert bench.store.logged() == 0
        told = await bench.ask({"context": {"new": True}})
        assert told.experiment.config.generation == 2

    played(play)


def test_a_change_that_does_not_come_is_503_and_uses_no_number() -> None:
    """The replica stays behind for too long; then the same number goes with what was read anew."""

    async def play() -> None:
        bench = Bench()
        bench.store.change(rewards={"click": {}, "sale": {}})
        assert await refused(bench.ask()) == Code.STORE_UNAVAILABLE
        bench.replica.catch_up()
        assert isinstance(await bench.ask(), Told)
        assert len({(batch.producer, batch.sequence) for batch in bench.store.batches}) == 1
        assert bench.store.logged() == 1

    played(play)


def test_an_experiment_that_changes_all_the_time_is_given_up() -> None:
    """A client is not kept for ever by others' changes."""

    async def play() -> None:
        bench, kinds = Bench(), itertools.count()

        async def changed(store: Store, name: str, batch: Batch) -> Reply:
            store.change(rewards={"click": {}, f"kind-{next(kinds)}": {}})
            bench.replica.catch_up()
            return Stale()

        bench.store.plans = [changed] * 20
        assert await refused(bench.ask()) in (Code.OVERLOADED, Code.STORE_UNAVAILABLE)
        bench.store.plans = []
        assert isinstance(await bench.ask(), Told)

    played(play)


def test_a_version_that_comes_between_reading_and_deciding_is_not_missed() -> None:
    """The model has taken the next version when the tick decides: it reads again, and decides for that one."""

    async def play() -> None:
        changes: list[Callable[[], None]] = []

        def entropy(size: int) -> bytes:
            if size == 16 and changes:  # a decision draws its number: the last moment before the model is asked
                changes.pop()()
            return os.urandom(size)

        bench = Bench(entropy)

        def change() -> None:
            bench.store.change(arms=["b"])
            bench.replica.catch_up()

        changes.append(change)
        told = await bench.ask()
        assert (told.experiment.config.version, told.choice.arms) == (2, (1,))
        assert [len(batch.items) for batch in bench.store.batches] == [1]

    played(play)


def test_an_arm_that_was_retired_meanwhile_fails_its_own_request() -> None:
    """Read under the old version, at fault under the new one: the others of the tick are served."""

    async def play() -> None:
        bench = Bench()
        gone, other = bench.ask(candidates=["a"]), bench.ask()
        bench.store.change(arms=["b", "c"])
        bench.replica.catch_up()
        assert await refused(gone) == Code.UNKNOWN_ARM
        assert (await other).experiment.config.version == 2

    played(play)


def test_a_request_that_cannot_even_be_read_again_fails_alone() -> None:
    """Whatever its reading raises is its own fault, not its tick's."""

    async def play() -> None:
        bench = Bench()
        good = bench.ask()
        fine = read_recommendation(bench.experiment, b'{"context":{"age":1}}', SECRET)

        def read(experiment: Experiment) -> Any:
            if experiment.config.version == 1:
                return fine
            raise ZeroDivisionError

        bad = bench.lane.enqueue(read, bench.experiment)
        bench.store.change(arms=["b", "c"])
        bench.replica.catch_up()
        with pytest.raises(ZeroDivisionError):
            await bad
        assert isinstance(await good, Told)

    played(play)


def test_a_client_that_goes_does_not_break_its_tick() -> None:
    """Gone before the tick it is not even decided for; gone during the append its answer is dropped."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        bench.store.plans = [held(gate)]
        early, stays = bench.ask(decision_id="early"), bench.ask(decision_id="stays")
        early.cancel()
        await asyncio.sleep(0.01)
        assert [item.caller for item in bench.store.batches[0].items if hasattr(item, "caller")] == [b"stays"]
        behind = bench.ask(decision_id="behind")
        stays.cancel()
        gate.set()
        assert isinstance(await behind, Told)
        assert bench.store.logged() == 2

    played(play)


def test_everybody_gone_costs_no_append() -> None:
    """A tick of cancelled requests is none."""

    async def play() -> None:
        bench = Bench()
        for answer in [bench.ask() for _ in range(10)]:
            answer.cancel()
        await bench.lane.drain()
        assert bench.store.batches == []

    played(play)


def test_overload_is_told_at_once_and_before_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue refuses without looking at the request; those in it are served."""
    monkeypatch.setattr("bandit.lane.WAITING", 10)

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        bench.store.plans = [held(gate)]
        waiting = [bench.ask()]
        await asyncio.sleep(0.01)
        waiting += [bench.ask() for _ in range(10)]

        def unread(experiment: Experiment) -> Any:
            raise AssertionError("read")

        for _ in range(100):
            with pytest.raises(Problem) as caught:
                bench.lane.enqueue(unread, bench.experiment)
            assert caught.value.code == Code.OVERLOADED
        gate.set()
        assert all(isinstance(answer, Told) for answer in await asyncio.gather(*waiting))
        assert isinstance(await bench.ask(), Told)

    played(play)


def test_draining_answers_everybody() -> None:
    """Several ticks' worth of requests, some of them behind an outage: after `drain` each has its answer."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [away, lost]
        answers = [bench.ask() for _ in range(600)]
        await bench.lane.drain()
        assert all(answer.done() for answer in answers)
        assert bench.store.logged() == 600
        await bench.lane.drain()

    played(play)


def test_a_paused_experiment_is_answered_without_the_store() -> None:
    """Nothing is drawn or appended for a recommendation; feedback goes on."""

    async def play() -> None:
        bench = Bench()
        await bench.ask(decision_id="x")
        bench.store.change(status="paused", fallback_arm="b")
        bench.replica.catch_up()
        paused, credited = await asyncio.gather(bench.ask(), bench.feedback(decision_id="x"))
        assert isinstance(paused, Paused)
        assert credited.judged.status == "accepted"
        assert [len(batch.items) for batch in bench.store.batches] == [1, 1]

    played(play)


def test_an_experiment_that_has_ended_is_404() -> None:
    """Deleted by another server: the store refuses, the replica hears of it, the caller too."""

    async def play() -> None:
        bench = Bench()
        before = bench.store.config("e")
        assert before is not None
        bench.store.put(msgspec.structs.replace(before.config, version=2, deleted=True), before)
        later(bench)
        assert await refused(bench.ask()) == Code.EXPERIMENT_NOT_FOUND

    played(play)


def test_a_producer_that_was_silent_for_a_day_takes_a_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last number may be forgotten by the store, which is no gap."""

    async def play() -> None:
        bench = Bench()
        await bench.ask()
        await bench.ask()
        monkeypatch.setattr("bandit.lane.IDLE", -1.0)
        await bench.ask()
        named = [(batch.producer, batch.sequence) for batch in bench.store.batches]
        assert named[0][0] == named[1][0] != named[2][0]
        assert [sequence for _, sequence in named] == [1, 2, 1]

    played(play)


def test_what_is_logged_is_what_was_drawn_with() -> None:
    """The record's number and propensity are the draw's: the same entropy gives the same decision."""

    async def play() -> None:
        def entropy(size: int) -> bytes:
            return bytes(range(size % 256)) if size < 256 else bytes(size)

        one, other = Bench(entropy), Bench(entropy)
        for _ in range(5):
            left, right = await one.ask(), await other.ask()
            assert (left.choice, left.nonce) == (right.choice, right.nonce)

    played(play)
