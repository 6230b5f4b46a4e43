"""What ``golden.py`` does with partsig: steps by name, each a call of a verb or a command line.

Every step runs in the same folder, so that its paths are short and relative: raw data lie in
``raw/KIND`` (``golden_inputs.py``), stores in ``store/``, runs in ``run/``. ``needs`` are the steps
that must have run before. The wrong uses and the help pages are in ``golden_refusals.py``.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from golden_inputs import CHANNELS


@dataclass(frozen=True, kw_only=True)
class Step:
    """A call, ``work()``, or a command line; ``folder``: where, below the folder of all steps."""

    verb: str
    needs: tuple[str, ...] = ()
    work: Callable[[], object] | None = None
    command: tuple[str, ...] = ()
    folder: str = "."


STEPS: dict[str, Step] = {}


def listed(names: str) -> tuple[str, ...]:
    """Return names of steps that are parted by semicolons."""
    return tuple(filter(None, names.split("; ")))


def step(name: str, verb: str, *given: object, needs: str = "", **options: object) -> None:
    """Add a step that calls ``partsig.VERB``; ``needs``: names of steps, with semicolons."""

    def work() -> object:
        import partsig

        return getattr(partsig, verb)(*given, **options)

    STEPS[name] = Step(verb=verb, needs=listed(needs), work=work)


def shell(name: str, command: str, needs: str = "", folder: str = ".") -> None:
    """Add a step that is a command line, ``partsig …``; settings must not hold a space."""
    words = tuple(command.split())
    before = listed(needs)
    STEPS[name] = Step(verb=words[0], needs=before, command=words, folder=folder)


# ---- preprocess, audit -------------------------------------------------------------------------

SHORT = "--set fit.epochs=1 --set fit.batch_size=8 --set optim.warmup_epochs=0"
SHAPED = "--set encoder.width=16 --set encoder.depth=1 --set encoder.heads=2"
READ = {"channels": list(CHANNELS), "sfreq": 50, "h_freq": 20}
SETS = "--jobs 1 --set channels=[C4-M1,O2-M1] --set sfreq=50 --set h_freq=20"


def made(name: str, source: str, raw: str, settings: dict, needs: str = "", **options) -> None:
    """Add a step that makes ``store/NAME`` by preprocessing."""
    options = {"overrides": settings, "jobs": 1} | options
    step(f"preprocess {name}", "preprocess", source, raw, f"store/{name}", needs=needs, **options)


made("eeg", "edf", "raw/edf", READ)
again = ("edf", "raw/edf", "store/eeg")
step("preprocess eeg, again", "preprocess", *again, overrides=READ, jobs=1, needs="preprocess eeg")
made("fast", "edf", "raw/edf", {"channels": list(CHANNELS)})
made("other", "edf", "raw/other", READ)
made("half", "edf", "raw/other", READ | {"dtype": "float16", "subject": "^(q[0-9])"})
filled = {"channels": [*CHANNELS, "E1-M2"], "missing": "fill", "aliases": {"C4-M1": ["O2-M1"]}}
made("filled", "edf", "raw/other", filled | {"sfreq": 50, "h_freq": 20})
made("wfdb", "wfdb", "raw/wfdb", READ)
made("sleep-edf", "sleep-edf", "raw/sleep-edf", READ | {"trim_wake_min": 1})
made("bids", "bids", "raw/bids", READ)
made("segments", "pc18-segments", "raw/segments", READ)
made("physionet2018", "physionet2018", "demo/eeg/raw", {"channels": ["O2-M1"]}, "demo")
shards = ("edf", "raw/other", "store/shards")
split = {"overrides": READ, "jobs": 1}
step("preprocess shard 1/2", "preprocess", *shards, shard="1/2", **split)
step("preprocess shard 2/2", "preprocess", *shards, shard="2/2", **split)
before = "preprocess shard 1/2; preprocess shard 2/2"
step("preprocess, merge", "preprocess", *shards, merge=True, **split, needs=before)
made("image", "images", "raw/images", {"size": 8, "val_share": 0.2})
made("imagenet", "images", "raw/imagenet/images.zip", {"size": 8})
made("large", "images", "raw/imagenet/images.zip", {"size": 12, "grey": True})
made("cifar10", "cifar10", "raw/cifar10", {})
made("imagenet-2", "images", "raw/imagenet-2/images.zip", {"size": 8})
made("digits", "digits", None, {})
shell("preprocess, shell", f"preprocess edf --raw raw/edf --store store/shell {SETS}")
shell("preprocess images, shell", "preprocess images --raw raw/images --store store/i --set size=8")

step("audit a store", "audit", "store/eeg", output="audit/eeg", jobs=1, needs="preprocess eeg")
channels = {"channels": list(CHANNELS)}
step("audit edf", "audit", "raw/edf", source="edf", output="audit/edf", overrides=channels, jobs=1)
shell(
    "audit wfdb, shell",
    "audit raw/wfdb --source wfdb --output audit/wfdb --jobs 1 --set channels=[C4-M1,O2-M1]",
)

# ---- pretrain ----------------------------------------------------------------------------------

SHAPE = {"encoder.width": 16, "encoder.depth": 2, "encoder.heads": 2}
FIT = {"fit.epochs": 2, "fit.batch_size": 16, "fit.log_every": 1, "optim.warmup_epochs": 0}
TINY = SHAPE | FIT | {"optim.lr": 0.1, "windows_per_epoch": 32}
PART = TINY | {"window_s": 6, "objective.patches": 8, "split.monitor_subjects": 2}
IMAGE = TINY | {"size": 8, "patch_px": 2}
# So that a run can be continued from its middle: a checkpoint at every step, all of them kept.
KEPT = {"fit.keep": 9, "fit.checkpoint_minutes": 0}


def pretrained(name: str, settings: dict, store: str = "eeg", needs: str = "", **options) -> None:
    """Add a step that pretrains ``run/NAME``."""
    before = f"preprocess {store}" + (f"; {needs}" if needs else "")
    options = {"overrides": settings, "gpus": 0} | options
    title = f"pretrain {name}"
    step(title, "pretrain", f"store/{store}", f"run/{name}", needs=before, **options)


pretrained("part", PART | KEPT)
again = {"overrides": PART | KEPT, "gpus": 0, "needs": "pretrain part"}
step("pretrain part, again", "pretrain", "store/eeg", "run/part", **again)
for name in ("part-pe20", "part-grid", "part-laplace", "part-context", "part-histogram"):
    pretrained(name, TINY, config=name)
for name in ("mae", "mp3", "droppos", "demo"):
    pretrained(name, TINY, config=name)
VARIANTS: dict[str, dict] = {
    "sizes": {"objective.sampling": "sizes"},
    "pairwise": {"objective.relative": "pairwise-mlp", "objective.hidden": 12},
    "mlp": {"objective.relative": "mlp", "objective.pairs": 0.5},
    "naive": {"objective.head_impl": "naive", "objective.heads": 1},
    "gather": {"objective.head_impl": "gather", "objective.pairs": 0.3},
    "unit": {"objective.target_scale": "unit", "objective.loss_on": "apart"},
    "near": {"objective.span": 3, "objective.stretches": 2, "objective.jitter": 0.1},
    "masked": {"objective.positions": "sincos", "objective.loss_on": "masked"},
    "spectrum": {"encoder.tokens": "linear+spectrum", "fit.average": 0.9, "fit.accumulate": 2},
    "resident": {"resident": "always", "optim.clip": 0.1, "encoder.drop_path": 0.3},
}
for name, changed in VARIANTS.items():
    pretrained(name, PART | changed)
pretrained("mae-raw", TINY | {"objective.name": "mae", "objective.target": "raw"})
pretrained("mae-channel", TINY | {"objective.name": "mae", "objective.target": "channel"})
contrast = {"objective.relate": 0, "objective.context": 1.0, "window_s": 12}
pretrained("contrast", PART | contrast)
pretrained("longer", PART | {"window_s": 12}, from_="run/part", seed=1, needs="pretrain part")
pretrained("half", PART, store="half", seed=2)
pretrained("segments", PART, store="segments")
shell(
    "pretrain, shell",
    f"pretrain --store store/eeg --run run/shell --config part-laplace --gpus 0 {SHAPED} {SHORT}",
    "preprocess eeg",
)


def resumed(name: str, store: str, settings: dict, at: int, **options) -> None:
    """Add a step that continues a copy of a run as it was after step ``at``."""

    def work() -> object:
        import partsig

        run = Path(f"run/{name}-resumed")
        shutil.copytree(f"run/{name}", run)
        for file in (run / "checkpoints").glob("step-*.pt"):
            if int(file.stem.removeprefix("step-")) > at:
                file.unlink()
        told = json.loads((run / "run.json").read_text(encoding="utf-8"))
        told["state"] = "running"
        (run / "run.json").write_text(json.dumps(told), encoding="utf-8")
        return partsig.pretrain(f"store/{store}", run, overrides=settings, gpus=0, **options)

    before = (f"pretrain {name}",)
    STEPS[f"pretrain {name}, resumed"] = Step(verb="pretrain", needs=before, work=work)


resumed("part", "eeg", PART | KEPT, 3)
tiny_image = {"modality": "image", "config": "image-tiny"}
pretrained("i-part", IMAGE | KEPT, "image", **tiny_image)
resumed("i-part", "image", IMAGE | KEPT, 2, **tiny_image)
for name in ("mae", "mp3", "droppos"):
    pretrained(f"i-{name}", IMAGE, "image", modality="image", config=f"cifar-{name}")
pretrained("i-sizes", IMAGE | {"objective.sampling": "sizes"}, "image", modality="image")
pretrained("i-grid", IMAGE | {"objective.sampling": "grid"}, "imagenet", modality="image")
changes = {"augment.crop": "resized", "augment.flip": 0.5, "augment.jitter": 0.2, "fit.workers": 1}
pretrained("i-augmented", IMAGE | changes, "large", modality="image")
pretrained("i-cifar", TINY, "cifar10", modality="image", config="cifar-tiny")

# ---- finetune ----------------------------------------------------------------------------------

TUNE = {"fit.epochs": 5, "fit.batch_size": 16, "optim.lr": 0.3, "optim.warmup_epochs": 0}
TUNE |= {"fit.log_every": 1}
TUNED = TUNE | {"split.val_subjects": 2}
SCRATCH = TUNED | SHAPE


def tuned(name: str, origin: str, settings: dict, store: str = "eeg", needs: str = "", **options):
    """Add a step that fine-tunes ``run/NAME``, and one that evaluates it."""
    before = [f"preprocess {store}", *listed(needs)]
    before += [] if origin == "scratch" else [f"pretrain {origin}"]
    origin = origin if origin == "scratch" else f"run/{origin}"
    image = settings.keys().isdisjoint(TUNED.keys() - TUNE.keys())
    budget = {} if image or "segments_per_class" in options else {"subjects": 4}
    options = {"overrides": settings, "device": "cpu"} | budget | options
    needs, title = "; ".join(before), f"finetune {name}"
    step(title, "finetune", origin, f"store/{store}", f"run/{name}", needs=needs, **options)
    step(f"evaluate {name}", "evaluate", f"run/{name}", device="cpu", needs=f"finetune {name}")


tuned("tuned", "part", TUNED)
tuned("tuned-8", "part", TUNED, subjects=8)
tuned("tuned-all", "part", TUNED, subjects=0, seed=1)
tuned("tuned-s1", "part", TUNED, seed=1)
tuned("few-labels", "part", TUNED, config="few-labels")
tuned("demo-tuned", "demo", TUNED, config="demo-finetune")
tuned("probe", "part", TUNED | {"train": "probe", "pool": "mean+sd"})
tuned("probe-spectrum", "spectrum", TUNED | {"train": "probe", "pool": "mean+sd+spectrum"})
tuned("probe-full", "mae", TUNED | {"train": "probe+full", "pool": "mean"})
tuned("one-block", "part-histogram", TUNED | {"blocks": 1, "train": "probe"})
mended = {"balanced": True, "shift_s": 10, "positions": "sincos", "optim.layer_decay": 0.7}
mended |= {"loss.mixup": 0.3, "loss.smoothing": 0.2, "loss.channel_dropout": 0.2}
tuned("mended", "droppos", TUNED | mended | {"fit.average": 0.9})
tuned("short", "segments", TUNED, "segments", segments_per_class=2)
pseudo = {"pseudo.confidence": 0.21, "pseudo.share": 0.5, "pseudo.distil": 0.3}
tuned("taught", "part", TUNED | pseudo, teacher="run/tuned", needs="finetune tuned")
tuned("scratch", "scratch", SCRATCH)
tuned("scratch-spectrum", "scratch", SCRATCH | {"encoder.tokens": "linear+spectrum"})
tuned("scratch-probe", "scratch", SCRATCH | {"train": "probe"})
for name in ("logistic", "boosting", "chambon2018"):
    tuned(name, "scratch", TUNED | {"model": name})
tuned("yasa", "scratch", TUNED | {"model": "yasa"}, "fast")
tuned("usleep", "scratch", TUNED | {"model": "usleep", "fit.epochs": 1}, "fast")
shell(
    "finetune, shell",
    f"finetune --from run/part --store store/eeg --run run/t --subjects 3 {SHORT} "
    "--device cpu --set split.val_subjects=2",
    "pretrain part",
)
WHOLE = TUNE | {"pool": "mean", "drop_path": 0.0}
tuned("i-tuned", "i-part", WHOLE, "imagenet", config="image-tiny-finetune", segments_per_class=6)
tuned("i-all", "i-mae", TUNE, "imagenet")
tuned("i-probe", "i-part", {"train": "probe", "pool": "mean+sd"}, "imagenet")
tuned("i-knn", "i-part", {"train": "knn", "pool": "mean", "neighbours": 5}, "imagenet")
tuned("i-probe-full", "i-mp3", TUNE | {"train": "probe+full", "blocks": 1}, "imagenet")
tuned("i-recipe", "i-part", TUNE | {"repeats": 2}, "imagenet", config="image-finetune")
tuned("i-scratch", "scratch", TUNE | SHAPE | {"patch_px": 2}, "imagenet")
shell(
    "finetune images, shell",
    "finetune --from run/i-part --store store/imagenet --run run/i-t --device cpu "
    "--set train=probe --segments-per-class 3",
    "pretrain i-part; preprocess imagenet",
)

# ---- what is done with runs --------------------------------------------------------------------

CPU = {"device": "cpu"}
before = "finetune tuned; preprocess other"
step("evaluate another store", "evaluate", "run/tuned", "store/other", **CPU, seed=3, needs=before)
shell("evaluate, shell", "evaluate --run run/probe --device cpu", "finetune probe")
shell("evaluate images, shell", "evaluate --run run/i-probe --device cpu", "finetune i-probe")
before = "finetune i-tuned; preprocess imagenet-2"
step("evaluate other images", "evaluate", "run/i-tuned", "store/imagenet-2", **CPU, needs=before)

step("embed", "embed", "run/part", **CPU, needs="pretrain part")
cls = {"pool": "cls", "blocks": 1, "recordings": ["q00", "q01"]}
before = "pretrain part; preprocess other"
step("embed a part", "embed", "run/part", "store/other", output="e.npz", **cls, **CPU, needs=before)
tuned_cls = {"output": "e.parquet", "pool": "mean", "device": "cpu"}
step("embed parquet", "embed", "run/tuned", **tuned_cls, needs="finetune tuned")
step("embed images", "embed", "run/i-part", **CPU, needs="pretrain i-part")
shell("embed, shell", "embed --run run/mae --output m.npz --device cpu", "pretrain mae")

step("inspect", "inspect", "run/part-laplace", n=1, seed=1, **CPU, needs="pretrain part-laplace")
step("inspect images", "inspect", "run/i-sizes", n=1, **CPU, needs="pretrain i-sizes")
shell("inspect, shell", "inspect --run run/part --n 1 --output look --device cpu", "pretrain part")

runs = ["run/tuned", "run/tuned-s1", "run/tuned-8", "run/scratch"]
before = "; ".join(f"evaluate {run[4:]}" for run in runs) + "; evaluate probe; evaluate logistic"
step(
    "compare",
    "compare",
    [*runs, "PROBE=run/probe", "run/logistic"],
    output="table",
    **CPU,
    needs=before,
)
whose = {"against": "part", "output": "table-2", "device": "cpu"}
step("compare against", "compare", ["run/tuned", "run/logistic"], **whose, needs=before)
before = "evaluate i-probe; evaluate i-knn; evaluate i-all"
shell(
    "compare images, shell",
    "compare run/i-probe run/i-knn ALL=run/i-all --output table-3 --device cpu",
    before,
)

step("export", "export", "run/tuned", needs="evaluate tuned")
step("export an encoder", "export", "run/part", "out/encoder", needs="pretrain part")
before = "finetune few-labels"
step("export onnx", "export", "run/few-labels", "out/onnx", format="onnx", needs=before)
shell(
    "export torch, shell",
    "export --run run/tuned --output out/pt2 --format torch",
    "evaluate tuned",
)

second = {"scorer": ["anna=raw/scorer"], "output": "report", "device": "cpu"}
step("report", "report", "run/tuned", **second, needs="evaluate tuned")
before = "finetune tuned; preprocess other"
shell(
    "report on another, shell",
    "report --run run/tuned --store store/other --output report-2 --device cpu",
    before,
)
step(
    "stage", "stage", "raw/staged/first.edf", "run/tuned", output="hypnograms", **CPU, needs=before
)
shell(
    "stage, shell",
    "stage raw/staged --run run/part-tuned --output hypnograms-2 --device cpu --set oddity=true",
    "finetune part-tuned",
)
shell("stage wfdb, shell", "stage raw/wfdb --run run/tuned --output h-3 --device cpu", before)
tuned("part-tuned", "part", TUNED, subjects=5)

# ---- the demonstrations, and what is chosen where nothing is said ------------------------------

SMALL = "--set pretrain_epochs=1 --set finetune_epochs=1"
shell("demo", f"demo --output demo/eeg --set subjects=2 --set windows_per_epoch=128 {SMALL}")
shell("demo image", f"demo --modality image --output demo/image --set per_class=2 {SMALL}")
CHAIN = {
    "preprocess": f"preprocess edf --raw ../raw/edf {SETS}",
    "pretrain": f"pretrain --store data/store/edf --gpus 0 {SHORT} {SHAPED}",
    "finetune": f"finetune --subjects 3 --device cpu {SHORT} --set split.val_subjects=2",
    "evaluate": "evaluate --device cpu",
    "embed": "embed --device cpu",
    "export": "export",
    "compare": "compare runs/finetune-pretrain-part-s0-n3-s0 --device cpu",
}
earlier = ""
for verb, line in CHAIN.items():
    shell(f"{verb}, nothing said", line, earlier, folder="plain")
    earlier = f"{verb}, nothing said"
