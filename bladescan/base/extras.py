"""Whether the extras of the package are installed. It imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from bladescan.base.errors import MissingDependencyError


def need_learning_side(what: str) -> None:
    """Raise MissingDependencyError unless the extra ``train`` is installed.

    Args:
        what: the command that needs it.
    """
    for package in ("torch", "sklearn", "safetensors"):
        if find_spec(package) is None:
            raise MissingDependencyError(f"bladescan {what}", package, "pip install 'bladescan[train]'")
