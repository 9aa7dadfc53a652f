"""Recipes as files: YAML to `Recipe` and back. It knows which keys there are and trains nothing.

Every mistake of a recipe is reported at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.tasks.contradictions import contradictions
from bladescan.tasks.recipe import Recipe
from bladescan.tasks.shipped_recipes import shipped_recipes

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
    for override in overrides:
        _override(tree, override, mistakes)
    recipe = _build(Recipe, tree, "", mistakes)
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
    tree = _parse(_recipe_text(name_or_path), where=name_or_path)
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


def _parse(text: str, *, where: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{where}: not YAML: {' '.join(str(exc).split())}") from exc
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: expected keys and values, found {type(tree).__name__}")
    return tree


def _override(tree: dict[str, Any], override: str, mistakes: list[str]) -> None:
    key, equals, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not (equals and last and all(parents)):
        mistakes.append(f"--set {override}: expected dotted.key=value, for example inner.lr=3.0e-5")
        return
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            mistakes.append(f"--set {override}: {parent!r} has a value, not keys")
            return
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        mistakes.append(f"--set {override}: the value is not YAML")


def _build(cls: type[Any], tree: Any, path: str, mistakes: list[str]) -> Any:
    """Make an instance of a dataclass, or add to ``mistakes`` and return None."""
    if not isinstance(tree, Mapping):
        mistakes.append(f"{path.rstrip('.')}: expected keys and values, got {tree!r}")
        return None
    hints = typing.get_type_hints(cls, include_extras=True)
    mistakes += [_unknown(path, str(key), hints) for key in tree if key not in hints]
    n_before = len(mistakes)
    values = {
        key: _value(hints[key], value, path + key, mistakes) for key, value in tree.items() if key in hints
    }
    return cls(**values) if len(mistakes) == n_before else None


def _unknown(path: str, key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown key {path + key!r}{hint}, expected one of {', '.join(known)}"


def _value(hint: Any, value: Any, path: str, mistakes: list[str]) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, path + ".", mistakes)
    try:
        converted = msgspec.convert(value, hint)
        if isinstance(converted, float) and not math.isfinite(converted):
            mistakes.append(f"{path}: got {value!r}: expected a finite number")
        return converted
    except msgspec.ValidationError as exc:
        mistakes.append(f"{path}: got {value!r}: {_said(exc)}{_yaml_float_hint(value)}{_choices(hint)}")
        return None


def _said(exc: msgspec.ValidationError) -> str:
    text = str(exc)
    return text[:1].lower() + text[1:]


def _yaml_float_hint(value: Any) -> str:
    """Explain how to write a number such as 1e-5, which YAML reads as text."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    return "" if number is None else " (YAML needs a decimal point: 1.0e-5, not 1e-5)"


def _choices(hint: Any) -> str:
    """List the names allowed anywhere inside a type, for the message."""
    if typing.get_origin(hint) is Literal:
        return f" (available: {', '.join(typing.get_args(hint))})"
    for inner in typing.get_args(hint):
        if found := _choices(inner):
            return found
    return ""
