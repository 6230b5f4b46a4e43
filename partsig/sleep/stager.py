"""From one recording and a fine-tuned run to a hypnogram that can be checked."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from partsig import config as configs
from partsig.core.objectives.supervised import SupervisedModule
from partsig.data.signals.channels import MissingChannelsError
from partsig.data.signals.hypnograms.stages import UNSCORED, n_epochs
from partsig.data.signals.lazy import OnDisk
from partsig.data.signals.preprocessing import PreprocessConfig, filtered
from partsig.data.signals.quality import GOOD, find_faults, is_eeg
from partsig.data.signals.readers import edf_recordings, psg, wfdb_records
from partsig.data.signals.readers.guarded import read_recording
from partsig.data.signals.recordings import Recording
from partsig.data.signals.scaling import SCALED_UNIT, unit_of
from partsig.data.signals.store_index import gaps_within, unbroken
from partsig.errors import ConfigError, DataError, DiskFullError
from partsig.metrics.calibration import tempered
from partsig.modalities.signal_transfer import trained_for
from partsig.places import place_name
from partsig.runs import directory as runs
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH
from partsig.sleep import oddity, review
from partsig.sleep.audit import measure as nights
from partsig.sleep.epoch_features import EpochFeatures, features_of, scaled_copy
from partsig.sleep.settings import StageConfig
from partsig.sleep.stagers import predict_signal
from partsig.sleep.staging import Staging
from partsig.sleep.staging_task import staging_run
from partsig.tasks import registry as tasks
from partsig.train import distributed

if TYPE_CHECKING:
    import mne


# The SD of a normal distribution over its median absolute deviation.
MAD_TO_SD = 1.4826
# Bytes up to which a signal is held in memory, beside the network: six hours of six channels.
HELD = 2**26


@dataclass(frozen=True, kw_only=True)
class LoadedStager:
    """A fine-tuned run, ready to stage: its network, what it says of itself, where it computes.

    ``features`` make those of every epoch that the network is given; None: it is given signals.
    """

    model: SupervisedModule
    run: Run
    facts: dict[str, object]
    device: torch.device
    features: EpochFeatures | None = None

    def provenance(self, settings: StageConfig, recording: str) -> dict[str, object]:
        """Return what a recording's staging says of the stager, and of how it was used.

        Runs are told by their names, and hypnograms' places without their folders.
        """
        told = replace(settings, hypnogram=settings.hypnogram.as_told(recording))
        return self.facts | {"settings": configs.to_dict(told)}

    def probabilities(
        self, recording: Recording, signal: np.ndarray | OnDisk, sfreq: float
    ) -> np.ndarray:
        """Return calibrated stage probabilities (E, 5) of a recording's filtered signal (C, T)."""
        end = recording.start_s + signal.shape[1] / sfreq
        gaps = gaps_within(recording.gaps, recording.start_s, end)
        epoch_s = self.run.labels.unit_s
        pieces = unbroken(gaps, n_epochs(signal.shape[1], sfreq, epoch_s), epoch_s)
        if self.features is not None:
            stored = len(recording.stages)
            signal, sfreq = self.features.of_signal(signal, gaps, stored), 1 / epoch_s
        elif unit_of(self.run.facts) == SCALED_UNIT:
            told = {"ch_names": self.run.ch_names, "sfreq": sfreq, "unit_s": epoch_s}
            signal = scaled_copy(signal, **told, gaps=gaps)
        answers = predict_signal(self.model, signal, sfreq, self.device, pieces, epoch_s)
        return tempered(answers, self.facts["temperature"])


def load(path: str | Path | None = None, device: str = "auto") -> LoadedStager:
    """Return a fine-tuned run as a stager; the one that finished last where none is given.

    Raises CheckpointError for what is no such run, or one of an older partsig.
    """
    path = Path(path) if path else runs.last("finetune")
    run = staging_run(path)
    where = distributed.pick_device(device)
    features = features_of(run, where)
    model = tasks.get(run.task).load(run)
    runs.check_kept(path, run.facts, ("filter", "calibration"))
    calibration, n_val = run.calibration, run.n_units("val")
    facts = {
        "run": place_name(path),
        "partsig": run.facts["environment"]["partsig"],
        "finished": run.facts["finished"],
        "pretrained": run.origin.told,
        "train_subjects": run.n_units("train"),
        "train_epochs": run.n_train,
        "ch_names": list((run if features is None else features.recipe).ch_names),
        **({} if features is None else {"features": features.recipe.in_words}),
        "temperature": calibration["temperature"],
        "calibrated_on": f"{calibration['n_epochs']} epochs of {n_val} subjects",
        "val_kappa": run.facts["val_kappa"],
        "review_by": calibration["review_by"],
    }
    return LoadedStager(model=model, run=run, facts=facts, device=where, features=features)


def _settings(stager: LoadedStager, settings: StageConfig) -> PreprocessConfig:
    run, made = stager.run, stager.features
    sfreq, kept = run.samples_per_unit, run.facts["filter"]
    if made is not None:
        sfreq, kept = made.recipe.sfreq, made.recipe.filter
    return PreprocessConfig(
        channels=tuple(stager.facts["ch_names"]),
        aliases=settings.aliases,
        missing=settings.missing,
        unit=settings.unit,
        units=settings.units,
        hypnogram=settings.hypnogram,
        sfreq=sfreq,
        epoch_s=run.labels.unit_s,
        l_freq=kept["l_freq"],
        h_freq=kept["h_freq"],
    )


def source_of(path: Path, settings: StageConfig) -> str:
    """Return the fingerprint of a recording's files, without reading any sample of it."""
    if path.suffix.lower() == ".hea":
        return wfdb_records.fingerprint(path)
    beside = edf_recordings.find_scorings(path, settings.hypnogram) if settings.scored else {}
    return psg.fingerprint(path, *beside.values())


def read(
    recording: "str | Path | mne.io.BaseRaw", stager: LoadedStager, settings: StageConfig
) -> Recording:
    """Return the recording as the stager needs it: its channels chosen, nothing filtered.

    Raises DataError for what cannot be read, and for one that lacks the stager's channels.
    """
    reading = _settings(stager, settings)
    try:
        if hasattr(recording, "first_samp"):
            names = [Path(f).stem for f in recording.filenames or () if f]
            file = psg.from_raw(recording, names[0] if names else "raw")
            file = file if settings.scored else replace(file, marks=())
            return edf_recordings.night_of(file, file.name, {}, reading, (), "", needed=False)
        if not isinstance(recording, str | Path):
            raise DataError(
                f"a recording is a file's path or an mne.io.Raw, not {type(recording).__name__}."
            )
        path = Path(recording)
        if not path.exists():
            raise DataError(f"no recording {path}.")
        return read_recording(partial(_read_file, settings=settings), path, reading)
    except MissingChannelsError as error:
        advice = (
            f". If one of them is the very same under another name, pass "
            f"--set {shlex.quote(error.aliases)}; else use a run trained on these channels, or "
            f"pass --missing-channels fill for zeros in their place ({trained_for(stager.run)})."
        )
        raise DataError(
            f"{error.name}: the stager {stager.run.path} needs {', '.join(reading.channels)}; "
            f"not found: {', '.join(error.channels)}. It has {', '.join(error.labels) or 'none'}"
            + (error.no_signal or advice)
        ) from None


def _read_file(path: Path, reading: PreprocessConfig, settings: StageConfig) -> Recording:
    """Return the recording in a file, with the stages that came with it where they are taken."""
    if path.suffix.lower() == ".hea":
        return wfdb_records.read_recording(path, reading)
    if settings.scored:
        try:
            beside = edf_recordings.find_scorings(path, settings.hypnogram)
            return edf_recordings.read_night(path, beside, reading, ())
        except MissingChannelsError:
            raise
        except DataError as error:
            _read_file(path, reading, replace(settings, scored=False))  # is it the stages?
            raise DataError(f"{error} Without its stages: --set scored=false.") from None
    file, source = replace(psg.open_psg(path), marks=()), source_of(path, settings)
    return edf_recordings.night_of(file, path.name, {}, reading, (), source, needed=False)


def staged(stager: LoadedStager, recording: Recording, settings: StageConfig) -> Staging:
    """Stage one recording that was read by :func:`read`."""
    reading = _settings(stager, settings)
    signal = _filtered(recording, reading)
    epoch_s = reading.epoch_s
    n = n_epochs(signal.shape[1], reading.sfreq, epoch_s)
    length = nights.duration(recording)
    if not n:
        raise DataError(f"{recording.name}: {length:.3g} s hold no whole epoch of {epoch_s:g} s.")
    quality, notes = _look_at(recording, n, epoch_s)
    if recording.filled:
        notes.append(f"the stager does without what is filled: {trained_for(stager.run)}")
    unusable = _unusable(recording, quality, settings.good_share, epoch_s)
    usable = np.array([not why for why in unusable])
    probabilities = stager.probabilities(recording, signal, reading.sfreq)
    notes += [] if stager.features is None else stager.features.notes
    probabilities[~usable] = np.nan
    stages = np.where(usable, np.nan_to_num(probabilities).argmax(1), UNSCORED).astype(np.int8)
    odd = _oddity(stager, np.asarray(signal), reading.sfreq) if settings.oddity else None
    scored = recording.stages[:n] if settings.scored else np.zeros(0, np.int8)
    has_scores = bool((scored != UNSCORED).any())
    return Staging(
        name=recording.name,
        ch_names=recording.ch_names,
        channels_missing=recording.filled,
        start=recording.start if settings.dates else None,
        start_s=recording.start_s,
        duration_s=recording.start_s + length,
        epoch_s=epoch_s,
        stages=stages,
        unusable=unusable,
        probabilities=probabilities,
        scored=_fitted(scored, n, UNSCORED) if has_scores else None,
        review=review.suspects(
            probabilities,
            np.array(stager.run.calibration["prior"]),
            stager.facts["review_by"],
            quality,
            None if odd is None else _stand_out(odd, n, settings.odd, epoch_s),
            settings.review_share,
        ),
        quality=quality,
        oddity=None if odd is None else _from_start(odd, recording.start_s),
        notes=(*recording.notes, *notes),
        source=recording.source,
        stager=stager.provenance(settings, recording.name),
        signal=signal.mapped() if isinstance(signal, OnDisk) else signal,
        sfreq=reading.sfreq,
    )


def _filtered(recording: Recording, reading: PreprocessConfig) -> np.ndarray | OnDisk:
    """Return the signal (C, T) as the stager's training signal was, or refuse the recording."""
    least = 2 * (reading.h_freq or 0)
    for part in recording.parts:
        if part.sfreq <= least:
            raise DataError(
                f"{recording.name}: {', '.join(part.labels)} at {part.sfreq:g} Hz; the stager "
                f"needs more than {least:g} Hz: export the recording at a higher rate."
            )
    try:
        return filtered(recording, reading, held=HELD)
    except DiskFullError:
        raise  # no fault of this recording: the others would meet it too
    except (DataError, ConfigError) as error:  # its rate does not suit the run's filter
        raise DataError(f"{recording.name}: {error}") from None


def _look_at(
    recording: Recording, n: int, epoch_s: float
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the code (n,) of every epoch of every channel, and sentences on channels."""
    quality, notes = {}, []
    for c, name in enumerate(recording.ch_names):
        signal, clipped, sfreq = nights.read_channel(recording, c)
        try:
            faults = find_faults(signal, sfreq, clipped, is_eeg(name))
        except DataError as error:
            raise DataError(f"{recording.name}: channel {name!r}: {error}.") from None
        quality[name] = _fitted(faults.of_epochs(epoch_s), n)
        if faults.factor != 1:
            notes.append(
                f"{name} looks {1 / faults.factor:g} times as large as it can be: its unit"
            )
    notes += [
        f"{name} cannot be used in any epoch"
        for name, codes in quality.items()
        if (codes != GOOD).all() and name not in recording.filled
    ]
    notes += [f"{name} is not there and was filled with zeros" for name in recording.filled]
    return quality, notes


def _oddity(stager: LoadedStager, signal: np.ndarray, sfreq: float) -> np.ndarray:
    """Return the oddity (S,) of every second of a signal (C, T), from the run's pretraining."""
    origin = stager.run.facts["from"]
    if origin == SCRATCH:
        raise ConfigError(
            f"oddity needs a pretrained run, and {stager.run.path} was trained from scratch."
        )
    return oddity.oddity(origin, signal, sfreq, device=str(stager.device))


def _stand_out(values: np.ndarray, n: int, limit: float, epoch_s: float) -> np.ndarray:
    """Return (n,) bool: epochs with a second that is ``limit`` robust SDs above the usual."""
    usual = np.nanmedian(values)
    spread = MAD_TO_SD * np.nanmedian(abs(values - usual))
    at = np.flatnonzero(np.nan_to_num(values, nan=usual) > usual + limit * spread)
    odd = np.zeros(n, bool)
    epochs = ((at + 0.5) // epoch_s).astype(int)
    odd[epochs[epochs < n]] = True
    return odd


def _from_start(values: np.ndarray, start_s: float) -> np.ndarray:
    """Return seconds counted from the recording's start, nan before the first epoch."""
    return np.append(np.full(round(start_s), np.nan), values)


def _fitted(codes: np.ndarray, n: int, beyond: int = GOOD) -> np.ndarray:
    """Return codes (n,): cut, or continued by ``beyond`` (filters round a length up or down)."""
    return np.append(codes[:n], np.full(max(n - len(codes), 0), beyond)).astype(np.int8)


def _unusable(
    recording: Recording, quality: Mapping[str, np.ndarray], good_share: float, epoch_s: float
) -> tuple[str, ...]:
    """Return why each epoch (E) cannot be staged, "" where it can.

    Channels that are not there, and were filled, are not counted.
    """
    there = [name for name in recording.ch_names if name not in recording.filled]
    codes = np.stack([quality[name] for name in there])  # (C, E)
    onsets = recording.start_s + epoch_s * np.arange(codes.shape[1])
    begins, ends = np.array(sorted(recording.gaps)).reshape(-1, 2).T
    # The latest end of the gaps that begin before an epoch is over.
    latest = np.append(-np.inf, np.maximum.accumulate(ends))
    gaps = latest[np.searchsorted(begins, onsets + epoch_s)] > onsets
    reasons = []
    for gap, column in zip(gaps, codes.T, strict=True):
        if gap:
            reasons.append("gap in the recording")
        elif (column == GOOD).mean() < good_share:
            reasons.append(review.name_faults(there, column))
        else:
            reasons.append("")
    return tuple(reasons)
