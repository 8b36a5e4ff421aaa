"""A worker without a service, for the tests of the parent: it keeps a diary and answers on the inherited socket.

The diary's directory is STUB_DIARY; a file of these names in it changes what the worker does:

    broken  it says so and ends at once
    hang    it does not care about the end of its life pipe
    unready it is not ready before the file is gone
"""

import json
import mmap
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

DIARY = Path(os.environ["STUB_DIARY"])
HANDOFF: dict[str, Any] = json.loads(os.environ["BANDIT_HANDOFF"])


def note(event: str, **more: object) -> None:
    """Adds a line to the diary in one write."""
    line = json.dumps({"event": event, "pid": os.getpid(), "at": time.monotonic(), **more}) + "\n"
    descriptor = os.open(DIARY / "diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def answer(listener: socket.socket, flag: mmap.mmap) -> None:
    """Answers one client with this process and the flag."""
    try:
        client, _ = listener.accept()
    except BlockingIOError:  # another worker was quicker
        return
    with client:
        client.recv(65536)
        body = json.dumps({"pid": os.getpid(), "all_ready": flag[0] == 1, "phase": flag[0]}).encode()
        client.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def flush() -> None:
    """Writes to the store as a last checkpoint would."""
    with socket.socket(socket.AF_UNIX) as store:
        store.connect(HANDOFF["settings"]["redis_url"].removeprefix("unix://"))
        store.sendall(f"SET flushed:{os.getpid()} yes\r\n".encode())
        note("flushed", reply=store.recv(100).decode().strip())


def main() -> None:
    """Serves until the life pipe ends."""
    note(
        "started",
        replaced=HANDOFF["replaced"],
        slot=HANDOFF["slot"],
        host=HANDOFF["settings"]["host"],
        url=HANDOFF["settings"]["redis_url"],
        blas=os.environ["OMP_NUM_THREADS"],
    )
    if (DIARY / "broken").exists():
        os.write(HANDOFF["status"], b"failed ValueError: the stub is broken\n")
        sys.exit(3)
    listener = socket.socket(fileno=HANDOFF["listener"])
    listener.setblocking(False)
    flag = mmap.mmap(HANDOFF["flag"], 1, prot=mmap.PROT_READ)
    ready = False
    while HANDOFF["life"] not in (readable := select.select([listener, HANDOFF["life"]], [], [], 0.02)[0]):
        if not ready and not (DIARY / "unready").exists():
            ready = True
            note("ready")
            os.write(HANDOFF["status"], b"ready\n")
        if listener in readable:
            answer(listener, flag)
    listener.close()
    note("eof", relieved=os.read(HANDOFF["life"], 1) == b"r")
    while (DIARY / "hang").exists():
        time.sleep(0.1)
    if HANDOFF["settings"]["redis_url"].startswith("unix:"):
        flush()
    note("ended")


if __name__ == "__main__":
    main()
