"""The command line, `bandit-server`: each command imports what it needs, so that none loads what it does not."""

import ipaddress
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from bandit import __version__
from bandit.settings import Settings, overridden

app = typer.Typer(
    help="A self-hosted online contextual-bandit decision server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# An option that was not given is None: then BANDIT_* in the environment counts, then the default of `Settings`.
RedisUrl = Annotated[str | None, typer.Option(help="A running Redis or Valkey to use; excludes --data-dir.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Directory of the store that is started here.  [default: ./bandit-data]")
]
StoreBinary = Annotated[Path | None, typer.Option(help="The valkey-server or redis-server to start there.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.  [default: 8080]")]
Workers = Annotated[int | None, typer.Option(help="Worker processes.  [default: 1]")]
Durability = Annotated[
    str | None, typer.Option(help="When the store syncs to the disk: everysec or always.  [default: everysec]")
]


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"bandit-server {__version__}")
        raise typer.Exit


@app.command()
def serve(
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    durability: Durability = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Every option can also be set in the environment as BANDIT_NAME, as can a few more; an option wins.
    """
    settings = settings_from(
        redis_url=redis_url,
        data_dir=data_dir,
        store_binary=store_binary,
        host=host,
        port=port,
        workers=workers,
        durability=durability,
    )
    start_logging(settings)
    if not _is_loopback(settings.host):
        message = f"warning: listening on {settings.host}: whoever can reach it can use it, no key is asked for yet"
        typer.echo(message, err=True)
    from bandit.supervisor import Supervisor

    raise typer.Exit(Supervisor(settings).run())


def settings_from(**options: Any) -> Settings:
    """The settings of a command: its options, else the environment, else the defaults.

    Raises:
        typer.BadParameter: if one cannot be; it says which, and what was expected.
    """
    try:
        return overridden(options)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(map(_fault, error.errors()))) from error


def _fault(error: Any) -> str:
    """One of pydantic's errors in a line, without the value that was given."""
    name = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} (BANDIT_{name.upper()}): {message}" if name else message


def start_logging(settings: Settings) -> None:
    """Logs to stderr from now on."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> None:
    """The console command `bandit-server`."""
    app(prog_name="bandit-server")


if __name__ == "__main__":
    main()
