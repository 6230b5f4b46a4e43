"""What a shell completes: configurations, keys after --set, runs and stores; at once, no torch."""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import typer


def configurations(incomplete: str) -> list[str]:
    """Return the names of shipped configurations that begin so."""
    names = (item.name for item in resources.files("partsig.configs").iterdir())
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and name.startswith(incomplete)
    )


def keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of a command that begin so, with their equals sign; behind it, choices.

    bash takes the text behind an equals sign for a word of its own, and is given keys alone.
    """
    choices = choices_of(ctx.command.name)
    key, equals, begun = incomplete.partition("=")
    if equals:
        return [f"{key}={value}" for value in choices.get(key, ()) if value.startswith(begun)]
    return [f"{key}=" for key in choices if key.startswith(incomplete)]


def choices_of(verb: str) -> dict[str, list[str]]:
    """Return the settings of a command, of all modalities, and what each may be; [] is anything."""
    text = (resources.files("partsig.configs") / "keys.json").read_text(encoding="utf-8")
    return json.loads(text).get(verb, {})


def runs(incomplete: str) -> list[str]:
    """Return the runs below runs/ that begin so."""
    return sorted(_folders("runs", "run.json", incomplete))


def stores(incomplete: str) -> list[str]:
    """Return the stores below data/store/ that begin so."""
    return sorted(_folders("data/store", "meta.json", incomplete))


def _folders(where: str, file: str, incomplete: str) -> Iterator[str]:
    for path in Path(where).glob(f"*/{file}"):
        if str(path.parent).startswith(incomplete):
            yield str(path.parent)
