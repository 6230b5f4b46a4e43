"""What configurations are written in: shipped and given YAML files, and ``KEY=VALUE`` texts."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path

import yaml

from partsig import regular
from partsig.errors import ConfigError, nearest

DEEPEST, LARGEST = 20, 1_000_000  # of a file of settings: nesting, bytes
TEXT, INTEGER = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"
TIMESTAMP = "tag:yaml.org,2002:timestamp"
KINDS = ("null", "bool", "int", "float", "str", "seq", "map")  # of values


def names() -> list[str]:
    """Return the names of the configurations that ship with partsig."""
    folder = resources.files("partsig.configs")
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def read(config: str | Path) -> dict:
    """Return what a shipped or given YAML file says; raise ConfigError for one that says nothing.

    A mistyped name is answered with the nearest.
    """
    text, where = text_of(config)
    try:
        values = _parsed(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must hold key: value lines.")
    for key in values:
        section, dot, rest = key.partition(".")
        if not section.isidentifier():
            raise ConfigError(f"{where} has the key {key}, which is no name of a setting.")
        if dot:
            raise ConfigError(f"{where}: write {key} as `{section}:`, and `{rest}: …` below it.")
    return values


def _parsed(text: str) -> object:
    """Return what YAML says; raise YAMLError for whatever is none."""
    try:
        return yaml.load(text, _Settings)  # a SafeLoader
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # What its constructors raise of `!!float abc` or `!!bool abc`.
        raise yaml.YAMLError(f"a value is not what its tag says ({error})") from None


class _Settings(yaml.SafeLoader):
    """YAML as people write settings.

    No key may stand twice: the first one would be lost without a word. Every key is a text, so that
    ``{5: W}`` maps what is written 5. An integer is decimal: 010 is ten. Aliases, by which some
    lines can say millions, what is nested beyond all settings, and kinds of values that no setting
    has (sets, bytes) are refused; a date is the text that it is written as.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read: write out what is meant")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = TEXT
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{', '.join(twice)} stands twice")
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        try:
            return int(self.construct_scalar(node))
        except ValueError:  # thousands of digits
            raise yaml.YAMLError("a number is none, or has too many digits") from None


# YAML 1.1 reads 010 as eight, and 1:30 as ninety; here the one is ten, and the other a text.
_Settings.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] not in (INTEGER, TIMESTAMP)]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Settings.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in KINDS
}
_Settings.add_implicit_resolver(INTEGER, re.compile(r"[-+]?\d+(_\d+)*\Z"), list("-+0123456789"))
_Settings.add_constructor(INTEGER, _Settings.construct_decimal)


def text_of(config: str | Path) -> tuple[str, str]:
    """Return the text of a shipped or given YAML file, and what to call it."""
    path = Path(config)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"no configuration file {path}.")
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is larger than {LARGEST:,} bytes: no configuration is.")
        try:
            return regular.read_text(path), str(path)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file in UTF-8 ({error}).") from None
    name = str(config)
    if name not in names():
        close = nearest(name, names())
        told = f"nearest is {close!r}; " if close else ""
        raise ConfigError(
            f"no configuration {name!r}; {told}there are {', '.join(names())}. "
            "A file of your own ends in .yaml."
        )
    return (resources.files("partsig.configs") / f"{name}.yaml").read_text("utf-8"), name


def pairs(overrides: Mapping[str, object] | Iterable[str]) -> Iterator[tuple[str, object]]:
    """Yield the dotted key and the value of every override, a mapping's or ``KEY=VALUE`` texts'."""
    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text!r}: expected section.key=value.")
        try:
            yield key.strip(), _parsed(value)
        except yaml.YAMLError:
            if value.startswith("{name}"):  # a pattern of file names, which only looks like YAML
                yield key.strip(), value
                continue
            raise ConfigError(f"--set {text!r}: cannot read the value {value!r}.") from None
