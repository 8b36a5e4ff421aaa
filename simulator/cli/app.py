"""The command line, `bandit-simulator`: what would this policy have earned, and how sure are we?"""

from typing import Annotated

import typer

from bandit import __version__
from simulator.cli import feature_commands as made
from simulator.cli import log_commands as logs
from simulator.cli import play_commands as runs
from simulator.cli.common import PROGRAM
from simulator.cli.ope_options import Command

app = typer.Typer(
    help="Offline replay and evaluation: what a policy would have earned on your traffic, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    runs.run, logs.evaluate, logs.convert, logs.replay, logs.compare, logs.select, logs.report, runs.sweep, runs.power,
    made.features,
):  # fmt: skip
    app.command(cls=Command)(command)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
