"""The parent's worker processes: started, listened to, restarted when they die, replaced, and stopped together.

A worker learns that it should stop, or that the parent is gone, in one way: its life pipe ends. Signals are for the
parent alone; they are blocked in the workers, because one to the whole process group reaches them too.
"""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from bandit.access import limits
from bandit.process.slots import Slots, shared_file
from bandit.settings import Handoff, Phase, Settings

log = logging.getLogger(__name__)

HANDOFF = "BANDIT_HANDOFF"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)
RELIEVED = b"r"
# With threads of its own OpenBLAS hangs for ever where one thread of a process forks while another one multiplies.
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
    """A process started inside never gets the parent's signals; for the parent they are only put off, not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """One of the N workers: its process, what that reported, and when the next process may start.

    Each process has a life pipe of its own, so that one can be told to end while the others go on.

    Args:
        number: which of the N it is, for people.
        slots: of which each process takes one.
    """

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
        self._life: int | None = None

    def start(self, command: Sequence[str], handoff: Handoff) -> None:
        """Starts a process, which inherits what is handed to it and writes its state to a pipe of its own."""
        self.status, write = os.pipe()
        os.set_blocking(self.status, False)
        life, self._life = os.pipe()
        self.slot = self._slots.take()
        try:
            with _signals_blocked():
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    command,
                    stdin=subprocess.DEVNULL,
                    env=_environment(handoff.model_copy(update={"status": write, "life": life, "slot": self.slot})),
                    pass_fds=(handoff.listener, life, write, handoff.flag, handoff.slots[0], handoff.limits),
                )
        finally:
            os.close(write)
            os.close(life)
        self._born = time.monotonic()

    def end(self, relieved: bool = False) -> None:
        """Tells the process to end; relieved: that another one serves already, so that there is no haste."""
        if self._life is not None:
            with suppress(BrokenPipeError):  # it has ended already
                if relieved:
                    os.write(self._life, RELIEVED)
            os.close(self._life)
            self._life = None

    def tend(self) -> None:
        """Takes note of what the process reported, and of its end."""
        if self.process is None:
            return
        code = self.process.poll()
        self.listen()
        if code is not None:
            self.failed_starts = 0 if self.ready else self.failed_starts + 1
            delay = self.backoff.died(self._born)
            if not self.refused:
                log.warning("worker %d ended (%s); again in %.1f s", self.number, _ending(code), delay)
            self.process, self.ready = None, False
            self._let_go()

    def listen(self) -> None:
        """Takes note of what the process reported."""
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

    def _let_go(self) -> None:
        """Gives up what was held for the process, which has ended."""
        self._deafen()
        self.end()
        if self.slot is not None:
            self._slots.give(self.slot)
            self.slot = None

    def ended(self) -> bool:
        """Whether the worker has no running process."""
        return self.process is None or self.process.poll() is not None

    def close(self) -> bool:
        """Whether the process ended by itself with exit code 0; it is killed if it still runs."""
        if self.process is not None and not self.ended():
            log.warning("worker %d did not end in time: killed", self.number)
            self.process.kill()
        code = self.process.wait() if self.process is not None else 0
        if code and not self.refused:
            log.warning("worker %d ended with %s", self.number, _ending(code))
        self._let_go()
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
    """The N workers, the flag that says what they all do, and their replacement one by one.

    Args:
        command: what a worker is.
        settings: how they run; `redis_url` is the address of the store.
        listener: the socket that they accept from.
        queued: whether connections that come before the first worker is ready wait, instead of being told so.
    """

    def __init__(
        self, command: Sequence[str], settings: Settings, listener: socket.socket, queued: bool = False
    ) -> None:
        self._command = command
        self._flag, self._slots = shared_file("bandit-phase", 1), Slots.made(settings.workers)
        self._limits = shared_file("bandit-limits", limits.size_for(settings.workers))
        self._handoff = Handoff(
            settings=settings,
            listener=listener.fileno(),
            life=-1,
            status=-1,
            flag=self._flag,
            slots=(self._slots.descriptor, self._slots.count),
            limits=self._limits,
            replaced=queued,
        )
        self._workers = [Worker(number, self._slots) for number in range(settings.workers)]
        self._rolling = Rolling(self._workers, self._slots, self._start, settings.stop_timeout)
        self.phase = Phase.STARTING
        self._refusal = ""

    @property
    def all_ready(self) -> bool:
        """Whether all workers of this start have been ready."""
        return self.phase is not Phase.STARTING

    def descriptors(self) -> list[int]:
        """The descriptors that become readable when a worker reports something."""
        everyone = [*self._workers, *self._rolling.others()]
        return [worker.status for worker in everyone if worker.status is not None]

    def _start(self, worker: Worker) -> None:
        worker.start(self._command, self._handoff)

    def tend(self) -> None:
        """Restarts workers that have ended and are due, sets the flag once all are ready, and goes on replacing them.

        Raises:
            StartError: if a worker refuses the store, or ends again and again before all were ready once.
        """
        for worker in self._workers:
            worker.tend()
            if not self.all_ready and worker.failed_starts >= FAILED_STARTS:
                why = worker.said or "its own words are above"
                raise StartError(f"a worker ended {FAILED_STARTS} times before it was ready: {why}")
            if worker.process is None and worker.backoff.over:
                self._start(worker)
        self._report_refusal(next((worker.refused for worker in self._workers if worker.refused), ""))
        if not self.all_ready and all(worker.ready for worker in self._workers):
            self.enter(Phase.READY)
            self._handoff = self._handoff.model_copy(update={"replaced": True})
        if self.phase is Phase.READY:
            self._rolling.tend()

    def enter(self, phase: Phase) -> None:
        """Tells all workers what they do from now on."""
        self.phase = phase
        os.pwrite(self._flag, bytes([phase]), 0)

    def renew(self) -> None:
        """Asks for new processes in the place of all workers; asked again meanwhile, it is done once more."""
        self._rolling.asked = True

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
        """End all workers: whether all of them ended well and in time; the others are killed."""
        everyone = [*self._workers, *self._rolling.others()]
        for worker in everyone:
            worker.end()
        deadline = time.monotonic() + seconds
        while not all(worker.ended() for worker in everyone) and time.monotonic() < deadline:
            time.sleep(STEP)
        well = [worker.close() for worker in everyone]
        os.close(self._flag)
        self._slots.close()
        os.close(self._limits)
        return all(well)


class Rolling:
    """The replacement of all workers, one after another: each new one is ready before the old one is told to end.

    At most one process more than there are workers runs at a time: the next one starts when the last one has left. A
    new one that ends before it is ready, as where its code is broken, ends the round, and the others go on.

    Args:
        workers: the list in which new ones take the places of old ones.
        slots: of which each process takes one.
        start: starts the process of a new one.
        seconds: within which an old one has left.
    """

    def __init__(self, workers: list[Worker], slots: Slots, start: Callable[[Worker], None], seconds: float) -> None:
        self.asked = False
        self._workers, self._slots, self._start, self._seconds = workers, slots, start, seconds
        self._due: list[int] = []  # numbers of the workers still to be replaced
        self._new: Worker | None = None
        self._old: Worker | None = None
        self._deadline = 0.0

    def others(self) -> list[Worker]:
        """The one that starts, or the one that leaves."""
        return [worker for worker in (self._new, self._old) if worker is not None]

    def tend(self) -> None:
        """Goes a step further, where one is due."""
        if self._old is not None:
            self._watch_old(self._old)
        elif self._new is not None:
            self._watch_new(self._new)
        elif self._due:
            self._begin(self._due[0])
        elif self.asked:
            self.asked = False
            self._due = [worker.number for worker in self._workers]
            log.info("replacing the workers, one after another")

    def _begin(self, number: int) -> None:
        self._new = Worker(number, self._slots)
        try:
            self._start(self._new)
        except OSError as error:  # no memory, no process: the old ones are still there
            self._give_up(self._new, str(error))

    def _watch_new(self, new: Worker) -> None:
        gone = new.ended()
        new.listen()
        if gone:
            self._give_up(new, new.refused or new.said or "its own words are above")
        elif new.ready:
            self._old, self._workers[new.number] = self._workers[new.number], new
            self._new = None
            self._due.remove(new.number)
            self._old.end(relieved=True)
            self._deadline = time.monotonic() + self._seconds

    def _give_up(self, new: Worker, why: str) -> None:
        new.close()
        left = len(self._due)
        log.error(
            "a new worker ended before it was ready: %s; %d of %d go on as they are", why, left, len(self._workers)
        )
        self._new, self._due = None, []

    def _watch_old(self, old: Worker) -> None:
        if old.ended() or time.monotonic() > self._deadline:
            old.close()
            self._old = None
            if not self._due:
                log.info("all workers are replaced")
