"""Commands about settings: what can be set, and what a configuration sets."""

import json
import shutil
from typing import Annotated

import typer

from . import completion, options


@options.plain_errors
def config(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="A configuration; default: the keys of all verbs.",
            autocompletion=completion.configurations,
        ),
    ] = None,
    verb: Annotated[str | None, typer.Option("--verb", help="Only the keys of this verb.")] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Only those of this modality: eeg or image.")
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only the keys that NAME sets to another value.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
) -> None:
    """Every setting: its meaning, type, range and default, and what a configuration makes of it."""
    from partsig.verbs.config import describe_settings as task

    described = task(name, verb=verb, modality=modality, changed=changed)
    if as_json:
        typer.echo(json.dumps(described.to_dict(), indent=2, ensure_ascii=False))
    else:
        typer.echo(described.to_text(shutil.get_terminal_size().columns))
