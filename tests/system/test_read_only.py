"""The container's command where nothing can be written, as a user that nobody knows: a mount namespace of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from harness import DOCUMENT, until

from bandit.access.keys import new_text
from bandit.process.embedded import find_binary

# everything read-only, then a user id without a name, a home or rights; it may read all files, as those of an image
CONFINED = (
    "for place in / /tmp /var/tmp /dev/shm; do "
    "[ ! -d $place ] || { mount --bind $place $place && mount -o remount,ro,bind $place; } || exit 1; done; "
    'cd "$PWD" && '
    "exec setpriv --reuid 12345 --regid 0 --clear-groups --no-new-privs "
    '--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "$@"'
)
confined = ("unshare", "--mount", "sh", "-c", CONFINED, "sh")


def _possible() -> bool:
    """Whether this machine lets us confine a process so that it is another user and can write nowhere."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    command = [*confined, sys.executable, "-c", "import os, tempfile; assert os.getuid() == 12345; tempfile.mkdtemp()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "No usable temporary directory" in done.stderr


pytestmark = pytest.mark.skipif(not _possible(), reason="needs root, unshare and setpriv")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """A store elsewhere, by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(find_binary()), "--port", str(port), "--save", "", "--appendonly", "yes", "--dir", str(tmp_path)]
    with subprocess.Popen([*command, "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL) as process:
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            until(lambda: _answers(client), 30, "a store")
        yield url
        process.kill()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_server_runs_without_writing_anywhere_as_any_user(store: str, tmp_path: Path) -> None:
    """Keys on, two workers: it decides, tells its metrics over both, evaluates, renews its workers, drains, stops."""
    key = new_text()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {
        "BANDIT_REDIS_URL": store, "BANDIT_HOST": "127.0.0.1", "BANDIT_PORT": str(port), "BANDIT_WORKERS": "2",
        "BANDIT_AUTH": "on", "BANDIT_ADMIN_KEY": key, "BANDIT_DRAIN_SECONDS": "1",
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith("BANDIT_")}
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([*confined, sys.executable, "-m", "bandit", "serve"], stderr=output, env=kept | given)
    try:
        until(lambda: b"ready on" in log.read_bytes() or server.poll() is not None, 60, "a ready server")
        assert server.poll() is None, log.read_text()
        _use(httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=60))
        server.send_signal(signal.SIGHUP)
        until(lambda: b"all workers are replaced" in log.read_bytes(), 60, "new workers")
        server.terminate()
        assert server.wait(60) == 0
        assert not any(word in log.read_text() for word in ("Traceback", "ERROR", "Read-only", "Permission"))
        assert key not in log.read_text()
    finally:
        server.kill()
        server.wait()


def _use(client: httpx.Client) -> None:
    """What would write, if anything did."""
    with client:
        client.put("/v1/experiments/e", json=DOCUMENT).raise_for_status()
        for age in range(20, 30):
            body = {"context": {"age": age, "country": "us"}}
            decision = client.post("/v1/experiments/e/recommendations", json=body).raise_for_status().json()
            event = {"decision_id": decision["decision_id"], "event": "click"}
            client.post("/v1/experiments/e/feedback", json=event).raise_for_status()
        assert "bandit_decisions_total" in client.get("/metrics").raise_for_status().text
        client.get("/v1/experiments/e/evaluation").raise_for_status()
        client.get("/dashboard", follow_redirects=True).raise_for_status()
