"""The server of the demo as a child process, and the commands that look into its log."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START = 60.0  # seconds to be ready; a data directory with a long log is folded first
STOP = 15.0  # seconds to drain, checkpoint and end after SIGTERM
LOOK = 120.0  # seconds a command that reads the whole log may take
TAIL = 20  # lines of its output shown when the server dies


class ChildError(Exception):
    """The server, or a command that reads its log, did not do what it was started for; says what it wrote."""


@dataclass(frozen=True)
class Verified:
    """Whether `verify` found the state equal to the fold of the log, and what it printed."""

    ok: bool
    line: str


@dataclass(frozen=True)
class Server:
    """A running server: its address, its data directory, and its process."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def check_alive(self) -> None:
        """Raises ChildError, with the end of what it wrote, if the server has ended."""
        _check_alive(self.process, self.output)

    def wait(self) -> None:
        """Raises ChildError when the server has ended."""
        self.process.wait()
        self.check_alive()

    def export(self, experiment: str) -> Iterator[bytes]:
        """The rows of the experiment's log, one JSON object each, in log order."""
        with (self.data_dir / f".export-{experiment}.jsonl").open("w+b") as rows:
            Path(rows.name).unlink()  # tens of MB that are read once: no name, so that nothing stays behind
            done = _look("export", experiment, "--data-dir", str(self.data_dir), stdout=rows)
            if done.returncode != 0:
                raise ChildError(f"export ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
            rows.seek(0)
            yield from rows

    def verify(self, experiment: str) -> Verified:
        """Whether the server's state is the fold of its log, as the command `verify` says."""
        done = _look("verify", experiment, "--data-dir", str(self.data_dir), stdout=subprocess.PIPE)
        line = (done.stdout or done.stderr).decode(errors="replace").strip()
        return Verified(done.returncode == 0, line)


def command_line(*arguments: str) -> str:
    """The command for people to type."""
    return " ".join(["bandit-server", *arguments])


@contextmanager
def serving(data_dir: Path, workers: int, port: int) -> Iterator[Server]:
    """A server on the directory, listening; it is stopped on leaving, whatever happened inside.

    Raises:
        ChildError: if it ends or does not listen within a minute.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    # stdout and stderr go to a file without a name: a pipe that nobody empties would stop the server.
    with (data_dir / ".demo-output").open("w+b") as output:
        Path(output.name).unlink()
        arguments = ("serve", "--no-auth", "--data-dir", str(data_dir), "--port", str(port), "--workers", str(workers))
        # A session of its own: Ctrl-C in a terminal reaches the demo only, which then stops the server in order.
        process = subprocess.Popen(_command(*arguments), stdout=output, stderr=output, start_new_session=True)  # noqa: S603 - our own interpreter and module
        try:
            yield Server(_listening(data_dir, process, output), data_dir, process, output)
        finally:
            _stop(process)


def _command(*arguments: str) -> list[str]:
    """This very installation's command: another one of the same name may come first in PATH."""
    return [sys.executable, "-P", "-m", "bandit", *arguments]  # -P: a redis.py in the current directory is not ours


def _look(*arguments: str, stdout: int | IO[bytes]) -> subprocess.CompletedProcess[bytes]:
    """A finished command; its stderr is kept.

    Raises:
        ChildError: if it takes longer than two minutes.
    """
    try:
        return subprocess.run(_command(*arguments), stdout=stdout, stderr=subprocess.PIPE, timeout=LOOK, check=False)  # noqa: S603 - our own interpreter and module
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"{command_line(*arguments)} took longer than {LOOK:.0f} s") from error


def _listening(data_dir: Path, process: subprocess.Popen[bytes], output: IO[bytes]) -> str:
    """The server's address, once it has written it."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        _check_alive(process, output)
        if (url := _address(data_dir / "server.json", process.pid)) is not None:
            return url
        time.sleep(0.02)
    raise ChildError(f"the server did not listen within {START:.0f} s:\n{_tail(output)}")


def _address(path: Path, pid: int) -> str | None:
    """The address in the file, if this very server wrote it: an older one may have left its own behind."""
    try:
        written = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return f"http://{written['host']}:{written['port']}" if written.get("pid") == pid else None


def _check_alive(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    if (code := process.poll()) is not None:
        raise ChildError(f"the server ended with {code}:\n{_tail(output)}")


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return b"".join(output.readlines()[-TAIL:]).decode(errors="replace").rstrip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a while (or a second Ctrl-C) SIGKILL: what was acknowledged is in the log either way."""
    process.terminate()
    try:
        process.wait(STOP)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
