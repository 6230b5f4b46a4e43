"""The verbs that ``scale.py`` measures, as the functions of ``partsig`` and their arguments."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scale_inputs import CHANNELS, EVERYBODY, FINETUNE, PRETRAIN, TINY, images_an_array, need

Work = Callable[[dict[str, Path], Path], object]


@dataclass(frozen=True)
class Verb:
    """What is done with which inputs, in the current folder; see ``scale_inputs.py``.

    ``share``: an input of so many recordings is a tenth as large, say, where that tells enough.
    """

    work: Work
    needs: tuple[str, ...]
    share: float = 1.0


def preprocess(source: str, kind: str, store: str = "", **settings: object) -> Verb:
    """Return the verb that makes a store of some input, or goes on with a finished one."""

    def work(given: dict[str, Path], out: Path) -> None:
        import partsig

        overrides = {"channels": list(CHANNELS)} | settings
        target = given[store] if store else out / "store"
        partsig.preprocess(source, given[kind], target, overrides=overrides, jobs=1)

    return Verb(work, (kind, store) if store else (kind,))


def preprocess_remote(given: dict[str, Path], out: Path) -> None:
    """Preprocess the EDF files as a remote folder, in which they count as large files."""
    import partsig
    from partsig.data import remote

    remote.SMALL = 10_000
    overrides = {"channels": list(CHANNELS)}
    url = given["edf"].resolve().as_uri()
    partsig.preprocess("edf", url, out / "store", overrides=overrides, jobs=1)


def open_index(given: dict[str, Path], out: Path) -> None:
    """Open a store and ask for its subjects, as every verb does."""
    from partsig.data.signals.store import open_store
    from partsig.data.store import index_digest

    opened = open_store(given["index"])
    opened.recordings_of(opened.labelled_subjects)
    index_digest(opened.path)


def split(given: dict[str, Path], out: Path) -> None:
    """Split subjects for pretraining and for fine-tuning."""
    from partsig.data.splits import SplitConfig, split_finetuning, split_pretraining

    names = (given["subjects"] / "subjects.csv").read_text().split()
    config = SplitConfig(**{key.removeprefix("split."): n for key, n in EVERYBODY.items()})
    split_pretraining(names, names, config)
    split_finetuning(names, 0, 0, config)


def audit(kind: str) -> Verb:
    """Return the audit of a store or of EDF files."""

    def work(given: dict[str, Path], out: Path) -> None:
        import partsig

        overrides = {"channels": list(CHANNELS)} if kind == "edf" else {}
        settings = {"source": "edf", "overrides": overrides, "jobs": 1}
        partsig.audit(given[kind], output=out / "audit", **settings)

    return Verb(work, (kind,))


def pretrain(given: dict[str, Path], out: Path) -> None:
    """Pretrain for four steps; a finished run is found and left as it is."""
    import partsig

    run = given.get("pretrained", out / "run")
    overrides = TINY | PRETRAIN | EVERYBODY
    partsig.pretrain(given["store"], run, overrides=overrides, gpus="0")


def finetune(subjects: int) -> Work:
    """Return fine-tuning for one pass over so many subjects (0: all)."""

    def work(given: dict[str, Path], out: Path) -> None:
        import partsig

        settings = {"overrides": FINETUNE | EVERYBODY, "device": "cpu"}
        run = out / "run"
        partsig.finetune(given["pretrained"], given["store"], run, subjects=subjects, **settings)

    return work


def evaluate(given: dict[str, Path], out: Path) -> None:
    """Evaluate on a fifth of the run's own store, or on all of another."""
    import partsig

    partsig.evaluate(given["tuned"], given.get("other"), device="cpu")


def embed(given: dict[str, Path], out: Path) -> None:
    """Embed every epoch of a store."""
    import partsig

    partsig.embed(given["tuned"], output=out / "embedded.npz", device="cpu")


def inspect(given: dict[str, Path], out: Path) -> None:
    """Draw what the pretrained run makes of its held-out subjects."""
    import partsig

    partsig.inspect(given["pretrained"], output=out / "inspection", device="cpu")


def export(given: dict[str, Path], out: Path) -> None:
    """Export a run's weights."""
    import partsig

    partsig.export(given["tuned"], out / "export")


def report(given: dict[str, Path], out: Path) -> None:
    """Report on an evaluation of all subjects of another store."""
    import partsig

    partsig.report(given["reported"], store=given["other"], output=out / "report", device="cpu")


def compare(given: dict[str, Path], out: Path) -> None:
    """Compare as many runs."""
    import partsig

    partsig.compare(sorted(given["runs"].iterdir()), output=out / "compare", device="cpu")


def last(given: dict[str, Path], out: Path) -> None:
    """Find the run that finished last among as many."""
    from partsig.runs.directory import last

    last("finetune", given["runs"])


def stage(given: dict[str, Path], out: Path) -> None:
    """Stage a folder of EDF files."""
    from partsig.verbs.stage import stage_all

    stage_all([given["edf"]], need(given["edf"].parents[1], 100, "tuned"), output=out / "staged")


def preprocess_images(per_file: int, store: str = "") -> Verb:
    """Return the verb that makes a store of images, or goes on with a finished one."""

    def work(given: dict[str, Path], out: Path) -> None:
        import partsig

        images_an_array(per_file)
        target = given[store] if store else out / "store"
        partsig.preprocess("images", given["png"], target, overrides={"size": 8}, jobs=1)

    return Verb(work, ("png", store) if store else ("png",))


def pretrain_images(store: str, per_file: int) -> Verb:
    """Return pretraining on a store of images that has so many an array, one pass."""

    def work(given: dict[str, Path], out: Path) -> None:
        import partsig

        images_an_array(per_file)
        settings = {"size": 8, "patch_px": 4, "fit.epochs": 1, "optim.warmup_epochs": 0}
        overrides = TINY | settings | {"fit.batch_size": 64, "augment.crop": "none"}
        partsig.pretrain(given[store], out / "run", modality="image", overrides=overrides, gpus="0")

    return Verb(work, (store,))


VERBS: dict[str, Verb] = {
    "preprocess edf": preprocess("edf", "edf"),
    "preprocess edf, again": preprocess("edf", "edf", "edf-store"),
    "preprocess edf, pattern": preprocess("edf", "edf", **{"hypnogram.pattern": "{name}*.csv"}),
    "preprocess edf, no stages": preprocess("edf", "plain"),
    "preprocess edf, no stages, again": preprocess("edf", "plain", "plain-store"),
    "preprocess edf, remote": Verb(preprocess_remote, ("edf",)),
    "preprocess physionet2018": preprocess("physionet2018", "challenge"),
    "preprocess wfdb": preprocess("wfdb", "wfdb"),
    "preprocess wfdb, again": preprocess("wfdb", "wfdb", "wfdb-store"),
    "preprocess sleep-edf": preprocess("sleep-edf", "sleep-edf"),
    "preprocess bids": preprocess("bids", "bids"),
    "open a store": Verb(open_index, ("index",)),
    "split": Verb(split, ("subjects",)),
    "audit a store": audit("edf-store"),
    "audit edf": audit("edf"),
    "pretrain": Verb(pretrain, ("store",)),
    "pretrain, again": Verb(pretrain, ("store", "pretrained")),
    "finetune --subjects 10": Verb(finetune(10), ("store", "pretrained")),
    "finetune --subjects 0": Verb(finetune(0), ("store", "pretrained")),
    "evaluate": Verb(evaluate, ("store", "tuned")),
    "evaluate another store": Verb(evaluate, ("other", "tuned")),
    "embed": Verb(embed, ("store", "tuned")),
    "inspect": Verb(inspect, ("store", "pretrained")),
    "export": Verb(export, ("tuned",)),
    "report": Verb(report, ("reported", "other")),
    "compare": Verb(compare, ("runs",), share=0.1),
    "the last run": Verb(last, ("runs",), share=0.1),
    "stage": Verb(stage, ("edf",), share=0.1),
    "preprocess images": preprocess_images(0),
    "preprocess images, again": preprocess_images(0, "image-store"),
    "pretrain images": pretrain_images("image-store", 0),
    "pretrain images, an array each": pretrain_images("array-store", 1),
}


def shuffle(kind: str) -> Callable[[int], object]:
    """Return what draws the batch of a step of fine-tuning: the least that the loops call.

    900,000 epochs are the 994 labelled nights of the challenge, 1,281,167 images are ImageNet's.
    Up to commit e5e8458 these were ``shuffled_batch`` and ``epoch_order``, which drew the order of
    a whole pass at each step.
    """
    import numpy as np

    from partsig.data.signals.windows import Shuffled

    if kind == "900,000 epochs":
        return Shuffled(900_000, 64, seed=0)
    if kind == "900,000 epochs, balanced":
        stages = np.random.default_rng(0).choice(5, 900_000, p=(0.17, 0.15, 0.43, 0.11, 0.14))
        return Shuffled(900_000, 64, 0, stages)
    return Shuffled(1_281_167, 256, seed=0)


SHUFFLES = ("900,000 epochs", "900,000 epochs, balanced", "1,281,167 images")


def measure_shuffle(kind: str, steps: int = 10) -> dict[str, float]:
    """Return the CPU seconds of the first step of a pass, and of a later one."""
    draw = shuffle(kind)
    begin = time.process_time()
    draw(0)
    first = time.process_time()
    for step in range(1, steps + 1):
        draw(step)
    return {"first_s": first - begin, "later_s": (time.process_time() - first) / steps}
