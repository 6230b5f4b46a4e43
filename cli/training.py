"""Commands that train: an encoder, a classifier, and both in a demonstration."""

from pathlib import Path
from typing import Annotated

import typer

from partsig.demos.registry import DEMOS

from . import completion, options


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
        typer.Option(
            "--from",
            metavar="RUN",
            help="Pretraining run to start from; default: none.",
            autocompletion=completion.runs,
        ),
    ] = None,
    config: options.Config = None,
    set_: options.Set = None,
    protocol: options.Protocol = None,
    fold: options.Fold = None,
    seed: options.Seed = 0,
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="auto|N", help="GPUs to use; 0 is the CPU.")
    ] = "auto",
    cpu_processes: options.CpuProcesses = 1,
    profile: Annotated[
        bool, typer.Option("--profile", help="Train nothing; show where a step's time goes.")
    ] = False,
    allow_http: options.AllowHttp = False,
) -> None:
    """A store to a pretrained encoder; continues a run that was killed."""
    options.check_there(store=store)
    from partsig.verbs.pretrain import pretrain as task

    path = task(
        store,
        run,
        modality=modality,
        config=config,
        overrides=set_ or (),
        from_=from_,
        protocol=protocol,
        fold=fold,
        seed=seed,
        gpus=gpus,
        cpu_processes=cpu_processes,
        profile=profile,
        allow_http=allow_http,
    )
    if options.speaks() and profile:
        options.say(f"profile: {path / 'profile'}")
    elif options.speaks():
        from partsig.recipes.judging import follow_up
        from partsig.recipes.pretext_measures import learned

        for line in learned(path):
            options.say(line)
        options.say(f"run: {path}")
        options.then("partsig", *follow_up(path))


@options.plain_errors
def finetune(
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN|scratch|SOURCE:NAME",
            help="Pretraining run (default: the last), or another encoder, such as timm:NAME.",
            autocompletion=completion.runs,
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="RUN",
            help="With --from scratch: this run's encoder, tokens and patches, untrained.",
            autocompletion=completion.runs,
        ),
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
    weights: Annotated[
        Path | None, typer.Option("--weights", help="The file of weights of --from SOURCE:NAME.")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channels",
            metavar="STORE'S=RUN'S",
            help="Which channel of the run a channel of the store is taken for; may be repeated.",
        ),
    ] = None,
    config: options.Config = None,
    set_: options.Set = None,
    protocol: options.Protocol = None,
    fold: options.Fold = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="auto|N", help="Several of them; default: --device alone."),
    ] = None,
    cpu_processes: options.CpuProcesses = 1,
    allow_http: options.AllowHttp = False,
) -> None:
    """A store and a pretrained run to a classifier: N labelled subjects, or images."""
    named = from_ not in (None, "scratch") and ":" not in from_
    options.check_there(from_ if named else None, store)
    options.check_there(like)
    from partsig.runs.run import Run
    from partsig.verbs.finetune import finetune as verb

    if from_ is None:
        from_ = str(options.run_or_last(None, "pretrain", "from"))
    path = verb(
        from_,
        store,
        run,
        like=like,
        task=task,
        subjects=subjects,
        segments_per_class=segments_per_class,
        teacher=teacher,
        weights=weights,
        channels=options.pairs(channels, "--channels", "STORE'S=RUN'S"),
        config=config,
        overrides=set_ or (),
        protocol=protocol,
        fold=fold,
        seed=seed,
        device=device,
        gpus=gpus,
        cpu_processes=cpu_processes,
        allow_http=allow_http,
    )
    if options.speaks():
        for line in Run.read(path).summary():
            options.say(line)
        options.say(f"run: {path}")
        options.then("partsig", "evaluate", "--run", path)


@options.plain_errors
def demo(
    modality: Annotated[
        str | None, typer.Option("--modality", help="eeg, or image: handwritten digits.")
    ] = None,
    what: Annotated[
        str | None,
        typer.Option("--what", help=f"Which one: {', '.join(DEMOS)}; default: excerpts."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Default: runs/demo, runs/demo-image or runs/demo-parts."),
    ] = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
) -> None:
    """The whole way, from raw data to a score on held-out data, in a few minutes on the CPU."""
    from partsig.verbs.demo import demo as task

    task(output, what=what, modality=modality, overrides=set_ or (), seed=seed, say=options.say)
