"""What ``scale.py`` measures on: tiny recordings, stores and runs, as many as are asked for.

A raw recording has two channels at 100 Hz and four epochs. A recording of a store that is written
directly has as many samples, but at 4 Hz: 100 epochs, so that what grows with the epochs of all
recordings is seen. Every kind of input is made once, in ``FOLDER/N/KIND``, and renamed when whole.
"""

import csv
import io
import json
import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path

CHANNELS, SFREQ, EPOCHS, EPOCH_S = ("C3-M2", "C4-M1"), 100, 4, 30
N_TIMES = EPOCHS * EPOCH_S * SFREQ
STORE_SFREQ, STORE_EPOCHS = 4, 100
STAGES = ("W", "N1", "N2", "N3", "REM")
# A tenth of a µV a step.
SCALE = 10
# Runs that are compared are copies of one on so many recordings.
BASE = 100
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.batch_size": 16}
PRETRAIN = {"fit.epochs": 1, "optim.warmup_epochs": 0, "windows_per_epoch": 64}
# All subjects that are not trained on are tested, or tests would stop growing at 200.
FINETUNE = {"fit.epochs": 1, "optim.warmup_epochs": 0, "fit.batch_size": 64}
EVERYBODY = {"split.test_max": 10**6}


def need(folder: Path, n: int, kind: str) -> Path:
    """Return ``FOLDER/N/KIND``, made where it is not there yet."""
    place = folder / str(n) / kind
    if not place.exists():
        part = place.with_name(f"{kind}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        INPUTS[kind](folder, n, part)
        part.replace(place)
    return place


def name_of(i: int, prefix: str = "p") -> str:
    """Return what recording ``i`` and its subject are called."""
    return f"{prefix}{i:05d}"


def stages_of(i: int, n_epochs: int = EPOCHS) -> list[int]:
    """Return the codes (E,) of recording ``i``; over five recordings every stage occurs alike."""
    return [(i + e) % len(STAGES) for e in range(n_epochs)]


def samples_of(i: int):
    """Return recording ``i`` as (C, T) int16, noise of 30 µV."""
    import numpy as np

    rng = np.random.default_rng([15, i])
    return (rng.standard_normal((len(CHANNELS), N_TIMES)) * 30 * SCALE).astype("<i2")


def edf_bytes(i: int) -> bytes:
    """Return recording ``i`` as an EDF file of one-second records, a patient of its own."""
    fields = [
        [f"{name:<16}" for name in CHANNELS],
        [f"{'electrode':<80}"] * len(CHANNELS),
        [f"{'uV':<8}"] * len(CHANNELS),
        [f"{-32768 / SCALE:<8g}", f"{-32768 / SCALE:<8g}"],
        [f"{32767 / SCALE:<8g}", f"{32767 / SCALE:<8g}"],
        [f"{-32768:<8}", f"{-32768:<8}"],
        [f"{32767:<8}", f"{32767:<8}"],
        [" " * 80] * len(CHANNELS),
        [f"{SFREQ:<8}"] * len(CHANNELS),
        [" " * 32] * len(CHANNELS),
    ]
    seconds, size = N_TIMES // SFREQ, 256 * (1 + len(CHANNELS))
    head = f"{'0':<8}{f'P{i:05d} X X X':<80}{'Startdate X X X X':<80}01.01.2200.00.00"
    head += f"{size:<8}{'':<44}{seconds:<8}{'1':<8}{len(CHANNELS):<4}"
    head += "".join(text for field in fields for text in field)
    records = samples_of(i).reshape(len(CHANNELS), seconds, SFREQ).swapaxes(0, 1)
    return head.encode("ascii") + records.tobytes()


def hypnogram_bytes() -> bytes:
    """Return a hypnogram as an EDF+ file of annotations, on the recordings' clock."""
    from datetime import date, time

    import edfio

    marks = [edfio.EdfAnnotation(30 * e, 30, f"Sleep stage {'W123'[e]}") for e in range(EPOCHS)]
    told = edfio.Recording(startdate=date(2022, 1, 1))
    text = io.BytesIO()
    edfio.Edf([], recording=told, starttime=time(0, 0), annotations=marks).write(text)
    return text.getvalue()


def write_edf(folder: Path, n: int, out: Path) -> None:
    """Write EDF files, a table of stages beside each."""
    for i in range(n):
        (out / f"{name_of(i)}.edf").write_bytes(edf_bytes(i))
        lines = [f"{30 * e},30,{STAGES[code]}\n" for e, code in enumerate(stages_of(i))]
        (out / f"{name_of(i)}.csv").write_text("".join(["onset,duration,stage\n", *lines]))


def write_plain(folder: Path, n: int, out: Path) -> None:
    """Write the same EDF files without stages."""
    for file in need(folder, n, "edf").glob("*.edf"):
        os.link(file, out / file.name)


def write_challenge(folder: Path, n: int, out: Path) -> None:
    """Write records in the challenge's layout, a folder each, and their ages."""
    from partsig.data.signals.readers.physionet2018 import write_recording

    lines = ["Record,Age,Sex\n"]
    for i in range(n):
        import numpy as np

        name = f"tr00-{i:05d}"
        place, stages = out / "training" / name, np.array(stages_of(i))
        write_recording(place, name, samples_of(i), CHANNELS, SFREQ, stages=stages)
        lines.append(f"{name},{20 + i % 60},F\n")
    (out / "age-sex.csv").write_text("".join(lines))


def write_wfdb(folder: Path, n: int, out: Path) -> None:
    """Write the same records into one folder."""
    for file in need(folder, n, "challenge").rglob("tr*.*"):
        os.link(file, out / file.name)


def write_sleep_edf(folder: Path, n: int, out: Path) -> None:
    """Write nights named as Sleep-EDF's are; its names go as far as 24,800 nights."""
    scores = hypnogram_bytes()
    letters = string.digits + string.ascii_letters
    for i, file in enumerate(sorted(need(folder, n, "edf").glob("*.edf"))):
        series = ("SC4", "ST7", "SC7", "ST4")[i // 100 % 4]
        night = f"{series}{i % 100:02d}{letters[i // 400]}"
        os.link(file, out / f"{night}E0-PSG.edf")
        (out / f"{night}EC-Hypnogram.edf").write_bytes(scores)


def write_bids(folder: Path, n: int, out: Path) -> None:
    """Write a BIDS tree, events and participants included."""
    (out / "dataset_description.json").write_text('{"Name": "tiny", "BIDSVersion": "1.8.0"}\n')
    lines = ["participant_id\tage\tsex\n"]
    for i, file in enumerate(sorted(need(folder, n, "edf").glob("*.edf"))):
        place = out / f"sub-{i:05d}" / "eeg"
        place.mkdir(parents=True)
        os.link(file, place / f"sub-{i:05d}_task-sleep_eeg.edf")
        rows = [f"{30 * e}\t30\t{STAGES[code]}\n" for e, code in enumerate(stages_of(i))]
        events = "".join(["onset\tduration\ttrial_type\n", *rows])
        (place / f"sub-{i:05d}_task-sleep_events.tsv").write_text(events)
        lines.append(f"sub-{i:05d}\t{20 + i % 60}\tF\n")
    (out / "participants.tsv").write_text("".join(lines))


def made_by_preprocess(kind: str) -> Callable[[Path, int, Path], None]:
    """Return what makes the store of raw recordings of some kind."""

    def make(folder: Path, n: int, out: Path) -> None:
        import partsig

        shutil.rmtree(out)
        source = {"plain": "edf"}.get(kind, kind)
        overrides = {"channels": list(CHANNELS)}
        partsig.preprocess(source, need(folder, n, kind), out, overrides=overrides, jobs=1)

    return make


def write_store(folder: Path, n: int, out: Path, prefix: str = "p", signals: bool = True) -> None:
    """Write a store through its own functions; without ``signals`` its index alone."""
    import numpy as np

    from partsig.data.signals import store_index, store_writing
    from partsig.data.signals.hypnograms.stages import count_stages
    from partsig.data.signals.recordings import Recording
    from partsig.data.store import OK

    filters = {"l_freq": 0.1, "h_freq": 1.5, "sfreq": float(STORE_SFREQ)}
    names = {"source": "edf", "ch_names": CHANNELS, "dtype": "float16"}
    meta = store_writing.make_meta(**names, **filters)
    shutil.rmtree(out)
    store_writing.create_store(out, meta)
    rows = []
    for i in range(n):
        name, stages = name_of(i, prefix), np.array(stages_of(i, STORE_EPOCHS), np.int8)
        told = {"age": str(20 + i % 60), "sex": "F", "source": f"{i:016d}"}
        recording = Recording(
            name=name, subject=name, ch_names=CHANNELS, parts=(), stages=stages, **told
        )
        if signals:
            rows.append(store_writing.write_recording(out, meta, recording, samples_of(i) / SCALE))
            continue
        counts = {"n_samples": N_TIMES, "n_epochs": STORE_EPOCHS, **count_stages(stages)}
        row = store_index.failed_row(name, name, "") | told | counts
        rows.append(row | {"sha256": f"{i:064d}", "status": OK, "start_s": 0.0})
    store_index.write_index(out, rows)


def write_other(folder: Path, n: int, out: Path) -> None:
    """Write a store of other subjects."""
    write_store(folder, n, out, "q")


def write_index(folder: Path, n: int, out: Path) -> None:
    """Write a store without its signals."""
    write_store(folder, n, out, signals=False)


def make_pretrained(folder: Path, n: int, out: Path) -> None:
    """Pretrain on a store for four steps."""
    import partsig

    settings = TINY | PRETRAIN | EVERYBODY
    partsig.pretrain(need(folder, n, "store"), out, overrides=settings, gpus="0")


def make_tuned(folder: Path, n: int, out: Path) -> None:
    """Fine-tune that run on ten subjects."""
    import partsig

    origin, store = (need(folder, n, kind) for kind in ("pretrained", "store"))
    settings = FINETUNE | EVERYBODY
    partsig.finetune(origin, store, out, subjects=10, overrides=settings, device="cpu")


def make_runs(folder: Path, n: int, out: Path) -> None:
    """Copy one evaluated run under so many seeds."""
    import partsig

    one = need(folder, BASE, "tuned")
    partsig.evaluate(one, device="cpu")
    for seed in range(n):
        shutil.copytree(one, out / f"r{seed:05d}")
        file = out / f"r{seed:05d}" / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": seed}))


def make_reported(folder: Path, n: int, out: Path) -> None:
    """Evaluate a run on the other store, as a report of it asks for."""
    import partsig

    shutil.rmtree(out)
    shutil.copytree(need(folder, n, "tuned"), out)
    partsig.evaluate(out, need(folder, n, "other"), device="cpu")


def write_images(folder: Path, n: int, out: Path) -> None:
    """Write PNG files of 8 x 8 in two classes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(15)
    for i in range(n):
        place = out / f"class{i % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{i:05d}.png")


def image_store(per_file: int) -> Callable[[Path, int, Path], None]:
    """Return what makes the store of those images, so many an array (0: as always)."""

    def make(folder: Path, n: int, out: Path) -> None:
        import partsig

        images_an_array(per_file)
        shutil.rmtree(out)
        overrides = {"size": 8}
        partsig.preprocess("images", need(folder, n, "png"), out, overrides=overrides, jobs=1)

    return make


def images_an_array(per_file: int) -> None:
    """Let stores of images have so many images an array, where tiny ones stand for many."""
    from partsig.data.images import store as images

    images.PER_FILE = per_file or images.PER_FILE


def write_table(folder: Path, n: int, out: Path) -> None:
    """Write the names of subjects alone."""
    with open(out / "subjects.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([name_of(i)] for i in range(n))


INPUTS: dict[str, Callable[[Path, int, Path], None]] = {
    "edf": write_edf,
    "plain": write_plain,
    "challenge": write_challenge,
    "wfdb": write_wfdb,
    "sleep-edf": write_sleep_edf,
    "bids": write_bids,
    "edf-store": made_by_preprocess("edf"),
    "plain-store": made_by_preprocess("plain"),
    "wfdb-store": made_by_preprocess("wfdb"),
    "store": write_store,
    "other": write_other,
    "index": write_index,
    "pretrained": make_pretrained,
    "tuned": make_tuned,
    "reported": make_reported,
    "runs": make_runs,
    "png": write_images,
    "image-store": image_store(0),
    "array-store": image_store(1),
    "subjects": write_table,
}
