"""What a message suggests to type: pasted into a shell, it does what was meant, and no more."""

import re
import shlex

import yaml

# No line of a suggestion is broken.
WIDTH = 2**31


class _OneLine(yaml.SafeDumper):
    """Writes what is not seen (line ends, escapes) by its code."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_OneLine.add_representer(str, _text)


def setting(key: str, value: object) -> str:
    """Return what is written after ``--set`` for a mapping or a list, not yet for a shell.

    >>> setting("aliases", {"C4-M1": ["EEG C4-A1"]})
    'aliases={C4-M1: [EEG C4-A1]}'
    """
    text = yaml.dump(
        value,
        Dumper=_OneLine,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=WIDTH,
    )
    return f"{key}={text.strip()}"


def option(key: str, value: object) -> str:
    """Return an option that sets a mapping or a list, for a shell.

    >>> print(option("names", {"it's": "b"}))
    --set 'names={it'"'"'s: b}'
    """
    return f"--set {shlex.quote(setting(key, value))}"


def text_option(key: str, text: str) -> str:
    """Return an option that sets a text, for a shell.

    >>> print(text_option("hypnogram.scorer", "anna"), text_option("hypnogram.scorer", "1"))
    --set hypnogram.scorer=anna --set 'hypnogram.scorer="1"'
    """
    try:
        plain = yaml.safe_load(text) == text
    except yaml.YAMLError:
        plain = False
    dumped = yaml.dump(text, Dumper=_OneLine, default_style='"', allow_unicode=True, width=WIDTH)
    value = text if plain and text.isprintable() else dumped.strip()
    return f"--set {shlex.quote(f'{key}={value}')}"


def pattern_option(key: str, tail: str) -> str:
    """Return an option that sets a pattern of file names, ``{name}`` and this tail, for a shell.

    >>> print(pattern_option("hypnogram.pattern", "_stages.csv"))
    --set 'hypnogram.pattern={name}_stages.csv'
    """
    literal = re.sub(r"([*?[])", r"[\1]", tail)
    pattern = "{name}" + literal.replace("{", "{{").replace("}", "}}")
    try:
        yaml.safe_load(pattern)
    except yaml.YAMLError:
        text = pattern  # taken as it is, and not as the mapping that it looks like
    else:
        text = yaml.safe_dump(pattern, default_style='"', allow_unicode=True, width=WIDTH).strip()
    return f"--set {shlex.quote(f'{key}={text}')}"
