"""Windows of a store as batches: any offset for pretraining, scored epochs for labels."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from partsig.contracts import Batch
from partsig.data.shuffling import Shuffled
from partsig.data.signals.lazy import forget
from partsig.data.signals.silence import Silenced
from partsig.data.signals.store import Store
from partsig.errors import DataError
from partsig.seeds import Stream, rng_of


class RandomWindows:
    """Windows at any offset of the continuous signals of some subjects.

    An epoch is ``per_epoch`` windows (0: as many as the signal is long), every valid start of every
    recording being equally likely. Which windows those are depends on (seed, epoch) alone, and so
    does which of their channels :meth:`silence` has set to 0.
    """

    silenced: Silenced | None = None

    def __init__(
        self,
        store: Store,
        subjects: Iterable[str],
        window: int,
        seed: int,
        per_epoch: int = 0,
        stream: Stream = Stream.WINDOWS,
    ) -> None:
        names = [name for subject in subjects for name in store.subjects[subject]]
        lengths = {name: store.recordings[name]["n_samples"] for name in names}
        self.names = [name for name in names if lengths[name] >= window]
        if not self.names:
            raise DataError(
                f"no recording of {store.path} is as long as a window "
                f"({window / store.sfreq:g} s); shorten window_s or add recordings."
            )
        store.check_signals(self.names)
        self.store, self.window = store, window
        self.seed, self.stream = seed, stream
        starts = np.array([lengths[name] - window + 1 for name in self.names])
        self._ends = np.cumsum(starts)
        self.per_epoch = per_epoch or math.ceil(sum(lengths[n] for n in self.names) / window)
        self._table: tuple[int, np.ndarray] | None = None

    def drawn(self, epoch: int) -> np.ndarray:
        """Return the windows of an epoch as (per_epoch, 2): recording number and first sample."""
        if self._table is None or self._table[0] != epoch:
            rng = rng_of(self.stream, self.seed, epoch)
            at = rng.integers(self._ends[-1], size=self.per_epoch)
            recording = np.searchsorted(self._ends, at, side="right")
            first = at - np.concatenate([[0], self._ends[:-1]])[recording]
            self._table = (epoch, np.stack([recording, first], axis=1))
        return self._table[1]

    def silence(self, chance: float, parts: int = 1) -> None:
        """From now on silence channels by ``chance``, in each of so many parts of a window anew."""
        if chance:
            self.silenced = Silenced(len(self.store.ch_names), chance, parts, self.seed)

    def batch(self, epoch: int, first: int, count: int) -> np.ndarray:
        """Return windows first…first+count-1 of an epoch, (count, C, window) as stored."""
        rows = self.drawn(epoch)[first : first + count]
        batch = np.empty((len(rows), len(self.store.ch_names), self.window), self.store.dtype)
        for out, (recording, at) in zip(batch, rows.tolist(), strict=True):
            out[:] = self.store.signal(self.names[recording])[:, at : at + self.window]
        if self.silenced is not None:
            self.silenced.apply(batch, self.silenced.kept(epoch, self.per_epoch)[first:][:count])
        return batch

    @property
    def lengths(self) -> list[int]:
        """Samples of each recording."""
        return [self.store.recordings[name]["n_samples"] for name in self.names]

    @property
    def nbytes(self) -> int:
        """Bytes of the signals, as :class:`ResidentWindows` keeps them."""
        return sum(self.lengths) * len(self.store.ch_names) * self.store.dtype.itemsize

    def describe_batch(self, epoch: int, first: int, count: int) -> str:
        """Name the recordings behind a batch whose loss is not finite, damaged windows first."""
        rows = self.drawn(epoch)[first : first + count]
        values = self.batch(epoch, first, count)
        broken = ~np.isfinite(values.astype(np.float64)).all(axis=(1, 2))
        if broken.any():
            recording, at = rows[broken][0]
            return (
                f": {broken.sum()} of its {count} windows hold values that are not finite, the "
                f"first at sample {at} of {self.names[recording]}"
            )
        names = list(dict.fromkeys(self.names[recording] for recording in rows[:, 0]))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f", windows of {', '.join(names[:3])}{more}, none of them damaged"


class ResidentWindows:
    """The same windows, cut on the device from signals that were loaded there once.

    Nothing is copied from the host but, once an epoch, the table of its windows.
    """

    def __init__(self, windows: RandomWindows, device: torch.device) -> None:
        self.windows, self.device = windows, device
        store, lengths = windows.store, windows.lengths
        self._first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        dtype = getattr(torch, store.dtype.name)
        self._flat = torch.empty(len(store.ch_names), sum(lengths), dtype=dtype, device=device)
        for name, length, at in zip(windows.names, lengths, self._first.tolist(), strict=True):
            part = torch.from_numpy(np.array(store.signal(name)))
            self._flat[:, at : at + length] = part.to(device)
        self._table: tuple[int, torch.Tensor] | None = None

    def batch(self, epoch: int, first: int, count: int) -> torch.Tensor:
        """Return windows first…first+count-1 of an epoch, (count, C, window), on the device."""
        if self._table is None or self._table[0] != epoch:
            recording, at = self.windows.drawn(epoch).T
            starts = torch.from_numpy(self._first[recording] + at).to(self.device)
            self._table = (epoch, starts)
        starts = self._table[1][first : first + count]
        every = self._flat.unfold(1, self.windows.window, 1)  # (C, starts, window), a view
        batch = every[:, starts].transpose(0, 1)  # (count, C, window)
        silenced = self.windows.silenced
        if silenced is not None:
            kept = silenced.kept(epoch, self.windows.per_epoch)[first:][:count]
            silenced.apply(batch, torch.from_numpy(kept).to(self.device))
        return batch


class LabelledWindows:
    """The epochs of some recordings, in their order: those with a label, or all.

    Epoch i, as long as the store's labels say, is number ``epoch[i]`` of recording
    ``names[recording[i]]`` and has the class ``labels[i]`` (all (n,)); the epochs of a recording
    follow one another, and ``names`` are the recordings that have any. ``n_epochs`` says how many a
    recording has, labelled or not.
    """

    grouped, item, part, unit = True, "epoch", "recording", "subject"

    def __init__(self, store: Store, recordings: Sequence[str], labelled: bool = True) -> None:
        self.store, self.labelled = store, labelled
        self.n_times = round(store.unit_s * store.sfreq)
        self.classes = store.classes
        classes, epochs, names = [], [], []
        for name in recordings:
            labels = store.labels(name)
            chosen = np.flatnonzero(labels >= 0) if labelled else np.arange(len(labels))
            if len(chosen):
                names.append(name)
                epochs.append(chosen.astype(np.int32))
                classes.append(labels[chosen])
        if not names:
            raise DataError(f"no scored epoch among recordings {', '.join(recordings[:5])}.")
        self.names = tuple(names)
        store.check_signals(names)
        self.counts = np.array([len(chosen) for chosen in epochs])
        self.recording = np.repeat(np.arange(len(names), dtype=np.int32), self.counts)
        self.epoch = np.concatenate(epochs)
        self.labels = np.concatenate(classes).astype(np.int64)
        self.n_epochs = {name: store.recordings[name]["n_epochs"] for name in recordings}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> tuple[str, ...]:
        """The store's channel that each of the windows' is."""
        return self.store.ch_names

    def by_recording(self) -> Iterator[tuple[str, slice]]:
        """Yield each recording and where its epochs lie among these."""
        ends = np.cumsum(self.counts).tolist()
        for name, first, end in zip(self.names, [0, *ends], ends, strict=False):
            yield name, slice(first, end)

    def apart(self) -> Iterator["LabelledWindows"]:
        """Yield the epochs of each recording."""
        return (LabelledWindows(self.store, [name], self.labelled) for name in self.names)

    def joined(self, others: Sequence["LabelledWindows"]) -> "LabelledWindows":
        """Return these epochs and those of other recordings of the same store."""
        names = [name for part in (self, *others) for name in part.names]
        return LabelledWindows(self.store, names, self.labelled)

    def units(self) -> tuple[list[str], np.ndarray]:
        """Return the subjects, in the order of their first epoch, and each epoch's number (n,).

        Those that are the same under two names are one.
        """
        own = [self.store.recordings[name]["subject"] for name in self.names]
        own = [self.store.twins.get(subject, subject) for subject in own]
        numbers = {subject: number for number, subject in enumerate(dict.fromkeys(own))}
        return list(numbers), np.repeat([numbers[subject] for subject in own], self.counts)

    def parts(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the recordings, and each epoch's number among them (n,)."""
        return self.names, self.recording

    def columns(self) -> tuple[list[str], Iterator[tuple]]:
        """Return what tells an epoch in a table; onsets (s) count from the recording's start."""
        return ["recording", "subject", "epoch", "onset_s"], self._rows()

    def _rows(self) -> Iterator[tuple]:
        for name, mine in self.by_recording():
            row = self.store.recordings[name]
            start, subject = float(row["start_s"] or 0), row["subject"]
            for epoch in self.epoch[mine].tolist():
                yield name, subject, epoch, f"{start + self.store.unit_s * epoch:.10g}"

    def digest(self) -> dict[str, str]:
        """Return nothing: recordings, subjects and the store's provenance tell them."""
        return {}

    def present(self) -> np.ndarray:
        """Return the numbers of the classes that occur, sorted."""
        return np.unique(self.labels)

    def in_order(self, size: int) -> Iterator[np.ndarray]:
        """Yield all epochs, (b, C, T) with b up to ``size``, in the store's type.

        What was read of a recording is given back when it is over.
        """
        held = 0
        for first in range(0, len(self), size):
            numbers = np.arange(first, min(first + size, len(self)))
            yield self.windows(numbers)
            end = first + size >= len(self)
            over = len(self.names) if end else self.recording[numbers[-1]]
            for number in range(held, over):
                forget(self.store.signal(self.names[number]))
            held = over

    def signal(self, recording: str) -> np.ndarray:
        """Return the whole signal (C, T) of a recording; DataError where it is not finite."""
        signal = self.store.signal(recording)
        if not np.isfinite(signal).all():
            raise self._not_finite(recording, signal)
        return signal

    def stretches(self, recording: str) -> list[tuple[int, int]]:
        """Return the (first, stop) of a recording's epochs between which nothing is missing."""
        return self.store.stretches(recording)

    def _not_finite(self, recording: str, signal: np.ndarray) -> DataError:
        at = int(np.flatnonzero(~np.isfinite(signal).all(0))[0])
        return DataError(
            f"{self.store.path / 'signals' / recording}.npy holds values that are not finite, the "
            f"first at sample {at:,} (epoch {at // self.n_times}): preprocess this recording again "
            "into a new --store, or leave it out."
        )

    def windows(self, index: Iterable[int], shift: Iterable[int] | None = None) -> np.ndarray:
        """Return epochs as windows (n, C, T) in the store's type.

        ``shift``: samples by which each window starts later than its epoch (negative: earlier); it
        stays within the recording. Raises DataError, naming the recording, where a value is not
        finite: features, losses and trees would be made of it without a word.
        """
        index = np.fromiter(index, np.int64)
        starts = self.epoch[index].astype(np.int64) * self.n_times
        if shift is not None:
            starts += np.fromiter(shift, np.int64, len(index))
        batch = np.empty((len(index), len(self.store.ch_names), self.n_times), self.store.dtype)
        for out, recording, at in zip(
            batch, self.recording[index].tolist(), starts.tolist(), strict=True
        ):
            signal = self.store.signal(self.names[recording])
            first = min(max(at, 0), signal.shape[1] - self.n_times)
            out[:] = signal[:, first : first + self.n_times]
        if not np.isfinite(batch).all():
            wrong = int(np.flatnonzero(~np.isfinite(batch).all(axis=(1, 2)))[0])
            name = self.names[self.recording[index[wrong]]]
            raise self._not_finite(name, self.store.signal(name))
        return batch


@dataclass(frozen=True, kw_only=True)
class ShiftedBatches:
    """A process's share of labelled epochs by step; each begins up to ``reach`` samples off.

    With a ``teacher``, further epochs without a label, and its opinion in place of labels. Whatever
    is drawn is drawn for the whole batch.
    """

    examples: LabelledWindows
    shuffled: Shuffled
    reach: int = 0
    teacher: object = None

    def __call__(self, step: int) -> Batch:
        every = self.shuffled(step)
        mine = self.shuffled.share(len(every))
        index = every[mine]
        rng = rng_of(Stream.SHIFTS, self.shuffled.seed, step)
        shift = rng.integers(-self.reach, self.reach + 1, len(every))
        x, targets, total = self.examples.windows(index, shift[mine]), None, len(every)
        if self.teacher is None:
            targets = self.examples.labels[index]
        else:
            extra, shift, opinions = self.teacher.draw(rng, total, self.reach)
            own, total = self.shuffled.share(len(extra)), total + len(extra)
            x = np.concatenate([x, self.teacher.epochs.windows(extra[own], shift[own])])
            targets = np.concatenate([self.teacher.targets[index], opinions[own]])
            targets = targets.astype(np.float32)
        return Batch(torch.from_numpy(x), torch.from_numpy(targets), first=mine.start, total=total)
