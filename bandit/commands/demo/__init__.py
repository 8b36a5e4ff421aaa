"""`bandit-server demo`: real visitors of a site, sent through a real server, judged from that server's own log.

Each visitor's reward of every arm is known, so what was earned can be set against chance and the best single area.
Needs the extra `simulator`, which is imported inside functions, as a server without it must start. Imports what
`bandit.commands` does. Begin with `run` here, then `drive`, which sends the visitors.
"""

import shlex
import signal
import sys
import tempfile
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from bandit.commands.demo.child import ChildError, Server, command_line, serving
from bandit.errors import printable

NEEDED = ("aiohttp", "matplotlib", "plotext")
PICTURE = "msweb-learning-curve.png"
INTERRUPTED = 130  # what a shell reports of a process ended by Ctrl-C


def run(
    *,
    visitors: int | None = None,
    workers: int = 1,
    keep_serving: bool = False,
    data_dir: Path | None = None,
    port: int = 0,
    seed: int = 0,
) -> int:
    """The exit code: 0 if the server's log agrees with all that was sent and proves itself, 1 if not, 130 on Ctrl-C.

    Starts a server, sends it the visitors, and prints what its log says of it.

    Args:
        visitors: how many to send, at most (and by default) all 32,711.
        workers: worker processes of the server.
        keep_serving: leave the server running afterwards, until Ctrl-C.
        data_dir: where the server keeps its data and the picture is drawn; a temporary directory by default.
        port: of the server; 0 takes a free one.
        seed: of the visitors' order.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(f"the demo needs {', '.join(missing)}: pip install 'bandit-server[simulator,embedded]'", file=sys.stderr)
        return 1
    _end_like_ctrl_c()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bandit-demo-") if data_dir is None else nullcontext(data_dir) as place,
            serving(Path(place), workers, port) as server,
        ):
            code = _demonstrate(server, visitors, seed, (data_dir or Path()) / PICTURE)
            print(_next(server, data_dir is not None, keep_serving), flush=True)
            if keep_serving:
                _keep(server)
    except ChildError as error:
        print("\n".join(map(printable, str(error).splitlines())), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    return code


def _end_like_ctrl_c() -> None:
    """Make SIGTERM and a closed terminal what Ctrl-C is, so that the server is stopped in these cases too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup means it
            signal.signal(ending, lambda *_: signal.raise_signal(signal.SIGINT))


def _demonstrate(server: Server, visitors: int | None, seed: int, picture: Path) -> int:
    """Send the visitors, then judge and print what the server logged; the exit code."""
    from rich.console import Console

    from bandit.commands.demo import drive, results, show
    from simulator.environments.datasets import msweb

    start = time.monotonic()
    console = Console(highlight=False, markup=False, emoji=False)
    data = msweb()
    order = data.order(seed)[:visitors]
    console.print(printable(f"bandit-server at {server.url}, its data in {server.data_dir}"), soft_wrap=True)
    tally = drive.send_all(server, data, order, console)

    log = results.read_log(server.export(data.name), data, tally.run)
    known = results.baselines(data, order)
    show.scores(console, log, known)
    show.curves(console, log, known, picture)
    checks, verified = results.checks(log, tally, data), server.verify(data.name)
    show.checks(console, checks, verified)
    console.print(f"{len(order):,} visitors in {time.monotonic() - start:.0f} s, from start to proof.")
    return 0 if verified.ok and all(check.holds for check in checks) else 1


def _next(server: Server, kept: bool, serving: bool) -> str:
    """Where to look next: `kept` if the data directory outlives the demo, `serving` if the server does."""
    place = shlex.quote(str(server.data_dir)) if kept or serving else "DIR"
    export = command_line("export", "msweb", "--data-dir", printable(place))
    return "\n".join(
        [
            f"Next: every decision with its propensity: {export}"
            + ("" if kept or serving else "  (after a demo with --data-dir DIR)"),
            "      the HTTP API, to try out: "
            + (f"{server.url}/docs" if serving else "/docs, after a demo with --keep-serving"),
            "      all else: README.md",
        ]
    )


def _keep(server: Server) -> None:
    """Return at Ctrl-C.

    Raises:
        ChildError: if the server ends by itself.
    """
    try:
        print(f"Serving at {server.url}; Ctrl-C stops it.", flush=True)
        server.wait()
    except KeyboardInterrupt:
        print("stopping", flush=True)
