"""Segmentation: a class for every place of an item, by a linear head on frozen maps.

Part segmentation learns the classes of a store's masks, object segmentation the same masks with the
parts of one kind of object merged: what an encoder knows of parts and of whole objects, on the same
places. The score is the mean intersection over union of a whole test set, over the classes that
occur in the truth or are predicted; intervals are bootstraps over units (images). What has no label
(255) counts nowhere. So does background where it was stored so; stored as a class it is one.

Source: Zhu et al., Understanding Self-Supervised Pretraining with Part-Aware Representation
Learning, TMLR 2024: part and object segmentation; see :mod:`partsig.core.objectives.segmenter`.
*Differs from it*: whole images, or windows anywhere in them, as they are stored: no scaling, mirror
images or jitter in training; the rate follows a cosine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from partsig.contracts import Labels, MaskedExamples
from partsig.core.encoder import Encoder
from partsig.core.frozen_encoder import FrozenEncoder, FrozenTransformer
from partsig.core.objectives.segmenter import KeptMaps, Segmenter, judged
from partsig.errors import ConfigError
from partsig.metrics.segmentation import mean_iou
from partsig.runs.run import Run
from partsig.runs.settings import FinetuneRecipe
from partsig.tasks.classification_scores import with_interval
from partsig.tasks.frozen import VAL_LOSS, InputShape
from partsig.tasks.labelled import LabelledTask
from partsig.tasks.networks import loaded
from partsig.tasks.relabelled import RelabelledMasks
from partsig.tasks.segmentation_files import write_counts, write_maps
from partsig.tasks.segmentation_scores import MEASURE, parts_of, score, tables
from partsig.train.settings import check_warmup

# Settings that mean something to other tasks only.
IDLE = ("pool", "blocks", "balanced", "neighbours", "loss", "repeats", "augment")
# Numbers that are held at a time in judging: logits of all classes at every place.
AT_ONCE = 2**25
SHOWN = 6  # items in a picture
NAMED = 12  # classes in a summary


class PartSegmentation(LabelledTask):
    """The part that every place is of, by a linear head on the maps of a frozen encoder.

    Answers are classes (n, *L) uint8.
    """

    name = "part-segmentation"
    target = "mask"
    level: Literal["object", "part"] | None = "part"
    can_be_reported = False
    words: Mapping[str, str] = {"predicted": "predicted class", "truth": "true class"}

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are no masks, or of one class only."""
        super().check_labels(labels)
        classes = self.learned(labels).classes
        if len(classes) < 2:
            raise ConfigError(
                f"--task {self.name}: all that is marked is {', '.join(classes)}; nothing can be "
                "told apart. Preprocess with --set background=class."
            )

    def settled(self, settings: FinetuneRecipe) -> FinetuneRecipe:
        """Return the settings of a head on an encoder that is left as it is."""
        if settings.model != "encoder" or settings.train not in ("full", "probe"):
            raise ConfigError(
                f"--task {self.name} trains a head on an encoder that is left as it is: leave out "
                f"model={settings.model} and train={settings.train}."
            )
        usual = type(settings)()
        idle = [key for key in IDLE if getattr(settings, key, 0) != getattr(usual, key, 0)]
        if idle:
            raise ConfigError(f"--task {self.name} has no use for {', '.join(idle)}: leave it out.")
        check_warmup(settings.optim, settings.fit)
        return replace(settings, train="probe")

    def build(
        self,
        encoder: Encoder | FrozenEncoder,
        settings: FinetuneRecipe,
        shape: InputShape,
        modality: str,
    ) -> Segmenter:
        """Return the encoder with an untrained head; the caller seeds torch."""
        if not isinstance(encoder, FrozenEncoder):
            places = prod(n // p for n, p in zip(shape.window, shape.patch, strict=True))
            learned = settings.positions == "learned"
            code = torch.zeros(places + 1, encoder.config.width) if learned else None
            encoder = FrozenTransformer(
                encoder, len(shape.ch_names), shape.patch, settings.positions, code
            )
        own = settings.segmentation
        n_classes = len(shape.classes)
        return Segmenter(encoder, n_classes, own.taps, own.window, own.step, settings.loss)

    def load(self, run: Run) -> Segmenter:
        """Return the model of a finished run at its chosen epoch."""
        return loaded(run, self.build)

    def predict(
        self, model: Segmenter, examples: MaskedExamples, device: torch.device
    ) -> np.ndarray:
        """Return the class of every place (n, *L) uint8."""
        found = _logits(model, examples, device)
        return np.concatenate([_classes(logits) for _, logits in found])

    def measured_by(self, val: MaskedExamples) -> str:
        """Return what models are chosen by: the mean intersection over union."""
        return MEASURE

    def quality(self, val: MaskedExamples, answers: np.ndarray) -> float:
        """Return the mean intersection over union of classes (n, *L), 0 where nothing is marked."""
        counts, _ = tables(val, answers)
        return float(np.nan_to_num(mean_iou(counts.sum(0))))

    def watch(
        self, model: Segmenter, val: MaskedExamples, device: torch.device
    ) -> Callable[[int], dict[str, float]]:
        """Return what measures the model on validation at the end of an epoch."""
        kept = KeptMaps(val)

        def watched(_epoch: int) -> dict[str, float]:
            losses, answers, places = [], [], []
            for numbers, logits in _logits(model, val, device, kept):
                truth = torch.from_numpy(np.ascontiguousarray(val.masks_of(numbers))).to(device)
                places.append(int((truth != 255).sum()))
                losses.append(judged(logits, truth)["loss"].item())
                answers.append(_classes(logits))
            loss = float(np.average(losses, weights=places)) if any(places) else 0.0
            return {
                f"val_{MEASURE}": self.quality(val, np.concatenate(answers)),
                VAL_LOSS: loss,
            }

        return watched

    def calibrate(
        self,
        answers: np.ndarray,
        train: MaskedExamples,
        val: MaskedExamples,
        balanced: bool,
    ) -> dict[str, object]:
        """Return a temperature that changes nothing: classes alone are told."""
        return {"temperature": 1.0}

    def calibrated(self, answers: np.ndarray, calibration: Mapping[str, object]) -> np.ndarray:
        """Return classes (n, *L) as they are."""
        return answers

    def score(self, examples: MaskedExamples, answers: np.ndarray, seed: int) -> dict:
        """Return overlap and accuracy with intervals over units, and those of each class."""
        return score(examples, answers, seed)

    def calibration(
        self,
        examples: MaskedExamples,
        answers: np.ndarray,
        uncalibrated: np.ndarray,
        seed: int,
    ) -> dict:
        """Return nothing: classes alone are told."""
        return {}

    def extras(
        self, run: Run, examples: MaskedExamples, answers: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what was looked at: the settings of segmentation."""
        return {"segmentation": dict(run.config["segmentation"])}

    def write_predictions(self, path: Path, examples: MaskedExamples, answers: np.ndarray) -> None:
        """Write how many places of each class an item has; and the classes (n, *L) beside it."""
        counts, _ = tables(examples, answers)
        write_counts(path, examples, counts)
        write_maps(path.with_suffix(".zip"), examples, answers)

    def figures(
        self, result: dict, examples: MaskedExamples, answers: np.ndarray, folder: Path
    ) -> list[Path]:
        """Draw what was taken for what, and some items, where they are images."""
        drawn = [self.draw_confusion(result, examples, folder)]
        if answers.ndim == 3:
            from partsig.figures import segmentation as figures

            some = np.linspace(0, len(examples) - 1, min(SHOWN, len(examples))).round().astype(int)
            shown = figures.Segmented(
                images=examples.inputs_of(some),
                truth=examples.masks_of(some),
                predicted={"prediction": answers[some]},
            )
            title = self.headline(result, examples)
            path = folder / "segmentation.png"
            drawn.append(figures.draw(shown, examples.classes, title, path))
        return drawn

    def draw_confusion(self, result: dict, examples: MaskedExamples, folder: Path) -> Path:
        """Draw what was taken for what; return the file."""
        from partsig.figures import classification as figures

        table, title = np.array(result["confusion"]), self.headline(result, examples)
        path = folder / "confusion.png"
        return figures.confusion(table, title, path, examples.classes, **self.words)

    def headline(self, result: dict, examples: MaskedExamples) -> str:
        """Return a result in one line."""
        return (
            f"mean IoU {with_interval(result, MEASURE)}, {result[f'n_{examples.unit}s']:,} "
            f"{examples.unit}s"
        )

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines."""
        known = {name: value for name, value in result["iou"].items() if value is not None}
        each = ", ".join(f"{name} {value:.3f}" for name, value in [*known.items()][:NAMED])
        more = f", … ({len(known)} in all)" if len(known) > NAMED else ""
        chance = result["of_commonest"]
        told = "undefined" if chance is None else f"{chance:.3f}"
        return [
            f"mean IoU {with_interval(result, MEASURE)} (95 %, bootstrap over "
            f"{result['split_unit']}s; the commonest class everywhere {told})",
            f"mean accuracy {with_interval(result, 'mean_accuracy')}, all places "
            f"{with_interval(result, 'pixel_accuracy')}",
            f"by class: {each}{more}",
            f"background is {result['background']}; {100 * result['no_label']:.1f} % of all places "
            "have no label and count nowhere",
        ]


class ObjectSegmentation(PartSegmentation):
    """The kind of object that every place is of: the same masks, parts of one kind merged."""

    name = "object-segmentation"
    level = "object"

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are no masks of parts whose objects are known."""
        if labels.target == self.target and not labels.objects:
            raise ConfigError(
                f"--task {self.name}: the store does not say what its classes are parts of; "
                "preprocess it again, or take --task part-segmentation."
            )
        super().check_labels(labels)

    def learned(self, labels: Labels) -> Labels:
        """Return the kinds of objects, in the order in which their parts come first."""
        return Labels(classes=tuple(dict.fromkeys(labels.objects)), target=labels.target)

    def relabel(self, examples: MaskedExamples) -> MaskedExamples:
        """Return the examples with what their classes are parts of."""
        classes = tuple(dict.fromkeys(examples.objects))
        codes = np.array([classes.index(name) for name in examples.objects])
        return RelabelledMasks(examples, codes, classes)


@torch.inference_mode()
def _logits(
    model: Segmenter,
    examples: MaskedExamples,
    device: torch.device,
    kept: KeptMaps | None = None,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield numbers (b,) and logits (b, K, *L) of all examples, so many as fit into memory."""
    model.eval().to(device)
    extent = examples.inputs_of(np.arange(1)).shape[2:]
    size = max(1, min(64, AT_ONCE // (len(examples.classes) * prod(extent))))
    for numbers in parts_of(len(examples), size):
        maps = None
        if kept is not None and not model.slides(extent):
            maps = kept.of(torch.from_numpy(numbers).to(device), model.maps, device)
        if maps is None:
            x = torch.from_numpy(np.ascontiguousarray(examples.inputs_of(numbers))).to(device)
            yield numbers, model.logits(x).float()
        else:
            yield numbers, model.from_maps(maps, extent).float()


def _classes(logits: Tensor) -> np.ndarray:
    """Return the class (b, *L) uint8 that logits (b, K, *L) are highest for."""
    return logits.argmax(1).to(torch.uint8).cpu().numpy()
