"""The text of the recipes in the package. It reads none, so that it needs no YAML library."""

from __future__ import annotations

from importlib import resources

PACKAGE = "bladescan_recipes"


def shipped_recipes(folder: str = "") -> dict[str, str]:
    """Read the text of every recipe in the package, by name.

    Args:
        folder: empty for trainings, else the folder of recipes of another kind.
    """
    files = resources.files(PACKAGE).joinpath(folder).iterdir()
    found = {f.name.removesuffix(".yaml"): f.read_text("utf-8") for f in files if f.name.endswith(".yaml")}
    return dict(sorted(found.items()))
