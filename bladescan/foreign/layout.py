"""How a stranger's network wants its pixels and what it gives: as data, from a recipe or the user."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.tasks.shipped_recipes import shipped_recipes
from bladescan.tasks.yaml_tree import build, override, parse_yaml

AnyLayout = TypeVar("AnyLayout")

FOLDER = "encoders"
"""Of the recipes of known encoders."""

Method = Literal["bilinear", "bicubic"]
Part = Literal["class", "mean", "deviation", "places"]
Movement = Literal["none", "rigid", "blur", "minder", "reconstruction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLayout:
    """What has to be known of any network that looks at pixels. None is found in its file, where it can be.

    Attributes:
        name: of the network, for people.
        source: where its file is published.
        licence: of its weights.
        sha256: of published files, by name; None where it is not known.
        input: side in pixels of the square that it takes.
        channels: whether ``[n, 3, h, w]`` or ``[n, h, w, 3]``.
        bgr: blue comes first.
        scale: what a pixel of 0 to 255 is divided by before mean and deviation apply.
        mean, std: of each channel.
        resize: how a face becomes a square of another side.
        batch: most crops in one run, 0 for any number.
    """

    name: str = ""
    source: str = ""
    licence: str = ""
    sha256: dict[str, str | None] = dataclasses.field(default_factory=dict)
    input: int | None = None
    channels: Literal["first", "last"] | None = None
    bgr: bool = False
    scale: float = 255.0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: Method = "bicubic"
    batch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLayout(PixelLayout):
    """What has to be known of an image encoder.

    Attributes:
        output: tensors that make the embedding, by name or as ``blockN``; empty for the graph's own.
        tokens: what is taken of a sequence of tokens; of a map of features, all but ``class``. ``places``,
            alone and only with a movement: the direction of every patch or place.
        movement: what stands for the embedding is how far it moves when the picture is changed a little, see
            `bladescan.foreign.movement`; ``none`` leaves the embedding itself.
        noise_sigma: standard deviation of the noise, in units of the normalised pixels.
        blur_sigma: standard deviation of the blur, in pixels of the network's input.
        autoencoder: ONNX files, picture in and picture out, of the movement ``reconstruction``.
        autoencoder_range: between which values their pixels lie.
        architecture: class of the package transformers that reads the weights.
        config: its configuration.
    """

    output: tuple[str, ...] = ()
    tokens: tuple[Part, ...] = ("class", "mean")
    movement: Movement = "none"
    noise_sigma: float = 0.05
    blur_sigma: float = 0.55
    autoencoder: tuple[str, ...] = ()
    autoencoder_range: tuple[float, float] = (-1.0, 1.0)
    architecture: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)


def known_layouts() -> dict[str, EncoderLayout]:
    """Read the recipes of known encoders, by name."""
    return shipped_layouts(FOLDER, _built)


def shipped_layouts(
    folder: str, built: Callable[[dict[str, Any], list[str]], AnyLayout | None]
) -> dict[str, AnyLayout]:
    """Read the layouts of a folder of recipes in the package, by name.

    Args:
        folder: of the recipes.
        built: makes a layout of a recipe's tree, and adds to a list what is wrong with it.

    Raises:
        RecipeError: one of them is wrong.
    """
    found = {}
    for name, text in shipped_recipes(folder).items():
        mistakes: list[str] = []
        layout = built(parse_yaml(text, where=name), mistakes)
        if layout is None or mistakes:
            raise RecipeError(f"{name}: {'; '.join(mistakes)}")
        found[name] = layout
    return found


def read_layout(path: Path, sha256: str, changes: Sequence[str] = ()) -> EncoderLayout:
    """Put together what is known of an encoder: a recipe, what lies beside its file, what the user says.

    The recipe is the one that the user names as ``encoder.recipe``, else the one that lists the file's
    checksum. A ``preprocessor_config.json`` of the Hugging Face hub beside the file gives mean, deviation
    and size where no recipe does.

    Args:
        path: of the encoder's file.
        sha256: of it.
        changes: ``encoder.KEY=VALUE``; the items of a list are separated by commas.

    Raises:
        RecipeError: a key or a value that cannot be; all of them are in the message.
        UnknownNameError: no recipe has that name.
    """
    mistakes: list[str] = []
    tree = changed("encoder", changes, mistakes)
    named = tree.pop("recipe", None)
    known = known_layouts()
    if named is not None and named not in known:
        raise UnknownNameError("encoder recipe", str(named), known)
    same = (name for name, layout in known.items() if sha256 in layout.sha256.values())
    recipe = str(named) if named is not None else next(same, None)
    below = _beside(path) if recipe is None else _tree_of(known[recipe])
    layout = _built({**below, **tree}, mistakes)
    if layout is None or mistakes:
        raise RecipeError(f"{path.name}: {'; '.join(mistakes)}")
    return layout


def changed(what: str, changes: Sequence[str], mistakes: list[str]) -> dict[str, Any]:
    """Read ``WHAT.KEY=VALUE`` into keys and values, or add to ``mistakes`` why that cannot be."""
    tree: dict[str, Any] = {}
    for change in changes:
        override(tree, change, mistakes)
    others = sorted(set(tree) - {what})
    mistakes += [f"unknown key {key!r}: keys of the {what} are {what}.KEY" for key in others]
    found = tree.get(what, {})
    return dict(found) if isinstance(found, Mapping) else {}


def _built(tree: dict[str, Any], mistakes: list[str]) -> EncoderLayout | None:
    built: EncoderLayout | None = build(EncoderLayout, with_lists(EncoderLayout, tree), "encoder.", mistakes)
    if built is not None:
        mistakes += wrong_pixels(built, "encoder")
        for key, sigma, most in (("noise", built.noise_sigma, 10), ("blur", built.blur_sigma, 50)):
            if not 0 < sigma <= most:
                mistakes.append(f"encoder.{key}_sigma: got {sigma:g}: expected more than 0, at most {most}")
        mistakes += _wrong_movement(built)
    return built


def _wrong_movement(layout: EncoderLayout) -> list[str]:
    """List what a movement lacks, and what is there without one."""
    reconstructs, (low, high) = layout.movement == "reconstruction", layout.autoencoder_range
    wrong = {
        "encoder.autoencoder: movement=reconstruction needs an ONNX file, picture in and picture out": (
            reconstructs and not layout.autoencoder
        ),
        "encoder.autoencoder: give encoder.movement=reconstruction as well": (
            bool(layout.autoencoder) and not reconstructs
        ),
        f"encoder.autoencoder_range: got {low:g}, {high:g}: expected the lower value first": low >= high,
        "encoder.tokens: places is for an encoder.movement, and stands alone": (
            "places" in layout.tokens and (layout.tokens != ("places",) or layout.movement == "none")
        ),
    }
    return [said for said, is_wrong in wrong.items() if is_wrong]


def wrong_pixels(layout: PixelLayout, what: str) -> list[str]:
    """List what cannot be of the pixels that a network takes; ``what`` begins the keys."""
    mistakes = []
    if not (layout.input is None or 8 <= layout.input <= 2048):
        mistakes.append(f"{what}.input: got {layout.input}: expected 8 to 2048 pixels")
    if layout.scale <= 0 or min(layout.std or (1,)) <= 0:
        mistakes.append(f"{what}.scale and {what}.std: expected positive numbers")
    return mistakes


def with_lists(cls: type[Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Split ``a,b,c`` into a list wherever the dataclass has one."""
    hints = typing.get_type_hints(cls)
    return {key: _listed(hints.get(key), value) for key, value in tree.items()}


def _listed(hint: Any, value: Any) -> Any:
    """Split ``a,b,c`` where a list is wanted; YAML leaves that one text, and a single item no list at all."""
    kinds = {typing.get_origin(kind) for kind in (hint, *typing.get_args(hint))}
    if tuple not in kinds or isinstance(value, list) or value is None:
        return value
    words = [word.strip() for word in str(value).split(",")]
    return [_number(word) for word in words if word]


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def _tree_of(layout: EncoderLayout) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(layout)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in tree.items()}


def _beside(path: Path) -> dict[str, Any]:
    """Read the preprocessing that the hub's exports have beside or above them."""
    for folder in (path.parent, path.parent.parent):
        try:
            said = json.loads((folder / "preprocessor_config.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(said, dict):
            size = said.get("crop_size") or said.get("size") or {}
            side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
            found = {"mean": said.get("image_mean"), "std": said.get("image_std"), "input": side}
            return {key: value for key, value in found.items() if value is not None}
    return {}
