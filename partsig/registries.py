"""Names to the places of what they name, loaded on first use: plain dicts of ``module:name``."""

from collections.abc import Mapping
from importlib import import_module

from partsig.errors import check_option


def load(what: str, name: str, places: Mapping[str, str]) -> object:
    """Return what ``name`` stands for in a registry; raise ConfigError for an unknown name.

    ``what`` is what the user calls it: an option, or a noun.
    """
    check_option(what, name, places)
    return at(places[name])


def at(place: str) -> object:
    """Return what lies at ``module:name``.

    >>> at("math:gcd")(12, 18)
    6
    """
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
