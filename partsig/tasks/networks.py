"""The networks that tasks put on encoders, as they are built and as a run holds them."""

from collections.abc import Callable

from partsig import config as configs
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder
from partsig.core.objectives.frozen_classifier import FrozenClassifier
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    EncoderClassifier,
    SupervisedModule,
)
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN, rebuild
from partsig.runs.features import folder_of
from partsig.runs.kept import chosen_file, chosen_state
from partsig.runs.models import built
from partsig.runs.run import Run
from partsig.runs.settings import FROZEN_WAYS, FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks.frozen import InputShape

# Called with an encoder, the modality's settings, the shape of what is given and its name; with
# None where what is trained in its place has no encoder.
Build = Callable[
    [Encoder | FrozenEncoder | None, FinetuneRecipe, InputShape, str], SupervisedModule
]


def network_on(
    encoder: Encoder | FrozenEncoder, settings: FinetuneRecipe, shape: InputShape
) -> EncoderClassifier:
    """Return a linear head on what is pooled of an encoder; the caller seeds torch."""
    n_classes = len(shape.classes)
    if isinstance(encoder, FrozenEncoder):
        return FrozenClassifier(encoder, settings.pool, n_classes, settings.blocks, settings.loss)
    return Classifier(
        ClassifierConfig(positions=settings.positions, pool=settings.pool),
        encoder,
        window=shape.window,
        patch=shape.patch,
        n_classes=n_classes,
        loss=settings.loss,
    )


def loaded(run: Run, build: Build) -> SupervisedModule:
    """Return the model of a finished run at its chosen epoch, of what ``build`` makes of it."""
    settings = settings_of(run)
    shape = shape_of(run, settings)

    def fresh() -> SupervisedModule:
        told = run.facts.get(FROZEN)
        if told is not None:
            return build(rebuild(told, len(shape.ch_names)), settings, shape, run.modality)
        encoder = None
        if settings.has_encoder:
            encoder = Encoder(settings.encoder, len(shape.ch_names), shape.patch)
        return build(encoder, settings, shape, run.modality)

    file = chosen_file(run.path)
    model = built(fresh, file)
    frozen.put_weights(chosen_state(run), model, file)
    if settings.train in FROZEN_WAYS:
        model.kept_in = str(folder_of(run.facts["from"], run.path))
    return model


def settings_of(run: Run) -> FinetuneRecipe:
    """Return the settings that a fine-tuned run tells."""
    return configs.build(registry.get(run.modality).finetune, run.config)


def shape_of(run: Run, settings: FinetuneRecipe) -> InputShape:
    """Return what a fine-tuned run is given, and what it tells apart."""
    window, patch = settings.extents(run.samples_per_unit, run.labels.unit_s)
    return InputShape(
        ch_names=run.ch_names,
        samples_per_unit=run.samples_per_unit,
        window=window,
        patch=patch,
        classes=run.labels.classes,
        n_train=run.n_train if settings.train == "knn" else 0,
    )
