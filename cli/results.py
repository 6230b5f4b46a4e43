"""Commands that use a trained run: judge it, apply it, hand it on, look into it."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from partsig.errors import CheckpointError, ConfigError
from partsig.recipes.inspection import INSPECTIONS

from . import completion, options


@options.plain_errors
def evaluate(
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="The run directory; several of them, of folds, are pooled.",
            autocompletion=completion.runs,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Another store: external validation on all its subjects."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw them as well.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Default: RUN/evaluation; of several runs: runs/pooled-RUN-and-N-more.",
        ),
    ] = None,
    missing_channels: options.MissingChannels = "refuse",
    shift: options.Shift = False,
    ablate_channels: options.AblateChannels = False,
    allow_http: options.AllowHttp = False,
) -> None:
    """A fine-tuned run to predictions, kappa (images: accuracy) and figures on held-out data."""
    for one in run or ():
        options.check_there(one)
    options.check_there(store=store)
    from partsig.verbs.evaluate import evaluate as task

    chosen = run or [options.run_or_last(None, "finetune")]
    with options.plain_warnings():
        result = task(
            chosen,
            store,
            output=output,
            device=device,
            seed=seed,
            figures=figures,
            missing_channels=missing_channels,
            shift=shift,
            ablate_channels=ablate_channels,
            allow_http=allow_http,
        )
    for line in result.summary:
        options.say(line)
    for figure in result.figures:
        options.say(f"figure: {figure}")
    options.say(f"evaluation: {result.path}")
    if result.follow_up:
        options.then("partsig", *result.follow_up)


@options.plain_errors
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Fine-tuned runs, or LABEL=RUN.",
            autocompletion=completion.runs,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option("--against", "--reference", help="What differences are counted from."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TABLE", help="Another table: parts, of frozen encoders."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: runs/compare, runs/compare-TABLE.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Fine-tuned runs to one table: method by budget, intervals, paired differences, a figure."""
    for named in run:
        options.check_there(named.rpartition("=")[2])
    from partsig.verbs.compare import compare as verb

    with options.plain_warnings():
        result = verb(run, against=against, task=task, output=output, device=device, seed=seed)
    options.say(result.markdown)
    options.say(f"figure: {result.figure}")
    options.say(f"comparison: {result.path}")


@options.plain_errors
def stage(
    recording: Annotated[
        list[Path],
        typer.Argument(metavar="RECORDING…", help="EDF, BDF, FIF, … files, .hea, or folders."),
    ],
    run: options.Run = None,
    output: Annotated[Path | None, typer.Option("--output", help="Default: hypnograms.")] = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    dates: Annotated[
        bool, typer.Option("--dates/--no-dates", help="Write dates and times of day.")
    ] = True,
    missing_channels: options.MissingChannels = "refuse",
    pseudonyms: Annotated[
        Path | None,
        typer.Option("--pseudonyms", metavar="FILE", help="Ids for names, as of preprocess."),
    ] = None,
) -> None:
    """Recordings to hypnograms (CSV, EDF+, BIDS, JSON, figure), confidence and a review list."""
    if all(path.exists() for path in recording):  # else that is what is told
        options.check_there(run)
    from partsig.verbs.stage import stage_all

    run = options.run_or_last(run, "finetune")
    filled = [] if missing_channels == "refuse" else [f"missing={missing_channels}"]
    result = stage_all(
        recording,
        run,
        output=output,
        overrides=[*(set_ or ()), *([] if dates else ["dates=false"]), *filled],
        device=device,
        pseudonyms=pseudonyms,
    )
    for name, summary in result.summaries.items():
        options.say(f"{name}: {summary}")
    if result.files:
        options.say(f"hypnograms: {result.path}")
    if result.failed:
        for name, reason in result.failed.items():
            options.say(f"failed {name}: {reason.removeprefix(f'{name}: ')}", err=True)
        options.say(
            f"partsig: error: {len(result.failed)} of {len(result.failed) + len(result.files)} "
            "recordings could not be staged.",
            err=True,
        )
        sys.exit(2)


@options.plain_errors
def report(
    run: options.Run = None,
    no_run: Annotated[
        bool,
        typer.Option(
            "--no-run",
            help="No model: the scorers against each other, and against the store's labels if any.",
        ),
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Another store: external validation on all its subjects. With --no-run: the store "
            "of the scorers' recordings.",
        ),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            "--scorer",
            metavar="NAME=FOLDER",
            help="A person's hypnograms of the same recordings, beside the run's; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Default: the evaluation's folder; with --no-run, runs/report-STORE-NAMES.",
        ),
    ] = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    allow_http: options.AllowHttp = False,
) -> None:
    """A fine-tuned run to one page: agreement, sleep statistics, what to trust, what not.

    With --no-run and --scorer A=… --scorer B=…, the page is on how the scorers agree.
    """
    if no_run and run is not None:
        raise ConfigError("--run and --no-run exclude each other; pass one of them.")
    options.check_there(run, store)
    from partsig.verbs.report import report as task

    hint = "With --no-run the scorers are held against each other." if scorer else ""
    with options.plain_warnings():
        result = task(
            False if no_run else _run_or_scorers(run, scorer or (), hint),
            store=store,
            scorer=scorer,
            output=output,
            overrides=set_ or (),
            device=device,
            seed=seed,
            allow_http=allow_http,
        )
    for line in result.summary:
        options.say(line)
    options.say(f"page: {result.page}")


def _run_or_scorers(run: Path | None, scorer: list[str], hint: str) -> Path | Literal[False]:
    """Return the run that is meant; False, and say so, where there is none but several scorers."""
    try:
        return options.run_or_last(run, "finetune", hint=hint)
    except CheckpointError:
        if run is not None or len(scorer) < 2:
            raise
    options.say("no finished fine-tuned run: the scorers are held against each other (--no-run)")
    return False


@options.plain_errors
def embed(
    run: options.Run = None,
    store: options.Store = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="An .npz or .parquet; default: RUN/embeddings/STORE.npz."),
    ] = None,
    recording: Annotated[
        list[str] | None, typer.Option("--recording", help="Only this one; repeatable.")
    ] = None,
    pool: Annotated[
        str,
        typer.Option("--pool", help="auto, cls, mean, mean+sd or mean+sd+spectrum."),
    ] = "auto",
    blocks: Annotated[
        int, typer.Option("--blocks", help="Of the encoder, from the first on; 0 is all.")
    ] = 0,
    as_store: Annotated[
        bool, typer.Option("--as-store", help="A store with one sample an epoch, in --output.")
    ] = False,
    features: Annotated[
        str, typer.Option("--features", help="With --as-store: run, bands (no run) or both.")
    ] = "run",
    components: Annotated[
        int,
        typer.Option(
            "--components", help="With --as-store: first principal components; 0 is all features."
        ),
    ] = 0,
    device: options.Device = "auto",
    allow_http: options.AllowHttp = False,
) -> None:
    """A pretrained or fine-tuned run and a store to one embedding per 30-s epoch, or image."""
    options.check_there(run, store)
    from partsig.verbs.embed import embed as task

    run = None if features == "bands" else options.run_or_last(run, "pretrain")
    done = task(
        run,
        store,
        recordings=recording,
        output=output,
        pool=pool,
        blocks=blocks,
        as_store=as_store,
        features_of=features,
        components=components,
        device=device,
        allow_http=allow_http,
    )
    options.say(f"{done.n:,} {done.what}, {done.width} numbers each ({done.pool})")
    options.say(f"embeddings: {done.path}")


@options.plain_errors
def export(
    run: options.Run = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A folder; default: RUN/export.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="safetensors, onnx or torch (torch.export).")
    ] = "safetensors",
    device: options.Device = "cpu",
) -> None:
    """A run to a folder for others: weights or a graph, configuration, model card."""
    options.check_there(run)
    from partsig.verbs.export import export as task

    run = options.run_or_last(run, "finetune")
    done = task(run, output, format=format, device=device)
    if done.difference is not None:
        options.say(f"largest difference of a probability from the run's: {done.difference:.1e}")
    options.say("what this folder tells of people:")
    for line in done.people:
        options.say(f"  {line}")
    options.say(f"model: {done.file}")
    options.say(f"export: {done.path}")


@options.plain_errors
def inspect(
    run: options.Run = None,
    store: options.Store = None,
    what: Annotated[
        str, typer.Option("--what", help=f"What is looked into: {', '.join(INSPECTIONS)}.")
    ] = "translations",
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: RUN/inspection.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Windows or images to draw.")] = 4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    allow_http: options.AllowHttp = False,
) -> None:
    """A PART run to figures of what it knows of unseen windows: order, uncertainty, symmetry."""
    options.check_there(run, store)
    from partsig.verbs.inspect import inspect as task

    run = options.run_or_last(run, "pretrain")
    result = task(
        run,
        store,
        what=what,
        output=output,
        n=n,
        seed=seed,
        device=device,
        allow_http=allow_http,
    )
    for line in result.summary:
        options.say(line)
    for figure in result.figures:
        options.say(f"figure: {figure}")
    options.say(f"inspection: {result.path}")
