"""The whole way on handwritten digits, from pixels to accuracy."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from partsig.data.images.examples import LabelledImages
from partsig.data.images.store import open_images
from partsig.demos.common import encoder_of, majority
from partsig.demos.settings import ImageDemoConfig, for_epochs
from partsig.files import write_text
from partsig.tasks.classification_scores import with_interval
from partsig.verbs.demo import Demo
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.inspect import inspect
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain

# A fifth of the training images choose what a method leaves open; the usual twentieth is too few.
VAL_SHARE = 0.2
CONFIG, TUNING = "image-tiny", "image-tiny-finetune"


def run_demo(
    output: str | Path | None,
    settings: ImageDemoConfig,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Go from scikit-learn's digits to accuracy on held-out ones, on the CPU, in a few minutes.

    Runs preprocess, pretrain, inspect, finetune (probe and full, pretrained and not) and evaluate
    as a user would, below ``output`` (default ``runs/demo-image``). The same call again continues
    an interrupted demo.
    """
    path = Path(output or "runs/demo-image")
    store, n = path / "store", settings.per_class
    say(
        "1,797 handwritten digits of 8 x 8 pixels (UCI, with scikit-learn). The encoder, the head\n"
        "and the loop are those for signals; what follows shows that they work on images.\n"
    )
    say(f"1/4  partsig preprocess digits -> {quote(str(store))}")
    made = preprocess("digits", store=store, overrides={"val_share": VAL_SHARE})
    say("     " + ", ".join(f"{role} {count:,}" for role, count in made.counts.items()))
    run = quote(str(path / "pretrain"))
    say(f"2/4  partsig pretrain --modality image --config {CONFIG} -> {run}")
    pretrained = pretrain(
        store,
        path / "pretrain",
        modality="image",
        config=CONFIG,
        overrides=for_epochs(CONFIG, settings.pretrain_epochs),
        seed=seed,
        gpus="0",
    )
    say(f"3/4  partsig inspect -> {quote(str(path / 'inspection'))}")
    seen = inspect(pretrained, store, output=path / "inspection", seed=seed, device="cpu")
    for line in seen.summary:
        say(f"     {line}")
    say(
        f"4/4  partsig finetune --segments-per-class {n}, evaluate -> {quote(str(path))}/finetune-…"
    )
    rows, figures = [], [figure for figure in seen.figures if figure.suffix == ".png"]
    for train, label in (("probe", "linear probe"), ("full", "fine-tuned")):
        for origin, start in (("scratch", "untrained encoder"), (pretrained, "PART-pretrained")):
            own = encoder_of(pretrained) if origin == "scratch" else {}
            if train == "full":
                own |= for_epochs(TUNING, settings.finetune_epochs)
            run = finetune(
                origin,
                store,
                path / f"finetune-{train}-{'scratch' if origin == 'scratch' else 'part'}",
                segments_per_class=n,
                config=TUNING,
                overrides=own | {"train": train},
                seed=seed,
                device="cpu",
            )
            evaluation = evaluate(run, device="cpu", seed=seed)
            rows.append({"method": f"{label}, {start}"} | evaluation.metrics)
            figures += evaluation.figures
    opened = open_images(store)
    test = LabelledImages(opened, opened.members("test"), min(opened.size))
    labels = opened.labels[opened.members("train")]
    rows.append({"method": "predict the majority"} | majority(labels, test, seed))
    table = _table(rows, n, len(opened.classes), seed)
    write_text(path / "table.md", table + "\n")
    say(f"\n{table}\n")
    for figure in figures:
        say(f"figure: {figure}")
    say(f"table:  {path / 'table.md'}")
    pretext = {key: seen.metrics["off_grid"][key] for key in ("r2", "error", "error_chance")}
    return Demo(path=path, table=table, rows=rows, pretext=pretext, figures=figures)


def _table(rows: list[dict], per_class: int, n_classes: int, seed: int) -> str:
    lines = [
        f"| method ({per_class} labelled images per class, {n_classes} classes) | accuracy | "
        "macro-F1 |",
        "|---|---|---|",
        *(
            f"| {row['method']} | {with_interval(row, 'accuracy')} | {row['macro_f1']:.3f} |"
            for row in rows
        ),
        "",
        f"Test: {rows[0]['n_images']} images never seen before; 95 % intervals over images; one "
        f"seed ({seed}).",
    ]
    return "\n".join(lines)
