"""The parent's worker processes: started, listened to, restarted when they die, and stopped together.

A worker learns that it should stop, or that the parent is gone, in one way: its life pipe ends. Signals are for the
parent alone; they are blocked in the workers, because one to the whole process group reaches them too.
"""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bandit.access.limits import shared_counts
from bandit.process.slots import Slots, shared_file
from bandit.settings import Handoff, Settings

log = logging.getLogger(__name__)

HANDOFF = "BANDIT_HANDOFF"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FAILED_STARTS = 5  # so many failures in a row before the first success are not by chance
STEADY_SECONDS = 10.0  # a child that lived for so long did not fail at its start
STEP = 0.02


class StartError(RuntimeError):
    """The server cannot start, and trying again would not help."""


class Backoff:
    """When a child may start again: 0.1 s after its death, twice as long after each further quick one, 5 s at most."""

    def __init__(self) -> None:
        self._deaths = 0
        self._due = 0.0

    @property
    def over(self) -> bool:
        """Whether the child may start now."""
        return time.monotonic() >= self._due

    def died(self, born: float) -> float:
        """The seconds until the next start of a child that was started at `born` and has ended now."""
        now = time.monotonic()
        self._deaths = 1 if now - born > STEADY_SECONDS else self._deaths + 1
        delay = min(5.0, 0.1 * 2.0 ** min(self._deaths - 1, 10))
        self._due = now + delay
        return delay


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process started inside never gets the stop signals; for the parent they are only put off, not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """One of the N workers: its process, what that reported, and when the next process may start."""

    def __init__(self, number: int, slots: Slots) -> None:
        self.number, self._slots = number, slots
        self.process: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self.ready = False
        self.slot: int | None = None  # what the process counts is in this one
        self.failed_starts = 0  # in a row, without having been ready
        self.said, self.refused = "", ""
        self.backoff = Backoff()
        self._born = 0.0

    def start(self, command: Sequence[str], handoff: Handoff) -> None:
        """Starts a process, which inherits what is handed to it and writes its state to a pipe of its own."""
        self.status, write = os.pipe()
        os.set_blocking(self.status, False)
        self.slot = self._slots.take()
        try:
            with _signals_blocked():
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    command,
                    stdin=subprocess.DEVNULL,
                    env=_environment(handoff.model_copy(update={"status": write, "slot": self.slot})),
                    pass_fds=(handoff.listener, handoff.life, write, handoff.flag, handoff.slots[0], handoff.limits),
                )
        finally:
            os.close(write)
        self._born = time.monotonic()

    def tend(self) -> None:
        """Takes note of what the process reported, and of its end."""
        if self.process is None:
            return
        code = self.process.poll()
        self._listen()
        if code is not None:
            self.failed_starts = 0 if self.ready else self.failed_starts + 1
            delay = self.backoff.died(self._born)
            if not self.refused:
                log.warning("worker %d ended (%s); again in %.1f s", self.number, _ending(code), delay)
            self.process, self.ready = None, False
            self._deafen()
            if self.slot is not None:
                self._slots.give(self.slot)

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while self.status is not None:
                said = os.read(self.status, 65536).decode(errors="replace")
                for line in said.splitlines():
                    self._hear(line)
                if not said:
                    self._deafen()

    def _hear(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "ready":
            self.ready, self.refused = True, ""
        elif word == "failed":
            self.said = rest
        elif word == "refused":
            self.refused = rest

    def _deafen(self) -> None:
        if self.status is not None:
            os.close(self.status)
            self.status = None

    def ended(self) -> bool:
        """Whether the worker has no running process."""
        return self.process is None or self.process.poll() is not None

    def close(self) -> bool:
        """Whether the process ended by itself with exit code 0; it is killed if it still runs."""
        self._deafen()
        if self.process is None:
            return True
        if not self.ended():
            log.warning("worker %d did not end in time: killed", self.number)
            self.process.kill()
        if (code := self.process.wait()) and not self.refused:
            log.warning("worker %d ended with %s", self.number, _ending(code))
        return code == 0


def _environment(handoff: Handoff) -> dict[str, str]:
    """A worker's environment: the settings are in the handoff alone, and BLAS runs on one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("BANDIT_")}
    # a directory beside the address would be two places for the data; the address may carry a password: no argument
    document = handoff.model_dump_json(exclude={"settings": {"data_dir", "store_binary"}})
    return {**kept, **ONE_THREAD, HANDOFF: document}


def _ending(code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


class Workers:
    """The N workers, their common life pipe, and the flag that all of them are ready."""

    def __init__(self, command: Sequence[str], settings: Settings, listener: socket.socket) -> None:
        self._command = command
        self._flag, self._slots = shared_file("bandit-all-ready", 1), Slots.made(settings.workers)
        life, self._life = os.pipe()
        slots = self._slots.descriptor, self._slots.count
        self._limits = shared_counts(settings.workers)
        self._handoff = Handoff(
            settings=settings, listener=listener.fileno(), life=life, status=-1, flag=self._flag, slots=slots,
            limits=self._limits,
        )  # fmt: skip
        self._workers = [Worker(number, self._slots) for number in range(settings.workers)]
        self.all_ready = False
        self._refusal = ""

    def descriptors(self) -> list[int]:
        """The descriptors that become readable when a worker reports something."""
        return [worker.status for worker in self._workers if worker.status is not None]

    def tend(self) -> None:
        """Restarts workers that have ended and are due, and sets the flag once all are ready.

        Raises:
            StartError: if a worker refuses the store, or ends again and again before all were ready once.
        """
        for worker in self._workers:
            worker.tend()
            if not self.all_ready and worker.failed_starts >= FAILED_STARTS:
                why = worker.said or "its own words are above"
                raise StartError(f"a worker ended {FAILED_STARTS} times before it was ready: {why}")
            if worker.process is None and worker.backoff.over:
                worker.start(self._command, self._handoff)
        self._report_refusal(next((worker.refused for worker in self._workers if worker.refused), ""))
        if not self.all_ready and all(worker.ready for worker in self._workers):
            self.all_ready = True
            os.pwrite(self._flag, b"\1", 0)
            self._handoff = self._handoff.model_copy(update={"replaced": True})

    def _report_refusal(self, why: str) -> None:
        """Log once that the store must not be used, and once that it can be again; at the start, end with the first."""
        if why and not self.all_ready:
            raise StartError(why)
        if why and why != self._refusal:
            log.error("%s; it is tried until it can be used", why)
        elif self._refusal and not why:
            log.warning("the store can be used again")
        self._refusal = why

    def stop(self, seconds: float) -> bool:
        """End the workers' life pipe: whether all of them ended well and in time; the others are killed."""
        os.close(self._life)
        deadline = time.monotonic() + seconds
        while not all(worker.ended() for worker in self._workers) and time.monotonic() < deadline:
            time.sleep(STEP)
        well = [worker.close() for worker in self._workers]
        os.close(self._handoff.life)
        os.close(self._flag)
        self._slots.close()
        os.close(self._limits)
        return all(well)
