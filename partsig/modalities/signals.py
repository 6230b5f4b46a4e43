"""Signals as a modality: what they are called, trained with and opened by. Needs no torch."""

from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.modalities import signal_card
from partsig.modalities.modality import Modality
from partsig.modalities.signal_settings import SignalFinetuneConfig, SignalPretrainConfig

BASELINES = {
    "logistic": "partsig.modalities.signal_baselines:LogisticOnBandPowers",
    "boosting": "partsig.modalities.signal_baselines:BoostingOnBandPowers",
    "chambon2018": "partsig.modalities.signal_baselines:BraindecodeNet",
    "usleep": "partsig.modalities.signal_baselines:BraindecodeNet",
    "context": "partsig.tasks.night_context:ContextNetwork",
    "yasa": "partsig.sleep.stagers:YasaStager",
}

SIGNALS = Modality(
    name="eeg",
    axes=("time",),
    unit="s",
    plural="signals",
    n_patches=40,  # PART paper, section 3.4: 30 s at 100 Hz, forty 1-s patches
    default_source="physionet2018",
    dataset="partsig.modalities.signal_dataset:open_dataset",
    preprocess="partsig.data.signals.preprocessing:PreprocessConfig",
    pretrain=SignalPretrainConfig,
    finetune=SignalFinetuneConfig,
    amplitude="µV",
    usual_task="sleep-staging",
    looks="partsig.data.signals.looks:SignalLooks",
    marked="partsig.modalities.signal_parts:judged",
    draw_inspection="partsig.figures.inspection_1d:draw",
    training_facts=signal_card.training_facts,
    card=signal_card.CARD,
    usual_labels=SLEEP,
    baselines=BASELINES,
)
