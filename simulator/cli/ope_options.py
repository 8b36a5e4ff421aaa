"""What is asked of a log: the target policies, the reward model and the estimators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from simulator.cli.common import Alpha, above_0, note, rising, within
from simulator.wording import named, settings

if TYPE_CHECKING:
    from bandit.arrays import Matrix
    from simulator.logs.log import Log

HALF = 0.5  # of a log: what policies learn from, where nothing else is said


@dataclass(frozen=True)
class Targets:
    """The target policies."""

    target: Annotated[
        list[str] | None,
        typer.Option(
            help="uniform, fixed:ARM, a CSV of arm and probability, als, cosine, or a policy as for `run`; repeatable."
        ),
    ] = None
    train: Annotated[
        float | None,
        typer.Option(
            callback=within,
            help="The first share of the log, which policies only learn from; all are valued on the rest.",
        ),
    ] = None
    refresh: Annotated[int, typer.Option(min=1, help="Rows between two model updates of a target that learns.")] = 100
    keep_learning: Annotated[
        bool,
        typer.Option(
            "--keep-learning",
            help="Policies go on learning throughout the log, and so profit from the logging policy's exploration; "
            "else they are frozen after its first half (or --train), and all targets are valued on the rest.",
        ),
    ] = False

    @property
    def names(self) -> list[str]:
        """The targets."""
        return self.target or ["uniform"]

    @property
    def share(self) -> float:
        """The first share of the log that is only learned from: half, where a policy is among the targets."""
        from simulator.policies.targets import learns

        if self.train is not None:
            return self.train
        return HALF if not self.keep_learning and any(map(learns, self.names)) else 0.0

    def of(self, log: Log, seed: int) -> tuple[Log, dict[str, Matrix]]:
        """(rows to value them on, pi(a|x) of each target there).

        Raises:
            typer.BadParameter: collaborative filtering has nothing to learn from.
            ValueError: a target is not what it should be.
        """
        self._refuse_lists()
        cut = int(len(log) * self.share)
        rows = log.take(slice(cut, None))
        self.tell(cut, len(log))
        return rows, {name: self._one(log, cut, name, seed) for name in self.names}

    def tell(self, cut: int, n: int) -> None:
        """Say which rows were only learned from, and that a policy that goes on learning profits from the log."""
        from simulator.policies.targets import learns

        if cut:
            typer.echo(f"policies learned from the first {cut:,} of {n:,} rows; values are from the rest", err=True)
        for name in filter(learns, self.names if self.keep_learning else ()):
            note(f"{name} profits from the logging policy's exploration: on its own it may earn less")

    def of_pieces(self, seed: int) -> dict[str, Any]:
        """What makes each target for a log in pieces.

        Raises:
            typer.BadParameter: a target, or --train, needs the whole log.
        """
        from simulator.policies.adapters.collaborative import MODELS
        from simulator.policies.targets import of_pieces

        self._refuse_lists()
        if any(named(text).name in MODELS for text in self.names):
            raise typer.BadParameter(f"--stream takes no {' or '.join(MODELS)}: they need the whole log")
        return {name: of_pieces(name, refresh=self.refresh, seed=seed) for name in self.names}

    def _refuse_lists(self) -> None:
        """Targets that are whole lists have no probability of an arm."""
        if wrong := [text for text in self.names if named(text).kind == "list"]:
            raise typer.BadParameter(
                f"{wrong[0]} is a whole list: `evaluate --lists` values lists, one target at a time"
            )

    def _one(self, log: Log, cut: int, name: str, seed: int) -> Matrix:
        from simulator.policies.adapters.collaborative import MODELS
        from simulator.policies.targets import frozen, learns, target

        _, model, rest = named(name)
        if model not in MODELS:
            if learns(name) and not self.keep_learning:
                return frozen(log, name, cut, refresh=self.refresh, seed=seed)
            made: Matrix = target(log, name, refresh=self.refresh, seed=seed)[cut:]
            return made
        if not cut:
            raise typer.BadParameter(f"--target {model} needs --train: it learns from a first share of the log only")
        return _collaborative(log.take(slice(cut)), log.take(slice(cut, None)), model, settings(rest), seed)


def _collaborative(train: Log, rows: Log, model: str, given: dict[str, Any], seed: int) -> Matrix:
    """The policy of als or cosine, with explore=, and of als factors=, regularization=, alpha=, iterations=."""
    from simulator.policies.adapters.collaborative import MODELS, probabilities
    from simulator.policies.protocol import only

    kinds = {"explore": float, **get_type_hints(MODELS[model])}
    own = [name for name in kinds if name not in ("M", "return")]
    only(given, own, model)
    for name, value in given.items():
        least = 1 if name in ("factors", "iterations") else 0
        if not isinstance(value, kinds[name] | int) or value < least:
            raise ValueError(f"{model}: {name} is {_NUMBER[kinds[name]]} of {least} or more; got {value!r}")
    return probabilities(train, rows, model, **{**({"seed": seed} if "seed" in own else {}), **given})


_NUMBER = {int: "a whole number", float: "a number"}


RangeOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        callback=rising, metavar="LOW HIGH", help="The range of possible rewards; by default 0 1, or the log's own."
    ),
]
CapOption = Annotated[
    float | None,
    typer.Option(
        callback=above_0,
        help="Larger rewards count as this: intervals are narrower where a few are very large, but the value is then "
        "of the capped reward.",
    ),
]


@dataclass(frozen=True)
class Model:
    """The reward model, and the confidence of intervals."""

    q: Annotated[str, typer.Option(help="The reward model: ridge, mean or mean-position.")] = "ridge"
    q_fit: Annotated[
        str | None,
        typer.Option(
            help="Which rows the reward model is fitted on: cross (other splits of the log), past (earlier rows) or "
            "in_sample (all rows); by default past if the logging policy learned, else cross."
        ),
    ] = None
    alpha: Alpha = 0.05
    reward_range: RangeOption = None
    cap: CapOption = None
    stationary: Annotated[
        bool,
        typer.Option(
            "--stationary", help="Confidence sequences assume a constant mean: narrower, but wrong if it drifts."
        ),
    ] = False

    def how(self, seed: int) -> dict[str, Any]:
        """Arguments of `evaluate`."""
        return {
            "q": self.q, "q_fit": self.q_fit, "alpha": self.alpha, "reward_range": self.reward_range, "seed": seed,
            "cap": self.cap, "drifts": not self.stationary,
        }  # fmt: skip


class Command(TyperCommand):
    """A command whose help lists the names that an option takes: looked up when help is shown, as it takes a while."""

    def get_help(self, ctx: Any) -> str:
        """The help, complete."""
        from simulator.environments.named import NAMES
        from simulator.ope.evaluate_lists import ESTIMATORS as OF_LISTS
        from simulator.ope.terms import ESTIMATORS
        from simulator.policies.specs import KINDS

        of_lists = f"; with --lists: {', '.join(OF_LISTS)}" if any(each.name == "lists" for each in self.params) else ""
        known = {
            "estimators": ", ".join(ESTIMATORS) + of_lists,
            "policies": ", ".join(name for name in KINDS if name != "document"),
            "environments": ", ".join(NAMES),
        }
        for param in self.params:
            if param.name in ("estimator", "policy", "environment") and isinstance(param, TyperOption) and param.help:
                param.help = param.help.format(**known)
        return str(super().get_help(ctx))


LooksOption = Annotated[
    str,
    typer.Option("--looks", help="any: valid at every look at a growing log; one: narrower, valid at a single look."),
]


@dataclass(frozen=True)
class Compared:
    """Which slices of the traffic the lift is of."""

    slice: Annotated[
        str | None, typer.Option(help="server: whose lift; by default learned, or else the first slice.")
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(help="server: over which slice; by default random, or what plays uniformly, or the next one."),
    ] = None

    def pair(self) -> Any:
        """As the lift takes it."""
        from simulator.ope.lift.pair import Pair

        return Pair(self.slice, self.baseline)

    @property
    def named(self) -> bool:
        """Whether one of the two is asked for."""
        return self.slice is not None or self.baseline is not None


@dataclass(frozen=True)
class Estimators:
    """The estimators."""

    estimator: Annotated[
        list[str] | None,
        typer.Option(help="An estimator: {estimators}. Repeatable; by default all that apply."),
    ] = None
    interval: Annotated[
        str, typer.Option(help="The interval where the verdict is `interval`: normal or bootstrap.")
    ] = "normal"
    acceptance: Annotated[
        str, typer.Option(help="replay: rejection sampling of matches, or none (all count, as in obp).")
    ] = "rejection"
    tau: Annotated[
        float | None, typer.Option(min=0, help="The threshold of SWITCH-DR; by default chosen by its authors' bound.")
    ] = None
    lam: Annotated[
        float | None,
        typer.Option("--lambda", min=0, help="The shrinkage of DRos; by default chosen by its authors' bound."),
    ] = None
    clip: Annotated[float, typer.Option(min=0, help="The largest weight in `clipped`; larger ones are cut.")] = 10.0
    looks: LooksOption = "one"

    def how(self) -> dict[str, Any]:
        """Arguments of `evaluate`."""
        return {
            "estimators": self.estimator or None, "interval": self.interval, "acceptance": self.acceptance,
            "tau": self.tau, "lam": self.lam, "clip": self.clip, "looks": self.looks,
        }  # fmt: skip
