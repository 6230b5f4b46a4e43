"""Sleep staging from whole nights: the stage of an epoch, told from the epochs around it."""

from dataclasses import replace

import numpy as np

from partsig.contracts import Dataset, Order, TrainingBatches
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import ConfigError
from partsig.runs.settings import FinetuneRecipe
from partsig.sleep.staging_task import SleepStaging
from partsig.tasks.classification import CONTEXT
from partsig.tasks.encoded_nights import EncodedNights, check_signals
from partsig.tasks.encoded_stretches import (
    EncodedStretches,
    check_stretches,
    is_longer,
    stretch_of,
)
from partsig.tasks.frozen import InputShape
from partsig.tasks.networks import network_on
from partsig.tasks.night_context import (
    ContextNetwork,
    StretchBatches,
    Stretches,
    check_samples,
    class_weights,
)


class NightContext(SleepStaging):
    """One of the AASM's stages for every epoch of a night, from the features of those around it.

    The store has a sample, or a few, for each epoch: band powers, or an encoder's embeddings. Or,
    with ``context.through``, it holds signals, and their encoder is trained together with it; or
    features, and an encoder of whole nights, whose patches are longer than an epoch, is.
    """

    name = "night-context"
    can_be_taught = False

    def settled(self, settings: FinetuneRecipe) -> FinetuneRecipe:
        """Return the settings of the network over epochs; raise ConfigError for other models."""
        through = settings.context.through
        if settings.model not in ("encoder", CONTEXT) or settings.train != "full":
            raise ConfigError(
                f"--task {self.name} trains a network over the features of epochs, which "
                "context.model tells: leave out model and train."
            )
        if settings.loss.mixup or settings.loss.cutmix:
            raise ConfigError(
                f"--task {self.name} mixes no nights: leave out loss.mixup and loss.cutmix."
            )
        if settings.shift_s:
            raise ConfigError(
                f"--task {self.name} shifts stretches by whole epochs by itself: leave out shift_s."
            )
        context = settings.context
        if context.model == "viterbi":  # the network sees an epoch alone
            context = replace(context, epochs=1)
        return replace(settings, model="encoder" if through else CONTEXT, context=context)

    def drawn(self, train: LabelledWindows, settings: FinetuneRecipe) -> Stretches:
        """Return the stretches that the steps of training draw from."""
        _, patch = settings.extents(train.store.sfreq, train.store.unit_s)
        if not settings.context.through:
            check_samples(train.n_times)
        elif patch[0] > train.n_times:
            exactly = settings.patch_s * train.store.sfreq
            check_stretches(train.n_times, exactly, settings.context, settings.pool)
        else:
            check_signals(train.n_times)
        return Stretches(train, settings.context.epochs)

    def batches(
        self,
        dataset: Dataset,
        drawn: Stretches,
        shuffled: Order,
        settings: FinetuneRecipe,
        teacher: object,
    ) -> TrainingBatches:
        """Return the batches of fine-tuning: stretches with the labels of their epochs.

        ``balanced``: classes weigh the same in the loss, since no draw of stretches makes them
        equally frequent.
        """
        labels: np.ndarray = drawn.examples.labels
        weights = class_weights(labels, len(drawn.examples.classes), settings.balanced)
        batch_at = StretchBatches(stretches=drawn, order=shuffled, weights=weights)
        return TrainingBatches(batch_at=batch_at, steps_per_epoch=shuffled.steps)

    def build(
        self,
        encoder: Encoder | FrozenEncoder | None,
        settings: FinetuneRecipe,
        shape: InputShape,
        modality: str,
    ) -> ContextNetwork | EncodedNights:
        """Return the untrained network over epochs; the caller seeds torch."""
        context = settings.context
        if context.through:
            longer = is_longer(shape)
            given = stretch_of(shape, context) if longer else shape
            kind = EncodedStretches if longer else EncodedNights
            net = network_on(encoder, settings, given)
            return kind(net, shape, settings.loss, context, settings.balanced)
        return ContextNetwork(settings.model, shape, settings.loss, context, settings.balanced)
