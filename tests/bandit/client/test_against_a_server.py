"""The client against a real server: each call once, without an event loop and with one."""

import asyncio
import inspect
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from live import CONTEXT, DOCUMENT, Live, until

from bandit.client import Client, ClientError, Lost, Receipt, Recommendation, Shown, SyncClient
from bandit.client.sync import Options

SLICES = {"learned": {"share": 0.5}, "random": {"share": 0.5, "policy": {"type": "uniform"}}}


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[SyncClient]:
    """One client for all tests of this module, patient on a busy machine."""
    with SyncClient(server.url, decision_deadline=10) as found:
        yield found


@pytest.fixture
def name(client: SyncClient) -> str:
    """A new experiment of its own."""
    made = f"t{uuid.uuid4().hex[:12]}"
    client.put_experiment(made, DOCUMENT)
    return made


def signature(of: Any) -> list[tuple[str, Any, Any]]:
    """What a method takes."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(of).parameters.values()]


def test_every_call_of_one_client_is_a_call_of_the_other() -> None:
    """Public coroutines, with the same parameters and words, and enqueueing; and both are made of the same options."""
    calls = {name: each for name, each in inspect.getmembers(Client, inspect.iscoroutinefunction) if name[0] != "_"}
    calls["enqueue_feedback"] = Client.enqueue_feedback
    own = {name for name, each in inspect.getmembers(SyncClient, callable) if name[0] != "_"}
    assert own == calls.keys() | {"close"}
    for call, of in calls.items():
        method = getattr(SyncClient, call)
        assert not inspect.iscoroutinefunction(method)
        assert (signature(method), method.__doc__) == (signature(of), of.__doc__)
    options = {name for name, kind, _ in signature(Client) if kind == inspect.Parameter.KEYWORD_ONLY}
    assert options == set(Options.__annotations__)


def test_a_decision_says_all_that_the_server_does(client: SyncClient, name: str) -> None:
    """The slice, what was ignored, the deadline; it is looked at, and explained."""
    client.patch_experiment(name, {"slices": SLICES})
    client.patch_arm(name, "c", {"status": "paused"})
    choice = client.recommend(name, CONTEXT, user_id="u", exclude=["c"], decision_id="d")
    assert choice.slice_name in SLICES
    assert (choice.ignored, choice.fallback, choice.shadow, choice.error) == (["c"], False, None, None)
    assert choice.decision_id == "d"
    assert client.feedback(name, decision_id="d", event="click").credited == 1
    looked = client.decision(name, "d", explain=True)
    assert [arm["arm"] for arm in looked["arms"]] == [choice.arm]
    assert {"arm": "c", "reasons": ["paused"]} in looked["others"]
    assert "explanation" in looked
    assert "explanation" not in client.decision(name, "d")


def test_a_user_who_sticks_is_answered_the_same(client: SyncClient, name: str) -> None:
    """Although each call names a decision of its own."""
    client.patch_experiment(name, {"sticky": {"for": "1h"}})
    first, again = (client.recommend(name, CONTEXT, user_id="u") for _ in range(2))
    assert (again.decision_id, again.arm, again.replayed) == (first.decision_id, first.arm, True)


def test_a_paused_experiment_answers_its_own_fallback(client: SyncClient, name: str) -> None:
    """Without an error: the server answered."""
    client.patch_experiment(name, {"status": "paused", "fallback_arm": "b"})
    choice = client.recommend(name, CONTEXT, fallback="a")
    assert (choice.arm, choice.fallback, choice.logged, choice.decision_id, choice.error) == (
        "b", True, False, None, None,
    )  # fmt: skip


def test_in_shadow_the_baseline_is_shown(client: SyncClient, name: str) -> None:
    """And what would have been, is told."""
    client.patch_experiment(name, {"shadow": True})
    choice = client.recommend(name, CONTEXT, baseline="b")
    assert choice.arm == "b"
    assert choice.shadow is not None
    assert choice.shadow.arm in DOCUMENT["arms"]


def test_a_strict_candidate_is_refused_when_paused(client: SyncClient, name: str) -> None:
    """Where otherwise it is ignored."""
    client.patch_arm(name, "c", {"status": "paused"})
    assert client.recommend(name, CONTEXT, candidates=["a", "c"]).arm == "a"
    with pytest.raises(ClientError, match="422 unknown_arm"):
        client.recommend(name, CONTEXT, candidates=["a", "c"], strict=True, fallback="a")


def test_a_batch_has_an_answer_for_each_however_many(client: SyncClient, name: str) -> None:
    """More than the server takes at once; one that is faulty fails alone."""
    requests: list[Any] = [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(1200)]
    requests[7] = {"context": {"age": "old"}}
    found = client.recommend_batch(name, requests)
    assert [getattr(each, "decision_id", None) for each in found] == [None if i == 7 else f"d{i}" for i in range(1200)]
    assert isinstance(found[7], ClientError)
    assert (found[7].status, found[7].code) == (422, "invalid_context")
    assert found[7].errors[0]["pointer"] == "/requests/7/context/age" or found[7].errors
    with pytest.raises(TypeError, match="contxt"):
        client.recommend_batch(name, [{"contxt": CONTEXT}])  # type: ignore[typeddict-item, typeddict-unknown-key]


def test_feedback_and_activations_come_in_batches_too(client: SyncClient, name: str) -> None:
    """Each with what became of it."""
    client.recommend_batch(name, [{"context": CONTEXT, "decision_id": each, "defer": True} for each in ("d", "e")])
    activated = client.activate_batch(name, ["d", "d", "never"])
    assert [each.status for each in activated] == ["activated", "duplicate", 404]
    events: list[Any] = [
        {"decision_id": "d", "event": "click"},
        {"decision_id": "d", "event": "clck"},
        {"decision_id": "d", "event": "sale", "value": 12.5, "event_id": "s"},
    ]
    found = client.feedback_batch(name, events)
    assert [each.credited if isinstance(each, Receipt) else each.code for each in found] == [1, "unknown_event", 12.5]


def test_several_experiments_are_asked_at_once(client: SyncClient, name: str) -> None:
    """One answer each; an unknown one has its error alone."""
    other = f"{name}x"
    client.put_experiment(other, DOCUMENT)
    found = client.recommend_several({name: {"k": 2}, other: {}, "nowhere": {}}, CONTEXT, user_id="u")
    first, second, none = found[name], found[other], found["nowhere"]
    assert isinstance(first, Recommendation)
    assert isinstance(second, Recommendation)
    assert isinstance(none, ClientError)
    assert (len(first.arms), len(second.arms), none.code) == (2, 1, "experiment_not_found")
    assert first.decision_id == second.decision_id


def test_a_purchase_is_credited_everywhere(client: SyncClient, name: str) -> None:
    """In each experiment where the user had a decision; a refund takes it back, and elsewhere it says why not."""
    other, kind = f"{name}x", f"order-{name}"
    rewards = {kind: {"range": [0, 500]}}
    for each in (name, other):
        client.put_experiment(each, {"arms": ["a", "b"], "rewards": rewards}, reset=True)
    client.recommend(name, {}, user_id="u")
    found = client.feedback_everywhere(user_id="u", event=kind, value=20, event_id="o")
    credited, missing = found[name], found[other]
    assert isinstance(credited, Receipt)
    assert isinstance(missing, ClientError)
    assert (credited.credited, missing.code) == (20, "decision_not_found")
    back = client.feedback_everywhere(user_id="u", event=kind, refund_of="o", event_id="r")[name]
    assert isinstance(back, Receipt)
    assert back.credited == -20


def test_arms_are_listed_put_patched_and_retired(client: SyncClient, name: str) -> None:
    """More of them than fit on a page; a name may have a slash."""
    client.put_arms(name, [f"a/{i}" for i in range(1100)])
    assert [arm["arm"] for arm in client.arms(name)] == [*DOCUMENT["arms"], *(f"a/{i}" for i in range(1100))]
    assert client.put_arm(name, "a/0", {"payload": 1})["payload"] == 1
    assert client.patch_arm(name, "a/0", {"status": "paused"})["status"] == "paused"
    assert client.get_arm(name, "a/0")["status"] == "paused"
    assert client.put_arm(name, "a/0", {"payload": 2})["status"] == "paused"  # only a status that is named changes
    client.delete_arm(name, "a/0")
    assert client.get_arm(name, "a/0")["status"] == "retired"


def test_a_change_of_arms_is_only_tried_where_that_is_asked(client: SyncClient, name: str) -> None:
    """Each call answers as a dry run of the document does, and nothing has changed."""
    before = client.get_experiment(name)
    tried = [
        client.put_arms(name, ["a", "z"], dry_run=True),
        client.put_arm(name, "z", {"payload": 1}, dry_run=True),
        client.patch_arm(name, "a", {"status": "paused"}, dry_run=True),
        client.delete_arm(name, "a", dry_run=True),
    ]
    assert all(each and each["dry_run"] and each["changes"] for each in tried)
    assert client.get_experiment(name) == before


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ({"status": "paused"}, "paused"),
        ({"arms": [{"id": arm, "status": "paused"} for arm in DOCUMENT["arms"]]}, "not_enough_arms"),
    ],
    ids=["paused", "no arm left"],
)
def test_whatever_an_editor_pauses_a_page_has_its_own_arm(
    client: SyncClient, name: str, edit: dict[str, Any], code: str
) -> None:
    """Alone and among several; with what the page reads of it."""
    client.patch_experiment(name, edit)
    own = Shown("mine", payload={"headline": "Hello"})
    choice = client.recommend(name, CONTEXT, fallback=own)
    among = client.recommend_several([name], CONTEXT, fallback={name: own})[name]
    assert isinstance(among, Recommendation)
    for each in (choice, among):
        assert (each.arms, each.logged, each.fallback) == ([own], False, True)
        assert each.error is not None
        assert each.error.code == code
    with pytest.raises(ClientError, match=code):
        client.recommend(name, CONTEXT)


def test_an_experiment_is_changed_from_the_version_that_was_read(client: SyncClient, name: str) -> None:
    """And only tried, where that is asked."""
    assert {each["name"] for each in client.features(name)["features"]} == {"age", "country"}
    version = client.get_experiment(name)["version"]
    tried = client.patch_experiment(name, {"policy": {"alpha": 0.5}}, dry_run=True)
    assert tried["dry_run"]
    assert tried["changes"]
    assert client.get_experiment(name)["version"] == version
    client.patch_experiment(name, {"policy": {"alpha": 0.5}}, version=version)
    with pytest.raises(ClientError, match="412 precondition_failed"):
        client.put_experiment(name, DOCUMENT, version=version)
    assert name in [each["name"] for each in client.experiments()]


def test_only_who_says_so_deletes(client: SyncClient, name: str) -> None:
    """By a word of its own, or by the version that is meant."""
    with pytest.raises(ClientError, match="428 confirmation_required"):
        client.delete_experiment(name)
    with pytest.raises(ClientError, match="412 precondition_failed"):
        client.delete_experiment(name, version=77)
    client.delete_experiment(name, confirm=True)
    with pytest.raises(ClientError, match="404 experiment_not_found"):
        client.get_experiment(name)


def test_the_lift_is_told_in_a_sentence(client: SyncClient, name: str) -> None:
    """Of decisions from a time on, with candidates beside it."""
    client.patch_experiment(name, {"slices": SLICES})
    client.recommend_batch(name, [{"context": CONTEXT, "user_id": f"u{i}"} for i in range(50)])
    told = client.evaluation(name, targets=["uniform"], since=timedelta(hours=1), min_age=timedelta(0), rows=40)
    assert told["lift"]["sentence"].startswith("learned")
    assert (told["decisions"], [each["target"] for each in told["targets"]]) == (40, ["uniform"])
    turned = client.evaluation(name, min_age="0s", slice="random", baseline="learned")["lift"]
    assert (turned["slice"], turned["baseline"]) == ("random", "learned")


def test_what_is_enqueued_arrives_in_order_and_is_counted(server: Live, name: str) -> None:
    """From many threads, with what is refused told once, and a repeat known again."""
    lost: list[Lost] = []
    with SyncClient(server.url, decision_deadline=10, on_lost=lost.append) as client:
        client.recommend_batch(name, [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(20)])

        def enqueue(of: range) -> None:
            for i in of:
                assert client.enqueue_feedback(name, decision_id=f"d{i}", event="click")

        threads = [threading.Thread(target=enqueue, args=(range(i, 20, 4),)) for i in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        client.enqueue_feedback(name, decision_id="d0", event="click")
        client.enqueue_feedback(name, decision_id="d0", event="sale")
        client.enqueue_feedback("nowhere", decision_id="d0", event="click")
        assert client.flush() == 0
        counts = client.feedback_counts
        assert (counts.accepted, counts.duplicate, counts.refused, counts.dropped) == (20, 1, 2, 0)
    assert sorted(each.error.code for each in lost) == ["experiment_not_found", "invalid_request"]


def test_what_cannot_be_sent_is_refused_when_enqueued(client: SyncClient, name: str) -> None:
    """Later nobody could say who meant it."""
    with pytest.raises(TypeError, match="expected"):
        client.enqueue_feedback(name, decision_id="d", event="sale", value=object(), event_id="e")  # type: ignore[arg-type]


PROGRAM = """
import atexit, sys
from bandit.client import SyncClient
client = SyncClient(sys.argv[1].replace("127.0.0.1", "localhost"))
def last():
    for i in range(300):
        client.enqueue_feedback(sys.argv[2], decision_id=f"d{i}", event="click")
if sys.argv[3] == "now":
    last()
else:  # no connection is there yet, and a host's name has to be found
    client.__enter__()
    atexit.register(last)
"""


@pytest.mark.parametrize("when", ["now", "while the interpreter ends"])
def test_what_is_enqueued_is_sent_before_the_program_ends(
    server: Live, client: SyncClient, name: str, when: str
) -> None:
    """It ends well, and nothing is lost; a host's name is found although no thread can be started then."""
    client.recommend_batch(name, [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(300)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.url, name, when],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: sum(arm["rewards"]["click"]["sum"] for arm in client.arms(name)) == 300)


FORKING = """
import gc, os, sys, time
from bandit.client import SyncClient
client = SyncClient(sys.argv[1], timeout=30, deadline=60)
client.get_experiment(sys.argv[2])
if (child := os.fork()) == 0:
    client.enqueue_feedback(sys.argv[2], decision_id="d0", event="click")
    gc.collect()  # what was its parent's
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
start = time.monotonic()
client.get_experiment(sys.argv[2])  # on a connection that is still heard
assert time.monotonic() - start < 20
client.enqueue_feedback(sys.argv[2], decision_id="d1", event="click")
"""


def test_after_a_fork_both_processes_go_on(server: Live, client: SyncClient, name: str) -> None:
    """As the workers of many web servers are made; each sends its own."""
    client.recommend_batch(name, [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(2)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, server.url, name],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: sum(arm["rewards"]["click"]["sum"] for arm in client.arms(name)) == 2)


def test_a_closed_client_opens_again(server: Live, name: str) -> None:
    """With the next call."""
    client = SyncClient(server.url)
    client.close()
    assert client.get_experiment(name)["name"] == name
    client.close()
    client.close()
    assert client.ready()
    client.close()


def test_on_lost_may_not_wait_for_its_own_client(server: Live, name: str) -> None:
    """It would wait for ever; it is told so."""
    told: list[str] = []

    def lost(_: Lost) -> None:
        try:
            client.ready()
        except RuntimeError as error:
            told.append(str(error))

    with SyncClient(server.url, on_lost=lost) as client:
        client.enqueue_feedback(name, decision_id="never", event="click")
    assert len(told) == 1
    assert "on_lost may not wait" in told[0]


def test_with_an_event_loop_it_is_the_same(server: Live, name: str) -> None:
    """One way through all: decide, enqueue, close, and it is there."""

    async def main() -> None:
        async with Client(server.url, decision_deadline=10) as client:
            choices = await asyncio.gather(*(client.recommend(name, CONTEXT) for _ in range(20)))
            for choice in choices:
                client.enqueue_feedback(name, decision_id=choice.decision_id, event="click")
        assert client.feedback_counts.accepted == 20

    asyncio.run(main())
