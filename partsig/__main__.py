"""``python -m partsig``: the same commands as ``partsig``."""

from partsig.cli import app

if __name__ == "__main__":
    app()
