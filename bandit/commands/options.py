"""Options that several commands have, and the settings that come of them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from bandit.settings import Settings, expected_by, overridden

# An option that was not given is None: then BANDIT_* in the environment counts, then the default of `Settings`.
RedisUrl = Annotated[str | None, typer.Option(help="The address of a running Redis or Valkey; excludes --data-dir.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data directory of the server's own store.  [default: ./bandit-data]")
]
StoreBinary = Annotated[
    Path | None, typer.Option(help="The valkey-server or redis-server binary to run that store with.")
]


def settings_from(**options: Any) -> Settings:
    """The settings of a command: its options, else the environment, else the defaults.

    Raises:
        typer.BadParameter: if one is invalid; it says which, and what was expected.
    """
    try:
        return overridden(options)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(map(_fault, error.errors()))) from error


def _fault(error: Any) -> str:
    """One of pydantic's errors in a line, without the value that was given."""
    name = ".".join(map(str, error["loc"]))
    words = expected_by(error)
    message = f"expected {words}, got another value" if words else str(error["msg"]).removeprefix("Value error, ")
    return f"{name} (BANDIT_{name.upper()}): {message}" if name else message
