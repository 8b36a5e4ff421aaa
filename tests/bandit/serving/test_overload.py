"""Past capacity: who is refused, when, and what it costs; those who are let in do not wait long."""

import asyncio
from typing import Any

import pytest
from bench import Bench, held, played, until

from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem
from bandit.serving.batcher import NewDecision
from bandit.serving.requests import read_recommendation
from bandit.serving.waiting.admission import BURST, CALM, FLOOR, MOST, Admission
from bandit.serving.waiting.gathered import AT_ONCE, Gathered


def paced(seconds: float = 1.0) -> Admission:
    """One whose work takes so many seconds for each that was estimated; it is the time 1."""
    admission = Admission(0.025)
    admission.served(0.0, 1.0, 1.0 / seconds)
    return admission


def test_nothing_is_refused_before_anything_was_measured() -> None:
    """How long work takes is not known then."""
    assert not Admission(0.025).refuses(1000.0, 0.0)


def test_a_standing_queue_is_refused_and_a_burst_is_not() -> None:
    """Until it has stood for `BURST`, or would wait for more than `MOST`."""
    admission = paced()
    assert not admission.refuses(0.1, 1.0)
    admission.left(0.1, 1.0)
    assert not admission.refuses(0.1, 0.99 + BURST)
    assert admission.refuses(0.1, 1.01 + BURST)
    assert paced().refuses(MOST + 0.01, 1.0)
    over = paced()
    over.left(0.1, 1.0)
    over.left(0.01, 1.05)  # it was short for a moment
    over.left(0.1, 1.06)
    assert not over.refuses(0.1, 1.04 + BURST)


def test_after_a_refusal_there_is_no_burst_until_it_has_been_calm() -> None:
    """Else overload would be let in again and again; a short queue is never refused."""
    admission = paced()
    assert admission.refuses(MOST + 0.1, 2.0)
    admission.left(0.0, 2.1)
    assert admission.refuses(0.03, 2.0 + CALM - 0.01)
    assert not admission.refuses(0.02, 2.0 + CALM)
    assert admission.refuses(0.03, 2.0 + 1.9 * CALM)
    assert not admission.refuses(0.03, 2.0 + 3 * CALM)


def test_the_pace_is_that_of_late_and_counts_overlapping_work_once() -> None:
    """A slower machine makes the same queue too long; two micro-batches at once take their time together."""
    slow = paced(10.0)
    assert slow.refuses(0.06, 1.0)
    for at in range(10):
        slow.served(2.0 + at, 2.1 + at, 0.1)
    assert not slow.refuses(0.06, 12.0)
    both = Admission(0.025)
    both.served(0.0, 0.2, 0.1)
    both.served(0.1, 0.3, 0.1)  # 0.3 s for 0.2 of estimated work
    assert both.refuses(1.0, 2.0)  # no bursts from now on
    assert both.refuses(0.017, 2.0)
    assert not both.refuses(0.0166, 2.0)


def overloaded(bench: Bench) -> None:
    """What is estimated takes ten thousand times as long."""
    bench.batcher.admission.served(0.0, 1.0, 1e-4)


def test_past_capacity_requests_are_refused_unread_and_those_that_wait_are_served() -> None:
    """`FLOOR` may wait in any case; a refusal spends no number, and is counted."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        overloaded(bench)
        bench.store.plans = [held(gate)]
        waiting = [bench.ask()]
        await asyncio.sleep(0.01)
        waiting += [bench.ask() for _ in range(FLOOR)]

        def unread(experiment: Experiment) -> Any:
            raise AssertionError("read")

        for _ in range(100):
            with pytest.raises(Problem) as caught:
                bench.batcher.ask(unread, bench.experiment)
            assert caught.value.code == Code.OVERLOADED
        gate.set()
        assert {type(answer) for answer in await asyncio.gather(*waiting)} == {NewDecision}
        assert bench.store.logged() == FLOOR + 1
        assert {batch.sequence for batch in bench.store.batches} <= {1, 2, 3}
        cells = bench.batcher.tally.counters.snapshot()["bandit_sheds_total"]
        assert cells["waiting",][0] == 100

    played(play)


def test_the_items_of_a_batch_wait_their_turn_and_no_single_request_is_refused_for_them() -> None:
    """They come as those before them are answered, so they are no sign of overload."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        overloaded(bench)
        bench.store.plans = [held(gate), held(gate)]
        data = b'{"context":{"age":1}}'
        reads = [(i, lambda experiment: read_recommendation(experiment, data, b"s" * 32)) for i in range(900)]
        gathered = Gathered(900)
        feeding = asyncio.create_task(gathered.feed(bench.batcher, reads, bench.experiment))
        await until(lambda: len(bench.store.batches) == 2 and bench.batcher.waiting > FLOOR)
        single = bench.ask()
        gate.set()
        assert isinstance(await single, NewDecision)
        await feeding
        assert {type(found) for found in await gathered.all()} == {NewDecision}

    played(play)


def test_batches_leave_room_for_those_who_come_alone() -> None:
    """Four batches of a thousand requests each, before a store that takes its time: nobody beside them is refused."""

    async def play() -> None:
        bench, gate = Bench(), asyncio.Event()
        await bench.ask()
        bench.store.plans = [held(gate), held(gate)]

        def read(experiment: Experiment) -> Any:
            return read_recommendation(experiment, b'{"context":{"age":1}}', b"s")

        batches = [Gathered(1000) for _ in range(4)]
        feeding = [
            asyncio.ensure_future(batch.feed(bench.batcher, enumerate([read] * 1000), bench.experiment))
            for batch in batches
        ]
        await until(lambda: len(bench.store.batches) == 3)
        await asyncio.sleep(0.05)
        assert bench.batcher.waiting <= AT_ONCE + len(batches)
        alone = [bench.ask() for _ in range(FLOOR)]
        gate.set()
        assert {type(each) for each in await asyncio.gather(*alone)} == {NewDecision}
        await asyncio.gather(*feeding)
        for batch in batches:
            assert {type(each) for each in await batch.all()} == {NewDecision}

    played(play)
