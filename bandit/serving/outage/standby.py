"""Decisions of a server that starts while the store is away: by the snapshots that one on this machine left behind.

One worker of those that share the directory writes them, at most once a checkpoint interval, of the experiments that
are answered for while the store is away. A server that starts reads them first, and drops them once it is ready.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from bandit.errors import Problem
from bandit.log.records import Position
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.serving.outage import snapshot

log = logging.getLogger(__name__)

LOCK = ".lock"
LOOK = 0.1  # seconds between two looks whether the server is ready
CHANGES = 1.0  # seconds between two looks for changed documents: an arm that was retired must not be shown by a file


class Standby(threading.Thread):
    """Reads the snapshots at the start, then writes them.

    Args:
        directory: where they are; it is made where it is missing.
        follower: has the replicas that are written.
        seconds: between two writes of what was learned, at least. What is said in a document is written at once.

    Attributes:
        replicas: what decides until the follower is ready; none afterwards.
        secret: the key of user ids that they were written with.
    """

    def __init__(self, directory: Path, follower: Follower, seconds: float) -> None:
        super().__init__(name="standby", daemon=True)
        self.directory, self.follower, self.seconds = directory, follower, seconds
        self.replicas: dict[str, Replica] = {}
        self.secret: bytes | None = None
        self._stopping = threading.Event()
        self._written: dict[str, tuple[int, Position]] = {}  # version and position of each file
        self._lock: int | None = None
        self._failure = ""

    def run(self) -> None:
        """Until stopped."""
        for replica, secret in snapshot.restored(self.directory, self.follower.store, self.follower.budget):
            self.secret, self.replicas[replica.name] = secret, replica
        if self.replicas:
            log.info("%d snapshots can be decided by until the store has been read", len(self.replicas))
        while not self.follower.ready.is_set():
            if self._stopping.wait(LOOK):
                return
        self.replicas = {}
        due = 0.0
        while not self._stopping.is_set():
            learned = time.monotonic() >= due
            if learned:
                due = time.monotonic() + self.seconds
            self._guarded(learned)
            self._stopping.wait(min(CHANGES, self.seconds))
        self._guarded(True)
        if self._lock is not None:
            os.close(self._lock)

    def stop(self) -> None:
        """Write once more, and end."""
        self._stopping.set()

    def _guarded(self, learned: bool) -> None:
        try:
            if self._holds():
                self.write(learned)
            self._failure = ""
        except OSError as error:
            if str(error) != self._failure:
                log.warning("snapshots cannot be written: %s", error)
            self._failure = str(error)

    def _holds(self) -> bool:
        """Whether this worker writes them: the first to ask does, for as long as it lives."""
        if self._lock is None:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def write(self, learned: bool = True) -> None:
        """Write what has changed since, and remove what is not answered for any more.

        Args:
            learned: also those of which only the sums have changed.

        Raises:
            OSError: one of them cannot be written.
        """
        wanted = set[str]()
        for name, replica in list(self.follower.replicas.items()):
            model = replica.model
            if replica.failed is not None or (model and model.experiment.document.degraded == "answer"):
                wanted.add(name)
            if name in wanted and model is not None:
                with suppress(Problem):  # it was deleted meanwhile
                    self._write_one(replica, learned)
        for name in snapshot.names(self.directory) if learned else list(self._written):
            if name not in wanted:
                (self.directory / f"{name}{snapshot.SUFFIX}").unlink(missing_ok=True)
                self._written.pop(name, None)

    def _write_one(self, replica: Replica, learned: bool) -> None:
        with replica.held() as model:
            config, position = model.experiment.config, replica.position
            version, at = self._written.get(replica.name, (0, position))
            if version == config.version and (at == position or not learned):
                return
            sums = model.sums.copy()
        data = snapshot.packed(config, sums, position, self.follower.secret)
        if len(data) > snapshot.LARGEST:
            log.warning("%s: its snapshot would be too large: %d MiB", replica.name, len(data) >> 20)
        else:
            snapshot.write(self.directory, replica.name, data)
        self._written[replica.name] = config.version, position
