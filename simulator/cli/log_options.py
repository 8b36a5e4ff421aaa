"""The log that a command reads: its format, what that format must be told, and what is cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.common import User, rising
from simulator.wording import named, settings

if TYPE_CHECKING:
    from simulator.logs.cleaning import Rules
    from simulator.logs.contexts import Feature
    from simulator.logs.log import Log

CSV = {
    "arm", "reward", "propensity", "position", "time", "user", "decision_id", "weight", "context", "first_position",
    "arms", "learning", "weights", "delimiter", "decimal", "day_first", "faulty",
}  # fmt: skip
TAKES = {
    "csv": CSV,
    "server": {"experiment", "redis_url", "data_dir", "archive", "weights", "places", "min_age"},
    "criteo": {"kept", "inverse", "faulty"},
    "open-bandit": {"learning", "faulty"},
    "dsjson": {"learning", "faulty"},
    "vw": {"learning", "faulty"},
    "table": {"faulty"},
}
OPTIONS = set().union(*TAKES.values())


@dataclass(frozen=True)
class Source:
    """The options of a log; None: not given."""

    log: Annotated[Path | None, typer.Argument(help="A file (may be .gz) or a folder; omit it to read a store.")] = None
    format_: Annotated[
        str, typer.Option("--format", help="The log's format: table, server, open-bandit, dsjson, vw, csv, criteo.")
    ] = "server"
    arm: Annotated[str | None, typer.Option(help="csv: the column of the arm shown.")] = None
    reward: Annotated[list[str] | None, typer.Option(help="csv: the column of the reward, or several.")] = None
    propensity: Annotated[
        str | None,
        typer.Option(
            help="csv: the column of the propensity of the arm shown, or one number. In lists: the marginal "
            "probability of the arm at its position or, for `evaluate --lists`, its conditional propensity "
            "given the arms above it."
        ),
    ] = None
    position: Annotated[str | None, typer.Option(help="csv: the column of the position in a list.")] = None
    first_position: Annotated[int | None, typer.Option(help="csv: the number of the first position; by default 0.")] = (
        None
    )
    time: Annotated[str | None, typer.Option(help="csv: the column of the time, ISO 8601 or a number.")] = None
    user: User = None
    decision_id: Annotated[str | None, typer.Option(help="csv: the column of the decision's id.")] = None
    weight: Annotated[
        str | None, typer.Option(help="csv: the column of the row weight, 1 / the share of such rows kept.")
    ] = None
    context: Annotated[
        list[str] | None, typer.Option(help="csv: a context column (repeatable); by default all others.")
    ] = None
    arms: Annotated[str | None, typer.Option(help="csv: the ids of all arms, A,B,...; by default those shown.")] = None
    learning: Annotated[
        bool | None,
        typer.Option(help="csv, open-bandit, dsjson, vw: whether the logging policy learned while it logged."),
    ] = None
    experiment: Annotated[str | None, typer.Option(help="server: the name of the experiment in the store.")] = None
    redis_url: Annotated[str | None, typer.Option(help="server: the address of the store to read.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="server: the data directory to read.")] = None
    archive: Annotated[
        Path | None, typer.Option(help="server: the archive's folder, to be read with the store as one log.")
    ] = None
    delimiter: Annotated[str | None, typer.Option(help="csv: the column separator; by default detected.")] = None
    decimal: Annotated[str | None, typer.Option(help="csv: the decimal mark, . or , ; by default detected.")] = None
    day_first: Annotated[
        bool | None,
        typer.Option(
            "--day-first/--month-first", help="csv: whether the day or the month comes first in dates such as 3.4.2026."
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="server, csv: weights of the rewards, KIND=WEIGHT,...; by default the experiment's, or 1 each."
        ),
    ] = None
    places: Annotated[
        str | None,
        typer.Option(
            help="server: each: every position of a list is a row; first: only the first is; by default each where at "
            "least half of the decisions are lists, else first."
        ),
    ] = None
    min_age: Annotated[
        str | None,
        typer.Option(
            help="server: the age that decisions must have reached at the end of the log to count, such as 0s or 2d; "
            "by default the age by which 99 % of the rewards have arrived."
        ),
    ] = None
    kept: Annotated[
        float | None, typer.Option(help="criteo: the share of rows without a click that was kept; by default 0.1.")
    ] = None
    faulty: Annotated[
        float | None,
        typer.Option(
            help="The largest share of rows without a reward, or of broken lines, that is accepted; by default 0.25."
        ),
    ] = None
    inverse: Annotated[bool | None, typer.Option("--inverse", help="criteo: the file holds 1 / propensity.")] = None
    keep_rewards: Annotated[
        tuple[float, float] | None,
        typer.Option(callback=rising, metavar="LOW HIGH", help="Drop and count rows with a reward outside this range."),
    ] = None
    keep_repeats: Annotated[bool, typer.Option("--keep-repeats", help="Keep rows that repeat an earlier decision.")] = (
        False
    )

    @property
    def named(self) -> bool:
        """Whether the options name a log."""
        return self.log is not None or self.experiment is not None

    def given(self) -> dict[str, Any]:
        """The options of a format that were given."""
        return {name: value for name in sorted(OPTIONS) if (value := getattr(self, name)) not in (None, [])}

    def load(self, targets: Sequence[str] = ()) -> Log:
        """The log.

        Args:
            targets: what it is to be valued for: a document says what it is told before it decides.

        Raises:
            typer.BadParameter: an option is missing, or is of another format.
            LogError: the log cannot be read.
        """
        from simulator.logs.loaders import load

        return load(self.log, self.format_, rules=self.rules(), **self.options(targets))

    def described(self) -> tuple[Log, tuple[Feature, ...]]:
        """The log, and the features that its columns are made of; raises as `load` does."""
        from simulator.logs.loaders import described

        return described(self.log, self.format_, rules=self.rules(), **self.options(()))

    def pieces(self, targets: Sequence[str] = ()) -> Iterator[Log]:
        """The log in pieces; raises as `load` does."""
        from simulator.logs.loaders import stream

        return stream(self.log, self.format_, rules=self.rules(), **self.options(targets))

    def options(self, targets: Sequence[str] = ()) -> dict[str, Any]:
        """What the loader of the format takes."""
        given = self.given()
        if unknown := sorted(set(given) - TAKES.get(self.format_, set())):
            raise typer.BadParameter(f"--format {self.format_} takes no --{unknown[0].replace('_', '-')}")
        if self.format_ == "csv" and (missing := sorted({"arm", "reward", "propensity"} - set(given))):
            raise typer.BadParameter(f"--format csv needs --{missing[0]}")
        found = {name: PARSED[name](value) if name in PARSED else value for name, value in given.items()}
        if self.format_ == "csv" and self.context is None and (known := _known(targets)) is not None:
            found["known"] = known
        return found

    def rules(self) -> Rules | None:
        """Of cleaning; None: the loader's own."""
        from simulator.logs.cleaning import Rules

        if self.keep_rewards is None and not self.keep_repeats:
            return None
        return Rules(self.keep_rewards, duplicates=not self.keep_repeats)


def _known(targets: Sequence[str]) -> list[str] | None:
    """The features of all documents among the targets that have some; None where none has."""
    from simulator.policies.specs import parse

    documents = [parse(text).options for text in targets if named(text).kind == "document"]
    told = [{feature["name"] for feature in each["features"]} for each in documents if each.get("features")]
    return sorted(set.intersection(*told)) if told else None


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _place(text: str) -> str:
    if text not in ("each", "first"):
        raise typer.BadParameter(f"--places is each or first; got {text!r}")
    return text


def _weights(text: str) -> dict[str, float]:
    """KIND=WEIGHT,..."""
    found = settings(text)
    if wrong := [kind for kind, weight in found.items() if not isinstance(weight, int | float)]:
        raise typer.BadParameter(f"--weights takes KIND=NUMBER,...; {wrong[0]} has {found[wrong[0]]!r}")
    return {kind: float(weight) for kind, weight in found.items()}


PARSED: dict[str, Any] = {
    "propensity": _number_or_name, "arms": lambda text: text.split(","), "weights": _weights, "places": _place,
}  # fmt: skip
