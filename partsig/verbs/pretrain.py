"""``partsig pretrain``: a store in, an encoder out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from partsig import config as configs
from partsig.contracts import Batch, Windows
from partsig.core.encoder import Encoder
from partsig.data.store import locate
from partsig.errors import CheckpointError, ConfigError, check_range
from partsig.modalities.modality import get_modality
from partsig.recipes.pretraining import Material, gather, measure, resident, units
from partsig.runs import run as runs
from partsig.runs.settings import RECIPES, Recipe, build, recipe_of
from partsig.train import checkpoint, distributed, loop
from partsig.train.step import seed_of

STORES = Path("data/store")
DEFAULT_SOURCE = {"eeg": "physionet2018", "image": "cifar100"}


def pretrain(
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    modality: str = "eeg",
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    from_: str | Path | None = None,
    seed: int = 0,
    gpus: str | int = "auto",
    cpu_processes: int = 1,
    profile: bool = False,
) -> Path:
    """Pretrain an encoder on a store and return the run directory.

    ``store`` defaults to ``data/store/physionet2018`` for EEG, ``run`` to
    ``runs/pretrain-CONFIG-sSEED``. ``from_`` is a finished pretraining run to start from: a
    curriculum (short windows first, say), or more nights. Its encoder must be of the same shape;
    what else has the same name and shape is taken over, the rest starts anew.
    Test subjects of the store are never read; a few monitor subjects measure the pretext. The same
    call again continues an interrupted run, and does nothing to a finished one. With ``profile``
    nothing is trained: a few steps are timed, a table is printed and ``RUN/profile`` written.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    kind = get_modality(modality)
    check_range("--seed", seed, 0)
    for other, recipe in RECIPES.items():
        meant = f"{runs.CALLED[other]}: pass --modality {other}"
        configs.check_meant(RECIPES[kind.name], "pretrain", config, recipe, meant)
    settings = configs.compose(RECIPES[kind.name], "pretrain", config, overrides)
    device, processes = distributed.count_processes(str(gpus), cpu_processes)
    store = locate(store or STORES / DEFAULT_SOURCE[kind.name])
    name = Path(config).stem if config else "part"
    path = Path(run or runs.RUNS / f"pretrain-{name}-s{seed}")
    origin = None if from_ is None else Path(from_)
    if origin is not None:
        runs.finished(origin, "pretrain")
    gather(store, kind, settings, seed)  # what is wrong with it is told before processes start
    _check_batch(settings, processes)
    arguments = (settings, kind.name, store, path, origin, seed, device, profile)
    if processes > 1 and not distributed.inside():
        distributed.launch(_work, arguments, processes)
    else:
        _work(*arguments)
    return path


def _check_batch(settings: Recipe, processes: int) -> None:
    if settings.fit.batch_size % processes:
        raise ConfigError(
            f"fit.batch_size ({settings.fit.batch_size}) must divide over {processes} processes."
        )


def _work(
    settings: Recipe,
    modality: str,
    store_path: Path,
    path: Path,
    origin: Path | None,
    seed: int,
    device: str,
    profile: bool,
) -> None:
    world = distributed.start(device)
    _check_batch(settings, world.size)
    kind = get_modality(modality)
    material = gather(store_path, kind, settings, seed)
    before = [] if origin is None else runs.read(origin)["subjects_seen"]
    seen = list(dict.fromkeys(material.facts["subjects_seen"] + before))
    facts = {
        "seed": seed,
        "store": str(store_path),
        "from": None if origin is None else str(origin),
        **material.facts,
        "subjects_seen": seen,
    }
    torch.manual_seed(seed_of(seed, 7))
    model = build(material.channels, material.window, material.patch, settings, kind)
    over = (path / "run.json").is_file() and runs.read(path)["state"] == "finished"
    # Before the run is begun: what is refused must not leave one behind.
    fresh = [] if origin is None or over else _take_over(model, origin, material)
    if not profile:
        if world.main:
            runs.begin(path, "pretrain", settings, facts, (*loop.SPEED_KEYS, "resident", "store"))
        distributed.wait(world)
        if runs.read(path)["state"] == "finished":
            return
    if origin is not None and world.main:
        print(f"from {origin}" + (f"; anew: {', '.join(fresh)}" if fresh else ""), flush=True)
    windows = material.train
    size = settings.fit.batch_size
    windows.per_epoch = max(windows.per_epoch, size)  # a small store still fills one batch
    steps = windows.per_epoch // size
    share = size // world.size

    held = resident(material, world, settings.resident)
    own = _Share(windows, steps, size, world.rank * share, share)
    # Augmentations draw from torch's own generator: in a thread they would mix with the training.
    prefetch = "processes" if material.augmented else "thread"

    job = loop.TrainingJob(
        model=model,
        batch_at=own if held is None else lambda step: Batch(held.batch(*own.place(step))),
        steps_per_epoch=steps,
        config=settings.fit,
        optim=settings.optim,
        seed=seed,
        run=path,
        kind="pretrain",
        identity=material.identity | ({"subjects_seen": seen} if seen else {}),
        world=world,
        label="pretrain",
        prefetch="never" if held is not None else prefetch,
        describe_batch=lambda step: windows.describe_batch(*own.place(step)),
        shown=(
            *("loss", "mse/chance", "val_mse/chance", f"error_{kind.unit}"),
            *("val_accuracy", "windows_per_s"),
        ),
        on_epoch=measure(material, model, world, settings.fit.batch_size),
        derive=units(material),
    )
    if profile:
        table = loop.profile(job)
        if world.main:
            print(table)
        return
    loop.fit(job)
    if world.main:
        runs.finish(path, parameters=sum(p.numel() for p in model.encoder.parameters()))


@dataclass(frozen=True)
class _Share:
    """What a process is given of every step's batch; a worker process may have a copy of it."""

    windows: Windows
    steps: int  # of an epoch
    size: int  # of a whole batch
    first: int
    count: int

    def place(self, step: int) -> tuple[int, int, int]:
        """Return epoch, first window and number of windows."""
        epoch, within = divmod(step, self.steps)
        return epoch, within * self.size + self.first, self.count

    def __call__(self, step: int) -> Batch:
        return Batch(torch.from_numpy(self.windows.batch(*self.place(step))))


def _take_over(model: nn.Module, origin: Path, material: Material) -> list[str]:
    """Copy what has the same name and shape from a finished run; return what has not.

    Raises CheckpointError when the encoder is of another shape or for other signals.
    """
    encoder, record, settings = load_encoder(origin)
    for key in ("modality", "ch_names", "sfreq"):
        theirs, mine = record.get(key), material.facts.get(key)
        if theirs != mine:
            raise CheckpointError(f"{origin} has {key} {theirs}, this store has {mine}.")
    theirs, ours = (
        {key: value.shape for key, value in module.state_dict().items()}
        for module in (encoder, model.encoder)
    )
    if theirs != ours or encoder.config.heads != model.encoder.config.heads:
        _, patch = settings.extents(record.get("sfreq", 1.0))
        shapes = (
            {"encoder": configs.to_dict(shape), "patch": f"{list(extent)} samples"}
            for shape, extent in ((encoder.config, patch), (model.encoder.config, material.patch))
        )
        raise CheckpointError(
            f"{origin} has another encoder ({'; '.join(configs.differences(*shapes))}): give both "
            "the same encoder.… and the same patch_s, or patch_px."
        )
    state, mine = read_state(origin), model.state_dict()
    same = {key for key in mine if key in state and state[key].shape == mine[key].shape}
    model.load_state_dict(mine | {key: state[key] for key in same})
    return sorted(mine.keys() - same)


def load_encoder(run: Path, blocks: int = 0) -> tuple[Encoder, dict, Recipe]:
    """Return the encoder of a finished pretraining run, its ``run.json`` and its configuration.

    ``blocks``: how many of its blocks are kept, see :meth:`~partsig.core.encoder.Encoder.shorten`.
    """
    record = runs.finished(run, "pretrain")
    settings = recipe_of(record)
    _, patch = settings.extents(record.get("sfreq", 1.0))
    encoder = Encoder(settings.encoder, len(record["ch_names"]), patch)
    prefix = "encoder."
    state = {
        key.removeprefix(prefix): value
        for key, value in read_state(run).items()
        if key.startswith(prefix)
    }
    encoder.load_state_dict(state)
    encoder.shorten(blocks)
    return encoder, record, settings


def read_state(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights a pretraining run ended with, averaged ones where it averaged."""
    path = checkpoint.newest(run)
    if path is None:
        raise CheckpointError(f"{run} has lost its checkpoints; pretrain again.")
    content = checkpoint.load(path, "pretrain")
    model, average = content["model"], content.get("average", {})
    return {name: average.get(name, value) for name, value in model.items()}
