"""What a command cannot do, it says in one line that tells what to do about it, and it does not end with 0."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import redis
from conftest import running
from harness import until

from bandit.errors import StoreUnsuitable, printable
from bandit.process.embedded import find_binary
from bandit.store.redis_store import RedisStore
from bandit.telling import Lines, reason

NOWHERE = "redis://127.0.0.1:1/0"
ESCAPES = "a\x1b[31m\nb\u202ec\x9b\t"


def ran(*arguments: str, module: str = "bandit", **options: object) -> "subprocess.CompletedProcess[str]":
    """A command, its output apart."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 60} | options
    return subprocess.run([sys.executable, "-m", module, *arguments], check=False, **pipes)  # type: ignore[call-overload, no-any-return]


def one_line(done: "subprocess.CompletedProcess[str]", program: str = "bandit-server") -> str:
    """What it says: one line with the program's name, nothing on stdout, and exit 1."""
    assert done.returncode == 1, done.stderr
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: ")
    return line


@contextlib.contextmanager
def web() -> Iterator[str]:
    """The address of what is no store."""
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def evicting() -> Iterator[str]:
    """The address of a store that must not be used."""
    with tempfile.TemporaryDirectory(prefix="b") as place, running(find_binary(), Path(place)) as url:
        with redis.Redis.from_url(url) as raw:
            raw.config_set("maxmemory-policy", "allkeys-lru")
        yield url


@pytest.mark.parametrize("command", ["export", "verify"])
def test_a_store_that_is_away_is_one_line(command: str) -> None:
    """With a hint at what to look at."""
    assert "is it running, is its address right?" in one_line(ran(command, "home", "--redis-url", NOWHERE))


def test_doctor_tells_of_a_store_that_is_away_once() -> None:
    """Also where it is asked for sizes: its finding is a FAIL, and nothing is added to it."""
    done = ran("doctor", "--rate", "10", "--redis-url", NOWHERE)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("does not answer") == 1


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "redis://h:hunter2",
        "redis://h:1/hunter2",
        "redis://:a#hunter2@h",
        "redis://",
        "redis://h?foo=hunter2",
        "redis://h?decode_responses=true",
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(address: str) -> None:
    """The client library takes database 0 or localhost for some of them; a password may be in any."""
    with pytest.raises(StoreUnsuitable, match=r"expected a store's address, redis://") as caught:
        RedisStore(address)
    assert "hunter2" not in str(caught.value)


def test_an_address_that_is_none_ends_a_start_with_one_line() -> None:
    """No worker is started again and again for it."""
    told = one_line(ran("serve", "--port", "0", "--redis-url", "nonsense"))
    assert "expected a store's address, redis://HOST:PORT[/DATABASE], rediss://... or unix:///PATH (USER:PASS" in told


def test_a_database_that_is_not_there_ends_a_start_with_one_line(evicting: str) -> None:
    """Another number than the store has: five tracebacks."""
    assert "no database of the number" in one_line(ran("serve", "--port", "0", "--redis-url", f"{evicting}?db=99"))


def test_a_store_that_must_not_be_used_ends_a_start_with_one_line(evicting: str) -> None:
    """What it must be is said once, not by ten tracebacks."""
    assert "it must be noeviction" in one_line(ran("serve", "--port", "0", "--redis-url", evicting))


def test_a_store_that_must_not_be_used_any_more_is_told_of_once(tmp_path: Path) -> None:
    """A server that has been ready stays, says so in one line, and that it can be used again in another."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="b"))
        raw = stack.enter_context(redis.Redis.from_url(url := stack.enter_context(running(find_binary(), Path(place)))))
        said = tmp_path / "said"
        command = [sys.executable, "-m", "bandit", "serve", "--port", "0", "--redis-url", url]
        server = stack.enter_context(subprocess.Popen(command, stderr=stack.enter_context(said.open("wb"))))
        stack.callback(server.terminate)
        until(lambda: "ready on" in said.read_text(), 30, "a ready server")
        raw.config_set("maxmemory-policy", "allkeys-lru")
        raw.client_kill_filter(_type="normal", skipme=True)
        until(lambda: "it must be noeviction, or keys vanish" in said.read_text(), 30, "the word of it")
        raw.config_set("maxmemory-policy", "noeviction")
        until(lambda: "the store answers again" in said.read_text(), 30, "the recovery")
    lines = [line for line in said.read_text().splitlines() if " ERROR " in line or " WARNING " in line]
    assert len(lines) == 2


def test_what_is_no_store_is_named_so() -> None:
    """A web server at the address: for a start as for a command."""
    with web() as address:
        for command in (["serve", "--port", "0"], ["verify", "home"]):
            assert "neither Redis nor Valkey" in one_line(ran(*command, "--redis-url", address))


def test_a_password_that_is_asked_for_is_named() -> None:
    """In place of what the protocol says of its greeting."""
    with tempfile.TemporaryDirectory(prefix="b") as place, running(find_binary(), Path(place)) as url:
        with redis.Redis.from_url(url) as raw:
            raw.config_set("requirepass", "hunter2")
        assert "refuses the user or password" in one_line(ran("verify", "x", "--redis-url", url))


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """With the options that choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = one_line(ran("serve", "--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path / "d")))
    assert "choose --host and --port" in line


def test_a_data_directory_that_is_a_file_is_named_so(tmp_path: Path) -> None:
    """By every command that takes one; doctor, which would call it missing, fails too."""
    (file := tmp_path / "file").write_text("")
    place = "--data-dir", str(file)
    for command in (["export", "x"], ["verify", "x"], ["serve", "--port", "0"], ["demo", "--visitors", "1"]):
        assert str(file) in one_line(ran(*command, *place))
    for under in (file, file / "data"):
        done = ran("doctor", "--data-dir", str(under))
        assert (done.returncode, f"{file} is a file" in done.stdout) == (1, True)


def test_a_program_that_is_no_store_is_asked_about(tmp_path: Path) -> None:
    """It ended without a word: the line ends with the question, not with nothing."""
    done = ran("serve", "--port", "0", "--data-dir", str(tmp_path / "d"), "--store-binary", "/bin/false")
    assert one_line(done).endswith("/bin/false a Valkey server?")


@pytest.mark.parametrize("module", ["bandit", "simulator"])
def test_a_full_disk_is_told(module: str) -> None:
    """Output that cannot be written is a failure even of `--version`, and Python adds nothing of its own."""
    with Path("/dev/full").open("w") as full:
        done = ran("--version", module=module, stdout=full)
    assert done.returncode == 1
    assert done.stderr == f"{PROGRAMS[module]}: {FULL}\n"


PROGRAMS = {"bandit": "bandit-server", "simulator": "bandit-simulator"}
FULL = "No space left on device; free some space, or choose another disk"


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("bandit", ["--version"]),
        ("bandit", ["doctor", "--data-dir", "none"]),
        ("simulator", ["--version"]),
        ("simulator", ["power", "--rate", ".1", "--lift", ".1", "--json"]),
        ("simulator", ["power", "--rate", ".1", "--lift", ".1"]),
    ],
)
def test_a_reader_that_has_gone_is_no_fault_to_tell(module: str, command: list[str]) -> None:
    """As after `| head`: not a word, and no exit 0 either."""
    read, write = os.pipe()
    os.close(read)
    done = ran(*command, module=module, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_systems_error_says_which_file_and_what_to_do() -> None:
    """Its number helps nobody."""
    missing = FileNotFoundError(2, "No such file", "a/b")
    assert reason(missing) == "a/b: No such file; is the path right, and its folder there?"
    assert reason(OSError(5, "Input/output error")) == "Input/output error"
    assert reason(OSError()) == "OSError"


def test_a_name_cannot_forge_a_line_of_the_log() -> None:
    """Newlines and escapes come out as they are written in Python; a traceback's lines are indented."""
    try:
        raise ValueError(ESCAPES)
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "arm %s", (ESCAPES,), sys.exc_info())
    first, *rest = Lines("%(message)s").format(record).split("\n")
    assert first == r"arm a\x1b[31m\nb\u202ec\x9b\t"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_what_can_be_printed_is_printed_as_it_is() -> None:
    """Letters of every script and signs are no escapes."""
    for text in ("café", "バナー", "🚀 10 %", "a\\b", "[red]x[/red]"):
        assert printable(text) == text
