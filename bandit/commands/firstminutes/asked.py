"""`init`: an experiment's file from questions, or from a sample of data. Each question has a default and says why."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import typer

from bandit.commands.firstminutes.read import check_name
from bandit.commands.firstminutes.written import written
from bandit.core.experiment import compile_config
from bandit.core.inferred.proposal import Proposal, proposed
from bandit.core.inferred.table import read_table
from bandit.core.revision import first
from bandit.core.validation import parse_document
from bandit.errors import Code, Problem, printable

SAMPLE = 8 << 20  # bytes of a sample that are read
ROLE = "/roles"
TYPES = "number", "boolean", "category", "hashed"

A = TypeVar("A")


class Draft(NamedTuple):
    """A document with what is to be said of its parts."""

    document: dict[str, Any]
    why: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()


def begin(
    file: Path | None, sample: Path | None, name: str | None, roles: list[str], *, asking: bool, force: bool
) -> None:
    """The command `init`: its defaults, what it says, and which commands come next.

    Raises:
        typer.BadParameter: a role is not written as COLUMN=ROLE; else see `init`.
    """
    told = dict(_pair(role) for role in roles)
    if told and sample is None:
        raise typer.BadParameter("there are columns only with --from", param_hint="--role")
    name = name or (file.stem if file else "home")
    path = file or Path(f"{name}.toml")
    found = init(path, name, sample, told, force=force, asking=asking)
    if found is not None:
        width = max((len(each.name) for each in found.columns), default=0)
        for each in found.columns:
            typer.echo(printable(f"  {each.name:<{width}}  {each.role:<11}  {each.why}"))
        for warning in found.warnings:
            typer.echo(printable(f"look at this: {warning}"))
    typer.echo(f"wrote {path}: look at it, then")
    typer.echo("  bandit-server serve")
    typer.echo(f"  bandit-server apply {shlex.quote(str(path))}")


def _pair(text: str) -> tuple[str, str]:
    column, sign, role = text.rpartition("=")
    if not sign:
        raise typer.BadParameter("expected COLUMN=ROLE", param_hint="--role")
    return column, role


def init(
    path: Path, name: str, sample: Path | None, roles: Mapping[str, str], *, force: bool, asking: bool
) -> Proposal | None:
    """Write the file of an experiment; the sample's proposal, where there was a sample.

    Args:
        path: of the file, which must not be there yet unless forced.
        name: of the experiment.
        sample: a CSV file, from which the document is inferred.
        roles: of the sample's columns, where these are known.
        force: whether a file that is there is replaced.
        asking: whether questions are asked; else every answer is its default.

    Raises:
        Problem: the name, the sample or the answers cannot be used; OSError: a file cannot.
    """
    check_name(name)
    if path.exists() and not force:
        raise FileExistsError(17, "it is there already; --force replaces it", str(path))
    found = None if sample is None else _proposed(sample, roles)
    draft = _questions(asking) if found is None else _from_sample(found, asking)
    compile_config(first(name, parse_document(msgspec.json.encode(draft.document))))
    text = written(name, str(path), draft.document, draft.why, draft.notes)
    path.write_text(text, encoding="utf-8")
    return found


def _proposed(sample: Path, roles: Mapping[str, str]) -> Proposal:
    """What a file suggests; what is wrong with it is told by its name, and of a role by the column's."""
    try:
        return proposed(read_table(_head(sample)), roles, ROLE)
    except Problem as problem:
        if not problem.faults:
            raise
        (fault,) = problem.faults
        column = fault.pointer.removeprefix(ROLE + "/").replace("~1", "/").replace("~0", "~")
        at = f"--role {column}: " if column else ""
        raise Problem(problem.code, f"{sample}: {at}expected {fault.expected}, got {fault.got}") from None


def _head(path: Path) -> str:
    """The first bytes of a file, to the end of a line."""
    with path.open("rb") as file:
        data = file.read(SAMPLE)
    if len(data) == SAMPLE:
        data = data[: data.rfind(b"\n") + 1]
    try:
        return data.decode()
    except UnicodeDecodeError:
        how = "in Excel: Save as, CSV UTF-8; else: iconv -f WINDOWS-1252 -t UTF-8"
        raise Problem(Code.MALFORMED, f"{path}: expected text in UTF-8 ({how})") from None


def _from_sample(found: Proposal, asking: bool) -> Draft:
    """What a sample suggests; only what it cannot tell is asked."""
    document = dict(found.document)
    made_up = [] if document["arms"] or asking else ["the arms are made up"]
    if not document["arms"]:
        document["arms"] = _arms(asking)
    document["reward_window"] = _window(asking)
    why = {each.name: each.why for each in found.columns}
    left = [f"column {each.name} is no feature: {each.why}" for each in found.columns if each.role == "dropped"]
    return Draft(document, why, (*found.warnings, *made_up, *left))


def _questions(asking: bool) -> Draft:
    arms = _arms(asking)
    rewards = _ask(
        "Rewards", "click", "What is reported when it went well: names, separated by commas.", asking, _names
    )
    document: dict[str, Any] = {
        "arms": arms,
        "rewards": {kind: _reward(kind, asking) for kind in rewards},
        "reward_window": _window(asking),
        "features": [],
    }
    told = "What is known of a visitor beforehand, such as device, hour: names, or nothing: then all are alike."
    for name in _ask("Features", "", told, asking, lambda text: _names(text) if text.strip() else []):
        document["features"].append(_feature(name, asking))
    return Draft(document)


def _arms(asking: bool) -> list[str]:
    return _ask("Arms", "a, b", "What there is to choose from: names, separated by commas.", asking, _two)


def _window(asking: bool) -> str:
    def window(text: str) -> str:
        _compiled({"arms": ["a"], "rewards": {"r": {}}, "reward_window": text.strip()})
        return text.strip()

    return _ask("Reward window", "7d", "How long after a decision feedback counts, as 15m, 12h or 7d.", asking, window)


def _reward(kind: str, asking: bool) -> dict[str, Any]:
    told = f"The most that one {kind} can be: 1 where it happens or not, else an amount; what is beyond is cut."
    most = _ask(f"Largest {kind}", "1", told, asking, _above_zero)
    return {} if most == 1 else {"range": [0.0, most], "over_range": "clip"}


def _feature(name: str, asking: bool) -> dict[str, Any]:
    told = f"What {name} is: a number, true or false (boolean), one of a few texts (category) or of many (hashed)."
    kind = _ask(f"Type of {name}", "category", told, asking, _type)
    feature: dict[str, Any] = {"type": kind, "name": name}
    if kind == "number":
        feature["mean"] = _ask(f"Usual {name}", "0", "What is subtracted from it.", asking, _finite)
        feature["scale"] = _ask(f"Spread of {name}", "1", "How far it usually is from there.", asking, _above_zero)
    elif kind == "category":
        told = "Its texts, separated by commas; any other one is taken as one more."
        feature["levels"] = _ask(f"Levels of {name}", "yes, no", told, asking, _names)
    elif kind == "hashed":
        feature["bits"] = 6
    return feature


def _ask(what: str, default: str, why: str, asking: bool, parse: Callable[[str], A]) -> A:
    """The answer to a question, which is asked again until it is one."""
    if not asking:
        return parse(default)
    typer.echo(f"\n{why}")
    while True:
        given: str = typer.prompt(what, default=default, show_default=bool(default))
        try:
            return parse(given)
        except ValueError as error:
            typer.echo(f"  {printable(str(error))}")
        except Problem as problem:
            typer.echo(f"  {printable(problem.detail)}")


def _names(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or len(set(found)) < len(found):
        raise ValueError("expected names that differ, separated by commas")
    if any(not name.isprintable() or len(name) > 128 or set(name) & {'"', "\\"} for name in found):
        raise ValueError('expected names of up to 128 characters, without " and \\')
    return found


def _two(text: str) -> list[str]:
    if len(found := _names(text)) < 2:
        raise ValueError("expected two arms at least")
    return found


def _type(text: str) -> str:
    if (word := text.strip().lower()) not in TYPES:
        raise ValueError(f"expected {', '.join(TYPES[:-1])} or {TYPES[-1]}")
    return word


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("expected a number") from None
    if not math.isfinite(value) or abs(value) > 1e15:
        raise ValueError("expected a number up to 1e15")
    return value


def _above_zero(text: str) -> float:
    if (value := _finite(text)) < 1e-9:
        raise ValueError("expected a number above 0")
    return value


def _compiled(document: dict[str, Any]) -> None:
    compile_config(first("e", parse_document(msgspec.json.encode(document))))
