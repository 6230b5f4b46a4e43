"""Commands about data: what is fetched, stored and checked."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from partsig.data.signals.readers.registry import READERS
from partsig.modalities.registry import IMAGE_SOURCES
from partsig.text import shown

from . import options


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
    allow_http: options.AllowHttp = False,
    trust_mirror: Annotated[
        bool,
        typer.Option("--trust-mirror", help="Believe checksums that the mirror alone tells."),
    ] = False,
) -> None:
    """Published records to a raw folder, held against their checksums; resumes.

    EEG alone cannot be fetched: a record's 13 channels are interleaved in one file, 134 MB on
    average, 266 GB for all 1,983 records of physionet2018.
    """
    from partsig.verbs.download import download as run

    result = run(
        source,
        raw,
        records=records,
        mirror=mirror,
        jobs=jobs,
        allow_http=allow_http,
        trust_mirror=trust_mirror,
    )
    for note in result.notes:
        options.say(f"partsig: WARNING: {note}", err=True)
    options.say(f"records: {result.n_records:,} whole, {result.received} fetched")
    options.say(f"raw: {result.path}")
    if result.failed:
        for name, reason in list(result.failed.items())[:5]:
            options.say(f"failed {name}: {reason}", err=True)
        more = len(result.failed) - 20
        names = ", ".join(list(result.failed)[:20]) + (f" and {more:,} more" if more > 0 else "")
        options.say(
            f"partsig: error: {len(result.failed):,} could not be fetched: {names}; run the same "
            "command again.",
            err=True,
        )
        sys.exit(2)


@options.plain_errors
def preprocess(
    source: Annotated[
        str,
        typer.Argument(
            help=f"What the raw data is: {', '.join(READERS)}; {', '.join(IMAGE_SOURCES)}."
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
        typer.Option(
            "--scheduler",
            metavar="tls://…",
            help="A Dask scheduler whose workers work. Without TLS (tcp://…), who reaches it runs "
            "code as you; certificates: docs/how-to/many-machines.md.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="This job's share, in an array of N jobs."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Make one index of the shards, at the end.")
    ] = False,
    allow_http: options.AllowHttp = False,
    pseudonyms: Annotated[
        Path | None,
        typer.Option(
            "--pseudonyms",
            metavar="FILE",
            help="Random ids for subjects and recordings; the names are kept in FILE alone.",
        ),
    ] = None,
) -> None:
    """Raw recordings (band-passed, resampled) or images to a store; resumes when interrupted."""
    from partsig.verbs.preprocess import preprocess as run

    if scheduler is not None and not scheduler.startswith("tls://"):
        options.say(
            "note: this scheduler is reached without TLS: whoever else can reach it or its workers "
            "can run code as you, there and here (docs/how-to/many-machines.md: how to close it).",
            err=True,
        )
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
        allow_http=allow_http,
        pseudonyms=pseudonyms,
    )
    for note in result.notes:
        options.say(note)
    options.say(f"{result.counted}: " + ", ".join(f"{k} {n:,}" for k, n in result.counts.items()))
    options.say(f"store: {result.path}")
    options.then("partsig", "pretrain", "--store", result.path)
    if result.failed:
        for name, reason in list(result.failed.items())[:5]:
            options.say(f"skipped {shown(name)}: {reason.removeprefix(f'{name}: ')}", err=True)
        options.say(
            f"partsig: error: {len(result.failed)} {result.item} were skipped; every reason is in "
            f"{result.path / 'index.csv'}.",
            err=True,
        )
        sys.exit(2)


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
    from partsig.data.twins import TWICE, told
    from partsig.verbs.audit import audit as task

    result = task(path, source=source, output=output, overrides=set_ or (), jobs=jobs)
    for line in result.channels:
        options.say(line)
    options.say(result.table)
    for line in told(result.twins, *TWICE):
        options.say(line)
    options.say(f"page: {result.page}")
    if result.n_faulty:
        options.say(
            f"partsig: error: {result.n_faulty:,} of {len(result.recordings):,} recordings have "
            f"faults; all findings are in {result.path / 'audit.csv'}.",
            err=True,
        )
        sys.exit(2)
