"""Where policies are played: a made-up environment, or a table of every arm's reward; and how work is spread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.common import User
from simulator.wording import settings

if TYPE_CHECKING:
    from simulator.environments.episode import Environment
    from simulator.studies.parallel import Spread

LABELLED = ("label", "bad", "rewards", "ignore", "delimiter", "decimal")  # of a table with a label, or with rewards
RATED = ("user", "item", "rating", "items", "known", "delimiter", "decimal")  # of a table of ratings


@dataclass(frozen=True)
class EnvironmentOptions:
    """The options of an environment; None: not given."""

    environment: Annotated[
        str | None,
        typer.Option(help="An environment: {environments}; with settings, as in logistic:arms=20,delay=100."),
    ] = None
    table: Annotated[
        Path | None, typer.Option(help="A table with every arm's reward, or one of ratings (may be .gz).")
    ] = None
    label: Annotated[
        str | None, typer.Option(help="The column of the correct arm: choosing it earns 1, any other 0.")
    ] = None
    bad: Annotated[
        str | None,
        typer.Option(
            help="Two arms: skip earns 0; eat earns 5 or, where the label is this, 5 or -35 with equal chance."
        ),
    ] = None
    rewards: Annotated[
        str | None, typer.Option(help="Without --label: the prefix of the reward columns; by default reward_.")
    ] = None
    ignore: Annotated[list[str] | None, typer.Option(help="A column of the table that is not used as a feature.")] = (
        None
    )
    header: Annotated[bool, typer.Option(help="Whether the first line of the table holds the column names.")] = True
    delimiter: Annotated[str | None, typer.Option(help="The column separator; by default detected.")] = None
    decimal: Annotated[str | None, typer.Option(help="The decimal mark, . or , ; by default detected.")] = None
    user: User = None
    item: Annotated[str | None, typer.Option(help="ratings: the item column.")] = None
    rating: Annotated[
        str | None, typer.Option(help="ratings: the rating column; by default every row is a rating of 1.")
    ] = None
    items: Annotated[int | None, typer.Option(min=1, help="ratings: how many items become arms; by default 20.")] = None
    known: Annotated[
        int | None, typer.Option(min=0, help="ratings: how many further items become features; by default 60.")
    ] = None

    @property
    def named(self) -> bool:
        """Whether the options name an environment."""
        return self.environment is not None or self.table is not None

    def make(self) -> Environment:
        """The environment.

        Raises:
            typer.BadParameter: there is none, there are two, or an option is of another kind.
            ValueError: it cannot be made so.
        """
        if (self.table is None) == (self.environment is None):
            raise typer.BadParameter("give either --table or --environment")
        if self.environment is not None:
            self._only((), "--environment")
            return _made_up(self.environment)
        if self.item is not None or self.user is not None:
            return self._ratings()
        self._only(LABELLED, "a table without --user and --item")
        from simulator.environments.tables import read

        if self.bad is not None and self.label is None:
            raise typer.BadParameter("--bad needs --label")
        return read(str(self.table), header=self.header, **self._given(LABELLED))

    def _ratings(self) -> Environment:
        from simulator.environments.tables import ratings

        self._only(RATED, "a table of ratings")
        if self.user is None or self.item is None:
            raise typer.BadParameter("a table of ratings needs --user and --item")
        names = {"items": "arms", "known": "features"}
        return ratings(str(self.table), **{names.get(name, name): each for name, each in self._given(RATED).items()})

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}

    def _only(self, names: tuple[str, ...], what: str) -> None:
        """Refuse options that do not go with `what`."""
        wrong = [name for name in self._given(LABELLED + RATED) if name not in names]
        wrong += ["no-header"] if not self.header and "label" not in names else []
        if wrong:
            raise typer.BadParameter(f"{what} takes no --{wrong[0]}")


def _made_up(text: str) -> Environment:
    """The environment of NAME or NAME:FIELD=VALUE,..."""
    from simulator.environments.named import named

    name, _, rest = text.partition(":")
    return named(name, **settings(rest))


@dataclass(frozen=True)
class Parallelism:
    """The options of how work is spread over processes or a cluster."""

    workers: Annotated[int | None, typer.Option(min=1, help="The number of processes; by default one per core.")] = None
    cluster: Annotated[str | None, typer.Option(help="The Dask scheduler to run on, such as tcp://HOST:8786.")] = None

    @contextmanager
    def spread(self) -> Iterator[Spread]:
        """How to spread it."""
        from simulator.studies.cluster import cluster
        from simulator.studies.parallel import processes

        if self.cluster is None:
            yield processes(self.workers)
            return
        if self.workers is not None:
            raise typer.BadParameter("give either --workers or --cluster")
        with cluster(self.cluster) as spread:
            yield spread


def interval(text: str) -> int | str:
    """Rounds between two refreshes, or a time."""
    return int(text) if text.isdecimal() else text
