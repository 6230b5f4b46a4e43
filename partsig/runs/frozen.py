"""The one loader of encoders that are used as they are, whatever ``--from`` names."""

from typing import Any

from partsig.contracts import Dataset
from partsig.core.frozen_encoder import FrozenEncoder, FrozenTransformer
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN, OpenedEncoder, Origin
from partsig.runs.models import load_encoder
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH


def open_frozen(origin: Origin, dataset: Dataset) -> FrozenEncoder:
    """Return an encoder that does not learn, for the windows of a dataset.

    Of a pretraining run it is partsig's own, with the normalisation and the position codes that it
    was trained with; of a source by name (``timm:NAME``) it is as its makers use it. What it makes
    of examples: :func:`partsig.runs.features.taken_of`.

    Raises ConfigError from scratch and for an unknown name, CheckpointError for what does not fit.
    """
    if origin.source:
        encoder = open_as_it_is(origin, dataset).encoder
    elif origin.path is None:
        raise ConfigError(f"--from {SCRATCH} has no weights; name a run, or an encoder.")
    else:
        run = Run.finished(origin.path, "pretrain", dataset.modality)
        dataset.channels_from(run, registry.get(dataset.modality).finetune())
        pretrained = load_encoder(origin.path)
        _, patch = pretrained.settings.extents(run.samples_per_unit)
        positions = pretrained.settings.positions
        encoder = FrozenTransformer(pretrained.encoder, len(run.ch_names), patch, positions)
    return encoder.eval().requires_grad_(False)


def open_as_it_is(origin: Origin, dataset: Dataset) -> OpenedEncoder:
    """Return a source's encoder as its makers use it; raise ConfigError where it is for others.

    Of windows of another rank, say, or CheckpointError: of another number of channels.
    """
    opened = origin.open_frozen()
    check_inputs(opened.encoder, dataset, str(origin))
    return opened


def check_inputs(encoder: FrozenEncoder, dataset: Dataset, origin: str) -> None:
    """Raise ConfigError or CheckpointError unless an encoder takes a dataset's windows."""
    kind = registry.get(dataset.modality)
    if encoder.rank != kind.rank:
        kinds = map(registry.get, registry.MODALITIES)
        taken = " or ".join(other.plural for other in kinds if other.rank == encoder.rank)
        raise ConfigError(f"--from {origin} takes {taken}; the store holds {kind.plural}.")
    if len(dataset.ch_names) not in encoder.channels:
        raise CheckpointError(
            f"{origin} takes {' or '.join(map(str, encoder.channels))} channels; {dataset.path} "
            f"has {', '.join(dataset.ch_names)}."
        )


def provenance(opened: OpenedEncoder) -> dict[str, Any]:
    """Return what a run remembers of such an encoder: how to build it, and whose it is."""
    return {
        FROZEN: dict(opened.facts),
        "weights_licence": opened.licence,
        "weights_sha256": opened.sha256,
    }
