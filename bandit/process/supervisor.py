"""The parent of a server: one lock, one store, one listening socket, N workers.

    start   lock the data directory, bind the port, start or adopt the store, hand the socket to the workers
    run     restart what dies: a worker or the store, after 0.1 s, or up to 5 s when it dies again and again
    SIGHUP  new workers in the place of the old ones, one after another, on the same socket
    stop    drain: /readyz says no while requests are still served; then stop accepting, answer what is open, flush,
            checkpoint (all in the workers, at the end of their life pipes), store, unlock

The parent holds no state of its own and imports nothing large: killed at any time, the next one takes over from the
directory, where server.json {pid, host, port} stands as long as a server is ready.
"""

import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Any

from bandit.process import activation, embedded
from bandit.process.datadir import write_atomically
from bandit.process.workers import SIGNALS, STEP, Backoff, StartError, Workers
from bandit.settings import Phase, Settings
from bandit.telling import reason, say, tell

log = logging.getLogger(__name__)

WORKER = (
    sys.executable,
    "-P",
    "-m",
    "bandit.process.worker",
)  # -P: a redis.py in the current directory is not ours
BACKLOG = 2048
BIND_SECONDS = 3.0  # the workers of a parent that was killed may hold the port for a moment


class _Stopping(Exception):  # noqa: N818 - no error
    """A signal asked for the end during the start."""


class Signals:
    """Remembers what signals asked for; its descriptor wakes a waiting parent, as a child's death does.

    asked    the end. A second signal asks for nothing more: who wants less than an orderly stop has SIGKILL
    at_once  the end without a drain: SIGINT, as from Ctrl-C
    renew    new workers: SIGHUP, but where it tells that our terminal has gone, which is the end
    """

    def __init__(self) -> None:
        self.asked = self.at_once = self.renew = False
        self._had_terminal = _has_terminal()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        self.descriptor, self._write = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*SIGNALS, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish is kept
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._write)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and _has_terminal() >= self._had_terminal:
            self.renew = True
        elif number != signal.SIGCHLD:
            self.asked = True
            self.at_once |= number == signal.SIGINT

    def check(self) -> None:
        """Raises _Stopping once a signal has come; called again and again during a start."""
        if self.asked:
            raise _Stopping

    def wait(self, descriptors: Sequence[int], seconds: float) -> None:
        """Returns when a signal came, a child died or a descriptor can be read, or after so many seconds."""
        select.select([self.descriptor, *descriptors], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)


def _has_terminal() -> bool:
    """Whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Supervisor:
    """Runs one server with these settings until a signal stops it.

    Args:
        settings: how it runs.
        command: what a worker is; it finds its `Handoff` as JSON in BANDIT_HANDOFF.
    """

    def __init__(self, settings: Settings, command: Sequence[str] = WORKER) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.absolute()
        self._record = self._data_dir / "server.json"
        self._command = command
        self._signals = Signals()
        self._store: embedded.EmbeddedStore | None = None
        self._store_backoff = Backoff()
        self._store_born: float | None = None
        self._clean = True
        self._given = False  # whether the socket was opened by somebody else, so that clients wait in its queue already

    def run(self) -> int:
        """The exit code: 0 after a clean stop, 1 after a failure, which is reported on stderr. Main thread only."""
        try:
            # what is entered first is left last: workers, store, lock
            with self._signals, ExitStack() as stack, suppress(_Stopping):
                self._serve(stack)
        except (activation.ActivationError, embedded.EmbeddedError, StartError, OSError) as error:
            tell("bandit-server", reason(error))
            return 1
        return 0 if self._clean else 1

    def _serve(self, stack: ExitStack) -> None:
        _raise_descriptor_limit()
        if self._settings.redis_url is None:
            stack.enter_context(embedded.lock(self._data_dir))
        listener = stack.enter_context(self._bound())
        url = self._settings.redis_url or self._start_store(stack)
        listener.listen(BACKLOG)  # only now: a client that comes earlier is refused, not left waiting
        first_key = self._settings.first_key_file or self._data_dir / "first-admin-key"
        host = listener.getsockname()[0] if self._given else self._settings.host  # keys are asked for by what it is
        own = {"redis_url": url, "first_key_file": first_key.absolute(), "host": host}
        workers = Workers(self._command, self._settings.model_copy(update=own), listener, queued=self._given)
        stack.callback(self._stop_workers, workers, listener)
        announced = False
        while not self._signals.asked:
            if self._signals.renew:
                self._signals.renew = False
                workers.renew()
            self._tend(workers)
            if workers.all_ready and not announced:
                announced = True
                self._announce(*listener.getsockname()[:2])
        if workers.all_ready:
            self._drain(workers)

    def _tend(self, workers: Workers) -> None:
        """One turn of looking after all children."""
        self._tend_store()
        workers.tend()
        self._signals.wait(workers.descriptors(), 0.1)

    def _drain(self, workers: Workers) -> None:
        """Serves on for a while, so that balancers notice; in the second half each answer closes its connection."""
        begun, seconds = time.monotonic(), self._settings.drain_seconds
        if seconds > 0 and not self._signals.at_once:
            log.info("draining: /readyz answers 503, and requests are served for %g s more", seconds)
            workers.enter(Phase.DRAINING)
        while (passed := time.monotonic() - begun) < seconds and not self._signals.at_once:
            if workers.phase is Phase.DRAINING and passed >= seconds / 2:
                workers.enter(Phase.CLOSING)
            self._tend(workers)

    def _announce(self, host: str, port: int) -> None:
        many = self._settings.workers
        if self._store is not None:
            write_atomically(self._record, {"pid": os.getpid(), "host": host, "port": port})
        elif self._settings.redis_url and embedded.keeps_no_file(self._settings.redis_url):
            log.warning("the store keeps no append-only file: a restart loses writes that were acknowledged")
        shown, noun = f"[{host}]" if ":" in host else host, "worker" if many == 1 else "workers"
        say(f"ready on http://{shown}:{port} ({many} {noun})")

    def _stop_workers(self, workers: Workers, listener: socket.socket) -> None:
        if self._signals.asked:
            log.info("stopping")
        listener.close()
        if self._store is not None and self._settings.keep_store:
            log.info("the store stays as process %s, for the next start", self._store.pid)
        self._clean = workers.stop(self._settings.stop_timeout * 2 / 3)

    def _bound(self) -> socket.socket:
        """The bound socket; a port that the workers of a killed parent are about to leave is waited for."""
        if (given := activation.listener()) is not None:
            self._given = True
            return given
        left_behind = self._settings.redis_url is not None or self._record.exists()
        deadline = time.monotonic() + (BIND_SECONDS if left_behind else 0.0)
        while True:
            try:
                return bind(self._settings.host, self._settings.port)
            except OSError as error:
                if time.monotonic() >= deadline:
                    where = f"{self._settings.host}:{self._settings.port}"
                    why = error.strerror or error
                    raise StartError(f"cannot listen on {where}: {why}; choose --host and --port (0: free)") from error
            self._signals.check()
            time.sleep(STEP)

    def _start_store(self, stack: ExitStack) -> str:
        """The address of the embedded store, ready."""
        settings = self._settings
        self._record.unlink(missing_ok=True)
        stack.callback(self._record.unlink, missing_ok=True)
        self._store = embedded.start(
            self._data_dir,
            binary=settings.store_binary,
            durability=settings.durability,
            memory=settings.store_bytes,
            tick=self._signals.check,
        )
        self._store_born = time.monotonic()
        if not settings.keep_store:
            stack.callback(self._store.stop, settings.stop_timeout / 4)
        return self._store.url

    def _tend_store(self) -> None:
        """Starts a dead store again, on the same socket, where the workers find it."""
        if self._store is None or self._store.alive():
            return
        if self._store_born is not None:
            delay = self._store_backoff.died(self._store_born)
            log.error("the store died; again in %.1f s. Its last words: %s", delay, self._store.last_words(1))
            self._store_born = None
        elif self._store_backoff.over:
            self._store_born = time.monotonic()
            try:
                self._store.launch(seconds=0.0)
            except embedded.EmbeddedError as error:  # it is not alive then: the next turn counts it as dead again
                log.error("%s", error)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of the host, IPv4 before IPv6."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _raise_descriptor_limit() -> None:
    """Lets the workers have as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard >= 0 else 65536, hard))
