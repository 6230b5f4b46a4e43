"""The phases ``correctness`` and ``compiled`` of benchmarks/gpu.py: is a GPU's result the CPU's?

Every comparison notes how far apart loss and gradient are (the loss relative to itself, the
gradient as the norm of the difference over the norm), what is tolerated, and whether it is within.
Draws come from a generator on the CPU, drop path is off, so both sides see the same patches.
"""

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from gpu_data import segment_store
from gpu_tools import Campaign
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from partsig.config import compose
from partsig.contracts import Batch
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import RandomWindows, ResidentWindows
from partsig.modalities import registry
from partsig.modalities.signal_settings import SignalPretrainConfig
from partsig.recipes.pretraining import Pretraining, run_pretraining
from partsig.runs.models import build_objective, read_state
from partsig.train import distributed
from partsig.train.step import compile_blocks
from partsig.verbs.pretrain import pretrain

CONFIGS = Path(__file__).parents[1] / "configs"
# Of (loss, gradient). float32 rounds at 6e-8; through these models that leaves 3e-7 of a loss and
# 1.3e-6 of a gradient at most (measured on a CPU against float64, the 12.9-M encoder, four real
# windows). A GPU sums in another order: some ten times that; TF32 would leave 3e-4 and be seen.
# bfloat16 rounds at 4e-3: on the CPU 1e-2 of a loss (contrast, whose likenesses are divided by .1;
# 5e-4 of the others) and .003 to .015 of a gradient.
FLOAT32, BFLOAT16 = (1e-5, 1e-4), (3e-2, 5e-2)
CASES: dict[str, tuple[str, dict]] = {
    "part": ("part", {}),
    "part-grid": ("part-grid", {}),
    "part-sizes": ("part", {"objective.sampling": "sizes"}),
    "part-near": ("part", {"objective.span": 5, "objective.stretches": 2, "objective.patches": 40}),
    "part-pe20": ("part-pe20", {}),
    "part-laplace": ("part-laplace", {}),
    "part-histogram": ("part-histogram", {}),
    "part-context": ("part-context", {}),
    "contrast": ("part-context", {"objective.relate": 0.0}),
    "mae": ("mae", {}),
    "mp3": ("mp3", {}),
    "droppos": ("droppos", {}),
    "image-part": ("cifar", {}),
    "image-mae": ("cifar-mae", {}),
    "image-mp3": ("cifar-mp3", {}),
    "image-droppos": ("cifar-droppos", {}),
}
TINY = {"encoder.width": 32, "encoder.depth": 1, "encoder.heads": 2}
TINY_DECODER = {f"objective.decoder.{key}": value for key, value in
                {"width": 16, "depth": 1, "heads": 2}.items()}  # fmt: skip
# A short run of the real loop: 30 steps, a checkpoint after each.
LOOP = {
    "encoder.width": 64, "encoder.depth": 2, "encoder.heads": 4, "windows_per_epoch": 640,
    "optim.warmup_epochs": 1, "fit.epochs": 3, "fit.batch_size": 64, "fit.log_every": 5,
    "fit.checkpoint_minutes": 0, "fit.keep": 100, "fit.precision": "float32",
    "fit.compile": "never", "split.monitor_subjects": 0,
}  # fmt: skip
TINY_LOOP = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 2,
             "fit.batch_size": 4, "windows_per_epoch": 16, "fit.log_every": 2}  # fmt: skip


def run(campaign: Campaign) -> None:
    """Make every comparison; one that fails leaves its traceback."""
    torch.set_float32_matmul_precision("highest")  # no TF32
    device = torch.device(campaign.device)
    on_cpu = "" if device.type == "cuda" else "no GPU here: the CPU against itself"
    campaign.put("about", {"tolerated": {"float32": FLOAT32, "bf16": BFLOAT16}, "note": on_cpu})
    store = segment_store(campaign.work, campaign.data, made_up=True)
    batch = 4 if campaign.dry else 8
    for name in CASES:
        campaign.attempt(f"objective {name}", lambda n=name: objective(n, store, batch, campaign))
    campaign.attempt("resident", lambda: same_windows(store, device, 16 if campaign.dry else 256))
    campaign.attempt("naive head", lambda: naive_head(store, batch, campaign))
    campaign.attempt("resumed", lambda: resumed(store, campaign), seconds=45)
    campaign.attempt("launched", lambda: launched(store, campaign), seconds=45)


def run_compiled(campaign: Campaign) -> None:
    """Compare compiled blocks with plain ones: a phase of its own, for the compiler takes long."""
    torch.set_float32_matmul_precision("highest")  # no TF32
    store = segment_store(campaign.work, campaign.data, made_up=True)
    batch = 4 if campaign.dry else 8
    campaign.attempt("compiled", lambda: compiled(store, batch, campaign))


def model_and_windows(
    name: str, store: Path, batch: int, tiny: bool, more: Mapping[str, object] | None = None
) -> tuple[nn.Module, Tensor]:
    """Return a case's untrained model and windows (B, C, *L) for it: real ones of signals."""
    stem, overrides = CASES[name]
    kind = "image" if stem.startswith("cifar") else "eeg"
    settings = {"encoder.drop_path": 0.0} | overrides | dict(more or {})
    if tiny:
        settings |= TINY | (TINY_DECODER if name.endswith(("mae", "droppos")) else {})
    recipe = compose(registry.get(kind).pretrain, "pretrain", CONFIGS / f"{stem}.yaml", settings)
    torch.manual_seed(0)
    if kind == "image":
        x = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8)
        window, patch = recipe.extents(1.0)
    else:
        opened = open_store(store)
        window, patch = recipe.extents(opened.sfreq)
        x = RandomWindows(opened, opened.labelled_subjects, window[0], 0, batch).batch(0, 0, batch)
        x = torch.from_numpy(x)
    n_patches = registry.get(kind).n_patches
    return build_objective(x.shape[1], window, patch, recipe, n_patches), x


def gradient(
    model: nn.Module, x: Tensor, device: torch.device, bf16: bool = False
) -> tuple[float, Tensor]:
    """Return loss and gradient, all parameters in one row, float64 on the CPU, of one batch."""
    model = copy.deepcopy(model).to(device).train()
    return gradient_in_place(model, x, device, bf16)


def gradient_in_place(
    model: nn.Module, x: Tensor, device: torch.device, bf16: bool = False
) -> tuple[float, Tensor]:
    """Return what :func:`gradient` does, of a model that lies on the device already."""
    generator = torch.Generator().manual_seed(1)
    model.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, bf16):
        loss = model(x.to(device), generator=generator, progress=0.5)["loss"]
    loss.backward()
    parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return loss.item(), torch.cat([part.detach().double().cpu().flatten() for part in parts])


def apart(
    found: tuple[float, Tensor], reference: tuple[float, Tensor], tolerated: tuple[float, float]
) -> dict[str, object]:
    """Return how far two losses and gradients lie apart, and whether that is tolerated."""
    loss = abs(found[0] - reference[0]) / max(abs(reference[0]), 1e-30)
    norm = reference[1].norm().clamp(min=1e-30)
    off = ((found[1] - reference[1]).norm() / norm).item()
    within = loss <= tolerated[0] and off <= tolerated[1]  # False also where one is not finite
    return {"loss": loss, "gradient": off, "tolerated": tolerated, "within": within}


def objective(name: str, store: Path, batch: int, campaign: Campaign) -> dict:
    """Compare an objective on the CPU and the device in float32, and there in bfloat16."""
    device = torch.device(campaign.device)
    model, x = model_and_windows(name, store, batch, campaign.dry)
    reference, there = gradient(model, x, torch.device("cpu")), gradient(model, x, device)
    return {
        "loss_cpu": reference[0],
        "float32": apart(there, reference, FLOAT32),
        "bf16": apart(gradient(model, x, device, bf16=True), there, BFLOAT16),
    }


def same_windows(store: Path, device: torch.device, batch: int) -> dict:
    """Compare windows streamed from the store with those cut on the device: bit for bit."""
    opened = open_store(store)
    windows = RandomWindows(opened, list(opened.subjects), 3000, 0, 4 * batch)
    held = ResidentWindows(windows, device)
    places = [(epoch, first, batch) for epoch in (0, 1) for first in (0, 3 * batch)]
    same = [
        torch.equal(torch.from_numpy(windows.batch(*at)), held.batch(*at).cpu()) for at in places
    ]
    return {"batches": len(same), "tolerated": 0, "within": all(same)}


def naive_head(store: Path, batch: int, campaign: Campaign) -> dict:
    """Compare PART's separable head with the literal one, on the device in float32."""
    device, found = torch.device(campaign.device), {}
    for name in ("part", "image-part"):
        ours, x = model_and_windows(name, store, batch, campaign.dry)
        naive, _ = model_and_windows(
            name, store, batch, campaign.dry, {"objective.head_impl": "naive"}
        )
        naive.load_state_dict(ours.state_dict())
        pair = (gradient(model, x, device) for model in (ours, naive))
        found[name] = apart(*pair, FLOAT32)
    return found


def compiled(store: Path, batch: int, campaign: Campaign) -> dict:
    """Compare the compiled blocks with the plain ones, on the device, in both precisions."""
    device, said = torch.device(campaign.device), []
    model, x = model_and_windows("part", store, batch, campaign.dry)
    model = model.to(device)
    plain = {bf16: gradient(model, x, device, bf16) for bf16 in (False, True)}
    found: dict[str, object] = {"backend": "inductor"}
    for bf16, tolerated in ((False, FLOAT32), (True, BFLOAT16)):
        if device.type == "cuda":
            compile_blocks(model, Batch(x.to(device)), "bf16" if bf16 else "float32", said.append)
        else:  # generating and compiling C++ takes minutes; the tracing is the same
            found["backend"] = "aot_eager, as no GPU is here"
            torch.compiler.reset()
            model.encoder.blocks.compile(dynamic=False, backend="aot_eager")
        key = "bf16" if bf16 else "float32"
        found[key] = apart(gradient_in_place(model, x, device, bf16), plain[bf16], tolerated)
    if said:
        found |= {"said": said, "within": False}
    return found


def loop_settings(campaign: Campaign) -> dict[str, object]:
    """Return the overrides of a short run of the real loop."""
    return LOOP | (TINY_LOOP if campaign.dry else {})


def pretrained(store: Path, path: Path, campaign: Campaign) -> Tensor:
    """Run the real loop, or continue it; return its final weights in one row."""
    gpus = "1" if campaign.device == "cuda" else "0"
    pretrain(
        store, path, config=CONFIGS / "part.yaml", overrides=loop_settings(campaign), gpus=gpus
    )
    return weights_of(path)


def weights_of(path: Path) -> Tensor:
    """Return the newest weights of a run in one row, float64."""
    return torch.cat([value.double().flatten() for value in read_state(path).values()])


def weights_apart(found: Tensor, reference: Tensor, spread: float) -> dict[str, object]:
    """Return how far two ends of training lie apart, beside two runs that were done alike."""
    off = ((found - reference).norm() / reference.norm()).item()
    tolerated = 10 * spread + 1e-6  # 0 on the CPU but for this: the same sums in the same order
    return {"weights": off, "spread_of_equal_runs": spread, "tolerated": tolerated,
            "bit_for_bit": off == 0, "within": off <= tolerated}  # fmt: skip


def references(store: Path, campaign: Campaign) -> tuple[Path, Tensor, float]:
    """Return a run, its final weights, and how far those of the same run, done again, lie off."""
    path = campaign.work / "loop-0"
    weights, again = (pretrained(store, campaign.work / f"loop-{i}", campaign) for i in (0, 1))
    return path, weights, ((again - weights).norm() / weights.norm()).item()


def resumed(store: Path, campaign: Campaign) -> dict:
    """Break a run of the real loop off in its middle, continue it, and compare its end."""
    path, weights, spread = references(store, campaign)
    broken = campaign.work / "loop-broken"
    shutil.copytree(path, broken)
    steps = sorted((broken / "checkpoints").glob("step-*.pt"))
    kept = len(steps) // 2
    for file in steps[kept:]:
        file.unlink()
    record = json.loads((broken / "run.json").read_text(encoding="utf-8"))
    (broken / "run.json").write_text(json.dumps(record | {"state": "running"}), encoding="utf-8")
    found = weights_apart(pretrained(store, broken, campaign), weights, spread)
    return {"steps": len(steps), "broken_off_at": kept} | found


def launched(store: Path, campaign: Campaign) -> dict:
    """Run the same through the launcher, one process, and compare with the plain process."""
    path = campaign.work / "loop-launched"
    settings = compose(
        SignalPretrainConfig, "pretrain", CONFIGS / "part.yaml", loop_settings(campaign)
    )
    said = campaign.work / "launched.json"
    distributed.launch(in_a_group, (settings, store, path, said, campaign.device), 1)
    _, weights, spread = references(store, campaign)  # finished ones are only read
    group = json.loads(said.read_text(encoding="utf-8"))
    return {"group": group, "loop": weights_apart(weights_of(path), weights, spread)}


def in_a_group(settings: object, store: Path, path: Path, said: Path, device: str) -> None:
    """Do what a process of several does: meet, average gradients over the group, train."""
    world = distributed.start(device)
    total = torch.full((3,), 2.0, device=world.device)
    dist.all_reduce(total)
    distributed.wait(world)
    model, x = model_and_windows("part", store, 4, tiny=True)
    plain = gradient(model, x, world.device)
    ids = [world.device] if world.device.type == "cuda" else None
    wrapped = DistributedDataParallel(model.to(world.device), device_ids=ids)
    averaged = apart(gradient_in_place(wrapped, x, world.device), plain, FLOAT32)
    found = {"backend": dist.get_backend(), "size": world.size, "averaged": averaged,
             "summed": {"is": total.tolist(), "within": total.tolist() == [2.0] * 3}}  # fmt: skip
    said.write_text(json.dumps(found), encoding="utf-8")
    run_pretraining(
        Pretraining(
            settings=settings, modality="eeg", store=store, run=path, origin=None, seed=0,
            device=device, profile=False,
        )
    )  # fmt: skip
