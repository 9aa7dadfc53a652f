"""What a stranger's detector takes and what its number means: as data, from a recipe, a file or the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import PICTURE_RULE, PictureRule, Subject, TileJoin, View
from bladescan.foreign.layout import PixelLayout, changed, shipped_layouts, with_lists, wrong_pixels
from bladescan.tasks.shipped_recipes import shipped_recipes
from bladescan.tasks.yaml_tree import build, parse_yaml

FOLDER = "detectors"
"""Of the recipes of known detectors."""

Kind = Literal["logit", "probability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorLayout(PixelLayout):
    """What has to be known of a detector. None is asked for, unless its file tells it.

    Attributes:
        resize_to: side in pixels to which a crop is resized before its middle of ``input`` pixels is taken;
            None for ``input`` itself, so that nothing is cut off.
        output: tensor that holds the answer; empty for the graph's only output.
        kind: what the answer is: a logit (several: one for each class), or a probability.
        ai_class: which of several numbers is that of AI-generated; of one number, 1 if it rises with
            AI-generated and 0 if it falls.
        subject: what it was made for: a face, or a whole picture.
        view, tile, most, join: how a whole picture is viewed, see `bladescan.detectors.manifest.PictureRule`.
        paper: where it is described.
    """

    resize_to: int | None = None
    output: str = ""
    kind: Kind | None = None
    ai_class: int | None = None
    subject: Subject | None = None
    view: View = "square"
    tile: int = CROP_SIZE
    most: int = PICTURE_RULE.most
    join: TileJoin = PICTURE_RULE.join
    paper: str = ""

    def picture_rule(self) -> PictureRule:
        """Tell how a whole picture is viewed.

        Raises:
            ValueError: numbers out of range.
        """
        return PictureRule(self.view, self.tile, self.most, self.join)


SUBJECT_KEYS = ("subject", "view", "tile", "most", "join")
"""What a detector judges, and how it is seen."""
NEEDED = ("kind", "ai_class", "subject")
"""What no graph tells."""


def read_detector_layout(
    path: Path, sha256: str, recipe: str = "", changes: Sequence[str] = ()
) -> DetectorLayout:
    """Put together what is known of a detector: a recipe and what the user says.

    Args:
        path: of the detector's file.
        sha256: of it; a recipe that lists it is taken if none is named.
        recipe: name of one in the package, or a YAML file of the same keys.
        changes: ``detector.KEY=VALUE``; the items of a list are separated by commas.

    Raises:
        RecipeError: a key or a value that cannot be, or something that nobody has said; all of it is listed.
        UnknownNameError: no recipe has that name.
    """
    mistakes: list[str] = []
    tree = changed("detector", changes, mistakes)
    layout = _built({**_recipe(recipe, sha256), **tree}, mistakes)
    if layout is None or mistakes:
        raise RecipeError(f"{path.name}: {'; '.join(mistakes)}")
    if unknown := [key for key in NEEDED if getattr(layout, key) is None]:
        asked = " ".join(f"--set detector.{key}=..." for key in unknown)
        raise RecipeError(f"{path.name}: nobody has said {', '.join(unknown)} of this detector: give {asked}")
    return layout


def read_subject_layout(changes: Sequence[str]) -> DetectorLayout:
    """Read what a linear head over an encoder judges, of which nothing else has to be known.

    Args:
        changes: ``detector.KEY=VALUE``, of `SUBJECT_KEYS`.

    Raises:
        RecipeError: another key, or a value that cannot be.
    """
    mistakes: list[str] = []
    tree = changed("detector", changes, mistakes)
    mistakes += [f"detector.{key} says nothing of a linear head" for key in tree if key not in SUBJECT_KEYS]
    layout = _built(tree, mistakes)
    if layout is None or mistakes:
        raise RecipeError("; ".join(mistakes))
    return layout


def known_detectors() -> dict[str, DetectorLayout]:
    """Read the recipes of known detectors, by name."""
    return shipped_layouts(FOLDER, _built)


def _recipe(recipe: str, sha256: str) -> dict[str, Any]:
    shipped = shipped_recipes(FOLDER)
    if recipe and recipe not in shipped:
        path = Path(recipe)
        if path.suffix not in (".yaml", ".yml"):
            raise UnknownNameError("detector recipe", recipe, shipped)
        try:
            return parse_yaml(path.read_text("utf-8"), where=recipe)
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(f"{recipe}: cannot be read: {exc}") from exc
    if not recipe:
        recipe = next((n for n, known in known_detectors().items() if sha256 in known.sha256.values()), "")
    return parse_yaml(shipped[recipe], where=recipe) if recipe else {}


def _built(tree: dict[str, Any], mistakes: list[str]) -> DetectorLayout | None:
    given = with_lists(DetectorLayout, tree)
    built: DetectorLayout | None = build(DetectorLayout, given, "detector.", mistakes)
    if built is None:
        return None
    mistakes += wrong_pixels(built, "detector")
    if built.resize_to is not None and built.input is not None and built.resize_to < built.input:
        mistakes.append(f"detector.resize_to: {built.resize_to} pixels have no middle of {built.input}")
    try:
        built.picture_rule()
    except ValueError as exc:
        mistakes.append(f"detector: {exc}")
    return built
