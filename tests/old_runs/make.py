"""Made the stores and runs beside this file, once, by partsig at commit e5e8458; see README.md.

Run: ``PYTHONPATH=TREE OMP_NUM_THREADS=1 python make.py FOLDER``, where TREE/partsig is that
commit's package with its ``cli`` and ``configs`` inside. Everything is made in FOLDER, by relative
paths, so that no file tells of the machine; pictures and TensorBoard's files are removed.
"""

import os
import shutil
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NIGHTS, EPOCHS = 9, 6
SHAPE = {"encoder.width": 12, "encoder.depth": 1, "encoder.heads": 2}
FIT = {"fit.epochs": 4, "fit.batch_size": 16, "fit.log_every": 1, "optim.warmup_epochs": 0}
# The last two checkpoints are kept, so that the last step can be done again.
KEPT = {"fit.keep": 2, "fit.checkpoint_minutes": 0, "optim.lr": 0.1, "windows_per_epoch": 32}
SIGNALS = SHAPE | FIT | KEPT | {"window_s": 10, "objective.patches": 8, "split.monitor_subjects": 2}
IMAGES = SHAPE | FIT | KEPT | {"size": 8, "patch_px": 2, "objective.patches": 12}
TUNE = FIT | {"fit.epochs": 20, "optim.lr": 0.3}


def signals() -> None:
    """Nights of two channels at 10 Hz: a store, a pretraining run, a fine-tuned run, evaluated."""
    import partsig

    read = {"channels": ["C4-M1", "O2-M1"], "sfreq": 10, "l_freq": 0.3, "h_freq": 4}
    store, run, tuned = "store/signals", "run/signals", "run/signals-tuned"
    partsig.preprocess("edf", "raw/edf", store, overrides=read | {"dtype": "float16"}, jobs=1)
    partsig.pretrain(store, run, config="part-laplace", overrides=SIGNALS, gpus=0)
    settings = TUNE | {"pool": "mean+sd", "split.val_subjects": 2}
    partsig.finetune(run, store, tuned, subjects=4, overrides=settings, device="cpu")
    partsig.evaluate(tuned, device="cpu")


def images() -> None:
    """Pictures of 8 x 8 in three classes: the same of them."""
    import partsig

    store, run, tuned = "store/images", "run/images", "run/images-tuned"
    partsig.preprocess("images", "raw/imagenet/images.zip", store, overrides={"size": 8}, jobs=1)
    partsig.pretrain(store, run, modality="image", overrides=IMAGES, gpus=0)
    settings = TUNE | {"pool": "mean+sd"}
    partsig.finetune(run, store, tuned, segments_per_class=8, overrides=settings, device="cpu")
    partsig.evaluate(tuned, device="cpu")


def main(folder: Path) -> None:
    """Make everything in an empty folder."""
    sys.path.insert(0, str(BENCHMARKS))
    import golden_inputs

    golden_inputs.EPOCHS = EPOCHS
    folder.mkdir(parents=True)
    os.chdir(folder)
    for kind, write in (
        ("edf", lambda out: golden_inputs.write_edf(out, n=NIGHTS)),
        ("imagenet", golden_inputs.write_imagenet),
    ):
        Path("raw", kind).mkdir(parents=True)
        write(Path("raw", kind))
    Path("raw/edf/p-cut.edf").unlink()
    signals()
    images()
    shutil.rmtree("raw")
    for path in [*Path().rglob("*.png"), *Path().rglob("*.svg")]:
        path.unlink()
    for path in Path().glob("run/*/tensorboard"):
        shutil.rmtree(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
