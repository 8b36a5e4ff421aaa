"""The parent's own behaviour, with real processes and a real store; the workers are `stub_worker.py`."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from home import Home, alive, ask, eventually

from bandit.process.embedded import find_running
from bandit.process.workers import Backoff


def put(home: Home, value: str) -> None:
    """Writes to the running server's store."""
    with redis.Redis.from_url(str(find_running(home.data_dir))) as store:
        store.set("key", value)


def held(home: Home) -> Any:
    """What was written last."""
    with redis.Redis.from_url(str(find_running(home.data_dir)), decode_responses=True) as store:
        return store.get("key")


def test_all_workers_answer_on_one_port_and_know_that_all_are_ready(home: Home) -> None:
    """The socket is bound once; after the ready line every worker sees the common flag, and BLAS has one thread."""
    server = home.start(workers=3)
    port = home.ready(server)
    answers = eventually(
        lambda: (seen := [ask(port) for _ in range(30)]) and len({a["pid"] for a in seen}) == 3 and seen
    )
    assert all(answer["all_ready"] for answer in answers)
    assert home.record() == {"pid": server.pid, "host": "127.0.0.1", "port": port}
    assert f"ready on http://127.0.0.1:{port} (3 workers)" in home.stderr()
    assert [(note["replaced"], note["blas"]) for note in home.diary("started")] == [(False, "1")] * 3


def test_readiness_waits_for_the_last_worker(home: Home) -> None:
    """Workers accept at once, but as long as one is not ready the flag is down and no ready line is printed."""
    home.order("unready")
    server = home.start(workers=2)
    port = int(eventually(lambda: _listening_port(server.pid)))
    assert ask(port)["all_ready"] is False
    assert home.record() == {}
    assert "ready on" not in home.stderr()


def _listening_port(pid: int) -> int | None:
    """The TCP port that the process listens on, as the kernel tells it."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            inodes.add(str(link.readlink()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].partition(":")[2], 16)
    return None


def test_a_killed_worker_is_replaced_and_knows_that_it_is(home: Home) -> None:
    """Another one serves soon; it is told to accept connections only when it is ready."""
    port = home.ready(home.start())
    killed = ask(port)["pid"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(home.diary("started")) == 2)
    assert ask(port)["pid"] != killed
    assert home.diary("started")[1]["replaced"] is True
    assert "worker 0 ended (signal 9); again in 0.1 s" in home.stderr()


def test_a_child_that_keeps_dying_is_started_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1 s doubling to 5 s; one that lived for a while begins anew."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    backoff = Backoff()
    assert [backoff.died(born=999.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert not backoff.over
    assert backoff.died(born=900.0) == 0.1


def test_a_worker_that_can_never_start_ends_the_server_with_its_error(home: Home) -> None:
    """Five times in a row are no accident: exit code 1, the worker's own words, and nothing left running."""
    home.order("broken")
    server = home.start()
    assert server.wait(15) == 1
    assert "ended 5 times before it was ready: ValueError: the stub is broken" in home.stderr()
    assert len(home.diary("started")) == 5
    assert home.stores() == []


def test_a_killed_store_comes_back_where_it_was(home: Home) -> None:
    """Same socket, same data; the workers are not restarted for it."""
    home.ready(home.start())
    put(home, "acknowledged")
    url, [pid] = find_running(home.data_dir), home.stores()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: home.stores() not in ([], [pid]) and find_running(home.data_dir))
    assert (find_running(home.data_dir), held(home)) == (url, "acknowledged")
    assert len(home.diary("started")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_stop_drains_and_flushes_before_the_store_ends(home: Home, number: signal.Signals, to_group: bool) -> None:
    """A signal to the parent or to all its group: the workers still write to the store, then nothing is left."""
    server = home.start(workers=2)
    port = home.ready(server)
    [store] = home.stores()
    runtime = Path(str(find_running(home.data_dir)).removeprefix("unix://")).parent
    (os.killpg if to_group else os.kill)(server.pid, number)
    assert server.wait(15) == 0
    assert [note["reply"] for note in home.diary("flushed")] == ["+OK", "+OK"]
    assert len(home.diary("ended")) == 2
    assert not alive(store)
    assert not runtime.exists()
    assert sorted(path.name for path in home.data_dir.glob("*.json")) == []
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


def test_a_second_signal_does_not_cut_a_stop_short(home: Home) -> None:
    """Impatience breaks nothing: the order of the stop stays, and its exit code."""
    home.order("hang")
    server = home.start()
    home.ready(server)
    os.killpg(server.pid, signal.SIGINT)
    eventually(lambda: home.diary("eof"))
    for _ in range(3):
        os.killpg(server.pid, signal.SIGINT)
        os.killpg(server.pid, signal.SIGTERM)
    (home.path / "hang").unlink()
    assert server.wait(15) == 0
    assert [note["reply"] for note in home.diary("flushed")] == ["+OK"]


def test_a_worker_that_does_not_end_is_killed_in_time(home: Home) -> None:
    """The stop takes no longer than it may; that it was not clean is told by the exit code."""
    home.order("hang")
    server = home.start(stop_timeout=1.5)
    home.ready(server)
    begun = time.monotonic()
    server.terminate()
    assert server.wait(15) == 1
    assert 1.0 <= time.monotonic() - begun < 2.0
    assert not alive(home.diary("started")[0]["pid"])
    assert home.stores() == []
    assert "worker 0 did not end in time" in home.stderr()


def test_a_stop_during_the_start_is_a_clean_one(home: Home) -> None:
    """A signal before the server is ready ends it as one afterwards does."""
    home.order("unready")
    server = home.start()
    eventually(lambda: home.diary("started"))
    server.terminate()
    assert server.wait(15) == 0
    assert home.stores() == []


def test_when_the_parent_is_killed_the_next_one_takes_over(home: Home) -> None:
    """Workers notice and end; the store stays, is used again with its data, and is ended by the new server's stop."""
    first = home.start(workers=2)
    port = home.ready(first)
    put(home, "acknowledged")
    stores = home.stores()
    first.kill()
    first.wait()
    second = home.start(workers=2, port=port)
    assert home.ready(second) == port
    assert home.stores() == stores
    assert held(home) == "acknowledged"
    eventually(lambda: len(home.diary("ended")) == 2)
    assert {note["reply"] for note in home.diary("flushed")} == {"+OK"}
    second.terminate()
    assert second.wait(15) == 0
    assert home.stores() == []


def test_kills_at_any_moment_of_a_start_leave_one_store_at_most(home: Home) -> None:
    """Parents killed from the first to the last step of their start do not pile up stores, and the last one serves."""
    steps = 8
    for step in range(steps):
        server = home.start()
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.25 + step * 0.25 / steps)
        server.kill()
        server.wait()
        assert len(home.stores()) <= 1
    last = home.start()
    home.ready(last)
    assert len(home.stores()) == 1
    last.terminate()
    assert last.wait(15) == 0
    assert home.stores() == []


def test_a_second_server_on_the_same_directory_is_refused(home: Home) -> None:
    """It names the process that is there, and disturbs nothing."""
    first = home.start()
    port = home.ready(first)
    second = home.start()
    assert second.wait(15) == 1
    assert f"in use by process {first.pid} (serve)" in home.stderr()
    assert ask(port)["all_ready"]
    assert len(home.stores()) == 1


def test_a_taken_port_is_refused_before_anything_starts(home: Home) -> None:
    """The message names the address; no store was started for it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert home.start(port=port).wait(15) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in home.stderr()
    assert not (home.data_dir / "valkey.log").exists()


def test_a_socket_path_that_is_too_long_is_refused(home: Home) -> None:
    """The server says so instead of starting a store that nobody could reach."""
    home.runtime = str(home.path / ("x" * 80))
    Path(home.runtime).mkdir()
    assert home.start().wait(15) == 1
    assert "at most 107 bytes" in home.stderr()
    assert home.stores() == []


def test_with_a_store_elsewhere_nothing_is_kept_here(home: Home) -> None:
    """The workers get the address as it was given; no directory is made or locked."""
    server = home.start(data_dir=None, redis_url="redis://:secret@127.0.0.1:1/0")
    home.ready(server)
    assert home.diary("started")[0]["url"] == "redis://:secret@127.0.0.1:1/0"
    assert not home.data_dir.exists()
    server.terminate()
    assert server.wait(15) == 0
    assert "secret" not in home.stderr()


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on PATH")
def test_a_redis_in_place_of_valkey_serves_as_well(home: Home) -> None:
    """Any program that is named is started, restarted and stopped in the same way."""
    server = home.start(store_binary="redis-server")
    home.ready(server)
    put(home, "acknowledged")
    [pid] = home.stores()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: home.stores() not in ([], [pid]) and find_running(home.data_dir))
    assert held(home) == "acknowledged"
    server.terminate()
    assert server.wait(15) == 0
    assert home.stores() == []
