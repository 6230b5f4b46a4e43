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
from partsig.core.objectives.droppos import DropPos, DropPosConfig
from partsig.core.objectives.mae import Mae, MaeConfig
from partsig.core.objectives.mp3 import Mp3, Mp3Config
from partsig.core.objectives.part import Part, PartConfig
from partsig.errors import ConfigError

OBJECTIVES: dict[type, Callable] = {
    PartConfig: Part,
    MaeConfig: Mae,
    Mp3Config: Mp3,
    DropPosConfig: DropPos,
}
# What is wrong with a plug-in, by the name of its objective: told when that is asked for.
BROKEN: dict[str, str] = {}


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
