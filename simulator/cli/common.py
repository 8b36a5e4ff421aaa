"""What the commands share: options, and how a fault is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simulator.logged import Log

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Of whatever is drawn; the same seed gives the same bits.")]
LogPath = Annotated[Path | None, typer.Argument(help="A file (may be .gz) or folder; none for a server's store.")]
Format = Annotated[str, typer.Option("--format", help="table, server, open-bandit, dsjson, vw, csv or criteo.")]
ArmColumn = Annotated[str | None, typer.Option("--arm", help="csv: the column of the arm shown.")]
RewardColumn = Annotated[str | None, typer.Option("--reward", help="csv: the column of the reward.")]
Propensity = Annotated[str | None, typer.Option(help="csv: the column of its propensity, or one number.")]
Position = Annotated[str | None, typer.Option(help="csv: the column of the place in a list.")]
Experiment = Annotated[str | None, typer.Option(help="server: the experiment, where a store is read.")]
RedisUrl = Annotated[str | None, typer.Option(help="server: the store to read.")]
DataDir = Annotated[Path | None, typer.Option(help="server: the data directory to read.")]


def logged(context: typer.Context) -> Log:
    """The log that a command's options name."""
    from simulator.loaders import load

    return load(context.params["log"], context.params["format_"], **of_format(context))


def of_format(context: typer.Context) -> dict[str, Any]:
    """The options of the log's format, out of a command's.

    Raises:
        typer.BadParameter: one is missing, or is of another format.
    """
    known = {"csv": {"arm", "reward", "propensity", "position"}, "server": {"experiment", "redis_url", "data_dir"}}
    format_, names = context.params["format_"], set().union(*known.values())
    given = {name: value for name, value in context.params.items() if name in names and value is not None}
    if unknown := sorted(set(given) - known.get(format_, set())):
        raise typer.BadParameter(f"--format {format_} takes no --{unknown[0].replace('_', '-')}")
    if format_ != "csv":
        return given
    if missing := sorted({"arm", "reward", "propensity"} - set(given)):
        raise typer.BadParameter(f"--format csv needs --{missing[0]}")
    return {**given, "propensity": _number_or_name(given["propensity"])}


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def tell_cleaning(cleaning: Mapping[str, int]) -> None:
    """Say on stderr what was done to how many rows."""
    for what, count in cleaning.items():
        typer.echo(f"{count:,} {what}", err=True)


@contextmanager
def told() -> Iterator[None]:
    """What a command cannot do, in one line on stderr, and exit 1."""
    from bandit.embedded import EmbeddedError
    from bandit.errors import CorruptLog, Problem, StoreUnavailable, StoreUnsuitable

    try:
        yield
    except (
        ValueError, OSError, ImportError, Problem, CorruptLog, StoreUnavailable, StoreUnsuitable, EmbeddedError,
    ) as error:  # fmt: skip
        typer.echo(f"bandit-simulator: {error}", err=True)
        raise typer.Exit(1) from error
