"""Log lines: JSON that no name can break, what each is about, nothing secret; and the id of every request."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from live import CONTEXT, Live, serving
from live import valkey as own_valkey

from bandit import telling
from bandit.telemetry import request_ids
from bandit.telling import REQUEST_ID, JsonLines, Lines

NASTY = 'x"}\n{"level":"critical\x1b[31m\u202e redis://me:hunter2@there/0'


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    """A record with an exception, whose text is nasty too."""
    try:
        raise ValueError(NASTY)
    except ValueError:
        return logging.getLogger("bandit.there").makeRecord(
            "bandit.there", logging.ERROR, "", 0, message, args, sys.exc_info(), extra=extra
        )


def test_a_record_is_one_json_object_whatever_it_says() -> None:
    """One line, parsed back to what was said, with no password and no control sign in it."""
    line = JsonLines().format(record("arm %s", NASTY))
    assert line.isprintable()
    assert "hunter2" not in line
    told = json.loads(line)
    assert told["message"].startswith('arm x"}\n{"level":"critical')
    assert told["level"] == "error"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert told["exception"].startswith("Traceback")
    assert told.keys() == {"time", "level", "logger", "message", "pid", "exception"}


def test_a_record_says_what_it_is_about() -> None:
    """By its `extra`, by the request that is served, and by how our messages begin."""
    told = json.loads(JsonLines().format(record("no", request_id="r1", decision_id="d1", experiment="e1")))
    assert (told["request_id"], told["decision_id"], told["experiment"]) == ("r1", "d1", "e1")
    token = REQUEST_ID.set("r2")
    try:
        told = json.loads(JsonLines().format(record("%s: the log has lost its end", "home")))
        assert (told["request_id"], told["experiment"]) == ("r2", "home")
        assert Lines("%(message)s").format(record("no")).startswith("no [r2]\n")
    finally:
        REQUEST_ID.reset(token)


def test_every_line_on_stderr_is_json_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are no log records: that it is ready, and why it cannot start."""
    written = io.StringIO()
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", written)
    try:
        telling.start_logging("error", form="json")
        telling.say("ready on http://127.0.0.1:1 (1 worker)")
        telling.tell("bandit-server", "no\nsuch store")
        logging.getLogger("x").info("not at this level")
    finally:
        monkeypatch.undo()
        root.setLevel(level)
        telling._as_json = False
        logging.captureWarnings(capture=False)
    told = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(each["level"], each["message"]) for each in told] == [
        ("info", "ready on http://127.0.0.1:1 (1 worker)"), ("error", "bandit-server: no such store"),
    ]  # fmt: skip


WAYS: dict[str, tuple[str, str, Any]] = {
    "direct": ("POST", "recommendations", {"context": {"age": 1, "country": "us"}}),
    "direct, refused": ("POST", "recommendations", {"context": {"age": "x"}}),
    "direct, feedback": ("POST", "feedback", {"event": "click", "decision_id": "none"}),
    "asgi": ("POST", "recommendations/batch", {"requests": []}),
    "asgi, refused": ("POST", "recommendations?x=1", {}),
    "framework": ("GET", "", None),
    "framework, refused": ("GET", "arms/none", None),
    "no such route": ("GET", "none", None),
    "health": ("GET", "/healthz", None),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_answer_has_the_requests_id(server: Live, way: str) -> None:
    """The caller's, where it is one; else one of ours, another for each request, also where the same head comes again;
    one that is too long or could do harm is replaced.
    """
    method, path, body = WAYS[way]
    home = server.experiment()
    address = path if path.startswith("/") else f"{home.at}/{path}".rstrip("/")

    def ids(*given: str) -> list[str]:
        headers = {"X-Request-ID": given[0]} if given else {}
        return server.client.request(method, address, json=body, headers=headers).headers.get_list("x-request-id")

    own = [ids() for _ in range(3)]
    assert all(len(found) == 1 and re.fullmatch(r"[0-9a-f]{10}-[0-9a-f]+", found[0]) for found in own)
    assert len({found[0] for found in own}) == 3
    for good in ("a", "trace-1:2/3_4.5", "z" * 128):
        assert ids(good) == [good]
        assert ids(good) == [good]
    for bad in ("z" * 129, "a b", 'a"b', "a<script>", "%00", "{jndi}"):
        (made,) = ids(bad)
        assert re.fullmatch(r"[0-9a-f]{10}-[0-9a-f]+", made)


def test_the_first_usable_id_counts() -> None:
    """Of several headers; one of ours where none is usable."""
    assert request_ids.of([(b"x-request-id", b"a b"), (b"x-request-id", b"ok"), (b"x-request-id", b"no")]) == b"ok"
    assert request_ids.of([(b"x-request", b"ok")]) != request_ids.of([])


@pytest.fixture(scope="module")
def broken() -> Iterator[Live]:
    """A server whose requests fail from an error of ours."""
    with own_valkey() as url, serving(url) as live:
        yield live


def fail(*_: Any, **__: Any) -> None:
    """In the place of something that works."""
    raise RuntimeError("planted")


@pytest.mark.parametrize("way", ["direct", "asgi", "framework"])
def test_a_failure_is_logged_with_the_id_that_was_answered(
    broken: Live, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So that whoever has the answer finds the traceback."""
    home = broken.experiment()
    caplog.handler.setFormatter(JsonLines())
    if way == "direct":
        monkeypatch.setattr("bandit.serving.service.Service.known", fail)
        answer = home.recommend()
    elif way == "asgi":
        monkeypatch.setattr("bandit.serving.api.hot.answer", fail)
        answer = home.post("recommendations/batch", {"requests": []})
    else:
        monkeypatch.setattr("bandit.serving.experiments.Experiments.get", fail)
        answer = broken.client.get(home.at)
    assert answer.status_code == 500
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (told,) = [line for line in lines if "planted" in line.get("exception", "")]
    assert told["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("way", "where"),
    [("", "service.Service.known"), ("", "batcher.decide"), ("; charset=utf-8", "service.Service.ask"),
     ("; charset=utf-8", "batcher.decide")],
)  # fmt: skip
def test_a_failure_is_logged_with_the_decision_that_the_request_names(
    broken: Live, way: str, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By either way of a request, where it is read and where it is decided; and with its experiment."""
    home = broken.experiment()
    caplog.handler.setFormatter(JsonLines())
    monkeypatch.setattr(f"bandit.serving.{where}", fail)
    body = json.dumps({"context": CONTEXT, "decision_id": "d-1"})
    answer = home.client.post(
        f"{home.at}/recommendations", content=body, headers={"content-type": f"application/json{way}"}
    )
    assert answer.status_code == 500
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (told,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert (told["decision_id"], told["experiment"]) == ("d-1", home.name)


def test_a_decision_that_fails_is_logged_with_every_request_it_failed(
    broken: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback once, and a line with id and experiment for each request that got 500 for it."""
    home = broken.experiment()
    caplog.handler.setFormatter(JsonLines())
    monkeypatch.setattr("bandit.serving.batcher.decide", fail)
    answer = home.recommend()
    assert answer.status_code == 500
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (told,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert told["experiment"] == home.name
    assert any("planted" in line.get("exception", "") for line in lines)


def test_a_micro_batchs_failure_is_not_said_to_be_that_of_the_request_that_began_it(
    broken: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The task that serves micro-batches was begun by one request and serves others: their ids are not its own."""
    home = broken.experiment()
    caplog.handler.setFormatter(JsonLines())
    monkeypatch.setattr("bandit.serving.batcher.decide", fail)
    answer = home.client.post(
        f"{home.at}/recommendations/batch", json={"requests": [{"context": CONTEXT}]}, headers={"X-Request-ID": "mine"}
    )
    assert answer.status_code == 500
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert [line.get("request_id") for line in lines if "a decision failed" in line["message"]] == [None]
    assert [line["message"] for line in lines if line.get("request_id") == "mine"] == ["a request failed"]
