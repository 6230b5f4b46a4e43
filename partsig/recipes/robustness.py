"""How far a judgement hangs on what might have been otherwise: channels, where epochs are cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from partsig.contracts import Examples
from partsig.errors import ConfigError, check_option
from partsig.metrics.agreement import confusions, kappa, or_none
from partsig.metrics.resampling import bootstrap
from partsig.recipes.evaluation import Judged
from partsig.runs.epoch_features import read_recipe
from partsig.runs.run import Run

# Times at which an epoch is cut anew: so many, from 0 on, that divide it evenly.
SHIFTS = 6


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What is measured beside the agreement: ``shift``, with epochs cut later; ``channels``, with
    each subset of channels that is one less than all, or one alone. ``missing`` is what is done
    where a store lacks channels of the run: refuse, or fill, with zeros.
    """

    shift: bool = False
    channels: bool = False

    missing: str = "refuse"

    def __post_init__(self) -> None:
        check_option("--missing-channels", self.missing, ("refuse", "fill"))

    @property
    def options(self) -> tuple[str, ...]:
        """The options that were given, as they are typed."""
        given = {
            "--shift": self.shift,
            "--ablate-channels": self.channels,
            "--missing-channels": self.missing != "refuse",
        }
        return tuple(name for name, value in given.items() if value)

    def measure(self, judged: Judged, seed: int) -> dict[str, dict]:
        """Return what was asked for, by the key that ``metrics.json`` has it under."""
        found = {}
        if self.channels:
            found["channel_ablation"] = by_channels(judged, seed)
        if self.shift:
            found["epoch_shift"] = by_shift(judged, seed)
        return found


def by_shift(judged: Judged, seed: int) -> dict:
    """Return kappa with the epochs cut 0, 1/6, … 5/6 of their length later.

    Always of the epochs which another labelled one follows: with the label of what covers most of
    each (``kappa``), and of those alone which one class covers however late (``kappa_one_class``).
    Gains are paired differences to no shift, from the same draws of units.
    """
    dataset, unit_s = judged.dataset, judged.dataset.labels.unit_s
    if unit_s is None or not judged.examples.grouped:
        raise ConfigError(f"--shift is for epochs of recordings, not for {judged.examples.item}s.")
    rate = dataset.samples_per_unit
    samples = sorted({round(k * unit_s * rate / SHIFTS) for k in range(SHIFTS)})
    if unit_s * rate < SHIFTS:
        raise ConfigError(
            f"--shift cuts epochs at other samples, and those of {dataset.path} have "
            f"{unit_s * rate:.3g}: it is for signals, not for features of whole epochs."
        )
    rows, tables, within = [], [], []
    for later in samples:
        examples, answers = judged.ask(None, later / rate)
        all_, whole = (_tables(examples, answers, chosen) for chosen in (None, examples.within))
        tables.append(all_)
        within.append(whole)
        rows.append({"shift_s": later / rate} | _measured(all_, tables[0], "", seed)
                    | _measured(whole, within[0], "_one_class", seed))  # fmt: skip
    return {
        "epoch_s": unit_s,
        "n_epochs": int(tables[0].sum()),
        "n_epochs_one_class": int(within[0].sum()),
        "rows": rows,
    }


def by_channels(judged: Judged, seed: int) -> dict:
    """Return kappa with all channels, with each left out, and with each alone; others are silent.

    Gains are paired differences to all, from the same draws of units. Of what the store lacks, or
    of one channel, there is nothing to leave out. Band powers of a channel are left out together.
    """
    given = getattr(judged.examples, "channels", list(judged.run.ch_names))
    groups = _channels_of(judged.run)
    named = [name for name, _ in groups]
    there = [c for c, (_, at) in enumerate(groups) if any(given[i] is not None for i in at)]
    if len(there) < 2:
        raise ConfigError(
            f"--ablate-channels leaves channels out, and {judged.run.path} has "
            f"{'one' if there else 'none'} here."
        )
    subsets = [("all", there)]
    subsets += [(f"without {named[c]}", [d for d in there if d != c]) for c in there]
    if len(there) > 2:  # of two, each alone is without the other
        subsets += [(f"{named[c]} alone", [c]) for c in there]
    rows, first = [], None
    for label, kept in subsets:
        heard = {i for c in kept for i in groups[c][1]}
        examples, answers = judged.ask([g if i in heard else None for i, g in enumerate(given)])
        tables = _tables(examples, answers)
        first = tables if first is None else first
        rows.append({"channels": [named[c] for c in kept], "label": label}
                    | _measured(tables, first, "", seed))  # fmt: skip
    return {"channels": [named[c] for c in there], "rows": rows}


def _channels_of(run: Run) -> list[tuple[str, range]]:
    """Return a run's channels, each with the numbers of what it is given of it.

    That is one, its signal; or its band powers, of a run on band powers of signals.
    """
    names = run.ch_names
    recipe = read_recipe(run.path) if run.facts.get("epoch_features") else None
    if recipe is None or recipe.bands != len(names):
        return [(name, range(i, i + 1)) for i, name in enumerate(names)]
    each = len(names) // len(recipe.ch_names)
    return [(name, range(c * each, (c + 1) * each)) for c, name in enumerate(recipe.ch_names)]


def _tables(
    examples: Examples, answers: np.ndarray, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Return the confusion matrix of every unit, (U, K, K), of the epochs that were chosen."""
    names, units = examples.units()
    chosen = np.ones(len(units), bool) if chosen is None else chosen
    k = len(examples.classes)
    predicted = answers.argmax(1)
    found = confusions(examples.labels[chosen], predicted[chosen], k, units[chosen])
    # Units at the end may have no epoch among those chosen.
    return np.concatenate([found, np.zeros((len(names) - len(found), k, k), found.dtype)])


def _measured(tables: np.ndarray, first: np.ndarray, ending: str, seed: int) -> dict:
    def interval(stacked: np.ndarray, statistic: Callable) -> Sequence[float | None]:
        return [or_none(end) for end in bootstrap(stacked, statistic, seed=seed)]

    both = np.stack([first, tables], axis=1)  # (U, 2, K, K)
    value, usual = (float(kappa(each.sum(0))) for each in (tables, first))
    return {
        f"kappa{ending}": or_none(value),
        f"kappa{ending}_interval_95": interval(tables, kappa),
        f"gain{ending}": or_none(value - usual),
        f"gain{ending}_interval_95": interval(
            both, lambda drawn: np.subtract(kappa(drawn[..., 1, :, :]), kappa(drawn[..., 0, :, :]))
        ),
    }


def told(judged: Judged, measured: dict[str, dict]) -> list[str]:
    """Return in a line each which channels are missing, and what was measured beside."""
    n = len(judged.examples.parts()[0]) if judged.missing else 0
    lines = [
        f"{name} missing in {count:,} of {n:,} {judged.examples.part}s, zeros in its place"
        for name, count in judged.missing.items()
    ]
    if "epoch_shift" in measured:
        rows = measured["epoch_shift"]["rows"]
        told = ", ".join(f"{_number(row['kappa'])} at {row['shift_s']:g} s" for row in rows)
        lines.append(f"kappa with epochs cut later: {told}")
    if "channel_ablation" in measured:
        rows = measured["channel_ablation"]["rows"]
        told = ", ".join(f"{_number(row['kappa'])} {row['label']}" for row in rows)
        lines.append(f"kappa by channels: {told}")
    return lines


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
