"""The phases ``seeds`` and ``adapting`` of benchmarks/gpu.py: what three pretraining seeds say.

``seeds``: the contrastive objective, equally many steps with three seeds of pretraining, against
an encoder from scratch and the rows that are hard to beat. ``adapting``: the same pretraining on
one channel (O2-M1), then few labels on other channels: all three, where the others get weights of
their own, and E1-M2 alone, which takes O2-M1's or gets its own; each beside an encoder of the same
shape from scratch. Rows are judged as in gpu_judging.py, by three draws of the labels each.
"""

from pathlib import Path

from gpu_data import SEGMENTS, made_up_segments, read_segments, segment_store, write_store
from gpu_judging import BUDGETS, DRAWS, PROBE, SPECTRAL, TINY, Job, judged, tuning
from gpu_learning import BATCH, CONFIGS, METHODS, schedule
from gpu_tools import Campaign

from partsig.train.journal import read_metrics
from partsig.verbs.pretrain import pretrain

SEEDS = (0, 1, 2)
STEPS = {"seeds": 1200, "adapting": 1000}
ALONE, OTHER = "O2-M1", "E1-M2"


def run(campaign: Campaign) -> None:
    """Pretrain with every seed on all channels, and judge."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    paths = pretrained(store, "all", campaign)
    rows = [(f"contrast, {kind}", path, {}, kind, None) for path in paths
            for kind in ("fine-tuned", "probe")]  # fmt: skip
    rows += [
        ("scratch, fine-tuned", None, {}, "fine-tuned", None),
        ("random with spectrum, probe", None, SPECTRAL, "probe", None),
        ("bands, logistic", None, {"model": "logistic"}, "as it is", None),
    ]
    judged(jobs_of([(store, row) for row in rows], campaign), campaign)


def adapting(campaign: Campaign) -> None:
    """Pretrain with every seed on one channel, and judge on others."""
    every = segment_store(campaign.work, campaign.data, campaign.dry)
    alone, other = (part_of(campaign, name) for name in (ALONE, OTHER))
    paths = pretrained(alone, "alone", campaign)
    new, taken = {"adapt": "channels"}, {"channels": {OTHER: ALONE}}
    rows = []
    for path in paths:
        rows += [
            (every, ("all channels, others new", path, new, "fine-tuned", None)),
            (other, (f"{OTHER} takes {ALONE}'s", path, taken, "fine-tuned", None)),
            (other, (f"{OTHER} takes {ALONE}'s, probe", path, taken, "probe", None)),
            (other, (f"{OTHER} new", path, new, "fine-tuned", None)),
        ]
    if paths:
        rows += [
            (every, ("all channels, scratch", None, new, "fine-tuned", paths[0])),
            (other, (f"{OTHER}, scratch", None, new, "fine-tuned", paths[0])),
            (other, (f"{OTHER}, bands, logistic", None, {"model": "logistic"}, "as it is", None)),
        ]
    judged(jobs_of(rows, campaign), campaign)


def part_of(campaign: Campaign, name: str) -> Path:
    """Return the store of one channel of the segments."""
    path = campaign.work / f"only-{name}"
    if campaign.data is not None and (campaign.data / SEGMENTS).is_file():
        found = read_segments(campaign.data / SEGMENTS)
    else:
        found = made_up_segments()
    number = list(map(str, found["ch_names"])).index(name)
    return write_store(path, found | {"ch_names": (name,), "x": found["x"][:, number : number + 1]})


def pretrained(store: Path, name: str, campaign: Campaign) -> list[Path]:
    """Pretrain by contrast with every seed, for the same number of steps; return the runs."""
    stem, overrides = METHODS["contrast"]
    steps, batch = (4, 16) if campaign.dry else (STEPS[campaign.phase], BATCH)
    settings = overrides | (TINY if campaign.dry else {"fit.compile": "never"})
    paths = []
    for seed in SEEDS[:1] if campaign.dry else SEEDS:
        path = campaign.work / f"{name}-{seed}"

        def train(path: Path = path, seed: int = seed) -> dict[str, object]:
            pretrain(
                store, path, config=CONFIGS / f"{stem}.yaml", seed=seed,
                overrides=settings | schedule(steps, batch, 2),
                gpus="1" if campaign.device == "cuda" else "0",
            )  # fmt: skip
            lines = read_metrics(path)
            return {
                "steps": lines[-1]["step"],
                "loss": [[line["step"], line["loss"]] for line in lines if "loss" in line],
            }

        if campaign.attempt(f"pretraining {name}, seed {seed}", train):
            paths.append(path)
    return paths


def jobs_of(rows: list[tuple[Path, tuple]], campaign: Campaign) -> list[Job]:
    """Return the jobs: every row with each budget and draw, a whole draw before the next."""
    budgets, draws = ((2,), (0,)) if campaign.dry else (BUDGETS, DRAWS)
    tiny = TINY if campaign.dry else {}
    jobs = []
    for draw in draws:
        for budget in budgets:
            kinds = {"fine-tuned": tuning(budget, campaign.dry), "probe": PROBE, "as it is": {}}
            for store, (row, path, own, kind, like) in rows:
                shape = tiny if path is None and like is None and kind != "as it is" else {}
                jobs.append(
                    Job(
                        row=row, origin="scratch" if path is None else str(path), budget=budget,
                        draw=draw, store=store, device=campaign.device,
                        run=campaign.work / "judged" / f"{campaign.phase}-{len(jobs):04d}",
                        overrides=kinds[kind] | own | shape, like=like,
                    )
                )  # fmt: skip
    return jobs
