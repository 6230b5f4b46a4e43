"""Options that several commands share, and how errors reach the user."""

import functools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from partsig.errors import CheckpointError, ConfigError, PartsigError
from partsig.text import quoted, shown

from . import completion

Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="NAME|FILE",
        help="A shipped configuration or a YAML file.",
        autocompletion=completion.configurations,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one setting, see partsig config; may be repeated.",
        autocompletion=completion.keys,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store to read or write; a folder or s3://….",
        autocompletion=completion.stores,
    ),
]
AllowHttp = Annotated[
    bool,
    typer.Option(
        "--allow-http",
        help="Follow http:// too, which anyone on the way can read and change.",
    ),
]
Run = Annotated[
    Path | None,
    typer.Option("--run", help="The run directory.", autocompletion=completion.runs),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Threads; -1 is one per core.")]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda or cuda:N; auto is the GPU if there is one."),
]
MissingChannels = Annotated[
    str,
    typer.Option(
        "--missing-channels",
        metavar="refuse|fill",
        help="What lacks channels of the run: refuse it, or fill these with zeros and tell it.",
    ),
]
Shift = Annotated[
    bool, typer.Option("--shift", help="Kappa as well with epochs cut later, by sixths of one.")
]
AblateChannels = Annotated[
    bool,
    typer.Option(
        "--ablate-channels", help="Kappa as well without each channel, and with each alone."
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", help="Subjects as published work divides them: part, folds5."),
]
Fold = Annotated[int | None, typer.Option("--fold", help="The fold that is tested on, from 0.")]
CpuProcesses = Annotated[int, typer.Option("--cpu-processes", help="Processes on the CPU (gloo).")]


def speaks() -> bool:
    """Tell whether this process tells the user what was done: under torchrun, one of several."""
    return os.environ.get("RANK", "0") == "0"


def say(text: object, err: bool = False) -> None:
    """Print a text in which others' words may stand: nothing in it moves the cursor."""
    typer.echo(shown(text, most=sys.maxsize, keep="\n"), err=err)


def then(*words: object) -> None:
    """Say which command usually comes next, as it can be pasted into a shell."""
    say(f"next: {shlex.join(map(str, words))}")


def check_there(run: object = None, store: object = None) -> None:
    """Tell of a run or a store that is not there, before the verb and torch are loaded."""
    if run is not None and not (Path(str(run)) / "config.json").is_file():  # no exported folder
        from partsig.runs.directory import read

        read(Path(str(run)))
    if store is not None:
        from partsig.data.addresses import is_url
        from partsig.data.store import read_meta

        if not is_url(str(store)):
            read_meta(Path(str(store)))


def run_or_last(run: Path | None, kind: str, label: str = "run", hint: str = "") -> Path:
    """Return the run that was named; else the last finished one of its kind, and say which.

    ``hint`` is what else may be done where there is none.
    """
    if run is not None:
        return run
    from partsig.runs import directory as runs

    try:
        found = runs.last(kind)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {hint}".rstrip()) from None
    say(f"{label}: {found}")
    return found


def plain_errors(command: Callable) -> Callable:
    """Print a PartsigError as one sentence and leave with code 2; defects keep their traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except PartsigError as error:
            from partsig.data.addresses import without_secrets

            say(f"partsig: error: {without_secrets(error)}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            typer.echo(
                "partsig: interrupted; what was finished is kept, and the same command continues.",
                err=True,
            )
            sys.exit(130)

    return wrapped


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print the warnings meant for the user as one sentence each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for item in caught:
        say(f"partsig: WARNING: {item.message}", err=True)


def pairs(texts: list[str] | None, option: str, form: str) -> dict[str, str] | None:
    """Return what an option that may be repeated says, NAME=VALUE each; None where it is not given.

    Raises ConfigError for what is no pair, and for a name that is given twice.
    """
    if not texts:
        return None
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{option} {quoted(text)}: give {form}.")
        if name in found:
            raise ConfigError(f"{option}: {quoted(name)} is given twice.")
        found[name] = value
    return found
