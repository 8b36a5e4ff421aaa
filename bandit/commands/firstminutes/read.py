"""A file with an experiment's document, TOML or JSON, as a server takes it."""

from __future__ import annotations

import json
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

from bandit.core.document import NAME
from bandit.errors import Code, Problem

BYTES_MAX = 64 << 20  # of a file: more than any server takes


class Written(NamedTuple):
    """An experiment in a file."""

    name: str
    document: dict[str, Any]


def read(path: Path, name: str | None = None) -> Written:
    """The experiment in a file: TOML, or JSON where the file's name ends in .json.

    Args:
        path: the file.
        name: of the experiment; else the file's `name`, or the file's own name without its ending.

    Raises:
        Problem: malformed: the file cannot be read as what it is; says where. invalid_experiment: no such name can be.
        OSError: it cannot be read at all.
    """
    with path.open("rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise Problem(Code.TOO_LARGE, f"{path}: expected at most {BYTES_MAX >> 20} MiB")
    try:
        text = data.decode()
        document = json.loads(text) if path.suffix.lower() == ".json" else _plain(tomllib.loads(text))
    except UnicodeDecodeError:
        raise Problem(Code.MALFORMED, f"{path}: expected text in UTF-8") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise Problem(Code.MALFORMED, f"{path}: {error}") from None
    except RecursionError:
        raise Problem(Code.MALFORMED, f"{path}: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise Problem(Code.MALFORMED, f"{path}: expected an experiment's document, got another value")
    found = name or document.pop("name", None) or path.stem
    document.pop("name", None)
    check_name(found)
    return Written(found, document)


def check_name(name: object) -> None:
    """Refuse a name that no experiment can have.

    Raises:
        Problem: invalid_experiment.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        expected = "1 to 64 of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
        raise Problem(Code.INVALID_EXPERIMENT, f"an experiment's name is {expected}: give --name")


def _plain(value: Any) -> Any:
    """TOML's values as JSON has them: times are texts there."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else value
