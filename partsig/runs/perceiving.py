"""Objectives that train no encoder of ours, but look through one: opened, and loaded again.

What such a run looks through lies in its checkpoint, so that it is all that is needed to use it;
``run.json`` tells how to build it (``frozen_encoder``, and ``segmenter``, where that is a network
of its own), and whose weights these are.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from partsig import config as configs
from partsig import registries
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder, FrozenTransformer
from partsig.core.perception import FrozenMaps
from partsig.core.settings import EncoderConfig
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN, OpenedEncoder, Origin, parse, rebuild
from partsig.runs.features import key_of
from partsig.runs.kept import last_file
from partsig.runs.models import built, fill, load_encoder, pretraining_settings, read_state
from partsig.runs.objectives import module_of
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH, PretrainRecipe
from partsig.seeds import Stream, seed_of

# What opens a network of timm as a segmenter, and builds it again: with ``open`` and ``build``.
SEGMENTERS = "partsig.interop.segmenter"
SEGMENTER = "segmenter"  # what a run tells of it by
ON_MAPS = "maps"


def is_perceiving(objective: object) -> bool:
    """Tell whether an objective brings what it looks through, in place of an encoder of ours."""
    return bool(getattr(objective, "brings_encoder", False))


def open_perceiving(
    settings: PretrainRecipe, facts: Mapping[str, Any], samples_per_unit: float, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the untrained model of such an objective, and what a run tells of its networks.

    ``facts`` are those of the data: its modality and channels. The segmenter's weights that come
    from nowhere are drawn by ``seed``.

    Raises ConfigError or CheckpointError for a network that there is not, or that does not fit.
    """
    objective = settings.objective
    opened = open_phi(settings, facts, samples_per_unit, seed)
    told: dict[str, Any] = {
        FROZEN: dict(opened.facts),
        "weights_licence": opened.licence,
        "weights_sha256": opened.sha256,
        "foreground": objective.foreground,
    }
    torch.manual_seed(seed_of(Stream.PRETRAINED_WEIGHTS, seed))
    segmenter = None
    if objective.segmenter != ON_MAPS:
        kind = registry.of(facts)
        if kind.rank != 2:
            raise ConfigError(
                f"objective.segmenter={objective.segmenter} is a network of images; for "
                f"{kind.plural} leave it at maps."
            )
        opening = registries.at(f"{SEGMENTERS}:open_segmenter")
        segmenter, told[SEGMENTER] = opening(
            objective.segmenter, objective.segmenter_weights, objective.parts,
            len(facts["ch_names"]),
        )  # fmt: skip
    looks = _looks(facts, samples_per_unit)
    maps = FrozenMaps(opened.encoder, objective.taps)
    return module_of(type(objective))(objective, maps, looks, segmenter), told


def open_phi(
    settings: PretrainRecipe, facts: Mapping[str, Any], samples_per_unit: float, seed: int
) -> OpenedEncoder:
    """Return what an objective looks through; raise ConfigError where it is for other inputs."""
    objective, kind = settings.objective, registry.of(facts)
    if objective.phi is None:
        raise ConfigError(
            f"objective.phi is not told: {objective.name} looks through a frozen network; name a "
            "run, or an encoder such as packaged:efficientnet-lite0."
        )
    origin = parse(objective.phi, objective.phi_weights)
    usual = next(field for field in fields(settings) if field.name == "encoder").default_factory()
    if str(origin) != SCRATCH and settings.encoder != usual:
        raise ConfigError(
            f"encoder.… is the shape of an encoder of ours; {objective.name} looks through "
            f"objective.phi={origin}: leave encoder.… out."
        )
    if origin.source:
        opened = origin.open_frozen()
    elif origin.path is None:
        opened = _untrained(settings, facts, samples_per_unit, seed)
    else:
        opened = _of_run(origin, facts)
    encoder = opened.encoder
    if encoder.rank != kind.rank:
        raise ConfigError(
            f"objective.phi={origin} takes windows of {encoder.rank} axes; {kind.plural} have "
            f"{kind.rank}: name another."
        )
    if len(facts["ch_names"]) not in encoder.channels:
        raise ConfigError(
            f"objective.phi={origin} takes {' or '.join(map(str, encoder.channels))} channels; the "
            f"store has {', '.join(facts['ch_names'])}."
        )
    return opened


def load_perceiving(run: Run) -> nn.Module:
    """Return the model of a finished run of such an objective, on the CPU, for use.

    Raises CheckpointError for a run of another objective, or one that is damaged.
    """
    settings = pretraining_settings(run)
    objective = settings.objective
    if not is_perceiving(objective):
        raise CheckpointError(
            f"{run.path} was pretrained with {objective.name}, which discovers no parts; name a "
            "run of part-discovery, or scops."
        )

    def fresh() -> nn.Module:
        encoder = rebuild(run.facts[FROZEN], len(run.ch_names))
        segmenter = None
        if objective.segmenter != ON_MAPS:
            segmenter = registries.at(f"{SEGMENTERS}:build_segmenter")(run.facts[SEGMENTER])
        looks = _looks(run.facts, run.samples_per_unit)
        maps = FrozenMaps(encoder, objective.taps)
        return module_of(type(objective))(objective, maps, looks, segmenter)

    file = last_file(run.path)
    model = built(fresh, file)
    fill(model, read_state(run.path), file)
    return model.eval().requires_grad_(False)


def _looks(facts: Mapping[str, Any], samples_per_unit: float) -> Any:
    return registries.at(registry.of(facts).looks)(samples_per_unit)


def _untrained(
    settings: PretrainRecipe, facts: Mapping[str, Any], samples_per_unit: float, seed: int
) -> OpenedEncoder:
    """Return an encoder of the shape of ``encoder.…`` that nobody has trained, by the seed."""
    _, patch = settings.extents(samples_per_unit)
    told = {
        "builder": "run",
        "encoder": configs.to_dict(settings.encoder),
        "channels": len(facts["ch_names"]),
        "patch": list(patch),
        "positions": "none",
    }
    torch.manual_seed(seed_of(Stream.ENCODER_WEIGHTS, seed))
    encoder = build_run(told).eval()
    return OpenedEncoder(
        encoder=encoder, method=SCRATCH, facts=told, licence=None, sha256=key_of(encoder)
    )


def _of_run(origin: Origin, facts: Mapping[str, Any]) -> OpenedEncoder:
    """Return the encoder of a pretraining run on inputs like these."""
    run = Run.finished(origin.path, "pretrain", registry.of(facts).name)
    for key in ("ch_names", "sfreq"):
        if run.facts.get(key) != facts.get(key):
            raise CheckpointError(
                f"{origin.path} has {key} {run.facts.get(key)}, this store has {facts.get(key)}."
            )
    pretrained = load_encoder(origin.path)
    _, patch = pretrained.settings.extents(run.samples_per_unit)
    told = {
        "builder": "run",
        "encoder": configs.to_dict(pretrained.settings.encoder),
        "channels": len(run.ch_names),
        "patch": list(patch),
        "positions": pretrained.settings.positions,
    }
    encoder = build_run(told)
    encoder.encoder.load_state_dict(pretrained.encoder.state_dict())
    return OpenedEncoder(
        encoder=encoder.eval(),
        method=pretrained.settings.objective.name,
        facts=told,
        licence=None,
        sha256=key_of(encoder),
    )


def build_run(facts: Mapping[str, Any]) -> FrozenEncoder:
    """Return the encoder of a run of ours without its weights, by what is told of it.

    Raises CheckpointError where that is damaged.
    """
    try:
        shape = configs.build(EncoderConfig, facts["encoder"])
        patch = tuple(int(extent) for extent in facts["patch"])
        channels, positions = int(facts["channels"]), str(facts["positions"])
        if not patch or min(patch) < 1 or not 1 <= channels <= 4096:
            raise ValueError("patch or channels")
        encoder = Encoder(shape, channels, patch)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"what is told of the encoder is damaged ({reason}).") from None
    return FrozenTransformer(encoder, channels, patch, positions)
