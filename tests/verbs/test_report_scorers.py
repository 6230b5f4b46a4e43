"""``partsig report --no-run``: scorers against each other, held against independent figures."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from partsig.cli import app
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
from typer.testing import CliRunner

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import failed_row, read_index, write_index
from partsig.data.signals.store_writing import create_store, make_meta
from partsig.data.store import OK
from partsig.errors import ConfigError, DataError
from partsig.sleep.report.between_scorers import overall
from partsig.sleep.report.recording_pages import ON_ONE_PAGE
from partsig.sleep.report.sentences import number, with_interval
from partsig.sleep.report.statistics import STATISTICS, sleep_statistics
from partsig.verbs.report import report

pytestmark = pytest.mark.slow

N, E = 6, 840
VOID = {"meta", "br"}
# What is charted of several pairs.
CHARTED = ("TST", "WASO")


def made_store(path, stages):
    """Write a store of these stages (E,) by recording, each of a subject, without signals."""
    meta = make_meta(
        source="edf", ch_names=("C4-M1",), sfreq=100.0, l_freq=0.1, h_freq=30.0, dtype="float32"
    )
    create_store(path, meta)
    (path / "labels").mkdir(exist_ok=True)
    rows = []
    for place, (name, codes) in enumerate(stages.items()):
        np.save(path / "labels" / f"{name}.npy", codes.astype(np.int8))
        counts = {stage: int((codes == k).sum()) for k, stage in enumerate(STAGES)}
        row = failed_row(name, f"subject {place}", "") | counts | {"unscored": (codes < 0).sum()}
        row |= {"status": OK, "n_epochs": len(codes), "n_samples": 3000 * len(codes)}
        rows.append(row | {"age": 30 + place, "sex": "MF"[place % 2], "start_s": 0.0})
    write_index(path, rows)
    return path


def made_nights(n=N, seed=0):
    """Return stages (E,) of nights without an unscored epoch, in runs of twelve epochs."""
    rng = np.random.default_rng(seed)
    return {f"night{k:02d}": np.repeat(rng.integers(0, 5, E // 12), 12) for k in range(n)}


def disagreeing(nights, share, seed):
    """Return the nights with another stage in a share of the epochs, drawn anew."""
    rng = np.random.default_rng(seed)
    changed = {}
    for name, codes in nights.items():
        other = (codes + rng.integers(1, 5, len(codes))) % 5
        changed[name] = np.where(rng.random(len(codes)) < share, other, codes)
    return changed


def write_scorer(place, nights):
    place.mkdir(parents=True)
    for name, codes in nights.items():
        words = ["?" if code < 0 else STAGES[code] for code in codes]
        (place / f"{name}.txt").write_text("\n".join(words) + "\n")
    return place


@pytest.fixture(scope="module")
def scorings():
    """Four scorings, the store's own the last; anna and bert leave epochs unscored."""
    nights = made_nights()
    found = {
        "anna": disagreeing(nights, 0.1, 1),
        "bert": disagreeing(nights, 0.2, 2),
        "<i>c&": disagreeing(nights, 0.4, 3),
        "store": nights,
    }
    for codes in found["anna"].values():
        codes[:20] = -1
    found["bert"]["night02"][100:130] = -1
    return found


@pytest.fixture(scope="module")
def folder(scorings, tmp_path_factory):
    """A folder with the store and a folder for each scorer."""
    place = tmp_path_factory.mktemp("scorers")
    made_store(place / "store", scorings["store"])
    for k, name in enumerate(list(scorings)[:-1]):
        write_scorer(place / f"scorer{k}", scorings[name])
    return place


def folders_of(folder, scorings, n=3):
    return {name: folder / f"scorer{k}" for k, name in enumerate(list(scorings)[:n])}


@pytest.fixture(scope="module")
def made(folder, scorings):
    return report(
        False,
        store=folder / "store",
        scorer=folders_of(folder, scorings),
        output=folder / "out",
    )


def counted(scorings, names=None):
    """Return every scoring's stages (n,) of the epochs that all scored, by loops."""
    names = list(next(iter(scorings.values()))) if names is None else names
    pooled = {scorer: [] for scorer in scorings}
    for name in names:
        for e in range(len(scorings["store"][name])):
            codes = {scorer: int(nights[name][e]) for scorer, nights in scorings.items()}
            if min(codes.values()) >= 0:
                for scorer, code in codes.items():
                    pooled[scorer].append(code)
    return pooled


# Figures.


def test_pairs_are_scikit_learns_on_the_epochs_that_all_scored(made, scorings):
    pooled = counted(scorings)
    found = made.metrics
    assert found["n_epochs"] == len(pooled["anna"]) == N * E - N * 20 - 30
    assert found["n_left_out"] == N * 20 + 30
    pairs = list(combinations(scorings, 2))
    assert [(row["first"], row["second"]) for row in found["pairs"]] == pairs
    for row, (first, second) in zip(found["pairs"], pairs, strict=True):
        a, b = pooled[first], pooled[second]
        assert row["kappa"]["value"] == pytest.approx(cohen_kappa_score(a, b))
        assert row["accuracy"]["value"] == pytest.approx(accuracy_score(a, b))
        f1 = [row["f1"][stage]["value"] for stage in STAGES]
        assert f1 == pytest.approx(f1_score(a, b, average=None))
        assert row["confusion"] == confusion_matrix(a, b).tolist()
        for measured in (row["kappa"], row["accuracy"], *row["f1"].values()):
            low, high = measured["interval_95"]
            assert low < measured["value"] < high
    everybody = np.array(list(pooled.values()))
    assert found["unanimous"]["value"] == pytest.approx((everybody == everybody[0]).all(0).mean())


def test_fleiss_kappa_is_statsmodels(made, scorings):
    pooled = counted(scorings)
    table, _ = aggregate_raters(np.array(list(pooled.values())).T)
    assert made.metrics["measure"] == "Fleiss' kappa"
    assert made.metrics["kappa"]["value"] == pytest.approx(fleiss_kappa(table))
    low, high = made.metrics["kappa"]["interval_95"]
    assert low < made.metrics["kappa"]["value"] < high


def test_scorers_have_their_mean_kappa_with_the_others(made, scorings):
    pooled = counted(scorings)
    kappas = {
        pair: cohen_kappa_score(*(pooled[scorer] for scorer in pair))
        for pair in combinations(scorings, 2)
    }
    for row in made.metrics["scorers"]:
        name = row["name"]
        own = np.mean([value for pair, value in kappas.items() if name in pair])
        others = np.mean([value for pair, value in kappas.items() if name not in pair])
        assert row["with_others"]["value"] == pytest.approx(own)
        assert row["gap"]["value"] == pytest.approx(own - others)
        n_scored = sum((codes >= 0).sum() for codes in scorings[name].values())
        assert row["n_epochs"] == n_scored
    assert [row["folder"] is None for row in made.metrics["scorers"]] == [False] * 3 + [True]


def test_recordings_and_their_statistics(made, scorings):
    rows = made.metrics["recordings"]
    assert [row["kappa"] for row in rows] == sorted(row["kappa"] for row in rows)
    assert {row["recording"] for row in rows} == set(scorings["store"])
    for row in rows:
        name = row["recording"]
        pooled = counted(scorings, [name])
        table, _ = aggregate_raters(np.array(list(pooled.values())).T)
        assert row["kappa"] == pytest.approx(fleiss_kappa(table))
        pairs = [cohen_kappa_score(pooled[a], pooled[b]) for a, b in combinations(scorings, 2)]
        assert row["pairs"] == pytest.approx(pairs)
        together = np.array(list(pooled.values()))
        assert row["differ"] == pytest.approx((together != together[0]).any(0).mean())
        common = np.min([nights[name] for nights in scorings.values()], axis=0) >= 0
        for scorer, nights in scorings.items():
            expected = sleep_statistics(np.where(common, nights[name], -1))
            assert row["statistics"][scorer] == pytest.approx(expected, nan_ok=True)
    mean = np.mean([row["statistics"]["anna"]["TST"] for row in rows])
    assert made.metrics["scorers"][0]["statistics"]["TST"]["mean"] == pytest.approx(mean)
    bias = np.mean([r["statistics"]["bert"]["TST"] - r["statistics"]["anna"]["TST"] for r in rows])
    found = made.metrics["pairs"][0]["bland_altman"]
    assert found["TST"]["bias"] == pytest.approx(bias)
    assert set(found) == set(STATISTICS)


def test_where_they_differ_is_counted_over_all_pairs(made, scorings):
    pooled = counted(scorings)
    expected = dict.fromkeys(combinations(STAGES, 2), 0)
    for first, second in combinations(scorings, 2):
        for a, b in zip(pooled[first], pooled[second], strict=True):
            if a != b:
                expected[STAGES[min(a, b)], STAGES[max(a, b)]] += 1
    rows = made.metrics["confused"]
    assert {tuple(row["stages"]): row["n"] for row in rows} == expected
    assert [row["n"] for row in rows] == sorted(expected.values(), reverse=True)
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_the_longest_stretches_are_told(tmp_path):
    """Ten epochs on N3 instead of N2, four on W; between them an epoch that one left unscored."""
    truth = np.full(60, 2)
    truth[50:] = 4
    other = truth.copy()
    other[5:15], other[20:24], other[15] = 3, 0, -1
    store = made_store(tmp_path / "store", {"n": truth})
    folder = write_scorer(tmp_path / "a", {"n": other})
    (row,) = report(False, store=store, scorer={"a": folder}, output=tmp_path / "out").metrics[
        "recordings"
    ]
    assert row["stretches"] == [
        {"epoch": 5, "onset_s": 150.0, "n_epochs": 10, "stages": {"a": "N3", "store": "N2"}},
        {"epoch": 20, "onset_s": 600.0, "n_epochs": 4, "stages": {"a": "W", "store": "N2"}},
    ]


def test_fleiss_of_any_number_of_pairs_at_once():
    """As the bootstrap asks for it: draws in front."""
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 5, (2, 3, 200))
    tables = np.stack(
        [
            [confusion_matrix(a, b, labels=range(5)) for a, b in combinations(draw, 2)]
            for draw in codes
        ]
    )
    expected = [fleiss_kappa(aggregate_raters(draw.T)[0]) for draw in codes]
    assert overall(tables).tolist() == pytest.approx(expected)


# Which scorings, which recordings.


def test_two_scorers_have_cohens_kappa_and_all_charts(folder, scorings, tmp_path):
    found = report(
        False,
        store=folder / "store",
        scorer=folders_of(folder, scorings, 2),
        overrides=["store_labels=false"],
        output=tmp_path,
    )
    two = {key: value for key, value in scorings.items() if key in ("anna", "bert", "store")}
    pooled = counted(two)
    assert found.metrics["measure"] == "Cohen's kappa"
    expected = cohen_kappa_score(pooled["anna"], pooled["bert"])
    assert found.metrics["kappa"]["value"] == pytest.approx(expected)
    assert [row["with_others"] for row in found.metrics["scorers"]] == [None, None]
    text = found.page.read_text()
    assert "Fleiss&#x27; kappa" not in text
    assert "Each scorer with the others" not in text
    assert "Bland–Altman: minutes of N3" in text
    assert f"Both give the same stage to {number(100 * accuracy_of(found), 0)}" in found.summary[0]


def accuracy_of(found):
    return found.metrics["pairs"][0]["accuracy"]["value"]


def test_one_scorer_is_held_against_the_stores_labels(sample_store, tmp_path):
    """On the bundled sample: real stages, some recordings, most without a file."""
    opened = open_store(sample_store)
    names = opened.recordings_of(opened.labelled_subjects)[:12]
    nights = {name: opened.labels(name) for name in names}
    folder = write_scorer(tmp_path / "anna", nights)
    found = report(False, store=sample_store, scorer=[f"anna={folder}"], output=tmp_path / "out")
    assert [row["name"] for row in found.metrics["scorers"]] == ["anna", "store"]
    assert found.metrics["kappa"] == {"value": 1.0, "interval_95": [1.0, 1.0]}
    assert set(found.metrics["unread"]) == set(opened.recordings) - set(names)
    n = len(opened.recordings) - len(names)
    assert f"{n} recordings of the store of which no scorer's folder has a file" in found.summary[1]
    assert any("copies of one scoring" in line for line in found.summary)
    assert found.metrics["confused"] == []


def test_unscored_stores_and_recordings_without_a_common_epoch(scorings, tmp_path):
    nights = made_nights(3)
    store = made_store(tmp_path / "store", {n: np.full(E, -1) for n in nights})
    half = {name: codes.copy() for name, codes in nights.items()}
    half["night01"][: E // 2] = -1
    other = {name: codes.copy() for name, codes in nights.items()}
    other["night01"][E // 2 :] = -1
    scorer = {"a": write_scorer(tmp_path / "a", half), "b": write_scorer(tmp_path / "b", other)}
    found = report(False, store=store, scorer=scorer, output=tmp_path / "out")
    assert [row["name"] for row in found.metrics["scorers"]] == ["a", "b"]
    assert found.metrics["apart"] == ["night01"]
    assert found.metrics["n_recordings"] == 2
    assert "1 recording without an epoch that all of them scored" in found.summary[1]
    with pytest.raises(ConfigError, match=r"twice or more, or once where .* has stages"):
        report(False, store=store, scorer={"a": scorer["a"]}, output=tmp_path / "no")
    only = {"a": write_scorer(tmp_path / "a1", {"night01": half["night01"]})}
    only["b"] = write_scorer(tmp_path / "b1", {"night01": other["night01"]})
    with pytest.raises(DataError, match=r"no epoch has a stage by each of a, b\."):
        report(False, store=store, scorer=only, output=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_recording_that_one_scorer_lacks_is_refused(folder, scorings, tmp_path):
    shutil.copytree(folder / "scorer1", tmp_path / "bert")
    (tmp_path / "bert" / "night03.txt").unlink()
    scorer = {"anna": folder / "scorer0", "bert": tmp_path / "bert"}
    with pytest.raises(
        DataError, match=r"--scorer bert: .* no hypnogram of night03; each of the 6"
    ):
        report(False, store=folder / "store", scorer=scorer, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_refused(folder, scorings, tmp_path):
    store, anna = folder / "store", folder / "scorer0"
    with pytest.raises(ConfigError, match="--scorer NAME=FOLDER twice or more"):
        report(False, store=store)
    with pytest.raises(ConfigError, match="--scorer store has the name of"):
        report(False, store=store, scorer={"store": anna})
    with pytest.raises(ConfigError, match="twice or more"):
        report(False, store=store, scorer={"a": anna}, overrides=["store_labels=false"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has a hypnogram of a recording .*night00, night01, "):
        report(False, store=store, scorer={"a": tmp_path / "empty"})
    with pytest.raises(DataError, match="no store at"):
        report(False, store=tmp_path / "none", scorer={"a": anna})
    other = tmp_path / "other"
    shutil.copytree(store, other)
    meta = json.loads((other / "meta.json").read_text())
    meta["labels"] |= {"classes": ["calm", "moving"]}
    (other / "meta.json").write_text(json.dumps(meta))
    rows = [{"calm": sum(row[k] for k in STAGES), "moving": 0} | row for row in read_index(store)]
    write_index(other, [{k: v for k, v in row.items() if k not in STAGES} for row in rows])
    with pytest.raises(DataError, match="has the classes calm, moving; hypnograms need"):
        report(False, store=other, scorer={"a": anna})


# The page.


class Page(HTMLParser):
    """Checks nesting; collects tags, addresses and texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_has_the_figures_and_needs_nothing_else(made, scorings):
    text = made.page.read_text()
    page = Page(text)
    assert page.addresses == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", text)
    words = " ".join(page.texts)
    found = made.metrics
    for row in found["pairs"]:
        assert f"{row['first']} and {row['second']}" in words
        assert with_interval(row["kappa"]) in words
        assert all(with_interval(row["f1"][stage]) in words for stage in STAGES)
        assert all(f"{n:,}" in words for line in row["confusion"] for n in line)
    assert with_interval(found["kappa"]) in words
    assert f"{found['n_epochs']:,} epochs that all of them scored" in words
    assert f"{found['n_left_out']} epochs that some of them left unscored" in words
    for row in found["recordings"]:
        cells = [row["recording"], *(number(k) for k in [row["kappa"], *row["pairs"]])]
        assert " ".join(cells) in words
    assert all(line in words for line in found["verdict"] + found["limits"])
    # Kappas of recordings, a matrix for each pair, charts of two statistics, and the hypnograms.
    drawn = sum("bias" in row["bland_altman"][key] for row in found["pairs"] for key in CHARTED)
    assert page.tags.count("svg") == 1 + 6 + drawn + N
    assert page.tags.count("title") - 1 >= page.tags.count("svg")
    assert "6 subjects are few" in words


def test_names_are_escaped(made):
    text = made.page.read_text()
    assert "<i>c" not in text
    assert "&lt;i&gt;c&amp;" in text


def test_json_has_no_nan_and_is_what_is_returned(made):
    written = json.loads((made.path / "report.json").read_text(), parse_constant=pytest.fail)
    assert written == json.loads(json.dumps(made.metrics))
    assert made.summary == written["verdict"]


def test_whoever_differs_most_is_named(made):
    (line,) = [line for line in made.summary if "agrees least" in line]
    assert line.startswith("<i>c& agrees least with the others")
    assert "less than the others agree" in line


def test_of_many_recordings_each_has_a_page(tmp_path):
    nights = made_nights(ON_ONE_PAGE + 1)
    store = made_store(tmp_path / "store", nights)
    scorer = {
        "a": write_scorer(tmp_path / "a", disagreeing(nights, 0.3, 1)),
        "b": write_scorer(tmp_path / "b", disagreeing(nights, 0.2, 2)),
    }
    found = report(False, store=store, scorer=scorer, output=tmp_path / "out")
    page = Page(found.page.read_text())
    own = [f"report/{row['recording']}.html" for row in found.metrics["recordings"]]
    assert page.addresses == own
    for row, name in zip(found.metrics["recordings"], own, strict=True):
        text = (tmp_path / "out" / name).read_text()
        one = Page(text)
        assert one.addresses[0] == "../report.html"
        assert one.tags.count("svg") == 1
        at = one.texts.index("TST (min)")
        told = [float(word) for word in one.texts[at + 1 : at + 4]]
        given = [row["statistics"][name]["TST"] for name in ("a", "b", "store")]
        assert told == pytest.approx(given, abs=0.5)
    # A smaller report at the same place: its recordings' pages are gone.
    few = {"a": write_scorer(tmp_path / "few", made_nights(2))}
    again = report(False, store=store, scorer=few, output=tmp_path / "out")
    assert again.metrics["n_recordings"] == 2
    assert not (tmp_path / "out" / "report").exists()


# The command.


def run(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_command_says_what_was_found_and_where(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scorers = ["--scorer", f"anna={folder / 'scorer0'}", "--scorer", f"bert={folder / 'scorer1'}"]
    done = run("--no-run", "--store", folder / "store", *scorers)
    assert done.exit_code == 0, done.stderr
    written = json.loads((tmp_path / "runs/report-store-anna-bert/report.json").read_text())
    *told, page = done.stdout.splitlines()
    assert told == written["verdict"]
    assert page == "page: runs/report-store-anna-bert/report.html"


def test_without_a_run_the_command_says_how_to_do_without(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scorer = ["--scorer", f"anna={folder / 'scorer0'}"]
    done = run(*scorer)
    assert done.exit_code == 2
    assert "no finished finetune run in runs/" in done.stderr
    assert "With --no-run the scorers are held against each other." in done.stderr
    assert "--no-run" not in run().stderr
    done = run("--no-run", "--run", "x", *scorer)
    assert done.exit_code == 2
    assert "--run and --no-run exclude each other" in done.stderr
    done = run("--no-run", *scorer)
    assert done.exit_code == 2
    assert "no store at data/store/physionet2018" in done.stderr
    assert not list(tmp_path.iterdir())


def test_several_scorers_where_no_run_is_finished_are_held_against_each_other(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    scorers = ["--scorer", f"anna={folder / 'scorer0'}", "--scorer", f"bert={folder / 'scorer1'}"]
    done = run("--store", folder / "store", *scorers)
    assert done.exit_code == 0, done.stderr
    first, *told, _page = done.stdout.splitlines()
    assert first.startswith("no finished fine-tuned run: the scorers are held against each other")
    written = json.loads((tmp_path / "runs/report-store-anna-bert/report.json").read_text())
    assert told == written["verdict"]
    done = run("--run", tmp_path / "missing", "--store", folder / "store", *scorers)
    assert done.exit_code == 2
