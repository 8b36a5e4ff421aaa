"""While the store is away: who is refused, who is answered without it, and what its return finds."""

import asyncio
import time
from typing import Any

import pytest
from bench import SECRET, Bench, away, later, lost, played, refused, until

from bandit.errors import Code, Problem, StoreUnavailable
from bandit.log.records import START, unpack_decision
from bandit.serving.api import answers
from bandit.serving.batcher import NewDecision, Paused, Replayed, Unlogged
from bandit.serving.outage.watch import Outage
from bandit.serving.requests import read_recommendation

ANSWER = {"degraded": "answer"}


async def gone(bench: Bench) -> None:
    """The store is gone, and that is known; the decision it was noticed by is still under way."""
    bench.store.gone = True
    bench.ask().add_done_callback(lambda done: done.exception())
    await until(lambda: bench.outage.away)


async def back(bench: Bench) -> None:
    """The store is there again, and that is known."""
    bench.store.gone = False
    await until(lambda: not bench.outage.away)


def test_a_failed_append_is_noticed_and_new_requests_are_refused_at_once() -> None:
    """Nothing of them reaches the store, and they spend no number: when it is back numbers go on where they were."""

    async def play() -> None:
        bench = Bench()
        await bench.ask()
        bench.store.gone = True
        waits = bench.ask(decision_id="x")
        await until(lambda: bench.outage.away)
        for _ in range(300):
            with pytest.raises(Problem) as caught:
                bench.ask()
            assert caught.value.code == Code.STORE_UNAVAILABLE
        with pytest.raises(Problem):
            bench.feedback(decision_id="x")
        assert not waits.done()
        assert {batch.sequence for batch in bench.store.batches} == {1, 2}
        await back(bench)
        assert isinstance(await waits, NewDecision)  # the same bytes, under the same number
        assert isinstance(await bench.ask(), NewDecision)
        assert [batch.items for batch in bench.store.batches if batch.sequence == 2] == [
            bench.store.batches[1].items
        ] * sum(batch.sequence == 2 for batch in bench.store.batches)
        assert len({batch.producer for batch in bench.store.batches}) == 1
        assert bench.store.batches[-1].sequence == 3
        assert bench.store.logged() == 3

    played(play)


@pytest.mark.parametrize("plan", [lost, away])
def test_one_lost_reply_is_no_outage(plan: Any) -> None:
    """The probe that follows is answered: nobody is refused, and the same bytes go again."""

    async def play() -> None:
        bench = Bench()
        bench.store.plans = [plan]
        first = bench.ask()
        await until(lambda: len(bench.store.batches) == 1)
        answers = await asyncio.gather(first, *(bench.ask() for _ in range(20)))
        assert {type(answer) for answer in answers} == {NewDecision}
        assert not bench.outage.away
        assert bench.store.logged() == 21

    played(play)


def test_silence_is_noticed_and_what_is_under_way_stays_so() -> None:
    """A frozen store: refused after 4 x `store_patience`; when it wakes, what is under way is answered, sent once."""

    async def play() -> None:
        bench = Bench()
        bench.outage.patience = 0.05
        bench.store.frozen = asyncio.Event()
        begun = time.monotonic()
        waits = bench.ask()
        await until(lambda: bench.outage.away)
        assert time.monotonic() - begun >= 4 * 0.05
        with pytest.raises(Problem):
            bench.ask()
        bench.store.frozen.set()
        assert isinstance(await waits, NewDecision)
        assert not bench.outage.away  # an append that succeeds ends it too
        assert len(bench.store.batches) == bench.store.logged() == 1

    played(play)


def silent_for_good(bench: Bench) -> None:
    """From the first silence on it stays one, and does not become an outage."""
    bench.outage.patience = 0.05
    if bench.outage._timer is not None:  # which is set by the patience of before
        bench.outage._timer.cancel()
        bench.outage._timer = None
    bench.outage.noticed.append(lambda: setattr(bench.outage, "patience", 60))
    bench.store.frozen = asyncio.Event()


def test_a_short_silence_refuses_nobody() -> None:
    """A store that stood still for a moment: who would be refused waits, and is answered when it goes on."""

    async def play() -> None:
        bench = Bench()
        await bench.ask(decision_id="x")
        silent_for_good(bench)
        waits = [bench.ask()]
        await until(lambda: bench.outage.silent)
        waits += [bench.ask() for _ in range(50)]
        event = bench.feedback(decision_id="x")
        assert not bench.outage.away
        bench.store.frozen.set()
        assert {type(each) for each in await asyncio.gather(*waits)} == {NewDecision}
        assert (await event).judged.status == "accepted"
        assert not bench.outage.silent
        assert bench.outcomes == [None] * len(bench.outcomes)  # nothing of it is told as an outage

    played(play)


def test_in_a_short_silence_decisions_are_answered_and_feedback_waits() -> None:
    """With `answer`: unlogged at once, before it is an outage; what needs the store is served when that is heard."""

    async def play() -> None:
        bench = Bench(**ANSWER)
        await bench.ask(decision_id="x")
        silent_for_good(bench)
        first = bench.ask()
        await until(lambda: bench.store.batches[1:])
        behind, early = bench.ask(), bench.feedback(decision_id="x")
        assert isinstance(await first, Unlogged)
        assert isinstance(await behind, Unlogged)
        late = bench.feedback(decision_id="x")
        assert {type(await bench.ask()) for _ in range(3)} == {Unlogged}
        assert not bench.outage.away
        assert not early.done()
        assert not late.done()
        bench.store.frozen.set()
        assert {(await each).judged.status for each in (early, late)} == {"accepted", "duplicate"}
        assert isinstance(await bench.ask(), NewDecision)

    played(play)


def test_a_store_that_answers_slowly_is_not_away() -> None:
    """One append takes longer than the patience, and others are answered meanwhile: that is no silence."""

    async def play() -> None:
        bench, notices = Bench(), list[float]()
        bench.outage.patience = 1.0
        bench.outage.noticed.append(lambda: notices.append(time.monotonic()))
        bench.outage.began()
        for _ in range(30):
            bench.outage.began()
            await asyncio.sleep(0.05)
            bench.outage.ended()
        assert notices == []
        await until(lambda: notices)  # and the long one alone is silent from then on
        bench.outage.ended()

    played(play)


def test_one_probe_is_under_way_at_a_time_and_one_begins_each_100_ms() -> None:
    """However many requests come, and however long a probe takes."""

    async def play() -> None:
        bench = Bench()
        await gone(bench)
        before, begun = bench.store.probes, time.monotonic()
        await asyncio.sleep(0.35)
        assert 1 <= bench.store.probes - before <= (time.monotonic() - begun) / 0.1 + 1
        bench.store.frozen = asyncio.Event()  # it hangs from now on
        await asyncio.sleep(0.25)
        hanging = bench.store.probes
        await asyncio.sleep(0.25)
        assert bench.store.probes == hanging
        bench.store.gone = False
        bench.store.frozen.set()
        await until(lambda: not bench.outage.away)

    played(play)


def test_away_decisions_are_answered_unlogged_by_what_was_learned() -> None:
    """Arms and propensities as ever; no id, nothing logged; feedback is refused, as is a request that is at fault."""

    async def play() -> None:
        bench = Bench(**ANSWER, policy={"type": "linucb", "explore": 0.3})
        await bench.ask()
        await gone(bench)
        logged = bench.store.logged()
        told = [await bench.ask(decision_id="x") for _ in range(20)]
        assert {type(each) for each in told} == {Unlogged}
        rendered = [answers.recommendation(each) for each in told]
        assert {(each.decision_id, each.logged, each.replayed, each.degraded) for each in rendered} == {
            (None, False, False, True)
        }
        assert all(0 < each.arms[0].propensity <= 1 and each.arms[0].estimates for each in rendered)
        assert len((await bench.ask(k=2)).told.choice.arms) == 2
        with pytest.raises(Problem) as caught:
            bench.feedback(decision_id="x")
        assert caught.value.code == Code.STORE_UNAVAILABLE
        with pytest.raises(Problem) as caught:
            bench.ask({"context": {"age": "old"}})
        assert caught.value.code == Code.INVALID_CONTEXT
        assert bench.store.logged() == logged
        await back(bench)
        assert isinstance(await bench.ask(decision_id="x"), NewDecision)  # decided now: it never was
        assert isinstance(await bench.ask(decision_id="x"), Replayed)

    played(play)


def test_who_waits_when_it_is_noticed_is_answered_then() -> None:
    """Behind the append under way, and in it: with the arm that was drawn, which is what the log has if it arrived."""

    async def play() -> None:
        bench = Bench(**ANSWER, policy={"type": "uniform"})
        bench.outage.patience = 0.05
        bench.store.frozen = asyncio.Event()
        first = bench.ask(decision_id="x")
        await until(lambda: bench.store.batches)
        behind, event = bench.ask(), bench.feedback(decision_id="x")
        assert isinstance(await behind, Unlogged)
        told = await first
        assert isinstance(told, Unlogged)
        assert await refused(event) == Code.STORE_UNAVAILABLE
        bench.store.frozen.set()
        await until(lambda: not bench.outage.away)
        await until(bench.store.logged)
        (entry,) = bench.store.read("e", START, 10)[-1:]
        assert unpack_decision(entry.record).arms == told.told.choice.arms
        again = await bench.ask(decision_id="x")
        assert isinstance(again, Replayed)
        assert bench.store.logged() == 1

    played(play)


def test_paused_the_fallback_is_answered_while_the_store_is_away() -> None:
    """Whatever `degraded` says: nothing is decided."""

    async def play() -> None:
        bench = Bench(status="paused", fallback_arm="b")
        await gone(bench)
        told = await bench.ask(decision_id="x")
        assert isinstance(told, Paused)
        assert answers.recommendation(told).arms[0].arm == "b"

    played(play)


def test_a_change_during_the_outage_is_read_before_deciding() -> None:
    """Another version has come to the replica meanwhile: what waits is read by it, not by the one before."""

    async def play() -> None:
        bench = Bench(**ANSWER)
        await gone(bench)
        bench.store.change(degraded="answer", arms=["a", "d"])
        old = bench.experiment
        later(bench, 0.0)
        await until(lambda: bench.experiment is not old)
        told = {(await bench.ask(candidates=["d"])).told.experiment.config.index[3] for _ in range(3)}
        assert told == {"d"}
        waiting = bench.batcher.ask(
            lambda experiment: read_recommendation(experiment, b'{"context":{"age":1},"candidates":["c"]}', SECRET), old
        )
        assert await refused(waiting) == Code.NOT_ENOUGH_ARMS

    played(play)


def test_a_batch_that_runs_out_of_patience_answers_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a new name then; later requests are decided under that."""
    monkeypatch.setattr("bandit.serving.producer.PATIENCE", 0.3)

    async def play() -> None:
        bench = Bench(**ANSWER)
        bench.store.gone = True
        told = await bench.ask()
        assert isinstance(told, Unlogged)
        await bench.batcher.drain()
        bench.store.gone = False
        await until(lambda: not bench.outage.away)
        assert isinstance(await bench.ask(), NewDecision)
        assert bench.store.batches[-1].producer != bench.store.batches[0].producer
        assert bench.store.batches[-1].sequence == 1
        assert bench.store.logged() == 1

    played(play)


def test_closing_while_the_store_is_away_answers_who_waits() -> None:
    """`drain` returns once everybody has an answer."""

    async def play() -> None:
        bench = Bench(**ANSWER)
        await gone(bench)
        asked = [bench.ask() for _ in range(600)]
        await bench.batcher.drain()
        assert {type(each.result()) for each in asked} == {Unlogged}

    played(play)


def test_a_store_that_must_not_be_used_is_away() -> None:
    """It answers, and writes are refused by us: who is answered for is answered for then too."""

    async def play() -> None:
        bench, why = Bench(**ANSWER), [""]
        bench.batcher.outage = Outage(bench.store, unsuitable=lambda: why[0])
        assert isinstance(await bench.ask(), NewDecision)
        why[0] = "it evicts keys"
        assert isinstance(await bench.ask(), Unlogged)
        with pytest.raises(Problem, match="it evicts keys"):
            bench.feedback(decision_id="x")

    played(play)


def test_outcomes_of_writes_are_told() -> None:
    """Readiness depends on them: an error when it fails, None when it is back."""

    async def play() -> None:
        bench = Bench()
        await gone(bench)
        assert isinstance(bench.outcomes[0], StoreUnavailable)
        await back(bench)
        assert bench.outcomes[-1] is None

    played(play)
