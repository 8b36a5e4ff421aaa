"""GET /metrics of a whole server: what its workers count together is what the log has."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import Server, until
from prometheus_client.parser import text_string_to_metric_families

DOCUMENT = {
    "features": [{"name": "age", "type": "number", "mean": 40, "scale": 12}],
    "rewards": {
        "click": {},
        "sale": {"range": [0, 1000], "weight": 0.01, "over_range": "clip"},
        "score": {"range": [0, 10], "aggregation": "last"},
    },
    "arms": ["a", "b", "c"],
    "refunds": "1d",
}
AT = "/v1/experiments/home"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers."""
    made = Server(tmp_path_factory.mktemp("metrics") / "data")
    try:
        yield made
    finally:
        made.stop()


def metrics(server: Server) -> dict[str, dict[tuple[str, ...], float]]:
    """{name of a sample: {values of its labels, by the labels' names: value}}."""
    text = httpx.get(f"{server.url}/metrics").raise_for_status().text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def exported(server: Server) -> list[dict[str, object]]:
    """The log's rows."""
    return [json.loads(line) for line in server.command("export", "home").stdout.splitlines()]


def traffic(server: Server, count: int) -> Counter[str]:
    """Requests of every outcome, each over a connection of its own, for both workers: what was answered."""
    told: Counter[str] = Counter()

    def post(what: str, **body: object) -> httpx.Response:
        return httpx.post(f"{server.url}{AT}/{what}", json=body)

    def feedback(**body: object) -> None:
        answer = post("feedback", **body)
        status = answer.json().get("status") if answer.status_code == 200 else answer.json()["code"]
        told[f"{body['event']} {status}"] += 1
        told["clipped"] += answer.json().get("clipped", False)

    for i in range(count):
        decided = post("recommendations", context={"age": 30 + i}).json()
        told["new"] += 1
        name = f"d{os.urandom(8).hex()}"
        for _ in range(2):
            assert post("recommendations", context={"age": 30}, decision_id=name).status_code == 200
        told["new"] += 1
        told["replayed"] += 1
        deferred = post("recommendations", context={"age": 30}, defer=True).json()
        told["deferred"] += 1
        post("activations", decision_id=deferred["decision_id"])
        told["activated"] += 1
        feedback(decision_id=name, event="click")
        feedback(decision_id=name, event="click")
        feedback(decision_id=decided["decision_id"], event="sale", value=900, event_id="one")
        feedback(decision_id=decided["decision_id"], event="sale", value=900, event_id="two")
        feedback(decision_id=decided["decision_id"], event="sale", event_id="back", refund_of="one")
        feedback(decision_id=decided["decision_id"], event="score", value=7)
        feedback(decision_id="never made", event="click")
        feedback(decision_id=name, event="no such kind")
    return told


def summed(found: dict[str, dict[tuple[str, ...], float]]) -> dict[str, float]:
    """What the metrics say in the words of `traffic`."""
    problems = {labels[0]: value for labels, value in found["bandit_problems_total"].items()}
    told = {f"{labels[2]} {labels[1]}": value for labels, value in found["bandit_feedback_total"].items()}
    told |= {labels[1]: value for labels, value in found["bandit_decisions_total"].items()}
    told["activated"] = found["bandit_activations_total"]["home", "activated"]
    told["clipped"] = found["bandit_feedback_clipped_total"]["home", "sale"]
    told["click decision_not_found"] = told.pop("click unknown")
    assert told["click decision_not_found"] == problems["decision_not_found"]
    return {name: value for name, value in told.items() if value} | {
        "no such kind unknown_event": problems["unknown_event"]
    }


def test_sums_over_workers_equal_the_logs_counts(server: Server) -> None:
    """Decisions, feedback of every outcome, refunds and activations, answered by two workers, one of which is killed
    and replaced in between: the metrics say what clients were told and what the log has, and never go back.
    """
    assert httpx.put(f"{server.url}{AT}", json=DOCUMENT).status_code == 201
    told = traffic(server, 25)
    assert summed(metrics(server)) == told
    before = metrics(server)
    until(lambda: published(server) == 2, 20, "two workers that have answered something")

    victim, *_ = server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    after_kill = metrics(server)
    assert summed(after_kill) == told
    until(lambda: metrics(server)["bandit_workers_ready"][()] == 2, 30, "a worker in its place")
    assert victim not in server.worker_pids()
    told += traffic(server, 25)
    found = metrics(server)
    assert summed(found) == told

    rows = exported(server)
    kinds = Counter(str(row["type"]) for row in rows)
    accepted = sum(value for name, value in summed(found).items() if name.endswith(" accepted"))
    assert kinds["decision"] == told["new"] + told["deferred"]
    assert kinds["feedback"] == accepted
    assert kinds["activation"] == told["activated"]
    assert found["bandit_refunds_total"] == {("home", "sale"): 50}
    credited = Counter[str]()
    for row in rows:
        if row["type"] == "feedback":
            credited[str(row["event"])] += float(str(row["credited"]))
    taken = found["bandit_reward_taken_back_total"]
    for (experiment, reward), value in found["bandit_reward_credited_total"].items():
        assert value - taken.get((experiment, reward), 0) == pytest.approx(credited[reward])
    shown = {row["arm"]: row["impressions"] for row in httpx.get(f"{server.url}{AT}/arms").json()["arms"]}
    assert sum(found["bandit_arm_decisions_total"].values()) == kinds["decision"] == sum(shown.values())
    for name, cells in before.items():
        if name.endswith(("_total", "_count", "_bucket")):
            for labels, value in cells.items():
                assert found[name][labels] >= value, (name, labels)


def test_a_rolling_restart_loses_no_number(server: Server) -> None:
    """New workers take slots of their own while the old ones end, whose numbers stay; and once more, on what those
    left: every counter is at least what it was, and decisions exactly.
    """
    before = metrics(server)
    for _ in range(2):
        old = set(server.worker_pids())
        traffic(server, 3)
        told = summed(metrics(server))
        server.process.send_signal(signal.SIGHUP)
        until(lambda old=old: len(server.worker_pids()) == 2 and not old & set(server.worker_pids()), 60, "new workers")
        until(lambda: metrics(server)["bandit_workers_ready"][()] == 2, 30, "two that are ready")
        assert summed(metrics(server)) == told
    for name, cells in before.items():
        if name.endswith(("_total", "_count", "_bucket")):
            assert all(metrics(server)[name][labels] >= value for labels, value in cells.items()), name


def test_a_store_that_is_away_is_a_number_and_two_lines(tmp_path: Path) -> None:
    """While it is frozen /metrics answers and says so, and so does one line of each worker's log; and one says that it
    is back. Every line of this server's stderr is a JSON object, from its start to its end.
    """
    server = Server(tmp_path / "data", workers=1, BANDIT_LOG_FORMAT="json")
    try:
        assert httpx.put(f"{server.url}{AT}", json=DOCUMENT).status_code == 201
        assert httpx.post(f"{server.url}{AT}/recommendations", json={"context": {"age": 1}}).status_code == 200
        assert metrics(server)["bandit_store_up"] == {(): 1}
        os.kill(server.store_pid(), signal.SIGSTOP)
        try:
            refused = httpx.post(f"{server.url}{AT}/recommendations", json={"context": {"age": 1}}, timeout=20)
            assert (refused.status_code, bool(refused.headers["x-request-id"])) == (503, True)
            until(lambda: metrics(server)["bandit_store_up"] == {(): 0}, 20, "the store being away")
            assert metrics(server)["bandit_store_outages_total"] == {(): 1}
        finally:
            os.kill(server.store_pid(), signal.SIGCONT)
        until(lambda: server.said("the store answers again"), 30, "its return")
        until(lambda: metrics(server)["bandit_store_up"] == {(): 1}, 20, "the store being back")
        assert metrics(server)["bandit_problems_total"]["store_unavailable", "home", "recommendations"] >= 1
    finally:
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in lines)
    told = [line["message"] for line in lines if line["logger"] == "bandit.replica.follower"]
    assert len([message for message in told if "requests are refused" in message]) == 1, told
    assert told.count("the store answers again") == 1, told


def published(server: Server) -> int:
    """How many workers have slots with requests: each has its start, by its slot."""
    return len(metrics(server)["bandit_worker_start_timestamp_seconds"])


def test_requests_are_counted_by_the_routes_template(server: Server) -> None:
    """Of the direct way, the ASGI way and the framework's, with the status; an unknown address is `other`."""
    before = metrics(server)["bandit_http_requests_total"]
    with httpx.Client(base_url=server.url) as client:
        asked = {
            ("200", "POST", f"{AT}/recommendations"): {"context": {"age": 1}},
            ("422", "POST", f"{AT}/recommendations"): {"context": {}},
            ("200", "POST", f"{AT}/recommendations/batch"): {"requests": []},
            ("200", "GET", AT): None,
            ("404", "GET", "/v1/experiments/none"): None,
            ("404", "GET", "/nowhere"): None,
            ("200", "HEAD", "/healthz"): None,
        }
        for (code, method, path), body in asked.items():
            assert str(client.request(method, path, json=body).status_code) == code
    found = metrics(server)["bandit_http_requests_total"]
    for code, method, path in asked:
        route = "other" if path == "/nowhere" else path.replace("/home", "/{e}").replace("/none", "/{e}")
        assert found[code, method, route] == before.get((code, method, route), 0) + 1, (code, method, path)
    durations = metrics(server)["bandit_http_request_duration_seconds_count"]
    for method, route in {(method, route) for _, method, route in found if route != "/metrics"}:
        total = sum(value for (_, m, r), value in found.items() if (m, r) == (method, route))
        assert durations[method, route] == total


def test_the_files_of_the_server_are_those_of_its_store(server: Server) -> None:
    """Nothing is written for the metrics: a read-only root will do."""
    names = {path.name for path in Path(server.data_dir).iterdir()}
    assert not {name for name in names if "metric" in name or name.endswith(".db")}
