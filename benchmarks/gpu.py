"""Minutes on a GPU: what it can do, whether it computes rightly, how fast, and what is learned.

    python benchmarks/gpu_pack.py FOLDER --segments SEGMENTS --images IMAGES   (anywhere, once)
    python benchmarks/gpu.py --data FOLDER --out OUT --minutes 11             (on the GPU machine)

Copy this repository and FOLDER to the machine and run the second line there. It needs Python 3.12
with torch 2.11, torchvision, numpy, scipy, scikit-learn, matplotlib, tensorboard and Pillow;
pydantic, where it is missing, comes with FOLDER/wheels. Nothing is installed and nothing fetched.

Phases, in the order of their worth:

environment   the machine; measured rates of matrix products (bf16, float32, TF32) and of copies
correctness   every objective on CPU and GPU, bf16, streamed and resident windows, the separable
              head, a resumed run, the launcher; at most 90 s
compiled      the compiled blocks against the plain ones: the compiler's first minute
throughput    pretraining at batches of 512 to 8,192, with the literal head, a profile; at most
              3 min
verbs         fine-tuning, staging a night, pretraining streamed, with TF32, and on images
seeds         contrast with three seeds of pretraining, against scratch and the hard rows
adapting      a pretrained encoder on other channels, against scratch
learning      PART, part-histogram, MAE and contrast for equally long; probes and few labels
images        ViT-S/4 by PART, if time is left; ``--only images`` gives it all of it

OUT gets ``gpu.json``, written whole after every result, and beside it a profile's trace and an
encoder's weights in half precision: flat, at most 8 files of at most 15 MiB each. A phase that
fails leaves its traceback there and the next begins. Whatever happens, the script ends before the
minutes are over. It ends with 0 where every phase was done and nothing in it failed, else with 1
(3: the watchdog had to end it; 143: it was asked to stop).

``--dry-run`` does all of it on the CPU, tiny, with made-up data where FOLDER has none, in less than
a minute; ``--rehearse`` does the same on the GPU, to see what fails before the minutes are spent.
Their numbers mean nothing.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import gpu_tools  # noqa: E402 (found beside this file)
from gpu_tools import Asked, Campaign, Clock, Folder, OutOfTime, Record  # noqa: E402

# Where each phase is done, and the most seconds it may take; None: what is left.
PHASES: dict[str, tuple[str, str, float | None]] = {
    "environment": ("gpu_environment", "run", 60),
    "correctness": ("gpu_correctness", "run", 90),
    "compiled": ("gpu_correctness", "run_compiled", 90),
    "throughput": ("gpu_throughput", "run", 180),
    "verbs": ("gpu_throughput", "others", 100),
    "seeds": ("gpu_seeds", "run", 180),
    "adapting": ("gpu_seeds", "adapting", 180),
    "learning": ("gpu_learning", "run", None),
    "images": ("gpu_learning", "images", None),
}
# Seconds below which a phase is not begun: so many it takes to get going.
LEAST = {"seeds": 60, "adapting": 60, "learning": 60, "images": 40}
FINE = ("done", "no time left")


def carry(data: Path | None, work: Path) -> list[str]:
    """Put FOLDER/wheels first on the path where this Python lacks one of them; return their names.

    They are unpacked, because compiled modules cannot be imported from a zip file.
    """
    wheels = sorted((data / "wheels").glob("*.whl")) if data is not None else []
    tops = {
        name.split("/")[0].removesuffix(".py")
        for wheel in wheels
        for name in zipfile.ZipFile(wheel).namelist()
        if ".dist-info/" not in name and name.endswith(".py")
    }
    if not any(_lacks(top) for top in tops):
        return []
    target = work / "wheels"
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(target)
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    return [wheel.name for wheel in wheels]


def _lacks(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is None
    except (ImportError, ValueError):
        return True


def run_phase(name: str, work: Callable[[Campaign], None], seconds: float, job: Campaign) -> bool:
    """Do one phase within its seconds and note how it ended; return whether the next may begin."""
    job.record.phase(name, status="running", seconds_given=seconds)
    began, more, facts = gpu_tools.time.monotonic(), True, {}
    try:
        with job.clock.phase(seconds):
            work(replace(job, phase=name))
        facts = {"status": "done"}
    except OutOfTime:
        facts = {"status": "out of time"}
    except (Asked, KeyboardInterrupt) as asked:
        facts, more = {"status": "asked to stop", "why": str(asked)}, False
    except SystemExit as left:  # what the training loop makes of a signal
        facts, more = {"status": "asked to stop", "why": f"code {left.code}"}, False
    except BaseException:  # noqa: BLE001 (whatever it is, it is written down)
        facts = {"status": "failed", "traceback": traceback.format_exc()}
        traceback.print_exc()
    job.record.phase(name, **facts, seconds=gpu_tools.time.monotonic() - began)
    print(f"== {name}: {facts['status']}, {gpu_tools.time.monotonic() - began:.1f} s", flush=True)
    return more


def the_phase(name: str) -> Callable[[Campaign], None]:
    """Return what does a phase; it is imported inside it, so that a failure is the phase's own."""
    module, function, _ = PHASES[name]
    return lambda job: getattr(import_module(module), function)(job)


def main(arguments: list[str] | None = None, began: float = gpu_tools.BEGAN) -> int:
    """Run the phases that were asked for; return the exit code. ``began``: the clock's start."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="what gpu_pack.py made")
    parser.add_argument("--out", type=Path, required=True, help="where results go")
    parser.add_argument("--minutes", type=float, default=11.0)
    parser.add_argument("--only", nargs="+", choices=PHASES, metavar="PHASE", default=list(PHASES))
    tiny = parser.add_mutually_exclusive_group()
    tiny.add_argument("--dry-run", action="store_true", help="tiny, on the CPU")
    tiny.add_argument("--rehearse", action="store_true", help="tiny, on the GPU")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes is {options.minutes}; it must be above 0.")
    dry = options.dry_run or options.rehearse
    if options.data is None and not dry:
        parser.error("--data is needed: a folder that gpu_pack.py made; or --dry-run.")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data {options.data} is no folder.")
    folder, clock = Folder(options.out), Clock(options.minutes, began)
    record = Record(
        options.out,
        {
            "what": __doc__.partition("\n")[0],
            "command": " ".join(["python", "benchmarks/gpu.py", *(arguments or sys.argv[1:])]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "dry_run": dry,
            "minutes": options.minutes,
        },
    )
    over = gpu_tools.watch(clock, record)
    work = Path(tempfile.mkdtemp(prefix="partsig-gpu-"))
    job = Campaign(
        device="cpu" if options.dry_run else "cuda", dry=dry, data=options.data,
        work=work, folder=folder, clock=clock, record=record, phase="",
    )  # fmt: skip
    try:
        record.content["carried"] = carry(options.data, work)
        # What is started from here finds the same modules.
        known = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        ours = [str(work / "wheels"), str(HERE), str(HERE.parent)]
        os.environ["PYTHONPATH"] = os.pathsep.join([*ours, *known])
        for name in (name for name in PHASES if name in options.only):
            most = PHASES[name][2]
            seconds = clock.left() if most is None else min(most, clock.left())
            if seconds < (0 if dry else LEAST.get(name, 5)):
                record.phase(name, status="no time left", seconds=0.0)
            elif not run_phase(name, the_phase(name), seconds, job):
                finish(job)
                return 143
        return finish(job)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        over.set()


def finish(job: Campaign) -> int:
    """Note what failed, print one line a phase, and return the exit code."""
    content = job.record.content
    failed = gpu_tools.failures(content["phases"])
    content["failed"] = failed
    content["files"] = {p.name: p.stat().st_size for p in sorted(job.folder.path.iterdir())}
    job.record.write()
    for name, found in content["phases"].items():
        print(f"{name:<12} {found['status']:<14} {found['seconds']:>7.1f} s")
    for line in failed:
        print(f"  {line}")
    print(f"written: {job.record.path}")
    fine = all(found["status"] in FINE for found in content["phases"].values())
    return 0 if fine and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
