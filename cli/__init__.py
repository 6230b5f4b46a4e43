"""The command line: Typer turns words into calls of the functions in ``partsig``."""

from .app import app

__all__ = ["app"]
