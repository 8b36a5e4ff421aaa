"""A data directory: who may use it, and which store process lives on it.

    lock         held by the one process that may start a store here, and names it
    valkey.lock  inherited by the store itself and its forks: free when no store lives here, whoever started it
    valkey.json  the store's process and socket: how it is found beside a server, or left behind by a dead one

The socket lies in a short private directory of its own, because a socket's path may have at most 107 bytes. That is
under TMPDIR or /tmp and not XDG_RUNTIME_DIR, which vanishes with its user's last login under a server left running;
or in the data directory, where a system is read-only but for that.
"""

import fcntl
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bandit.errors import EmbeddedError

SOCKET_BYTES = 107  # the longest path of a unix socket: sun_path without its closing zero
STEP = 0.02


class OccupiedError(EmbeddedError):
    """Another process holds the data directory; `purpose` is what it gave to `lock`."""

    def __init__(self, data_dir: Path, pid: str, purpose: str) -> None:
        super().__init__(f"data directory {data_dir} is in use by process {pid} ({purpose})")
        self.purpose = purpose


def identity(pid: int | None) -> str | None:
    """When the process started, by the system's own record; None when it is dead.

    A process id alone does not identify a process, since ids are used again.
    """
    if pid is None:
        return None
    return _identity_by_proc(pid) if Path("/proc/self/stat").exists() else _identity_by_ps(pid)


def _identity_by_proc(pid: int) -> str | None:
    try:
        # the name in parentheses may hold anything; after it: state, then the start time as the 22nd field of all
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _identity_by_ps(pid: int) -> str | None:
    asked = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a number
    state, _, started = answer.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the file's lock (close-on-exec), or None when somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def lock(data_dir: Path, purpose: str = "serve") -> Iterator[None]:
    """Holds the data directory, which is made if missing; the kernel lets go of it with this process.

    Raises:
        OccupiedError: if another process holds it.
        EmbeddedError: if the directory cannot be written to.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = _try_lock(data_dir / "lock")
    except OSError as error:
        raise EmbeddedError(f"data directory {data_dir} cannot be used: {error.strerror}") from error
    if held is None:
        pid, _, holder = (data_dir / "lock").read_text().strip().partition(" ")
        raise OccupiedError(data_dir, pid or "unknown", holder or "starting")
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield
    finally:
        os.close(held)


def hold_store_lock(data_dir: Path, seconds: float, tick: Callable[[], None]) -> int:
    """A descriptor that holds valkey.lock, for the store to inherit and the caller to close.

    Raises:
        EmbeddedError: if somebody still holds it after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while (held := _try_lock(data_dir / "valkey.lock")) is None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"a store still lives on {data_dir}: it holds valkey.lock there")
        tick()
        time.sleep(STEP)
    return held


@dataclass(frozen=True)
class Record:
    """Where a store is. Written before it starts, without pid, and again with it: no store is ever unrecorded."""

    socket: str
    binary: str
    pid: int | None = None
    started: str | None = None

    @property
    def url(self) -> str:
        """The address for a client."""
        return f"unix://{quote(self.socket)}"

    @property
    def alive(self) -> bool:
        """Whether the recorded process, and not another of the same number, is alive."""
        return self.started is not None and identity(self.pid) == self.started


def read_record(data_dir: Path) -> Record | None:
    """The record of the directory's store, if there is one."""
    with suppress(OSError, ValueError, TypeError):
        return Record(**json.loads((data_dir / "valkey.json").read_text()))
    return None


def write_record(data_dir: Path, record: Record) -> None:
    """Puts the record into the directory."""
    write_atomically(data_dir / "valkey.json", asdict(record))


def write_atomically(path: Path, document: dict[str, Any]) -> None:
    """Puts the document as JSON at the path: whoever reads it sees all of it or what was there before."""
    fresh = path.with_name(f"{path.name}.fresh")  # one name, so that a crash leaves one at most
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600)
    fresh.write_text(json.dumps(document) + "\n")
    fresh.replace(path)


def remove_record(data_dir: Path, record: Record | None) -> None:
    """Removes what a dead store left: its socket with the directory around it, and the record."""
    if record is not None:
        Path(record.socket).unlink(missing_ok=True)
        with suppress(OSError):  # gone already, or not empty and so not ours
            Path(record.socket).parent.rmdir()
    (data_dir / "valkey.json").unlink(missing_ok=True)


def inhabited(data_dir: Path, record: Record | None) -> bool:
    """Whether a store lives on the directory, by its lock or its record."""
    if (held := _try_lock(data_dir / "valkey.lock")) is None:
        return True
    os.close(held)
    return record is not None and record.alive


def new_socket(data_dir: Path) -> Path:
    """A socket's path in a new private directory; where nothing but the data directory can be written to, in there.

    Raises:
        EmbeddedError: if the path has more than 107 bytes.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix="bandit-")) / "valkey.sock"
    except FileNotFoundError:  # as Python says it, of a system that is read-only
        path = Path(tempfile.mkdtemp(prefix="bandit-", dir=data_dir)) / "valkey.sock"
    if (length := len(os.fsencode(path))) > SOCKET_BYTES:
        path.parent.rmdir()
        raise EmbeddedError(f"expected a socket path of at most {SOCKET_BYTES} bytes, got {length}: {path}; set TMPDIR")
    return path
