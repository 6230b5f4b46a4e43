"""Pretraining runs that can be judged as they are: an objective names what judges a run of it."""

from dataclasses import dataclass
from pathlib import Path

from partsig import registries
from partsig.errors import ConfigError
from partsig.runs.models import pretraining_settings
from partsig.runs.run import Run

# What judges a run, by what its objective's settings call ``judged_by``: a function from a
# JudgingRequest to a Judgement.
JUDGES = {"part-discovery": "partsig.recipes.discovery_evaluation:evaluate_parts"}


@dataclass(frozen=True)
class JudgingRequest:
    """Which run is judged, on which store (None: its own), into which folder (None: its own).

    ``beside`` are options that ask for more than a judge of a pretraining run measures.
    """

    run: Path
    store: str | Path | None
    output: Path | None
    device: str
    seed: int
    figures: bool
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Where it lies, measures, pictures, a few lines on them, and the command that comes next."""

    path: Path
    metrics: dict
    figures: list[Path]
    summary: list[str]
    follow_up: tuple[str, ...]


def follow_up(path: Path) -> tuple[str, ...]:
    """Return the command that usually comes after a pretraining run, word by word."""
    if _judge_of(Run.read(path)) is None:
        return ("finetune", "--from", str(path))
    return ("evaluate", "--run", str(path))


def _judge_of(run: Run) -> str | None:
    if run.kind != "pretrain":
        return None
    return getattr(pretraining_settings(run).objective, "judged_by", None)


def judge_as_it_is(asked: JudgingRequest) -> Judgement | None:
    """Return how a pretraining run is judged by what its objective names; None of any other run.

    Raises CheckpointError where there is no run, and what the judge raises.
    """
    name = _judge_of(Run.read(asked.run))
    if name is None:
        return None
    if asked.beside:
        raise ConfigError(
            f"{asked.beside[0]} is for fine-tuned runs on recordings, and {asked.run} is a "
            "pretraining run: leave it out."
        )
    return registries.load("judged_by", name, JUDGES)(asked)
