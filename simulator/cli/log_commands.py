"""Commands on a log: what a target or a policy would have earned on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.common import Alpha, AsJson, Seed, beside_cap, grouped, note, tell_cleaning
from simulator.cli.log_options import Source
from simulator.cli.ope_options import CapOption, Compared, Estimators, LooksOption, Model, RangeOption, Targets
from simulator.wording import capped, named, noted


@grouped
def evaluate(
    source: Source,
    targets: Targets,
    estimators: Estimators,
    model: Model,
    compared: Compared,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the log in pieces, if it exceeds memory; q is ridge or mean.")
    ] = False,
    lists: Annotated[
        bool, typer.Option("--lists", help="Value whole lists; a target is uniform, list:ARM,ARM,... or a CSV.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What target policies would have earned, by every estimator.

    Each value has an interval where the log allows one.
    """
    from simulator.cli import output
    from simulator.ope import evaluate as evaluation

    how = {**estimators.how(), **model.how(seed)}
    cleaning: dict[str, int] = {}
    if lists and stream:
        raise typer.BadParameter("--lists takes no --stream")
    if (lists or stream) and compared.named:
        raise typer.BadParameter("--slice and --baseline take no --lists and no --stream")
    if lists:
        valued = _of_lists(source, targets, how, cleaning)
    elif stream:
        valued = _streamed(source, targets, how, seed, cleaning)
    else:
        log = source.load(targets.names)
        cleaning.update(log.cleaning)
        _say_lift(log, model.alpha, compared, as_json=as_json)
        if log.position is not None and log.position.any() and log.decision_id is not None:
            note("the log has lists: values are per position; --lists values whole lists")
        rows, pis = targets.of(log, seed)
        valued = (
            (name, [*_explained(rows, evaluation.evaluate(rows, pi, **how)), *_alone(log, name, targets, how)])
            for name, pi in pis.items()
        )
    for name, found in valued:
        plain = output.rows_of(found)
        if as_json:
            told = [{"target": name, **row} for row in plain]
            output.print_rows(beside_cap(told, model.cap, as_json=True), as_json=True)
        else:
            output.print_evaluation(name, plain, capped(model.cap))
    tell_cleaning(cleaning)


def _say_lift(log: Any, alpha: float, compared: Compared, *, as_json: bool) -> None:
    """The lift of a log with slices, or why there is none."""
    from simulator.cli import output
    from simulator.ope.lift.pair import silence
    from simulator.ope.lift.sentence import said_of
    from simulator.ope.lift.traffic import traffic_of

    pair = compared.pair()
    if lift := said_of(log, alpha, pair):
        output.print_lift(lift, as_json=as_json)
    elif log.slices:
        lists = log.position is not None and log.position.any()
        note(
            "no lift: positions of lists are no decisions; --places first takes whole lists for it"
            if lists
            else silence(traffic_of(log), pair)
        )


def _explained(log: Any, rows: list[Any]) -> list[Any]:
    """Rows that are refused with what that probably comes from."""
    from simulator.ope.checks.reasons import explained, likely

    refused = [row.verdict == "refused" and row.value is not None for row in rows]
    reasons = likely(log) if any(refused) else []
    return [
        replace(row, note=explained(row.note, reasons)) if wrong else row
        for row, wrong in zip(rows, refused, strict=True)
    ]


def _tell_reasons(log: Any, verdicts: list[str]) -> None:
    """Say on stderr what a refusal probably comes from."""
    from simulator.ope.checks.reasons import likely

    for each in likely(log) if "refused" in verdicts else []:
        note(f"refused: {each}")


def _alone(log: Any, name: str, targets: Targets, how: dict[str, Any]) -> list[Any]:
    """What a target that goes on learning earns without the log's exploration."""
    from simulator.policies.targets import learns
    from simulator.studies.alone import alone

    if not (targets.keep_learning and learns(name)):
        return []
    ranges = {each: how[each] for each in ("reward_range", "cap", "seed")}
    return [alone(log, name, refresh=targets.refresh, **ranges)]


def _of_lists(
    source: Source, targets: Targets, how: dict[str, Any], cleaning: dict[str, int]
) -> Iterator[tuple[str, list[Any]]]:
    """Each target with the values of its lists."""
    from simulator.ope.evaluate_lists import evaluate_lists

    log = (replace(source, places="each") if source.format_ == "server" else source).load()
    cleaning.update(log.cleaning)
    taken = {name: how[name] for name in ("estimators", "alpha", "reward_range", "cap", "drifts", "looks")}
    for name in targets.names:
        yield name, evaluate_lists(log, name, **taken)


def _streamed(
    source: Source, targets: Targets, how: dict[str, Any], seed: int, cleaning: dict[str, int]
) -> Iterator[tuple[str, list[Any]]]:
    """Each target with its values; what was cleaned is known after the first."""
    from simulator.ope.stream import evaluate_stream, parted
    from simulator.policies.targets import learns
    from simulator.progress import bar

    if targets.keep_learning and any(map(learns, targets.names)):
        note(
            "--stream does not simulate a policy on its own: without --stream, what it earns in an environment fitted "
            "to the log is shown too"
        )

    def pieces() -> Iterator[Any]:
        for piece in source.pieces(targets.names):
            cleaning.update(piece.cleaning)
            yield piece

    rest = pieces
    n = sum(map(len, pieces())) if targets.share else 0
    cut = int(n * targets.share)
    targets.tell(cut, n)
    for name, make in targets.of_pieces(seed).items():
        if cut:
            rest, make = parted(pieces, make, cut, learning=targets.keep_learning or not learns(name))
        with bar("rows read", None) as show:
            yield name, evaluate_stream(rest, make, show=show, **how)


@grouped
def convert(
    source: Source,
    to: Annotated[str, typer.Option(help="parquet, jsonl or dsjson.")] = "parquet",
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("log.parquet"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write a log as a table (Parquet, JSON lines) or as dsjson.

    Every format of logs is read; docs/logged-data.md describes the table.
    """
    from simulator.cli import output as out
    from simulator.logs.convert import convert as converted

    done = converted(source.log, source.format_, to, output, rules=source.rules(), **source.options())
    out.print_rows([{"rows": done.rows, "output": str(output), "cleaning": done.cleaning}], as_json=as_json)


@grouped
def replay(
    source: Source,
    policy: Annotated[list[str] | None, typer.Option(help="A policy as for `run`; repeatable.")] = None,
    refresh: Annotated[int, typer.Option(min=1, help="Matches between two model updates.")] = 100,
    floor: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Smaller propensities count as this: more rows match, but too few of the arms that were rarely shown.",
        ),
    ] = None,
    doubly_robust: Annotated[
        bool, typer.Option("--doubly-robust", help="Doubly robust replay, Dudik et al. (2012): uses every row.")
    ] = False,
    c_max: Annotated[
        float | None, typer.Option(min=0, help="doubly robust: the largest c in c pi / mu; by default the smallest mu.")
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="doubly robust: c as a quantile of mu / pi; a larger one gives a longer but more biased history.",
        ),
    ] = None,
    q: Annotated[
        str | None, typer.Option(help="doubly robust: ridge, mean or mean-position; by default each arm's mean so far.")
    ] = None,
    alpha: Alpha = 0.05,
    reward_range: RangeOption = None,
    cap: CapOption = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What a policy that learns would have earned on a log.

    It learns only from the rows in which it chooses the arm that was shown.
    """
    from simulator.cli import output
    from simulator.studies.lived import judge

    how = {"floor": floor} if not doubly_robust else {"c_max": c_max, "quantile": quantile, "q": q}
    others = {"c_max": c_max, "quantile": quantile, "q": q} if not doubly_robust else {"floor": floor}
    if wrong := [name.replace("_", "-") for name, value in others.items() if value is not None]:
        raise typer.BadParameter(f"--{wrong[0]} {'excludes' if doubly_robust else 'needs'} --doubly-robust")
    log = source.load(policy or [])
    replayed = _replayed(log, doubly_robust, {name: value for name, value in how.items() if value is not None})
    rows, notes = [], []
    for name in policy or ["linucb"]:
        done = replayed(name, refresh=refresh, seed=seed)
        row = judge(log, done, alpha=alpha, reward_range=reward_range, cap=cap)
        ends = {each: getattr(row, each) for each in ("value", "low", "high", "verdict", "standard_error")}
        lived = {"matches": done.matches, "rows": done.rows, "share": done.share, "cut": done.cut}
        judged = {"n_eff": row.n_eff, "skewness": row.skewness}
        rows.append({"policy": name, **ends, **lived, **judged, **({"note": row.note} if as_json else {})})
        notes += [f"{name}: {noted(row.note)}"] * bool(row.note)
    output.print_rows(beside_cap(rows, cap, as_json=as_json), as_json=as_json, title=capped(cap))
    for each in [] if as_json else notes:
        note(each)
    _tell_reasons(log, [row["verdict"] for row in rows])
    tell_cleaning(log.cleaning)


def _replayed(log: Any, doubly_robust: bool, how: dict[str, Any]) -> Callable[..., Any]:
    """Replay of one kind on a log, for any policy."""
    from functools import partial

    from simulator.ope.models import model_of, predictions
    from simulator.studies.replay import replay
    from simulator.studies.replay_dr import replay_dr

    if not doubly_robust:
        return partial(replay, log, **how)
    if "q" in how:
        how = {**how, "q": predictions(model_of(how["q"]), log, "past")}
    return partial(replay_dr, log, **how)


@grouped
def compare(
    source: Source,
    targets: Targets,
    model: Model,
    baseline: Annotated[str | None, typer.Option(help="One of the targets; by default the first.")] = None,
    looks: LooksOption = "any",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Compare targets with a baseline on the same log.

    The differences are paired: of each row, what one target earns less what the other earns.
    """
    from simulator.cli import output
    from simulator.ope import differences

    names = targets.target or []
    first = _one_of(names, baseline, "compare")
    log = source.load(targets.names)
    rows, pis = targets.of(log, seed)
    done = differences.compare(rows, pis, baseline=first, **{**model.how(seed), "looks": looks})
    found = [{"target": name, "baseline": first, **each._asdict()} for name, each in done.items()]
    found = beside_cap(found, model.cap, as_json=as_json)
    output.print_rows(found, as_json=as_json, title=capped(model.cap))
    _tell_reasons(rows, [each.verdict for each in done.values()])
    tell_cleaning(log.cleaning)


def _one_of(names: list[str], baseline: str | None, what: str) -> str:
    """The baseline among two targets or more."""
    if len(set(names)) < 2:
        raise typer.BadParameter(f"{what} needs two --target or more")
    if baseline is not None and baseline not in names:
        raise typer.BadParameter(f"--baseline is one of {', '.join(names)}; got {baseline!r}")
    return baseline or names[0]


@grouped
def select(
    source: Source,
    targets: Targets,
    model: Model,
    estimator: Annotated[str, typer.Option(help="The estimator that chooses and values: {estimators}.")] = "dr",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Choose the best of several targets, and value it.

    It is chosen on one half of the log and valued on the other half.
    """
    from simulator.cli import output
    from simulator.policies.targets import learns
    from simulator.studies import select as selection

    _one_of(targets.target or [], None, "select")
    log = source.load(targets.names)
    rows, pis = targets.of(log, seed)
    in_time = True if targets.keep_learning and any(map(learns, targets.names)) else None
    done = selection.select(rows, pis, estimator=estimator, in_time=in_time, **model.how(seed))
    found = beside_cap(done.table("target", brief=not as_json), model.cap, as_json=as_json)
    output.print_rows(found, as_json=as_json, title=capped(model.cap))
    if done.note:
        note(f"{done.chosen.policy}, the best on one half: {noted(done.note)}")
    _tell_reasons(rows, [row["verdict"] for row in found])
    tell_cleaning(log.cleaning)


@grouped
def report(
    source: Source,
    targets: Targets,
    estimators: Estimators,
    model: Model,
    compared: Compared,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    figures: Annotated[Path | None, typer.Option(help="A folder for the figures, as PNG and SVG.")] = None,
    segment: Annotated[str | None, typer.Option(help="A context column to split the log by.")] = None,
    curves: Annotated[
        Path | None, typer.Option(help="A file of `run --curves`, to be shown as learning curves.")
    ] = None,
    title: Annotated[str, typer.Option(help="The title of the page.")] = "Offline evaluation",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page on what targets would earn.

    It has the verdict first, then values, weights, arms, segments, time and settings.
    """
    from simulator.cli import output as out
    from simulator.reporting import report as written

    drawn = _curves(curves)
    log = source.load(targets.names)
    rows, pis = targets.of(log, seed)
    settings = {"log": str(source.log or f"experiment {source.experiment}"), "format": source.format_}
    how = {**estimators.how(), **model.how(seed)}
    pis = {Path(name).name if _is_file(name) else name: pi for name, pi in pis.items()}
    page = written(
        rows, pis, output, how=how, settings=settings, curves=drawn, segment=segment, figures=figures, title=title,
        pair=compared.pair(),
    )  # fmt: skip
    out.print_rows(beside_cap([{"report": str(page)}], model.cap, as_json=as_json), as_json=as_json)
    if model.cap is not None and not as_json:
        note(capped(model.cap))
    tell_cleaning(log.cleaning)


def _is_file(target: str) -> bool:
    """Whether a target is a file without settings, which the report calls by its last name."""
    kind, _, rest = named(target)
    return kind in ("csv", "document") and not rest


def _curves(path: Path | None) -> list[Any]:
    """Learning curves of a file, one a line."""
    import msgspec

    from simulator.logs.storage import json_of, lines
    from simulator.studies.run import Curve

    decoder = msgspec.json.Decoder(Curve)
    return [] if path is None else [json_of(path, number, line, decoder) for number, line in lines(path)]
