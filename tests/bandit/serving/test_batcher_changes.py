"""A batcher when its experiment changes under it: requests are read anew, and nothing is logged for an old version."""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from bench import SECRET, Bench, Store, away, later, played, refused

from bandit.core.experiment import Experiment
from bandit.errors import Code
from bandit.serving.batcher import NewDecision, Paused
from bandit.serving.requests import read_recommendation
from bandit.store.protocol import Batch, Reply, Stale


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batcher waits for 0.4 s instead of 4."""
    for module in ("batcher", "producer"):
        monkeypatch.setattr(f"bandit.serving.{module}.PATIENCE", 0.4)


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
    """A reset between the reading and the append: a context of the old features is refused, its micro-batch is not."""

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
        assert isinstance(await bench.ask(), NewDecision)
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
        assert isinstance(await bench.ask(), NewDecision)

    played(play)


def test_a_version_that_comes_between_reading_and_deciding_is_not_missed() -> None:
    """The model has taken the next version when the micro-batch decides: it reads again, and decides for that one."""

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
    """Read under the old version, at fault under the new one: the others of the micro-batch are served."""

    async def play() -> None:
        bench = Bench()
        gone, other = bench.ask(candidates=["a"], strict=True), bench.ask()
        bench.store.change(arms=["b", "c"])
        bench.replica.catch_up()
        assert await refused(gone) == Code.UNKNOWN_ARM
        assert (await other).experiment.config.version == 2

    played(play)


def test_a_request_that_cannot_even_be_read_again_fails_alone() -> None:
    """Whatever its reading raises is its own fault, not its micro-batch's."""

    async def play() -> None:
        bench = Bench()
        good = bench.ask()
        fine = read_recommendation(bench.experiment, b'{"context":{"age":1}}', SECRET)

        def read(experiment: Experiment) -> Any:
            if experiment.config.version == 1:
                return fine
            raise ZeroDivisionError

        bad = bench.batcher.ask(read, bench.experiment)
        bench.store.change(arms=["b", "c"])
        bench.replica.catch_up()
        with pytest.raises(ZeroDivisionError):
            await bad
        assert isinstance(await good, NewDecision)

    played(play)


def test_a_paused_experiment_decides_nothing_and_learns_from_what_was_decided_before() -> None:
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


@pytest.mark.parametrize("then", [{"status": "active"}, {"status": "paused", "fallback_arm": "c", "arms": ["a", "c"]}])
def test_whether_it_is_paused_still_the_store_is_asked(then: dict[str, Any]) -> None:
    """A server that lags showed an arm that was retired, and paused what had been resumed, after both were answered."""

    async def play() -> None:
        bench = Bench()
        bench.store.change(status="paused", fallback_arm="b")
        bench.replica.catch_up()
        bench.store.change(**then)
        asked = bench.ask()
        await asyncio.sleep(0.05)
        assert not asked.done()
        bench.replica.catch_up()
        answer = await asked
        if then["status"] == "active":
            assert isinstance(answer, NewDecision)
        else:
            assert answer.request.experiment.document.fallback_arm == "c"

    played(play)


def test_while_the_store_is_away_a_paused_experiment_is_answered_by_what_is_known() -> None:
    """At once: there is nothing to wait for."""

    async def play() -> None:
        bench = Bench()
        bench.store.change(status="paused", fallback_arm="b")
        bench.replica.catch_up()
        bench.store.plans = [away]
        assert isinstance(await asyncio.wait_for(bench.ask(), 1), Paused)

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
