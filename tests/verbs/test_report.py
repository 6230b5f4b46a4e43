"""``partsig report``: figures against independent ones, a second scorer, the page in a browser."""

import csv
import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import read_index, write_index
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.runs import directory as runs
from partsig.sleep.report import charts
from partsig.sleep.report.agreement import AGES, ScoredRecording, by_subject, measure, subgroups
from partsig.sleep.report.charts import kappas
from partsig.sleep.report.scorers import parse, read_scorer
from partsig.sleep.report.sections import trust
from partsig.sleep.report.sentences import limits, review_line, verdict
from partsig.verbs.finetune import finetune
from partsig.verbs.report import report

VOID = {"meta", "br", "hr", "img", "link", "input"}
SHOWN = ("TST", "SE", "SOL", "REM latency", "WASO", "N1", "N2", "N3", "REM")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def store(sample_store, tmp_path_factory):
    """The bundled sample with ages and sexes: 25, 30, … 80, one unknown; men and women in turn."""
    path = tmp_path_factory.mktemp("aged") / "store"
    path.mkdir()
    for name in ("meta.json", "signals", "labels"):
        (path / name).symlink_to(sample_store / name)
    rows = read_index(sample_store)
    for number, row in enumerate(rows):
        row["age"] = "" if number == 40 else str(25 + 5 * (number % 12))
        row["sex"] = "MF"[number % 2]
    write_index(path, rows)
    return path


@pytest.fixture(scope="module")
def tuned(store):
    run = store.parent / "run"
    settings = {"model": "logistic"}
    return finetune("scratch", store, run, subjects=20, overrides=settings, device="cpu")


@pytest.fixture(scope="module")
def made(tuned):
    return report(tuned, device="cpu")


def predictions(run):
    with open(run / "evaluation" / "predictions.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def labels(rows, key):
    return [STAGES.index(row[key]) for row in rows]


def folder_of(store, run, place, change=lambda name, stages: stages):
    """Write a second scorer's files of the run's test recordings, one stage per epoch."""
    place.mkdir()
    opened = open_store(store)
    for name in opened.recordings_of(runs.read(run)["split"]["test"]):
        stages = change(name, opened.labels(name).copy())
        words = ["?" if code < 0 else STAGES[code] for code in stages]
        (place / f"{name}.txt").write_text("\n".join(words) + "\n")
    return place


# Figures.


def test_the_report_evaluates_and_says_what_evaluate_says(made, tuned):
    assert made.page == tuned / "evaluation" / "report.html"
    measured = json.loads((tuned / "evaluation" / "metrics.json").read_text())
    found = made.metrics
    assert found["kappa"]["value"] == pytest.approx(measured["kappa"])
    assert found["kappa"]["interval_95"] == pytest.approx(measured["kappa_interval_95"])
    assert found["n_epochs"] == measured["n_epochs"] == len(predictions(tuned))
    assert found["yasa"]["kappa"] == pytest.approx(measured["kappa"])
    assert found["calibration"] == measured["calibration"]
    kappas = {row["recording"]: row["kappa"] for row in found["recordings"]}
    assert kappas == measured["kappa_per_recording"]
    known = [value for value in kappas.values() if value is not None]
    assert known == sorted(known)


def test_stages_are_scikit_learns(made, tuned):
    rows = predictions(tuned)
    parts = precision_recall_fscore_support(labels(rows, "truth"), labels(rows, "prediction"))
    for k, row in enumerate(made.metrics["stages"]):
        given = [row[key]["value"] for key in ("precision", "recall", "f1")]
        assert given == pytest.approx([column[k] for column in parts[:3]])
        assert row["epochs"] == parts[3][k]
        low, high = row["f1"]["interval_95"]
        assert low <= row["f1"]["value"] <= high


def test_subgroups_count_everybody_once(made, tuned, store):
    rows, index = predictions(tuned), {row["recording"]: row for row in read_index(store)}
    for kind in ("age", "sex"):
        groups = [row for row in made.metrics["subgroups"] if row["by"] == kind]
        assert sum(group["epochs"] for group in groups) == len(rows)
        assert sum(group["subjects"] for group in groups) == made.metrics["n_subjects"]
        assert all(group["few"] == (group["subjects"] < 10) for group in groups)
    women = [row for row in rows if index[row["recording"]]["sex"] == "F"]
    group = next(row for row in made.metrics["subgroups"] if row["group"] == "women")
    expected = cohen_kappa_score(labels(women, "truth"), labels(women, "prediction"))
    assert group["kappa"]["value"] == pytest.approx(expected)


def night(subject, truth, predicted, **given):
    fields = {"age": None, "sex": "", "start_s": 0.0, "confidence": np.full(len(truth), 0.5)}
    return ScoredRecording(
        name=f"{subject}-{given.pop('name', 1)}",
        subject=subject,
        truth=np.array(truth),
        predicted=np.array(predicted),
        **fields | given,
    )


def test_ages_at_the_bounds():
    nights = [night(f"s{age}", [0, 1], [0, 1], age=age) for age in (39.0, 40.0, 59.0, 60.0)]
    nights.append(night("who", [0, 1], [0, 0]))
    found = {row["group"]: row["subjects"] for row in subgroups(nights, seed=0)}
    assert found == {**dict(zip([a[2] for a in AGES], (1, 2, 1), strict=True)), "unknown": 1}
    assert subgroups(nights[-1:], seed=0) == []


def test_the_subject_is_the_unit_of_every_interval():
    """Two recordings of one subject are drawn together."""
    nights = [
        night("a", [0, 1, 2], [0, 1, 2]),
        night("a", [0, 1, 2], [1, 2, 0], name=2),
        night("b", [0, 1, 2], [0, 1, 1]),
    ]
    units = by_subject(nights)
    assert [int(unit.sum()) for unit in units] == [6, 3]
    agree = measure(units, lambda t: np.trace(t[..., 0, :, :], axis1=-2, axis2=-1), 0)
    assert agree == {"value": 5.0, "interval_95": [4.0, 6.0]}  # twice b, twice a


def test_json_has_no_nan_and_excerpts_are_told(made):
    written = json.loads((made.path / "report.json").read_text(), parse_constant=pytest.fail)
    assert written == made.metrics
    assert written["n_short"] == written["n_recordings"] == 14
    assert any(row["scored"]["REM latency"] is None for row in written["recordings"])
    assert written["bland_altman"]["REM latency"]["undefined"] > 0
    page = made.page.read_text()
    assert "14 of 14 recordings have less than 6 h of scored signal" in page
    assert "Undefined in one scoring or both" in page


@pytest.mark.slow
def test_an_evaluation_is_made_again_only_when_it_is_out_of_date(made, tuned, tmp_path):
    run = shutil.copytree(tuned, tmp_path / "run")
    file = run / "evaluation" / "metrics.json"
    before = file.stat().st_mtime_ns
    report(run, device="cpu")
    assert file.stat().st_mtime_ns == before
    measured = json.loads(file.read_text())
    file.write_text(json.dumps(measured | {"date": "2001-01-01T00:00:00+00:00", "kappa": 0.0}))
    again = report(run, device="cpu").metrics
    assert again["kappa"] == made.metrics["kappa"]
    assert json.loads(file.read_text())["kappa"] == measured["kappa"]
    file.write_text(json.dumps({key: measured[key] for key in measured if key != "review"}))
    assert report(run, device="cpu").metrics["review"] == measured["review"]


def test_without_ages_and_sexes_there_are_no_subgroups(sample_store, tuned, tmp_path):
    other = tmp_path / "plain"
    other.mkdir()
    for name in ("meta.json", "signals", "labels"):
        (other / name).symlink_to(sample_store / name)
    split = runs.read(tuned)["split"]
    rows = [row for row in read_index(sample_store) if row["subject"] in split["test"]]
    write_index(other, rows)
    found = report(tuned, store=other, output=tmp_path / "out", device="cpu")
    assert found.metrics["subgroups"] == []
    assert found.metrics["external"] is True
    assert found.page == tmp_path / "out" / "report.html"
    assert "By age and sex" not in found.page.read_text()
    assert not any("No other laboratory" in line for line in found.metrics["limits"])


def test_one_recording_of_one_stage(sample_store, tuned, tmp_path):
    """No interval, no limits, no kappa but 0 or none: a page all the same, which says so."""
    other = tmp_path / "one"
    (other / "labels").mkdir(parents=True)
    for name in ("meta.json", "signals"):
        (other / name).symlink_to(sample_store / name)
    subject = runs.read(tuned)["split"]["test"][0]
    row = next(row for row in read_index(sample_store) if row["subject"] == subject)
    np.save(other / "labels" / f"{row['recording']}.npy", np.full(row["n_epochs"], 2, np.int8))
    write_index(other, [row | dict.fromkeys(STAGES, 0) | {"N2": row["n_epochs"], "unscored": 0}])
    found = report(tuned, store=other, device="cpu")
    assert found.path == tuned / "evaluation-one"
    assert found.metrics["kappa"]["value"] in (0.0, None)
    assert found.metrics["kappa"]["interval_95"] == [None, None]
    assert found.metrics["recordings"][0]["n_stages"] == 1
    assert "bias" not in found.metrics["bland_altman"]["TST"]
    text = found.page.read_text()
    assert "1 recording of one scored stage: there kappa is 0 or undefined" in text
    assert not any("Recordings differ" in line for line in found.metrics["verdict"])
    assert "No statement on a night" in " ".join(found.metrics["limits"])


def test_no_run_and_a_wrong_run_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no run at"):
        report(tmp_path / "none")


# A second scorer.


def test_a_second_scorer_is_compared_on_the_same_epochs(tuned, store, tmp_path):
    """Every third epoch is one stage further, the first of each recording unscored."""

    def change(_name, stages):
        stages[::3] = (stages[::3] + 1) % 5
        stages[0] = -1
        return stages

    folder = folder_of(store, tuned, tmp_path / "anna", change)
    found = report(tuned, scorer=[f"anna={folder}"], output=tmp_path / "out", device="cpu")
    scorer, opened = found.metrics["scorers"]["anna"], open_store(store)
    rows = [row for row in predictions(tuned) if row["epoch"] != "0"]
    second = [
        int(change("", opened.labels(row["recording"]).copy())[int(row["epoch"])]) for row in rows
    ]
    first, model = labels(rows, "truth"), labels(rows, "prediction")
    assert scorer["n_epochs"] == len(rows)
    humans = cohen_kappa_score(first, second)
    assert scorer["first_second"]["value"] == pytest.approx(humans)
    assert scorer["model_first"]["value"] == pytest.approx(cohen_kappa_score(model, first))
    assert scorer["model_second"]["value"] == pytest.approx(cohen_kappa_score(model, second))
    gain = cohen_kappa_score(model, first) - humans
    assert scorer["gain_first"]["value"] == pytest.approx(gain)
    low, high = scorer["gain_first"]["interval_95"]
    assert low < gain < high
    assert "Beside a second scorer: anna" in found.page.read_text()
    assert not any("in other studies" in line for line in found.metrics["verdict"])


def test_the_same_hypnograms_agree_wholly(tuned, store, tmp_path):
    folder = folder_of(store, tuned, tmp_path / "twin")
    found = report(tuned, scorer={"twin": folder}, output=tmp_path / "out", device="cpu").metrics
    assert found["scorers"]["twin"]["first_second"] == {"value": 1.0, "interval_95": [1.0, 1.0]}
    gain = found["scorers"]["twin"]["gain_first"]["value"]
    assert gain == pytest.approx(found["kappa"]["value"] - 1)


@pytest.mark.parametrize("kind", ["list", "late list", "table", "edf", "late", "grid"])
def test_formats_land_on_the_stores_epochs(kind, store, tmp_path):
    """Stages are the same whatever file they come in; start_s is where the store begins."""
    opened = open_store(store)
    name, row = next((n, r) for n, r in opened.recordings.items() if r["n_epochs"] > r["unscored"])
    start = 65.0 if kind in ("late", "late list", "grid") else 0.0
    row["start_s"] = start
    stages = opened.labels(name)
    onsets = start + 30 * np.arange(len(stages)) + (7 if kind == "grid" else 0)
    words = [STAGES[code] for code in stages]
    if "list" in kind:
        (tmp_path / f"{name}_stages.txt").write_text("\n".join(words))
    elif kind == "edf":
        texts = [f"Sleep stage {word[-1] if word != 'REM' else 'R'}" for word in words]
        marks = list(zip(onsets, [30.0] * len(texts), texts, strict=True))
        write_edf(tmp_path / f"{name}_hypnogram.edf", marks)
    else:
        lines = [f"{onset:g},30,{word}" for onset, word in zip(onsets, words, strict=True)]
        (tmp_path / f"{name}.csv").write_text("onset,duration,stage\n" + "\n".join(lines))
    try:
        if kind == "grid":
            with pytest.raises(DataError, match=r"begin 7 s after the store's"):
                read_scorer("b", tmp_path, opened, [name], HypnogramConfig())
            return
        found = read_scorer("b", tmp_path, opened, [name], HypnogramConfig())
    finally:
        row["start_s"] = 0.0
    assert found[name].tolist() == stages.tolist()


def write_edf(path, marks):
    edfio = pytest.importorskip("edfio")
    notes = [edfio.EdfAnnotation(*mark) for mark in marks]
    edfio.Edf([], annotations=notes).write(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("none", "there is no folder"),
        ("missing", r"has no hypnogram of sp00-\d+; each of the 14 recordings of"),
        (
            "short",
            r"has \d+ epochs, the store \d+ \(from 0 s into the recording\); pass hypnograms",
        ),
        ("two", r"^--scorer b: sp00-\d+: its stages may be in"),
        ("label", r"^--scorer b: sp00-\d+\.txt: 'N9' is no stage"),
    ],
)
def test_hypnograms_that_do_not_fit_are_refused_in_one_sentence(
    damage, message, tuned, store, tmp_path
):
    folder = tmp_path / "b"
    if damage != "none":
        folder_of(store, tuned, folder)
        file = sorted(folder.glob("*.txt"))[0]
        if damage == "missing":
            file.unlink()
        elif damage == "short":
            file.write_text("\n".join(file.read_text().split()[:-1]))
        elif damage == "two":
            shutil.copy(file, file.with_suffix(".csv"))
        else:
            file.write_text(file.read_text().replace(file.read_text().split()[0], "N9", 1))
    with pytest.raises(DataError, match=message) as caught:
        report(tuned, scorer=[f"b={folder}"], output=tmp_path / "out", device="cpu")
    assert str(caught.value).endswith(".")
    assert not (tmp_path / "out").exists()


def test_settings_say_how_hypnograms_are_read(tuned, store, tmp_path):
    """Numbers mean what the user says, and files are called what they are called."""
    folder = tmp_path / "b"
    folder.mkdir()
    opened = open_store(store)
    for name in opened.recordings_of(runs.read(tuned)["split"]["test"]):
        (folder / f"{name}.scored").write_text("\n".join(map(str, opened.labels(name))))
    settings = ["hypnogram.pattern={name}.scored", "hypnogram.codes=yasa"]
    found = report(
        tuned, scorer=[f"b={folder}"], overrides=settings, output=tmp_path / "out", device="cpu"
    )
    assert found.metrics["scorers"]["b"]["first_second"]["value"] == 1.0


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["anna"], "NAME=FOLDER"), (["=x"], "NAME=FOLDER"), (["a=x", "a=y"], "a is given twice")],
)
def test_scorers_are_named_folders(texts, message):
    with pytest.raises(ConfigError, match=message):
        parse(texts)


# Words.


def changed(made, **given):
    return json.loads(json.dumps(made.metrics)) | given


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.5, 0.6], "the model stays below that"),
        ([0.6, 0.8], "does not tell the model from that"),
        ([0.82, 0.9], "as it may where recordings are easy to score"),
        ([None, None], "one subject cannot be compared"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(interval, words, made):
    lines = verdict(changed(made, kappa={"value": 0.7, "interval_95": interval}))
    assert words in lines[1]
    assert "second person's hypnograms (--scorer)" in lines[1]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([-0.2, -0.1], "the model agrees less with"),
        ([0.01, 0.1], "the model agrees more with"),
        ([-0.1, 0.1], "which does not show that there is none"),
        ([None, None], "too few subjects"),
    ],
)
def test_no_difference_is_not_called_equality(interval, words, made):
    value = {"value": 0.0, "interval_95": interval}
    keys = ("model_first", "model_second", "first_second", "gain_first", "gain_second")
    scorer = dict.fromkeys(keys, value) | {"n_subjects": 3, "n_epochs": 9}
    assert words in verdict(changed(made, scorers={"anna": scorer}))[1]


def test_a_kappa_that_stays_does_not_rise(made):
    known = made.metrics["review"]
    assert "kappa rises from" in review_line(known)
    still = [known["kappa_reviewed"][0]] * len(known["kappa_reviewed"])
    assert "kappa goes from" in review_line(known | {"kappa_reviewed": still})


def test_few_subjects_and_a_transductive_result_are_told(made):
    model = made.metrics["model"] | {"seen_in_pretraining": ["a", "b"]}
    text = " ".join(verdict(changed(made, n_subjects=4, model=model)))
    assert "4 subjects are few" in text
    assert "2 of the test subjects were seen in pretraining" in text
    alone = " ".join(verdict(changed(made, n_subjects=1, model=model)))
    assert "One subject tells nothing of others: there is no interval." in alone
    plain = " ".join(made.metrics["verdict"])
    assert "are few" not in plain
    assert "seen in pretraining" not in plain


def test_limits_are_this_runs(made, tuned):
    lines = made.metrics["limits"]
    assert "No diagnosis" in lines[0]
    assert "O2-M1, E1-M2, Chin1-Chin2 at 100 Hz, band-pass 0.1–30 Hz" in lines[1]
    assert "20 subjects of" in lines[2]
    assert "suspected sleep apnoea" in lines[2]
    n1 = made.metrics["stages"][1]["f1"]["value"]
    assert any(f"rests on N1: its F1 is {n1:.2f}" in line for line in lines)
    young = made.metrics["model"] | {"ages": [31.0, 70.0]}
    assert "Nobody younger than 31 or older than 70: none trained it." in limits(
        changed(made, model=young)
    )
    unknown = made.metrics["model"] | {"ages": None, "source": "edf"}
    text = " ".join(limits(changed(made, model=unknown)))
    assert "No children: the ages of the training subjects are not known" in text
    assert "who they are is not recorded" in text
    assert "breathing" not in text


def test_calibration_that_did_not_help_is_told(made):
    told = made.metrics["calibration"] | {"ece": 0.2, "ece_uncalibrated": 0.1}
    assert "did not help here" in " ".join(trust(changed(made, calibration=told)))
    told |= {"ece": 0.05}
    assert "did not help here" not in " ".join(trust(changed(made, calibration=told)))


# The page.


def test_charts_put_values_where_they_belong():
    """The dot of kappa 0.5 lies half-way between those of 0 and 1; bars are as high as they say."""
    drawn = kappas([("a", 0, 0.0), ("b", 1, 0.5), ("c", 2, 1.0)], 0.5, [0.4, 0.6])
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', drawn)]
    assert heights[1] == pytest.approx((heights[0] + heights[2]) / 2, abs=0.1)
    assert heights[0] > heights[2]
    truth, given = np.array([0, 0, 2, -1]), np.array([0, 2, 2, -1])
    strip = charts.night("n", truth, given, np.array([1.0, 0.5, 0.5, np.nan]), 4)
    (bars,) = re.findall(r'fill="#5b7f95" d="M0 ([\d.VhzM ]+)"', strip)
    low = float(bars.split("V")[0])
    steps = re.findall(r"V([\d.]+)h(\d+)", bars)
    assert [(low - float(y), int(n)) for y, n in steps] == [(22.0, 1), (11.0, 2), (0.0, 1)]
    assert re.search(r'fill="#D55E00" d="M1 \d+h1v', strip)  # the second epoch differs, alone


class Page(HTMLParser):
    """Checks nesting; collects tags, texts and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.addresses, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_whole_and_alone(made):
    text = made.page.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.addresses == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", text)
    # Strip plot, confusion, calibration, review, Bland–Altman charts, one strip per recording.
    drawn = sum("bias" in made.metrics["bland_altman"][key] for key in SHOWN)
    assert page.tags.count("svg") == 4 + drawn + made.metrics["n_recordings"]
    titles = page.tags.count("title") - 1  # the page's own
    assert titles >= page.tags.count("svg")


def test_names_are_escaped(tuned, store, tmp_path):
    folder = folder_of(store, tuned, tmp_path / "b")
    found = report(tuned, scorer={"<b>&": folder}, output=tmp_path / "out", device="cpu")
    text = found.page.read_text()
    assert "<b>&<" not in text
    assert "Beside a second scorer: &lt;b&gt;&amp;" in text


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is at hand ({', '.join(BROWSERS)})")
    return path


def dump(browser, page, profile) -> tuple[str, str]:
    """Return the page's DOM after its scripts, and what the browser's console said."""
    words = ["--headless", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    words += ["--disable-background-networking", "--virtual-time-budget=5000"]
    words += [f"--user-data-dir={profile}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--no-sandbox")  # which root cannot have
    done = subprocess.run(
        [browser, *words, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def test_a_browser_shows_it_without_error_or_request(made, browser, tmp_path):
    """Under a policy that forbids every request, so that any one would be an error."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    guarded = tmp_path / "guarded.html"
    guarded.write_text(made.page.read_text().replace("<head>", f"<head>{meta}"))
    shown, console = dump(browser, guarded, tmp_path / "profile")
    assert console == ""
    page = Page()
    page.feed(shown)
    words = " ".join(page.texts)
    for figure in (
        f"{made.metrics['kappa']['value']:.2f}",
        f"{made.metrics['n_epochs']:,}",
        *(f"{row['epochs']:,}" for row in made.metrics["stages"]),
        *(row["recording"] for row in made.metrics["recordings"]),
    ):
        assert figure in words
    # What the check is worth: a picture from elsewhere is an error.
    guarded.write_text(guarded.read_text().replace("<h1>", '<img src="file:///x.png"><h1>'))
    assert "Content Security Policy" in dump(browser, guarded, tmp_path / "profile")[1]


def test_nothing_overflows_on_a_desk_or_a_phone(made, browser, tmp_path):
    """Frames of both widths, measured by a script around the page."""
    inside = html.escape(made.page.read_text(), quote=True)
    wide = inside.replace("&lt;h1&gt;", "&lt;h1 style='width:1300px'&gt;")
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{content}"></iframe>'
        for width, content in ((1200, inside), (400, inside), (400, wide))
    )
    script = (
        "onload = () => document.title = [...document.querySelectorAll('iframe')].map(f => {"
        "const root = f.contentDocument.documentElement;"
        "const asked = f.contentWindow.performance.getEntriesByType('resource').length;"
        "return [root.clientWidth, root.scrollWidth, asked]}).join(';')"
    )
    outside = tmp_path / "frames.html"
    outside.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><style>iframe{{border:0}}</style>{frames}"
        f"<script>{script}</script>"
    )
    shown, _ = dump(browser, outside, tmp_path / "profile")
    sizes = re.search(r"<title>([\d,;]+)</title>", shown)[1].split(";")
    desk, phone, planted = ([int(n) for n in size.split(",")] for size in sizes)
    assert 1180 <= desk[0] == desk[1]
    assert 380 <= phone[0] == phone[1] <= 400
    assert desk[2] == phone[2] == 0
    assert planted[1] >= 1300  # what the measure is worth
