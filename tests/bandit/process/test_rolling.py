"""New workers in the place of old ones, and how a server leaves: real processes, with `stub_worker.py` for workers."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from home import PARENT, Home, alive, ask, eventually


def hang_up(server: subprocess.Popen[bytes]) -> None:
    """SIGHUP to the parent alone."""
    server.send_signal(signal.SIGHUP)


def test_every_worker_is_replaced_and_no_old_one_leaves_before_its_successor_is_ready(home: Home) -> None:
    """By the diary: ready comes before the old one's end, one after another, on the same socket and the same store."""
    server = home.start(workers=2)
    port, [store] = home.ready(server), home.stores()
    old = {note["pid"] for note in home.diary("started")}
    hang_up(server)
    eventually(lambda: ask(port) and "all workers are replaced" in home.stderr())
    started, ready, ends = home.diary("started"), home.diary("ready"), home.diary("eof")
    assert {note["pid"] for note in ends} == old
    assert all(note["relieved"] for note in ends)
    for number, end in enumerate(ends):
        assert sum(note["at"] < end["at"] for note in ready) == 2 + number + 1, "it left before the new one was ready"
        assert sum(note["at"] < end["at"] for note in started) == 2 + number + 1, "two were replaced at once"
    assert [note["replaced"] for note in started] == [False, False, True, True]
    assert home.stores() == [store]
    assert ask(port)["pid"] not in old
    server.terminate()
    assert server.wait(15) == 0


def test_processes_that_run_at_once_have_different_slots(home: Home) -> None:
    """N workers and the one that starts or leaves need N + 1 of the 2 N, however often they are replaced."""
    server = home.start(workers=2)
    home.ready(server)
    for turn in range(1, 4):
        hang_up(server)
        eventually(lambda turn=turn: home.stderr().count("all workers are replaced") == turn)
    left = {note["pid"]: note["at"] for note in home.diary("ended")}
    lives = [(note["slot"], note["at"], left.get(note["pid"], float("inf"))) for note in home.diary("started")]
    assert {slot for slot, _, _ in lives} == {0, 1, 2}
    for slot in range(3):
        mine = sorted(life[1:] for life in lives if life[0] == slot)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(mine))


def test_a_new_worker_that_cannot_start_leaves_the_old_ones_serving(home: Home) -> None:
    """Its words are in the log; nobody was told to end; once it is mended the next SIGHUP works."""
    server = home.start(workers=2)
    port = home.ready(server)
    old = {note["pid"] for note in home.diary("started")}
    home.order("broken")
    hang_up(server)
    eventually(lambda: "a new worker ended before it was ready: ValueError: the stub is broken" in home.stderr())
    assert "2 of 2 go on as they are" in home.stderr()
    assert home.diary("eof") == []
    assert ask(port)["pid"] in old
    (home.path / "broken").unlink()
    hang_up(server)
    eventually(lambda: "all workers are replaced" in home.stderr())
    assert {note["pid"] for note in home.diary("eof")} == old


def test_a_new_worker_that_is_not_ready_is_waited_for_and_ends_with_the_others(home: Home) -> None:
    """As long as it reads the log the old one serves; a stop meanwhile ends all of them in order."""
    server = home.start()
    port = home.ready(server)
    home.order("unready")
    hang_up(server)
    eventually(lambda: len(home.diary("started")) == 2)
    eventually(lambda: ask(port)["pid"] == home.diary("started")[0]["pid"])
    assert home.diary("eof") == []
    server.terminate()
    assert server.wait(15) == 0
    assert [note["reply"] for note in home.diary("flushed")] == ["+OK", "+OK"]


def test_signals_during_a_replacement_ask_for_one_more_only(home: Home) -> None:
    """Three of them while the first is under way: one worker becomes a third, and no fourth."""
    server = home.start()
    home.ready(server)
    home.order("unready")
    hang_up(server)
    eventually(lambda: len(home.diary("started")) == 2)
    for _ in range(3):
        hang_up(server)
    (home.path / "unready").unlink()
    eventually(lambda: home.stderr().count("all workers are replaced") == 2)
    server.terminate()
    assert server.wait(15) == 0
    assert len(home.diary("started")) == 3


def test_a_worker_that_does_not_leave_is_killed_after_a_while(home: Home) -> None:
    """The new one serves; the round goes on."""
    server = home.start(stop_timeout=1)
    home.ready(server)
    home.order("hang")
    hang_up(server)
    eventually(lambda: "all workers are replaced" in home.stderr())
    assert "worker 0 did not end in time: killed" in home.stderr()
    assert not alive(home.diary("started")[0]["pid"])
    (home.path / "hang").unlink()


def test_a_worker_that_dies_while_its_successor_starts_is_started_again(home: Home) -> None:
    """Two deaths of one place in one moment: somebody serves at the end, and nothing is left over."""
    server = home.start()
    port = home.ready(server)
    home.order("unready")
    hang_up(server)
    eventually(lambda: len(home.diary("started")) == 2)
    os.kill(home.diary("started")[0]["pid"], signal.SIGKILL)
    eventually(lambda: len(home.diary("started")) == 3)
    (home.path / "unready").unlink()
    eventually(lambda: "all workers are replaced" in home.stderr())
    assert ask(port)["pid"] in {note["pid"] for note in home.diary("started")[1:]}
    server.terminate()
    assert server.wait(15) == 0


def test_a_sighup_that_was_ignored_at_the_start_stays_ignored(home: Home) -> None:
    """nohup's wish: by the time that a worker, killed after it, is replaced, nothing else was."""
    server = home.start(before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    home.ready(server)
    hang_up(server)
    os.kill(home.diary("started")[0]["pid"], signal.SIGKILL)
    eventually(lambda: len(home.diary("ready")) == 2)
    server.terminate()
    assert server.wait(15) == 0
    assert len(home.diary("started")) == 2


def test_a_terminal_that_goes_away_ends_the_server(home: Home) -> None:
    """Then SIGHUP asks for no new workers: a window that is closed leaves no server behind."""
    ours, theirs = os.openpty()
    server = home.start(before=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0))
    os.close(theirs)
    home.ready(server)
    hang_up(server)  # the terminal is there: this is a wish for new workers
    eventually(lambda: "all workers are replaced" in home.stderr())
    os.close(ours)
    assert server.wait(15) == 0
    assert len(home.diary("started")) == 2


def test_a_drain_serves_on_and_says_so_to_all_workers_at_once(home: Home) -> None:
    """SIGTERM: first 2 (draining), then 3 (closing), and no worker is told to end before the time is over."""
    server = home.start(workers=2, drain_seconds=2)
    port = home.ready(server)
    assert ask(port)["phase"] == 1
    server.terminate()
    eventually(lambda: ask(port)["phase"] == 2)
    assert server.poll() is None
    assert home.diary("eof") == []
    eventually(lambda: ask(port)["phase"] == 3)
    assert home.diary("eof") == []
    assert server.wait(15) == 0
    assert len(home.diary("flushed")) == 2


def test_ctrl_c_ends_at_once_and_cuts_a_drain_short(home: Home) -> None:
    """SIGINT during a drain of an hour."""
    server = home.start(drain_seconds=3600)
    port = home.ready(server)
    server.terminate()
    eventually(lambda: ask(port)["phase"] == 2)
    server.send_signal(signal.SIGINT)
    assert server.wait(15) == 0
    assert [note["reply"] for note in home.diary("flushed")] == ["+OK"]


def test_a_worker_that_dies_during_a_drain_is_replaced(home: Home) -> None:
    """Requests are served to the end of it."""
    server = home.start(drain_seconds=3600)
    port = home.ready(server)
    server.terminate()
    eventually(lambda: ask(port)["phase"] == 2)
    os.kill(home.diary("started")[0]["pid"], signal.SIGKILL)
    eventually(lambda: len(home.diary("ready")) == 2)
    assert ask(port)["phase"] == 2
    server.send_signal(signal.SIGINT)
    assert server.wait(15) == 0


def test_a_store_that_is_kept_serves_the_next_parent_and_is_ended_by_command(home: Home) -> None:
    """Same process, same data, no loading; commands leave it running; `stop-store` ends it, and not one in use."""
    first = home.start(keep_store=True)
    home.ready(first)
    [store] = home.stores()
    assert "in use by process" in _command(home, "stop-store", code=1)
    first.terminate()
    assert first.wait(15) == 0
    assert f"the store stays as process {store}" in home.stderr()
    assert "no experiment" in _command(home, "verify", "none", code=1)
    assert home.stores() == [store]
    second = home.start(keep_store=True)
    home.ready(second)
    assert home.stores() == [store]
    second.terminate()
    assert second.wait(15) == 0
    assert f"the store's process {store} has ended" in _command(home, "stop-store")
    assert home.stores() == []
    assert "no store was running there" in _command(home, "stop-store")


def _command(home: Home, *words: str, code: int = 0) -> str:
    """What a command says, on the home's data directory."""
    command = [sys.executable, "-m", "bandit", *words, "--data-dir", str(home.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


ACTIVATOR = f"""
import os, socket, sys
given = socket.create_server(("0.0.0.0", 0))
print(given.getsockname()[1], flush=True)
while sys.stdin.readline():
    if not (pid := os.fork()):
        os.dup2(given.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        os.execv(sys.executable, [sys.executable, "-c", {PARENT!r}])
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def test_a_socket_from_outside_outlives_the_parent(home: Home) -> None:
    """Between two parents a connection waits instead of being refused, and the next parent answers it."""
    environment = {**os.environ, "BANDIT_DATA_DIR": str(home.data_dir), "STUB_DIARY": str(home.path)}
    with subprocess.Popen(
        [sys.executable, "-c", ACTIVATOR],
        env={**environment, "TMPDIR": home.runtime},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as activator:
        assert activator.stdin is not None
        assert activator.stdout is not None
        port = int(activator.stdout.readline())
        seen = set()
        for _ in range(2):
            activator.stdin.write("\n")
            activator.stdin.flush()
            pid = int(activator.stdout.readline())
            try:
                seen.add(ask(port)["pid"])  # asked before it can be there: nobody refuses
                eventually(lambda: home.record().get("port") == port)
                assert home.diary("started")[-1]["host"] == "0.0.0.0"  # noqa: S104 - what decides whether keys are asked for
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            assert int(activator.stdout.readline()) == 0
        activator.stdin.close()
    assert len(seen) == 2


@pytest.mark.parametrize(("count", "why"), [("2", "expected one socket in LISTEN_FDS"), ("1", "is no socket")])
def test_what_is_no_socket_to_listen_on_is_refused(home: Home, count: str, why: str) -> None:
    """The server does not take another port instead."""
    program = "import os, sys; os.dup2(os.open('/dev/null', 0), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    program += f"os.environ['LISTEN_FDS'] = {count!r}; os.execv(sys.executable, [sys.executable, '-c', {PARENT!r}])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BANDIT_DATA_DIR": str(home.data_dir), "STUB_DIARY": str(home.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert why in done.stderr
    assert not Path(home.data_dir / "valkey.log").exists()
