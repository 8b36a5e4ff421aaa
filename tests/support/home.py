"""A place where the tests of the parent run servers with stub workers, and look at what they do."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

STUB = Path(__file__).parent / "stub_worker.py"
PARENT = f"""
import logging, sys
from bandit.settings import Settings
from bandit.process.supervisor import Supervisor
logging.basicConfig(level="INFO")
sys.exit(Supervisor(Settings(), (sys.executable, "-S", {str(STUB)!r})).run())
"""


def eventually(true: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true answer within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.01)
    return answer


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Home:
    """A data directory, the stub workers' diary, and the servers that were started there."""

    def __init__(self, path: Path, runtime: str) -> None:
        self.path = path
        self.runtime = runtime
        self.data_dir = path / "data"
        self.servers: list[subprocess.Popen[bytes]] = []

    def start(self, before: Callable[[], object] | None = None, **settings: object) -> subprocess.Popen[bytes]:
        """A server in a session of its own; `before` is called in its process first."""
        given = {"port": 0, "data_dir": self.data_dir, "workers": 1, **settings}
        environment = {f"BANDIT_{name.upper()}": str(value) for name, value in given.items() if value is not None}
        with (self.path / f"stderr{len(self.servers)}").open("wb") as stderr:
            server = subprocess.Popen(
                [sys.executable, "-c", PARENT],
                env={**os.environ, **environment, "STUB_DIARY": str(self.path), "TMPDIR": self.runtime},
                stderr=stderr,
                start_new_session=True,
                preexec_fn=before,
            )
        self.servers.append(server)
        return server

    def ready(self, server: subprocess.Popen[bytes]) -> int:
        """The port, once the server is ready."""
        number = self.servers.index(server)
        eventually(lambda: server.poll() is not None or "ready on" in self.stderr(number))
        assert server.poll() is None, self.stderr(number)
        return int(self.stderr(number).partition("ready on http://127.0.0.1:")[2].split()[0])

    def record(self) -> dict[str, Any]:
        """What server.json tells."""
        with suppress(OSError):
            return dict(json.loads((self.data_dir / "server.json").read_text()))
        return {}

    def stderr(self, number: int = -1) -> str:
        """What a server said, by default the last one."""
        return (self.path / f"stderr{number % len(self.servers)}").read_text()

    def diary(self, event: str) -> list[dict[str, Any]]:
        """What the workers noted of one kind, in order."""
        with suppress(OSError):
            notes = map(json.loads, (self.path / "diary").read_text().splitlines())
            return [note for note in notes if note["event"] == event]
        return []

    def stores(self) -> list[int]:
        """The living store processes on the directory, as the kernel tells it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink() == self.data_dir and alive(int(process.name)):
                    found.append(int(process.name))
        return found

    def order(self, what: str) -> None:
        """Tells the stub workers how to behave."""
        (self.path / what).write_text("")

    def clear(self) -> None:
        """Ends all that is left."""
        left = [*self.stores(), *(note["pid"] for note in self.diary("started"))]
        for server in self.servers:
            server.kill()
            server.wait()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ask(port: int) -> dict[str, Any]:
    """What some worker answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return dict(json.load(answer))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A place for servers; whatever is left there is ended."""
    with tempfile.TemporaryDirectory() as short:  # for the sockets: tmp_path is too long
        place = Home(tmp_path, short)
        yield place
        place.clear()
