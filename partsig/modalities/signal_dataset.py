"""Signals: what a store of recordings offers to whoever pretrains, fine-tunes or judges on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from partsig import registries
from partsig.contracts import (
    Everything,
    LabelBudget,
    Labels,
    LabelSplit,
    PretrainingData,
    TrainedModel,
    TrainingBatches,
    UnseenWindows,
)
from partsig.data import protocols, splits
from partsig.data.shuffling import Shuffled
from partsig.data.signals.altered import altered
from partsig.data.signals.hypnograms.stages import is_sleep
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.windows import (
    LabelledWindows,
    RandomWindows,
    ResidentWindows,
    ShiftedBatches,
)
from partsig.errors import ConfigError, DataError
from partsig.modalities import signal_features, signal_transfer
from partsig.modalities.modality import MONITOR_WINDOWS
from partsig.modalities.opened_store import OpenedStore, refuse_used, remembered
from partsig.modalities.signal_labels import draw_labels
from partsig.modalities.signal_settings import SignalFinetuneConfig, SignalPretrainConfig
from partsig.modalities.signals import BASELINES
from partsig.runs.epoch_features import FeatureRecipe
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.runs.settings import Shape
from partsig.seeds import Stream, fixed
from partsig.tasks.distillation import TeacherTargets
from partsig.tasks.frozen import InputShape


@dataclass(frozen=True, eq=False)
class SignalDataset(OpenedStore):
    """A store of signals, opened."""

    store: Store
    channels: tuple[str | None, ...] | None = None  # None: all of the store's
    named: tuple[str, ...] | None = None
    modality: ClassVar[str] = "eeg"

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channel names, in their order: the store's, or those of the run that it is fitted to."""
        return self.named or self.store.ch_names

    def fitted(self, run: Run, missing: str) -> "SignalDataset":
        """Return the store with the channels of a run, those that it lacks silent."""
        taken = signal_transfer.fitted_channels(self.store, run, missing)
        return self if taken is None else replace(self, channels=taken, named=tuple(run.ch_names))

    def missing_channels(self, run: Run, examples: LabelledWindows) -> dict[str, int]:
        """Return which channels are silent, and in how many recordings of examples each."""
        return signal_transfer.missing_channels(self.store, run, examples.parts()[0])

    def altered(
        self,
        examples: LabelledWindows,
        channels: Sequence[str | None] | None = None,
        later_s: float | None = None,
    ) -> LabelledWindows:
        """Return test examples with other channels, or cut later."""
        return altered(examples, channels, later_s)

    @property
    def samples_per_unit(self) -> float:
        """Samples of a second."""
        return self.store.sfreq

    @property
    def labels(self) -> Labels:
        """What its labels are."""
        return self.store.label_facts

    @property
    def task(self) -> str:
        """What is usually learned from its labels."""
        return "sleep-staging" if is_sleep(self.labels) else "classification"

    def input_facts(self) -> dict[str, object]:
        """Return what must be the same for a model to be used: channels, rate, and unit."""
        told = {"ch_names": list(self.ch_names), "sfreq": self.store.sfreq}
        return told | {"unit": self.store.unit}

    def channels_from(self, run: Run, settings: SignalFinetuneConfig) -> tuple[int | None, ...]:
        """Return whose weights of a pretrained run's encoder each channel takes, by number."""
        return signal_transfer.channels_from(self.store, run, settings)

    def facts(self) -> dict[str, object]:
        """Return what a fine-tuned run remembers: the filter, too, and which features these are."""
        own = {} if self.recipe is None else {"epoch_features": self.recipe.digest}
        return super().facts() | {"filter": self.store.meta["filter"]} | own

    @cached_property
    def recipe(self) -> FeatureRecipe | None:
        """How its features were made; None where it holds signals, or features of elsewhere."""
        return signal_features.recipe_in(self.store)

    def keep_with(self, run: Path) -> None:
        """Write into a run how the store's features were made, where that is known."""
        if self.recipe is not None:
            self.recipe.copy_to(run)

    def window_for(self, settings: SignalFinetuneConfig) -> Shape:
        """Return the extent of a labelled window in samples."""
        return (round(self.labels.unit_s * self.store.sfreq),)

    def pretraining(self, settings: SignalPretrainConfig, seed: int) -> PretrainingData:
        """Return windows to pretrain on; test subjects are never among them."""
        store = self.store
        split = splits.split_pretraining(
            list(store.subjects),
            store.labelled_subjects,
            settings.split,
            store.roles,
            store.twins,
        )
        window, patch = settings.extents(store.sfreq)
        seen = split["train"] + split["monitor"]
        monitor = None
        if split["monitor"]:
            monitor = RandomWindows(
                store,
                split["monitor"],
                window[0],
                fixed(seed),
                MONITOR_WINDOWS,
                Stream.UNSEEN_WINDOWS,
            )
        train = RandomWindows(store, split["train"], window[0], seed, settings.windows_per_epoch)
        train.silence(settings.loss.channel_dropout, settings.compared_parts)
        return PretrainingData(
            channels=len(store.ch_names),
            window=window,
            patch=patch,
            samples_per_unit=store.sfreq,
            train=train,
            monitor=monitor,
            facts={
                "modality": self.modality,
                "provenance": store.meta["provenance"],
                **remembered(self.input_facts()),
                "subjects_seen": seen,
                "subjects_trained": split["train"],
                "subjects_held_out": split["test"],
            },
            nbytes=train.nbytes,
            load_onto=partial(ResidentWindows, train),
        )

    def unseen(self, run: Run, window: Shape, seed: int, per_epoch: int) -> UnseenWindows:
        """Return windows that a pretraining run has held out; else those it was measured on."""
        self.check_unseen_input(run, self.input_facts())
        trained = set(run.facts["subjects_trained"])
        monitor = [subject for subject in run.seen_unlabelled if subject not in trained]
        for role, members in (("test", run.facts["subjects_held_out"]), ("monitor", monitor)):
            there = sorted(set(members) & set(self.store.subjects))
            if there:
                return UnseenWindows(
                    windows=RandomWindows(
                        self.store, there, window[-1], seed, per_epoch, Stream.UNSEEN_WINDOWS
                    ),
                    role=role,
                    whose="n_subjects",
                    number=len(there),
                    samples_per_unit=self.store.sfreq,
                )
        if not run.facts["subjects_held_out"] and not monitor:
            raise DataError(
                f"{self.path} has none of the run's held-out subjects, since {run.path} held none "
                "out: pretrain on a store of 3 labelled subjects, or of 10, or more."
            )
        raise DataError(
            f"{self.path} has none of the run's held-out subjects; give the store it was trained "
            "on."
        )

    def check_budget(self, budget: LabelBudget) -> None:
        """Raise ConfigError for options that signals have no use for: there is none."""

    def split_labels(
        self, budget: LabelBudget, settings: SignalFinetuneConfig, seed: int
    ) -> LabelSplit:
        """Return which labels a run may use: so many subjects, or so many recordings a class."""
        self._check_model(settings)
        per_class = budget.per_class
        protocol = settings.split.protocol
        subjects = protocols.labels_of(protocol, budget.subjects)
        if per_class is not None and subjects and protocol is not None:
            raise ConfigError(
                f"--protocol {protocol} is on {subjects} labelled subjects: leave out "
                "--segments-per-class."
            )
        split, recordings = draw_labels(self.store, subjects, per_class, settings.split, seed)
        told = f"{settings.split.label}-" if protocol else ""
        return LabelSplit(
            label=f"{told}n{subjects}" if per_class is None else f"{told}k{per_class}",
            facts={
                "subjects": subjects if per_class is None else None,
                "segments_per_class": per_class,
                "split": split,
                "recordings": recordings,
                "items": {
                    role: self.store.item_digests(
                        (role == "train" and recordings) or self.store.recordings_of(split[role])
                    )
                    for role in ("train", "val", "test")
                },
            },
            open=partial(self._open_split, split, recordings),
            written=split,
            held_out=[] if protocol is None else split["test"],
        )

    def _check_model(self, settings: SignalFinetuneConfig) -> None:
        """Raise ConfigError where a baseline is not for these signals."""
        window, patch = settings.extents(self.samples_per_unit, self.labels.unit_s)
        if settings.model == "encoder":
            if window == (1,) and not (settings.context.through and patch > window):
                raise ConfigError(
                    f"a label of {self.path} is of one sample, of which an encoder's "
                    "normalisation leaves nothing: pass --task night-context without "
                    "context.through, or --set model=logistic."
                )
            return
        shape = InputShape(
            ch_names=self.ch_names,
            samples_per_unit=self.samples_per_unit,
            window=window,
            patch=patch,
            classes=self.labels.classes,
        )
        registries.at(BASELINES[settings.model]).check_input(shape)

    def _open_split(
        self, split: dict[str, list[str]], recordings: list[str] | None
    ) -> tuple[LabelledWindows, LabelledWindows]:
        return tuple(
            LabelledWindows(self.store, names)
            for names in (
                recordings or self.store.recordings_of(split["train"]),
                self.store.recordings_of(split["val"]),
            )
        )

    def counted(self, train: LabelledWindows, val: LabelledWindows) -> dict[str, int]:
        """Return how many labels were used, as facts of the run."""
        return {"n_epochs_train": len(train), "n_epochs_val": len(val)}

    def training_batches(
        self,
        train: LabelledWindows,
        shuffled: Shuffled,
        settings: SignalFinetuneConfig,
        teacher: TeacherTargets | None,
    ) -> TrainingBatches:
        """Return the batches of fine-tuning."""
        reach = round(settings.shift_s * self.store.sfreq)
        batch_at = ShiftedBatches(examples=train, shuffled=shuffled, reach=reach, teacher=teacher)
        return TrainingBatches(batch_at=batch_at, steps_per_epoch=shuffled.steps)

    def without_labels(self, split: Mapping[str, list[str]]) -> LabelledWindows:
        """Return all epochs of subjects that are neither validated nor tested on."""
        kept = set(split["val"]) | set(split["test"])
        names = [n for n, row in self.store.recordings.items() if row["subject"] not in kept]
        return LabelledWindows(self.store, names, labelled=False)

    def everything(
        self, loaded: LoadedModel | None, path: Path, recordings: Iterable[str] | None
    ) -> Everything:
        """Return every epoch of some recordings; raise DataError where a model is for others."""
        if loaded is not None:
            signal_transfer.refuse_other_kind(self.store, path, loaded.facts["sfreq"])
            self.refuse_other(path, self.input_facts(), loaded.facts)
        return signal_features.everything_of(self.store, loaded, recordings)

    def known_features(self) -> tuple[Sequence[str], Callable[[np.ndarray], np.ndarray]]:
        """Return the names of an epoch's features, and what makes them of epochs (b, C, T)."""
        return signal_features.known_features(self.store)

    def write_features(
        self,
        path: Path,
        names: Sequence[str],
        parts: Iterable[tuple[LabelledWindows, Callable[[], np.ndarray]]],
        facts: Mapping[str, object],
        loaded: TrainedModel | None,
    ) -> None:
        """Write features of recordings as a store with one sample an epoch."""
        recipe = signal_features.recipe_for(self.store, names, facts, loaded)
        signal_features.write_features(self.store, path, names, recipe, parts, facts)

    def test_examples(self, run: Run, external: bool) -> LabelledWindows:
        """Return what a run is judged on: its test subjects, or all that have labels elsewhere."""
        subjects = self.store.labelled_subjects if external else run.split["test"]
        labelled = signal_features.seen_by_features(self.store, "subjects_labelled")
        refuse_used(sorted((labelled | set(run.seen_labelled)) & set(subjects)), "subjects")
        gone = sorted(set(subjects) - set(self.store.subjects))
        if gone:
            raise DataError(
                f"{self.path} no longer has {len(gone)} of the {len(subjects)} subjects that "
                f"{run.path} is to be tested on ({', '.join(gone[:3])}); put them back, or "
                "fine-tune again."
            )
        names = self.store.recordings_of(subjects)
        if external:
            refuse_used(signal_transfer.learned_from(run, self.store, names), "recordings")
        examples = LabelledWindows(self.store, names)
        return examples if self.channels is None else altered(examples, self.channels)

    def check_same_input(self, run: Run, labels: Labels) -> None:
        """Raise DataError unless a fine-tuned run's classifier can be used on this store."""
        signal_features.refuse_signals(self.store, run)
        super().check_same_input(run, labels)

    def changed_since(self, run: Run) -> list[str]:
        """Return the test recordings that are not what they were when a run was begun."""
        known = run.facts.get("items", {}).get("test")
        if known is None:  # an older partsig did not keep it
            return self.index_changed(run)
        now = self.store.item_digests(self.store.recordings_of(run.split["test"]))
        changed = {name for name in known.keys() | now.keys() if known.get(name) != now.get(name)}
        return sorted(changed | set(self.store.altered(now)))

    def seen_in_pretraining(self, run: Run, examples: LabelledWindows) -> list[str]:
        """Return the units of examples whose inputs a run has seen without labels."""
        of_features = signal_features.seen_by_features(self.store, "subjects_pretraining")
        return sorted((set(run.seen_unlabelled) | of_features) & set(examples.units()[0]))


def open_dataset(path: Path) -> SignalDataset:
    """Open a store of signals; raise DataError for what is none."""
    return SignalDataset(open_store(path))
