"""Ids for names: the same on every machine that has the table, and not to be found without."""

import csv
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import edfio
import numpy as np
import pytest

import partsig
from partsig.data.pseudonyms import PseudonymTable
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import read_index
from partsig.errors import ConfigError, DataError

PEOPLE = ("Miller_Anna", "Miller_Anna_2", "Zimmermann-Bert")
SUBJECT = {"subject": "^([A-Za-z]+.[A-Za-z]+)"}
CH = {"channels": ["C3"]}


def write_edf(path, seed=0, stages=("W", "N2", "R"), birth=None, patient="X"):
    rng = np.random.default_rng(seed)
    signal = 30 * rng.standard_normal(100 * 30 * len(stages))
    edfio.Edf(
        [edfio.EdfSignal(signal, 100, label="C3", physical_dimension="uV")],
        patient=edfio.Patient(name=patient, birthdate=birth),
        annotations=[
            edfio.EdfAnnotation(30 * e, 30, f"Sleep stage {stage}")
            for e, stage in enumerate(stages)
        ],
    ).write(path)
    return path


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for number, name in enumerate(PEOPLE):
        write_edf(folder / f"{name}.edf", number)
    return folder


def preprocess(raw, store, table, **options):
    own = options.pop("overrides", {})
    return partsig.preprocess(
        "edf", raw, store, overrides=SUBJECT | CH | own, jobs=1, pseudonyms=table, **options
    )


def told(table):
    with open(table, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return {(row["kind"], row["name"]): row["pseudonym"] for row in rows}


def bytes_of(folder):
    """Every byte of a folder, names of files included."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\0".join([*(os.fsencode(p.relative_to(folder)) for p in files), *map(read, files)])


def read(path):
    return path.read_bytes()


def test_no_name_is_in_the_store_and_all_of_them_are_in_the_table(raw, tmp_path):
    (raw / "Broken_Carl.edf").write_bytes(b"0" * 300)
    store, table = tmp_path / "store", tmp_path / "apart" / "names.csv"
    result = preprocess(raw, store, table)
    everything = bytes_of(store)
    for word in (b"Miller", b"Anna", b"Zimmer", b"Bert", b"Broken", b"Carl", os.fsencode(tmp_path)):
        assert word not in everything
    known = told(table)
    opened = open_store(store)
    assert set(opened.recordings) == {known["recording", name] for name in PEOPLE}
    assert set(opened.subjects) == {known["subject", "Miller_Anna"], known["subject", PEOPLE[2]]}
    # The one that failed is told by its id in the store, by its name and the reason on the screen.
    broken = known["recording", "Broken_Carl"]
    assert list(result.failed) == [broken]
    assert "Broken_Carl" in result.failed[broken]
    failed = next(row for row in read_index(store) if row["status"] == "failed")
    assert failed["reason"] == "not read; the table of pseudonyms says why"


def test_the_signals_are_those_of_a_store_with_names(raw, tmp_path):
    table = tmp_path / "names.csv"
    preprocess(raw, tmp_path / "a", table)
    partsig.preprocess("edf", raw, tmp_path / "b", overrides=SUBJECT | CH, jobs=1)
    hidden, plain = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    for name in PEOPLE:
        other = told(table)["recording", name]
        np.testing.assert_array_equal(hidden.signal(other), plain.signal(name))
        np.testing.assert_array_equal(hidden.labels(other), plain.labels(name))


def test_the_table_is_for_its_owner_alone_and_is_continued(raw, tmp_path):
    store, table = tmp_path / "store", tmp_path / "names.csv"
    preprocess(raw, store, table)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    first, before = told(table), (store / "index.csv").read_bytes()
    table.chmod(0o644)
    times = {p: p.stat().st_mtime_ns for p in (store / "signals").iterdir()}
    preprocess(raw, store, table)  # nothing is new
    assert (store / "index.csv").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in (store / "signals").iterdir()} == times
    write_edf(raw / "Young_Dora.edf", 9)
    preprocess(raw, store, table)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert told(table).items() > first.items()
    assert len(open_store(store).recordings) == 4
    # Another store by the same table: the same ids, so that splits and leaks are told across them.
    preprocess(raw, tmp_path / "other", table)
    assert open_store(tmp_path / "other").subjects == open_store(store).subjects


def test_ids_of_two_tables_have_nothing_in_common(raw, tmp_path):
    for n in "ab":
        preprocess(raw, tmp_path / f"store-{n}", tmp_path / f"{n}.csv")
    stores = [open_store(tmp_path / f"store-{n}") for n in "ab"]
    assert not set(stores[0].subjects) & set(stores[1].subjects)
    sources = [{row["source"] for row in store.rows} for store in stores]
    assert not sources[0] & sources[1]


def test_a_changed_file_is_read_again(raw, tmp_path):
    store, table = tmp_path / "store", tmp_path / "names.csv"
    preprocess(raw, store, table)
    write_edf(raw / f"{PEOPLE[0]}.edf", 77)
    before = {row["recording"]: row["sha256"] for row in read_index(store)}
    preprocess(raw, store, table)
    after = {row["recording"]: row["sha256"] for row in read_index(store)}
    assert [n for n in before if before[n] != after[n]] == [told(table)["recording", PEOPLE[0]]]


def test_shards_with_one_table_are_one_run(raw, tmp_path):
    table = tmp_path / "names.csv"
    for i in (1, 2):
        preprocess(raw, tmp_path / "a", table, shard=f"{i}/2")
    preprocess(raw, tmp_path / "a", table, merge=True)
    preprocess(raw, tmp_path / "b", table)
    assert (tmp_path / "a/index.csv").read_bytes() == (tmp_path / "b/index.csv").read_bytes()
    assert {name for kind, name in told(table) if kind == "recording"} == set(PEOPLE)


def test_workers_of_dask_give_the_same_ids(raw, tmp_path):
    distributed = pytest.importorskip("distributed")
    table = tmp_path / "names.csv"
    preprocess(raw, tmp_path / "a", table)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        preprocess(raw, tmp_path / "b", table, scheduler=cluster.scheduler_address)
    assert (tmp_path / "a/index.csv").read_bytes() == (tmp_path / "b/index.csv").read_bytes()


def test_many_open_a_new_table_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        opened = list(
            pool.map(
                lambda _: PseudonymTable.open(tmp_path / "t.csv", tmp_path / "store"), range(16)
            )
        )
        list(
            pool.map(
                lambda pair: (pair[1].recording(f"n{pair[0]}"), pair[1].keep()), enumerate(opened)
            )
        )
    assert len({table.pseudonyms for table in opened}) == 1
    assert len(told(tmp_path / "t.csv")) == 1 + 16


def test_settings_that_name_people_are_hidden(raw, tmp_path):
    own = {"hypnogram.offset_s": {PEOPLE[0]: 30.0}, "subject": "^(Miller_Anna|Zimmermann-Bert)"}
    store = tmp_path / "store"
    preprocess(raw, store, tmp_path / "names.csv", overrides=own)
    assert b"Miller" not in bytes_of(store)
    with pytest.raises(DataError, match="made with other settings: reading"):
        preprocess(raw, store, tmp_path / "names.csv")


def test_a_store_goes_on_as_it_was_begun(raw, tmp_path):
    store, table = tmp_path / "store", tmp_path / "names.csv"
    preprocess(raw, store, table)
    with pytest.raises(DataError, match="made with other settings: reading"):
        preprocess(raw, store, tmp_path / "other.csv")
    with pytest.raises(DataError, match="made with other settings: reading"):
        preprocess(raw, store, None)
    with pytest.raises(DataError, match="made with other settings: reading"):
        partsig.preprocess("edf", raw, store, overrides=CH, jobs=1)


def test_a_file_of_someone_else_is_kept(raw, tmp_path):
    table = tmp_path / "notes.csv"
    table.write_text("mine\n")
    with pytest.raises(DataError, match="is no table of pseudonyms: it is kept"):
        preprocess(raw, tmp_path / "store", table)
    assert table.read_text() == "mine\n"
    with pytest.raises(ConfigError, match="lies in the store"):
        preprocess(raw, tmp_path / "store", tmp_path / "store" / "names.csv")
    with pytest.raises(ConfigError, match="a file of this machine"):
        preprocess(raw, tmp_path / "store", "s3://bucket/names.csv")
    with pytest.raises(ConfigError, match="leave out --pseudonyms"):
        partsig.preprocess("digits", store=tmp_path / "digits", pseudonyms=table)


@pytest.mark.parametrize(
    ("age", "stored"), [("93", "90+"), ("90", "90+"), ("89", "89"), ("89.5", "89.5"), ("", "")]
)
def test_ages_above_a_limit_are_one_group(age, stored, write_night, tmp_path):
    header = write_night(tmp_path / "raw", "night")
    (tmp_path / "raw" / "age-sex.csv").write_text(f"Record,Age,Sex\n{header.stem},{age},F\n")
    settings = {"group_ages_over": 89}
    store = tmp_path / "store"
    partsig.preprocess("physionet2018", tmp_path / "raw", store, overrides=settings, jobs=1)
    (row,) = read_index(store)
    assert (row["age"], row["sex"]) == (stored, "F")
    hidden = tmp_path / "hidden"
    partsig.preprocess(
        raw=tmp_path / "raw", store=hidden, overrides=settings, jobs=1, pseudonyms=tmp_path / "t"
    )
    (row,) = read_index(hidden)
    assert (row["age"], row["sex"]) == (stored, "F")


def test_what_stands_for_a_sex_or_an_age_may_be_a_name(write_night, tmp_path):
    write_night(tmp_path / "raw", "night")
    (tmp_path / "raw" / "age-sex.csv").write_text("Record,Age,Sex\nnight,see Smith,Smith\n")
    store = tmp_path / "store"
    partsig.preprocess(raw=tmp_path / "raw", store=store, jobs=1, pseudonyms=tmp_path / "t.csv")
    assert b"Smith" not in bytes_of(store)
    with pytest.raises(ConfigError, match="group_ages_over"):
        partsig.preprocess(raw=tmp_path / "raw", store=store, overrides={"group_ages_over": -1})
