"""The whole way on real signal that ships with the package, from raw records to kappa."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from partsig.data.sample import CHANNELS, write_records
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.demos.common import encoder_of, kappa_table, majority
from partsig.demos.settings import DemoConfig
from partsig.files import write_text
from partsig.runs.run import Run
from partsig.train.journal import read_metrics
from partsig.verbs.demo import Demo
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain


def run_demo(
    output: str | Path | None,
    settings: DemoConfig,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Go from raw records to kappa on held-out subjects, on the CPU, in a few minutes.

    Writes bundled excerpts of PhysioNet-2018 as challenge-layout records below ``output`` (default
    ``runs/demo``), then runs preprocess, pretrain, finetune (pretrained and from scratch) and
    evaluate as a user would. The same call again continues an interrupted demo.
    """
    path = Path(output or "runs/demo")
    say(
        "Real PhysioNet-2018 signal (ODC-BY 1.0), spliced from 60-s excerpts: one record per\n"
        "group of excerpts that look like one sleeper. Not whole nights: the figures below show\n"
        "that the way works, not how good the method is.\n"
    )
    raw, store = path / "raw", path / "store"
    say(f"1/5  raw records of the challenge's layout -> {quote(str(raw))}")
    write_records(raw)
    say(f"2/5  partsig preprocess physionet2018 -> {quote(str(store))}")
    channels = {"channels": list(CHANNELS)}
    made = preprocess("physionet2018", raw, store, overrides=channels)
    for note in made.notes:
        say(f"     {note}")
    say(
        f"3/5  partsig pretrain --config demo -> {quote(str(path / 'pretrain'))}\n"
        "     with a Laplace likelihood, which learns within minutes where the paper's squared\n"
        "     error stays at chance (see configs/demo.yaml)"
    )
    pretrained = pretrain(
        store,
        path / "pretrain",
        config="demo",
        overrides=settings.pretrain(),
        seed=seed,
        gpus="0",
    )
    pretext = _pretext(pretrained)
    say(
        f"     pretext on unseen sleepers: {pretext['loss']:.3f} nats per pair (chance "
        f"{pretext['chance_loss']:.3f}),\n     order of overlapping patches right in "
        f"{100 * pretext['near_sign']:.0f} %, of all pairs in {100 * pretext['sign']:.0f} %"
    )
    tuned = {}
    for number, (label, origin) in enumerate(
        (("PART-pretrained", pretrained), ("from scratch", "scratch")), start=4
    ):
        run = path / f"finetune-{'scratch' if origin == 'scratch' else 'part'}"
        words = f"partsig finetune --from {quote(str(origin))} --subjects {settings.subjects}"
        say(f"{number}/5  {words} -> {quote(str(run))}")
        encoder = encoder_of(pretrained) if origin == "scratch" else {}
        tuned[label] = finetune(
            origin,
            store,
            run,
            subjects=settings.subjects,
            config="demo-finetune",
            overrides=encoder | settings.finetune(),
            seed=seed,
            device="cpu",
        )
    evaluations = {label: evaluate(run, device="cpu", seed=seed) for label, run in tuned.items()}
    rows = [_row(label, evaluation.metrics) for label, evaluation in evaluations.items()]
    rows.append(_row("predict the majority", _majority(store, tuned["from scratch"], seed)))
    table = _table(rows, evaluations["PART-pretrained"].metrics)
    write_text(path / "table.md", table + "\n")
    figures = [figure for evaluation in evaluations.values() for figure in evaluation.figures]
    say(f"\n{table}\n")
    for figure in figures:
        say(f"figure: {figure}")
    say(f"table:  {path / 'table.md'}")
    return Demo(path=path, table=table, rows=rows, pretext=pretext, figures=figures)


def _pretext(run: Path) -> dict[str, float]:
    """Return what the monitor subjects showed at the end of pretraining."""
    last = [line for line in read_metrics(run) if "val_loss" in line][-1]
    return {key: last[f"val_{key}"] for key in ("loss", "chance_loss", "sign", "near_sign")}


def _row(label: str, metrics: dict) -> dict:
    keys = ("kappa", "kappa_interval_95", "macro_f1", "accuracy")
    return {"method": label} | {key: metrics[key] for key in keys}


def _majority(store: Path, run: Path, seed: int) -> dict:
    """Return the metrics of giving every epoch the commonest stage of the training subjects."""
    split, opened = Run.read(run).split, open_store(store)
    train, test = (
        LabelledWindows(opened, opened.recordings_of(split[role])) for role in ("train", "test")
    )
    return majority(train.labels, test, seed)


def _table(rows: list[dict], metrics: dict) -> str:
    lines = kappa_table(f"method ({metrics['train_subjects']} labelled subjects)", rows)
    lines.append("")
    lines.append(
        f"Test: {metrics['n_epochs']} epochs of {metrics['n_subjects']} subjects never seen "
        f"before; intervals by bootstrap over subjects; one seed ({metrics['seed']})."
    )
    return "\n".join(lines)
