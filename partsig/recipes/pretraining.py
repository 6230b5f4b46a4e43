"""How an encoder is pretrained, whatever it is pretrained on and by which objective."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from partsig import config as configs
from partsig.contracts import Batch, PretrainingData, Windows
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import registry
from partsig.modalities.modality import Modality
from partsig.recipes.pretext_measures import extras_of, measure, units
from partsig.runs import directory as runs
from partsig.runs.kept import held, is_over
from partsig.runs.models import build_objective, load_encoder, read_state
from partsig.runs.perceiving import is_perceiving, open_perceiving
from partsig.runs.run import Run
from partsig.runs.settings import PretrainRecipe
from partsig.seeds import Stream, seed_of
from partsig.train import distributed, loop
from partsig.train.distributed import World
from partsig.train.job import TrainingJob
from partsig.train.settings import SPEED_KEYS

# Windows that a model is shown before the first step, where it asks for it.
LOOKED_AT = 64
MAY_CHANGE_ON_RESUME = (*SPEED_KEYS, "resident", "store")


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One pretraining run as it was asked for: everything each of its processes needs."""

    settings: PretrainRecipe
    modality: str
    store: Path
    run: Path
    origin: Path | None
    seed: int
    device: str
    profile: bool

    def check_batch(self, processes: int) -> None:
        """Raise ConfigError unless a batch divides over the processes."""
        size = self.settings.fit.batch_size
        if size % processes:
            raise ConfigError(f"fit.batch_size ({size}) must divide over {processes} processes.")

    def open_data(self) -> PretrainingData:
        """Open the store; raise DataError for one of another modality, and what opening raises."""
        modality = registry.get(self.modality)
        modality.check_store(self.store)
        dataset = modality.open(self.store)
        return dataset.pretraining(self.settings, self.seed)


def run_pretraining(asked: Pretraining) -> None:
    """Do one process's share of a pretraining run; continue it where it was killed.

    Raises BusyError where another call trains the same run.
    """
    world = distributed.start(asked.device)
    with held(asked.run) if world.main and not asked.profile else nullcontext():
        _share_pretraining(asked, world)


def _share_pretraining(asked: Pretraining, world: World) -> None:
    asked.check_batch(world.size)
    modality, data, path = registry.get(asked.modality), asked.open_data(), asked.run
    before = [] if asked.origin is None else Run.read(asked.origin).seen_unlabelled
    seen = list(dict.fromkeys(data.facts["subjects_seen"] + before))
    model, told = _model(asked, modality, data)
    over = is_over(path)
    if not over:  # before the run is begun: what is refused must not leave one behind
        _show(model, data)
    facts = {
        "seed": int(asked.seed),
        **runs.streams_of(asked.seed),
        "store": str(asked.store),
        "from": None if asked.origin is None else str(asked.origin),
        **data.facts,
        "subjects_seen": seen,
        **told,
    }
    # Before the run is begun: what is refused must not leave one behind.
    fresh = [] if asked.origin is None or over else _take_over(model, asked.origin, data)
    if not asked.profile:
        if world.main:
            runs.begin(path, "pretrain", asked.settings, facts, MAY_CHANGE_ON_RESUME, over)
        distributed.wait(world)
        if over:
            return
    if asked.origin is not None and world.main:
        print(f"from {asked.origin}" + (f"; anew: {', '.join(fresh)}" if fresh else ""), flush=True)
    job = _job(asked, modality, data, model, world)
    if asked.profile:
        table = loop.profile(job)
        if world.main:
            print(table)
        return
    steps = loop.fit(job).step
    if world.main:
        runs.finish(
            path, steps=steps, parameters=sum(p.numel() for p in model.encoder.parameters())
        )


def _model(
    asked: Pretraining, modality: Modality, data: PretrainingData
) -> tuple[nn.Module, dict[str, object]]:
    """Return the untrained model, and what a run tells of networks that it brings along."""
    if is_perceiving(asked.settings.objective):
        if asked.origin is not None:
            raise ConfigError(
                f"--from is for objectives that train an encoder; {asked.settings.objective.name} "
                "looks through another: name it by --set objective.phi=…"
            )
        return open_perceiving(asked.settings, data.facts, data.samples_per_unit, asked.seed)
    torch.manual_seed(seed_of(Stream.PRETRAINED_WEIGHTS, asked.seed))
    shape = data.channels, data.window, data.patch
    return build_objective(*shape, asked.settings, modality.n_patches), {}


def _show(model: nn.Module, data: PretrainingData) -> None:
    """Show a model that asks for it the first windows of the first epoch, all that it takes."""
    look_at = getattr(model, "look_at", None)
    if look_at is not None:
        count = min(LOOKED_AT, data.train.per_epoch)
        x = torch.from_numpy(data.train.batch(0, 0, count))
        look_at(x, **extras_of(data.train, 0, 0, count))


def _job(
    asked: Pretraining,
    modality: Modality,
    data: PretrainingData,
    model: nn.Module,
    world: World,
) -> TrainingJob:
    windows, size = data.train, asked.settings.fit.batch_size
    windows.per_epoch = max(windows.per_epoch, size)  # a small store still fills one batch
    steps = windows.per_epoch // size
    share = size // world.size
    held = resident(data, world, asked.settings.resident)
    own = _Share(windows, steps, size, world.rank * share, share)
    # Augmentations draw from torch's own generator: in a thread they would mix with the training.
    prefetch = "processes" if data.augmented else "thread"
    derive = units(data, modality)
    return TrainingJob(
        model=model,
        batch_at=own if held is None else lambda step: own.as_batch(held.batch(*own.place(step))),
        steps_per_epoch=steps,
        config=asked.settings.fit,
        optim=asked.settings.optim,
        seed=asked.seed,
        run=asked.run,
        kind="pretrain",
        identity=data.identity,
        world=world,
        label="pretrain",
        prefetch="never" if held is not None else prefetch,
        describe_batch=lambda step: windows.describe_batch(*own.place(step)),
        shown=(
            *("loss", "mse/chance", "val_mse/chance", f"error_{modality.unit}"),
            *("val_accuracy", "windows_per_s"),
        ),
        on_epoch=measure(data, model, world, size, derive, asked.seed),
        derive=derive,
    )


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
        place = self.place(step)
        windows = torch.from_numpy(self.windows.batch(*place))
        return self.as_batch(windows, extras_of(self.windows, *place))

    def as_batch(self, windows: Tensor, extras: Mapping[str, Tensor] | None = None) -> Batch:
        """Return windows (count, C, *L) as this share of a step's batch, and what is known."""
        return Batch(windows, extras=extras or {}, first=self.first, total=self.size)


def _take_over(model: nn.Module, origin: Path, data: PretrainingData) -> list[str]:
    """Copy what has the same name and shape from a finished run; return what has not.

    Raises CheckpointError when the encoder is of another shape or for other signals.
    """
    pretrained = load_encoder(origin)
    encoder, run = pretrained.encoder, pretrained.run
    known = run.facts | {"modality": run.modality}
    for key in ("modality", "ch_names", "sfreq"):
        theirs, mine = known.get(key), data.facts.get(key)
        if theirs != mine:
            raise CheckpointError(f"{origin} has {key} {theirs}, this store has {mine}.")
    theirs, ours = (
        {key: value.shape for key, value in module.state_dict().items()}
        for module in (encoder, model.encoder)
    )
    without = ("heads", "attention")  # of which no weight tells
    if theirs != ours or any(
        getattr(encoder.config, key) != getattr(model.encoder.config, key) for key in without
    ):
        _, patch = pretrained.settings.extents(run.samples_per_unit)
        shapes = (
            {"encoder": configs.to_dict(shape), "patch": f"{list(extent)} samples"}
            for shape, extent in ((encoder.config, patch), (model.encoder.config, data.patch))
        )
        raise CheckpointError(
            f"{origin} has another encoder ({'; '.join(configs.differences(*shapes))}): give both "
            "the same encoder.… and the same patch_s, or patch_px."
        )
    state, mine = read_state(origin), model.state_dict()
    same = {key for key in mine if key in state and state[key].shape == mine[key].shape}
    model.load_state_dict(mine | {key: state[key] for key in same})
    return sorted(mine.keys() - same)


def resident(data: PretrainingData, world: World, wish: str) -> object | None:
    """Load windows onto the device once, where that is asked for or fits in half its memory."""
    if data.load_onto is None or wish == "never":
        return None
    on_gpu = world.device.type == "cuda"
    if wish == "auto" and not on_gpu:
        return None
    gib = data.nbytes / 2**30
    if on_gpu:
        free = torch.cuda.mem_get_info(world.device)[0] / 2**30
        if wish == "auto" and gib >= 0.5 * free:
            if world.main:
                print(
                    f"signals ({gib:.1f} GiB) exceed half of the free GPU memory ({free:.1f} GiB): "
                    "windows are streamed; a float16 store takes half",
                    flush=True,
                )
            return None
    if world.main:
        print(f"signals ({gib:.1f} GiB) are loaded onto {world.device} once", flush=True)
    try:
        return data.load_onto(world.device)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"the memory of {world.device} does not suffice for the signals ({gib:.1f} GiB): pass "
            "--set resident=never, and windows are streamed."
        ) from None
