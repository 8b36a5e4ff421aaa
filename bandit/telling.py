"""What the programs tell people on stderr: lines of a log that no name can forge, and in one line why a command failed.

Written for both command lines; what goes to stdout is a command's own.
"""

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final

from bandit.errors import CorruptLog, EmbeddedError, Problem, StoreUnavailable, StoreUnsuitable, printable

EXPECTED: Final = Problem, CorruptLog, StoreUnavailable, StoreUnsuitable, EmbeddedError, OSError
ADVICE: Final = {
    errno.ENOENT: "is the path right, and its folder there?",
    errno.ENOTDIR: "a folder on the way to it is a file",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "name another, or take it away",
    errno.EACCES: "this user may not do that: give it the right, or name another place",
    errno.EPERM: "this user may not do that: give it the right, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EBADF: "its output is closed: give it one, such as > FILE",
    errno.EMFILE: "allow more open files: ulimit -n",
}
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Lines(logging.Formatter):
    """One line a record, and an indented one for each line of a traceback: what is logged cannot look like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The record as one line."""
        return printable(masked(super().formatMessage(record)))

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's name
        """The traceback, indented."""
        return "\n".join(f"    {printable(masked(line))}" for line in super().formatException(ei).splitlines())


def masked(text: str) -> str:
    """The text without the users and passwords of addresses in it."""
    return re.sub(r"(\w+://)\S*@", r"\1***@", re.sub(r"(?<=[?&]password=)[^\s&]*", "***", text))


def start_logging(level: str, who: str = "") -> None:
    """Logs to stderr from now on; `who` stands before the name of what speaks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def tell(program: str, message: str) -> None:
    """One line on stderr, the program's name first."""
    print(f"{program}: {printable(masked(' '.join(message.split())))}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """What an error says; of the system's own: of which file, what is wrong, and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    files = " -> ".join(str(each) for each in (error.filename, error.filename2) if each is not None)
    parts = f"{files}: {error.strerror}" if files else error.strerror
    return f"{parts}; {ADVICE[error.errno]}" if error.errno in ADVICE else parts


@contextmanager
def told(program: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What a command cannot do, in one line on stderr, and exit 1; nothing of a reader that has gone."""
    faults: tuple[type[Exception], ...] = (*EXPECTED, *also)
    try:
        yield
    except BrokenPipeError:
        raise
    except faults as error:
        tell(program, reason(error))
        raise SystemExit(1) from error


def run(app: Callable[..., Any], program: str) -> None:
    """Run a command line. Where the reader of its output has gone, as after `| head`, it ends without a word.

    No python that it starts runs code of the current directory: one that multiprocessing starts would.
    """
    _take_standard_descriptors()
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with told(program):
            try:
                code = app(prog_name=program, standalone_mode=False)
            except BaseException as error:
                with suppress(OSError):  # one thing is told, the first
                    _flush()
                code = _told_usage(error)
            else:
                _flush()
    except BrokenPipeError:
        raise SystemExit(1) from None
    raise SystemExit(code or 0)


def _told_usage(error: Any) -> int:
    """The exit code of a wrong use, after it was told; any other error is raised again."""
    from typer import Abort

    if isinstance(error, Abort):
        print("Aborted!", file=sys.stderr)
        return 1
    if not hasattr(error, "show"):  # what Typer's errors of use have, whichever library it takes them from
        raise error
    error.show(said := io.StringIO())
    sys.stderr.write(masked(said.getvalue()))  # it repeats what was given
    return int(error.exit_code)


def _take_standard_descriptors() -> None:
    """Puts something in the place of a standard stream that is closed: else a log or a socket gets its number.

    Input is empty, what is said is lost, but output fails when it is written: nobody is to believe it was.
    """
    for number, how in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, how), True)  # the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as we run
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _flush() -> None:
    """Write what is left of the output now, where a failure can still be told."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python would fail with it once more
        raise
