"""The commands beside `serve`, run as their users run them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import DOCUMENT, Server


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m bandit` with these arguments."""
    command = [sys.executable, "-m", "bandit", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a few decisions and a click."""
    server = Server(tmp_path_factory.mktemp("commands") / "data", workers=1, BANDIT_CHECKPOINT_SECONDS="0.1")
    with httpx.Client(base_url=server.url) as client:
        client.put("/v1/experiments/home", json=DOCUMENT).raise_for_status()
        for i in range(20):
            body = {"context": {"age": 20 + i, "country": "us"}, "decision_id": f"d{i}", "user_id": "u"}
            client.post("/v1/experiments/home/recommendations", json=body).raise_for_status()
        event = {"decision_id": "d3", "event": "sale", "value": 12.5, "event_id": "order-1"}
        client.post("/v1/experiments/home/feedback", json=event).raise_for_status()
    yield server
    if server.process.poll() is None:
        server.stop()


def test_export_writes_an_entry_a_row(served: Server, tmp_path: Path) -> None:
    """Decisions and feedback come back with the client's ids, decoded contexts and credits; a file works too."""
    done = run("export", "home", "--data-dir", str(served.data_dir))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["type"] for row in rows] == ["experiment"] + ["decision"] * 20 + ["feedback"]
    assert rows[4]["decision_id"] == "d3"
    assert rows[4]["context"] == {"age": 23.0, "country": "us"}
    assert sum(each["probability"] for each in rows[4]["eligible"]) == pytest.approx(1)
    assert (rows[-1]["decision_id"], rows[-1]["credited"], rows[-1]["event_id"]) == ("d3", 12.5, "order-1")
    file = tmp_path / "log.jsonl"
    assert run("export", "home", "--data-dir", str(served.data_dir), "-o", str(file)).stdout == ""
    assert file.read_text() == done.stdout


def test_an_export_that_fails_leaves_the_file_as_it_was(served: Server, tmp_path: Path) -> None:
    """Whole, or not there at all: what it would have replaced stays, and nothing half-written is left."""
    (file := tmp_path / "log.jsonl").write_text("before")
    for name, place in (("hoem", file), ("home", tmp_path / "none" / "log.jsonl"), ("home", tmp_path)):
        done = run("export", name, "--data-dir", str(served.data_dir), "-o", str(place))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("log.jsonl", "before")]


def test_an_export_takes_the_place_of_its_file_and_of_nothing_else(served: Server, tmp_path: Path) -> None:
    """A link stays one, a file keeps its rights, and one that happens to end in .part is somebody's own."""
    (file := tmp_path / "log.jsonl").write_text("before")
    (own := tmp_path / "log.jsonl.part").write_text("mine")
    (link := tmp_path / "newest").symlink_to(file)
    file.chmod(0o604)
    assert run("export", "home", "--data-dir", str(served.data_dir), "-o", str(link)).returncode == 0
    assert len(file.read_text().splitlines()) == 22
    assert (file.stat().st_mode & 0o777, link.is_symlink(), own.read_text()) == (0o604, True, "mine")
    assert len(list(tmp_path.iterdir())) == 3


def test_verify_prints_one_line_of_json(served: Server) -> None:
    """Beside a running server: equal, with the counts, and exit 0."""
    done = run("verify", "home", "--data-dir", str(served.data_dir))
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert (result["equal"], result["decisions"], result["feedback"]) == (True, 20, 1)
    assert result.keys() == {"equal", "folded", "decisions", "feedback", "position"}


def test_the_commands_work_by_redis_url(served: Server) -> None:
    """The same store by its address."""
    socket = json.loads((served.data_dir / "valkey.json").read_text())["socket"]
    done = run("verify", "home", "--redis-url", f"unix://{socket}")
    assert json.loads(done.stdout)["equal"] is True


def test_an_unknown_experiment_is_one_line_and_exit_1(served: Server) -> None:
    """Nothing on stdout, the reason on stderr, no traceback."""
    for command in ("export", "verify"):
        done = run(command, "hoem", "--data-dir", str(served.data_dir))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "bandit-server: there is no experiment 'hoem'; did you mean 'home'?\n"
    done = run("verify", "x", "--data-dir", str(served.data_dir))
    assert done.stderr == "bandit-server: there is no experiment 'x'; there are home\n"


def test_doctor_finds_a_sound_store_and_sizes_it(served: Server) -> None:
    """Exit 0 with no FAIL, the experiment is named, and --rate tells bytes."""
    done = run("doctor", "--rate", "100", "--data-dir", str(served.data_dir))
    assert done.returncode == 0, done.stdout
    assert re.search(r"experiment home: 2[12] entries", done.stdout)  # its creation leaves the log after 30 s
    assert "bytes per decision" in done.stdout


def test_doctor_without_a_data_directory_still_sizes(tmp_path: Path) -> None:
    """Before the first start there is nothing to look at, and a usual experiment is sized."""
    done = run("doctor", "--rate", "10", "--data-dir", str(tmp_path / "none"))
    assert done.returncode == 0
    assert "a typical experiment" in done.stdout


def test_doctor_fails_on_a_store_that_does_not_answer() -> None:
    """The verdict is FAIL and the exit code 1."""
    done = run("doctor", "--redis-url", "redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_the_commands_work_on_a_stopped_directory(served: Server) -> None:
    """A store is started for as long as they take, and the last checkpoint holds everything."""
    assert served.stop() == 0
    result = json.loads(run("verify", "home", "--data-dir", str(served.data_dir)).stdout)
    assert (result["equal"], result["decisions"]) == (True, 20)
    assert len(run("export", "home", "--data-dir", str(served.data_dir)).stdout.splitlines()) == 22
