"""``partsig config``: what can be set, what it means, and what a configuration makes of it."""

import re
from dataclasses import replace
from pathlib import Path

from partsig import config as configs
from partsig import registries
from partsig.demos import registry as demos
from partsig.errors import ConfigError, check_option
from partsig.key_tables import Configuration, Described, VerbKeys
from partsig.keys import describe
from partsig.modalities import registry

# Verbs that take `--config`: modalities hold their settings.
WITH_FILES = ("preprocess", "pretrain", "finetune")
# The settings of the others that take `--set`: their places, by modality.
PLACES = {
    "audit": {"eeg": "partsig.data.signals.recordings:ReadConfig"},
    "stage": {"eeg": "partsig.sleep.settings:StageConfig"},
    "report": {"eeg": "partsig.sleep.settings:ReportConfig"},
    "demo": {kind: demos.SETTINGS[name] for kind, name in demos.OF_MODALITY.items()},
}
VERBS = ("preprocess", "audit", "pretrain", "finetune", "stage", "report", "demo")


def describe_settings(
    config: str | Path | None = None,
    *,
    verb: str | None = None,
    modality: str | None = None,
    changed: bool = False,
) -> Described:
    """Return every key of the verbs that take ``--set``, and the shipped configurations.

    ``config``, a shipped name or a YAML file: the keys of its verb alone, with its values beside
    the defaults; only those that differ, if ``changed``. A file that says no verb is told it by
    ``verb``. Where a configuration fits several modalities and none is given, it is the one that
    its name begins with, else the first.

    Raises ConfigError for an unknown name, with the nearest, and for a file that has mistakes.
    """
    if modality is not None:
        check_option("--modality", modality, registry.MODALITIES)
    if verb is not None:
        check_option("--verb", verb, VERBS)
    if config is not None:
        return _one(config, verb, modality, changed)
    if changed:
        raise ConfigError("--changed is for one configuration: name it, partsig config NAME.")
    settings = [
        _keys(which, kind)
        for which in ([verb] if verb else VERBS)
        for kind in ([modality] if modality else registry.MODALITIES)
        if _class_of(which, kind) is not None
    ]
    if not settings:
        raise ConfigError(f"{verb} is not for {modality}; it is for {', '.join(PLACES[verb])}.")
    shipped = [_configuration(name) for name in configs.names()]
    shown = [
        item
        for item in sorted(shipped, key=lambda item: (item.verb != "pretrain", item.modalities))
        if verb in (None, item.verb) and (modality is None or modality in item.modalities)
    ]
    return Described(configurations=shown, settings=settings, one=False)


def _one(config: str | Path, verb: str | None, modality: str | None, changed: bool) -> Described:
    if config in VERBS and config not in configs.names():
        raise ConfigError(f"{config} is a verb: its keys are told by --verb {config}.")
    found = _configuration(config, verb, modality)
    first = Path(config).name.partition("-")[0]
    kind = first if first in found.modalities else found.modalities[0]
    settings = configs.compose(_class_of(found.verb, kind), found.verb, config)
    keys = _keys(found.verb, kind, settings)
    if changed:
        few = [replace(s, keys=tuple(k for k in s.keys if k.changed)) for s in keys.sections]
        keys = replace(keys, sections=[section for section in few if section.keys])
    return Described(configurations=[found], settings=[keys], one=True)


def _unknown(error: ConfigError) -> tuple[int, int]:
    """Return how far a configuration is from what refused it: by keys that are unknown there."""
    return str(error).count("unknown key"), len(str(error))


def _configuration(
    config: str | Path, verb: str | None = None, modality: str | None = None
) -> Configuration:
    """Return what a file is for; raise ConfigError where that is nothing, or it has mistakes."""
    text, _ = configs.text_of(config)
    stated = configs.read(config).get("verb", verb)
    if stated is not None:
        check_option(f"the verb of {config}", stated, WITH_FILES)
    refused = []
    for which in WITH_FILES if stated is None else [stated]:
        kinds = []
        for kind in [modality] if modality else registry.MODALITIES:
            try:
                configs.compose(_class_of(which, kind), verb or which, config)
                kinds.append(kind)
            except ConfigError as error:
                refused.append(error)
        if kinds:
            about = " ".join(re.findall(r"^# ?(.*)", text.partition("\n\n")[0], re.MULTILINE))
            return Configuration(name=str(config), verb=which, modalities=tuple(kinds), about=about)
    if stated is None:
        raise ConfigError(
            f"{config} says no verb, and fits none: pass --verb, or mend what is wrong "
            f"({min(refused, key=_unknown)})."
        )
    for other in registry.others(modality) if modality else ():
        classes = _class_of(stated, modality), _class_of(stated, other.name)
        meant = f"{other.plural}: pass --modality {other.name}"
        configs.check_meant(classes[0], verb or stated, config, classes[1], meant)
    raise min(refused, key=lambda error: len(str(error)))


def _class_of(verb: str, modality: str) -> type | None:
    """Return the settings of a verb for a modality; None where it is not for that."""
    if verb not in WITH_FILES:
        place = PLACES[verb].get(modality)
        return None if place is None else registries.at(place)
    settings = getattr(registry.get(modality), verb)
    return registries.at(settings) if isinstance(settings, str) else settings


def _keys(verb: str, modality: str, settings: object = None) -> VerbKeys:
    sections = describe(_class_of(verb, modality), settings)
    return VerbKeys(verb=verb, modality=modality, about=sections[0].about, sections=sections)
