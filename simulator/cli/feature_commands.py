"""The command that proposes transforms of numbers, and plays what each would have earned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.common import AsJson, Seed, grouped, note, tell_cleaning
from simulator.cli.environment_options import EnvironmentOptions, Parallelism, interval
from simulator.cli.log_options import Source
from simulator.cli.play_commands import Rounds, interrupted, refuse
from simulator.wording import noted, number

if TYPE_CHECKING:
    from simulator.studies.features import Proposal

REPLAY = (
    "replay: what a policy earned that lived only the decisions that match, and learned from these; "
    "the best of several looks better than it is"
)


@grouped
def features(
    source: Source,
    world: EnvironmentOptions,
    parallelism: Parallelism,
    policy: Annotated[str, typer.Option(help="One of the server's policies, or a document, home.json.")] = "linucb",
    bins: Annotated[int, typer.Option(min=2, max=1000, help="The number of intervals of `bins`.")] = 8,
    size: Annotated[int, typer.Option(min=1, max=1000, help="The number of random Fourier features.")] = 100,
    rounds: Rounds = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="On a table: the number of seeds, counted from --seed; by default 4.")
    ] = None,
    refresh: Annotated[str, typer.Option(help="Rounds, or on a log matches, between two model updates.")] = "100",
    explore: Annotated[
        float | None, typer.Option(min=0, max=1, help="On a table: the exploration rate, in place of the policy's own.")
    ] = None,
    take: Annotated[
        str | None, typer.Option(help="The proposal to print or write, such as `bins 8`; by default the best.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file for the proposed features, as part of a document.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Propose transforms of numbers, and show what each would have earned.

    On a table of every arm's reward (--table) they are played; on a log they are replayed.
    """
    sizes = {"bins": bins, "size": size, "seed": seed}
    if source.named:
        refuse({"--table": world.named or None, "--rounds": rounds, "--seeds": seeds, "--explore": explore}, "a log")
        if not refresh.isdecimal() or int(refresh) < 1:
            raise typer.BadParameter(f"on a log --refresh is a number of matches; got {refresh!r}")
        found, best, complete = _on_log(source, policy, int(refresh), parallelism, sizes, as_json)
        more: dict[str, Any] = {}
    else:
        others = {name: each for name, each in source.given().items() if name not in ("user", "delimiter", "decimal")}
        refuse({f"--{name}": each for name, each in others.items()}, "a table")
        environment = world.make()
        how = {"rounds": rounds, "refresh": interval(refresh), "explore": explore}
        runs = range(seed, seed + (seeds or 4))
        found, best, complete = _on_table(environment, policy, runs, how, parallelism, sizes, as_json)
        more = {name: environment.document[name] for name in ("arms", "rewards")}
    if found and (take or best):
        _tell(_taken(found, take or best), more, output, as_json)
    interrupted(complete)


Found = tuple[list["Proposal"], str, bool]  # what is proposed, the name of the best, whether all were tried


def _on_table(
    environment: Any, policy: str, seeds: range, how: dict[str, Any], parallelism: Parallelism, sizes: dict[str, Any],
    as_json: bool,
) -> Found:  # fmt: skip
    from simulator.cli import output
    from simulator.studies.across_seeds import summaries
    from simulator.studies.features import played
    from simulator.studies.sweep import chosen_by_seeds, not_worse

    with parallelism.spread() as spread:
        found, done = played(environment, policy, **sizes, seeds=seeds, spread=spread, progress=True, **how)
    reward, regret = summaries(done.rows), summaries(done.rows, "regret_of_uniform")
    named = {each.name: each for each in found}
    rows = [
        {
            "features": one.policy, "columns": named[one.policy].columns, "seeds": one.seeds, "mean": one.mean,
            "low": one.low, "high": one.high, "regret_of_uniform": other.mean, "regret_low": other.low,
            "regret_high": other.high, **_proposed(named[one.policy], as_json),
        }
        for one, other in zip(reward, regret, strict=True)
    ]  # fmt: skip
    output.print_rows(rows, as_json=as_json)
    best = max(reward, key=lambda each: each.mean).policy if reward else ""
    if len(seeds) > 1 and done.complete:
        chosen = chosen_by_seeds(done)
        best = chosen.policy
        note(f"chosen on every other seed: {best}, {number(chosen.held_out, 5)} on the others")
        if equal := not_worse(done, chosen):
            note(f"there it is not clearly better than {', '.join(equal)}: more --seeds may tell")
    return [named[each.policy] for each in reward], best, done.complete


def _on_log(
    source: Source, policy: str, refresh: int, parallelism: Parallelism, sizes: dict[str, Any], as_json: bool
) -> Found:
    from simulator.cli import output
    from simulator.studies.features import replayed

    log, known = source.described()
    with parallelism.spread() as spread:
        done = replayed(log, known, policy, **sizes, refresh=refresh, spread=spread, progress=True)
    rows = [
        {
            "features": each.name, "columns": each.columns, "value": row.value, "low": row.low, "high": row.high,
            "verdict": row.verdict, "standard_error": row.standard_error, "matches": matches, "rows": len(log),
            **({"note": row.note} if as_json else {}), **_proposed(each, as_json),
        }
        for each, row, matches in zip(*done[:3], strict=True)
    ]  # fmt: skip
    output.print_rows(rows, as_json=as_json)
    if not as_json:
        note(REPLAY)
        for text in dict.fromkeys(row.note for row in done.rows if row.note):
            note(noted(text))
    tell_cleaning(log.cleaning)
    if made := ", ".join(each.name for each in known if each.made):
        note(f"{made}: made by the log's document and replayed as they are; add them from there, they are not printed")
    valued = [(row.value, each.name) for each, row in zip(done.proposals, done.rows, strict=True)
              if row.value is not None and row.verdict != "refused"]  # fmt: skip
    if not valued:
        note("none could be valued on this log, so none is proposed; --take prints one")
    return done.proposals, max(valued)[1] if valued else "", done.complete


def _proposed(proposal: Proposal, as_json: bool) -> dict[str, Any]:
    """The features themselves, for programs."""
    import msgspec

    return {"proposed": msgspec.to_builtins(proposal.features)} if as_json else {}


def _taken(found: list[Proposal], name: str) -> Proposal:
    named = {each.name: each for each in found}
    if name not in named:
        raise typer.BadParameter(f"--take is one of {', '.join(named)}; got {name!r}")
    return named[name]


def _tell(taken: Proposal, more: dict[str, Any], path: Path | None, as_json: bool) -> None:
    """Print the features of a proposal, or write them, with what else of a document is known."""
    import msgspec

    def text(part: Any) -> str:
        return msgspec.json.encode(part).decode()

    lines = ",\n  ".join(map(text, taken.features))
    rest = "".join(f",\n {text(name)}: {text(part)}" for name, part in more.items())
    whole = f'{{"features": [\n  {lines}]{rest}}}'
    if path is not None:
        path.write_text(whole + "\n", encoding="utf-8")
        note(f"{taken.name}: written to {path}")
    elif not as_json:
        note(f"{taken.name}, as part of a document:")
        typer.echo(whole)
