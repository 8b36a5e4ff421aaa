"""What the commands share: options, groups of options, and how a fault is told."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from bandit import telling
from bandit.errors import printable
from simulator.wording import counted

PROGRAM = "bandit-simulator"


def within(value: float | None) -> float | None:
    """A share or a probability."""
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"expected a number in (0, 1), got {value:g}")
    return value


def rising(value: tuple[float, float] | None) -> tuple[float, float] | None:
    """The lower and the upper end of a range."""
    if value and not -math.inf < value[0] < value[1] < math.inf:
        raise typer.BadParameter(f"expected LOW below HIGH, both finite, got {value[0]:g} and {value[1]:g}")
    return value


def above_0(value: float | None) -> float | None:
    """What rewards are capped at."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"expected a number above 0, got {value:g}")
    return value


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per line on stdout, and nothing else there.")
]
Seed = Annotated[int, typer.Option(min=0, help="The random seed; the same seed gives the same result, bit for bit.")]
Alpha = Annotated[float, typer.Option(callback=within, help="The significance level: 1 - confidence.")]
User = Annotated[str | None, typer.Option(help="csv, ratings: the user column.")]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: in place of each argument that is a dataclass of options stand its fields.

    typer knows no groups; else every command on a log would list every option of a log again. A name that is in two
    groups is one option of both.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups = {name: each.annotation for name, each in own.items() if _is_group(each.annotation)}
    parts = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}
    options = {name: option for each in own for name, option in parts.get(each, {each: own[each]}).items()}

    @wraps(command)
    def made(**given: Any) -> None:
        held = {name: group(**{option: given[option] for option in parts[name]}) for name, group in groups.items()}
        with told():
            command(**held, **{name: given[name] for name in own if name not in groups})

    flat = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options.values()]
    made.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    made.__annotations__ = {option.name: option.annotation for option in flat}
    return made


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def beside_cap(rows: Iterable[Mapping[str, Any]], cap: float | None, *, as_json: bool) -> list[dict[str, Any]]:
    """Rows for `print_rows`; as JSON with the cap, where there is one: for people it stands above the table."""
    return [{**row, **({} if cap is None or not as_json else {"cap": cap})} for row in rows]


def tell_cleaning(cleaning: Mapping[str, int]) -> None:
    """Say on stderr what was done to how many rows."""
    for what, count in cleaning.items():
        note(counted(count, what))


def note(line: str) -> None:
    """Say something on stderr beside a command's answer."""
    typer.echo(printable(line), err=True)


@contextmanager
def told() -> Iterator[None]:
    """Tell what a command cannot do in one line on stderr: exit 2 if its options do not go together, else 1."""
    code = 0
    # a RuntimeError is what Vowpal Wabbit says of an option, or a worker process that was killed
    with telling.exit_on_error(PROGRAM, (ValueError, ImportError, RuntimeError)):
        try:
            yield
        except typer.Exit as end:  # a RuntimeError, but no fault
            code = end.exit_code
        except typer.BadParameter as error:
            telling.tell(PROGRAM, error.message)
            code = 2
    if code:
        raise typer.Exit(code)
