"""YAML to dataclasses: a tree of keys and values, changed by ``key=value``, checked key by key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import yaml

from bladescan.base.errors import RecipeError


def parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    """Read YAML that holds keys and values; none at all is an empty dictionary.

    Args:
        text: of the file.
        where: its name, for the error.

    Raises:
        RecipeError: it is no YAML, or something else.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{where}: not YAML: {' '.join(str(exc).split())}") from exc
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: expected keys and values, found {type(tree).__name__}")
    return tree


def override(tree: dict[str, Any], change: str, mistakes: list[str]) -> None:
    """Change one key of a tree in place, or add to ``mistakes`` why it cannot be.

    Args:
        tree: of keys and values.
        change: ``dotted.key=value``, the value as YAML.
        mistakes: lines for the user.
    """
    key, equals, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not (equals and last and all(parents)):
        mistakes.append(f"--set {change}: expected dotted.key=value, for example inner.lr=3.0e-5")
        return
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            mistakes.append(f"--set {change}: {parent!r} has a value, not keys")
            return
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        mistakes.append(f"--set {change}: the value is not YAML")


def build(cls: type[Any], tree: Any, path: str, mistakes: list[str]) -> Any:
    """Make an instance of a dataclass, or add to ``mistakes`` and return None.

    Args:
        cls: the dataclass.
        tree: keys and values.
        path: of the tree within the file, with a dot at its end.
        mistakes: lines for the user.
    """
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
        return build(hint, value, path + ".", mistakes)
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
