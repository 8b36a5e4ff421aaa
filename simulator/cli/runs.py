"""Commands in environments where every arm's reward is known."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.common import AsJson, Seed, told

Table = Annotated[Path | None, typer.Option(help="A table of full information (may be .gz).")]
Label = Annotated[str | None, typer.Option(help="Its column of right arms; reward 1 where the arm is it.")]
Named = Annotated[str | None, typer.Option(help="linear, logistic, drift-abrupt, delayed, ..., msweb.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="By default one pass over the data.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many, counted from --seed.")]
Refresh = Annotated[str, typer.Option(help="Rounds between two refreshes, or a time such as 100ms.")]
Explore = Annotated[float | None, typer.Option(help="Of the server's policies, in place of their own.")]
Cluster = Annotated[str | None, typer.Option(help="A Dask scheduler to spread the runs over, such as tcp://HOST:8786.")]


def run(
    table: Table = None,
    label: Label = None,
    environment: Named = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="linucb:alpha=0.5, uniform, vw:bag=5, home.json, ...")
    ] = None,
    rounds: Rounds = None,
    seeds: Seeds = 1,
    refresh: Refresh = "100",
    explore: Explore = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column of the table that is no feature.")] = None,
    header: Annotated[bool, typer.Option(help="Whether the table's first line names its columns.")] = True,
    cluster: Cluster = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Play policies where every arm's reward is known; regret with uniform = 100."""
    with told():
        from simulator import output, runs
        from simulator.compare import summaries
        from simulator.environments.episode import shown

        place = _environment(table, label, environment, ignore, header)
        if not as_json:
            for line in shown(place):
                typer.echo(line, err=True)
        with _spread(cluster) as spread:
            done = runs.run(
                place, policy or ["linucb", "uniform"], rounds=rounds, seeds=range(seed, seed + seeds),
                refresh=_refresh(refresh), explore=explore, spread=spread, progress=True,
            )  # fmt: skip
        output.print_rows(output.rows_of(map(_plain, done.rows)), as_json=as_json)
        if not as_json and seeds > 1:
            output.print_rows(output.rows_of(map(_plain, summaries(done.rows))), as_json=False, title="over the seeds")
        if not done.complete:
            typer.echo("interrupted: what was done is shown", err=True)
            raise typer.Exit(130)


def sweep(
    table: Table = None,
    label: Label = None,
    environment: Named = None,
    policy: Annotated[str, typer.Option(help="The policy whose settings are varied.")] = "linucb",
    grid: Annotated[list[str] | None, typer.Option(help="NAME=VALUE,VALUE,...; one or more.")] = None,
    rounds: Rounds = None,
    seeds: Seeds = 2,
    refresh: Refresh = "100",
    cluster: Cluster = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Every combination of settings, on all cores; the best is judged on seeds that did not choose it."""
    with told():
        from simulator import output
        from simulator.compare import summaries
        from simulator.sweep import chosen_by_seeds
        from simulator.sweep import sweep as swept

        with _spread(cluster) as spread:
            done = swept(
                _environment(table, label, environment, None, True), policy, _grid(grid), rounds=rounds,
                seeds=range(seed, seed + seeds), refresh=_refresh(refresh), spread=spread, progress=True,
            )  # fmt: skip
        output.print_rows(output.rows_of(map(_plain, done.rows)), as_json=as_json)
        if not as_json:
            output.print_rows(output.rows_of(map(_plain, summaries(done.rows))), as_json=False, title="over the seeds")
            if seeds > 1 and done.complete:
                best = chosen_by_seeds(done)
                typer.echo(f"chosen by every other seed: {best.policy}, {best.held_out:.5g} on the others", err=True)


def power(
    rate: Annotated[float, typer.Option(help="The baseline's rate of success, in (0, 1).")],
    lift: Annotated[float, typer.Option(help="Relative: 0.05 is 5 % more.")],
    chance: Annotated[float, typer.Option("--power", help="To see a lift that is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Chance to see one that is not.")] = 0.05,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """How many decisions until a lift is seen."""
    with told():
        from simulator import output
        from simulator.power import decisions, simulated

        n = decisions(rate, lift, power=chance, alpha=alpha)
        row = {"rate": rate, "lift": lift, "decisions": n, "simulated_power": simulated(rate, lift, n, seed=seed)}
        output.print_rows([row], as_json=as_json)


def _environment(
    table: Path | None, label: str | None, environment: str | None, ignore: list[str] | None, header: bool
) -> Any:
    from simulator.environments.named import named

    if (table is None) == (environment is None):
        raise typer.BadParameter("give either --table or --environment")
    if environment is not None:
        return named(environment)
    return named(str(table), label=label, ignore=ignore or (), header=header)


def _refresh(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _grid(texts: list[str] | None) -> dict[str, list[Any]]:
    import msgspec

    pairs = [text.partition("=") for text in texts or ["alpha=0.5,1,2"]]
    return {name: [msgspec.json.decode(value) for value in values.split(",")] for name, _, values in pairs}


def _spread(cluster: str | None) -> Any:
    if cluster is None:
        return nullcontext(None)
    from simulator.cluster import cluster as connected

    return connected(cluster)


def _plain(row: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(row)
    return found
