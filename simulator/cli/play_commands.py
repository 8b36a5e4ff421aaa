"""Commands that play policies where every arm's reward is known; and sweeps, which may also replay a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.common import AsJson, Seed, beside_cap, grouped, note, tell_cleaning, within
from simulator.cli.environment_options import EnvironmentOptions, Parallelism, interval
from simulator.cli.log_options import Source
from simulator.cli.ope_options import CapOption, RangeOption
from simulator.wording import capped, noted, number, value_of

Rounds = Annotated[int | None, typer.Option(min=1, help="The number of rounds; by default one pass over the data.")]
Refresh = Annotated[str, typer.Option(help="Rounds between two model updates, or a time such as 100ms.")]
Rate = Annotated[float, typer.Option(min=0.001, help="Rounds per second, where --refresh is a time.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(help="A policy: {policies} or a document, home.json; with settings, as in vw:bag=5; repeatable."),
]


@grouped
def run(
    world: EnvironmentOptions,
    parallelism: Parallelism,
    policy: Policies = None,
    rounds: Rounds = None,
    seeds: Annotated[int, typer.Option(min=1, help="The number of seeds, counted from --seed.")] = 1,
    refresh: Refresh = "100",
    rate: Rate = 1000.0,
    explore: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The exploration rate of the server's policies, in place of their own."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="One of the policies; shows how the others differ from it, by paired differences."),
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="A file for the learning curves, one JSON object a line.")] = None,
    windows: Annotated[int, typer.Option(min=1, help="The number of windows of the learning curves.")] = 20,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Play policies where every arm's reward is known.

    Regret is in per cent of that of uniform, which chooses at random.
    """
    from simulator.cli import output
    from simulator.environments.episode import shown
    from simulator.studies import run as runs
    from simulator.studies.across_seeds import differences, summaries

    policies = policy or ["linucb", "uniform"]
    if baseline is not None and baseline not in policies:
        raise typer.BadParameter(f"--baseline is one of {', '.join(policies)}; got {baseline!r}")
    environment = world.make()
    if not as_json:
        for line in shown(environment):
            note(line)
    with parallelism.spread() as spread:
        done = runs.run(
            environment, policies, rounds=rounds, seeds=range(seed, seed + seeds), refresh=interval(refresh),
            explore=explore, rate=rate, windows=windows, spread=spread, progress=True,
        )  # fmt: skip
    if not as_json or baseline is None:
        output.print_rows(_plain(done.rows), as_json=as_json)
    if not as_json and seeds > 1:
        output.print_rows(_plain(summaries(done.rows)), as_json=False, title="over the seeds")
    if baseline is not None and done.rows:
        output.print_rows(_plain(differences(done.rows, baseline, seed=seed)), as_json=as_json, title="differences")
    if curves is not None:
        _write(curves, done.curves)
    interrupted(done.complete)


@grouped
def sweep(
    source: Source,
    world: EnvironmentOptions,
    parallelism: Parallelism,
    policy: Annotated[str, typer.Option(help="The policy whose settings are varied.")] = "linucb",
    grid: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE,VALUE,..., repeatable; by default alpha=0.5,1,2.")
    ] = None,
    rounds: Rounds = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="In an environment: the number of seeds, counted from --seed; by default 2."),
    ] = None,
    refresh: Refresh = "100",
    by: Annotated[
        str | None,
        typer.Option(help="On a log: dr (policies learn from its first part and are valued on the rest) or replay."),
    ] = None,
    train: Annotated[
        float | None,
        typer.Option(callback=within, help="On a log, by dr: the share that policies learn from; by default 0.5."),
    ] = None,
    floor: Annotated[float | None, typer.Option(min=0, help="On a log, by replay: as for `replay`.")] = None,
    alpha: Annotated[
        float | None, typer.Option(callback=within, help="On a log: the significance level; by default 0.05.")
    ] = None,
    reward_range: RangeOption = None,
    cap: CapOption = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Try every combination of a policy's settings, on all cores.

    In an environment or, if a log is given, on that log. The best is chosen on every other seed, or on one half of the
    log, and valued on the rest.
    """
    on_log = {"by": by, "train": train, "floor": floor, "alpha": alpha, "reward_range": reward_range, "cap": cap}
    if source.named:
        wrong = {"--environment": world.named or None, "--rounds": rounds, "--seeds": seeds}
        refuse(wrong, "a sweep on a log")
        refuse({"--train": train} if by == "replay" else {"--floor": floor}, f"a sweep by {by or 'dr'}")
        how = {name: value for name, value in on_log.items() if value is not None}
        _sweep_log(source, policy, _grid(grid), refresh, how, parallelism, seed, as_json)
        return
    others = {name: each for name, each in source.given().items() if name != "user"}
    refuse({f"--{name}": each for name, each in {**on_log, **others}.items()}, "a sweep in an environment")
    _sweep_environment(world, policy, _grid(grid), rounds, seeds or 2, refresh, parallelism, seed, as_json)


def _sweep_environment(
    world: EnvironmentOptions, policy: str, grid: dict[str, list[Any]], rounds: int | None, seeds: int, refresh: str,
    parallelism: Parallelism, seed: int, as_json: bool,
) -> None:  # fmt: skip
    from simulator.cli import output
    from simulator.studies.across_seeds import summaries
    from simulator.studies.sweep import chosen_by_seeds, not_worse
    from simulator.studies.sweep import sweep as swept

    with parallelism.spread() as spread:
        done = swept(
            world.make(), policy, grid, rounds=rounds, seeds=range(seed, seed + seeds), refresh=interval(refresh),
            spread=spread, progress=True,
        )  # fmt: skip
    output.print_rows(_plain(done.rows), as_json=as_json)
    if not as_json:
        output.print_rows(_plain(summaries(done.rows)), as_json=False, title="over the seeds")
    if seeds > 1 and done.complete:
        best = chosen_by_seeds(done)
        note(f"chosen on every other seed: {best.policy}, {number(best.held_out, 5)} on the others")
        if equal := not_worse(done, best):
            note(f"there it is not clearly better than {', '.join(equal)}: more --seeds may tell")
    interrupted(done.complete)


def _sweep_log(
    source: Source, policy: str, grid: dict[str, list[Any]], refresh: str, how: dict[str, Any],
    parallelism: Parallelism, seed: int, as_json: bool,
) -> None:  # fmt: skip
    from simulator.cli import output
    from simulator.studies.sweep import sweep_log, variants

    if not refresh.isdecimal() or int(refresh) < 1:
        raise typer.BadParameter(
            f"on a log --refresh is a number of rows or, by replay, a number of matches; got {refresh!r}"
        )
    log = source.load()
    with parallelism.spread() as spread:
        done = sweep_log(log, policy, grid, refresh=int(refresh), seed=seed, spread=spread, progress=True, **how)
    found, cap = done.table(brief=not as_json), how.get("cap")
    output.print_rows(beside_cap(found, cap, as_json=as_json), as_json=as_json, title=capped(cap))
    best = done.chosen
    held_out = f"{number(best.held_out, 5)} on the other (standard error {number(best.held_out_error, 2)})"
    what = "chosen" if done.decided else "best"
    note(f"{what} on one half: {best.policy}, {number(best.choosing, 5)} there, {held_out}")
    if done.note:
        note(f"{best.policy}: {noted(done.note)}")
    tell_cleaning(log.cleaning)
    interrupted(len(done.tried) == len(variants(policy, grid)))


@grouped
def power(
    world: EnvironmentOptions,
    parallelism: Parallelism,
    rate: Annotated[float | None, typer.Option(callback=within, help="The baseline's success rate, in (0, 1).")] = None,
    lift: Annotated[float | None, typer.Option(help="The relative lift to detect: 0.05 is 5 % more.")] = None,
    chance: Annotated[
        float,
        typer.Option("--power", callback=within, help="Statistical power: the probability of detecting the lift."),
    ] = 0.8,
    alpha: Annotated[
        float, typer.Option(callback=within, help="Significance level: the probability of a false positive.")
    ] = 0.05,
    share: Annotated[float, typer.Option(callback=within, help="The new policy's share of the visitors.")] = 0.5,
    policy: Annotated[str | None, typer.Option(help="In an environment: the new policy; by default linucb.")] = None,
    baseline: Annotated[str | None, typer.Option(help="In an environment: the old policy; by default uniform.")] = None,
    rounds: Rounds = None,
    looks: Annotated[int, typer.Option(min=1, help="In an environment: the number of sample sizes tried.")] = 20,
    tests: Annotated[int, typer.Option(min=2, help="In an environment: the number of A/B tests simulated.")] = 100,
    refresh: Annotated[int, typer.Option(min=1, help="In an environment: rounds between two model updates.")] = 100,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """How many decisions it takes to detect a lift.

    The rates are given, or are those of policies that learn in an environment.
    """
    from simulator.cli import output

    sizes: dict[str, Any] = {"power": chance, "alpha": alpha, "share": share}
    if world.named:
        refuse({"--rate": rate, "--lift": lift}, "--environment or --table")
        played = {"rounds": rounds, "looks": looks, "tests": tests, "refresh": refresh, "seed": seed, **sizes}
        _power_played(world, policy or "linucb", baseline or "uniform", played, parallelism, as_json)
        return
    if rate is None or lift is None:
        raise typer.BadParameter("give --rate and --lift, or an --environment or --table")
    refuse({"--policy": policy, "--baseline": baseline, "--rounds": rounds}, "--rate")
    from simulator.studies.power import decisions, simulated

    n = decisions(rate, lift, **sizes)
    seen = simulated(rate, lift, n, alpha=alpha, share=share, seed=seed)
    output.print_rows([{"rate": rate, "lift": lift, "decisions": n, "simulated_power": seen}], as_json=as_json)


def _power_played(
    world: EnvironmentOptions,
    policy: str,
    baseline: str,
    how: dict[str, Any],
    parallelism: Parallelism,
    as_json: bool,
) -> None:
    from simulator.cli import output
    from simulator.studies.power import decisions_until

    with parallelism.spread() as spread:
        found = decisions_until(world.make(), policy, baseline, spread=spread, progress=True, **how)
    row = {"policy": policy, "baseline": baseline, "decisions": found.decisions}
    if as_json:
        output.print_rows([{**row, "looks": found.looks, "seen": found.seen}], as_json=True)
        return
    output.print_rows([row], as_json=False)
    looks = [{"decisions": at, "seen": seen} for at, seen in zip(found.looks, found.seen, strict=True)]
    output.print_rows(looks, as_json=False, title="share of tests that detected a difference")


def refuse(given: dict[str, Any], what: str) -> None:
    """Refuse options that were given and do not go with `what`."""
    if wrong := [name.replace("_", "-") for name, value in given.items() if value is not None]:
        raise typer.BadParameter(f"{what} takes no {wrong[0]}")


def interrupted(complete: bool) -> None:
    """Say so, and end with 130, where not all was done."""
    if not complete:
        typer.echo("interrupted: only what is finished is shown", err=True)
        raise typer.Exit(130)


def _grid(texts: list[str] | None) -> dict[str, list[Any]]:
    pairs = [text.partition("=") for text in texts or ["alpha=0.5,1,2"]]
    if wrong := [name for name, _, values in pairs if not (name and values)]:
        raise typer.BadParameter(f"--grid is NAME=VALUE,VALUE,...; got {wrong[0]!r}")
    return {name: [value_of(value) for value in values.split(",")] for name, _, values in pairs}


def _write(path: Path, rows: list[Any]) -> None:
    """Rows as JSON, one a line."""
    import msgspec

    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def _plain(rows: list[Any]) -> list[dict[str, Any]]:
    import msgspec

    found: list[dict[str, Any]] = msgspec.to_builtins(rows)
    return found
