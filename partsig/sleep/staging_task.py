"""Sleep staging: classification, and what only sleep adds: review lists, hypnograms, YASA."""

from pathlib import Path

import numpy as np

from partsig.contracts import Labels
from partsig.data.signals.hypnograms.stages import EPOCH_S, SLEEP, is_sleep
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError
from partsig.runs.run import Run
from partsig.sleep import review
from partsig.tasks import frozen
from partsig.tasks import registry as tasks
from partsig.tasks.classification import Classification

ORDERS = ("confidence", "context")


class SleepStaging(Classification):
    """One of the AASM's stages for every epoch of a night."""

    name = "sleep-staging"
    can_be_reported = True
    words = {"predicted": "predicted stage", "truth": "scored stage"}  # noqa: RUF012

    def check_labels(self, labels: Labels) -> None:
        """Raise ConfigError where labels are not the AASM's stages of epochs."""
        if not is_sleep(labels):
            raise ConfigError(
                f"--task {self.name} learns from {', '.join(SLEEP.classes)} of epochs; the store's "
                f"classes are {', '.join(labels.classes)}: pass --task classification."
            )

    def calibrate(
        self,
        answers: np.ndarray,
        train: LabelledWindows,
        val: LabelledWindows,
        balanced: bool,
    ) -> dict[str, object]:
        """Return the temperature of the confidence on validation subjects, and what it mends.

        ``prior``: how often the model saw each stage in training. ``review_by``: whether an epoch's
        confidence or its context tells errors better there. These subjects chose the epoch as well,
        so the errors after it are optimistic; ``evaluate`` measures them on test subjects.
        """
        after, calibration = frozen.calibrate(val.labels, answers)
        seen = np.bincount(train.labels, minlength=len(train.classes)) + 1.0
        if balanced:
            seen = np.ones(len(train.classes))
        prior = seen / seen.sum()
        wrong = after.argmax(1) != val.labels
        told = {
            by: review.find_errors(review.of_nights(val, after, prior, by), wrong) for by in ORDERS
        }
        # Fewer epochs than a night has cannot tell which is better.
        enough = len(val) >= review.EPOCHS_PER_NIGHT and None not in told.values()
        better = enough and told["context"] > told["confidence"]
        return calibration | {
            "prior": prior.tolist(),
            "review_by": "context" if better else "confidence",
            "finds_errors": told,
            "n_epochs": len(val),
        }

    def extras(
        self, run: Run, examples: LabelledWindows, answers: np.ndarray, seed: int
    ) -> dict[str, object]:
        """Return what a review of the most doubtful epochs is worth, and what they are told by."""
        predicted = answers.argmax(1)
        by, prior = run.calibration["review_by"], np.array(run.calibration["prior"])
        doubt = {kind: review.of_nights(examples, answers, prior, kind) for kind in ORDERS}
        wrong = predicted != examples.labels
        told = {kind: review.find_errors(values, wrong) for kind, values in doubt.items()}
        curve = review.curve(examples.labels, predicted, doubt[by], examples.units()[1], seed)
        epoch_s = float(examples.store.unit_s)
        return {"epoch_s": epoch_s, "review": {"by": by, "finds_errors": told} | curve}

    def summary(self, result: dict) -> list[str]:
        """Return a result in a few lines; how long its epochs are, where that is unusual."""
        epoch_s = result.get("epoch_s", EPOCH_S)  # of pooled runs, each tells its own
        told = [] if epoch_s == EPOCH_S else [f"epochs of {epoch_s:g} s"]
        return [*super().summary(result), *told]

    def figures(
        self, result: dict, examples: LabelledWindows, answers: np.ndarray, folder: Path
    ) -> list[Path]:
        """Draw a result; return the files."""
        from partsig.sleep import figures  # matplotlib, where it is needed

        return [
            self.draw_confusion(result, examples, folder),
            figures.trust(result["calibration"], result["review"], folder / "trust.png"),
            figures.hypnogram(
                *_typical(examples, answers, result),
                folder / "hypnogram.png",
                examples.store.unit_s,
            ),
        ]


def staging_run(path: str | Path, epoch_s: float | None = None) -> Run:
    """Return a complete fine-tuned run that stages sleep; raise CheckpointError for any other."""
    run = Run.finished(path, "finetune", "eeg")
    if not is_sleep(run.labels):
        raise CheckpointError(
            f"{path} tells {', '.join(run.labels.classes)} apart; a sleep stager is needed here."
        )
    if epoch_s not in (None, run.labels.unit_s):
        raise CheckpointError(
            f"{path} stages epochs of {run.labels.unit_s:g} s; what is asked for is of epochs of "
            f"{epoch_s:g} s. Its agreement is in what `partsig evaluate` writes."
        )
    if not isinstance(tasks.get(run.task), SleepStaging):
        raise CheckpointError(
            f"{path} was fine-tuned with --task {run.task}; one with --task {SleepStaging.name}, "
            "the usual one of this store, is needed here."
        )
    return run


def _typical(
    epochs: LabelledWindows, answers: np.ndarray, result: dict
) -> tuple[str, np.ndarray, np.ndarray, float | None]:
    """Return the recording of median kappa: name, truth (E,), probabilities (E, K), kappa."""
    scores = {
        name: value for name, value in result["kappa_per_recording"].items() if value is not None
    }
    ordered = sorted(scores, key=scores.__getitem__) or list(result["kappa_per_recording"])
    name = ordered[len(ordered) // 2]
    length = epochs.n_epochs[name]
    truth = np.full(length, -1)
    given = np.full((length, answers.shape[1]), np.nan)
    mine = epochs.recording == epochs.names.index(name)
    truth[epochs.epoch[mine]], given[epochs.epoch[mine]] = epochs.labels[mine], answers[mine]
    return name, truth, given, scores.get(name)
