"""The commands. Each imports its task when it runs, so that ``--help`` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from partsig import __version__

from . import options

app = typer.Typer(
    name="partsig",
    help="Self-supervised pretraining on biosignals by pairwise relative translations (PART).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"partsig {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Self-supervised pretraining on biosignals by pairwise relative translations (PART)."""


@app.command()
@options.plain_errors
def download(
    source: Annotated[str, typer.Argument(help="What to fetch: physionet2018.")],
    raw: Annotated[Path | None, typer.Option("--raw", help="The folder to fetch to.")] = None,
    records: Annotated[
        str | None,
        typer.Option("--records", metavar="NAMES|FILE", help="Names or patterns; default: all."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", metavar="URL", help="Another address of training/ and test/."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Records fetched at once, 1 to 8.")] = 4,
) -> None:
    """Published records to a raw folder, held against their checksums; resumes.

    EEG alone cannot be fetched: a record's 13 channels are interleaved in one file, 134 MB on
    average, 266 GB for all 1,983 records of physionet2018.
    """
    from partsig.verbs.download import download as run

    found = run(source, raw, records=records, mirror=mirror, jobs=jobs)
    typer.echo(f"records: {found.n_records:,} whole, {found.received} fetched")
    typer.echo(f"raw: {found.path}")
    if found.failed:
        for name, reason in list(found.failed.items())[:5]:
            typer.echo(f"failed {name}: {reason}", err=True)
        more = len(found.failed) - 20
        names = ", ".join(list(found.failed)[:20]) + (f" and {more:,} more" if more > 0 else "")
        typer.echo(
            f"partsig: error: {len(found.failed):,} could not be fetched: {names}; run the same "
            "command again.",
            err=True,
        )
        sys.exit(2)


@app.command()
@options.plain_errors
def preprocess(
    source: Annotated[
        str,
        typer.Argument(
            help="What the raw data is: physionet2018, edf, sleep-edf, wfdb, bids, pc18-segments; "
            "cifar10, cifar100, images or digits."
        ),
    ],
    raw: Annotated[
        str | None, typer.Option("--raw", help="The folder of raw recordings, or s3://….")
    ] = None,
    store: options.Store = None,
    config: options.Config = None,
    set_: options.Set = None,
    jobs: options.Jobs = -1,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="tcp://…", help="A Dask scheduler whose workers work."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="This job's share, in an array of N jobs."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Make one index of the shards, at the end.")
    ] = False,
) -> None:
    """Raw recordings (band-passed, resampled) or images to a store; resumes when interrupted."""
    from partsig.verbs.preprocess import preprocess as run

    result = run(
        source,
        raw,
        store,
        config=config,
        overrides=set_ or (),
        jobs=jobs,
        scheduler=scheduler,
        shard=shard,
        merge=merge,
    )
    for note in result.notes:
        typer.echo(note)
    images = set(result.counts) == {"train", "val", "test"}
    counted, named = ("images", "images") if images else ("epochs", "recordings")
    typer.echo(f"{counted}: " + ", ".join(f"{k} {n:,}" for k, n in result.counts.items()))
    typer.echo(f"store: {result.path}")
    if result.failed:
        for name, reason in list(result.failed.items())[:5]:
            typer.echo(f"skipped {name}: {reason.removeprefix(f'{name}: ')}", err=True)
        typer.echo(
            f"partsig: error: {len(result.failed)} {named} were skipped; every reason is in "
            f"{result.path / 'index.csv'}.",
            err=True,
        )
        sys.exit(2)


@app.command()
@options.plain_errors
def audit(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="RAW|STORE", help="Default: data/raw/SOURCE, unfiltered."),
    ] = None,
    source: Annotated[
        str, typer.Option("--source", help="What RAW is, as for preprocess.")
    ] = "physionet2018",
    output: Annotated[Path | None, typer.Option("--output", help="Default: audit/NAME.")] = None,
    set_: options.Set = None,
    jobs: options.Jobs = -1,
) -> None:
    """Raw recordings or a store to a page of what is wrong with their signals and stages."""
    from partsig.verbs.audit import audit as task

    found = task(path, source=source, output=output, overrides=set_ or (), jobs=jobs)
    typer.echo(found.table)
    typer.echo(f"page: {found.page}")
    if found.n_faulty:
        typer.echo(
            f"partsig: error: {found.n_faulty:,} of {len(found.recordings):,} recordings have "
            f"faults; all findings are in {found.path / 'audit.csv'}.",
            err=True,
        )
        sys.exit(2)


@app.command()
@options.plain_errors
def pretrain(
    modality: Annotated[
        str | None,
        typer.Option("--modality", help="What the store holds: eeg or image; default: as it says."),
    ] = None,
    store: options.Store = None,
    run: options.Run = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Pretraining run to start from; default: none."),
    ] = None,
    config: options.Config = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="auto|N", help="GPUs to use; 0 is the CPU.")
    ] = "auto",
    cpu_processes: Annotated[
        int, typer.Option("--cpu-processes", help="Processes on the CPU (gloo).")
    ] = 1,
    profile: Annotated[
        bool, typer.Option("--profile", help="Train nothing; show where a step's time goes.")
    ] = False,
) -> None:
    """A store to a pretrained encoder; continues a run that was killed."""
    from partsig.verbs.pretrain import pretrain as task

    path = task(
        store,
        run,
        modality=modality,
        config=config,
        overrides=set_ or (),
        from_=from_,
        seed=seed,
        gpus=gpus,
        cpu_processes=cpu_processes,
        profile=profile,
    )
    if os.environ.get("RANK", "0") == "0":  # under torchrun every process comes here
        typer.echo(f"profile: {path / 'profile'}" if profile else f"run: {path}")


@app.command()
@options.plain_errors
def finetune(
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN|scratch", help="Pretraining run; default: the last."),
    ] = None,
    store: options.Store = None,
    run: options.Run = None,
    subjects: Annotated[
        int | None,
        typer.Option("--subjects", help="Labelled training subjects; 0 is all.", show_default="10"),
    ] = None,
    segments_per_class: Annotated[
        int | None,
        typer.Option(
            "--segments-per-class",
            help="Short recordings per stage, or images per class (default: all); 0 is all.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="What is learned; default: what the store's labels are for."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", help="A fine-tuned run whose opinion is learned from as well."),
    ] = None,
    config: options.Config = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """A store and a pretrained run to a classifier: N labelled subjects, or images."""
    from partsig.runs.run import Run
    from partsig.verbs.finetune import finetune as verb

    if from_ is None:
        from_ = str(options.run_or_last(None, "pretrain", "from"))
    path = verb(
        from_,
        store,
        run,
        task=task,
        subjects=subjects,
        segments_per_class=segments_per_class,
        teacher=teacher,
        config=config,
        overrides=set_ or (),
        seed=seed,
        device=device,
    )
    for line in Run.read(path).summary():
        typer.echo(line)
    typer.echo(f"run: {path}")


@app.command()
@options.plain_errors
def evaluate(
    run: options.Run = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Another store: external validation on all its subjects."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw them as well.")
    ] = True,
) -> None:
    """A fine-tuned run to predictions, kappa (images: accuracy) and figures on held-out data."""
    from partsig.verbs.evaluate import evaluate as task

    run = options.run_or_last(run, "finetune")
    with options.plain_warnings():
        found = task(run, store, device=device, seed=seed, figures=figures)
    for line in found.summary:
        typer.echo(line)
    for figure in found.figures:
        typer.echo(f"figure: {figure}")
    typer.echo(f"evaluation: {found.path}")


@app.command()
@options.plain_errors
def compare(
    run: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Fine-tuned runs, or LABEL=RUN.")
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="The method gains are counted from.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Default: runs/compare.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Fine-tuned runs to one table: method by budget, intervals, paired differences, a figure."""
    from partsig.verbs.compare import compare as task

    with options.plain_warnings():
        found = task(run, against=against, output=output, device=device, seed=seed)
    typer.echo(found.markdown)
    typer.echo(f"figure: {found.figure}")
    typer.echo(f"comparison: {found.path}")


@app.command()
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
) -> None:
    """Recordings to hypnograms (CSV, EDF+, BIDS, JSON, figure), confidence and a review list."""
    from partsig.verbs.stage import stage_all

    run = options.run_or_last(run, "finetune")
    found = stage_all(recording, run, output=output, overrides=set_ or (), device=device)
    for name, summary in found.summaries.items():
        typer.echo(f"{name}: {summary}")
    if found.files:
        typer.echo(f"hypnograms: {found.path}")
    if found.failed:
        for name, reason in found.failed.items():
            typer.echo(f"failed {name}: {reason.removeprefix(f'{name}: ')}", err=True)
        typer.echo(
            f"partsig: error: {len(found.failed)} of {len(found.failed) + len(found.files)} "
            "recordings could not be staged.",
            err=True,
        )
        sys.exit(2)


@app.command()
@options.plain_errors
def report(
    run: options.Run = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Another store: external validation on all its subjects."),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            "--scorer",
            metavar="NAME=FOLDER",
            help="A second person's hypnograms of the same recordings; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: the evaluation's folder.")
    ] = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """A fine-tuned run to one page: agreement, sleep statistics, what to trust, what not."""
    from partsig.verbs.report import report as task

    run = options.run_or_last(run, "finetune")
    with options.plain_warnings():
        found = task(
            run,
            store=store,
            scorer=scorer,
            output=output,
            overrides=set_ or (),
            device=device,
            seed=seed,
        )
    for line in found.metrics["verdict"]:
        typer.echo(line)
    typer.echo(f"page: {found.page}")


@app.command()
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
    device: options.Device = "auto",
) -> None:
    """A pretrained or fine-tuned run and a store to one embedding per 30-s epoch, or image."""
    from partsig.verbs.embed import embed as task

    run = options.run_or_last(run, "pretrain")
    done = task(
        run, store, recordings=recording, output=output, pool=pool, blocks=blocks, device=device
    )
    typer.echo(f"{done.n:,} {done.what}, {done.width} numbers each ({done.pool})")
    typer.echo(f"embeddings: {done.path}")


@app.command()
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
    from partsig.verbs.export import export as task

    run = options.run_or_last(run, "finetune")
    done = task(run, output, format=format, device=device)
    if done.difference is not None:
        typer.echo(f"largest difference of a probability from the run's: {done.difference:.1e}")
    typer.echo(f"model: {done.file}")
    typer.echo(f"export: {done.path}")


@app.command()
@options.plain_errors
def inspect(
    run: options.Run = None,
    store: options.Store = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: RUN/inspection.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Windows or images to draw.")] = 4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """A PART run to figures of what it knows of unseen windows: order, uncertainty, symmetry."""
    from partsig.verbs.inspect import inspect as task

    run = options.run_or_last(run, "pretrain")
    found = task(run, store, output=output, n=n, seed=seed, device=device)
    for line in found.summary:
        typer.echo(line)
    for figure in found.figures:
        typer.echo(f"figure: {figure}")
    typer.echo(f"inspection: {found.path}")


@app.command()
@options.plain_errors
def demo(
    modality: Annotated[
        str | None, typer.Option("--modality", help="eeg, or image: handwritten digits.")
    ] = None,
    what: Annotated[
        str | None, typer.Option("--what", help="excerpts (of PhysioNet-2018) or digits.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: runs/demo, or runs/demo-image.")
    ] = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
) -> None:
    """The whole way, from raw data to a score on held-out data, in a few minutes on the CPU."""
    from partsig.verbs.demo import demo as task

    task(output, what=what, modality=modality, overrides=set_ or (), seed=seed, say=typer.echo)
