"""Execute the notebooks and write their outputs into them, as they are to be read.

Run: ``python benchmarks/make_notebooks.py`` for all, or with names (``02_held_out_subjects``). Each
runs in an empty folder of its own, in a kernel of this interpreter, and once more to show that it
resumes. Progress bars are dropped, and so is whatever differs from run to run; a warning, an error
or a path of this machine is refused, and the notebook is left as it was. Pictures keep 256 colours.
"""

import argparse
import base64
import io
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LIMIT_S = 600  # per cell
MOST_BYTES = 1_000_000
COLOURS = 256
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PROGRESS = re.compile(r"\d+%\||\d+(recording|step|epoch)/s|\?(recording|step|epoch)/s")
# A folder below the root, or a home, as JSON writes it; addresses of the web have another slash
# before them.
ABSOLUTE = re.compile(r"(?<![\w/.<])(/(tmp|home|root|work|Users|usr|opt|var)/|[A-Z]:\\\\)")


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in ``folder``; raise nbclient's CellExecutionError where one fails."""
    # No kernel specification of this machine: python3 is then the interpreter that runs this.
    specifications = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specifications)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=LIMIT_S,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    # tqdm misses widgets when YASA imports it; nothing here draws any.
    quiet = os.environ | {"PYTHONWARNINGS": "ignore:IProgress not found"}
    # A manager from outside is not ended otherwise, and its kernel would live on.
    client.execute(cleanup_kc=True, env=quiet)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop progress bars and what differs from run to run.

    Raises ValueError for what a reader should not meet: warnings, errors, paths of this machine.
    """
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02d}", {}
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = {}
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
            if output.output_type == "error" or output.get("name") == "stderr":
                raise ValueError(f"cell {number} says: {output}")
    text = nbformat.writes(notebook)
    found = ABSOLUTE.search(text)
    if found:
        raise ValueError(f"a path of this machine: {text[found.start() - 60 : found.end() + 60]}")
    if len(text) > MOST_BYTES:
        raise ValueError(f"{len(text):,} bytes; {MOST_BYTES:,} are allowed")


def _is_progress(output: nbformat.NotebookNode) -> bool:
    lines = [line for line in re.split(r"[\r\n]+", output.get("text", "")) if line.strip()]
    return output.get("name") == "stderr" and all(PROGRESS.search(line) for line in lines)


def _smaller(png: str) -> str:
    """Return a base64 PNG with so few colours that it has a third of the bytes and looks alike."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    held = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(held, format="PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="default: all")
    names = parser.parse_args().name or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            execute(notebook, Path(folder))
            first = time.perf_counter() - began
            tidy(notebook)
            nbformat.write(notebook, path)
            began = time.perf_counter()
            execute(nbformat.read(path, as_version=4), Path(folder))
            again = time.perf_counter() - began
        print(f"{name}: {first:.0f} s, again {again:.0f} s, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
