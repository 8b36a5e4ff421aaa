"""What both command lines write to stderr: log lines that no name can forge, and why a command failed, in one line.

What goes to stdout is each command's own.
"""

import errno
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from bandit.errors import CorruptLog, EmbeddedError, Problem, StoreUnavailable, StoreUnsuitable, printable

EXPECTED: Final = Problem, CorruptLog, StoreUnavailable, StoreUnsuitable, EmbeddedError, OSError
ADVICE: Final = {
    errno.ENOENT: "is the path right, and its folder there?",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "name another, or take it away",
    errno.EACCES: "this user lacks permission: grant it, or choose another path",
    errno.EPERM: "this user lacks permission: grant it, or choose another path",
    errno.EROFS: "choose a path that can be written to",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "free some space, or choose another disk",
    errno.EBADF: "standard output is closed: redirect it, as with > FILE",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Lines(logging.Formatter):
    """One line per record, and an indented line for each line of a traceback: no logged text can look like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The record as one line; at its end the request that it is about."""
        request = about(record).get("request_id")
        return printable(masked(super().formatMessage(record) + (f" [{request}]" if request else "")))

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's name
        """The traceback, indented."""
        return "\n".join(f"    {printable(masked(line))}" for line in super().formatException(ei).splitlines())


def masked(text: str) -> str:
    """The text with the user names and passwords of the addresses in it, and the secrets of keys, replaced by `***`."""
    text = re.sub(r"\b(bs_[0-9A-Za-z]{10}_)[0-9A-Za-z]+", r"\1***", text)
    return re.sub(r"(\w+://)\S*@", r"\1***@", re.sub(r"(?<=[?&]password=)[^\s&]*", "***", text))


REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is being served
ABOUT: Final = ("request_id", "decision_id", "experiment")  # what a record may be about, as its `extra`


def about(record: logging.LogRecord) -> dict[str, str]:
    """What a record is about: what it was given as `extra`, or what is known of it.

    A message that begins `"%s: "` is about the experiment that is its first argument: our records are written so.
    """
    found = {name: str(value) for name in ABOUT if (value := record.__dict__.get(name))}
    if "request_id" not in found and (request := REQUEST_ID.get()):
        found["request_id"] = request
    if "experiment" not in found and isinstance(record.args, tuple) and str(record.msg).startswith("%s: "):
        found["experiment"] = str(record.args[0])
    return found


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, pid, and where there are such what it is about (`ABOUT`)
    and the exception. Names and messages are escaped, so that none can end the line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        made = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            "pid": record.process,
            **{name: masked(value) for name, value in about(record).items()},
        }
        if record.exc_info:
            made["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(made)  # in ASCII: every other sign is its escape


_as_json = False  # whether everything on stderr is to be JSON


def start_logging(level: str, who: str = "", form: str = "console") -> None:
    """Log to stderr from now on.

    Args:
        level: the least that is logged.
        who: written before each logger's name, on a console.
        form: console or json.
    """
    global _as_json
    _as_json = form == "json"
    handler = logging.StreamHandler(sys.stderr)
    lines = Lines(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s")
    handler.setFormatter(JsonLines() if _as_json else lines)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(_as_json)


def tell(program: str, message: str) -> None:
    """Write one line to stderr, the program's name first."""
    say(f"{program}: {' '.join(message.split())}", logging.ERROR)


def say(line: str, level: int = logging.INFO) -> None:
    """Write one line to stderr whatever the level of the log: as it is, or as JSON where everything is."""
    if not _as_json:
        print(printable(masked(line)), file=sys.stderr, flush=True)
        return
    logger = logging.getLogger("bandit")
    logger.handle(logger.makeRecord(logger.name, level, "", 0, line, (), None))


def reason(error: BaseException) -> str:
    """What an error says; for an error of the operating system: the file, what is wrong, and what to do about it."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    files = " -> ".join(str(file) for file in (error.filename, error.filename2) if file is not None)
    parts = f"{files}: {error.strerror}" if files else error.strerror
    return f"{parts}; {ADVICE[error.errno]}" if error.errno in ADVICE else parts


@contextmanager
def exit_on_error(program: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """End the program with exit code 1, and one line on stderr, at an expected error, or one of `also`.

    A reader of the output that has gone is no error to report: `BrokenPipeError` is passed on.
    """
    faults: tuple[type[Exception], ...] = (*EXPECTED, *also)
    try:
        yield
    except BrokenPipeError:
        raise
    except faults as error:
        tell(program, reason(error))
        raise SystemExit(1) from error


def run(app: Callable[..., Any], program: str) -> None:
    """Run a command line. Where the reader of its output has gone, as after `| head`, it ends with 1 and no message.

    Python processes that it starts do not import from the current directory, as those of multiprocessing would.
    """
    _take_standard_descriptors()
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with exit_on_error(program):
            try:
                code = app(prog_name=program, standalone_mode=False)
            except BaseException as error:
                with suppress(OSError):  # only the first error is reported
                    _flush()
                code = _report_usage(error)
            else:
                _flush()
    except BrokenPipeError:
        raise SystemExit(1) from None
    raise SystemExit(code or 0)


def _report_usage(error: Any) -> int:
    """Report a wrong use of the command line and return its exit code; any other error is raised again."""
    from typer import Abort

    if isinstance(error, Abort):
        print("Aborted!", file=sys.stderr)
        return 1
    if not hasattr(error, "show"):  # only errors of usage have it, whichever library Typer takes them from
        raise error
    error.show(said := io.StringIO())
    sys.stderr.write(masked(said.getvalue()))  # it repeats the arguments, which may hold a password
    return int(error.exit_code)


def _take_standard_descriptors() -> None:
    """Open something for each standard stream that is closed, or a log or a socket would get its number.

    Standard input is then empty and standard error is lost, but writing to standard output fails: nobody should believe
    that the output was written.
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
    """Write what is left of the output now, while a failure can still be reported."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail with it again at its end
        raise
