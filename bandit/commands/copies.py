"""`bandit-server backup`, `restore` and `archive`: copies of what the store has, beside a running server or without."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandit.commands.options import DataDir, RedisUrl, StoreBinary, settings_from
from bandit.telling import exit_on_error, tell

if TYPE_CHECKING:
    from bandit.settings import Settings
    from bandit.store.redis_store import RedisStore

PROGRAM = "bandit-server"


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write, which is not there yet.")],
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Write a backup of the store, servers at work on it or not, and read it again.

    It has everything that was acknowledged before it began. DIR is there only once it is whole and verified. It holds
    the key that user ids are hashed with: keep it as you keep the store.
    """
    with exit_on_error(PROGRAM):
        from bandit.archive.backup import back_up

        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        with _opened(settings, "backup") as store, _shown() as progress:
            manifest = back_up(store, folder, progress)
        for saved in manifest.experiments:
            typer.echo(
                f"{saved.name}: {saved.entries} entries ({saved.decisions} decisions, {saved.feedback} feedback)"
                f" up to {saved.position}{', deleted' if saved.deleted else ''}"
            )
        experiments = len(manifest.experiments)
        typer.echo(f"{folder}: {experiments} experiments, {manifest.keys} keys, {manifest.bytes} bytes; verified")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `backup` wrote.")],
    experiment: Annotated[
        str | None, typer.Option(help="Restore this one alone, into a store that has no experiment of that name.")
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Write a backup into an empty store, and verify it there.

    The exit code is 0 if every experiment's checkpoints are the fold of its log, else 1. Until then no server starts on
    the store; a restore that was interrupted is run again.
    """
    with exit_on_error(PROGRAM):
        from bandit.archive.manifest import read_manifest
        from bandit.archive.restore import restore as restored

        read_manifest(folder)  # before a store is started for it
        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        if settings.redis_url is None:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(settings, "restore", restoring=True) as store, _shown() as progress:
            results = restored(store, folder, experiment, progress)
        for result in results:
            _print(result)
        raise typer.Exit(0 if all(result["equal"] for result in results) else 1)


def archive(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The archive's folder; it is made where it is not there.")
    ] = None,
    experiment: Annotated[
        list[str] | None, typer.Option(help="Archive this one (repeatable).  [default: all, also new ones]")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="With --follow: seconds between two runs.")] = 3600.0,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            help="End the archive of this experiment (repeatable): its log is trimmed without being archived."
        ),
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Move what is past its reward window from the logs into Parquet files, each entry once.

    From the first run on no server trims what is not in the archive yet: run it every day, or with --follow.
    """
    if (folder is None) == (not forget):
        raise typer.BadParameter("expected DIR, or --forget NAME")
    with exit_on_error(PROGRAM):
        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        if forget:
            with _opened(settings, "archive") as store:
                for name in forget:
                    was = store.forget_archive(name)
                    typer.echo(f"{name}: {'trimming waits for no archive any more' if was else 'it has no archive'}")
            return
        assert_pyarrow()
        failed = _archived(settings, folder or Path(), experiment, every if follow else None)
        raise typer.Exit(1 if failed else 0)


def _archived(settings: Settings, folder: Path, chosen: list[str] | None, every: float | None) -> bool:
    """Run over all experiments, again and again where told; whether one failed in the last run."""
    from bandit.archive.archiver import archive as archive_one
    from bandit.archive.archiver import archive_folder
    from bandit.commands.log_commands import known
    from bandit.errors import CorruptLog, EmbeddedError, Problem, StoreUnavailable

    grace_ms = round(settings.late_grace * 1000)
    with archive_folder(folder) as own:
        while True:
            failed = False
            try:
                with _opened(settings, "archive") as store:  # anew each time: a server may begin or end meanwhile
                    for name in chosen or store.names():
                        try:
                            known(store, name)
                            if (moved := archive_one(store, name, folder, own, grace_ms)) is not None:
                                _print({**moved._asdict(), "upto": moved.upto.text().decode()}, "lost_before")
                        except (Problem, CorruptLog) as error:
                            failed = True
                            tell(PROGRAM, str(error))
            except (StoreUnavailable, EmbeddedError) as error:
                if every is None:
                    raise
                failed = True
                tell(PROGRAM, f"{error}; it is tried again")
            if every is None:
                return failed
            time.sleep(every)


def assert_pyarrow() -> None:
    """Say what to install where the archive's library is missing.

    Raises:
        Problem: it is.
    """
    from bandit.errors import Code, Problem

    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Problem(Code.NOT_READY, "an archive needs pyarrow: pip install 'bandit-server[archive]'") from None


@contextmanager
def _opened(settings: Settings, purpose: str, *, restoring: bool = False) -> Iterator[RedisStore]:
    from bandit.commands.log_commands import opened_store

    with opened_store(settings, purpose, restoring=restoring) as store:
        yield store


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    """Progress on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

        yield told


def _print(result: dict[str, Any], *left_out: str) -> None:
    """A line of JSON; fields that are named are left out where they are None."""
    import msgspec

    told = {name: value for name, value in result.items() if value is not None or name not in left_out}
    typer.echo(msgspec.json.encode(told).decode())
