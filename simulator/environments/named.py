"""Environments by name: made-up ones, data that come with the package, and tables given by their path."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from bandit.errors import nearest
from simulator.environments.datasets import msweb
from simulator.environments.episode import Environment
from simulator.environments.full import FullEnvironment, from_data
from simulator.environments.synthetic import Synthetic
from simulator.environments.tables import read

SYNTHETIC = {
    each.name: each
    for each in (
        Synthetic("linear", link="linear"),
        Synthetic("logistic"),
        Synthetic("drift-abrupt", drift="abrupt"),
        Synthetic("drift-slow", drift="slow"),
        Synthetic("seasonal", drift="seasonal"),
        Synthetic("delayed", delay=300.0),
        Synthetic("arms-change", turnover=True),
        Synthetic("position-bias", attention=(1.0, 0.6, 0.36)),
        Synthetic("users", visitors="returning"),
        Synthetic("traffic", visitors="tides"),
    )
}
NAMES = (*SYNTHETIC, "msweb")
TABLES = (".csv", ".tsv", ".data", ".txt")


def named(name: str, **options: Any) -> Environment:
    """The environment of a name out of `NAMES`, or of a table's path.

    Args:
        name: a name, or the path of a table that ends like one (.csv, .tsv, .data, .txt, each also with .gz).
        options: fields of `Synthetic`, such as `arms=20`; of a table the arguments of `tables.read`; msweb has none.

    Raises:
        ValueError: if there is no such name or option, an option has no such value, or the table is none.
    """
    if name in SYNTHETIC:
        return _varied(SYNTHETIC[name], options)
    if name == "msweb" and not options:
        return _msweb()
    if name.removesuffix(".gz").endswith(TABLES):
        return read(name, **options)
    if name == "msweb":
        raise ValueError(f"msweb takes no options; got {sorted(options)}")
    raise ValueError(f"environments are {', '.join(NAMES)} and paths of tables; unknown {name!r}{nearest(name, NAMES)}")


@cache
def _msweb() -> FullEnvironment:
    return from_data(msweb())


def _varied(problem: Synthetic, options: dict[str, Any]) -> Synthetic:
    known = set(Synthetic.__dataclass_fields__) - {"name"}
    if unknown := set(options) - known:
        raise ValueError(f"{problem.name} takes {', '.join(sorted(known))}; unknown {sorted(unknown)}")
    made = replace(problem, **{name: _checked(problem.name, name, value) for name, value in options.items()})
    if made.arms < 1 or made.rounds < 1 or made.features < 0 or made.delay < 0:
        raise ValueError(f"{problem.name}: arms and rounds are 1 or more, features and delay 0 or more")
    return made


WORDS = {int: "a whole number", float: "a number", bool: "true or false", tuple[float, ...]: "a list of numbers"}


def _checked(problem: str, name: str, value: Any) -> Any:
    """A field of `Synthetic` as its type."""
    kind = get_type_hints(Synthetic)[name]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        expected = WORDS.get(kind) or " or ".join(get_args(kind))
        raise ValueError(f"{problem}: {name}: expected {expected}, got {value!r}") from None
