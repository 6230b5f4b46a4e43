"""Names to what they name, loaded on first use: plain dicts of ``module:name``, and plug-ins.

A place may be a module alone.

Another package offers more names by entry points in its ``pyproject.toml``, of the groups
``partsig.objectives``, ``partsig.tasks``, ``partsig.sources``, ``partsig.encoders``,
``partsig.frozen_encoders`` and ``partsig.encoder_builders``::

    [project.entry-points."partsig.tasks"]
    arousals = "their_package.arousals:Arousals"

The names of partsig stay partsig's. A package that cannot be loaded is told of when its name is
asked for; the others work.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from partsig.errors import ConfigError, PartsigError, check_option

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def load(what: str, name: str, places: Mapping[str, str], group: str = "") -> object:
    """Return what ``name`` stands for in a registry; raise ConfigError for an unknown name.

    ``what`` is what the user calls it: an option, or a noun. ``group``: what plug-ins offer counts
    as well, such as tasks.
    """
    if name in places:
        return at(places[name])
    others = plugged(group, places) if group else {}
    check_option(what, name, (*places, *others))
    return load_plugin(others[name])


def at(place: str) -> object:
    """Return what lies at ``module:name``, or the module.

    >>> at("math:gcd")(12, 18), at("math").__name__
    (6, 'math')
    """
    module, _, attribute = place.partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def plugged(group: str, own: Iterable[str] = ()) -> "dict[str, EntryPoint]":
    """Return what other packages offer in a group, by name, but for names that are ``own``.

    Nothing of these packages is imported. Raises ConfigError where two of them offer one name.
    """
    from importlib.metadata import entry_points

    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"partsig.{group}"):
        other = offered.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigError(
                f"{point.name!r} is offered by two plug-ins, {package_of(other)} and "
                f"{package_of(point)}; uninstall one of them."
            )
    return {name: point for name, point in offered.items() if name not in set(own)}


def load_plugin(point: "EntryPoint") -> object:
    """Return what a plug-in offers; raise ConfigError, naming its package, if it does not load."""
    try:
        return point.load()
    except PartsigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{point.name!r} is of the plug-in {package_of(point)}, which cannot be loaded "
            f"({type(error).__name__}: {reason}); mend or uninstall it."
        ) from error


def package_of(point: "EntryPoint") -> str:
    """Return the name and version of the package that an entry point is of."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
