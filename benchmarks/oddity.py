"""Does PART's oddity score find planted artefacts, and better than measures that learn nothing?

Run: ``python benchmarks/oddity.py WORK`` after ``benchmarks/pc18_segments.py RAW --work WORK`` and
``benchmarks/pretext.py WORK``, whose store and runs it uses.

A subject's 60-s segments are joined to one recording; into each segment one artefact of 1 to 5 s is
planted, of a kind, a strength and a number of channels drawn at random, the same for all scores.
AUC of its seconds against the subject's seconds without any, averaged over artefacts within each
subject and then over subjects; seconds that are covered by less than half, and those next to a
joint, do not count. The score was chosen among CANDIDATES on the runs' monitor subjects, which no
run was trained on; test subjects only report. Writes benchmarks/results/oddity.json.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "oddity.json"
# Three seeds each: 5-s windows at three stages of learning the pretext.
RUNS = {
    "histogram, 5,000 steps": "pretext/longest-histogram-s",
    "histogram, 1,200 steps": "pretext/long-histogram-s",
    "laplace, 1,200 steps": "pretext/long-laplace-s",
}
CHOSEN_ON = "histogram, 5,000 steps"
SEEDS = (0, 1, 2)
KINDS = ("pop", "flat", "movement", "emg", "mains", "sweat", "clipped", "ecg", "white")
STRENGTHS = (1.0, 3.0)  # in standard deviations of the subject's channel
PER_SUBJECT, ROUNDS, SECONDS, SFREQ = 8, 4, 60, 100
MARGIN = 4  # seconds at either end of a segment that do not count: a window less a second
BANDS = ((0.5, 4), (4, 8), (8, 12), (12, 16), (16, 30))


def coloured(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """Return (n,) noise of SD 1 between two frequencies (Hz), faded in and out over 0.1 s."""
    freqs = np.fft.rfftfreq(n + 400, 1 / SFREQ)
    spectrum = np.fft.rfft(rng.standard_normal(n + 400))
    noise = np.fft.irfft(np.where((freqs >= low) & (freqs <= high), spectrum, 0), n + 400)
    noise = noise[200 : 200 + n]
    return noise / noise.std() * fade(n)


def fade(n: int) -> np.ndarray:
    """Return (n,) weights that rise from 0 to 1 and fall within 0.1 s."""
    at = np.arange(1, n + 1)
    return np.minimum(1, np.minimum(at, at[::-1]) / (0.1 * SFREQ))


def additive(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) what an artefact of this kind adds, for a strength and an SD of 1."""
    t = np.arange(n) / SFREQ
    if kind == "pop":
        return 3 * np.exp(-t / 0.4)
    if kind == "movement":
        return coloured(rng, n, 0.5, 3)
    if kind == "emg":
        return coloured(rng, n, 20, 30)
    if kind == "mains":  # 25 Hz: what the store's 30-Hz low-pass leaves of a narrow line
        return np.sqrt(2) * np.sin(2 * np.pi * (25 * t + rng.random())) * fade(n)
    if kind == "sweat":  # half a period in 1 to 5 s: 0.1 to 0.5 Hz
        return np.sqrt(2) * np.sin(np.pi * t / t[-1])
    period = rng.uniform(0.7, 1.1)  # of a heart
    beats = np.arange(rng.uniform(0, period), n / SFREQ, period)[:, None]
    spike = np.exp(-(((t - beats) / 0.02) ** 2) / 2)
    return 3 * (spike - 0.3 * np.exp(-(((t - beats - 0.04) / 0.025) ** 2) / 2)).sum(0)


def plant(x, kind, at, n, channels, strength, sd, rng) -> np.ndarray:
    """Return a copy of ``x`` (C, T) with an artefact on samples at…at+n of these channels."""
    x = x.copy()
    added = np.zeros(n) if kind in ("flat", "clipped", "white") else additive(kind, n, rng)
    sign = rng.choice([-1, 1])
    for c in channels:
        own = x[c, at : at + n]
        if kind == "flat":
            own[:] = own[0]
        elif kind == "clipped":
            own[:] = np.clip((own - own.mean()) * 2 * strength, -2 * sd[c], 2 * sd[c])
        elif kind == "white":
            own[:] = strength * sd[c] * rng.standard_normal(n)
        else:
            own += sign * strength * sd[c] * added
    return x


def recordings(store, subjects, least: int):
    """Yield (subject, signal (C, T), labels (S,)): 0 clean, -1 not counted, else 1 + condition."""
    kept = [subject for subject in subjects if len(store.subjects[subject]) >= least]
    for number, subject in enumerate(kept):
        clean = [np.array(store.signal(name), float) for name in store.subjects[subject]]
        clean = [x - np.median(x, axis=1, keepdims=True) for x in clean[:PER_SUBJECT]]
        sd = np.median([x.std(1) for x in clean], axis=0).clip(1)
        for again in range(ROUNDS):
            signals, labels = [], []
            for segment, x in enumerate(clean):
                rng = np.random.default_rng([number, segment, again])
                condition = int(rng.integers(4 * len(KINDS)))
                kind, strength = KINDS[condition // 4], STRENGTHS[condition % 2]
                n = int(rng.integers(SFREQ, 5 * SFREQ + 1))
                edge = (MARGIN + 2) * SFREQ
                at = int(rng.integers(edge, x.shape[1] - edge - n))
                one = [int(rng.integers(len(x)))]
                channels = range(len(x)) if condition // 2 % 2 else one
                signals.append(plant(x, kind, at, n, channels, strength, sd, rng))
                covered = np.zeros(SECONDS * SFREQ)
                covered[at : at + n] = 1
                covered = covered.reshape(SECONDS, SFREQ).mean(1)
                label = np.where(covered >= 0.5, 1 + condition, np.where(covered > 0, -1, 0))
                label[:MARGIN] = label[-MARGIN:] = -1
                labels.append(label)
            yield subject, np.concatenate(signals, axis=1), np.concatenate(labels)


def amplitude(x: np.ndarray) -> np.ndarray:
    """Return (S,): |log SD less the recording's median|, the largest of the channels."""
    seconds = x.reshape(len(x), -1, SFREQ)
    level = np.log(seconds.std(2).clip(0.01))
    return np.abs(level - np.median(level, axis=1, keepdims=True)).max(0)


def band_power(x: np.ndarray) -> np.ndarray:
    """Return (S,): the largest robust |z| of log power over channels and bands."""
    seconds = x.reshape(len(x), -1, SFREQ)
    seconds = (seconds - seconds.mean(2, keepdims=True)) * np.hanning(SFREQ)
    power = np.abs(np.fft.rfft(seconds)) ** 2
    freqs = np.fft.rfftfreq(SFREQ, 1 / SFREQ)
    worst = []
    for low, high in BANDS:
        level = np.log(power[..., (freqs >= low) & (freqs < high)].sum(-1) + 1e-2)
        apart = np.abs(level - np.median(level, axis=1, keepdims=True))
        worst.append(apart / (1.4826 * np.median(apart, axis=1, keepdims=True) + 1e-9))
    return np.max(worst, axis=(0, 1))


def both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (S,): Fisher's sum of the negative logarithms of two scores' ranks from above."""
    n = len(one)
    ranks = [(n - s.argsort().argsort() - 0.5) / n for s in (one, other)]
    return -np.log(ranks[0]) - np.log(ranks[1])


def candidates(loaded, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores (S,) among which one was chosen."""
    from partsig.core.placing import disagreement
    from partsig.sleep.oddity import Tally, placings

    found = {}
    for local in (True, False):
        label = "usual amplitude" if local else "window's amplitude"
        tallies: dict[str, Tally] = {}
        for begin, placing in placings(
            loaded, x.astype(np.float32), draws=1, seed=0, device="cpu", local=local
        ):
            apart = disagreement(placing).nan_to_num(1.0).unsqueeze(1)
            values = {
                "surprise": placing.surprise,
                "error": (placing.shift - placing.true)[..., 0].abs(),
                "spread": placing.spread[..., 0].log(),
                "disagreement": apart.expand_as(placing.surprise),
            }
            for name, value in values.items():
                tally = tallies.setdefault(name, Tally(x.shape[1] // SFREQ, SFREQ, loaded.model))
                tally.add(begin, placing, value)
        found |= {f"{name}, {label}": tally.score() for name, tally in tallies.items()}
    surprise, spread = (found[f"{name}, usual amplitude"] for name in ("surprise", "spread"))
    found["surprise or spread, usual amplitude"] = np.maximum(surprise, np.abs(spread))
    return found


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return how often a positive is above a negative, ties half."""
    negative = np.sort(negative)
    below = np.searchsorted(negative, positive, "left")
    upto = np.searchsorted(negative, positive, "right")
    return float(((below + upto) / 2).mean() / len(negative))


class Areas:
    """AUCs by score and condition, averaged within subjects first."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, dict[str, list[float]]]] = {}

    def add(self, subject: str, labels: np.ndarray, scores: dict[str, np.ndarray]) -> None:
        """Add a recording's."""
        for name, score in scores.items():
            for condition in np.unique(labels[labels > 0]) - 1:
                auc = area(score[labels == condition + 1], score[labels == 0])
                for group in (
                    KINDS[condition // 4],
                    f"strength {STRENGTHS[condition % 2]:g}",
                    "all channels" if condition // 2 % 2 else "one channel",
                ):
                    rows = self.found.setdefault(name, {}).setdefault(group, {})
                    rows.setdefault(subject, []).append(auc)

    def table(self) -> dict[str, dict[str, float]]:
        """Return the mean over subjects by score and group; ``mean`` is that of the kinds."""
        result = {}
        for name, groups in self.found.items():
            row = {
                group: float(np.mean([np.mean(v) for v in by_subject.values()]))
                for group, by_subject in sorted(groups.items())
            }
            result[name] = {"mean": float(np.mean([row[kind] for kind in KINDS]))} | row
        return result


def over_seeds(tables: list[dict]) -> dict:
    """Return [mean, SD] over seeds of tables by score and group."""
    return {
        name: {
            group: [statistics.mean(v), statistics.stdev(v)]
            for group in row
            for v in [[table[name][group] for table in tables]]
        }
        for name, row in tables[0].items()
    }


def speed(part) -> dict[str, float]:
    """Return how long a night of 27,000 s takes, and how busy the machine was."""
    import torch

    from partsig.sleep.oddity import oddity

    x = np.random.default_rng(0).standard_normal((len(part.ch_names), 27_000 * SFREQ))
    torch.set_num_threads(2)
    oddity(part, x[:, : 60 * SFREQ], SFREQ)
    wall, cpu = time.perf_counter(), time.process_time()
    oddity(part, x, SFREQ)
    found = {
        "night_s": 27_000,
        "channels": len(x),
        "threads": 2,
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "load_average": os.getloadavg()[0],
    }
    print(found)
    return found


def main() -> None:
    """Choose, report, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--only-speed", action="store_true", help="time again, keep the rest")
    given = parser.parse_args()
    work = given.work.resolve()
    from partsig.data.signals.store import open_store
    from partsig.runs import directory as runs
    from partsig.sleep.oddity import load_part, oddity
    from partsig.train.journal import read_metrics

    if given.only_speed:
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
        result["speed"] = speed(load_part(f"{work / RUNS[CHOSEN_ON]}{SEEDS[0]}"))
        result["speed"]["date"] = runs.now()
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return
    store = open_store(work / "store")
    loaded = {name: [load_part(f"{work / run}{s}") for s in SEEDS] for name, run in RUNS.items()}
    record = loaded[CHOSEN_ON][0].record
    monitor = sorted(set(record["subjects_seen"]) - set(record["subjects_trained"]))
    chosen = []
    for part in loaded[CHOSEN_ON]:
        areas = Areas()
        for subject, x, labels in recordings(store, monitor, least=2):
            areas.add(subject, labels, candidates(part, x))
        chosen.append(areas.table())
    choice = over_seeds(chosen)
    for name, row in sorted(choice.items(), key=lambda item: -item[1]["mean"][0]):
        print(f"{name:40} {row['mean'][0]:.3f} ± {row['mean'][1]:.3f}", flush=True)
    test = record["subjects_held_out"]
    for parts in loaded.values():
        for part in parts:
            assert not set(test) & set(part.record["subjects_seen"])  # noqa: S101
    report, pretext, subjects = {}, {}, set()
    for name, parts in loaded.items():
        tables = []
        for part in parts:
            areas = Areas()
            for subject, x, labels in recordings(store, test, least=4):
                subjects.add(subject)
                score, bands = oddity(part, x, SFREQ), band_power(x)
                scores = {"PART": score, "band power": bands, "amplitude": amplitude(x)}
                scores["PART and band power"] = both(score, bands)
                scores["amplitude and band power"] = both(scores["amplitude"], bands)
                areas.add(subject, labels, scores)
            tables.append(areas.table())
        report[name] = over_seeds(tables)
        last = [
            [line for line in read_metrics(Path(f"{work / RUNS[name]}{s}")) if "val_loss" in line]
            for s in SEEDS
        ]
        pretext[name] = [lines[-1]["val_mse/chance"] for lines in last]
        for row, values in report[name].items():
            cells = "  ".join(f"{group} {m:.3f}±{sd:.3f}" for group, (m, sd) in values.items())
            print(f"{name}: {row:26} {cells}", flush=True)
    timing = speed(loaded[CHOSEN_ON][0])
    result = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/oddity.py WORK",
        "date": runs.now(),
        "machine": platform.machine(),
        "environment": runs.environment(),
        "split_unit": "subject (group); AUC averaged within subjects, then over them",
        "pretraining_seeds": list(SEEDS),
        "subjects": {"chosen_on": "monitor", "reported_on": "test", "n_reported": len(subjects)},
        "strengths_sd": list(STRENGTHS),
        "pretext_mse_over_chance": pretext,
        "chosen_on_monitor": choice,
        "test": report,
        "speed": timing,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
