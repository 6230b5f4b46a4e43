"""Options that several commands share, and how errors reach the user."""

import functools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from partsig.errors import CheckpointError, ConfigError, PartsigError
from partsig.text import shown

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
        from partsig.data import remote
        from partsig.data.store import read_meta

        if not remote.is_url(str(store)):
            read_meta(Path(str(store)))


def check_keys(verb: str, overrides: Iterable[str] | None) -> None:
    """Tell of a --set key that no modality has, before torch is loaded; values are looked at later.

    Objectives of plug-ins have keys that are known when they are loaded.
    """
    known = completion.keys_of(verb)
    unknown = []
    for text in overrides or ():
        key, equals, _ = text.partition("=")
        key = key.strip()
        section = any(k.startswith(f"{key}.") for k in known)
        inner = any(key.startswith(f"{k}.") for k in known)  # of a setting that is a mapping
        if equals and key not in known and not section and not inner:
            unknown.append(key)
    if unknown and not any(key.startswith("objective") for key in unknown):
        from partsig.config import advice

        told = []
        for key in unknown:
            within = key.rpartition(".")[0]
            near = [k for k in known if k.rpartition(".")[0] == within] if within else known
            told.append(f"unknown key {key!r}{advice(key, near, known)}")
        raise ConfigError("; ".join(told))


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
            say(f"partsig: error: {error}", err=True)
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
