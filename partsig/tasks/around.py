"""Examples that differ from others in something, and are the same in all else."""

from typing import Any

from partsig.contracts import Examples


class Around:
    """Examples that are those of ``examples`` but for what a class of this kind says itself."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getattr__(self, name: str) -> Any:
        if name == "examples":  # while a copy is made of it, it has none yet
            raise AttributeError(name)
        return getattr(self.examples, name)
