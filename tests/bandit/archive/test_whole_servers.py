"""Backup and archive beside whole servers: what clients were told before is what they are told after a restore."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import DOCUMENT, Server, traffic, until

SHORT = {"reward_window": 1, "deleted_retention": "1h"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of two workers that checkpoints often and trims without a grace."""
    found = Server(tmp_path / "data", workers=2, BANDIT_CHECKPOINT_SECONDS="0.5", BANDIT_LATE_GRACE="0")
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.stop()


def test_a_backup_beside_a_server_is_served_as_it_was(server: Server, tmp_path: Path) -> None:
    """Under traffic; the restored server replays every decision that was acknowledged before, knows every event, and
    goes on learning; users have the names that they had.
    """
    httpx.put(f"{server.url}/v1/experiments/home", json=DOCUMENT).raise_for_status()
    at = f"{server.url}/v1/experiments/home"
    mine = httpx.post(f"{at}/recommendations", json={"context": {"age": 30, "country": "us"}, "user_id": "me"}).json()
    by_user = {"user_id": "me", "event": "sale", "value": 4, "event_id": "by-user"}
    assert httpx.post(f"{at}/feedback", json=by_user).json()["status"] == "accepted"
    with traffic(server, "home", 3) as sending:
        until(lambda: len(sending.acknowledged.feedback) > 60, 60, "traffic")
        decisions, feedback = dict(sending.acknowledged.decisions), dict(sending.acknowledged.feedback)
        done = server.command("backup", str(tmp_path / "b"))
        assert done.returncode == 0, done.stderr
    server.stop()
    copy = Server.__new__(Server)
    copy.data_dir = tmp_path / "copy"
    done = copy.command("restore", str(tmp_path / "b"))
    assert (done.returncode, json.loads(done.stdout)["equal"]) == (0, True), done.stderr
    copy = Server(tmp_path / "copy", workers=1)
    try:
        at = f"{copy.url}/v1/experiments/home"
        with httpx.Client() as client:
            for name, arm in decisions.items():
                body = {"context": {"age": 30, "country": "us"}, "decision_id": name}
                answer = client.post(f"{at}/recommendations", json=body)
                if answer.status_code == 200:
                    assert (answer.json()["replayed"], answer.json()["arms"][0]["arm"]) == (True, arm)
                else:  # asked with another context: it is known all the same
                    assert answer.json()["code"] == "decision_id_reused"
            for name, event in feedback:
                body = {"decision_id": name, "event": "sale", "value": 10, "event_id": event}
                assert client.post(f"{at}/feedback", json=body).json()["status"] == "duplicate"
            again = client.post(f"{at}/feedback", json=by_user).json()
            assert (again["status"], again["decision_id"]) == ("duplicate", mine["decision_id"])
            new = {"decision_id": next(iter(decisions)), "event": "sale", "value": 1, "event_id": "new"}
            assert client.post(f"{at}/feedback", json=new).json()["status"] == "accepted"
        assert json.loads(copy.command("verify", "home").stdout)["equal"]
    finally:
        copy.stop()


def test_an_archive_beside_a_server_has_what_the_server_trims(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The elected server trims, and only what is in the archive; all that clients were told is in the two together."""
    httpx.put(f"{server.url}/v1/experiments/home", json=DOCUMENT | SHORT).raise_for_status()
    folder = str(tmp_path / "a")
    assert server.command("archive", folder).returncode == 0
    with traffic(server, "home", 3) as sending:
        until(lambda: len(sending.acknowledged.decisions) > 100, 60, "traffic")
    with server.store() as store:
        full = store.xlen("bandit:{home/0}:log")
        assert full > 100
        monkeypatch.setenv("BANDIT_LATE_GRACE", "0")

        def trimmed() -> bool:
            done = server.command("archive", folder)
            assert done.returncode == 0, done.stderr
            time.sleep(2)  # it trims twice a minute
            return store.xlen("bandit:{home/0}:log") < full / 2

        until(trimmed, 100, "a trim")
    rows = [json.loads(line) for line in server.command("export", "home", "--archive", folder).stdout.splitlines()]
    told = sending.acknowledged
    assert set(told.decisions) <= {row["decision_id"] for row in rows if row["type"] == "decision"}
    events = [(row["decision_id"], row["event_id"]) for row in rows if row["type"] == "feedback"]
    assert set(told.feedback) <= set(events)
    assert len(set(events)) == len(events)
    result = json.loads(server.command("verify", "home", "--archive", folder).stdout)
    assert (result["equal"], result["whole"], result["folded"]) == (True, True, len(rows))
