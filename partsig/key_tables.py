"""Configurations and their keys, as tables that a terminal shows and as JSON."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, zip_longest

from partsig.keys import Key, Section

# Columns of values are at most so wide; meanings have a column of their own where there is room.
VALUE, RANGE, MEANING = 16, 28, 40
UNBROKEN = {"break_long_words": False, "break_on_hyphens": False}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A shipped or given file: the verb and the modalities it is for, and its header's words."""

    name: str
    verb: str
    modalities: tuple[str, ...]
    about: str


@dataclass(frozen=True, kw_only=True)
class VerbKeys:
    """All keys of a verb, with the values of a configuration where one is described."""

    verb: str
    modality: str
    about: str
    sections: list[Section]

    def to_dict(self) -> dict:
        """Return them as JSON can hold them."""
        keys = [key for section in self.sections for key in section.keys]
        told = [asdict(key) | {"changed": key.changed} for key in keys]
        return {"verb": self.verb, "modality": self.modality, "about": self.about, "keys": told}


@dataclass(frozen=True, kw_only=True)
class Described:
    """Configurations and the keys of verbs; ``one``: it is about a single configuration."""

    configurations: list[Configuration]
    settings: list[VerbKeys]
    one: bool

    def to_dict(self) -> dict:
        """Return all of it as JSON can hold it."""
        return {
            "configurations": [asdict(item) for item in self.configurations],
            "settings": [item.to_dict() for item in self.settings],
        }

    def to_text(self, width: int = 80) -> str:
        """Return it as lines of so many characters, the longest names excepted."""
        return "\n".join(self._lines(width))

    def _lines(self, width: int) -> Iterator[str]:
        if self.one:
            [item] = self.configurations
            yield from textwrap.wrap(f"{item.name}: {item.about}", width)
        elif self.configurations:
            yield "Shipped configurations, for --config; one in full: partsig config NAME"
            groups = groupby(self.configurations, lambda item: (item.verb, item.modalities))
            for (verb, modalities), items in groups:
                yield from ("", f"{verb}, {' or '.join(modalities)}:")
                yield from (_one_line(f"  {item.name:<21}{item.about}", width) for item in items)
        for keys in self.settings:
            title = f"partsig {keys.verb}, {keys.modality}"
            yield from ("", title, "=" * len(title), *textwrap.wrap(keys.about, width), "")
            yield as_table(keys.sections, width, self.one) if keys.sections else "nothing differs"


def _one_line(text: str, width: int) -> str:
    """Return the first sentence of a text, cut where the line ends."""
    line = re.split(r"(?<=[^.]{3})[.] ", text)[0]
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def as_table(sections: Iterable[Section], width: int, beside: bool = False) -> str:
    """Return keys as a table so many characters wide, each with its meaning.

    ``beside``: values beside the defaults, those that differ marked with a star.
    """
    sections = list(sections)
    cells = [_cells(key, beside) for section in sections for key in section.keys]
    titles = ["  key", "value", "default"] if beside else ["key", "default"]
    columns = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    columns = [columns[0], *(min(wide, VALUE) for wide in columns[1:])]
    room = width - sum(columns) - 2 * len(columns)
    roomy = room >= RANGE + 2 + MEANING
    if roomy:
        titles, columns = (
            [*titles, "type and range", "meaning"],
            [*columns, RANGE, room - RANGE - 2],
        )
    elif not beside:
        titles, columns = [*titles, "type and range"], [*columns, max(room, 20)]
    lines = [_row(titles, columns)]
    for section in sections:
        if section.name:
            lines += ["", *textwrap.wrap(_heading(section), width)]
        for key in section.keys:
            row = [*_cells(key, beside), allowed(key), key.meaning][: len(columns)]
            lines.append(_row(row, columns))
            if not roomy:
                told = f"{key.meaning} [{allowed(key)}]" if beside else key.meaning
                indent = "    " if beside else "  "
                lines += textwrap.wrap(
                    told, width, initial_indent=indent, subsequent_indent=indent, **UNBROKEN
                )
    return "\n".join(lines)


def _cells(key: Key, beside: bool) -> list[str]:
    if not beside:
        return [key.key, as_yaml(key.default)]
    return [f"{'*' if key.changed else ' '} {key.key}", as_yaml(key.value), as_yaml(key.default)]


def _row(cells: Sequence[str], columns: Sequence[int]) -> str:
    """Return cells in their columns, each over as many lines as it needs."""
    wrapped = [textwrap.wrap(c, w, **UNBROKEN) for c, w in zip(cells, columns, strict=True)]
    lines = zip_longest(*wrapped, fillvalue="")
    return "\n".join(
        "  ".join(part.ljust(w) for part, w in zip(line, columns, strict=True)).rstrip()
        for line in lines
    )


def _heading(section: Section) -> str:
    name = section.name
    if section.when:
        own = section.when.startswith(f"{name}.name=")
        name = section.when if own else f"{name}, with {section.when}"
    return f"{name}: {section.about}" if section.about else name


def allowed(key: Key) -> str:
    """Return what a key may be, in words."""
    if key.choices:
        return f"one of {', '.join(choice or as_yaml('') for choice in key.choices)}"
    return f"{key.type}, {key.range}" if key.range else key.type


def as_yaml(value: object) -> str:
    """Return a plain value as it may be written after ``--set KEY=``.

    >>> as_yaml([0.9, 0.999]), as_yaml(None), as_yaml(5e-4), as_yaml("")
    ('[0.9, 0.999]', 'null', '0.0005', "''")
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    special = {None: "null", True: "true", False: "false", "": "''"}
    return special.get(value, str(value)) if isinstance(value, bool | str | None) else str(value)
