"""What the rooms of the house promise each other; each names only this file, not the other room.

A *modality* opens a store as a :class:`Dataset` and knows no verb. A *task* says what is predicted
of :class:`Examples` and how that is judged, and knows neither modality nor verb. A *verb* asks the
run, the dataset and the task. Whoever adds one of them adds files.
"""

from partsig.contracts.batch import Batch, Ragged, TrainingBatches
from partsig.contracts.dataset import (
    Dataset,
    Everything,
    LabelBudget,
    LabelSplit,
    Order,
    PretrainingData,
    Shape,
    TrainedModel,
    TrainedRun,
    UnseenWindows,
)
from partsig.contracts.inputs import (
    EpochExamples,
    Examples,
    MarkedWindows,
    MaskedExamples,
    Windows,
)
from partsig.contracts.labels import IGNORED, UNLABELLED, Labels, labels_of
from partsig.contracts.marks import MarkedItems
from partsig.contracts.models import Looks, Objective, Predictor, RecordingPredictor
from partsig.contracts.task import Task

__all__ = [
    "IGNORED",
    "UNLABELLED",
    "Batch",
    "Dataset",
    "EpochExamples",
    "Everything",
    "Examples",
    "LabelBudget",
    "LabelSplit",
    "Labels",
    "Looks",
    "MarkedItems",
    "MarkedWindows",
    "MaskedExamples",
    "Objective",
    "Order",
    "Predictor",
    "PretrainingData",
    "Ragged",
    "RecordingPredictor",
    "Shape",
    "Task",
    "TrainedModel",
    "TrainedRun",
    "TrainingBatches",
    "UnseenWindows",
    "Windows",
    "labels_of",
]
