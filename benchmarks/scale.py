"""How do time, memory and open files grow with the number of recordings? Every verb, one table.

Run: ``python benchmarks/scale.py [--sizes 100 316 1000 3162 10000] [--verbs NAME ...]
[--open-files 1024] [--timeout 300] [--checkout PATH] [--label before|after] [--folder WORK]``

Recordings are tiny (two channels, 24,000 samples) and written by the script, see
``scale_inputs.py``; the verbs are in ``scale_verbs.py``. Each runs in a process of its own, on one
thread, forked when everything is imported, with so many files it may open (an ordinary Linux's
1,024). Per verb and size:

- ``cpu_s``: CPU seconds (user and system), which other work on the machine changes little; below
  REPEAT_BELOW_S the lesser of two. ``wall_s``: seconds on the clock.
- ``peak_mb``: the process's ``ru_maxrss`` beyond what it had when it was forked; mapped files are
  in it.
- ``open_files``: the most file descriptors seen, looked at every 50 ms.
- ``error``: the first line of what it failed with, instead; ``skipped``: it would take too long.

``exponent`` p (``scale_table.py``): seconds are taken as a + b n^p. The constant a (a first batch,
a figure, an index) is where the line through the two smallest sizes meets n = 0, no less than 0, no
more than the smallest size took; p is the slope of log(seconds - a) against log(n) between the
largest size that ran and one a third as large, differences below NOTICED_S counting as that much,
or noise would look like growth. It is null where the larger one took hardly more than the smallest:
then nothing grows.
``mb_per_1000`` is the memory the largest size took beyond the smallest, per 1,000 recordings.

``--checkout`` measures another working tree of partsig. Results go to ``results/scale.json`` under
the label, beside the other label's, and all of it as a table to ``results/scale.md``; with
``--folder`` the inputs are kept and used again. ``--shuffle`` measures instead what it costs to
draw a batch of fine-tuning.
"""

import argparse
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path

from scale_inputs import need
from scale_table import LABELS, exponent, per_thousand, ran, table, text_of
from scale_verbs import SHUFFLES, VERBS, measure_shuffle

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "scale.json"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
REPEAT_BELOW_S, REPEATS = 1.0, 2
LOOK_EVERY_S = 0.05
# Imported before processes are forked, by how a verb's name begins: what it would import itself.
MODALITIES = (
    *("partsig.modalities.signal_dataset", "partsig.modalities.image_dataset"),
    *("partsig.verbs.pretrain", "partsig.recipes.pretraining", "partsig.recipes.finetuning"),
    "matplotlib.pyplot",
)
LOADED = {
    "open": ("partsig.data.signals.store",),
    "split": ("partsig.data.splits",),
    "the last run": ("partsig.runs.directory",),
    "preprocess": (
        "partsig.data.signals.preprocessing",
        "partsig.data.signals.readers.edf_recordings",
        "partsig.data.images.preprocessing",
        "scipy.signal",
        "scipy.io.matlab",
        "fsspec.implementations.local",
    ),
    "pretrain": MODALITIES,
    **dict.fromkeys(("finetune", "embed", "export"), (*MODALITIES, "partsig.sleep.staging_task")),
    **dict.fromkeys(("preprocess wfdb", "preprocess physionet2018"), ("wfdb",)),
    "report": ("yasa", "statsmodels.api", "pandas"),
    **{
        verb: (*MODALITIES, "partsig.sleep.figures", "partsig.sleep.staging_task")
        for verb in ("evaluate", "inspect", "compare", "stage")
    },
}


def tree_of(checkout: Path, links: Path) -> Path:
    """Return a folder from which a working tree is imported, its cli and configs in their places.

    pyproject.toml's package-dir says where these are installed.
    """
    package = links / "partsig"
    package.mkdir(parents=True)
    for source in (checkout / "partsig").iterdir():
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    for name in ("cli", "configs"):
        (package / name).symlink_to(checkout / name)
    return links


def load(verbs: Iterable[str]) -> None:
    """Import what verbs need, so that their processes need not."""
    import partsig

    for verb in verbs:
        name = verb.replace(",", " ").split()[0]
        if name in partsig.VERBS:
            getattr(partsig, name)
        for module in (m for begin in LOADED if verb.startswith(begin) for m in LOADED[begin]):
            import_module(module)


def megabytes() -> float:
    """Return the most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def in_child(work: Callable[[], dict], where: Path, open_files: int, timeout: float) -> dict:
    """Do some work in a process and folder of its own.

    Returns what it returned and its most open files; and what it ended with if that was no good
    end.
    """
    result, errors = where / "result.json", where / "errors.txt"
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for stream in (1, 2):
                os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(open_files or limit, limit), limit))
            os.chdir(where)
            result.write_text(json.dumps(work()), encoding="utf-8")
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must not return
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    begin, most, ended, killed = time.monotonic(), 0, 0, False
    while not ended:
        if time.monotonic() - begin > timeout and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        with suppress(OSError):  # it may just have ended
            most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
        ended, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0 if ended else LOOK_EVERY_S)
    if killed:
        return {"open_files": most, "error": f"killed after {timeout:g} s"}
    if status:
        lines = errors.read_text(errors="replace").strip().splitlines()
        return {"open_files": most, "error": lines[-1] if lines else f"ended with {status}"}
    return json.loads(result.read_text(encoding="utf-8")) | {"open_files": most}


def timed(name: str, given: dict[str, Path]) -> dict:
    """Do a verb in the current folder; return seconds and memory, and why it failed if it did."""
    found: dict[str, object] = {}
    before, cpu, wall = megabytes(), cpu_seconds(), time.perf_counter()
    try:
        VERBS[name].work(given, Path.cwd())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
        found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    found["peak_mb"] = round(megabytes() - before, 1)
    return {"cpu_s": round(cpu, 3), "wall_s": round(wall, 3)} | found


def prepare(folder: Path, n: int, kind: str) -> dict:
    """Make an input; nobody waits for the disk."""
    os.fsync = lambda _: None
    need(folder, n, kind)
    return {}


def measure(name: str, n: int, folder: Path, options: argparse.Namespace) -> dict:
    """Return what a verb took on so many recordings, its inputs made before."""
    for kind in VERBS[name].needs:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = in_child(partial(prepare, folder, n, kind), Path(work), 0, 3600)
        if "error" in made:
            return {"n": n, "error": f"its input {kind}: {made['error']}"}
    given = {kind: need(folder, n, kind) for kind in VERBS[name].needs}
    cells: list[dict] = []
    while len(cells) < REPEATS:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            task = partial(timed, name, given)
            cells.append(in_child(task, Path(work), options.open_files, options.timeout))
        if "error" in cells[-1] or cells[-1]["cpu_s"] >= REPEAT_BELOW_S:
            break
    if "error" in cells[-1]:
        cells[-1]["error"] = cells[-1]["error"].replace(f"{folder}/", "")
    least = min(cells, key=lambda cell: cell.get("cpu_s", 0.0))
    keys = [key for key in ("peak_mb", "open_files") if key in least]
    most = {key: max(cell[key] for cell in cells) for key in keys}
    return {"n": n} | least | most


def expected(cells: dict[str, dict], n: int) -> float:
    """Return the seconds that a larger size may take, from those that ran."""
    found = ran(cells)
    if not found:
        return 0.0
    power, last = 1.0, found[-1]
    if len(found) > 1 and found[-2]["wall_s"] > 1:
        growth = math.log(last["wall_s"] / found[-2]["wall_s"])
        power = max(power, growth / math.log(last["n"] / found[-2]["n"]))
    return last["wall_s"] * (n / last["n"]) ** power


def benchmark(folder: Path, options: argparse.Namespace, verbs: dict) -> Iterator[str]:
    """Measure what is asked for into ``verbs``; yield every verb that is done."""
    for name in options.verbs:
        row = verbs.setdefault(name, {"sizes": {}})
        for size in sorted(options.sizes):
            row["sizes"].pop(str(size), None)
            smaller = {key: cell for key, cell in row["sizes"].items() if int(key) < size}
            n = max(round(size * VERBS[name].share), 1)
            seconds = expected(smaller, n)
            if seconds > options.timeout:
                cell = {"n": n, "skipped": f"about {seconds:.0f} s were expected"}
            else:
                cell = measure(name, n, folder, options)
            row["sizes"][str(size)] = cell
            said = cell.get("error", "")[:90]
            print(f"{name:34} {n:6} {text_of(cell)}  {said}", flush=True)
        row["sizes"] = dict(sorted(row["sizes"].items(), key=lambda item: int(item[0])))
        row |= {"exponent": exponent(row["sizes"]), "mb_per_1000": per_thousand(row["sizes"])}
        yield name


def shuffles(folder: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Return what drawing a batch of fine-tuning costs, of each kind."""
    found = {}
    for kind in SHUFFLES:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            task = partial(measure_shuffle, kind)
            found[kind] = in_child(task, Path(work), 0, options.timeout)
        print(kind, found[kind], flush=True)
    return found


def about(checkout: Path, options: argparse.Namespace) -> dict:
    """Return what was measured, on what, and how."""
    asked = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    arguments = [a if not Path(a).is_absolute() else Path(a).name for a in sys.argv[1:]]
    return {
        "command": " ".join(["python", "benchmarks/scale.py", *arguments]),
        "commit": commit or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "open_files": options.open_files,
    }


def write(path: Path, results: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(results), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [100, 316, 1000, 3162, 10_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=VERBS, metavar="VERB")
    parser.add_argument("--open-files", type=int, default=1024)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds of a single run")
    parser.add_argument("--checkout", type=Path, default=HERE.parent)
    parser.add_argument("--label", choices=LABELS, default="after")
    parser.add_argument("--folder", type=Path, help="where inputs are made and kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    results = {}
    if options.results.is_file():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    checkout = options.checkout.resolve()
    own = results.setdefault(options.label, {"about": {}, "verbs": {}, "shuffle": {}})
    own["about"] = about(checkout, options)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "inputs").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(tree_of(checkout, Path(temporary) / "tree")))
        load(SHUFFLES if options.shuffle else options.verbs)
        if options.shuffle:
            own["shuffle"] = shuffles(folder, options)
        else:
            for _ in benchmark(folder, options, own["verbs"]):
                write(options.results, results)
    write(options.results, results)


if __name__ == "__main__":
    main()
