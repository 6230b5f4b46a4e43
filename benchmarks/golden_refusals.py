"""Wrong uses that ``golden.py`` records, each a command line that ends with one sentence and 2.

And ``--help`` of every verb. Added to the steps of ``golden_steps.py``, with the runs they need.
"""

from golden_steps import SETS, shell

VERBS = (
    *("download", "audit", "preprocess", "pretrain", "finetune", "evaluate", "compare"),
    *("stage", "report", "embed", "inspect", "export", "demo"),
)
STORE = "--store store/eeg"
WRONG: dict[str, tuple[str, str]] = {
    "no store": ("pretrain --store store/nowhere --run run/x --gpus 0", ""),
    "no store, finetune": ("finetune --from scratch --store nowhere", ""),
    "no run": ("evaluate --run run/nowhere", ""),
    "no last run": ("embed", ""),
    "signals for images": (
        "pretrain --modality image --store store/eeg --run run/x --gpus 0",
        "preprocess eeg",
    ),
    "images for signals": (
        "pretrain --store store/image --run run/x --gpus 0",
        "preprocess image",
    ),
    "unknown modality": ("pretrain --modality eog --store store/eeg", "preprocess eeg"),
    "image configuration": (f"pretrain {STORE} --config cifar-mae --run run/x", "preprocess eeg"),
    "unknown source": ("preprocess edff --raw raw/edf", ""),
    "no raw folder": ("preprocess edf --raw raw/nowhere --store store/x", ""),
    "no such channel": (
        "preprocess edf --raw raw/staged --store store/x --jobs 1 --set channels=[F9-M1]",
        "",
    ),
    "too fast": (
        "preprocess edf --raw raw/staged --store store/x --jobs 1 --set channels=[C4-M1] "
        "--set h_freq=60",
        "",
    ),
    "damaged": (f"preprocess edf --raw raw/edf --store store/x2 {SETS}", ""),
    "damaged image": (
        "preprocess images --raw raw/images --store store/x3 --jobs 1 --set size=8",
        "",
    ),
    "another store's settings": (
        "preprocess edf --raw raw/edf --store store/eeg --jobs 1 --set channels=[C4-M1]",
        "preprocess eeg",
    ),
    "unknown key": (f"pretrain {STORE} --run run/x --set encoder.widht=16", "preprocess eeg"),
    "unknown keys": (
        f"pretrain {STORE} --run run/x --set fit.epoch=1 --set optim.lrr=1 --set window_s=0",
        "preprocess eeg",
    ),
    "wrong value": (f"pretrain {STORE} --run run/x --set optim.lr=fast", "preprocess eeg"),
    "no configuration": (f"pretrain {STORE} --run run/x --config prat", "preprocess eeg"),
    "another verb's": (f"finetune --from scratch {STORE} --config mae", "preprocess eeg"),
    "a number too low": (f"pretrain {STORE} --seed -1 --run run/x", "preprocess eeg"),
    "other settings": (
        "pretrain --store store/eeg --run run/mae --config mae --gpus 0 --seed 4",
        "pretrain mae",
    ),
    "a run of another kind": ("evaluate --run run/mae", "pretrain mae"),
    "a run of another kind, finetune": (
        "finetune --from run/logistic --store store/eeg",
        "finetune logistic",
    ),
    "a run that is none": ("pretrain --store store/eeg --run raw/edf --gpus 0", "preprocess eeg"),
    "another rate": (
        "finetune --from run/part --store store/filled --run run/x",
        "pretrain part; preprocess filled",
    ),
    "too many subjects": (
        "finetune --from run/part --store store/eeg --run run/x --subjects 40",
        "pretrain part",
    ),
    "a model on a pretrained run": (
        "finetune --from run/part --store store/eeg --run run/x --set model=logistic",
        "pretrain part",
    ),
    "too slow for usleep": (
        f"finetune --from scratch {STORE} --run run/x --set model=usleep --subjects 2",
        "preprocess eeg",
    ),
    "an encoder of its own": (
        "finetune --from run/part --store store/eeg --run run/x --set encoder.width=32",
        "pretrain part",
    ),
    "subjects of images": (
        "finetune --from run/i-part --store store/imagenet --run run/x --subjects 3",
        "pretrain i-part; preprocess imagenet",
    ),
    "seen subjects": (
        "evaluate --run run/tuned --store store/shell --device cpu",
        "finetune tuned; preprocess, shell",
    ),
    "too fine a batch": (
        f"pretrain {STORE} --run run/x --cpu-processes 3 --gpus 0 --set fit.batch_size=16",
        "preprocess eeg",
    ),
    "inspect what is no PART": ("inspect --run run/mae --device cpu", "pretrain mae"),
    "export images": ("export --run run/i-probe", "finetune i-probe"),
    "report images": ("report --run run/i-probe", "finetune i-probe"),
    "stage by images": ("stage raw/staged/first.edf --run run/i-probe", "finetune i-probe"),
    "stage nothing": ("stage raw/scorer --run run/logistic", "finetune logistic"),
    "a format that is none": ("export --run run/logistic --format onxn", "finetune logistic"),
    "a pool that is none": ("embed --run run/mae --pool max", "pretrain mae"),
    "compare unlike": (
        "compare run/logistic run/i-probe --output table-x",
        "evaluate logistic; evaluate i-probe",
    ),
    "no such recording": ("embed --run run/mae --recording p99 --device cpu", "pretrain mae"),
    "no scorer's files": (
        "report --run run/logistic --scorer bob=raw/images --device cpu",
        "evaluate logistic",
    ),
    "download of what": ("download sleep-edf", ""),
    "download from where": ("download physionet2018 --mirror ftp://x --records tr03-0001", ""),
    "audit of nothing": ("audit raw/nowhere --source edf", ""),
    "no such command": ("pertrain", ""),
    "no such option": ("pretrain --stoer x", ""),
    "a GPU that is not there": (f"pretrain {STORE} --run run/x --gpus 9", "preprocess eeg"),
}

for name, (command, needs) in WRONG.items():
    shell(f"refused: {name}", command, needs)
for verb in VERBS:
    shell(f"help: {verb}", f"{verb} --help")
shell("help: all", "--help")
