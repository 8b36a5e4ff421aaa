"""What a program finds where it is started: other people's code, variables, closed streams, a system that is read-only.

The installed commands are run, as people run them: `python -m` would run code of the current directory by itself.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from conftest import running
from harness import DOCUMENT, until

from bandit.process.embedded import find_binary
from bandit.telling import masked

PASSWORD = "hunter2"  # noqa: S105 - it is looked for in messages
TRAPS = "redis", "numpy", "typing", "selectors", "msgspec"


def installed(program: str) -> str:
    """The command as it was installed."""
    return str(Path(sys.executable).with_name(program))


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory whose code ends whoever imports it."""
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of the current directory was run')\n")
    return tmp_path


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a store of one's own."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as place, running(find_binary(), Path(place)) as found:
        yield found


@contextlib.contextmanager
def server(place: Path, *more: str, redirected: str = "", **variables: str) -> Iterator[tuple[str, Path]]:
    """(address, what it said) of a server started by a shell in a directory; it ends well in the end."""
    said, data = place / "said", place / "data"
    where = [] if "--redis-url" in more else ["--data-dir", str(data)]
    command = [installed("bandit-server"), "serve", "--port", "0", *where, *more]
    with said.open("wb") as output:
        shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", *command]
        process = subprocess.Popen(shell, cwd=place, stdout=output, stderr=output, env=os.environ | variables)
    try:
        until(lambda: _address(said, data) or process.poll() is not None, 30, "a ready server")
        assert process.poll() is None, said.read_text()
        yield _address(said, data), said
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()


def _address(said: Path, data: Path) -> str:
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        found = json.loads((data / "server.json").read_text())
        return f"http://{found['host']}:{found['port']}"
    return said.read_text().partition("ready on ")[2].partition(" ")[0]


def ran(*command: str, redirected: str = "", **options: object) -> "subprocess.CompletedProcess[str]":
    """A command that a shell runs, its output apart."""
    shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", installed(command[0]), *command[1:]]
    return subprocess.run(shell, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_an_evaluation_runs_no_code_of_the_directory_that_the_server_was_started_in(trapped: Path) -> None:
    """Nor does a worker: the whole way, from the experiment to the answer."""
    with server(trapped) as (address, said), httpx.Client(base_url=f"{address}/v1/experiments") as client:
        client.put("/home", json=DOCUMENT).raise_for_status()
        client.post("/home/recommendations", json={"context": {"age": 20, "country": "us"}}).raise_for_status()
        answer = client.get("/home/evaluation", params={"target": "uniform"}, timeout=60)
        assert (answer.status_code, answer.json().get("decisions")) == (200, 1), said.read_text()


def test_a_demo_runs_no_code_of_the_current_directory(trapped: Path) -> None:
    """Its server and the commands that read the log are children, too."""
    done = ran("bandit-server", "demo", "--visitors", "50", cwd=trapped)
    assert done.returncode == 0, done.stderr
    assert "from start to proof" in done.stdout


def test_the_simulators_processes_run_no_code_of_the_current_directory(trapped: Path) -> None:
    """Those that Python starts for its own purposes neither."""
    asked = ["--environment", "linear", "--rounds", "50", "--seeds", "2", "--workers", "2", "--policy", "uniform"]
    done = ran("bandit-simulator", "run", *asked, cwd=trapped)
    assert (done.returncode, "current directory" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_server_without_standard_streams_serves_and_ends_well(tmp_path: Path, redirected: str) -> None:
    """No socket and no log gets their numbers, which libuv would end the worker for."""
    with server(tmp_path, redirected=redirected) as (address, _):
        assert httpx.get(f"{address}/readyz").status_code == 200


@pytest.mark.parametrize("command", ["bandit-server", "bandit-simulator"])
def test_output_that_is_closed_is_one_line(command: str) -> None:
    """What was asked for is nowhere: that is no success, and no traceback."""
    done = ran(command, "--version", redirected=">&-")
    assert done.returncode == 1
    assert done.stderr == f"{command}: Bad file descriptor; standard output is closed: redirect it, as with > FILE\n"


@pytest.mark.parametrize("redirected", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_told_once(tmp_path: Path, redirected: str) -> None:
    """Also where it fails before the end, and again at it."""
    done = ran("bandit-server", "doctor", "--data-dir", str(tmp_path / "none"), redirected=redirected)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


@pytest.mark.parametrize("redirected", ["<&-", "2>&-"])
def test_a_command_needs_neither_input_nor_a_place_for_complaints(redirected: str) -> None:
    """It does what it was asked for."""
    done = ran("bandit-server", "--version", redirected=redirected)
    assert (done.returncode, done.stdout[:13]) == (0, "bandit-server")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_system_that_is_read_only_but_for_the_data_serves(tmp_path: Path, url: str, elsewhere: bool) -> None:
    """No temporary directory can be used: the socket lies in the data directory then, and the flag in memory."""
    code = "import tempfile; tempfile.tempdir = '/nowhere'; from bandit.__main__ import main; main()"
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as short:
        said, data = tmp_path / "said", Path(short) / "data"
        where = ["--redis-url", url] if elsewhere else ["--data-dir", str(data)]
        with said.open("wb") as output:
            command = [sys.executable, "-c", code, "serve", "--port", "0", *where]
            process = subprocess.Popen(command, stderr=output)
        try:
            until(lambda: "ready on" in said.read_text() or process.poll() is not None, 30, "a ready server")
            assert process.poll() is None, said.read_text()
            assert len(list(data.glob("bandit-*/valkey.sock"))) == (not elsewhere)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        assert not list(data.glob("bandit-*"))


def test_the_link_of_a_kubernetes_service_is_no_port(tmp_path: Path, url: str) -> None:
    """It is ignored with one warning by who listens, without a word by who does not, and hidden by an option."""
    link = {"BANDIT_PORT": "tcp://10.0.0.7:8080"}
    with server(tmp_path, **link) as (_, said):
        assert "Kubernetes" not in said.read_text()  # `--port 0` was given
    done = ran("bandit-server", "verify", "home", "--redis-url", url, env=os.environ | link)
    assert done.stderr == "bandit-server: there is no experiment 'home'\n"
    (tmp_path / "file").write_text("")
    done = ran("bandit-server", "serve", "--data-dir", str(tmp_path / "file" / "data"), env=os.environ | link)
    warning, _ = done.stderr.splitlines()
    assert "BANDIT_PORT is the link of a Kubernetes service, not a port: taking 8080; give --port" in warning


@pytest.mark.parametrize(("kept", "warnings"), [("no", 1), ("yes", 0)])
def test_a_store_that_keeps_no_file_is_warned_of(tmp_path: Path, url: str, kept: str, warnings: int) -> None:
    """Once for the server, not once for each worker; it serves all the same, because it was told to."""
    with redis.Redis.from_url(url) as raw:
        raw.config_set("appendonly", kept)
    with server(tmp_path, "--redis-url", url, "--workers", "2") as (_, said):
        until(lambda: "ready on" in said.read_text(), 30, "its word")
    assert said.read_text().count("no append-only file: a restart loses writes that were acknowledged") == warnings


@pytest.mark.parametrize("right", ["info", "evalsha"])
@pytest.mark.parametrize("program", ["serve", "verify", "doctor", "simulator"])
def test_a_user_that_may_not_ask_the_store_is_told_which_right_it_lacks(url: str, program: str, right: str) -> None:
    """In one line, without the password."""
    with redis.Redis.from_url(url) as raw:
        raw.execute_command("ACL", "SETUSER", "bob", "reset")
        raw.execute_command("ACL", "SETUSER", "bob", "on", f">{PASSWORD}", "~*", "&*", "+@all", f"-{right}")
    where = ["--redis-url", url.replace("unix://", f"unix://bob:{PASSWORD}@")]
    commands = {"serve": ["serve", "--port", "0"], "verify": ["verify", "home"], "doctor": ["doctor"]}
    if program == "simulator":
        done = ran("bandit-simulator", "evaluate", "--format", "server", "--experiment", "home", *where)
    else:
        done = ran("bandit-server", *commands[program], *where)
    (line,) = [each for each in (done.stdout + done.stderr).splitlines() if not each.startswith(("  ok", "note"))]
    assert done.returncode == 1
    assert f"User bob has no permissions to run the '{right}' command" in line
    assert PASSWORD not in line


@pytest.mark.parametrize(
    "command",
    [
        ["bandit-server", "serve", f"redis://:{PASSWORD}@there"],
        ["bandit-server", f"redis://:{PASSWORD}@there"],
        ["bandit-server", "serve", "--port", f"redis://:a#{PASSWORD}@there"],
        ["bandit-server", "serve", "--port", "0", "--redis-url", f"redis://:a#{PASSWORD}@there"],
        ["bandit-server", "serve", "--port", "0", "--redis-url", f"redis://user:1?{PASSWORD}=1@there"],
        ["bandit-server", "export", "home", "--redis-url", f"rediss://:a@there?ssl_cert_reqs={PASSWORD}"],
        ["bandit-server", "doctor", "--redis-url", f"redis://user:1#{PASSWORD}@there"],
        ["bandit-simulator", "evaluate", f"redis://:{PASSWORD}@there", f"redis://:{PASSWORD}@there"],
        ["bandit-simulator", "evaluate", "--format", "server", "--redis-url", f"redis://:a#{PASSWORD}@there"],
        ["bandit-simulator", "evaluate", "--experiment", "x", "--redis-url", f"redis://u:1?{PASSWORD}=1@there"],
    ],
)
def test_no_message_shows_a_password(command: list[str]) -> None:
    """Neither of a wrong use, which is told with what was given, nor of an address that is none."""
    done = ran(*command)
    assert done.returncode in (1, 2)
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_variable_in_small_letters_is_not_the_workers(tmp_path: Path, url: str) -> None:
    """Names of variables have no case: a directory there was a second place for the data, and shown in a traceback."""
    with server(tmp_path, "--redis-url", url, bandit_data_dir="here") as (address, _):
        assert httpx.get(f"{address}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at redis://u:{PASSWORD}@there:1 it", "at redis://***@there:1 it"),
        (f"rediss://:a/b?c#{PASSWORD}@there", "rediss://***@there"),
        (f"redis://there?password={PASSWORD}&db=1", "redis://there?password=***&db=1"),
        ("to me@there or http://there", "to me@there or http://there"),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    """Whatever signs it has, as long as none is a space."""
    assert masked(text) == shown
