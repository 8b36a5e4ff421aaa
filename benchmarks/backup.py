"""What a backup, a restore and an archive of a million entries cost: seconds, bytes, and the command's own memory.

- backup_s, backup_bytes, backup_rss: `bandit-server backup` of a log of `--entries`, half of it decisions (32 features,
  10 arms, each of a caller's naming), half feedback on them; the store is otherwise idle, and half of its time is left
  to others. It includes reading everything again.
- restore_s, restore_rss: `bandit-server restore` of it into an empty store, verification included.
- archive_s, archive_bytes, archive_rss: `bandit-server archive` of as many entries that are past their window.
- verify_archive_s: `bandit-server verify --archive` from the experiment's first entry on.

Run: python benchmarks/backup.py [--entries 1000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from store import Writer  # benchmarks/store.py: how records of one size are made

from bandit.log.records import DECISION
from bandit.process import embedded
from bandit.process.datadir import lock
from bandit.replica.replica import Replica
from bandit.store.protocol import NO_ARM, Decide, Logged, Ref, Reward
from bandit.store.redis_store import RedisStore

TOGETHER = 64
Figure = tuple[str, float, str, float | None, dict[str, Any]]  # name, value, unit, target, settings


class Ran(NamedTuple):
    """What a command took."""

    seconds: float
    rss: int  # bytes at most


@contextmanager
def running(place: Path) -> Iterator[str]:
    """The address of an empty store."""
    place.mkdir()
    with lock(place, "benchmark"):
        store = embedded.start(place)
        try:
            yield store.url
        finally:
            store.stop()


def named(decide: Decide, name: bytes, window_ms: int) -> Decide:
    """The same decision with a caller's name, and another window."""
    head = list(DECISION.unpack_from(decide.record))
    head[6], head[10] = len(name), window_ms
    at = DECISION.size + head[5]
    record = DECISION.pack(*head) + decide.record[DECISION.size : at] + name + decide.record[at:]
    return Decide(record, name, b"", window_ms)


def fill(url: str, entries: int, window_ms: int) -> None:
    """Decisions and feedback in turn, and checkpoints at their end."""
    store = RedisStore(url, 60)
    writer = Writer(store, "home")
    for begin in range(0, entries // 2, TOGETHER):
        names = [f"{i:032x}".encode() for i in range(begin, min(begin + TOGETHER, entries // 2))]
        decided = writer.send(writer.batches([named(writer.decision(), name, window_ms) for name in names], TOGETHER))
        assert all(isinstance(each, Logged) for each in decided)
        if window_ms > 1000:
            writer.send(
                writer.batches([Reward(Ref(caller=name), 0, 500_000, name, True, NO_ARM) for name in names], TOGETHER)
            )
    replica = Replica("home", store)
    replica.load()
    replica.catch_up()
    token = store.take_lease("home", None, b"benchmark")
    assert token is not None
    rows = [replica.row(arm) for arm in range(replica.shape[0])]
    assert store.write_rows("home", "sums", token, rows, replica.position)
    store.close()


def command(*arguments: str) -> Ran:
    """Run a command of the server."""
    begun = time.monotonic()
    environment = os.environ | {"BANDIT_LATE_GRACE": "0"}
    process = subprocess.Popen([sys.executable, "-m", "bandit", *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return Ran(time.monotonic() - begun, used.ru_maxrss * 1024)


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def figures(entries: int, place: Path) -> Iterator[Figure]:
    """All of them."""
    told: dict[str, Any] = {"entries": entries, "features": 32, "arms": 10}
    with running(place / "a") as url:
        fill(url, entries, 86_400_000)
        ran = command("backup", str(place / "backup"), "--redis-url", url)
    yield "backup_s", ran.seconds, "s", None, told
    yield "backup_rss", ran.rss, "bytes", None, told
    yield "backup_bytes", size_of(place / "backup"), "bytes", None, told
    with running(place / "b") as url:
        ran = command("restore", str(place / "backup"), "--redis-url", url)
    yield "restore_s", ran.seconds, "s", None, told
    yield "restore_rss", ran.rss, "bytes", None, told
    told = told | {"kinds": "decisions past their window"}
    with running(place / "c") as url:
        fill(url, 2 * entries, 1)
        ran = command("archive", str(place / "archive"), "--redis-url", url)
        yield "archive_s", ran.seconds, "s", None, told
        yield "archive_rss", ran.rss, "bytes", None, told
        yield "archive_bytes", size_of(place / "archive"), "bytes", None, told
        ran = command("verify", "home", "--archive", str(place / "archive"), "--redis-url", url)
        yield "verify_archive_s", ran.seconds, "s", None, told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of a log")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        for name, value, unit, target, settings in figures(given.entries, Path(folder)):
            if given.json:
                found = {"name": name, "value": value, "unit": unit, "target": target, "settings": settings}
                print(json.dumps(found), flush=True)
            else:
                print(f"{name:18} {value:14.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
