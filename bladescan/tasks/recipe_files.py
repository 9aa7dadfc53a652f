"""Recipes as files: YAML to `Recipe` and back. It knows which keys there are and trains nothing.

Every mistake of a recipe is reported at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.tasks.contradictions import contradictions
from bladescan.tasks.recipe import Recipe
from bladescan.tasks.shipped_recipes import shipped_recipes
from bladescan.tasks.yaml_tree import build, override, parse_yaml

EXTENDS = "extends"
"""Key of a recipe file that names the recipe whose keys it changes."""


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: a shipped recipe's name, or a YAML file.
        overrides: ``dotted.key=value``, the value as YAML, applied in order.

    Raises:
        RecipeError: it cannot be read, or holds mistakes: all of them are in the message.
        UnknownNameError: neither a file nor a shipped recipe.
    """
    tree = _tree(name_or_path)
    mistakes: list[str] = []
    for change in overrides:
        override(tree, change, mistakes)
    recipe = build(Recipe, tree, "", mistakes)
    if recipe is not None:
        mistakes += contradictions(recipe)
    if mistakes or recipe is None:
        raise RecipeError(f"{name_or_path}: " + "; ".join(mistakes))
    return typing.cast(Recipe, recipe)


def dump_recipe(recipe: Recipe) -> str:
    """Write the resolved recipe as YAML with every key; `load_recipe` reads it back unchanged."""
    tree = msgspec.to_builtins(recipe)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def recipe_digest(recipe: Recipe) -> str:
    """Compute the SHA-256 of the resolved recipe without ``workers``, which cannot change a result."""
    neutral = dataclasses.replace(recipe, workers=0)
    return hashlib.sha256(msgspec.json.encode(neutral, order="deterministic")).hexdigest()


def _tree(name_or_path: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Put the keys of a recipe over those of the recipe that it extends."""
    tree = parse_yaml(_recipe_text(name_or_path), where=name_or_path)
    parent = tree.pop(EXTENDS, None)
    if parent is None:
        return tree
    if isinstance(parent, str) and parent not in shipped_recipes():
        parent = str(Path(name_or_path).parent / parent)  # relative to the file, as a link would be
    chain = (*above, name_or_path)
    if not isinstance(parent, str) or parent in chain:
        shown = " -> ".join((*chain, str(parent)))
        raise RecipeError(f"{name_or_path}: extends: expected another recipe's name or file, got {shown}")
    return _merged(_tree(parent, chain), tree)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge sections key by key; a list of tasks replaces the other one whole."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "tasks"
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _recipe_text(name_or_path: str) -> str:
    shipped = shipped_recipes()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"} and not path.exists():
        raise UnknownNameError("recipe", name_or_path, shipped)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{name_or_path}: cannot be read: {exc}") from exc
