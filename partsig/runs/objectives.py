"""The objectives by their configurations: partsig's, and those of plug-ins.

A plug-in's entry point in the group ``partsig.objectives`` is a module like
:class:`partsig.core.objectives.mp3.Mp3`, with its configuration as ``Config``: a frozen dataclass
whose ``name`` is the entry point's. Where its fields say what they mean, as ours do
(``Annotated[float, "share of the patches"]``), ``partsig config`` tells it. It may import anything
of ``partsig.core`` and ``partsig.errors``.
"""

import dataclasses
from collections.abc import Callable

from partsig import registries
from partsig.core.objectives.discovery_settings import PartDiscoveryConfig, ScopsConfig
from partsig.core.objectives.settings import (
    DropPosConfig,
    MaeConfig,
    Mp3Config,
    PartConfig,
    PartMaskedConfig,
    RelativePositioningConfig,
)
from partsig.errors import ConfigError

# The modules' places, since settings are looked at before torch is loaded; a plug-in's module.
OBJECTIVES: dict[type, str | Callable] = {
    PartConfig: "partsig.core.objectives.part:Part",
    MaeConfig: "partsig.core.objectives.mae:Mae",
    Mp3Config: "partsig.core.objectives.mp3:Mp3",
    DropPosConfig: "partsig.core.objectives.droppos:DropPos",
    RelativePositioningConfig: "partsig.core.objectives.relative_positioning:RelativePositioning",
    PartMaskedConfig: "partsig.core.objectives.part_masked:PartMasked",
    PartDiscoveryConfig: "partsig.core.objectives.part_discovery:PartDiscovery",
    ScopsConfig: "partsig.core.objectives.scops:Scops",
}
# What is wrong with a plug-in, by the name of its objective: told when that is asked for.
BROKEN: dict[str, str] = {}


def module_of(config: type) -> Callable:
    """Return the module that learns by an objective with this configuration.

    >>> module_of(MaeConfig).__name__
    'Mae'
    """
    module = OBJECTIVES[config]
    return registries.at(module) if isinstance(module, str) else module


def _add_plugins() -> None:
    own = [config.name for config in OBJECTIVES]
    for name, point in registries.plugged("objectives", own).items():
        try:
            module = registries.load_plugin(point)
            config = getattr(module, "Config", None)
            if not dataclasses.is_dataclass(config) or getattr(config, "name", None) != name:
                raise ConfigError(
                    f"{name!r} is of the plug-in {registries.package_of(point)}, whose objective "
                    f"has no dataclass Config with name = {name!r}."
                )
        except ConfigError as error:
            BROKEN[name] = str(error)
        else:
            OBJECTIVES[config] = module


_add_plugins()
