"""Does partsig still give what it gave? Every verb on tiny inputs, written down and compared.

Run: ``python benchmarks/golden.py record golden.json``, change the code, and
``python benchmarks/golden.py compare golden.json``, which prints every difference and ends with 1
if there is one. ``--only VERB`` does the steps of one verb (and, without writing them down, those
they need); ``--checkout PATH`` takes another working tree of partsig. Three minutes on one core.

Used are only what must survive a rebuilding: the functions of ``partsig`` by their public
arguments, the command line (``python -m partsig``), and the files that they write. Inputs are
written by the script (``golden_inputs.py``): nights in EDF with five kinds of hypnogram, WFDB,
BIDS, Sleep-EDF's names, short segments, pictures in folders and in a zip file, CIFAR-10's pickles.
The steps are in ``golden_steps.py`` and, wrong uses and help pages, in ``golden_refusals.py``. Each
is done in a process of its own, on one thread, forked when everything is imported, all in one
temporary folder. Written down are, per step (``golden_look.py``):

- what the function returned or raised, or the command's exit code and what it printed;
- every file it made or changed. Numbers of JSON and every line of short tables stand there as they
  are (losses, metrics, kappas, predictions), arrays and weights as a hash of their bytes, by name,
  type and shape. Of pictures there is only the name, and of archives with a time within.

What may rightly differ (times, versions, speeds, temporary places) is masked by the rules at the
top of ``golden_look.py`` and only by these. The rest is the same whenever it is recorded on one
machine with the same versions: recorded twice, ``compare`` finds nothing. Floats differ between
machines, so a recording is no file for the repository; compare on the machine that recorded.
"""

import argparse
import contextlib
import json
import os
import platform
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import golden_refusals  # noqa: F401 - adds its steps
from golden_inputs import write_all
from golden_look import look, masked, told
from golden_steps import STEPS, Step
from scale import THREADS, tree_of

HERE = Path(__file__).resolve().parent
# Imported before processes are forked, so that each need not; by verb.
LOADED = {
    "preprocess": ("scipy.signal", "wfdb", "PIL.Image"),
    "pretrain": ("torch.utils.tensorboard", "torchvision.transforms.v2"),
    "finetune": ("sklearn.ensemble", "torch.utils.tensorboard"),
    "evaluate": ("matplotlib.pyplot",),
    "report": ("yasa", "statsmodels.api", "matplotlib.pyplot"),
}
# How wide help pages are, and that nothing is in colour.
TERMINAL = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
TOO_MUCH = 200  # letters of a difference that are printed


def in_order(names: Iterable[str]) -> list[str]:
    """Return steps and all that they need, each after what it needs."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in found:
            for needed in STEPS[name].needs:
                add(needed)
            found[name] = None

    for name in names:
        add(name)
    return list(found)


def do(step: Step) -> object:
    """Do a step in this process; return what the function returned, or None."""
    if step.work is not None:
        return step.work()
    sys.argv = ["partsig", *step.command]
    runpy.run_module("partsig", run_name="__main__", alter_sys=True)
    return None


def in_fork(step: Step, work: Path, places: dict[str, str]) -> dict[str, object]:
    """Do a step in a process of its own; return what it gave or how it failed, and what it said."""
    from partsig import PartsigError

    streams = [work.parent / name for name in ("out", "err", "given")]
    pid = os.fork()
    if not pid:
        code, given = 1, None
        try:
            for number, path in enumerate(streams[:2], 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            folder = work / step.folder
            folder.mkdir(exist_ok=True)
            os.chdir(folder)
            given, code = {"returned": told(do(step), places)}, 0
        except SystemExit as end:
            given, code = {}, end.code if isinstance(end.code, int) else int(end.code is not None)
        except PartsigError as error:
            given, code = {"refused": f"{type(error).__name__}: {error}"}, 0
        except BaseException:  # noqa: BLE001 - a forked child must not return
            given = {"traceback": traceback.format_exc().splitlines()[-1]}
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            streams[2].write_text(json.dumps(given))
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    out, err, given = (path.read_text(encoding="utf-8", errors="replace") for path in streams)
    found = json.loads(given)
    if step.command:
        found = {"code": code, "said": printed(out, places), "errors": printed(err, places)} | found
        found.pop("returned", None)
    if "refused" in found:
        found["refused"] = masked(found["refused"], places)
    return found


def printed(text: str, places: dict[str, str]) -> list[str]:
    """Return what a command printed, line by line, without what may differ."""
    text = masked(text.replace("\r", "\n"), places)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def files(work: Path) -> dict[str, tuple[int, int, int]]:
    """Return what is there, raw data left out, and what tells a file that has changed."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.is_file() and not name.startswith("raw/"):
            about = path.stat()
            found[name] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return found


def record(names: Iterable[str], checkout: Path, folder: Path) -> Iterator[tuple[str, dict]]:
    """Do steps, and what they need; yield the name of each and what is written down of it."""
    work, wanted = folder / "work", set(names)
    write_all(work / "raw")
    places = {str(work): "<work>", str(folder): "<folder>", str(checkout): "<checkout>"}
    before: dict[str, tuple] = {}
    for name in in_order(names):
        begin = time.perf_counter()
        found = in_fork(STEPS[name], work, places)
        after = files(work)
        new = [file for file, about in after.items() if before.get(file) != about]
        gone = sorted(before.keys() - after.keys())
        before = after
        if name in wanted:
            found["files"] = {masked(file, places): look(work / file, places) for file in new}
            yield name, found | ({"gone": gone} if gone else {})
        print(f"{name:40} {time.perf_counter() - begin:6.2f} s", file=sys.stderr, flush=True)


def differences(was: object, now: object, where: str = "") -> Iterator[str]:
    """Yield a line for everything in which two recordings differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in list(dict.fromkeys([*was, *now])):
            place = f"{where} / {key}" if where else key
            if key not in now:
                yield f"{place}: is missing"
            elif key not in was:
                yield f"{place}: is new: {json.dumps(now[key], ensure_ascii=False)[:TOO_MUCH]}"
            else:
                yield from differences(was[key], now[key], place)
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{where}: had {len(was)} items, has {len(now)}"
        for i, (one, other) in enumerate(zip(was, now, strict=False)):
            yield from differences(one, other, f"{where} [{i}]")
    elif was != now or type(was) is not type(now):
        texts = (json.dumps(item, ensure_ascii=False)[:TOO_MUCH] for item in (was, now))
        yield f"{where}: was {', now '.join(texts)}"


def about() -> dict[str, str]:
    """Return what a recording's floats depend on."""
    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}
    return {"machine": platform.machine(), "python": platform.python_version()} | packages


def recorded(options: argparse.Namespace, names: list[str]) -> dict[str, object]:
    """Return a recording of a working tree."""
    os.environ.update(dict.fromkeys(THREADS, "1") | TERMINAL)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        sys.path.insert(0, str(tree_of(options.checkout, folder / "tree")))
        import partsig

        if not Path(partsig.__file__).is_relative_to(folder):
            raise SystemExit(f"{partsig.__file__} is imported, not {options.checkout}.")
        steps = [STEPS[name] for name in in_order(names)]
        verbs = {step.verb for step in steps if "--help" not in step.command}
        for verb in sorted(verbs & {*partsig.VERBS}):
            getattr(partsig, verb)
            for module in LOADED.get(verb, ()):
                with contextlib.suppress(ImportError):  # what is optional is missed by its step
                    import_module(module)
        (folder / "work").mkdir()
        found = dict(record(names, options.checkout, folder))
    return {"about": about(), "steps": found}


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", metavar="VERB", help="the steps of one verb")
    parser.add_argument("--step", action="append", metavar="NAME", help="this one; repeatable")
    parser.add_argument("--checkout", type=Path, default=HERE.parent)
    options = parser.parse_args(arguments)
    options.checkout = options.checkout.resolve()
    names = options.step or [n for n, s in STEPS.items() if options.only in (None, s.verb)]
    if not names or any(name not in STEPS for name in names):
        parser.error(
            "no such verb or step; there are " + ", ".join({s.verb for s in STEPS.values()})
        )
    found = recorded(options, names)
    if options.what == "record":
        options.file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        failed = [name for name, step in found["steps"].items() if "traceback" in step]
        print(f"{len(names)} steps in {options.file}; defects in: {', '.join(failed) or 'none'}")
        return 0
    known = json.loads(options.file.read_text(encoding="utf-8"))
    if known["about"] != found["about"]:
        print(f"recorded with {known['about']}, this is {found['about']}: floats may differ.")
    chosen = {name: known["steps"][name] for name in names if name in known["steps"]}
    lines = list(differences(chosen, json.loads(json.dumps(found["steps"]))))
    for line in lines:
        print(line)
    print(f"{len(names)} steps, {len(lines)} differences")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
