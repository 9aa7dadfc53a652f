"""The tests, a folder for each room of the package; what runs the real command is in `tests.command`."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""Of the checkout."""
