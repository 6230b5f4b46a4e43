"""What partsig did not write is kept: a verb that would replace it is refused, and says what."""

import shutil

import pytest

import partsig
from partsig.errors import DataError

pytestmark = pytest.mark.slow


@pytest.fixture
def tuned(stager_run, tmp_path):
    """A fine-tuned run of this test's own: verbs write into runs too."""
    return shutil.copytree(stager_run, tmp_path / "run")


CALLS = {
    "audit": lambda run, store, out: partsig.audit(store, output=out, jobs=1),
    "compare": lambda run, store, out: partsig.compare([run], output=out, device="cpu"),
    "embed": lambda run, store, out: partsig.embed(run, output=out / "e.npz", device="cpu"),
    "embed parquet": lambda run, store, out: partsig.embed(
        run, output=out / "e.parquet", device="cpu"
    ),
    "export": lambda run, store, out: partsig.export(run, out),
    "report": lambda run, store, out: partsig.report(run, output=out, device="cpu"),
}
FILES = [
    *(("audit", name) for name in ("audit.csv", "audit.json", "audit.html")),
    *(("compare", name) for name in ("compare.csv", "compare.md", "compare.png")),
    ("embed", "e.npz"),
    ("embed parquet", "e.parquet"),
    *(("export", name) for name in ("README.md", "config.json", "model.safetensors")),
    *(("report", name) for name in ("report.html", "report.json")),
]


@pytest.mark.parametrize(("verb", "name"), FILES)
@pytest.mark.parametrize("kind", ["file", "link"])
def test_anothers_file_is_kept(verb, name, kind, tuned, sample_store, tmp_path):
    """A link is another's too, also one that leads nowhere."""
    out = tmp_path / "out"
    out.mkdir()
    if kind == "link":
        (out / name).symlink_to(tmp_path / "elsewhere")
    else:
        (out / name).write_bytes(b"PK\x03\x04 mine, and not readable as anything")
    with pytest.raises(DataError, match=rf"{name} is there already and is not partsig's"):
        CALLS[verb](tuned, sample_store, out)
    assert [path.name for path in out.iterdir()] == [name]
    assert not (tmp_path / "elsewhere").exists()
    if kind == "file":
        assert b"mine" in (out / name).read_bytes()


@pytest.mark.parametrize("verb", CALLS)
def test_its_own_files_are_replaced(verb, tuned, sample_store, tmp_path):
    CALLS[verb](tuned, sample_store, tmp_path / "out")
    first = sorted(path.name for path in (tmp_path / "out").iterdir())
    CALLS[verb](tuned, sample_store, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == first


def test_a_page_that_speaks_of_partsig_is_another_all_the_same(tuned, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "README.md").write_text("# My thesis, made with partsig\n")
    (out / "config.json").write_text('{"tool": "partsig"}')
    (out / "model.onnx").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"README\.md is there already"):
        partsig.export(tuned, out)
    (out / "README.md").unlink()
    with pytest.raises(DataError, match=r"config\.json is there already"):
        partsig.export(tuned, out)
    assert (out / "model.onnx").read_bytes() == b"mine"


SPEAKS = {
    "audit.json": '{"tool": "partsig", "audited": 3, "notes": ["partsig"]}',
    "audit.csv": "notes\nsubject,worst,faults,warnings,remarks is how I count\n",
    "compare.csv": "notes\nmethod,budget,n_runs,n_draws\n",
    "config.json": '{"library_name": "partsig", "mine": 1}',
    "README.md": "# Mine\n\nlibrary_name: partsig\n",
    "report.html": "<html>" + " " * 300 + '<meta name="generator" content="partsig">',
}


@pytest.mark.parametrize("name", SPEAKS)
def test_a_file_that_speaks_of_what_partsig_writes_is_anothers(name, tuned, sample_store, tmp_path):
    verb = next(verb for verb, file in FILES if file == name)
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(SPEAKS[name])
    with pytest.raises(DataError, match=rf"{name} is there already and is not partsig's"):
        CALLS[verb](tuned, sample_store, out)
    assert (out / name).read_text() == SPEAKS[name]


@pytest.mark.parametrize("name", ["metrics.json", "arrays.npz", "symmetry.png"])
def test_an_inspection_keeps_anothers_files(name, encoder_run, sample_store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(DataError, match=f"{name} is there already"):
        partsig.inspect(encoder_run, sample_store, output=out, n=1, device="cpu")
    assert [path.name for path in out.iterdir()] == [name]
