"""Parts that nobody named: real pets, divided without labels, held against what people marked."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from partsig.data.sample.pets import SIZE, write_pets
from partsig.demos.settings import DiscoveryDemoConfig
from partsig.files import write_text
from partsig.runs.encoder_sources import parse
from partsig.train.journal import read_metrics
from partsig.verbs.demo import Demo
from partsig.verbs.evaluate import evaluate
from partsig.verbs.inspect import inspect
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain

CONFIG = "discover-pets"
PHI = "packaged:efficientnet-lite0@192"  # 12 x 12 places
# Everything counts, background too: whether parts keep to the animal is what is looked at.
PRETRAINING = {"size": SIZE, "objective.phi": PHI, "objective.foreground": "whole"}
SHOWN = 6


def run_demo(
    output: str | Path | None,
    settings: DiscoveryDemoConfig,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Go from 140 bundled pets to parts that were found without labels, on the CPU, in minutes.

    Runs preprocess, pretrain, evaluate and inspect as a user would, below ``output`` (default
    ``runs/demo-discovery``). The same call again continues an interrupted demo. Raises ConfigError
    where the frozen network that it looks through is not installed.
    """
    parse(PHI).open_frozen()  # what is missing is told before anything is written
    path = Path(output or "runs/demo-discovery")
    raw, store = path / "raw", path / "store"
    say(
        "Real cats and dogs: 140 images of Oxford-IIIT Pet (Parkhi et al. 2012; CC BY-SA 4.0,\n"
        f"see {quote(str(raw / 'ATTRIBUTION.md'))}), 96 x 96 pixels. They are\n"
        f"divided into {settings.parts} parts, the same in every image, and no label of theirs\n"
        "is used (Choudhury et al. 2021); EfficientNet-Lite0, which looks at them, has seen\n"
        "those of ImageNet. So few images show that the way works: no claim of\n"
        "significance is made.\n"
    )
    say(f"1/3  partsig preprocess pets -> {quote(str(store))}")
    write_pets(raw)
    made = preprocess("pets", raw, store, overrides={"size": SIZE, "val_share": 0})
    say("     " + ", ".join(f"{role} {count:,}" for role, count in made.counts.items()))
    say(f"2/3  partsig pretrain --config {CONFIG} -> {quote(str(path / 'parts'))}")
    own = {"fit.epochs": settings.epochs, "objective.parts": settings.parts}
    run = pretrain(
        store, path / "parts", modality="image", config=CONFIG, overrides=PRETRAINING | own,
        seed=seed, gpus="0",
    )  # fmt: skip
    last = [line for line in read_metrics(run) if "unexplained" in line][-1]
    pretext = {key: last[key] for key in ("loss", "unexplained", "dead_parts")}
    say(f"     variance that parts leave: {pretext['unexplained']:.0%}")
    say(f"3/3  partsig evaluate, inspect --what parts -> {quote(str(run))}")
    found = evaluate(run, device="cpu", seed=seed, figures=False).metrics
    drawn = inspect(run, what="parts", n=SHOWN, seed=seed, device="cpu")
    rows = [_row("part discovery", found)]
    rows += [_row(name, judged) for name, judged in found["baselines"].items()]
    table = _table(rows, found["n_images"], seed)
    write_text(path / "table.md", table + "\n")
    say(f"\n{table}\n")
    figure = next(file for file in drawn.figures if file.suffix == ".png")
    say(f"figure: {figure}")
    say(f"table:  {path / 'table.md'}")
    return Demo(path=path, table=table, rows=rows, pretext=pretext, figures=[figure])


def _row(method: str, judged: dict) -> dict:
    """Return how parts of the test images agree with pet, background and border, by pixels."""
    scores = judged["places_full"]  # with background as a class
    return {"method": method, **scores, "dead_parts": len(judged["dead_parts"])}


def _table(rows: list[dict], n_images: int, seed: int) -> str:
    lines = [
        "| parts by | NMI with pet, background, border | ARI |",
        "|---|---|---|",
        *(f"| {row['method']} | {_told(row, 'nmi')} | {_told(row, 'ari')} |" for row in rows),
        "",
        f"Test: {n_images} images never seen before, by pixels, in %; 95 % intervals over images; "
        f"one seed ({seed}): no claim of significance.",
    ]
    return "\n".join(lines)


def _told(row: dict, key: str) -> str:
    low, high = row[f"{key}_interval_95"]
    return f"{100 * row[key]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
