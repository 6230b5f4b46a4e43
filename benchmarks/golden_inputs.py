"""What ``golden.py`` gives to the verbs: tiny recordings and images, written here, the same always.

Nothing of partsig is imported. Every function writes one kind of raw data into an empty folder;
random numbers are NumPy's, from fixed seeds, and no file tells a time or place of its making. A
night has two channels at 100 Hz and ten epochs; what is in an epoch depends a little on its
stage, so that there is something to learn.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from datetime import date, time
from pathlib import Path

import numpy as np

CHANNELS, SFREQ, EPOCHS, EPOCH_S = ("C4-M1", "O2-M1"), 100, 10, 30
NIGHTS = 14
CHANGED_S = 1_641_074_400  # 2022-01-01 22:00 UTC
STAGES = ("W", "N1", "N2", "N3", "REM")
CODES = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "REM": 5}
TOLD = ("Wake", "Stage 1 sleep", "Stage 2 sleep", "Stage 3 sleep", "", "REM sleep")
HZ = {"W": 10.0, "N1": 6.0, "N2": 13.0, "N3": 1.5, "REM": 4.0}
MORE = {"wfdb": 4, "sleep-edf": 3, "bids": 3}
SEGMENTS, CLASSES, PER_CLASS = 30, ("disc", "stripe", "noise"), 24


def stages_of(i: int) -> list[str]:
    """Return the stages of night ``i``; over five nights every stage occurs alike."""
    return [STAGES[(i + e // 2) % 5] for e in range(EPOCHS)]


def signal_of(i: int, stages: list[str], seed: int = 27) -> np.ndarray:
    """Return (C, T) float64 in µV: noise, and a wave whose frequency depends on the stage."""
    rng, t = np.random.default_rng([seed, i]), np.arange(EPOCH_S * SFREQ) / SFREQ
    parts = []
    for stage in stages:
        wave = 25 * np.sin(2 * np.pi * (HZ[stage] * t + rng.random()))
        parts.append(wave * [[1.0], [0.6]] + 12 * rng.standard_normal((2, len(t))))
    return np.concatenate(parts, axis=1).round(1)


def edf(path: Path, x: np.ndarray, patient: str, marks: list[str] | None = None) -> None:
    """Write an EDF file, or EDF+ with stages inside."""
    import edfio

    signals = [
        edfio.EdfSignal(row, SFREQ, label=name, physical_dimension="uV", physical_range=(-300, 300))
        for name, row in zip(CHANNELS, x, strict=True)
    ]
    told = [
        edfio.EdfAnnotation(EPOCH_S * e, EPOCH_S, f"Sleep stage {name.replace('REM', 'R')}")
        for e, name in enumerate(marks or ())
    ]
    edfio.Edf(
        signals,
        patient=edfio.Patient(code=patient),
        recording=edfio.Recording(startdate=date(2022, 1, 1)),
        starttime=time(22, 0),
        annotations=told or None,
    ).write(path)


def table(stages: list[str], separator: str = ",", column: str = "stage") -> str:
    """Return a hypnogram as a table of onsets."""
    rows = [separator.join((str(EPOCH_S * e), "30", name)) for e, name in enumerate(stages)]
    return "\n".join([separator.join(("onset", "duration", column)), *rows, ""])


def nsrr(stages: list[str]) -> str:
    """Return a hypnogram as NSRR's XML."""
    events = "".join(
        "<ScoredEvent><EventType>Stages|Stages</EventType>"
        f"<EventConcept>{TOLD[CODES[name]]}|{CODES[name]}</EventConcept>"
        f"<Start>{EPOCH_S * e}</Start><Duration>30</Duration></ScoredEvent>"
        for e, name in enumerate(stages)
    )
    return f"<PSGAnnotation><ScoredEvents>{events}</ScoredEvents></PSGAnnotation>\n"


def write_edf(out: Path, seed: int = 27, prefix: str = "p", n: int = NIGHTS) -> None:
    """Write nights with stages in four formats; the last but one has none, the last is cut off."""
    for i in range(n):
        name, stages = f"{prefix}{i:02d}", stages_of(i)
        inside = stages if i % 4 == 0 else None
        edf(out / f"{name}.edf", signal_of(i, stages, seed), f"{prefix.upper()}{i}", inside)
        if i % 4 == 1:
            (out / f"{name}.csv").write_text(table(stages))
        if i % 4 == 2:
            (out / f"{name}.txt").write_text("".join(f"{CODES[s]}\n" for s in stages))
        if i % 4 == 3:
            (out / f"{name}-nsrr.xml").write_text(nsrr(stages))
    edf(out / f"{prefix}-unscored.edf", signal_of(90, STAGES[:3], seed), "U")
    whole = (out / f"{prefix}00.edf").read_bytes()
    (out / f"{prefix}-cut.edf").write_bytes(whole[:300])


def write_other(out: Path) -> None:
    """Write nights of other people."""
    write_edf(out, seed=28, prefix="q", n=5)


def write_scorer(out: Path) -> None:
    """Write a second person's hypnograms of the first nights: one epoch in four is another."""
    for i in range(NIGHTS):
        stages = [s if e % 4 else STAGES[(e + i) % 5] for e, s in enumerate(stages_of(i))]
        (out / f"p{i:02d}.csv").write_text(table(stages))


def write_staged(out: Path) -> None:
    """Write two nights to stage: one with a scorer's stages, one with a flat channel."""
    edf(out / "first.edf", signal_of(50, stages_of(2)), "F", stages_of(2))
    x = signal_of(51, stages_of(3))
    x[1] = 0
    edf(out / "second.edf", x, "S")


def write_wfdb(out: Path) -> None:
    """Write WFDB records with MIT-BIH's stages, the last one without."""
    import wfdb

    terms = {"W": "W", "N1": "1", "N2": "2", "N3": "3", "REM": "R"}
    for i in range(MORE["wfdb"]):
        stages, name = stages_of(i), f"slp{i:02d}"
        x = signal_of(i, stages, 29).T
        about = {"units": ["uV"] * 2, "sig_name": list(CHANNELS), "fmt": ["16"] * 2}
        about |= {"adc_gain": [10.0] * 2, "baseline": [0] * 2}
        wfdb.wrsamp(name, fs=SFREQ, p_signal=x, write_dir=str(out), **about)
        if i < MORE["wfdb"] - 1:
            at = np.arange(EPOCHS) * EPOCH_S * SFREQ
            notes = [terms[s] for s in stages]
            marks = {"symbol": ['"'] * EPOCHS, "aux_note": notes, "write_dir": str(out)}
            wfdb.wrann(name, "st", at, fs=SFREQ, **marks)


def write_sleep_edf(out: Path) -> None:
    """Write nights named as Sleep-EDF's are, two of one sleeper."""
    import edfio

    for i, name in enumerate(("SC4001", "SC4002", "SC4011")):
        edf(out / f"{name}E0-PSG.edf", signal_of(i, stages_of(i), 30), f"SE{i}")
        words = {"W": "W", "N1": "1", "N2": "2", "N3": "4", "REM": "R"}
        marks = [
            edfio.EdfAnnotation(EPOCH_S * e, EPOCH_S, f"Sleep stage {words[s]}")
            for e, s in enumerate(stages_of(i))
        ]
        told = {"recording": edfio.Recording(startdate=date(2022, 1, 1)), "starttime": time(22, 0)}
        edfio.Edf([], annotations=marks, **told).write(out / f"{name}EC-Hypnogram.edf")


def write_bids(out: Path) -> None:
    """Write a BIDS tree with events and participants."""
    (out / "dataset_description.json").write_text('{"Name": "tiny", "BIDSVersion": "1.8.0"}\n')
    people = ["participant_id\tage\tsex"]
    for i in range(MORE["bids"]):
        place = out / f"sub-{i:02d}" / "eeg"
        place.mkdir(parents=True)
        edf(place / f"sub-{i:02d}_task-sleep_eeg.edf", signal_of(i, stages_of(i), 31), f"B{i}")
        events = table(stages_of(i), "\t", "trial_type")
        (place / f"sub-{i:02d}_task-sleep_events.tsv").write_text(events)
        people.append(f"sub-{i:02d}\t{30 + i}\tF")
    (out / "participants.tsv").write_text("\n".join([*people, ""]))


def write_segments(out: Path) -> None:
    """Write 30-s segments of one stage each, six of every stage, two of a sleeper, six unscored."""
    stages = [i % 5 for i in range(SEGMENTS)] + [-1] * 6
    x = [signal_of(i, [STAGES[stage]], 32) for i, stage in enumerate(stages)]
    np.savez(
        out / "segments.npz",
        x=np.stack(x).round().astype(np.int16),
        y=np.array(stages, np.int64),
        group=np.arange(len(stages)) // 10 * 5 + np.arange(len(stages)) % 5,
        segment=np.array(stages, np.int64) * 100 + np.arange(len(stages)) + 200,
        ch_names=np.array(CHANNELS),
        sfreq=np.array(float(SFREQ)),
    )


def picture(i: int, kind: str, side: int = 12) -> np.ndarray:
    """Return one picture (H, W, 3) uint8."""
    rng = np.random.default_rng([33, i, CLASSES.index(kind)])
    row, column = np.mgrid[:side, :side] - side / 2
    shape = {
        "disc": row**2 + column**2 < (side / 3) ** 2,
        "stripe": (row + i) % 4 < 2,
        "noise": rng.random((side, side)) < 0.5,
    }[kind]
    colour = rng.integers(120, 256, 3)
    return (
        (shape[..., None] * colour + rng.integers(0, 80, (side, side, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def png(x: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(x).save(file, "png")
    return file.getvalue()


def write_images(out: Path) -> None:
    """Write three folders of pictures, one of them damaged."""
    for kind in CLASSES:
        (out / kind).mkdir()
        for i in range(PER_CLASS):
            (out / kind / f"{i:03d}.png").write_bytes(png(picture(i, kind)))
    (out / "disc" / "damaged.png").write_bytes(b"no picture")


def write_imagenet(out: Path, first: int = 100) -> None:
    """Write ImageNet's layout, grey and coloured pictures mixed, as one zip file."""
    with zipfile.ZipFile(out / "images.zip", "w") as archive:
        for role, start, n in (("train", 0, 12), ("val", 100, 4), ("test", 200, 6)):
            for kind in CLASSES:
                for i in range(first + start, first + start + n):
                    x = picture(i, kind, 16)
                    data = png(x[..., 0] if i % 2 else x)
                    archive.writestr(zipfile.ZipInfo(f"{role}/{kind}/{i}.png"), data)


def write_imagenet_2(out: Path) -> None:
    """Write other pictures of the same classes."""
    write_imagenet(out, 500)


def write_cifar10(out: Path) -> None:
    """Write CIFAR-10's seven pickles with a few images each."""
    folder = out / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"class{i}".encode() for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=3))
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng([34, k]).integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = {b"labels": [(k + i) % 10 for i in range(20)], b"data": pixels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=3))


INPUTS: dict[str, Callable[[Path], None]] = {
    "edf": write_edf,
    "other": write_other,
    "scorer": write_scorer,
    "staged": write_staged,
    "wfdb": write_wfdb,
    "sleep-edf": write_sleep_edf,
    "bids": write_bids,
    "segments": write_segments,
    "images": write_images,
    "imagenet": write_imagenet,
    "imagenet-2": write_imagenet_2,
    "cifar10": write_cifar10,
}


def write_all(raw: Path) -> None:
    """Write every kind of raw data into a folder of its own; all files have one time.

    An image's time of change is in its store's index: by it images are told that have changed.
    """
    for kind, write in INPUTS.items():
        (raw / kind).mkdir(parents=True)
        write(raw / kind)
    for path in raw.rglob("*"):
        os.utime(path, (CHANGED_S, CHANGED_S))
