"""Whole nights, labelled epoch by epoch and from the epochs around each, from raw recordings."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from partsig.data.sample import CHANNELS
from partsig.data.sample.nights import hypnograms, write_nights
from partsig.data.splits import SplitConfig, test_subjects
from partsig.demos.common import kappa_table
from partsig.demos.settings import NightDemoConfig
from partsig.files import write_text
from partsig.sleep.figures import beside
from partsig.verbs.demo import Demo
from partsig.verbs.embed import embed
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess
from partsig.verbs.stage import stage

NIGHTS = 12
TEST_FRACTION, VAL_SUBJECTS = 0.4, 2
ALONE, AROUND = "one epoch alone", "21 epochs"


def run_demo(
    output: str | Path | None,
    settings: NightDemoConfig,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Go from raw recordings of made nights to kappa with and without context, in minutes.

    Runs preprocess, embed, finetune, evaluate and stage as a user would, on the CPU, below
    ``output`` (default ``runs/demo-night``). The same call again continues an interrupted demo.
    """
    path = Path(output or "runs/demo-night")
    raw, store, features = path / "raw", path / "store", path / "features"
    say(
        "Made nights: the hypnograms of real whole nights (PhysioNet-2018, ODC-BY 1.0), each\n"
        "epoch a real excerpt of its stage from another sleeper. Only the order of the stages\n"
        "ties neighbours together, so context is worth another amount here than in real nights\n"
        "(docs/how-to/whole-nights.md has those): the figures show that the way works.\n"
    )
    names = list(hypnograms())[:NIGHTS]
    split = SplitConfig(test_fraction=TEST_FRACTION, val_subjects=VAL_SUBJECTS)
    test = test_subjects(names, split)
    say(f"1/5  raw records of the challenge's layout -> {quote(str(raw))}")
    if not all((raw / "training" / name / f"{name}.arousal").is_file() for name in names):
        write_nights(raw, names, test)
    say(f"2/5  partsig preprocess physionet2018 -> {quote(str(store))}")
    made = preprocess("physionet2018", raw, store, overrides={"channels": list(CHANNELS)})
    for note in made.notes:
        say(f"     {note}")
    say(f"3/5  partsig embed --as-store --features bands -> {quote(str(features))}")
    embed(None, store, as_store=True, features_of="bands", output=features)
    own = {"split.test_fraction": TEST_FRACTION, "split.val_subjects": VAL_SUBJECTS}
    ways = {
        ALONE: ("", {"model": "logistic"} | own),
        AROUND: (" --task night-context", {"fit.epochs": settings.epochs} | own),
    }
    runs = {}
    for label, (words, overrides) in ways.items():
        run = path / ("context" if words else "logistic")
        say(f"4/5  partsig finetune{words} --from scratch -> {quote(str(run))}")
        runs[label] = finetune(
            "scratch", features, run,
            task=words.removeprefix(" --task ") or None,
            config="night-context" if words else None,
            subjects=settings.subjects, overrides=overrides, seed=seed, device="cpu",
        )  # fmt: skip
    rows = [
        {"method": label} | evaluate(run, device="cpu", seed=seed, figures=False).metrics
        for label, run in runs.items()
    ]
    night = raw / "training" / test[0] / f"{test[0]}.hea"
    say(f"5/5  partsig stage --run {quote(str(runs[AROUND]))} {quote(str(night))}")
    staged = {label: stage(night, run, device="cpu") for label, run in runs.items()}
    figure = beside(test[0], staged, path / "night.png")
    table = _table(rows, settings)
    write_text(path / "table.md", table + "\n")
    say(f"\n{table}\n")
    say(f"figure: {figure}")
    say(f"table:  {path / 'table.md'}")
    return Demo(path=path, table=table, rows=rows, pretext={}, figures=[figure])


def _table(rows: list[dict], settings: NightDemoConfig) -> str:
    lines = kappa_table(f"labelled from ({settings.subjects} labelled nights)", rows)
    last = rows[-1]
    lines += [
        "",
        f"Test: {last['n_epochs']} epochs of {last['n_subjects']} made nights, of sleepers never "
        f"seen before; intervals by bootstrap over nights; one seed ({last['seed']}): no claim.",
    ]
    return "\n".join(lines)
