"""A run on another store of signals: of other channels, of another rate, of the same recordings."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from partsig.commands import option
from partsig.data.signals.landmarks import encode, fingerprint, found_in, is_current
from partsig.data.signals.lazy import forget
from partsig.data.signals.scaling import unit_of
from partsig.data.signals.store import Store, open_store
from partsig.data.store import INDEX
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities.signal_settings import SignalFinetuneConfig
from partsig.runs.run import Run
from partsig.tasks.settings import MOST_SAMPLES
from partsig.text import listed, quoted


def channels_from(store: Store, run: Run, settings: SignalFinetuneConfig) -> tuple[int | None, ...]:
    """Return whose weights of a run's encoder each of a store's channels takes, by number.

    A channel takes those of the channel that ``settings.channels`` names, else of its own name;
    else, with ``adapt=channels``, nobody's (None). Raises CheckpointError where that is not said,
    and for another rate, ConfigError for names that are not there.
    """
    theirs, rate = run.ch_names, run.facts["sfreq"]
    refuse_other_kind(store, run.path, rate)
    if store.sfreq != rate:
        raise CheckpointError(
            f"{run.path} was pretrained at {rate:g} Hz; {store.path} is at {store.sfreq:g} Hz. "
            f"Make a store at that rate: {same_again(store, sfreq=rate)}"
        )
    unit, known = store.unit, unit_of(run.facts)
    if unit != known:
        raise CheckpointError(
            f"{run.path} was pretrained on signals in {known}, and those of {store.path} are in "
            f"{unit}: preprocess both with the same normalise."
        )
    if run.config.get("patch_s", 0) > store.unit_s and not settings.context.through:
        way = "start from a run with shorter ones."
        if store.unit_s * store.sfreq <= MOST_SAMPLES:
            way = (
                "label epochs from those around them with --task night-context, and --config "
                "night-through, which trains it further, or --from scratch."
            )
        raise CheckpointError(
            f"{run.path} takes patches of {run.config['patch_s']:g} s, longer than the "
            f"{store.unit_s:g} s that a label of {store.path} is of: {way}"
        )
    ours = list(store.ch_names)
    if ours == theirs and not settings.channels:
        return tuple(range(len(ours)))
    named = settings.channels
    _check_names(named, ours, str(store.path))
    _check_names(named.values(), theirs, str(run.path))
    if ours != theirs and not settings.other_channels:
        raise CheckpointError(
            f"{run.path} was pretrained on {listed(theirs)}; {store.path} has {listed(ours)}. "
            f"Say whose weights each takes (--channels {shlex.quote(f'{ours[0]}={theirs[0]}')} …), "
            "give the others weights of their own, which are trained (--set adapt=channels), or "
            "make a store of the same channels."
        )
    taken = [theirs.index(said) if (said := named.get(name, name)) in theirs else None
             for name in ours]  # fmt: skip
    lost = [name for name, whose in zip(ours, taken, strict=True) if whose is None]
    if lost and settings.adapt != "channels":
        raise CheckpointError(
            f"{run.path} has no channel {listed(lost)}: say whose weights each takes (--channels "
            f"{shlex.quote(f'{lost[0]}={theirs[0]}')}), or add --set adapt=channels, which gives "
            "them weights of their own."
        )
    return tuple(taken)


def refuse_other_kind(store: Store, who: object, rate: float) -> None:
    """Raise CheckpointError where one is of signals, at ``rate`` (Hz), and one of their features.

    No setting of ``preprocess`` makes the one of the other.
    """
    theirs, ours = (r * store.unit_s <= MOST_SAMPLES for r in (rate, store.sfreq))
    if ours and not theirs:
        raise CheckpointError(
            f"{who} takes signals at {rate:g} Hz, and {store.path} holds features of epochs: pass "
            "the store of signals that they are made of."
        )
    if theirs and not ours:
        raise CheckpointError(
            f"{who} takes features of epochs, and {store.path} holds signals: make a store of "
            "features of it, by `partsig embed --as-store`, as the one that it was trained on."
        )


def fitted_channels(store: Store, run: Run, missing: str) -> tuple[str | None, ...] | None:
    """Return the store's channel for each of a fine-tuned run's, None for those that it lacks.

    None where the store is taken as it is: with the same channels, or where ``missing`` is refuse.
    Raises DataError where it lacks some and that is refused, or has none of those that may be
    filled.
    """
    known, asked = store.ch_names, tuple(run.ch_names)
    gone = [name for name in asked if name not in known]
    if len(gone) == len(asked):
        if missing == "refuse":
            return None  # another montage, or no signals in µV: told as any other difference
        raise DataError(
            f"{store.path} has none of the channels that {run.path} takes ({listed(asked)}); it "
            f"has {listed(known)}."
        )
    if gone and missing == "refuse":
        raise DataError(
            f"{store.path} lacks {listed(gone)} of the channels that {run.path} takes; it has "
            f"{listed(known)}. Preprocess it again with those, or pass --missing-channels fill for "
            f"zeros in their place ({trained_for(run)})."
        )
    if known == asked or missing == "refuse":
        return None
    return tuple(name if name in known else None for name in asked)


def trained_for(run: Run) -> str:
    """Return whether a run has learned to do without a channel, as a part of a sentence."""
    loss = run.config.get("loss")
    chance = loss.get("channel_dropout") if isinstance(loss, Mapping) else None
    if isinstance(chance, int | float) and 0 < chance < 1:
        return f"it was trained with loss.channel_dropout={chance:g}"
    return "it was trained without channel dropout, so that it never did without one"


def missing_channels(store: Store, run: Run, names: Sequence[str]) -> dict[str, int]:
    """Return which of a run's channels are zeros, and in how many of the recordings ``names``.

    The store lacks them, or they were filled when it was made; of features, when the signals were
    that they are made of.
    """
    filled = Counter(
        told for name in names for told in (store.recordings[name]["filled"] or "").split("; ")
    )
    silent = {name: filled[name] if name in store.ch_names else len(names) for name in run.ch_names}
    silent |= {name: n for name, n in filled.items() if name and name not in store.ch_names}
    return {name: n for name, n in silent.items() if n}


def same_again(store: Store, **changed: float | None) -> str:
    """Return the command that makes a store again with other settings, for a shell."""
    meta = store.meta
    filters = {key: meta["filter"][key] for key in ("l_freq", "h_freq")}
    numbers = {"sfreq": store.sfreq, **filters} | changed
    told = [option("channels", list(store.ch_names))]
    told += [
        f"--set {key}={'null' if value is None else f'{value:g}'}" for key, value in numbers.items()
    ]
    source = shlex.quote(meta["source"])
    return f"partsig preprocess {source} --raw RAW --store NEW {' '.join(told)}"


def learned_from(run: Run, store: Store, names: Sequence[str]) -> list[str]:
    """Return which recordings of a store a run has learned from, or was chosen by, elsewhere.

    Told by their fingerprints, under whatever name, which are computed anew for recordings that an
    earlier partsig stored; nothing is told where the run's own store is not at hand.
    """
    if not (run.store / INDEX).is_file():
        return []
    theirs, used = open_store(run.store), set(run.seen_labelled)
    others = [row for row in theirs.rows if row["subject"] in used]
    ours = [store.recordings[name] for name in names]
    return found_in(
        [_with_fingerprint(store, row) for row in ours],
        [_with_fingerprint(theirs, row) for row in others],
    )


def _with_fingerprint(store: Store, row: Mapping[str, object]) -> dict[str, object]:
    """Return a row of a store's index, with a fingerprint of today's kind."""
    if is_current(row["fingerprint"]):
        return dict(row)
    signal = store.signal(str(row["recording"]))
    text = encode(fingerprint(signal, store.sfreq))
    forget(signal)  # the next ones need the room
    return {**row, "fingerprint": text}


def _check_names(names: Iterable[str], there: Sequence[str], where: str) -> None:
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ConfigError(
            f"channels: {where} has no channel {quoted(unknown[0])}; it has {listed(there)}."
        )
