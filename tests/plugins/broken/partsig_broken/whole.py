"""It loads, and is not what it should be."""


class Nameless:
    """An objective without a configuration."""
