"""A real store that a test kills, freezes and starts again on the same directory."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from bandit.process.embedded import find_binary


class Killable:
    """Valkey on a socket of its own; under `always` nothing that it acknowledged is lost with it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.url = directory, f"unix://{directory / 's'}"
        self.start()

    def start(self) -> None:
        """Start it, on what it has written before."""
        options = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        command = [
            str(find_binary()),
            *options,
            "--unixsocket",
            str(self.directory / "s"),
            "--dir",
            str(self.directory),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                with suppress(redis.RedisError, OSError):
                    client.ping()
                    return
                assert time.monotonic() < limit, "the store did not come up"
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It stands still: connections are taken by the system, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever state it is in."""
        self.kill()


@contextmanager
def killable() -> Iterator[Killable]:
    """One of them, empty."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        store = Killable(Path(directory))
        try:
            yield store
        finally:
            store.close()
