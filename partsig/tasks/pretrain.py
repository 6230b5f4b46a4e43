"""``partsig pretrain``: a store in, an encoder out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from partsig import config as configs
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.droppos import DropPos, DropPosConfig
from partsig.core.objectives.mae import Mae, MaeConfig
from partsig.core.objectives.mp3 import Mp3, Mp3Config
from partsig.core.objectives.part import Part, PartConfig
from partsig.data.datasets import RandomWindows, ResidentWindows
from partsig.data.splits import SplitConfig, split_pretraining
from partsig.data.store import Store, locate, open_store
from partsig.errors import CheckpointError, ConfigError, DataError, check_range
from partsig.modality import EEG, Modality, get_modality
from partsig.tasks import runs
from partsig.train import checkpoint, distributed, loop
from partsig.train.distributed import World
from partsig.train.optim import OptimConfig
from partsig.train.step import Batch, seed_of

STORES = Path("data/store")
DEFAULT_SOURCE = {"eeg": "physionet2018"}
# Windows of the monitor subjects on which the pretext is measured, and their batch.
MONITOR_WINDOWS, MONITOR_BATCH = 512, 128
OBJECTIVES = {PartConfig: Part, MaeConfig: Mae, Mp3Config: Mp3, DropPosConfig: DropPos}


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything that decides a pretraining run; the defaults are the paper's EEG experiment.

    ``objective.name``: part, or its rivals mae, mp3 and droppos; each has its own keys.
    ``window_s`` and ``patch_s`` are in seconds. ``windows_per_epoch`` 0 means as many as the
    training signal is long. ``resident``: keep the signals in device memory and cut windows there
    (auto: on a GPU, where they fit); it does not change the result.
    """

    window_s: float = 30.0
    patch_s: float = 1.0
    windows_per_epoch: int = 0
    resident: Literal["auto", "always", "never"] = "auto"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: configs.one_of(*OBJECTIVES) = field(default_factory=PartConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fit: loop.FitConfig = field(default_factory=loop.FitConfig)
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        check_range("windows_per_epoch", self.windows_per_epoch, 0)
        check_range("patch_s", self.patch_s, 0.01)
        check_range("window_s", self.window_s, self.patch_s)


def pretrain(
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    modality: str = "eeg",
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    from_: str | Path | None = None,
    seed: int = 0,
    gpus: str = "auto",
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
    settings = configs.compose(PretrainConfig, "pretrain", config, overrides)
    kind = get_modality(modality)
    if kind.name not in DEFAULT_SOURCE:
        ready = ", ".join(DEFAULT_SOURCE)
        raise ConfigError(
            f"--modality {modality}: no store of that kind can be made yet ({ready})."
        )
    device, processes = distributed.count_processes(gpus, cpu_processes)
    store = locate(store or STORES / DEFAULT_SOURCE[kind.name])
    name = Path(config).stem if config else "part"
    path = Path(run or runs.RUNS / f"pretrain-{name}-s{seed}")
    origin = None if from_ is None else Path(from_)
    if origin is not None:
        runs.finished(origin, "pretrain")
    opened = open_store(store)
    if opened.meta["modality"] != kind.name:
        raise DataError(f"{store} holds {opened.meta['modality']}, not {kind.name}.")
    _check_batch(settings, processes)
    if processes > 1 and not distributed.inside():
        distributed.launch(_work, (settings, store, path, origin, seed, device, profile), processes)
    else:
        _work(settings, store, path, origin, seed, device, profile)
    return path


def _check_batch(settings: PretrainConfig, processes: int) -> None:
    if settings.fit.batch_size % processes:
        raise ConfigError(
            f"fit.batch_size ({settings.fit.batch_size}) must divide over {processes} processes."
        )


def shapes(store: Store, settings: PretrainConfig) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return channels, window and patch (samples) of a store under these settings."""
    window, patch = (round(s * store.sfreq) for s in (settings.window_s, settings.patch_s))
    return len(store.ch_names), (window,), (patch,)


def build(
    store_channels: int, window: tuple, patch: tuple, settings: PretrainConfig, modality: Modality
) -> nn.Module:
    """Return the untrained model; the caller seeds torch."""
    objective = settings.objective
    if isinstance(objective, PartConfig) and not objective.patches:
        objective = replace(objective, patches=modality.n_patches)
    encoder = Encoder(settings.encoder, store_channels, patch)
    return OBJECTIVES[type(objective)](objective, encoder, window, patch)


def _work(
    settings: PretrainConfig,
    store_path: Path,
    path: Path,
    origin: Path | None,
    seed: int,
    device: str,
    profile: bool,
) -> None:
    world = distributed.start(device)
    _check_batch(settings, world.size)
    store = open_store(store_path)
    split = split_pretraining(
        list(store.subjects), store.labelled_subjects, settings.split, store.roles
    )
    channels, window, patch = shapes(store, settings)
    before = [] if origin is None else runs.read(origin)["subjects_seen"]
    facts = {
        "seed": seed,
        "store": str(store_path),
        "provenance": store.meta["provenance"],
        "ch_names": list(store.ch_names),
        "sfreq": store.sfreq,
        "from": None if origin is None else str(origin),
        "subjects_seen": list(dict.fromkeys(split["train"] + split["monitor"] + before)),
        "subjects_trained": split["train"],
        "subjects_held_out": split["test"],
    }
    if not profile:
        if world.main:
            runs.begin(path, "pretrain", settings, facts, (*loop.SPEED_KEYS, "resident", "store"))
        distributed.wait(world)
        if runs.read(path)["state"] == "finished":
            return
    torch.manual_seed(seed_of(seed, 7))
    model = build(channels, window, patch, settings, EEG)
    if origin is not None:
        fresh = _take_over(model, origin, store)
        if world.main:
            print(f"from {origin}" + (f"; anew: {', '.join(fresh)}" if fresh else ""), flush=True)
    windows = RandomWindows(store, split["train"], window[0], seed, settings.windows_per_epoch)
    size = settings.fit.batch_size
    windows.per_epoch = max(windows.per_epoch, size)  # a small store still fills one batch
    steps = windows.per_epoch // size
    share = size // world.size

    resident = _resident(windows, world, settings.resident)

    def place(step: int) -> tuple[int, int]:
        epoch, within = divmod(step, steps)
        return epoch, within * size + world.rank * share

    def batch_at(step: int) -> Batch:
        if resident is not None:
            return (resident.batch(*place(step), share),)
        return (torch.from_numpy(windows.batch(*place(step), share)),)

    def suspects(step: int) -> str:
        return windows.suspects(*place(step), share)

    unit = _unit(EEG, store.sfreq)
    monitor = _monitor(store, split["monitor"], window[0], model, world, unit, settings)
    job = loop.Fit(
        model=model,
        batch_at=batch_at,
        steps_per_epoch=steps,
        config=settings.fit,
        optim=settings.optim,
        seed=seed,
        run=path,
        kind="pretrain",
        identity={"subjects_seen": facts["subjects_seen"]},
        world=world,
        label="pretrain",
        prefetch=resident is None,
        suspects=suspects,
        shown=("loss", "mse/chance", "val_mse/chance", "error_s", "val_accuracy", "windows_per_s"),
        on_epoch=monitor,
        derive=unit,
    )
    if profile:
        table = loop.profile(job)
        if world.main:
            print(table)
        return
    loop.fit(job)
    if world.main:
        runs.finish(path, parameters=sum(p.numel() for p in model.encoder.parameters()))


def _take_over(model: nn.Module, origin: Path, store: Store) -> list[str]:
    """Copy what has the same name and shape from a finished run; return what has not.

    Raises CheckpointError when the encoder is of another shape or for other signals.
    """
    encoder, record, _ = load_encoder(origin)
    for key, mine in (("ch_names", list(store.ch_names)), ("sfreq", store.sfreq)):
        if record[key] != mine:
            raise CheckpointError(f"{origin} has {key} {record[key]}, this store has {mine}.")
    theirs, ours = (
        {key: value.shape for key, value in module.state_dict().items()}
        for module in (encoder, model.encoder)
    )
    if theirs != ours or encoder.config.heads != model.encoder.config.heads:
        raise CheckpointError(
            f"{origin} has another encoder ({encoder.config}, this run {model.encoder.config}): "
            "give both the same encoder.… and patch_s."
        )
    state, mine = read_state(origin), model.state_dict()
    same = {key for key in mine if key in state and state[key].shape == mine[key].shape}
    model.load_state_dict(mine | {key: state[key] for key in same})
    return sorted(mine.keys() - same)


Derive = Callable[[dict[str, float]], dict[str, float]]


def _resident(windows: RandomWindows, world: World, wish: str) -> ResidentWindows | None:
    """Load the signals onto the device once, where that is asked for or fits in half its memory."""
    if wish == "never" or (wish == "auto" and world.device.type != "cuda"):
        return None
    gib = windows.nbytes / 2**30
    if world.device.type == "cuda":
        free = torch.cuda.mem_get_info(world.device)[0] / 2**30
        fits = windows.nbytes < 0.5 * free * 2**30
        if wish == "auto" and not fits:
            if world.main:
                print(
                    f"signals ({gib:.1f} GiB) exceed half of the free GPU memory ({free:.1f} GiB): "
                    "windows are streamed; a float16 store takes half",
                    flush=True,
                )
            return None
    if world.main:
        print(f"signals ({gib:.1f} GiB) are loaded onto {world.device} once", flush=True)
    return ResidentWindows(windows, world.device)


def _unit(modality: Modality, sfreq: float) -> Derive:
    """Return a function that turns the core's samples into the modality's unit."""
    key = f"error_{modality.unit}"

    def derive(values: dict[str, float]) -> dict[str, float]:
        kept = {name: value for name, value in values.items() if name != "distance"}
        if values.get("chance"):  # 0 where a window has room for one patch only
            kept["mse/chance"] = values["mse"] / values["chance"]
        if "distance" in values:
            kept[key] = values["distance"] / sfreq
        return kept

    return derive


def _monitor(
    store: Store,
    subjects: list[str],
    window: int,
    model: nn.Module,
    world: World,
    derive: Derive,
    settings: PretrainConfig,
) -> Callable[[int], dict[str, float]] | None:
    """Return the measure of the pretext on fixed windows and draws of unseen subjects, if any."""
    if not subjects or not world.main:
        return None
    windows = RandomWindows(store, subjects, window, seed=0, per_epoch=MONITOR_WINDOWS)
    size = min(MONITOR_BATCH, settings.fit.batch_size)

    @torch.inference_mode()
    def measure(_epoch: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        starts = range(0, MONITOR_WINDOWS, size)
        for first in starts:
            x = torch.from_numpy(windows.batch(0, first, size)).to(world.device)
            generator = torch.Generator(world.device).manual_seed(first)
            for key, value in model(x, generator).items():
                sums[key] = sums.get(key, 0.0) + value.item() / len(starts)
        return {f"val_{key}": value for key, value in derive(sums).items()}

    return measure


def load_encoder(run: Path) -> tuple[Encoder, dict, PretrainConfig]:
    """Return the encoder of a finished pretraining run, its ``run.json`` and its configuration."""
    record = runs.finished(run, "pretrain")
    settings = configs.build(PretrainConfig, record["config"])
    patch = (round(settings.patch_s * record["sfreq"]),)
    encoder = Encoder(settings.encoder, len(record["ch_names"]), patch)
    prefix = "encoder."
    state = {
        key.removeprefix(prefix): value
        for key, value in read_state(run).items()
        if key.startswith(prefix)
    }
    encoder.load_state_dict(state)
    return encoder, record, settings


def read_state(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights a pretraining run ended with, averaged ones where it averaged."""
    path = checkpoint.newest(run)
    if path is None:
        raise CheckpointError(f"{run} has lost its checkpoints; pretrain again.")
    content = checkpoint.load(path, "pretrain")
    return content["model"] | content.get("average", {})
