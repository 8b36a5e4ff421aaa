"""The machine: open files, the data directory and its disk, the socket's path, the port, the kernel's settings."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bandit.commands.checkup.finding import Finding, Verdict
from bandit.errors import nearest
from bandit.process.datadir import SOCKET_BYTES, identity
from bandit.process.supervisor import bind
from bandit.settings import Settings, is_loopback, machine_memory

FILES, FEW_FILES = 4096, 256  # open files: below the first there are notes, below the second the server cannot work
OURS = 64  # of them that a worker has open without a client, about
DISK, FULL_DISK = 2 << 30, 64 << 20  # free bytes
NEITHER = {"BANDIT_URL", "BANDIT_API_KEY", "BANDIT_HANDOFF"}  # variables that are no settings of the server


class Running(NamedTuple):
    """Where the server that runs on the data directory listens."""

    host: str
    port: int


def machine(settings: Settings) -> Iterator[Finding]:
    """Check what the server needs of this machine."""
    running = None if settings.redis_url else _running(settings.data_dir)
    yield _open_files()
    yield _port(settings, running)
    yield _keys(settings, running)
    yield from variables()
    if settings.redis_url is None:
        yield from _disk(settings.data_dir)
        yield _socket_path()
        yield from _kernel()
        yield _memory(settings)


def _open_files() -> Finding:
    """`serve` raises the soft limit to the hard one by itself, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 65536) if hard >= 0 else 65536
    clients = f"a worker takes some {max(most - OURS, 0)} connections at once"
    if most < FEW_FILES:
        return Finding("FAIL", "open files", f"{most} open files are allowed, {FEW_FILES} are needed: raise ulimit -n")
    if most < FILES:
        text = f"{most} open files are allowed, so that {clients}: raise ulimit -Hn"
        return Finding("note", "open files", text)
    return Finding("ok", "open files", f"{most} open files are allowed (now {soft}, which `serve` raises): {clients}")


def _port(settings: Settings, running: Running | None) -> Finding:
    where = f"{settings.host}:{settings.port}"
    if running is not None:
        listens = f"and listens on {running.host}:{running.port}"
        return Finding("ok", "port", f"a server runs on {settings.data_dir}, {listens}")
    try:
        bind(settings.host, settings.port).close()
    except OSError as error:
        text = f"cannot listen on {where} now: {error.strerror or error}; is a server running there, or choose --port"
        return Finding("note", "port", text)
    return Finding("ok", "port", f"{where} is free")


def _running(data_dir: Path) -> Running | None:
    """What the process says of itself in the directory, if it is alive."""
    try:
        told = json.loads((data_dir / "server.json").read_text())
        alive = identity(int(told["pid"])) is not None
        return Running(str(told["host"]), int(told["port"])) if alive else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keys(settings: Settings, running: Running | None) -> Finding:
    """What the server that runs does; where there is none, or it does not answer, what these settings make one do."""
    asks = _asks(running) if running else None
    host = running.host if running else settings.host
    by = "" if asks is not None else " by these settings"
    if settings.auth_on if asks is None else asks:
        return Finding("ok", "keys", f"API keys are asked for{by}")
    if is_loopback(host):
        return Finding("ok", "keys", f"no API keys are asked for{by}, as only this machine reaches {host}")
    text = f"no API keys are asked for{by}, and {host} may be reached by others: leave --no-auth out"
    return Finding("note", "keys", text)


def _asks(running: Running) -> bool | None:
    """Whether a server asks for keys: it is asked who comes without one. None where it does not say."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(running.host, running.host)  # noqa: S104 - any address
    connection = http.client.HTTPConnection(host, running.port, timeout=2)
    try:
        connection.request("GET", "/v1/whoami")
        return {200: False, 401: True}.get(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def variables() -> Iterator[Finding]:
    """Variables that look like settings and are none: a misspelt one would be overlooked."""
    known = {f"BANDIT_{name.upper()}" for name in Settings.model_fields} | NEITHER
    for name in sorted(os.environ):
        plain = name.upper()
        if not plain.startswith("BANDIT_") or plain in known or plain.endswith(("_HOST", "_PORT")) or "_PORT_" in plain:
            continue  # the last ones are links of a Kubernetes service called bandit
        yield Finding("note", "variables", f"{name} in the environment is no setting{nearest(plain, known)}")


def _disk(data_dir: Path) -> Iterator[Finding]:
    """The data directory, or where it would be made, and the room on its disk."""
    nearest_one = next((path for path in (data_dir, *data_dir.absolute().parents) if path.exists()), Path("/"))
    there = nearest_one == data_dir
    if not nearest_one.is_dir():
        text = f"data directory {data_dir} cannot be made: {nearest_one} is a file; name another --data-dir"
        yield Finding("FAIL", "data directory", text)
        return
    if not os.access(nearest_one, os.W_OK | os.X_OK):
        what = "cannot be written to" if there else "cannot be made"
        text = f"data directory {data_dir} {what}: this user may not write to {nearest_one}"
        yield Finding("FAIL", "data directory", text)
    elif not there:
        yield Finding("note", "data directory", f"data directory {data_dir} is not there yet; `serve` makes it")
    free = shutil.disk_usage(nearest_one).free
    verdict: Verdict = "FAIL" if free < FULL_DISK else "note" if free < DISK else "ok"
    advice = "" if verdict == "ok" else ": free some, or the store's file cannot grow and writes are refused"
    yield Finding(verdict, "disk", f"{free >> 20} MiB are free for the data directory{advice}")


def _socket_path() -> Finding:
    """The store's socket lies in a directory of its own under the temporary one."""
    length = len(os.fsencode(Path(tempfile.gettempdir()) / "bandit-12345678" / "valkey.sock"))
    if length > SOCKET_BYTES:
        text = f"the store's socket would have a path of {length} bytes, {SOCKET_BYTES} at most: set a shorter TMPDIR"
        return Finding("FAIL", "socket", text)
    return Finding("ok", "socket", f"the store's socket has a path of {length} bytes, {SOCKET_BYTES} at most")


def _kernel() -> Iterator[Finding]:
    """What Linux does with the memory of a store that forks to rewrite its file."""
    if _read("/proc/sys/vm/overcommit_memory") == "2":
        text = "vm.overcommit_memory is 2: the store may fail to fork and to rewrite its file; set it to 1"
        yield Finding("note", "overcommit", text)
    elif _read("/proc/sys/vm/overcommit_memory") == "0":
        text = (
            "vm.overcommit_memory is 0: a store that takes half of the memory may fail to rewrite its file; 1 is better"
        )
        yield Finding("note", "overcommit", text)
    if "[always]" in _read("/sys/kernel/mm/transparent_hugepage/enabled"):
        text = (
            "transparent huge pages are always on: a store that rewrites its file stalls and grows; madvise is better"
        )
        yield Finding("note", "huge pages", text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _memory(settings: Settings) -> Finding:
    has, store, models = machine_memory(), settings.store_bytes, settings.model_bytes * settings.workers
    store = has // 2 if store is None else store
    text = f"{has >> 20} MiB of memory: up to {store >> 20} for the store, {models >> 20} for models"
    if store + models > has:
        return Finding("note", "memory", f"{text}, which is more than there is: lower --store-memory")
    return Finding("ok", "memory", text)
