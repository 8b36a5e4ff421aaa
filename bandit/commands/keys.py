"""`bandit-server keys`: API keys made, listed, rotated and revoked, beside a running server or without one.

Every change reaches all servers of the store within a second, and is in the audit log. A key is printed once, on
standard output alone; the store has its hash.
"""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandit.commands.options import DataDir, RedisUrl, StoreBinary, settings_from
from bandit.errors import printable
from bandit.telling import exit_on_error, tell

if TYPE_CHECKING:
    from bandit.access.keys import Row
    from bandit.access.manage import Keyring, Made

PROGRAM = "bandit-server keys"
HOUR_MS, HOURS_MAX = 3_600_000, 36_500 * 24
app = typer.Typer(help="API keys: who may use the server, and for what.", no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[str, typer.Argument(help="The key's id, as `list` shows it: bs_ID_... without the secret.")]


@contextmanager
def _keyring(redis_url: str | None, data_dir: Path | None, store_binary: Path | None) -> Iterator[Keyring]:
    """The keys of the settings' store, to be changed by whoever is at the command line."""
    from bandit.access.audit import Actor
    from bandit.access.manage import Keyring
    from bandit.commands.log_commands import opened_store

    with exit_on_error(PROGRAM):
        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        with opened_store(settings) as store:
            yield Keyring(store, Actor(f"command line ({_user()})", "admin"), settings.audit_entries)


def _user() -> str:
    """Who is at the command line; an arbitrary uid in a container has no name."""
    try:
        return printable(getpass.getuser())
    except (KeyError, OSError):
        return "unknown"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, such as 'shop' or 'Grafana'.")],
    role: Annotated[list[str], typer.Option(help="admin, write (recommend, feedback, activate) or read; repeatable.")],
    experiment: Annotated[list[str] | None, typer.Option(help="Only for this experiment; repeatable.")] = None,
    limit: Annotated[str | None, typer.Option(help="How often: 100/s, 6000/m or 10000/h.  [default: no limit]")] = None,
    days: Annotated[float | None, typer.Option(help="It expires after so many days.")] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Make a key, and print it: this once."""
    with exit_on_error(PROGRAM):
        from bandit.access.keys import limit_of
        from bandit.access.manage import Wanted

        expires = 0 if days is None else round(time.time() * 1000) + _ms(days * 24)
        quota, named = limit_of(limit) if limit else None, tuple(experiment) if experiment else None
        with _keyring(redis_url, data_dir, store_binary) as keyring:
            _print(keyring.create(Wanted(name, tuple(role), named, expires, quota)))


@app.command("list")
def listed(
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """List the keys there are and were, without their secrets."""
    with _keyring(redis_url, data_dir, store_binary) as keyring:
        rows = [("ID", "ROLE", "STATE", "EXPERIMENTS", "LIMIT", "CREATED", "NAME"), *map(_shown, keyring.rows())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())


@app.command()
def rotate(
    key: Key,
    hours: Annotated[float, typer.Option(help="The old key goes on for so long.")] = 24,
    days: Annotated[
        float | None, typer.Option(help="The new key expires after so many days.  [default: as many as the old]")
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Make another key like this one, and let the old one expire."""
    with _keyring(redis_url, data_dir, store_binary) as keyring:
        term = None if days is None else _ms(days * 24)
        _print(keyring.rotate(_id(key), _ms(hours) if hours else 0, term))
        tell(PROGRAM, f"the old key, {_id(key)}, goes on for {hours:g} hours at most")


@app.command()
def revoke(
    key: Key,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """End a key: every server refuses it within a second."""
    with _keyring(redis_url, data_dir, store_binary) as keyring:
        row = keyring.revoke(_id(key))
        tell(PROGRAM, f"revoked {row.id} ({row.name})")


@app.command()
def new() -> None:
    """Print the text of a key that no server has: for `admin_key` or `admin_key_file`."""
    from bandit.access.keys import new_text

    typer.echo(new_text())


def _ms(hours: float) -> int:
    """A term in milliseconds.

    Raises:
        Problem: no key can have it.
    """
    from bandit.errors import Code, Problem

    if not 0 < hours <= HOURS_MAX:  # which no NaN is
        raise Problem(Code.INVALID_REQUEST, "a key goes on for more than nothing, and for 36,500 days at most")
    return max(1, round(hours * HOUR_MS))


def _print(made: Made) -> None:
    """The key on standard output, alone, and what it is on standard error."""
    sys.stdout.write(made.text + "\n")
    sys.stdout.flush()
    row, until = made.row, f"until {_time(made.row.expires)}" if made.row.expires else "without an end"
    tell(PROGRAM, f"made {row.id}, role {row.role}, {until}: {row.name}; the key is shown this once")


def _id(key: str) -> str:
    """The id in what was given, which may be the whole key."""
    parts = key.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == "bs" else key


def _shown(row: Row) -> tuple[str, ...]:
    now = round(time.time() * 1000)
    state = "in force" if row.lives(now) else "revoked" if row.revoked else "expired"
    if row.expires and row.lives(now):
        state = f"until {_time(row.expires)}"
    named = "all" if row.experiments is None else ",".join(row.experiments)
    limit = row.limit.text if row.limit else "none"
    return row.id, row.role, state, named, limit, _time(row.created), row.name


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
