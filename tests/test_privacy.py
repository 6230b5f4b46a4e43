"""What belongs to patients never gets out: planted identifiers are looked for in all that is made.

Recordings whose headers, file names and folders tell of people go through every verb, once under
their own names and once with pseudonyms; then every file is unpacked and searched.
"""

import base64
import importlib.util
import io
import json
import os
import shutil
import zipfile
import zlib
from datetime import date, datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import edfio
import mne
import numpy as np
import pytest
from partsig.cli import app
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

import partsig
from partsig import files
from partsig.data.signals.readers import physionet2018
from partsig.data.signals.readers.physionet2018 import STAGE_CODES
from partsig.data.signals.store import open_store
from partsig.errors import ConfigError, DataError
from partsig.runs import directory as runs
from partsig.train import checkpoint
from partsig.verbs.audit import audit
from partsig.verbs.compare import compare
from partsig.verbs.embed import embed
from partsig.verbs.evaluate import evaluate
from partsig.verbs.export import FORMATS, export
from partsig.verbs.finetune import finetune
from partsig.verbs.inspect import inspect
from partsig.verbs.pretrain import pretrain
from partsig.verbs.report import report
from partsig.verbs.stage import stage_all

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location(
    "identifiers", Path(__file__).with_name("identifiers.py")
)
identifiers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(identifiers)

# Of headers: nothing of these is ever written anywhere.
HEADER = ("Krauseplant", "Erna-Zx", "MRN77231", "ADM0815", "TechnikerQ", "GeraetQ")
HEADER += ("03-MAR-1931", "1931-03-03", "19310303", "03.03.31", "-1225")
# Of the machine.
HOME, HOST, USER = "u-planted-home", "planted-host-7", "planted-user-9"
MACHINE = (HOME, HOST, USER, str(Path(partsig.__file__).parent))
# Of files: the recordings' names, which tell the patients'.
PATIENTS = tuple(f"Patientin{letter}mueller" for letter in "ABCDEFGHIJ")
STAGED = PATIENTS[:2]
DATES = ("23-NOV-2019", "2019-11-23", "23.11.19", "20191123", "11/23/2019", "23:41:07", "23.41.07")

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
PART = TINY | {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
PART |= {"window_s": 5, "objective.patches": 5, "split.monitor_subjects": 2}
SHORT = {"optim.warmup_epochs": 1, "fit.epochs": 2, "split.val_subjects": 2}
CHANNELS = ("C3-M2", "C4-M1")
START = datetime(2019, 11, 23, 23, 41, 7)
STAGES = ("W", "N1", "N2", "N3", "R", "N2", "N2", "W")


def signals(seed, sfreq=100):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((len(CHANNELS), 30 * sfreq * len(STAGES)))
    return 30 * noise * (1 + np.repeat(np.arange(len(STAGES)) % 3, 30 * sfreq))


def write_edf(path, seed):
    edfio.Edf(
        [
            edfio.EdfSignal(
                row, 100, label=name, physical_dimension="uV", transducer_type="GeraetQ"
            )
            for name, row in zip(CHANNELS, signals(seed), strict=True)
        ],
        patient=edfio.Patient(
            code="MRN77231", sex="F", birthdate=date(1931, 3, 3), name="Krauseplant_Erna-Zx"
        ),
        recording=edfio.Recording(
            startdate=START.date(),
            hospital_administration_code="ADM0815",
            investigator_technician_code="TechnikerQ",
            equipment_code="GeraetQ",
        ),
        starttime=START.time(),
        annotations=[
            edfio.EdfAnnotation(30.0 * e, 30.0, f"Sleep stage {stage}")
            for e, stage in enumerate(STAGES)
        ]
        + [edfio.EdfAnnotation(7.0, 1.0, "seen by TechnikerQ with Krauseplant")],
    ).write(path)


def write_fif(path, seed):
    info = mne.create_info(list(CHANNELS), 100.0, "eeg")
    raw = mne.io.RawArray(signals(seed) * 1e-6, info, verbose="error")
    raw.info["subject_info"] = {
        "his_id": "MRN77231",
        "last_name": "Krauseplant",
        "first_name": "Erna-Zx",
        "birthday": date(1931, 3, 3),
    }
    raw.info["experimenter"], raw.info["description"] = "TechnikerQ", "of Krauseplant"
    raw.set_meas_date(START.replace(tzinfo=timezone.utc))  # noqa: UP017
    raw.save(path, verbose="error")


def write_wfdb(folder, name, seed):
    """Write a record with its stages, the time, and what people write into comments."""
    samples = signals(seed).round().astype(np.int16)
    codes = np.array([STAGE_CODES[stage] for stage in STAGES])
    header = physionet2018.write_recording(folder, name, samples, CHANNELS, 100.0, stages=codes)
    first, *others = header.read_text(encoding="ascii").splitlines()
    comments = ["# Name: Krauseplant, Erna-Zx", "# MRN77231, born 1931-03-03"]
    lines = [f"{first} 23:41:07 23/11/2019", *others, *comments]
    header.write_text("\n".join(lines) + "\n", encoding="ascii")


def through_every_verb(place, raw, table):
    """Make whatever can be made of recordings; return what is meant to be passed on, by kind."""
    made = SimpleNamespace(store=place / "store", pretrain=place / "pretrain", table=table)
    settings = {"channels": list(CHANNELS), "subject": "^([A-Za-z]+)"}
    partsig.preprocess("edf", raw, made.store, overrides=settings, jobs=1, pseudonyms=table)
    pretrain(made.store, made.pretrain, overrides=PART, gpus="0")
    made.runs = [place / "finetune-s0", place / "finetune-s1"]
    for seed, run in enumerate(made.runs):
        own = {"subjects": 3, "overrides": SHORT, "device": "cpu", "seed": seed}
        finetune(made.pretrain, made.store, run, **own)
    run = made.runs[0]
    evaluate(run, device="cpu")
    made.evaluation = run / "evaluation"
    made.report = report(run, output=place / "report", device="cpu").path
    made.audit = audit(made.store, output=place / "audit", jobs=1).path
    made.raw_audit = None
    if table is None:
        own = {"channels": list(CHANNELS)}
        made.raw_audit = audit(
            raw, source="edf", output=place / "raw-audit", overrides=own, jobs=1
        ).path
    made.embeddings = place / "embeddings"
    for name in ("e.npz", "e.parquet"):
        embed(run, output=made.embeddings / name, device="cpu")
    made.inspection = inspect(made.pretrain, output=place / "inspection", device="cpu", n=2).path
    made.compared = compare(made.runs, output=place / "compared", device="cpu").path
    made.exports = []
    for format in FORMATS:
        made.exports.append(export(run, place / f"export-{format}", format=format).path)
    made.exports.append(export(made.pretrain, place / "export-encoder").path)
    made.stagings = place / "stagings"
    staged = stage_all(
        [*(raw / f"{name}.edf" for name in STAGED), raw.parent / "fif", raw.parent / "wfdb"],
        run,
        output=made.stagings,
        overrides={"dates": False},
        device="cpu",
        pseudonyms=table,
    )
    assert not staged.failed
    assert len(staged.files) == len(STAGED) + 2
    return made


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    place = tmp_path_factory.mktemp("privacy") / HOME
    for kind in ("raw", "fif", "wfdb"):
        (place / kind).mkdir(parents=True)
    for number, name in enumerate(PATIENTS):
        write_edf(place / "raw" / f"{name}.edf", number)
    write_fif(place / "fif" / "Patientinmueller_raw.fif", 20)
    write_wfdb(place / "wfdb", "PatientinKmueller", 21)
    return place / "raw"


@pytest.fixture(scope="module")
def elsewhere():
    """The machine has a name, and its user, that would be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "HOST", HOST)
        patch.setenv("USER", USER)
        patch.setenv("LOGNAME", USER)
        yield


@pytest.fixture(scope="module")
def named(raw, elsewhere):
    return through_every_verb(raw.parent / "named", raw, None)


@pytest.fixture(scope="module")
def hidden(raw, elsewhere):
    return through_every_verb(raw.parent / "hidden", raw, raw.parent / "apart" / "names.csv")


def passed_on(made):
    """Return all that is meant to be passed on."""
    folders = [made.report, made.evaluation, made.audit, made.embeddings, made.inspection]
    folders += [made.compared, *made.exports, made.stagings]
    return folders + ([made.raw_audit] if made.raw_audit else [])


def test_what_is_looked_for_would_be_found(tmp_path):
    word = "Krauseplant"
    hiding = {
        "plain.txt": word.upper().encode(),
        "wide.bin": b"\0" + word.encode("utf-16-le"),
        "wider.bin": word.encode("utf-32-be"),
        "page.html": b"data:x;base64," + base64.b64encode(b"0123456789" + word.encode()),
    }
    for name, data in hiding.items():
        (tmp_path / name).write_bytes(data)
    told = PngInfo()
    told.add_text("Comment", f"of {word}", zip=True)
    Image.new("L", (9, 9)).save(tmp_path / "p.png", pnginfo=told)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("b", zlib.compress(word.encode()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", packed.getvalue())
    assert identifiers.find([word], tmp_path) == sorted(
        f"{name}: {word}" for name in (*hiding, "a.zip", "p.png")
    )
    # What an ONNX file and a program of torch.export would hold if nothing were done.
    assert identifiers.find([HOME], tmp_path) == []


def test_the_plants_are_in_the_recordings(raw):
    found = identifiers.find(
        HEADER[:4], raw.parent / "raw", raw.parent / "fif", raw.parent / "wfdb"
    )
    of = {line.partition(": ")[0].rpartition(".")[2] for line in found}
    assert of == {"edf", "fif", "hea"}


@pytest.mark.parametrize("which", ["named", "hidden"])
def test_nothing_of_a_header_is_written_anywhere(which, request):
    """In no file of any verb, runs and stores included."""
    made = request.getfixturevalue(which)
    assert identifiers.find(HEADER, made.store.parent) == []


def test_what_is_passed_on_tells_nothing_of_the_machine(named, hidden):
    for made in (named, hidden):
        assert identifiers.find(MACHINE, *passed_on(made)) == []


def test_exports_and_checkpoints_name_no_recording(named, hidden):
    checkpoints = [run / "checkpoints" for run in (named.pretrain, *named.runs)]
    assert all(any(place.glob("step-*.pt")) for place in checkpoints)
    best = [run / "best.pt" for run in named.runs]
    assert identifiers.find(PATIENTS, *named.exports, *checkpoints, *best) == []
    assert identifiers.find([*PATIENTS, *MACHINE], *checkpoints, *best) == []


def test_with_pseudonyms_nothing_names_a_recording(hidden):
    """Neither the store, nor the runs' own records, nor anything that is made of them."""
    assert identifiers.find(PATIENTS, hidden.store, hidden.pretrain, *hidden.runs) == []
    assert identifiers.find(["Patientin", "mueller"], *passed_on(hidden)) == []
    assert identifiers.find(PATIENTS, hidden.table) != []


def test_without_dates_no_staging_tells_one(named, hidden):
    assert identifiers.find(DATES, named.stagings, hidden.stagings) == []
    edf = next(named.stagings.glob("*_hypnogram.edf")).read_bytes()
    assert edf[88:99] == b"Startdate X"
    assert edf[168:184] == b"01.01.8500.00.00"


def test_with_dates_they_are_told(raw, named, tmp_path):
    """What the test before says is not so by chance."""
    night = raw / f"{PATIENTS[0]}.edf"
    stage_all([night], named.runs[0], output=tmp_path, device="cpu")
    found = identifiers.find(DATES, tmp_path)
    assert {line.partition(": ")[0].rpartition("_")[2] for line in found} >= {
        "hypnogram.csv",
        "hypnogram.edf",
        "review.edf",
        "staging.json",
    }
    # The same again without: they are made anew.
    done = CliRunner().invoke(
        app,
        ["stage", str(night), "--run", str(named.runs[0]), "--output", str(tmp_path), "--no-dates"],
    )
    assert done.exit_code == 0, done.output
    assert "staged before" not in done.output
    assert identifiers.find(DATES, tmp_path) == []


def test_stagings_are_called_as_the_store_calls_them(raw, hidden):
    ids = set(open_store(hidden.store).recordings)
    written = hidden.stagings.glob("*_staging.json")
    names = {path.name.removesuffix("_staging.json") for path in written}
    assert len(names & ids) == len(STAGED)
    assert all(name.startswith("rec-") for name in names)
    again = stage_all(
        [raw / f"{name}.edf" for name in STAGED],
        hidden.runs[0],
        output=hidden.stagings,
        overrides={"dates": False},
        device="cpu",
        pseudonyms=hidden.table,
    )
    assert set(again.summaries.values()) == {"staged before"}


def test_leaks_are_told_as_ever(named, hidden):
    """Which subjects were seen is in the run's own record, and counts."""
    for made in (named, hidden):
        record = runs.read(made.pretrain)
        assert len(record["subjects_seen"]) + len(record["subjects_held_out"]) == len(PATIENTS)
        assert "subjects_seen" not in checkpoint.load(checkpoint.newest(made.pretrain))
        trained = runs.read(made.runs[0])
        assert trained["pretraining_subjects"] == record["subjects_seen"]
        assert not set(trained["split"]["test"]) & set(record["subjects_seen"])
        measured = json.loads((made.evaluation / "metrics.json").read_text())
        assert measured["subjects_seen_in_pretraining"] == []


def test_a_checkpoint_that_names_subjects_opens_as_before(named, tmp_path):
    run = Path(shutil.copytree(named.pretrain, tmp_path / "run"))
    file = checkpoint.newest(run)
    content = checkpoint.load(file)
    checkpoint.save(file, content | {"subjects_seen": ["a", "b"]})
    assert partsig.pretrain(named.store, run, overrides=PART, gpus="0") == run
    finetune(run, named.store, tmp_path / "f", subjects=2, overrides=SHORT, device="cpu")


def test_the_export_says_what_it_tells_of_people(named):
    run = named.runs[0]
    done = CliRunner().invoke(app, ["export", "--run", str(run), "--output", str(named.exports[0])])
    assert done.exit_code == 0, done.output
    told = done.output.partition("what this folder tells of people:\n")[2]
    card = (named.exports[0] / "README.md").read_text()
    listed = card.partition("## People\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) >= 5
    for line in listed:
        assert line.removeprefix("- ") in told
    assert "3 were learned from with labels, 2 chose" in card
    assert "The name of the data: store." in card


def test_metadata_of_figures_tells_nothing(named):
    for path in named.stagings.glob("*.png"):
        with Image.open(path) as picture:
            assert set(picture.info) <= {"Software", "dpi"}


def test_an_unreadable_recording_is_told_without_its_folder(raw, tmp_path):
    folder = tmp_path / HOME / "raw"
    folder.mkdir(parents=True)
    write_edf(folder / "a.edf", 1)
    (folder / "b.edf").write_bytes(b"0       " + b"x" * 400)
    (folder / "c.edf").symlink_to(tmp_path / HOME / "gone.edf")
    own = {"channels": list(CHANNELS)}
    found = audit(folder, source="edf", output=tmp_path / "out", overrides=own, jobs=1)
    assert found.n_faulty
    assert identifiers.find([HOME], found.path) == []


def test_pseudonyms_of_stagings_lie_apart(raw, named, tmp_path):
    with pytest.raises(ConfigError, match="lies in"):
        stage_all([raw], named.runs[0], output=tmp_path, pseudonyms=tmp_path / "names.csv")
    other = tmp_path / "other.txt"
    other.write_text("a")
    with pytest.raises(DataError, match="is no table of pseudonyms"):
        stage_all([raw], named.runs[0], output=tmp_path / "out", pseudonyms=other)
    assert os.listdir(tmp_path) == [".other.txt.lock", "other.txt"] or other.read_text() == "a"
