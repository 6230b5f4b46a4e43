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
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


# By what they are for, with the places where they look and write unless told otherwise.
GROUPS = {
    "Try: everything at once, in runs/demo": (training.demo,),
    "Ask: every setting and what it means": (settings.config,),
    "Data: data/raw/SOURCE to data/store/SOURCE": (data.download, data.preprocess, data.audit),
    "Learn: data/store/SOURCE to runs/NAME": (training.pretrain, training.finetune),
    "Judge: the last run, into its own folder": (
        results.evaluate,
        results.compare,
        results.report,
        results.inspect,
    ),
    "Use: the last run, on recordings or stores": (results.stage, results.embed, results.export),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)
