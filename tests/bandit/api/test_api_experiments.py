"""The contract's experiments and arms, over HTTP against a real store: documents, versions, patches, generations."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, pointers, problem, serving, valkey

from bandit.errors import Code


def moment(text: str) -> datetime:
    """An RFC 3339 time in UTC."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text)


def test_put_creates_with_201_and_replaces_with_200(server: Live) -> None:
    """A whole document: what the second one leaves out is back at its default, and the version counts on."""
    one = Experiment(server.client, "put-creates")
    created = ok(
        server.client.put(one.at, json=DOCUMENT | {"lambda": 3, "policy": {"type": "linucb", "alpha": 2}}), 201
    )
    replaced = ok(server.client.put(one.at, json=DOCUMENT), 200)
    assert (created["version"], created["lambda"], created["policy"]["alpha"]) == (1, 3.0, 2.0)
    assert (replaced["version"], replaced["lambda"], replaced["policy"]["alpha"]) == (2, "auto", "auto")


def test_get_gives_the_document_with_name_version_generation_and_times(server: Live) -> None:
    """The document as it was sent, with every default spelt out, and what the server adds."""
    one = server.experiment()
    before = ok(server.client.get(one.at))
    one.patch({"lambda": 2})
    after = ok(server.client.get(one.at))
    assert before.items() >= {"name": one.name, "version": 1, "generation": 1, "evaluable": True}.items()
    assert [f | {"type": f["type"]} for f in before["features"]] == DOCUMENT["features"]
    assert before["rewards"]["sale"] == {"range": [0.0, 1000.0], "weight": 0.01}
    assert (before["status"], before["attribution"], before["reward_window"]) == ("active", "last", "7d")
    assert (before["noise"], before["half_life"], before["activation"]) == ("auto", None, "on_decision")
    assert before["policy"] == {"type": "linucb", "alpha": "auto", "explore": "auto"}
    assert before["created_at"] == before["updated_at"] == after["created_at"]
    assert moment(after["updated_at"]) > moment(before["updated_at"])
    assert abs(moment(before["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_what_get_gave_can_be_put_and_patched(server: Live) -> None:
    """What is computed is ignored, warnings too; the version must still be the one in force, whatever else is sent."""
    one = server.experiment()
    got = ok(server.client.get(one.at)) | {"warnings": [{"code": "loose_range"}]}
    put = ok(server.client.put(one.at, json=got | {"lambda": 3, "name": "other", "evaluable": 7, "created_at": None}))
    assert (put["name"], put["version"], put["generation"], put["lambda"]) == (one.name, 2, 1, 3.0)
    assert put["created_at"] == got["created_at"]
    assert {**put, "lambda": "auto"} | {key: got[key] for key in ("version", "updated_at", "warnings")} == got
    patched = ok(one.patch(put | {"lambda": 4}))
    assert (patched["version"], patched["lambda"]) == (3, 4.0)
    for send in (server.client.put, server.client.patch):
        for headers in ({}, {"If-Match": "*"}, {"If-Match": "2"}, {"If-Match": "3"}):
            problem(send(one.at, json=put, headers=headers), Code.PRECONDITION_FAILED)
        ok(send(one.at, json=ok(server.client.get(one.at)), headers={"If-Match": "*"}))
    assert ok(server.client.get(one.at))["version"] == 5
    del got["version"]  # the copy of an experiment is a new one
    copied = ok(server.client.put(f"{one.at}-copy", json=got), 201)
    assert (copied["name"], copied["version"], copied["features"]) == (f"{one.name}-copy", 1, got["features"])


def test_the_version_of_an_experiment_that_is_not_there_fails(server: Live) -> None:
    """As it does in the header: what was read has been deleted since."""
    one = server.experiment()
    got = ok(server.client.get(one.at))
    server.client.delete(one.at, params={"confirm": one.name}).raise_for_status()
    problem(server.client.put(one.at, json=got), Code.PRECONDITION_FAILED)
    problem(server.client.put("/v1/experiments/never-there", json=got), Code.PRECONDITION_FAILED)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None, True, []])
def test_what_is_no_version_is_refused(server: Live, version: Any) -> None:
    """Rather than ignored: who sends one wants it looked at."""
    one = server.experiment()
    response = server.client.put(one.at, json=DOCUMENT | {"version": version})
    assert pointers(response, Code.INVALID_EXPERIMENT) == ["/version"]


def test_delete_answers_204_and_what_comes_after_starts_from_zero(server: Live) -> None:
    """Gone for every operation; the name can be taken again, as a new experiment in a new generation."""
    one = server.experiment()
    decision = one.decided()["decision_id"]
    response = server.client.delete(one.at, params={"confirm": one.name})
    assert (response.status_code, response.content) == (204, b"")
    for refused in (
        server.client.get(one.at),
        server.client.delete(one.at, params={"confirm": one.name}),
        one.patch({}),
        server.client.get(f"{one.at}/arms"),
        server.client.put(f"{one.at}/arms", json=["a"]),
        server.client.put(f"{one.at}/arms/a"),
        one.recommend(),
        one.feedback(decision_id=decision, event="click"),
        one.activate(decision),
        one.post("recommendations/batch", {"requests": [{"context": CONTEXT}]}),
    ):
        problem(refused, Code.EXPERIMENT_NOT_FOUND)
    again = ok(server.client.put(one.at, json=DOCUMENT | {"features": []}), 201)
    assert again["generation"] == 2
    assert again["version"] > 1
    assert ok(one.post("recommendations", {}))["logged"]
    assert ok(one.feedback(decision_id=decision, event="click"))["status"] == "late"
    assert one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 1)


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "x" * 64, "9lives"])
def test_these_are_experiment_names(server: Live, name: str) -> None:
    """The pattern's corners, on the inside."""
    ok(server.client.put(f"/v1/experiments/{name}", json=DOCUMENT), 201)
    assert server.client.delete(f"/v1/experiments/{name}?confirm={name}").status_code == 204


@pytest.mark.parametrize("name", ["A", "-a", ".a", "_a", "x" * 65, "a%20b", "a%0Ab", "%C3%A4", "a%00", "a%7D"])
def test_these_are_no_experiment_names(server: Live, name: str) -> None:
    """On the outside: not to be created, and not found."""
    problem(server.client.put(f"/v1/experiments/{name}", json=DOCUMENT), Code.INVALID_EXPERIMENT)
    problem(server.client.get(f"/v1/experiments/{name}"), Code.EXPERIMENT_NOT_FOUND)
    problem(server.client.post(f"/v1/experiments/{name}/recommendations", json={}), Code.EXPERIMENT_NOT_FOUND)


def test_if_match_changes_only_the_version_that_was_seen(server: Live) -> None:
    """The version, quoted or not, on PUT, PATCH and DELETE; anything but a version is 422."""
    one = server.experiment()
    for given in ("2", '"2"', "99999999"):
        headers = {"If-Match": given}
        problem(server.client.put(one.at, json=DOCUMENT, headers=headers), Code.PRECONDITION_FAILED)
        problem(server.client.patch(one.at, json={}, headers=headers), Code.PRECONDITION_FAILED)
        problem(server.client.delete(one.at, headers=headers), Code.PRECONDITION_FAILED)
    ok(server.client.patch(one.at, json={"lambda": 2}, headers={"If-Match": "1"}))
    ok(server.client.put(one.at, json=DOCUMENT, headers={"If-Match": '"2"'}))
    ok(server.client.put(one.at, json=DOCUMENT, headers={"If-Match": "*"}))
    for given in (b"", b"x", b"-1", b"\xb2", b"9" * 5000, b'"1", "2"'):
        refused = problem(server.client.patch(one.at, json={}, headers={b"If-Match": given}), Code.INVALID_REQUEST)
        assert refused["errors"][0]["pointer"] == "/header/If-Match"
    assert server.client.delete(one.at, headers={"If-Match": "4"}).status_code == 204


def test_if_match_on_what_is_not_there_fails(server: Live) -> None:
    """Neither a version nor `*` matches an experiment that does not exist, or no longer does."""
    for given in ("1", "*"):
        response = server.client.put("/v1/experiments/not-there", json=DOCUMENT, headers={"If-Match": given})
        problem(response, Code.PRECONDITION_FAILED)
    problem(server.client.get("/v1/experiments/not-there"), Code.EXPERIMENT_NOT_FOUND)


def test_changes_at_the_same_time_lose_nothing(server: Live) -> None:
    """24 arms added by 8 clients at once: all are there, each change has a version of its own."""
    one = server.experiment()
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda i: server.client.put(f"{one.at}/arms/new-{i}").status_code, range(24)))
    assert set(added) <= {201, 503}
    made = ok(server.client.get(one.at))
    assert set(made["arms"]) == {"a", "b", "c"} | {f"new-{i}" for i, status in enumerate(added) if status == 201}
    assert made["version"] == 1 + added.count(201)
    assert added.count(201) >= 20


def test_a_merge_patch_changes_what_it_names(server: Live) -> None:
    """RFC 7386: objects merge, null removes (back to the default), anything else replaces whole."""
    one = server.experiment(policy={"type": "linucb", "alpha": 2, "explore": 0.5}, fallback_arm="a")
    changed = ok(one.patch({"policy": {"alpha": 0.5}, "fallback_arm": None, "arms": ["c", "a"], "lambda": 7}))
    assert changed["policy"] == {"type": "linucb", "alpha": 0.5, "explore": 0.5}
    assert (changed["fallback_arm"], changed["arms"], changed["lambda"]) == (None, ["c", "a"], 7.0)
    assert ok(one.patch({"lambda": None}))["lambda"] == "auto"
    assert ok(one.patch({"rewards": {"sale": None}}))["rewards"] == {"click": {}}
    assert ok(one.patch({}))["version"] == 5
    headers = {"Content-Type": "application/merge-patch+json"}
    assert ok(server.client.patch(one.at, content=b'{"noise": 0.5}', headers=headers))["noise"] == 0.5


FAULTY: list[tuple[Any, list[str]]] = [
    ({"unknown": 1}, ["/unknown"]),
    ({"policy": {"alhpa": 1}}, ["/policy/alhpa"]),
    ({"policy": {"type": "linucd"}}, ["/policy/type"]),
    ({"policy": {"alpha": -1}}, ["/policy/alpha"]),
    ({"policy": {"explore": 1.5}}, ["/policy/explore"]),
    ({"status": "stopped"}, ["/status"]),
    ({"lambda": 0}, ["/lambda"]),
    ({"noise": "loud"}, ["/noise"]),
    ({"attribution": "middle"}, ["/attribution"]),
    ({"activation": "never"}, ["/activation"]),
    ({"reward_window": 0}, ["/reward_window"]),
    ({"reward_window": "7w"}, ["/reward_window"]),
    ({"reward_window": "90s\n"}, ["/reward_window"]),
    ({"reward_window": "400d"}, ["/reward_window"]),
    ({"fallback_arm": "zz"}, ["/fallback_arm"]),
    ({"arms": ["a", "b", "a"]}, ["/arms/2"]),
    ({"arms": ["a", ""]}, ["/arms/1"]),
    ({"arms": ["a", "b\n"]}, ["/arms/1"]),
    ({"arms": ["a", "x" * 129]}, ["/arms/1"]),
    ({"arms": [{"id": "a", "status": "retired"}]}, ["/arms/0/status"]),
    ({"arms": [{"id": "a", "payload": "x" * 16_384}]}, ["/arms/0/payload"]),
    ({"rewards": {"click": {"range": [1, 0]}}}, ["/rewards/click/range"]),
    ({"rewards": {"click": {"range": [0, "x"]}}}, ["/rewards/click/range/1"]),
    ({"rewards": {"click": {"default": 2}}}, ["/rewards/click/default"]),
    ({"rewards": {"click": {"unit": 1e-9}}}, ["/rewards/click/unit"]),
    ({"rewards": {"click": {"aggregation": "mean"}}}, ["/rewards/click/aggregation"]),
    ({"rewards": {"click": {"over_range": "wrap"}}}, ["/rewards/click/over_range"]),
    ({"rewards": {"click": None, "sale": None}}, ["/rewards"]),
    ({"rewards": {"click": {"weight": "1"}}}, ["/rewards/click/weight"]),
]


@pytest.mark.parametrize(("change", "places"), FAULTY)
def test_a_faulty_document_names_the_place_and_changes_nothing(
    server: Live, home: Experiment, change: Any, places: list[str]
) -> None:
    """Patched or put, the fault has its pointer, and the version stays."""
    before = ok(server.client.get(home.at))
    assert pointers(home.patch(change), Code.INVALID_EXPERIMENT) == places
    assert ok(server.client.get(home.at)) == before


@pytest.fixture(scope="module")
def home(server: Live) -> Experiment:
    """An experiment that no test changes."""
    return server.experiment()


@pytest.mark.parametrize(
    ("features", "places"),
    [
        ([{"name": "x", "type": "number"}], ["/features/0"]),
        ([{"name": "x", "type": "number", "mean": 1}], ["/features/0"]),
        ([{"name": "x", "type": "number", "min": 1, "max": 1}], ["/features/0"]),
        ([{"name": "x", "type": "number", "mean": 0, "scale": 0}], ["/features/0/scale"]),
        ([{"name": "x", "type": "boolean"}, {"name": "x", "type": "boolean"}], ["/features/1/name"]),
        ([{"name": "x", "type": "category", "levels": ["a", "a"]}], ["/features/0"]),
        ([{"name": "x", "type": "category", "levels": []}], ["/features/0/levels"]),
        ([{"name": "x", "type": "vector"}], ["/features/0/length"]),
        ([{"name": "x", "type": "matrix"}], ["/features/0/type"]),
        ([{"type": "boolean"}], ["/features/0/name"]),
    ],
)
def test_a_faulty_feature_names_the_place(server: Live, features: Any, places: list[str]) -> None:
    """Nothing is created where a feature cannot be."""
    name = f"/v1/experiments/t{uuid.uuid4().hex}"
    response = server.client.put(name, json=DOCUMENT | {"features": features})
    assert pointers(response, Code.INVALID_EXPERIMENT) == places
    problem(server.client.get(name), Code.EXPERIMENT_NOT_FOUND)


CHANGED = {
    "type": [{"name": "age", "type": "boolean"}, DOCUMENT["features"][1]],
    "mean": [{"name": "age", "type": "number", "mean": 41, "scale": 12}, DOCUMENT["features"][1]],
    "scale": [{"name": "age", "type": "number", "mean": 40, "scale": 13}, DOCUMENT["features"][1]],
    "levels": [DOCUMENT["features"][0], {"name": "country", "type": "category", "levels": ["cn", "fr"]}],
    "other": [DOCUMENT["features"][0], {"name": "country", "type": "category", "levels": ["cn", "us"], "other": False}],
}


@pytest.mark.parametrize("what", CHANGED)
def test_changed_features_are_409_unless_reset(server: Live, home: Experiment, what: str) -> None:
    """Type, mean, scale, fewer levels: each would give what was learned another meaning, by PUT and PATCH alike."""
    place = {"type": "/features/0/type", "mean": "/features/0", "scale": "/features/0"}.get(what, f"/features/1/{what}")
    put = server.client.put(home.at, json=DOCUMENT | {"features": CHANGED[what]})
    assert pointers(put, Code.FEATURES_CHANGED) == [place]
    assert pointers(home.patch({"features": CHANGED[what]}), Code.FEATURES_CHANGED) == [place]
    assert ok(server.client.get(home.at))["version"] == 1


def test_reset_starts_a_new_generation_from_zero(server: Live) -> None:
    """Nothing learned remains, feedback on older decisions is `late`, and their ids are free again."""
    one = server.experiment()
    old = one.decided()["decision_id"]
    one.decided(decision_id="visit")
    ok(one.feedback(decision_id="visit", event="click"))
    one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 1)
    changed = ok(one.patch({"features": [{"name": "x", "type": "boolean"}]}, reset=True))
    assert (changed["generation"], changed["version"]) == (2, 2)
    assert all(row["impressions"] == row["rewards"]["click"]["sum"] == 0 for row in one.seen().values())
    for decision_id in (old, "visit"):
        assert ok(one.feedback(decision_id=decision_id, event="click"))["status"] == "late"
    again = ok(one.post("recommendations", {"context": {"x": True}, "decision_id": "visit"}))
    assert not again["replayed"]
    assert ok(one.feedback(decision_id="visit", event="click"))["status"] == "accepted"
    one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 1)


def test_what_a_reward_was_learned_from_is_fixed_and_the_rest_is_live(server: Live) -> None:
    """Default, unit, and no narrower range, once learned from; the rest and new kinds at any time."""
    one = server.experiment()
    ok(one.patch({"rewards": {"click": {"range": [0, 2], "default": 0.5}}}))  # nothing learned yet
    one.decided(decision_id="d")
    for change in ({"default": 0}, {"unit": 1e-6 * 2}):
        assert pointers(one.patch({"rewards": {"click": change}}), Code.INVALID_EXPERIMENT) == ["/rewards/click"]
    narrow = one.patch({"rewards": {"click": {"range": [0, 1]}}})
    assert pointers(narrow, Code.INVALID_EXPERIMENT) == ["/rewards/click/range"]
    assert pointers(one.patch({"rewards": {"sale": None}}), Code.INVALID_EXPERIMENT) == ["/rewards/sale"]
    ok(one.patch({"rewards": {"click": {"weight": 5, "over_range": "clip"}, "signup": {}}}))
    assert ok(one.feedback(decision_id="d", event="signup"))["credited"] == 1
    far = ok(one.feedback(decision_id="d", event="click", value=9, event_id="one"))
    assert far.items() >= {"credited": 1.5, "clipped": True}.items()
    assert list(next(iter(one.seen().values()))["rewards"]) == ["click", "sale", "signup"]
    ok(one.patch({"rewards": {"click": {"range": [0, 12], "aggregation": "last"}}}))
    assert ok(one.feedback(decision_id="d", event="click", value=9))["credited"] == 7
    assert ok(one.patch({"rewards": {"click": {"range": [0, 1], "default": 0}}}, reset=True))["generation"] == 2


def test_a_duration_that_is_none_is_told_by_examples(server: Live, home: Experiment) -> None:
    """Whatever came in its place, and by PUT and PATCH."""
    for window in ("7 days", "", "7w", 0, -1, True, None, []):
        put = server.client.put(home.at, json=DOCUMENT | {"reward_window": window})
        responses = [put] if window is None else [put, home.patch({"reward_window": window})]
        for response in responses:
            (fault,) = problem(response, Code.INVALID_EXPERIMENT)["errors"]
            assert fault["pointer"] == "/reward_window"
            assert fault["expected"] == 'a number of seconds above 0, or a string such as "90s", "15m", "12h" or "7d"'


@pytest.mark.parametrize(
    ("window", "seconds"), [(90, 90), (0.5, 0.5), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)]
)
def test_a_duration_is_seconds_or_a_number_with_its_unit(server: Live, window: Any, seconds: float) -> None:
    """The deadline is the decision's own time and the window after it."""
    one = server.experiment(reward_window=window)
    answer = one.decided()
    made = server.service.store.end(one.name).ms / 1000
    assert moment(answer["expires_at"]).timestamp() == pytest.approx(made + seconds, abs=0.0015)


def test_a_later_window_meets_later_decisions_only(server: Live) -> None:
    """The deadline is fixed at the decision, for its replay too."""
    one = server.experiment(reward_window="7d")
    first = one.decided(decision_id="d")["expires_at"]
    ok(one.patch({"reward_window": "1h"}))
    assert one.decided(decision_id="d")["expires_at"] == first
    assert moment(one.decided()["expires_at"]) < moment(first) - timedelta(days=6)


def test_explore_0_makes_an_experiment_that_cannot_be_evaluated(server: Live) -> None:
    """Its log has arms that were never possible, and it says so."""
    one = server.experiment(policy={"type": "linucb", "explore": 0})
    assert ok(server.client.get(one.at))["evaluable"] is False
    assert ok(one.patch({"policy": {"explore": 0.01}}))["evaluable"] is True


def test_experiments_are_listed_by_name_a_page_at_a_time() -> None:
    """Every experiment once and in order, deleted ones not; `next` only where there is more."""
    with valkey() as url, serving(url) as server:
        for name in ("b", "e", "a", "d", "c"):
            ok(server.client.put(f"/v1/experiments/{name}", json=DOCUMENT), 201)
        server.client.delete("/v1/experiments/c?confirm=c")
        assert "next" not in ok(server.client.get("/v1/experiments"))
        names, cursor, pages = [], "", 0
        while cursor is not None:
            page = ok(server.client.get("/v1/experiments", params={"limit": 2, "cursor": cursor}))
            names += [each["name"] for each in page["experiments"]]
            cursor, pages = page.get("next"), pages + 1
        assert (names, pages) == (["a", "b", "d", "e"], 2)
        whole = "a whole number"
        least, most = "a number of at least 1", "a number of at most 1000"
        for limit, expected in ((0, least), (1001, most), ("x", whole), ("9" * 5000, whole), ("²", whole)):
            refused = problem(server.client.get("/v1/experiments", params={"limit": limit}), Code.INVALID_REQUEST)
            assert refused["errors"] == [{"pointer": "/query/limit", "expected": expected, "got": "another value"}]


@pytest.mark.parametrize("word", ["perhaps", "yes", "on", "1", "True", ""])
def test_reset_takes_true_or_false_alone(home: Experiment, word: str) -> None:
    """It erases what was learned: any other word is a fault, neither a yes nor a no."""
    refused = problem(home.patch({}, reset=word), Code.INVALID_REQUEST)
    assert refused["errors"] == [{"pointer": "/query/reset", "expected": "true or false", "got": "another value"}]
    assert ok(home.patch({}, reset="false"))["generation"] == 1


def test_the_same_document_at_once_from_many_is_created_once(server: Live) -> None:
    """Eight PUTs of a new name: one 201, and the others replace."""
    at, gate = f"/v1/experiments/t{uuid.uuid4().hex}", threading.Barrier(8)

    def put(_: int) -> int:
        gate.wait()
        return server.client.put(at, json=DOCUMENT).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(put, range(8))) == [200] * 7 + [201]


def test_a_change_is_served_at_once_by_the_server_that_made_it(server: Live) -> None:
    """Whoever changed an experiment finds it changed in the next request, twenty times."""
    one = server.experiment(features=[])
    for i in range(20):
        ok(server.client.put(f"{one.at}/arms", json=[f"only-{i}"]))
        assert ok(one.post("recommendations", {}))["arms"][0]["arm"] == f"only-{i}"


def test_a_range_far_beyond_the_rewards_that_came_is_told(server: Live) -> None:
    """Sales of some 20 in a range of 10,000; clicks in theirs are no news, nor is an experiment without any."""
    one = server.experiment(rewards={"click": {}, "sale": {"range": [0, 10000]}})
    assert "warnings" not in ok(server.client.get(one.at))
    for kind, value in (("click", 1), ("sale", 20.0)):
        one.feedback(decision_id=one.decided()["decision_id"], event=kind, value=value, event_id="one")
    one.until_seen(lambda seen: sum(row["rewards"]["sale"]["sum"] for row in seen.values()) == 20)
    (told,) = ok(server.client.get(one.at))["warnings"]
    assert (told["code"], told["kind"]) == ("loose_range", "sale")
    assert "rewards of 'sale' have a mean size of 20 in a range of 0 to 10000" in told["detail"]
