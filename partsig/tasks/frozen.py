"""What stands on frozen features, and what every classifier has in common, trained or not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from partsig.contracts import Examples, TrainingBatches
from partsig.core.objectives.supervised import Classifier, LossConfig, SupervisedModule
from partsig.errors import CheckpointError, ConfigError
from partsig.metrics.calibration import (
    MIN_PROBABILITY,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    tempered,
)
from partsig.runs.features import FrozenNetwork, in_batches
from partsig.runs.settings import FinetuneRecipe
from partsig.train import checkpoint, distributed, loop
from partsig.train.job import TrainingJob
from partsig.train.kept import BEST

# Inverse strengths of the penalty a linear classifier is tried with; validation chooses.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# A neighbour's vote is exp(cosine / 0.07) (Wu et al. 2018, arXiv 1805.01978, section 3.4).
VOTE_TEMPERATURE = 0.07
VAL_LOSS = "val_log_loss"  # nats; what decides between epochs of one score
Score = Callable[[np.ndarray, np.ndarray], float]
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """What a classifier is given, and what it tells apart: windows (C, *window) and classes.

    ``samples_per_unit``: samples of a second, or a pixel. ``n_train``: how many labelled items
    there are, for what remembers them all.
    """

    ch_names: Sequence[str]
    samples_per_unit: float
    window: tuple[int, ...]
    patch: tuple[int, ...]
    classes: Sequence[str]
    n_train: int = 0


def fit_logistic(
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
    n_classes: int,
    score: Score,
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return weight (K, F) and bias (K,) of a linear classifier of features, its strength, score.

    Multinomial logistic regression (scikit-learn) on the features (n, F) float64, standardised; the
    scaling is folded into weight and bias. Of the :data:`STRENGTHS` of the penalty the one whose
    ``score(truth, predicted)`` is highest on validation is taken; of equal ones that of the lowest
    log loss there, then the strongest penalty. A class without a label is never
    predicted. Raises ConfigError where all labels are the same.
    """
    # Imported here, since pandas comes with it, 100 MB: only where something is fitted.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) < 2:
        raise ConfigError("one class only among the training labels; nothing can be told apart.")
    scaler = StandardScaler().fit(x)
    scaled, scaled_val = scaler.transform(x), scaler.transform(x_val)
    tried = []
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(scaled, y)
        every = np.zeros((len(y_val), n_classes))
        every[:, fitted.classes_] = fitted.predict_proba(scaled_val)
        value = score(y_val, fitted.predict(scaled_val))
        tried.append((value, -log_loss(y_val, every), strength, fitted))
    value, _, strength, fitted = max(tried, key=lambda one: one[:2])
    coefficients, intercept = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight = np.zeros((n_classes, x.shape[1]))
    bias = np.full(n_classes, -1e4)
    weight[fitted.classes_] = coefficients / scaler.scale_
    bias[fitted.classes_] = intercept - (coefficients * scaler.mean_ / scaler.scale_).sum(1)
    return weight, bias, strength, value


def put_linear(head: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a linear layer this weight (K, F) and bias (K,)."""
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def knn(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes (K,) of ``y`` and their share (m, K) of the votes of the k nearest.

    Nearness is the cosine of the features; a neighbour votes with exp(cosine / 0.07), as in Wu et
    al. 2018 and DINO. Where fewer than ``k`` are given, all of them vote.

    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn(x, np.array([3, 3, 5]), np.array([[0.0, 2.0]]), 2)[1].round(3).tolist()
    [[0.0, 1.0]]
    """
    from sklearn.neighbors import KNeighborsClassifier

    judge = KNeighborsClassifier(
        min(k, len(x)),
        metric="cosine",
        weights=lambda distance: np.exp(-distance / VOTE_TEMPERATURE),
    ).fit(x, y)
    return judge.classes_, judge.predict_proba(x_test)


class Neighbours(SupervisedModule):
    """A classifier's features, and the labels of the training features that are nearest to them."""

    learns_by = "examples"

    def __init__(self, net: Classifier, n: int, k: int, n_classes: int) -> None:
        super().__init__(LossConfig())
        self.net, self.k, self.n_classes = net, k, n_classes
        self.register_buffer("known", torch.zeros(n, net.head.in_features))
        self.register_buffer("labels", torch.zeros(n, dtype=torch.int64))

    def fit_examples(self, train: Examples, _seed: int, device: torch.device) -> None:
        """Remember the features and the labels of all training items."""
        self.fit(features(self, train, device), train.labels)

    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Remember features (n, F) and labels (n,)."""
        self.known.copy_(torch.from_numpy(features))
        self.labels.copy_(torch.from_numpy(labels))

    def features(self, x: Tensor) -> Tensor:
        """Return what is compared, (B, F), of windows (B, C, *L)."""
        return self.net.features(x)

    def from_features(self, features: Tensor) -> Tensor:
        """Return the logarithm of the votes' shares (B, K) of features (B, F)."""
        own = features.float().cpu().numpy()
        classes, votes = knn(self.known.cpu().numpy(), self.labels.cpu().numpy(), own, self.k)
        every = np.zeros((len(own), self.n_classes))
        every[:, classes] = votes
        return torch.from_numpy(np.log(every + MIN_PROBABILITY)).to(features.device, torch.float32)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logarithm of the votes' shares (B, K) of windows (B, C, *L)."""
        return self.from_features(self.features(x))


def network_of(model: SupervisedModule) -> FrozenNetwork:
    """Return what the model's head sees, as a network that does not learn."""
    return FrozenNetwork(
        take=model.features,
        network=getattr(model, "net", model),
        folder=None if model.kept_in is None else Path(model.kept_in),
        told=f" {model.told}" if model.told else "",
    )


def features(model: SupervisedModule, examples: Examples, device: torch.device) -> np.ndarray:
    """Return what the model's head sees of examples, (n, F) float64."""
    model.eval().to(device)
    blocks = list(network_of(model).features(examples, device))
    return np.concatenate(blocks).astype(np.float64)


@torch.inference_mode()
def predict(model: SupervisedModule, batches: Iterable[Tensor], device: torch.device) -> np.ndarray:
    """Return class probabilities (n, K) of batches, as the model gives them: not calibrated."""
    model.eval().to(device)
    return _softmax(model.logits(x) for x in batches)


def predict_examples(
    model: SupervisedModule, examples: Examples, device: torch.device
) -> np.ndarray:
    """Return class probabilities (n, K) of examples, as the model gives them: not calibrated."""
    whole = getattr(model.to(device), "predict_signal", None)
    if whole is not None:  # of each recording as a whole, see RecordingPredictor
        every = [
            whole(examples.signal(name), examples.stretches(name))[examples.epoch[mine]]
            for name, mine in examples.by_recording()
        ]
        return np.concatenate(every)
    if model.kept_in is not None:
        return _predict_kept(model, examples, device)
    return predict(model, in_batches(examples, device), device)


@torch.inference_mode()
def _predict_kept(model: SupervisedModule, examples: Examples, device: torch.device) -> np.ndarray:
    """Return class probabilities (n, K) of examples by features that may have been kept."""
    model.eval().to(device)
    blocks = network_of(model).features(examples, device)
    return _softmax(model.from_features(torch.from_numpy(block).to(device)) for block in blocks)


def _softmax(logits: Iterable[Tensor]) -> np.ndarray:
    """Return probabilities (n, K) of logits that come in batches (b, K)."""
    return np.concatenate([rows.float().softmax(-1).cpu().numpy() for rows in logits])


def train(
    model: SupervisedModule,
    batches: TrainingBatches,
    settings: FinetuneRecipe,
    *,
    seed: int,
    run: Path,
    world: distributed.World,
    choose: Callable[[int], dict[str, float]],
    best: str,
) -> dict:
    """Train a classifier; the epoch whose ``choose`` has the highest ``best`` is kept in the run.

    Of equal ones that of the lowest validation loss is kept, then the latest. Returns that epoch
    and its value.
    """
    job = TrainingJob(
        model=model,
        batch_at=batches.batch_at,
        steps_per_epoch=batches.steps_per_epoch,
        config=settings.fit,
        optim=settings.optim,
        seed=seed,
        run=run,
        kind="finetune",
        identity={},
        world=world,
        label=f"finetune {run.name}",
        prefetch=batches.prefetch,
        shown=("loss", "accuracy", best),
        on_epoch=choose,
        best=best,
        ties=VAL_LOSS,
        distance=model.distance_from_head,
        still=model.of_encoder(),
        still_share=settings.frozen_first,
    )
    return loop.fit(job).best


def calibrate(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    """Return probabilities (n, K) at the temperature that suits them best, and what it mends."""
    temperature = fit_temperature(truth, probabilities)
    after = tempered(probabilities, temperature)
    told: dict[str, object] = {"temperature": temperature}
    for label, p in (("", after), ("_before", probabilities)):
        told[f"ece{label}"] = float(calibration_error(reliability(truth, p)))
        told[f"log_loss{label}"] = log_loss(truth, p)
    return after, told


def fit_head(
    model: SupervisedModule, train: Examples, val: Examples, score: Score, device: torch.device
) -> tuple[float, float]:
    """Fit the model's head on its features of the examples, everything else as it is.

    The strength of its penalty is chosen by ``score`` on ``val``, see :func:`fit_logistic`. Returns
    the chosen strength and that score.
    """
    x, x_val = (features(model, examples, device) for examples in (train, val))
    weight, bias, strength, value = fit_logistic(
        x, train.labels, x_val, val.labels, len(train.classes), score
    )
    put_linear(model.head, weight, bias)
    return strength, value


def save_best(run: Path, model: SupervisedModule, value: float) -> None:
    """Write a classifier that was not trained step by step as the loop writes its best epoch."""
    content = {"kind": "finetune", "best": {"value": value, "epoch": 0}}
    checkpoint.save(run / BEST, content | {"model": model.state_dict()})


def put_weights(content: Mapping, model: SupervisedModule, where: Path) -> None:
    """Give the model a checkpoint's weights; raise CheckpointError where they do not fit it."""
    try:
        model.load_state_dict(content["model"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{where} does not fit its run ({reason}).") from None
