"""The command line as one: its commands, in the order in which ``--help`` lists them.

Each command imports its verb when it runs, so that ``--help`` answers at once.
"""

from typing import Annotated

import typer

from partsig import __version__

from . import data, results, settings, training

app = typer.Typer(
    name="partsig",
    help="Self-supervised pretraining on biosignals by pairwise relative translations (PART).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"partsig {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Self-supervised pretraining on biosignals by pairwise relative translations (PART)."""


COMMANDS = (
    data.download,
    data.preprocess,
    data.audit,
    training.pretrain,
    training.finetune,
    results.evaluate,
    results.compare,
    results.stage,
    results.report,
    results.embed,
    results.export,
    results.inspect,
    training.demo,
    settings.config,
)
for command in COMMANDS:
    app.command()(command)
