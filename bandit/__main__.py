"""The command line, `bandit-server`: each command imports only what it needs, when it runs."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from bandit import __version__
from bandit.commands import copies, keys
from bandit.commands.options import DataDir, RedisUrl, StoreBinary, settings_from
from bandit.errors import printable
from bandit.settings import is_loopback, port_is_linked
from bandit.telling import exit_on_error, run, start_logging, tell

PROGRAM = "bandit-server"
app = typer.Typer(
    help="A self-hosted online contextual-bandit decision server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.  [default: 8080]")]
Workers = Annotated[int | None, typer.Option(help="Worker processes.  [default: 1]")]
Durability = Annotated[
    str | None, typer.Option(help="How often the store syncs to disk: everysec or always.  [default: everysec]")
]
StoreMemory = Annotated[
    int | None, typer.Option(help="Memory limit of the store in MiB.  [default: half of the machine's memory]")
]
DrainSeconds = Annotated[
    float | None,
    typer.Option(help="Seconds after SIGTERM in which /readyz answers 503 and requests are served.  [default: 0]"),
]
KeepStore = Annotated[
    bool | None,
    typer.Option("--keep-store/--no-keep-store", help="Leave the store running at the end.  [default: no-keep-store]"),
]
LogLevel = Annotated[
    str | None, typer.Option(help="What is logged to stderr: debug, info, warning or error.  [default: info]")
]
Auth = Annotated[
    bool | None,
    typer.Option("--auth/--no-auth", help="Ask for API keys.  [default: yes, unless the host is a loopback address]"),
]
app.add_typer(keys.app, name="keys")
LogFormat = Annotated[
    str | None, typer.Option(help="How it is logged: console, or json, one object a line.  [default: console]")
]

Archive = Annotated[
    Path | None, typer.Option(help="The folder of the archive that has what has left the log; both are read as one.")
]
for command in (copies.backup, copies.restore, copies.archive):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"{PROGRAM} {__version__}")
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
    store_memory: StoreMemory = None,
    drain_seconds: DrainSeconds = None,
    keep_store: KeepStore = None,
    log_level: LogLevel = None,
    auth: Auth = None,
    log_format: LogFormat = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C. SIGHUP replaces its workers one by one.

    Every option, and the settings that only docs/settings.md lists, can also be given as BANDIT_NAME in the
    environment, such as BANDIT_DATA_DIR; options win.
    """
    settings = settings_from(
        redis_url=redis_url,
        data_dir=data_dir,
        store_binary=store_binary,
        host=host,
        port=port,
        workers=workers,
        durability=durability,
        store_memory=store_memory,
        drain_seconds=drain_seconds,
        keep_store=keep_store,
        log_level=log_level,
        auth=None if auth is None else "on" if auth else "off",
        log_format=log_format,
    )
    start_logging(settings.log_level, form=settings.log_format)
    if settings.otel and find_spec("opentelemetry") is None:
        tell(PROGRAM, "traces need the extra otel: pip install 'bandit-server[otel]', or BANDIT_OTEL=false")
        raise typer.Exit(1)
    if port is None and port_is_linked():
        message = f"warning: BANDIT_PORT is the link of a Kubernetes service, not a port: taking {settings.port}"
        typer.echo(f"{message}; give --port, rename the service, or set enableServiceLinks: false", err=True)
    from bandit.commands.checkup.machine import variables

    for finding in variables():
        typer.echo(f"warning: {printable(finding.text)}", err=True)
    if not is_loopback(settings.host) and not settings.auth_on:
        typer.echo(
            f"warning: listening on {settings.host} without API keys: anyone who reaches it can use it", err=True
        )
    with exit_on_error(PROGRAM):
        settings.admin_keys()
    from bandit.process.supervisor import Supervisor

    raise typer.Exit(Supervisor(settings).run())


@app.command("stop-store")
def stop_store(data_dir: DataDir = None) -> None:
    """End the store that a server with --keep-store left running."""
    with exit_on_error(PROGRAM):
        from bandit.process import embedded

        pid = embedded.end_kept(settings_from(data_dir=data_dir).data_dir)
        typer.echo(f"the store's process {pid} has ended" if pid else "no store was running there")


@app.command()
def export(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write, instead of standard output.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="jsonl: one JSON object per line.")] = "jsonl",
    archive: Archive = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Write an experiment's log, one entry per line.

    Works beside a running server and without one.
    """
    if form != "jsonl":
        raise typer.BadParameter("expected jsonl", param_hint="--format")
    with exit_on_error(PROGRAM):
        from bandit.commands.log_commands import export_log

        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        export_log(settings, experiment, output, archive)


@app.command()
def verify(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    batch: Annotated[
        int, typer.Option(min=1, help="Entries processed at a time; the result does not depend on it.")
    ] = 8192,
    archive: Archive = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
) -> None:
    """Recompute an experiment's sums from its log.

    The exit code is 0 if its checkpoints equal them bit for bit, else 1.
    """
    with exit_on_error(PROGRAM):
        from bandit.commands.log_commands import verify_log

        settings = settings_from(redis_url=redis_url, data_dir=data_dir, store_binary=store_binary)
        raise typer.Exit(0 if verify_log(settings, experiment, batch, archive) else 1)


@app.command()
def doctor(
    rate: Annotated[
        float | None, typer.Option(min=0, help="Decisions per second to estimate memory and disk for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a finding.")] = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    store_binary: StoreBinary = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Check this installation and its store.

    Give it the options and the environment of `serve`; of a server that runs on the data directory it finds the address
    itself. With --rate, also estimate the memory and disk that each experiment needs.
    """
    with exit_on_error(PROGRAM):
        from bandit.commands import doctor as doctoring

        settings = settings_from(
            redis_url=redis_url, data_dir=data_dir, store_binary=store_binary, host=host, port=port
        )
        found = list(doctoring.findings(settings))
        for finding in found:
            line = json.dumps(finding._asdict()) if as_json else f"{finding.verdict:>4}  {printable(finding.text)}"
            typer.echo(line)
        failed = any(finding.verdict == "FAIL" for finding in found)
        if rate is not None and failed:
            typer.echo("      no estimate for --rate: it needs the store, so mend the failures above first")
        for line in doctoring.sizing(settings, rate) if rate is not None and not failed else ():
            typer.echo(line)
        raise typer.Exit(int(failed))


@app.command()
def init(
    file: Annotated[Path | None, typer.Argument(help="The file to write.  [default: NAME.toml]")] = None,
    sample: Annotated[
        Path | None, typer.Option("--from", help="A CSV file of what was shown and what came of it, to infer it from.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name.  [default: the file's, else home]")] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="What a column of the sample is: COLUMN=arm, reward, feature, dropped ...")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take every default.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write an experiment as a file with comments: from a few questions, or from a sample of data."""
    with exit_on_error(PROGRAM):
        from bandit.commands.firstminutes.asked import begin

        begin(file, sample, name, role or [], asking=not yes, force=force)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="The experiment's file, TOML (as init writes it) or JSON.")],
    url: Annotated[str, typer.Option(envvar="BANDIT_URL", help="The server.")] = "http://127.0.0.1:8080",
    key: Annotated[str | None, typer.Option(envvar="BANDIT_API_KEY", help="A key of the role admin.")] = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name.  [default: as the file says]")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Begin anew where features change: all learned is gone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put an experiment's file live on a running server.

    What would change is shown first; it is changed only if nobody else has changed it meanwhile.
    """
    from bandit.commands.firstminutes.applied import apply as applied
    from bandit.commands.firstminutes.server import Server, ServerError

    with exit_on_error(PROGRAM, (ServerError,)):
        done = applied(
            file,
            Server(url, key),
            name=name,
            reset=reset,
            dry_run=dry_run,
            agreed=lambda: yes or typer.confirm("Change it?"),
            say=typer.echo,
        )
        raise typer.Exit(int(not done))


@app.command()
def demo(
    visitors: Annotated[int | None, typer.Option(min=1, help="How many visitors to send.  [default: all]")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Keep serving at the end, until Ctrl-C.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Keep the data here.  [default: a temporary directory]")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the visitors' order.")] = 0,
) -> None:
    """Watch the server learn from 32,711 real visitors.

    They are sent over real HTTP; it takes less than a minute.
    """
    with exit_on_error(PROGRAM):
        from bandit.commands.demo import run as run_demo

        raise typer.Exit(
            run_demo(
                visitors=visitors, workers=workers, keep_serving=keep_serving, data_dir=data_dir, port=port, seed=seed
            )
        )


def main() -> None:
    """The console command `bandit-server`."""
    run(app, PROGRAM)


if __name__ == "__main__":
    main()
