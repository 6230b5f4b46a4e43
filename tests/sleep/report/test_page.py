"""``partsig report`` of many recordings: a page of all of them, and one for each."""

import csv
import json
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import failed_row, write_index
from partsig.data.signals.store_writing import create_store, make_meta
from partsig.data.store import OK, index_digest
from partsig.errors import DataError
from partsig.files import write_json
from partsig.metrics.agreement import confusion, kappa
from partsig.sleep.report import charts
from partsig.sleep.report.agreement import read_predictions
from partsig.sleep.report.page import ON_ONE_PAGE, night_pages
from partsig.verbs.report import report

N, E = 60, 80
# Names as files and links must not have them, those of the page of all, and such as differ in case
# or in how Unicode writes a letter alone.
ODD = ("a&b <i>.1", "50% \"x'", "c#1?q=2", "..up", "n\\1", "räw ü", "Night", "night")
ODD += ("report.html", "report", "Report", "ra\u0308w u\u0308", "night-2")
HEAD = ["recording", "subject", "epoch", "onset_s", "truth", "prediction"]
HEAD += [*(f"p_{stage}" for stage in STAGES), "confidence"]


def evaluated(folder, n):
    """Write a store's index and an evaluated run of ``n`` made-up nights; return the run."""
    names = [*ODD, *(f"tr03-{i:04d}" for i in range(n - len(ODD)))]
    store, evaluation = folder / "store", folder / "run" / "evaluation"
    meta = make_meta(
        source="edf", ch_names=("C4-M1",), sfreq=100.0, l_freq=0.1, h_freq=30.0, dtype="float32"
    )
    create_store(store, meta)
    evaluation.mkdir(parents=True)
    rng, rows, kappas = np.random.default_rng(0), [], {}
    with open(evaluation / "predictions.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(HEAD)
        for number, name in enumerate(names):
            truth = np.repeat(rng.integers(0, 5, E // 4), 4)
            given = np.where(rng.random(E) < 0.7, truth, rng.integers(0, 5, E))
            kappas[name] = float(kappa(confusion(truth, given, 5)))
            counts = {stage: int((truth == k).sum()) for k, stage in enumerate(STAGES)}
            rows.append(
                failed_row(name, name, "")
                | {"status": OK, "n_epochs": E, "n_samples": 3000 * E, **counts}
                | {"age": str(20 + number), "sex": "MF"[number % 2], "start_s": 0.0}
            )
            for e in range(E):
                stages = [STAGES[truth[e]], STAGES[given[e]]]
                confidence = f"{rng.uniform(0.3, 1):.5f}"
                writer.writerow([name, name, e, 30 * e, *stages, *["0.20000"] * 5, confidence])
    write_index(store, rows)
    ends = [[0.6, 0.8], [0.7, 0.9]]
    review = {"share": [0.0, 0.1], "kappa_reviewed_interval_95": ends, "by": "confidence"}
    review |= {f"kappa_{kind}": [0.7, 0.75] for kind in ("reviewed", "random", "kept")}
    measured = {
        "store": str(store),
        "external": False,
        "date": "2030-01-01T00:00:00+00:00",
        "subjects_seen_in_pretraining": [],
        "kappa_per_recording": kappas,
        "kappa_per_recording_mean": float(np.mean(list(kappas.values()))),
        "kappa_per_recording_sd": 0.1,
        "confusion": [],
        "calibration": {
            **{"temperature": 1.0, "ece": 0.05, "ece_interval_95": [0.04, 0.06]},
            **{"ece_uncalibrated": 0.06, "table": [[100, 60.0, 55.0], [200, 180.0, 170.0]]},
        },
        "review": review | {"finds_errors": {"confidence": 0.8, "context": 0.8}},
    }
    write_json(evaluation / "metrics.json", measured)
    record = {
        **{"kind": "finetune", "state": "finished", "finished": "2026-01-01T00:00:00+00:00"},
        **{"config": {"model": "encoder", "train": "full"}, "from": "scratch", "seed": 0},
        **{"pretraining": None, "pretraining_subjects": [], "store": str(store), "sfreq": 100.0},
        "split": {"train": ["t"], "val": ["v"], "test": names},
        "ch_names": ["C4-M1"],
        "index_sha256": index_digest(store),
    }
    write_json(folder / "run" / "run.json", record)
    return folder / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return report(evaluated(tmp_path_factory.mktemp("many"), N))


class Page(HTMLParser):
    """Checks nesting; collects headings, addresses, tags and texts."""

    def __init__(self, path):
        super().__init__()
        self.open, self.headings, self.addresses, self.tags, self.texts = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h3"):
            self.headings.append(data)


def target(page: Path, address: str) -> Path:
    """Return the file that a browser opens for a link on a page of the disk."""
    parts = urlsplit(address)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("",) * 4
    return (page.parent / unquote(parts.path)).resolve()


def test_every_recording_has_a_page_of_its_own_that_is_linked(made):
    found = Page(made.page)
    assert len(found.addresses) == N
    pages = [target(made.page, address) for address in found.addresses]
    folder = made.path / "report"
    assert sorted(pages) == sorted(folder.iterdir())
    plain = [unicodedata.normalize("NFC", page.name).casefold() for page in pages]
    assert len(set(plain)) == N
    assert "script" not in found.tags
    rows = made.metrics["recordings"]
    for row, path in zip(rows, pages, strict=True):
        page = Page(path)
        assert row["recording"] in page.headings
        assert page.tags.count("svg") == 1
        assert page.texts.count("TST (min)") == 1
        at = page.texts.index("TST (min)")
        given = [float(text) for text in page.texts[at + 1 : at + 3]]
        told = [row[scoring]["TST"] for scoring in ("scored", "predicted")]
        assert given == pytest.approx(told, abs=0.5)
        others = [target(path, address) for address in page.addresses]
        assert others[0] == made.page.resolve()
        place = pages.index(path)
        assert others[1:] == [pages[k] for k in (place - 1, place + 1) if 0 <= k < N]
    words = " ".join(found.texts)
    assert all(row["recording"] in words for row in rows)
    assert "<i>" not in made.page.read_text()


def test_pages_are_small_and_drawn_one_at_a_time(made, monkeypatch):
    """What is written of one recording is not held for the next."""
    assert made.page.stat().st_size < 250_000
    sizes = [page.stat().st_size for page in (made.path / "report").iterdir()]
    assert max(sizes) < 20_000
    drawn, real = [], charts.night
    monkeypatch.setattr(charts, "night", lambda *a: drawn.append(a[0]) or real(*a))
    nights = read_predictions(
        made.path / "predictions.csv", open_store(made.path.parents[1] / "store")
    )
    pages = night_pages(made.metrics, nights)
    assert drawn == []
    for number in range(1, 4):
        next(pages)
        assert len(drawn) == number
    assert drawn == [row["recording"] for row in made.metrics["recordings"][:3]]


@pytest.mark.parametrize("n", [ON_ONE_PAGE, ON_ONE_PAGE + 1])
def test_few_are_on_one_page(n, tmp_path):
    found = report(evaluated(tmp_path, n))
    page = Page(found.page)
    many = n > ON_ONE_PAGE
    assert len(page.addresses) == (n if many else 0)
    assert (found.path / "report").exists() == many
    assert page.tags.count("section") == (0 if many else n)


@pytest.mark.slow
def test_pages_of_a_larger_report_before_are_removed(tmp_path):
    out = tmp_path / "out"
    runs = {n: evaluated(tmp_path / str(n), n) for n in range(ON_ONE_PAGE, ON_ONE_PAGE + 5)}

    def pages(n):
        report(runs[n], output=out)
        return {path.name for path in (out / "report").glob("*")}

    many = pages(ON_ONE_PAGE + 4)
    assert len(many) == ON_ONE_PAGE + 4
    (out / "report" / "mine.html").write_text((out / "report.html").read_text())
    gone = sorted(many - (fewer := pages(ON_ONE_PAGE + 1)))
    assert len(gone) == 3
    assert fewer == many - set(gone) | {"mine.html"}
    kept = sorted(fewer)[0]
    (out / "report" / kept).write_text("<title>a page of someone else's</title>")
    assert pages(ON_ONE_PAGE) == {"mine.html", kept}
    (out / "report" / "mine.html").unlink()
    (out / "report" / kept).unlink()
    pages(ON_ONE_PAGE + 1)
    pages(ON_ONE_PAGE)
    assert not (out / "report").exists()


# What pages are drawn from.


def test_predictions_are_what_a_table_reader_finds(made, tmp_path):
    """In any order of rows and columns."""
    store = open_store(made.path.parents[1] / "store")
    with open(made.path / "predictions.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    order = np.random.default_rng(1).permutation(len(rows)).tolist()[: len(rows) // 2]
    columns = sorted(HEAD)
    with open(tmp_path / "predictions.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows[k] for k in order)
    nights = {night.name: night for night in read_predictions(tmp_path / "predictions.csv", store)}
    kept = {(rows[k]["recording"], int(rows[k]["epoch"])): rows[k] for k in order}
    assert sum(night.n_scored for night in nights.values()) == len(order)
    for (name, epoch), row in kept.items():
        night = nights[name]
        assert STAGES[night.truth[epoch]] == row["truth"]
        assert STAGES[night.predicted[epoch]] == row["prediction"]
        assert night.confidence[epoch] == float(row["confidence"])
    missing = {(name, e) for name in nights for e in range(E)} - set(kept)
    assert all(np.isnan(nights[name].confidence[e]) for name, e in missing)
    assert [night.age for night in read_predictions(made.path / "predictions.csv", store)] == [
        float(20 + i) for i in range(N)
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("none,none,0,0,W,W,.2,.2,.2,.2,.2,.5", "has epochs of none that .* has not; delete"),
        (f"night,night,{E},0,W,W,.2,.2,.2,.2,.2,.5", "has epochs of night that .* has not; delete"),
        ("night,night,0,0,W,N9,.2,.2,.2,.2,.2,.5", r"predictions\.csv is damaged .*; delete"),
        ("night,night,zero,0,W,W,.2,.2,.2,.2,.2,.5", r"predictions\.csv is damaged .*; delete"),
        ("night,night,0", r"predictions\.csv is damaged .*; delete"),
    ],
)
def test_predictions_that_do_not_fit_are_told(row, message, made, tmp_path):
    store = open_store(made.path.parents[1] / "store")
    (tmp_path / "predictions.csv").write_text(",".join(HEAD) + "\n" + row + "\n")
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "predictions.csv", store)


def test_figures_are_in_the_json_as_of_few(made):
    written = json.loads((made.path / "report.json").read_text(), parse_constant=pytest.fail)
    assert written == made.metrics
    assert len(written["recordings"]) == written["n_recordings"] == N
