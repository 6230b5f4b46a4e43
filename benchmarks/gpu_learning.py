"""The phases ``learning`` and ``images`` of benchmarks/gpu.py: what minutes on the card teach.

Every method trains for equally many seconds: its speed is measured first, and the number of steps
that its cosine ends with follows from it. The encoder is the 12.9-M one (ViT-S/4 for images), the
settings are those of configs/, the schedule's length apart.
"""

import io
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from gpu_data import image_store, segment_store
from gpu_judging import TINY, best_of, jobs_of, judged
from gpu_tools import Campaign

from partsig.data.images.store import open_images
from partsig.modalities.image_dataset import ImageDataset
from partsig.recipes.loading import load_classifier
from partsig.runs import directory as runs
from partsig.runs.models import load_encoder
from partsig.tasks import frozen
from partsig.tasks.classification_scores import share_right
from partsig.train.job import Stopped
from partsig.train.journal import read_metrics
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

CONFIGS = Path(__file__).parents[1] / "configs"
METHODS: dict[str, tuple[str, dict]] = {
    "part": ("part", {}),
    "part-histogram": ("part-histogram", {}),
    "mae": ("mae", {}),
    "contrast": ("part-context", {"objective.relate": 0.0}),
}
BATCH, EPOCHS = 512, 4  # epochs: how often the pretext is measured, in a trial as in the run
TRIAL = 60  # steps by which a speed is measured
# What compiling costs is earned back by runs of so many seconds only.
WORTH_COMPILING_S = 120


def run(campaign: Campaign) -> None:
    """Pretrain every method for equally long, then judge them all."""
    store = segment_store(campaign.work, campaign.data, campaign.dry)
    began, left = time.monotonic(), campaign.clock.left()
    judging = max(min(0.35 * left, 130.0), 0.2 * left)
    each = (left - judging) / len(METHODS)
    campaign.put("plan", {"seconds": left, "for_each_method": each, "for_judging": judging})
    paths: dict[str, Path] = {}
    for name in METHODS:
        # A method that is slower than its trial said may take from the others, but not much.
        found = campaign.attempt(
            f"pretraining {name}", lambda n=name: pretrained(n, store, each, campaign), 1.5 * each
        )
        if found:
            paths[name] = campaign.work / f"learn-{name}"
            if name == "part":
                campaign.put("weights", keep_weights(paths[name], campaign))
    campaign.put("pretrained_after_s", time.monotonic() - began)
    rows = judged(jobs_of(paths, store, campaign), campaign)
    best = best_of(rows, paths)
    if best is not None:
        campaign.attempt("weights", lambda: {"of": best} | keep_weights(paths[best], campaign))


def schedule(steps: int, batch: int, epochs: int) -> dict[str, object]:
    """Return the overrides of a run of so many steps, in as many epochs as it can be read at."""
    epochs = max(min(epochs, steps), 1)
    return {
        "fit.batch_size": batch,
        "fit.epochs": epochs,
        "windows_per_epoch": batch * max(steps // epochs, 1),
        "optim.warmup_epochs": 0.05 * epochs,
        "fit.log_every": max(steps // 40, 1),
        "fit.checkpoint_minutes": 60,  # at the end
        "fit.keep": 1,
    }


def pretrained(name: str, store: Path, seconds: float, campaign: Campaign) -> dict[str, object]:
    """Pretrain a method so that all of it takes ``seconds``; return what it reached."""
    stem, overrides = METHODS[name]
    settings = overrides | (TINY if campaign.dry else {})
    if campaign.dry and name == "mae":
        settings = settings | {"objective.decoder.width": 16, "objective.decoder.heads": 2}
    if not campaign.dry and seconds < WORTH_COMPILING_S:
        settings = settings | {"fit.compile": "never"}
    return timed_training(name, store, CONFIGS / f"{stem}.yaml", settings, seconds, campaign)


def timed_training(
    name: str,
    store: Path,
    config: Path,
    settings: dict[str, object],
    seconds: float,
    campaign: Campaign,
    modality: str = "eeg",
) -> dict[str, object]:
    """Measure a run's speed, then train for what is left of ``seconds``; return its readings.

    A run that is slower than its trial was is stopped a little after, as it then is.
    """
    began = time.monotonic()
    batch, trial = (16, 3) if campaign.dry else (BATCH, TRIAL)
    where = {"modality": modality, "config": config, "gpus": "1" if campaign.device == "cuda" else
             "0"}  # fmt: skip
    first = campaign.work / f"trial-{name}"
    epochs = 2 if campaign.dry else EPOCHS
    pretrain(store, first, overrides=settings | schedule(trial, batch, epochs), **where)
    spent = time.monotonic() - began
    found = [line["windows_per_s"] for line in read_metrics(first) if "windows_per_s" in line]
    rate = statistics.median(found[len(found) // 2 :])
    # What the trial took beside its steps the run takes again, at most; a little is kept back.
    around = max(spent - trial * batch / rate, 0.0)
    training = 0.95 * (seconds - spent - around)
    steps = 4 if campaign.dry else max(int(training * rate / batch), trial)
    path = campaign.work / f"learn-{name}"
    with stopped_after(1.1 * (seconds - spent)):
        try:
            pretrain(store, path, overrides=settings | schedule(steps, batch, epochs), **where)
        except Stopped as stopped:
            if stopped.code != 128 + signal.SIGUSR1:
                raise
            runs.finish(path, stopped_early=True)
    lines = read_metrics(path)
    rates = [line["windows_per_s"] for line in lines if "windows_per_s" in line]
    curve = [
        {key: value for key, value in line.items() if key.startswith("val_") or key == "step"}
        for line in lines
        if any(key.startswith("val_") for key in line)
    ]
    return {
        "steps": lines[-1]["step"],
        "stopped_early": "stopped_early" in runs.read(path),
        "windows": lines[-1]["step"] * batch,
        "windows_per_s": {"trial": rate, "run": statistics.median(rates)},
        "planned_training_s": training,
        "trained_s": lines[-1]["step"] * batch / statistics.median(rates),
        "seconds": time.monotonic() - began,
        "loss": [[line["step"], line["loss"]] for line in lines if "loss" in line],
        "curve": curve,
    }


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Ask a training run inside to stop after so many seconds: it then writes its checkpoint.

    It is asked again every second: a run that has not begun to listen would never hear of it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # outside of the run
    ended = threading.Event()

    def ask() -> None:
        wait = seconds
        while not ended.wait(wait):
            os.kill(os.getpid(), signal.SIGUSR1)
            wait = 1.0

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def keep_weights(path: Path, campaign: Campaign) -> dict[str, object]:
    """Write a run's encoder in half precision, two files of about half of it each."""
    loaded = load_encoder(path)
    encoder, record = loaded.encoder, loaded.run.facts
    state = {key: value.half() for key, value in encoder.state_dict().items()}
    parts: list[dict] = [{}, {}]
    for key, value in sorted(state.items(), key=lambda item: -item[1].numel()):
        smaller = min(parts, key=lambda part: sum(v.numel() for v in part.values()))
        smaller[key] = value
    told = {"ch_names": record["ch_names"], "sfreq": record["sfreq"],
            "encoder": json.dumps(record["config"]["encoder"])}  # fmt: skip
    placed = []
    for number, part in enumerate(parts, start=1):
        content = io.BytesIO()
        torch.save({"told": told, "part": f"{number} of 2", "weights": part}, content)
        placed.append(campaign.folder.place(f"encoder-{number}-of-2.pt", content.getvalue()))
    return {"files": placed, "parameters": sum(value.numel() for value in state.values())}


def images(campaign: Campaign) -> None:
    """Pretrain ViT-S/4 by PART on the images; probe it, and an untrained one."""
    store = image_store(campaign.work, campaign.data, campaign.dry)
    tiny = TINY if campaign.dry else {}
    # Augmenting in processes of their own; the probes take some seconds each.
    found = campaign.attempt(
        "pretraining",
        lambda: timed_training(
            "images", store, CONFIGS / "cifar.yaml", tiny | {"fit.compile": "never"},
            campaign.clock.left() - (0 if campaign.dry else 20), campaign, "image",
        ),
    )  # fmt: skip
    rows = {"untrained": ("scratch", tiny)}
    if found:
        rows["part"] = (str(campaign.work / "learn-images"), {})
    for name, (origin, shape) in rows.items():
        campaign.attempt(
            f"probe {name}", lambda o=origin, s=shape: probed_images(o, s, store, campaign)
        )


def probed_images(origin: str, shape: dict, store: Path, campaign: Campaign) -> dict[str, float]:
    """Return the accuracy of a linear probe on the test images, all labels given."""
    path = campaign.work / f"probe-images-{'scratch' if origin == 'scratch' else 'part'}"
    overrides = {"train": "probe", "pool": "mean"} | shape
    finetune(origin, store, path, overrides=overrides, device=campaign.device)
    model, trained = load_classifier(path)
    record = trained.facts
    opened, device = open_images(store), torch.device(campaign.device)
    test = ImageDataset(opened).test_examples(trained, external=False)
    predicted = frozen.predict_examples(model, test, device)
    accuracy = share_right(test.labels, predicted.argmax(1))
    return {"accuracy": accuracy, "val_accuracy": record["val_accuracy"], "n_images": len(test)}
