"""Real stores for the tests: the Valkey of the wheel, and redis-server where it is installed (CI installs it)."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from bandit.process.embedded import find_binary
from bandit.process.workers import ONE_THREAD

assert "numpy" not in sys.modules
os.environ.update(ONE_THREAD)  # as in a worker, and before NumPy is loaded

# ruff: noqa: E402
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store
from bandit.store.redis_store import RedisStore

pytest_plugins = ["live", "home"]  # the fixtures `server` and `home`

# rooms whose tests start no process and open no socket: `-m "not system"` runs these alone
FAST = {
    "bandit/core", "bandit/log", "simulator/logs", "simulator/ope", "simulator/checks", "simulator/environments",
    "simulator/policies",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real store, a process or the network; what tortures takes as long as it takes."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent.relative_to(here).as_posix() not in FAST:
            item.add_marker("system")
        if item.get_closest_marker("torture"):
            item.add_marker(pytest.mark.timeout(0))


@contextmanager
def running(binary: Path, directory: Path) -> Iterator[str]:
    """A server of our own on a socket in `directory`, as the embedded store is configured: its URL."""
    socket = directory / "s"
    options = ["--port", "0", "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    command = [str(binary), *options, "--unixsocket", str(socket), "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait(f"unix://{socket}")
            yield f"unix://{socket}"
        finally:
            process.kill()


def _wait(url: str) -> None:
    limit = time.monotonic() + 10
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.02)
            else:
                return


@contextmanager
def served(kind: str = "valkey") -> Iterator[str]:
    """A server of a kind in a directory of its own, empty: its URL. Skips the test where it is not installed."""
    binary = find_binary() if kind == "valkey" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as place, running(Path(binary), Path(place)) as url:
        yield url


@pytest.fixture(scope="session", params=["valkey", "redis"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a real server of each kind, empty at the start of the session."""
    with served(request.param) as found:
        yield found


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The address of a real Valkey, for tests that need one real store and not each."""
    with served() as found:
        yield found


@pytest.fixture(scope="session", params=["memory", "valkey", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Every store there is; tests use experiments of their own names."""
    if request.param == "memory":
        yield MemoryStore()
        return
    with served(request.param) as found:
        made = RedisStore(found)
        yield made
        made.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An experiment's name that no other test has."""
    return f"t{abs(hash((request.node.nodeid, time.monotonic_ns()))):x}"


@contextmanager
def opened(url: str, timeout: float = 5.0) -> Iterator[RedisStore]:
    """A store that is closed by `with`."""
    store = RedisStore(url, timeout)
    try:
        yield store
    finally:
        store.close()
