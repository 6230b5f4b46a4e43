"""The encoder and a head as a torch module with braindecode's signature; works in skorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from partsig import config as configs
from partsig.core.encoder import EncoderConfig
from partsig.core.objectives.supervised import Classifier
from partsig.core.position import resample
from partsig.core.transformer import initialise
from partsig.data.signals.channels import plain_name
from partsig.data.signals.hypnograms.stages import SLEEP
from partsig.errors import ConfigError, DataError, check_range
from partsig.interop import hub, units
from partsig.recipes.loading import load_model
from partsig.runs import exported as packing
from partsig.runs.model_card import write_card

# What stays true of a model's training when it is trained on.
PRETRAINING = ("pretraining", "pretraining_subjects")


class PartStager(nn.Module):
    """Windows (B, n_chans, n_times) to logits (B, n_outputs); braindecode's parameters, any order.

    ``run`` is a fine-tuned or pretrained run, or an exported folder: it brings encoder, patch,
    channels, rate and, fine-tuned, position codes and head (a new one for another ``n_outputs``).
    ``n_times`` may then differ from its own: position codes are interpolated, see
    :func:`~partsig.core.position.resample`. Without a run the encoder
    starts anew: ``patch_s`` (default 1 s) and the fields of EncoderConfig. ``positions`` and
    ``pool``: see ClassifierConfig; auto are those of the run, or of full fine-tuning.

    ``unit``: what the windows are in; MNE and braindecode have volts. The first windows with any
    amplitude are held against it. ``freeze_encoder``: only head and position codes are learned.
    Whole patches are seen; what is left over at a window's end is not.

    Raises ConfigError for settings that contradict each other or the run.

    >>> import torch
    >>> stager = PartStager(n_chans=2, n_outputs=5, n_times=3000, sfreq=100, width=16, heads=2)
    >>> stager(20 * torch.randn(4, 2, 3000)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_outputs: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        chs_info: Sequence[Mapping] | None = None,
        input_window_seconds: float | None = None,
        *,
        run: str | Path | None = None,
        unit: str = "uV",
        freeze_encoder: bool = False,
        patch_s: float | None = None,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_ratio: float | None = None,
        tokens: str | None = None,
        attention: str | None = None,
        drop_path: float | None = None,
        positions: str = "auto",
        pool: str = "auto",
    ) -> None:
        super().__init__()
        units.factor_of(unit)
        self.unit, self.freeze_encoder = unit, freeze_encoder
        if chs_info is not None:
            if n_chans not in (None, len(chs_info)):
                raise ConfigError(f"n_chans is {n_chans}, but chs_info has {len(chs_info)}.")
            n_chans = len(chs_info)
        if sfreq is None and n_times and input_window_seconds:
            sfreq = n_times / input_window_seconds
        shape = {"width": width, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio}
        shape |= {"tokens": tokens, "attention": attention}
        shape = {key: value for key, value in shape.items() if value is not None}
        names = None if chs_info is None else [str(ch["ch_name"]) for ch in chs_info]
        if run is None:
            facts, source = _fresh(n_chans, sfreq, names, patch_s, shape), None
        else:
            given = [*shape, *(["patch_s"] if patch_s is not None else [])]
            if given:
                raise ConfigError(f"the encoder comes from {run}; leave out {', '.join(given)}.")
            source = load_model(run, "eeg")
            facts = dict(source.facts)
            units.check_voltage(facts, run)
            _check_signal(run, facts, n_chans, sfreq, names)
        if drop_path is not None:
            check_range("drop_path", drop_path, 0.0, 0.99)
            facts["encoder"] = facts["encoder"] | {"drop_path": drop_path}
        if n_times is None and input_window_seconds is not None:
            n_times = round(input_window_seconds * facts["sfreq"])
        self._settle(facts, source, n_times, n_outputs, positions, pool)
        self.chs_info = chs_info
        self._checked = False
        if freeze_encoder:
            self.classifier.encoder.requires_grad_(False)

    def _settle(
        self,
        facts: dict,
        source: packing.LoadedModel | None,
        n_times: int | None,
        n_outputs: int | None,
        positions: str,
        pool: str,
    ) -> None:
        """Build the classifier of these facts and take over what the source has learned."""
        with_head = source is not None and facts["kind"] == "stager"
        epoch = round(SLEEP.unit_s * facts["sfreq"])  # a stager's, where no run says otherwise
        n_times = n_times or (facts["window"] if with_head else epoch)
        check_range("n_times", n_times, facts["patch"])
        if with_head:
            settled = {"positions": (positions, facts["positions"]), "pool": (pool, facts["pool"])}
            for key, (wanted, known) in settled.items():
                if wanted not in ("auto", known):
                    raise ConfigError(f"{key} is {wanted!r}, but the run was trained with {known}.")
        else:
            usual = "sincos" if facts["positions"] == "sincos" else "learned"
            facts["positions"] = usual if positions == "auto" else positions
            facts["pool"] = "cls" if pool == "auto" else pool
            if n_outputs is None:
                raise ConfigError("n_outputs is not given, and there is no trained head to tell.")
        known, facts["window"] = facts.get("window"), n_times
        if not with_head:
            facts |= {"kind": "stager", "classes": _classes(n_outputs)}
        self.facts = facts
        self.classifier: Classifier = packing.build(facts)
        if with_head:
            state = source.model.state_dict()
            if "positions" in state:
                grids = ((t // facts["patch"],) for t in (known, n_times))
                state["positions"] = resample(state["positions"], *grids)
            self.classifier.load_state_dict(state)
        elif source is not None:
            self.classifier.encoder.load_state_dict(source.model.encoder.state_dict())
        if n_outputs not in (None, len(facts["classes"])):
            self.reset_head(n_outputs)

    @classmethod
    def from_run(cls, run: str | Path, **settings: object) -> "PartStager":
        """Return the stager of a run or an exported folder, ready to predict."""
        return cls(run=run, **settings).eval()

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, **settings: object
    ) -> "PartStager":
        """Return the stager of an exported folder, or of a repository on the hub."""
        return cls(run=hub.fetch(name, revision), **settings).eval()

    @property
    def n_chans(self) -> int:
        """Number of channels."""
        return self.classifier.encoder.embed.in_features // self.facts["patch"]

    @property
    def n_outputs(self) -> int:
        """Number of classes."""
        return len(self.facts["classes"])

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return self.facts["window"]

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return self.facts["sfreq"]

    @property
    def input_window_seconds(self) -> float:
        """Length of a window in seconds."""
        return self.n_times / self.sfreq

    @property
    def temperature(self) -> float:
        """What logits are divided by for calibrated probabilities; 1 once it is trained on."""
        return self.facts["temperature"]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_outputs) of windows (B, n_chans, n_times) in ``unit``.

        Raises DataError for another shape, and where the amplitude shows that the unit is wrong.
        """
        expected = (self.n_chans, self.n_times)
        if x.ndim != 3 or tuple(x.shape[1:]) != expected:
            raise DataError(
                f"windows have the shape {tuple(x.shape)}; expected (batch, {expected[0]} "
                f"channels, {expected[1]} samples at {self.sfreq:g} Hz)."
            )
        if not self._checked:
            self._checked = units.told_by(x, self.unit)
        return self.classifier.logits(units.microvolts(x, self.unit))

    def reset_head(self, n_outputs: int) -> None:
        """Replace the head by a new one for so many classes."""
        check_range("n_outputs", n_outputs, 2)
        old = self.classifier.head
        new = nn.Linear(old.in_features, n_outputs, device=old.weight.device)
        initialise(new)
        self.classifier.head = new.to(old.weight.dtype)
        self.facts["classes"] = _classes(n_outputs)
        self._forget()

    def _forget(self) -> None:
        """What was fitted to the weights and counted of their labels no longer holds."""
        known = self.facts["training"]
        self.facts["temperature"] = 1.0
        self.facts["training"] = {key: known[key] for key in PRETRAINING if key in known}

    def train(self, mode: bool = True) -> "PartStager":
        """Set training mode; a frozen encoder stays as it predicts, and temperature is lost."""
        super().train(mode)
        if mode:
            self._forget()
        if self.freeze_encoder:
            self.classifier.encoder.eval()
        return self

    def save_pretrained(self, folder: str | Path, classes: Sequence[str] | None = None) -> Path:
        """Write a folder as ``partsig export`` does, and return it; ``classes`` are their names."""
        facts = dict(self.facts)
        if classes is not None:
            if len(classes) != self.n_outputs:
                raise ConfigError(f"classes has {len(classes)} names; n_outputs={self.n_outputs}.")
            facts["classes"] = list(classes)
        packed = packing.LoadedModel(model=self.classifier, facts=facts)
        packing.write(Path(folder), packed, write_card(facts))
        return Path(folder)

    def push_to_hub(self, repo_id: str, folder: str | Path, **settings: object) -> str:
        """Save to ``folder``, send it to a repository of the hub, and return its address."""
        return hub.push_to_hub(self.save_pretrained(folder), repo_id, **settings)


def _fresh(
    n_chans: int | None,
    sfreq: float | None,
    names: list[str] | None,
    patch_s: float | None,
    shape: Mapping[str, object],
) -> dict:
    """Return the facts of an encoder that starts anew."""
    missing = [key for key, value in (("n_chans", n_chans), ("sfreq", sfreq)) if value is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} must be given where there is no run.")
    encoder = configs.build(EncoderConfig, shape)
    return {
        "format": packing.FORMAT,
        "library_name": "partsig",
        "partsig": packing.__version__,
        "ch_names": names or [f"channel {i + 1}" for i in range(n_chans)],
        "sfreq": float(sfreq),
        "unit": "µV",
        "filter": None,
        "kind": "encoder",
        "classes": [],
        "patch": max(round((patch_s or 1.0) * sfreq), 1),
        "encoder": configs.to_dict(encoder),
        "positions": "none",
        "temperature": 1.0,
        "training": {},
    }


def _check_signal(
    run: str | Path,
    facts: Mapping,
    n_chans: int | None,
    sfreq: float | None,
    names: list[str] | None,
) -> None:
    """Raise ConfigError unless the signal is what the run was trained on."""
    own = facts["ch_names"]
    if n_chans not in (None, len(own)):
        raise ConfigError(f"n_chans is {n_chans}; {run} has {len(own)}: {', '.join(own)}.")
    if sfreq is not None and abs(sfreq - facts["sfreq"]) > 1e-6 * facts["sfreq"]:
        raise ConfigError(f"sfreq is {sfreq:g} Hz; {run} has {facts['sfreq']:g} Hz: resample.")
    if names is not None and [plain_name(n) for n in names] != [plain_name(n) for n in own]:
        raise ConfigError(
            f"chs_info has {', '.join(names)}; {run} has {', '.join(own)}, in this order: pick and "
            "reorder the channels."
        )


def _classes(n: int) -> list[str]:
    """Return what classes are called that nobody has named."""
    return [str(i) for i in range(n)]
