"""Configurations: frozen dataclasses filled from a YAML file and ``section.key=value`` overrides.

Defaults live in the dataclasses; a file or an override only says what differs, and changes nothing
else. All mistakes are reported at once, each with the nearest valid key.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args

import yaml
from pydantic import ConfigDict, Discriminator, Tag, TypeAdapter, ValidationError

from partsig.config_text import names, pairs, read, text_of
from partsig.errors import ConfigError, nearest

__all__ = [
    "advice",
    "build",
    "check_meant",
    "compose",
    "differences",
    "names",
    "one_of",
    "read",
    "sections_of",
    "text_of",
    "to_dict",
    "to_yaml",
]

T = TypeVar("T")


def one_of(*classes: type, broken: Mapping[str, str] | None = None) -> Any:
    """Return the type of a section that is one of these dataclasses, told by its key ``name``.

    Each class has a field ``name`` with its one value; a section without it is the first class.
    ``broken`` are names that should be among them, and why they are not.
    """

    def tag(section: object) -> str:
        if not isinstance(section, Mapping):
            return _name_of(section)
        name = section.get("name", classes[0].name)
        if broken and name in broken:
            raise ConfigError(broken[name])
        return name

    tagged = tuple(Annotated[cls, Tag(cls.name)] for cls in classes)
    return Annotated[Union[tagged], Discriminator(tag)]  # noqa: UP007


def _name_of(section: object) -> str | None:
    return getattr(section, "name", None)


def compose(
    cls: type[T],
    verb: str,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
) -> T:
    """Return a ``cls`` from a named or given YAML file and overrides, later ones winning.

    ``config`` is a shipped name or a path to a file; a file may say ``verb: pretrain`` to be
    refused elsewhere. ``overrides`` are ``"section.key=value"`` texts (values in YAML) or a mapping
    from dotted keys to values. Every key that neither names keeps the default that ``cls`` has for
    it, which need not be that of the section's own class.

    A section that is one of several (:func:`one_of`) has the defaults of the one that is chosen.
    Where an override chooses another than the file, what the file says of keys that both have
    holds; what it says of the others lapses.

    Raises ConfigError with every unknown key, wrong type and value out of range.
    """
    values = {} if config is None else read(config)
    stated = values.pop("verb", verb)
    if stated != verb:
        raise ConfigError(f"configuration {config} is for `partsig {stated}`, not for {verb}.")
    given = [pair for one in pairs(overrides) for pair in _spread(cls, *one)]
    _let_lapse(cls, values, dict(given))
    for key, value in given:
        _put(values, key, value)
    return build(cls, _filled(cls(), values))


def named(cls: type, overrides: Mapping[str, object] | Iterable[str]) -> frozenset[str]:
    """Return the dotted keys that overrides name, whatever their values are.

    >>> from partsig.runs.settings import FitConfig
    >>> sorted(named(FitConfig, ["epochs=3", "keep=2"]))
    ['epochs', 'keep']
    """
    return frozenset(key for one in pairs(overrides) for key, _ in _spread(cls, *one))


def check_meant(cls: type, verb: str, config: str | Path | None, other: type, meant: str) -> None:
    """Raise ConfigError where a file's keys are not those of ``cls``, but those of ``other``.

    ``meant`` is what a configuration of the other kind is for.
    """
    if config is not None and not _fits(cls, verb, config) and _fits(other, verb, config):
        raise ConfigError(f"configuration {config} is for {meant}.")


def _fits(cls: type, verb: str, config: str | Path) -> bool:
    try:
        compose(cls, verb, config)
    except ConfigError:
        return False
    return True


def build(cls: type[T], values: Mapping[str, object]) -> T:
    """Return a ``cls`` from nested values; raise ConfigError with all mistakes at once."""
    try:
        return _adapter(cls).validate_python(dict(values))
    except ValidationError as error:
        sentences = [_sentence(cls, item) for item in error.errors()]
        raise ConfigError("; ".join(sentences)) from None


def _spread(cls: type, key: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield a section that is given as a mapping key by key, anything else as it is."""
    owners = [cls]
    for part in key.split("."):
        owners = [inner for owner in owners for inner in sections_of(_types(owner).get(part))]
    if not owners or not isinstance(value, Mapping):
        yield key, value
        return
    for inner, item in value.items():
        yield from _spread(cls, f"{key}.{inner}", item)


def _let_lapse(cls: type, values: dict, overrides: Mapping[str, object]) -> None:
    """Remove what a file says of the keys that only its choice has, where another one is chosen."""
    for key, annotation in _types(cls).items():
        choices = _choices(annotation)
        written, chosen = values.get(key), choices.get(str(overrides.get(f"{key}.name")))
        if chosen is None or not isinstance(written, dict):
            continue
        before = choices.get(str(written.get("name")), next(iter(choices.values())))
        lapsed = _types(before).keys() - _types(chosen).keys()
        values[key] = {name: item for name, item in written.items() if name not in lapsed}


def _filled(usual: object, given: Mapping) -> dict:
    """Return the given values of a section, and its owner's defaults for the keys not named."""
    types = _types(type(usual))
    values = {name: getattr(usual, name) for name in types}
    for key, value in given.items():
        inner = values.get(key)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(inner):
            choices = _choices(types[key])
            name = str(value.get("name", _name_of(inner)))
            if choices and name != inner.name:
                inner = choices[name]() if name in choices else None
            values[key] = value if inner is None else _filled(inner, value)
        else:
            values[key] = value
    return values


def _types(cls: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(cls)}


def _choices(annotation: Any) -> dict[str, type]:
    """Return the dataclasses that a section is one of, by name; none where there is no choice."""
    classes = sections_of(annotation)
    return {cls.name: cls for cls in classes} if len(classes) > 1 else {}


def to_dict(config: object) -> dict:
    """Return the nested plain values of a configuration, as JSON and YAML can hold them."""
    return _adapter(type(config)).dump_python(config, mode="json")


def to_yaml(config: object) -> str:
    """Return a configuration as YAML, every value resolved."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def differences(old: Mapping, new: Mapping, prefix: str = "") -> list[str]:
    """Return ``key: old, now new`` for every dotted key whose value differs.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1, now 2']
    """
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}: {_short(left)}, now {_short(right)}")
    return found


def _short(value: object) -> str:
    """Return a value as a message can hold it.

    >>> _short(["a", "b"]), _short([f"tr03-{i:04d}" for i in range(99)]), _short("0123456789" * 7)
    ("['a', 'b']", "99 values, 'tr03-0000' to 'tr03-0098'", '0123456789…')
    """
    text = str(value)
    if re.fullmatch("[0-9a-f]{40,}", text):  # a hash
        return f"{text[:10]}…"
    if len(text) <= 80 or not isinstance(value, list):
        return text if len(text) <= 80 else f"{text[:77]}…"
    return f"{len(value)} values, {value[0]!r} to {value[-1]!r}"


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    if not hasattr(cls, "__pydantic_config__"):
        for part in _parts(cls):
            part.__pydantic_config__ = ConfigDict(extra="forbid", strict=False)
    return TypeAdapter(cls)


def _parts(cls: type) -> list[type]:
    nested = [item for f in dataclasses.fields(cls) for item in sections_of(f.type)]
    return [cls, *(part for item in nested for part in _parts(item))]


def sections_of(annotation: Any) -> list[type]:
    """Return the dataclasses a field of this type may hold: none, one, or those of ``one_of``."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return [annotation]
    return [found for item in get_args(annotation) for found in sections_of(item)]


def _put(values: dict, dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {dotted}: {section} is a value, not a section.")
    values[key] = value


def _sentence(cls: type, item: dict) -> str:
    key, owner = _place(cls, item["loc"])
    if item["type"] == "unexpected_keyword_argument":
        return f"unknown key {key!r}" + _nearest(cls, owner, key)
    if item["type"] == "tuple_type":
        return f"{key}: it should be a list such as [A, B], got {item['input']!r}"
    if item["type"] == "union_tag_invalid":
        tag, known = item["ctx"]["tag"], item["ctx"]["expected_tags"]
        close = nearest(tag, re.findall(r"'([^']+)'", known))
        told = f"nearest is {close!r}; " if close else ""
        return f"{key}.name {tag!r}; {told}it can be {known}"
    if item["type"] in ("dataclass_type", "union_tag_not_found"):
        first = next(name for name in _keys(cls) if name.startswith(f"{key}."))
        return f"{key} is a section; set its keys, such as {first!r}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message if not key or message.startswith(f"{key}.") else f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]}, got {item['input']!r}"


def _place(cls: type, loc: tuple) -> tuple[str, type]:
    """Return the dotted key of an error's place, and the dataclass that the key belongs to."""
    keys: list[str] = []
    owner, choices = cls, []
    for part in map(str, loc):
        if len(choices) > 1:  # pydantic names the chosen class here; our keys do not
            owner, choices = next(c for c in choices if c.name == part), []
            continue
        keys.append(part)
        choices = sections_of(_types(owner).get(part))
        owner = choices[0] if len(choices) == 1 else owner
    return ".".join(keys), owner


def _nearest(cls: type, owner: type, key: str) -> str:
    """Name the valid key that is nearest: among its section's, else anywhere."""
    section = key.rpartition(".")[0]
    siblings = [f"{section}.{f.name}".lstrip(".") for f in dataclasses.fields(owner)]
    valid = list(_keys(cls))
    return advice(key, siblings if section else valid, valid)


def advice(key: str, siblings: Sequence[str], valid: Sequence[str]) -> str:
    """Say which key is likely meant by an unknown one: of its section, else any."""
    close = difflib.get_close_matches(key, siblings, n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    close = close or [k for k in valid if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"; nearest is {close[0]!r}" if close else f"; there are {', '.join(valid)}"


def _keys(cls: type, prefix: str = "") -> Iterable[str]:
    for item in dataclasses.fields(cls):
        sections = sections_of(item.type)
        found = [key for part in sections for key in _keys(part, f"{prefix}{item.name}.")]
        yield from dict.fromkeys(found) if sections else [prefix + item.name]
