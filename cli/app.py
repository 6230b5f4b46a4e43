"""The commands. Each imports its task when it runs, so that ``--help`` answers at once."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from partsig import __version__

from . import options

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


@app.command()
@options.plain_errors
def preprocess(
    source: Annotated[str, typer.Argument(help="What the raw data is: physionet2018.")],
    raw: Annotated[Path | None, typer.Option("--raw", help="The folder of raw recordings.")] = None,
    store: options.Store = None,
    config: options.Config = None,
    set_: options.Set = None,
    jobs: options.Jobs = -1,
) -> None:
    """Raw recordings to a store: band-pass, resample, label; resumes what was interrupted."""
    from partsig.tasks.preprocess import preprocess as run

    result = run(source, raw, store, config=config, overrides=set_ or (), jobs=jobs)
    for note in result.notes:
        typer.echo(note)
    typer.echo("epochs: " + ", ".join(f"{k} {n:,}" for k, n in result.counts.items()))
    typer.echo(f"store: {result.path}")
    if result.failed:
        for name, reason in list(result.failed.items())[:5]:
            typer.echo(f"skipped {name}: {reason}", err=True)
        typer.echo(
            f"partsig: error: {len(result.failed)} recordings were skipped; every reason is in "
            f"{result.path / 'index.csv'}.",
            err=True,
        )
        sys.exit(2)
