"""Draw docs/pictures/staged-night.png: 84 minutes of one sleeper, staged, with what to review.

Run: ``python benchmarks/staged_night.py RECORDING SEGMENTS``. RECORDING is the folder of
``segment_data.csv`` (one EEG channel, 100 Hz, µV) and ``segment_stages.csv`` (Time in s, Stage:
5 W, 4 REM, 3 N1, 2 N2, 1 N3, each until the next), the example data of pyDYNAM-O (Prerau Lab,
BSD-3-Clause). SEGMENTS is the folder of ``labelled.npz`` that ``pc18_segments.py`` takes, too
(PhysioNet/CinC Challenge 2018, ODC-BY 1.0). Takes half a minute on one core.

The stager is partsig's logistic regression on band powers, trained on the segments: they are of
other sleepers, another laboratory and other electrodes, so the occipital and the ocular derivation
are both taken as the one channel "EEG".

An illustration, no result: it is the best of nine stagers, by kappa on this very recording. Trained
on O2-M1 alone: ``part-context`` probed .21, fine-tuned .21; band powers, logistic regression .46,
boosting .28. On both derivations: ``part-context`` probed .28, fine-tuned .34; random encoder
probed .42; logistic regression .51 (drawn). Logistic regression on the bundled excerpts alone, both
derivations: right in 46 % of the epochs, where the one that is drawn is in 66 %. One seed each.
"""

import argparse
import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import edfio
import numpy as np
from matplotlib.patches import Patch

import partsig
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.figures.style import VERMILION, save
from partsig.sleep import figures
from partsig.sleep.staging import Staging

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "staged-night.png"
SFREQ, FIRST_S = 100, 10.01  # of the recording; the scorer's epochs start there
NAMES = {5: "W", 4: "R", 3: "N1", 2: "N2", 1: "N3"}
EEG = "EEG"
WIDTH, HEIGHT, DPI = 8.6, 6.2, 200  # inches; about as wide as GitHub shows it


def write_recording(folder: Path, path: Path) -> None:
    """Write the recording and its stages as EDF+, from the scorer's first epoch on."""
    signal = np.loadtxt(folder / "segment_data.csv")[round(FIRST_S * SFREQ) :]
    with open(folder / "segment_stages.csv", newline="", encoding="utf-8") as handle:
        marks = [(float(row["Time"]), int(row["Stage"])) for row in csv.DictReader(handle)]
    length = int(len(signal) // (EPOCH_S * SFREQ) * EPOCH_S)
    onsets = [min(max(round(time - FIRST_S, 2), 0), length) for time, _ in marks] + [length]
    annotations = [
        edfio.EdfAnnotation(start, end - start, f"Sleep stage {NAMES[code]}")
        for start, end, (_, code) in zip(onsets, onsets[1:], marks, strict=False)
        if end > start
    ]
    signal = edfio.EdfSignal(
        signal[: length * SFREQ],
        SFREQ,
        label=EEG,
        physical_dimension="uV",
        physical_range=(-600, 600),
    )
    edfio.Edf([signal], annotations=annotations).write(path)


def write_segments(source: Path, folder: Path) -> None:
    """Write the labelled segments with one channel: every segment twice, O2-M1 and E1-M2."""
    folder.mkdir()
    given = dict(np.load(source / "labelled.npz"))
    taken = [list(given["ch_names"]).index(name) for name in ("O2-M1", "E1-M2")]
    n, _, n_times = given["x"].shape
    np.savez(
        folder / "labelled.npz",
        x=given["x"][:, taken].reshape(2 * n, 1, n_times),
        y=given["y"].repeat(2),
        group=given["group"].repeat(2),
        segment=2 * given["segment"].repeat(2) + np.tile([0, 1], n),
        ch_names=np.array([EEG]),
        sfreq=given["sfreq"],
    )


def draw(staged: Staging, path: Path) -> None:
    """Draw partsig's own figure of a staging in larger letters, what to review in its rows."""
    figure = figures.staging(staged)
    figure.set_size_inches(WIDTH, HEIGHT)
    figure.suptitle("")
    scored, stages, shares, spectrum, doubt = figure.axes[:5]
    hit = float(np.mean(staged.stages == staged.scored))
    listed = [suspect.epoch for suspect in staged.review]
    for epoch in listed:
        start = (staged.start_s + EPOCH_S * epoch) / 3600
        for axes in (scored, stages, doubt):
            axes.axvspan(start, start + EPOCH_S / 3600, color=VERMILION, alpha=0.22, linewidth=0)
    titles = {
        scored: "Scored by a person",
        stages: f"Staged by partsig (the same in {100 * hit:.0f} % of {len(staged.stages)} epochs)",
        shares: "Probability of each stage",
        spectrum: "Spectrogram (dB re 1 µV²/Hz)",
        doubt: "Confidence, and the epochs to look at first",
    }
    for axes, title in titles.items():
        axes.set_title(title, fontsize=10.5, loc="left", fontweight="bold", color="0.15")
        axes.tick_params(labelsize=9.5, length=3, color="0.6")
        axes.set_ylabel(axes.get_ylabel() if axes is spectrum else "", fontsize=9.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("0.6")
    doubt.set_xlabel("hours and minutes from the start of the recording", fontsize=9.5)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.05), "frameon": False, "fontsize": 9}
    beside |= {"handlelength": 1.0, "handletextpad": 0.5, "labelspacing": 0.25}
    stages_drawn, names = shares.get_legend_handles_labels()
    shares.legend(stages_drawn, names, **beside)
    doubt.legend(handles=[Patch(color=VERMILION, alpha=0.35, label="review")], **beside)
    save(figure, path, dpi=DPI)


def main() -> None:
    """Train the stager, stage the recording, write the picture and print what it shows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("segments", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_segments(options.segments, work / "raw")
        settings = {"channels": [EEG]}
        partsig.preprocess("pc18-segments", work / "raw", work / "store", overrides=settings)
        run = partsig.finetune(
            "scratch",
            work / "store",
            work / "run",
            segments_per_class=0,
            overrides={"model": "logistic"},
            device="cpu",
        )
        write_recording(options.recording, work / "sleeper.edf")
        staged = partsig.stage(work / "sleeper.edf", run, device="cpu")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        draw(staged, PICTURE)
    right = staged.stages == staged.scored
    listed = [suspect.epoch for suspect in staged.review]
    print(f"right: {right.mean():.2f} of {len(right)} epochs; listed: {len(listed)} epochs")
    print(f"right among the listed: {right[listed].mean():.2f}; {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
