"""The log as rows: every entry, in words of the experiment it was written under."""

from datetime import UTC, datetime
from itertools import islice

import msgspec
import pytest
import redis
from trial import CLICK, FULL, HOUR, SALE, Trial, at

from bandit.core.times import time_of
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.records import Position, decision_id
from bandit.replica import export as exporting
from bandit.replica.export import export
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store
from bandit.store.redis_store import RedisStore


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment of two kinds, click and sale."""
    return Trial(store, name)


def test_a_row_says_what_was_decided_and_with_which_probability(trial: Trial) -> None:
    """By hand: arms and kinds by name, the context as it was sent, propensities, and the id that clients know."""
    ref = trial.decide(2, 0, x=(4096, 2048), user="u", deferred=True)
    row = list(export(trial.store, trial.name))[1]
    assert row == {
        "type": "decision",
        "decision_id": decision_id(0, at(ref), ref.nonce),
        "arms": [
            {"arm": "c", "propensity": 0.25, "marginal": 0.25},
            {"arm": "a", "propensity": 0.25, "marginal": 0.25},
        ],
        "eligible": [{"arm": arm, "probability": 0.25} for arm in "abcd"],
        "user": "u".rjust(16, "-").encode().hex(),
        "slice": None,
        "deferred": True,
        "experiment_version": 1,
        "generation": 1,
        "context": {"age": 0.5},
        "u": 0.5,
        "model_position": "0-0",
        "time": row["time"],
        "position": ref.entry.decode(),
    }
    assert datetime.fromisoformat(row["time"]) == datetime.fromtimestamp(at(ref).ms / 1000, UTC)


def test_feedback_and_activations_name_their_decision(trial: Trial) -> None:
    """By its caller's name where it has one; values and credits are rewards, not units."""
    ref = trial.decide(1, caller="order 7", deferred=True)
    trial.feed(ref, FULL // 4, CLICK, "e1")
    trial.feed(ref, -9, SALE)
    changed, decided, activated, clicked, sold = export(trial.store, trial.name)
    assert [row["type"] for row in (changed, decided, activated, clicked, sold)] == [
        "experiment",
        "decision",
        "activation",
        "feedback",
        "feedback",
    ]
    assert decided["decision_id"] == activated["decision_id"] == clicked["decision_id"] == "order 7"
    shown = {key: clicked[key] for key in ("arm", "event", "event_id", "value", "credited")}
    assert shown == {"arm": "b", "event": "click", "event_id": "e1", "value": 0.25, "credited": 0.25}
    assert (sold["event"], sold["event_id"], sold["value"], sold["credited"]) == ("sale", "sale", -9.0, -9.0)


def test_what_was_credited_is_not_what_was_sent(trial: Trial) -> None:
    """45 and then 30 under `last`: the second row's value is 30, its credit -15."""
    trial.change(rewards={"sale": {"range": [-50, 50], "unit": 1, "aggregation": "last"}})
    ref = trial.decide()
    for value in (45, 30):
        trial.feed(ref, value, 0)
    rows = [row for row in export(trial.store, trial.name) if row["type"] == "feedback"]
    assert [(row["value"], row["credited"], row["event_id"]) for row in rows] == [
        (45.0, 45.0, None),
        (30.0, -15.0, None),
    ]


def test_every_generation_is_told_in_its_own_words(trial: Trial) -> None:
    """Arms, kinds and features as they were then, through resets, retirements, deletion and a new creation."""
    trial.decide(3, x=(4096, 2048))
    other = [{"name": "height", "type": "number", "mean": 10, "scale": 2}]
    trial.change(reset=True, features=other, arms=["x", "y"], rewards={"visit": {}})
    trial.feed(trial.decide(1, x=(4096, 4096), deferred=True), FULL, 0)
    trial.change(arms=["z"])
    trial.decide(2, x=(4096, 0))
    trial.delete()
    trial.change(arms=["w"])
    trial.decide(0, x=(4096, 0))
    rows = list(export(trial.store, trial.name))
    decided = [row for row in rows if row["type"] == "decision"]
    assert [(row["arms"][0]["arm"], row["context"], row["generation"]) for row in decided] == [
        ("d", {"age": 0.5}, 1),
        ("y", {"height": 12.0}, 2),
        ("z", {"height": 10.0}, 2),
        ("w", {"height": 10.0}, 3),
    ]
    assert [row["generation"] for row in rows if row["type"] in ("activation", "feedback")] == [2, 2]
    changes = [(row["version"], row["generation"], row["deleted"]) for row in rows if row["type"] == "experiment"]
    assert changes == [(1, 1, False), (2, 2, False), (3, 2, False), (4, 2, True), (5, 3, False)]
    documents = [row["document"] for row in rows if row["type"] == "experiment"]
    assert documents[3] is None
    assert documents[4]["arms"] == ["w"]


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_every_entry_is_a_row_in_order_however_it_is_read(
    trial: Trial, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is asked for pages; the rows are the same."""
    monkeypatch.setattr(exporting, "READ", page)
    for arm in range(3):
        trial.feed(trial.decide(arm), 5)
    rows = list(export(trial.store, trial.name))
    assert [row["position"] for row in rows] == [entry.position.text().decode() for entry in trial.log()]
    assert len(msgspec.json.encode(rows)) > 100  # every row is JSON


def test_what_is_written_meanwhile_is_not_waited_for(trial: Trial) -> None:
    """It ends where the log ended when it was asked: a busy log must not keep it for ever."""
    trial.send(*(trial.decision() for _ in range(5)))
    count = 0
    for count, _ in enumerate(islice(export(trial.store, trial.name), 50), 1):  # noqa: B007 - the count is the result
        trial.decide()
    assert count == 6


def test_there_is_nothing_to_export_where_there_is_no_experiment(trial: Trial) -> None:
    """Of one that was deleted there is, for as long as its log is kept."""
    with pytest.raises(Problem) as never:
        list(export(trial.store, "never-" + trial.name))
    assert never.value.code == Code.EXPERIMENT_NOT_FOUND
    trial.decide()
    trial.delete()
    assert [row["type"] for row in export(trial.store, trial.name)] == ["experiment", "decision", "experiment"]


def test_a_trim_between_its_questions_loses_no_names(name: str) -> None:
    """The config leaves the log for the base while it is read: it is found in one of the two."""
    now = [1e9]
    trial = Trial(MemoryStore(lambda: now[0]), name, grace_ms=0)
    trial.decide(1, window_ms=HOUR)
    trial.decide(2, window_ms=2 * HOUR)
    rows = export(trial.store, name)
    first = next(rows)
    config, gone, end = trial.log()
    token = trial.lease()
    assert trial.store.write_rows(name, "sums", token, [], end.position)
    assert trial.store.write_rows(name, "base", token, [], gone.position)
    assert trial.store.trim(name, token, end.position, config.record)
    assert [first["type"], *(row["arms"][0]["arm"] for row in rows)] == ["experiment", "b", "c"]
    config, decision = export(trial.store, name)
    assert (config["type"], decision["arms"][0]["arm"]) == ("experiment", "c")


@pytest.mark.parametrize(("tag", "message"), [(b"z", "no kind that this version knows"), (b"d", "format")])
def test_an_entry_that_cannot_be_read_is_an_error(valkey: str, name: str, tag: bytes, message: str) -> None:
    """Rather than a row that is left out or made up."""
    store = RedisStore(valkey)
    Trial(store, name)
    with redis.Redis.from_url(valkey) as raw:
        raw.xadd(Keys.of(name).log, {tag: b"\x07"})
    with pytest.raises(CorruptLog, match=message):
        list(export(store, name))
    store.close()


@pytest.mark.parametrize("same", [0, 5, 200_000])
def test_a_list_of_arms_that_is_used_again_is_the_right_one(
    trial: Trial, same: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of another generation, whose arms have the same places and probabilities; however few are kept."""
    monkeypatch.setattr(exporting, "SAME", same)
    trial.decide(0)
    trial.change(arms=["a", "b", "c", "d", "e"])
    trial.decide(0)
    trial.change(arms=["p", "q", "r", "s"], reset=True)
    trial.decide(0)
    trial.decide(0)
    rows = [row for row in export(trial.store, trial.name) if row["type"] == "decision"]
    lists = [[each["arm"] for each in row["eligible"] if each["probability"]] for row in rows]
    assert lists[0] == ["a", "b", "c", "d"]
    assert lists[1] == ["a", "b", "c", "d", "e"]
    assert set(lists[2]) == set(lists[3]) >= {"p", "q", "r", "s"}


def test_times_are_utc_to_the_millisecond() -> None:
    """RFC 3339, by hand."""
    assert time_of(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert time_of(Position(0, 0).ms) == "1970-01-01T00:00:00.000Z"
