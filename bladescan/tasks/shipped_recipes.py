"""The text of the recipes in the package. It reads none, so that it needs no YAML library."""

from __future__ import annotations

from importlib import resources

PACKAGE = "bladescan_recipes"


def shipped_recipes() -> dict[str, str]:
    """Read the text of every recipe in the package, by name."""
    files = resources.files(PACKAGE).iterdir()
    found = {f.name.removesuffix(".yaml"): f.read_text("utf-8") for f in files if f.name.endswith(".yaml")}
    return dict(sorted(found.items()))
