"""Commands on a log: what a target or a policy would have earned on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.common import (
    ArmColumn,
    AsJson,
    DataDir,
    Experiment,
    Format,
    LogPath,
    Position,
    Propensity,
    RedisUrl,
    RewardColumn,
    Seed,
    logged,
    of_format,
    tell_cleaning,
    told,
)

Targets = Annotated[
    list[str] | None, typer.Option("--target", help="uniform, fixed:ARM, a CSV of arm and probability, or a policy.")
]
Model = Annotated[str, typer.Option(help="The reward model: ridge, mean or mean-position.")]
Fit = Annotated[str | None, typer.Option(help="cross, past or in_sample; by default what is honest.")]


def evaluate(
    context: typer.Context,
    log: LogPath = None,
    format_: Format = "server",
    target: Targets = None,
    estimator: Annotated[list[str] | None, typer.Option(help="One or more; by default all that apply.")] = None,
    arm: ArmColumn = None,
    reward: RewardColumn = None,
    propensity: Propensity = None,
    position: Position = None,
    experiment: Experiment = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    q: Model = "ridge",
    q_fit: Fit = None,
    acceptance: Annotated[str, typer.Option(help="replay: rejection, or none as obp has it.")] = "rejection",
    tau: Annotated[float | None, typer.Option(help="SWITCH-DR's; by default its authors' bound.")] = None,
    lam: Annotated[float | None, typer.Option("--lambda", help="DRos's; by default its authors' bound.")] = None,
    clip: Annotated[float, typer.Option(help="What `clipped` clips weights at.")] = 10.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The value of target policies by every estimator, with intervals where the log allows them."""
    with told():
        from simulator import evaluation, output, targets

        found = logged(context)
        how: Any = {"q": q, "q_fit": q_fit, "acceptance": acceptance, "tau": tau, "lam": lam, "clip": clip}
        for name in target or ["uniform"]:
            pi = targets.target(found, name, seed=seed)
            rows = output.rows_of(evaluation.evaluate(found, pi, estimators=estimator, seed=seed, **how))
            if as_json:
                output.print_rows([{"target": name, **row} for row in rows], as_json=True)
            else:
                output.print_evaluation(name, rows)
        tell_cleaning(found.cleaning)


def convert(
    context: typer.Context,
    log: LogPath = None,
    format_: Format = "server",
    to: Annotated[str, typer.Option(help="parquet, jsonl or dsjson.")] = "parquet",
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("log.parquet"),
    arm: ArmColumn = None,
    reward: RewardColumn = None,
    propensity: Propensity = None,
    position: Position = None,
    experiment: Experiment = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write a log as the documented table (Parquet, JSON lines) or as dsjson."""
    with told():
        from simulator import output as out
        from simulator.convert import convert as converted

        done = converted(log, format_, to, output, **of_format(context))
        out.print_rows([{"rows": done.rows, "output": str(output), "cleaning": done.cleaning}], as_json=as_json)


def replay(
    context: typer.Context,
    log: LogPath = None,
    format_: Format = "server",
    policy: Annotated[list[str] | None, typer.Option(help="One or more; see `run`.")] = None,
    refresh: Annotated[int, typer.Option(min=1, help="Matches between two refreshes.")] = 100,
    floor: Annotated[float, typer.Option(help="The least propensity that matching allows for.")] = 0.0,
    doubly_robust: Annotated[bool, typer.Option(help="Dudik et al. (2012): uses every row.")] = False,
    arm: ArmColumn = None,
    reward: RewardColumn = None,
    propensity: Propensity = None,
    position: Position = None,
    experiment: Experiment = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What a policy that learns would have earned, learning only from the rows that match its choices."""
    with told():
        from simulator import output
        from simulator.replay import replay as replayed
        from simulator.replay_dr import replay_dr

        found = logged(context)
        rows = []
        for name in policy or ["linucb"]:
            if doubly_robust:
                done = replay_dr(found, name, refresh=refresh, seed=seed)
            else:
                done = replayed(found, name, refresh=refresh, seed=seed, floor=floor)
            counts = {"matches": done.matches, "rows": done.rows, "share": done.share, "cut": done.cut}
            value, error = (done.value, done.standard_error) if done.matches else (None, None)
            rows.append({"policy": name, "value": value, "standard_error": error, **counts})
        output.print_rows(rows, as_json=as_json)
        tell_cleaning(found.cleaning)


def compare(
    context: typer.Context,
    log: LogPath = None,
    format_: Format = "server",
    target: Targets = None,
    baseline: Annotated[str | None, typer.Option(help="One of the targets; by default the first.")] = None,
    arm: ArmColumn = None,
    reward: RewardColumn = None,
    propensity: Propensity = None,
    position: Position = None,
    experiment: Experiment = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    q: Model = "ridge",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Targets against a baseline as paired differences on the same log."""
    with told():
        from simulator import output, targets
        from simulator.report.contrasts import Data, compared

        names = target or []
        if len(names) < 2:
            raise typer.BadParameter("compare needs two --target or more")
        found = logged(context)
        pis = {name: targets.target(found, name, seed=seed) for name in names}
        first = baseline or names[0]
        if first not in pis:
            raise typer.BadParameter(f"--baseline is one of {', '.join(pis)}")
        data = Data.of(found, {"q": q, "seed": seed})
        rows = [
            {"target": name, "baseline": first, **compared(data, pi, pis[first], 0.05)._asdict()}
            for name, pi in pis.items()
            if name != first
        ]
        output.print_rows(rows, as_json=as_json)


def report(
    context: typer.Context,
    log: LogPath = None,
    format_: Format = "server",
    target: Targets = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    figures: Annotated[Path | None, typer.Option(help="A folder for the figures as PNG and SVG.")] = None,
    segment: Annotated[str | None, typer.Option(help="A column of the context to split by.")] = None,
    arm: ArmColumn = None,
    reward: RewardColumn = None,
    propensity: Propensity = None,
    position: Position = None,
    experiment: Experiment = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    q: Model = "ridge",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """One self-contained page: a verdict first, then values, weights, arms, segments, time and settings."""
    with told():
        from simulator import output as out
        from simulator import targets
        from simulator.report import report as written

        found = logged(context)
        pis = {name: targets.target(found, name, seed=seed) for name in target or ["uniform"]}
        settings = {"log": str(log) if log else f"experiment {experiment}", "format": format_}
        how: dict[str, Any] = {"q": q, "seed": seed}
        page = written(found, pis, output, how=how, settings=settings, segment=segment, figures=figures)
        out.print_rows([{"report": str(page)}], as_json=as_json)
