"""What the demo shows: a live table (or now and then a line), the result, the learning curve, the checks."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import plotext
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bandit.commands.demo.child import Verified
from bandit.commands.demo.results import (
    LATE,
    WINDOW,
    Baselines,
    Check,
    Log,
    Tally,
    Vector,
    Visitors,
    moving_mean,
    recent,
)
from bandit.errors import printable

LINES = 10  # plain progress lines of a whole run
POINTS = 400  # of a curve in the terminal, which is no wider than that
SIGNS = ("\u2588", "-", ".")  # what the curves in the terminal are drawn with: ours, best fixed, uniform
MARKERS = ("hd", *SIGNS[1:])  # the same in plotext's words; hd: quarters of the full block
Row = tuple[str, Vector]  # a rule's name and its reward of each round
Curve = tuple[str, Vector, Vector]  # a rule's name, rounds and means


def progress(console: Console, tally: Tally, known: Baselines) -> AbstractContextManager[Callable[[], None]]:
    """A context whose value shows the tally anew when called: in place on a terminal, else by a line at each tenth."""
    return (_live if console.is_terminal else _lines)(console, tally, known)


def rules(reward: Vector, visitors: Visitors, known: Baselines) -> list[Row]:
    """Ours and the two baselines, each with its rewards in the order of the visitors."""
    fixed = f"best fixed area, {printable(known.area)}"
    return [("bandit-server", reward), (fixed, known.fixed[visitors]), ("uniform", known.uniform[visitors])]


def table(rows: Sequence[Row], last: int, whole: str = "so far") -> Table:
    """Mean reward of each rule over all rounds and over the last ones."""
    drawn = Table("mean reward", title_justify="left")
    drawn.add_column(whole, justify="right")
    drawn.add_column(f"last {last:,}", justify="right")
    for name, values in rows:
        drawn.add_row(Text(name), f"{recent(values, len(values)):.4f}", f"{recent(values, last):.4f}")
    return drawn


def pace(tally: Tally, now: float) -> str:
    """How fast decisions come, and how many of them share one state of the model."""
    rate = tally.done / max(1e-9, now - tally.start)
    return f"{rate:,.0f} decisions/s, one refresh of the model every {tally.rounds_per_refresh():,.0f} rounds"


def line(tally: Tally, known: Baselines, now: float) -> str:
    """The tally in one line."""
    rows = rules(tally.reward[: tally.done], tally.seen[: tally.done], known)
    ours, fixed, uniform = (f"{recent(values, WINDOW):.4f}" for _, values in rows)
    return (
        f"{tally.done:>6,} of {len(tally.seen):,} visitors; last {WINDOW:,}: ours {ours}, best fixed {fixed}, "
        f"uniform {uniform}; {pace(tally, now)}"
    )


@contextmanager
def _live(console: Console, tally: Tally, known: Baselines) -> Iterator[Callable[[], None]]:
    bar = Progress(BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
    task = bar.add_task("visitors", total=len(tally.seen))
    # Drawn when called, not by a thread of rich's own: the two cores are busy enough.
    with Live(console=console, auto_refresh=False) as live:

        def refresh() -> None:
            bar.update(task, completed=tally.done)
            rows = rules(tally.reward[: tally.done], tally.seen[: tally.done], known)
            live.update(Group(bar, table(rows, WINDOW), pace(tally, time.monotonic())), refresh=True)

        yield refresh


@contextmanager
def _lines(console: Console, tally: Tally, known: Baselines) -> Iterator[Callable[[], None]]:
    shown = 0

    def refresh() -> None:
        nonlocal shown
        if (tenth := tally.done * LINES // max(1, len(tally.seen))) > shown:
            shown = tenth
            console.print(line(tally, known, time.monotonic()), soft_wrap=True)

    yield refresh


def scores(console: Console, log: Log, known: Baselines) -> None:
    """Print the mean rewards by the server's log."""
    if log.earlier:
        before = f"The log also holds {log.earlier:,} decisions made before: the server started with what they taught."
        console.print(before, soft_wrap=True)
    console.print(f"From the server's own log ({len(log.visitors):,} decisions, {log.feedback:,} clicks):")
    last = min(LATE, len(log.visitors))
    console.print(table(rules(log.credited, log.visitors, known), last, "all"))


def curves(console: Console, log: Log, known: Baselines, path: Path) -> None:
    """Draw the learning curves into the file and on the console."""
    drawn = [(name, *moving_mean(values)) for name, values in rules(log.credited, log.visitors, known)]
    title = f"Mean reward over the last {WINDOW:,} rounds"
    _picture(drawn, title, path)
    print(_text(drawn, title, min(console.width, 100)), file=console.file)
    console.print(Text(printable(f"The same curve as a picture: {path.resolve()}")), soft_wrap=True)


def checks(console: Console, found: Sequence[Check], verified: Verified) -> None:
    """Print each check with its numbers, then the line of `verify`."""
    for check in found:
        numbers = f"{check.expected:,.10g} expected, {check.got:,.10g} found"
        console.print(_mark(check.holds), Text(f"{check.claim}: {numbers}"))
    console.print(_mark(verified.ok), Text("the state is the fold of the log; verify says:"))
    print("\n".join(map(printable, verified.line.splitlines())), file=console.file)


def _mark(holds: bool) -> Text:
    return Text("ok", "green") if holds else Text("FAILED", "bold red")


def _picture(drawn: Sequence[Curve], title: str, path: Path) -> None:
    with rc_context({"text.parse_math": False}):  # an area's name may have dollar signs
        _drawn(drawn, title).savefig(path, dpi=150)


def _drawn(drawn: Sequence[Curve], title: str) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")  # without pyplot: no window, no state of its own
    axes = figure.add_subplot(title=title, xlabel="round", ylabel="clicks per visitor")
    for name, rounds, mean in drawn:
        axes.plot(rounds, mean, label=name)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def _text(drawn: Sequence[Curve], title: str, width: int) -> str:
    """The curves as characters, without colours: each has a sign of its own."""
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, 20)
    for (_, rounds, mean), sign in zip(drawn, MARKERS, strict=True):
        some = np.linspace(0, len(rounds) - 1, min(POINTS, len(rounds))).astype(int)
        figure.draw(figure.signal(rounds[some].tolist(), mean[some].tolist(), marker=sign).lines())
    end = int(drawn[0][1][-1])
    ticks = [end * i // 5 for i in range(1, 6)]
    figure.ruler("x").ticks(ticks, [f"{tick:,}" for tick in ticks])
    figure.ruler("y").lim(0, 1.1 * max(float(mean.max()) for _, _, mean in drawn))
    figure.title(title)
    figure.label("   ".join(f"{sign} {name}" for (name, _, _), sign in zip(drawn, SIGNS, strict=True)), "x")
    return str(plotext.uncolorize(str(figure.build())))
