"""A batcher when its store is slow, away or forgetful: nothing is lost or doubled, and everybody is answered."""

import asyncio
import logging
import time
from typing import Any

import pytest
from bench import Bench, Plan, Store, away, broken, forgetful, held, lost, played, refused

from bandit.core.engine import Model
from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem, StoreUnavailable
from bandit.serving.batcher import ALONGSIDE, PRODUCERS, Credited, NewDecision, Replayed
from bandit.serving.feedback import read_activation
from bandit.store.protocol import Batch, Outcome, Reply


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batcher waits for 0.4 s instead of 4."""
    for module in ("batcher", "producer"):
        monkeypatch.setattr(f"bandit.serving.{module}.PATIENCE", 0.4)


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
        assert kinds == [Credited, NewDecision, Outcome, Replayed, Credited, NewDecision]
        assert [len(answer.choice.arms) for answer in answers if isinstance(answer, NewDecision)] == [2, 1]
        assert [len(batch.items) for batch in bench.store.batches] == [2, 6]
        assert (answers[0].judged.status, answers[2].status, answers[4].judged.status) == (
            "accepted",
            "activated",
            "unknown",
        )

    played(play)


@pytest.mark.parametrize(("more", "sizes"), [(7, [1, 7]), (300, [1, 256, 44])])
def test_few_wait_for_the_append_under_way_and_many_go_beside_it(more: int, sizes: list[int]) -> None:
    """A second micro-batch has a producer of its own; what comes during both goes with the next that begins."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        bench.store.plans = [held(gate), held(gate)]
        answers = [bench.ask()]
        await asyncio.sleep(0)
        answers += [bench.ask() for _ in range(more)]
        await asyncio.sleep(0.01)
        beside = more >= ALONGSIDE
        assert len(bench.store.batches) == (2 if beside else 1)
        gate.set()
        await asyncio.gather(*answers)
        assert [len(batch.items) for batch in bench.store.batches] == sizes
        named: dict[str, list[int]] = {}
        for batch in bench.store.batches:
            named.setdefault(batch.producer, []).append(batch.sequence)
        assert len(named) == (2 if beside else 1)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in named.values())

    played(play)


def test_micro_batches_beside_each_other_take_no_more_work_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store runs their scripts one after the other: whoever comes behind waits for both."""
    monkeypatch.setattr("bandit.serving.batcher.PATIENCE", 60)  # a large process of tests may stand still for seconds

    async def play() -> None:
        bench, gate = Bench(arms=[f"a{i}" for i in range(1000)]), asyncio.Event()
        bench.store.plans = [held(gate)]
        answers = [bench.ask(k=1000, defer=True) for _ in range(14)]  # as much as a micro-batch may take, and more
        await asyncio.sleep(0.01)
        begun = [len(batch.items) for batch in bench.store.batches]
        assert len(begun) == 1
        assert 14 - begun[0] >= ALONGSIDE  # so many wait, and each is too much
        gate.set()
        await asyncio.gather(*answers)
        assert sum(len(batch.items) for batch in bench.store.batches) == 14

    played(play)


@pytest.mark.parametrize("plans", [[lost], [away], [away, lost, away], [lost, lost, lost]])
def test_the_same_bytes_go_again_under_the_same_number(plans: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it arrived or not: one entry, and the answer as if nothing had happened."""
    monkeypatch.setattr("bandit.serving.producer.PATIENCE", 60)  # a large process of tests may stand still for seconds

    async def play() -> None:
        bench = Bench()
        bench.store.plans = list(plans)
        told, credited = await asyncio.gather(bench.ask(decision_id="x"), bench.feedback(decision_id="x"))
        assert isinstance(told, NewDecision)
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
    """Three micro-batches' worth: no request waits for longer than its own patience and one try of the store's."""

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
        assert (
            len(bench.store.batches) <= 2 * PRODUCERS
        )  # of the first micro-batches: who has waited too long is not sent any more
        bench.store.plans = []
        assert isinstance(await bench.ask(), NewDecision)

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
        assert isinstance(await bench.ask(decision_id="x"), NewDecision)
        producers = [batch.producer for batch in bench.store.batches]
        assert producers[0] == producers[1] != producers[2]
        assert bench.store.batches[2].sequence == 1

    with caplog.at_level(logging.ERROR):
        played(play)


def test_an_unforeseen_fault_fails_its_tick_alone_and_its_number_is_spent() -> None:
    """A part of it may have been written: the next micro-batch has another name, and works."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [broken]
        with pytest.raises(RuntimeError):
            await bench.ask()
        assert isinstance(await bench.ask(), NewDecision)
        assert bench.store.batches[0].producer != bench.store.batches[1].producer

    played(play)


def test_a_decision_that_cannot_be_made_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came with it are decided, each by itself: nothing had been written."""
    decide = Model.decide

    def failing(model: Model, experiment: Any, x: Any, eligible: Any, ks: Any, *more: Any) -> Any:
        if 3 in ks:
            raise ZeroDivisionError("a fault of ours")
        return decide(model, experiment, x, eligible, ks, *more)

    monkeypatch.setattr(Model, "decide", failing)

    async def play() -> None:
        bench = Bench()
        asked = bench.ask(), bench.ask(k=3), bench.ask(k=2), bench.feedback(decision_id="never")
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in answers] == [False, True, False, False]
        assert bench.store.logged() == 2

    played(play)


def test_a_client_that_goes_does_not_break_its_micro_batch() -> None:
    """Gone before the micro-batch it is not even decided for; gone during the append its answer is dropped."""

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
        assert isinstance(await behind, NewDecision)
        assert bench.store.logged() == 2

    played(play)


def test_everybody_gone_costs_no_append() -> None:
    """A micro-batch of cancelled requests is none."""

    async def play() -> None:
        bench = Bench()
        for answer in [bench.ask() for _ in range(10)]:
            answer.cancel()
        await bench.batcher.drain()
        assert bench.store.batches == []

    played(play)


def test_overload_is_told_at_once_and_before_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue refuses without looking at the request; those in it are served."""
    monkeypatch.setattr("bandit.serving.batcher.WAITING", 10)

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
                bench.batcher.ask(unread, bench.experiment)
            assert caught.value.code == Code.OVERLOADED
        gate.set()
        assert all(isinstance(answer, NewDecision) for answer in await asyncio.gather(*waiting))
        assert isinstance(await bench.ask(), NewDecision)

    played(play)


def test_draining_answers_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several micro-batches' worth of requests, some of them behind an outage: after `drain` each has its answer."""
    for module in ("batcher", "producer"):  # a machine that stands still for seconds is another test's
        monkeypatch.setattr(f"bandit.serving.{module}.PATIENCE", 60.0)

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [away, lost]
        answers = [bench.ask() for _ in range(600)]
        await bench.batcher.drain()
        assert all(answer.done() for answer in answers)
        assert bench.store.logged() == 600
        await bench.batcher.drain()

    played(play)


def test_a_producer_that_was_silent_for_a_day_takes_a_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last number may be forgotten by the store, which is no gap."""

    async def play() -> None:
        bench = Bench()
        await bench.ask()
        await bench.ask()
        monkeypatch.setattr("bandit.serving.producer.IDLE", -1.0)
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


def test_what_may_mean_a_long_list_is_estimated_by_it() -> None:
    """An activation of a list of a thousand takes the store as long as a dozen decisions: fewer of them go together."""

    async def play() -> None:
        bench = Bench(arms=[f"a{i}" for i in range(1000)])
        await bench.ask(decision_id="long", k=1000, defer=True)
        short = bench.ask({"decision_id": "long"}, read_activation)
        before = bench.batcher.work
        bench.replica.catch_up()
        assert bench.replica.longest == 1000
        bench.feedback(decision_id="long", event="click")
        assert bench.batcher.work - before > 10 * before
        await short

    played(play)
