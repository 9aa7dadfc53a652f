"""One picture of what the encoder sees: examples after manipulation and augmentation, with their truth.

For people. It learns nothing and measures nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bladescan.base.errors import DataError
from bladescan.base.output_files import write_file
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.indexing import Indexed
from bladescan.pretext.examples import Drawn, Examples
from bladescan.pretext.manipulations import REGIONS
from bladescan.tasks.recipe import Recipe

COLUMNS = 8
"""Examples in a row; even, so that a pair stands side by side."""

MARGIN = 6
FONT_SIZE = 12
MIN_CELL_SIDE = 200
"""Pixels of a cell's width, so that a small window still has room for its caption."""
_BACK, _INK, _MANIPULATED, _UNTOUCHED = "white", "#282828", "#b02818", "#186830"
_LINES = 5


def contact_sheet(examples: Examples, path: Path, *, n: int = 48, epoch: int = 0, seed: int = 0) -> int:
    """Draw examples and write them as one PNG file.

    Every example is shown pixel for pixel, as the encoder gets it, never resized.

    Args:
        examples: what to draw from.
        path: of the PNG file.
        n: how many examples at most; with pairs, each photograph gives two.
        epoch: whose draws are shown.
        seed: which photographs are shown.

    Returns:
        How many examples are shown.

    Raises:
        DataError: there is no photograph to show.
        OutputError: the file cannot be written.
    """
    if not len(examples):
        raise DataError("no photograph to make a contact sheet of")
    drawn = _draw(examples, n, epoch, seed)
    buffer = io.BytesIO()
    sheet(drawn).save(buffer, "PNG")
    write_file(path, buffer.getvalue())
    return len(drawn)


def recipe_sheet(
    recipe: Recipe, index: PhotographIndex, indexed: Indexed, path: Path, *, n: int = 48, seed: int = 0
) -> int:
    """Draw what a recipe makes of photographs: `contact_sheet` with the recipe's own draws.

    Args:
        recipe: its manipulations, augmentation, seed and choice of photographs are used.
        index: holds the photographs.
        indexed: which they are.
        path: of the PNG file.
        n: how many examples at most.
        seed: which photographs are shown.

    Returns:
        How many examples are shown.

    Raises:
        DataError: there is no photograph that the recipe would use.
        OutputError: the file cannot be written.
    """
    chosen = set(indexed.faces) | set(indexed.patches if recipe.data.uses_patches else ())
    digests = [
        entry.digest
        for entry in index.entries()
        if entry.digest in chosen and all(name in entry.tags for name in recipe.required_tags)
    ]
    examples = Examples(index, digests, recipe.manipulations, recipe.augmentation, recipe.seed)
    return contact_sheet(examples, path, n=n, seed=seed)


def _draw(examples: Examples, n: int, epoch: int, seed: int) -> list[Drawn]:
    drawn: list[Drawn] = []
    for i in np.random.default_rng(seed).permutation(len(examples)):
        pair = examples.draw((epoch, int(i)))
        if drawn and len(drawn) + len(pair) > n:
            break
        drawn += pair
    return drawn


def sheet(drawn: Sequence[Drawn], columns: int = COLUMNS) -> Image.Image:
    """Lay out the grid, row by row, each example above its caption."""
    font = ImageFont.load_default(FONT_SIZE)
    height, width = drawn[0].pixels.shape[:2]
    line = FONT_SIZE + 3
    cell = (max(width, MIN_CELL_SIDE) + MARGIN, height + _LINES * line + 2 * MARGIN)
    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    whole = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), _BACK)
    pen = ImageDraw.Draw(whole)
    for number, example in enumerate(drawn):
        x, y = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        whole.paste(Image.fromarray(example.pixels), (x, y))
        title, colour, rest = caption(example)
        lines = _wrapped(rest, font, cell[0] - MARGIN)[: _LINES - 1]
        pen.text((x, y + height + 2), title, colour, font)
        for i, text in enumerate(lines, 1):
            pen.text((x, y + height + 2 + i * line), text, _INK, font)
    return whole


def caption(example: Drawn) -> tuple[str, str, list[str]]:
    """Caption an example: title, its colour, and the tags, each a few words.

    The title is the manipulation's name with the regions of the fine labels.
    """
    if example.labels is None:
        return "patch, no face", _INK, _tag_words(example)
    regions = [name for name, label in zip(REGIONS, example.labels, strict=True) if label]
    if not regions:
        return "untouched", _UNTOUCHED, _tag_words(example)
    return f"{example.name}: {', '.join(regions)}", _MANIPULATED, _tag_words(example)


def _tag_words(example: Drawn) -> list[str]:
    tags = example.tags
    write = {
        "iso_speed": "ISO {:g}",
        "aperture": "f/{:.3g}",
        "focal_length": "{:.3g} mm",
        "metering_mode": "metering {}",
        "exposure_mode": "exposure {}",
        "white_balance_mode": "white balance {}",
    }
    words = []
    for name, value in tags.items():
        if name == "exposure_time":
            seconds = float(value)
            words.append(f"{seconds:g} s" if seconds >= 0.3 else f"1/{1 / seconds:.0f} s")
        else:
            words.append(write.get(name, "{}").format(value))
    return words or ["no tags"]


def _wrapped(
    words: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Put words on as few lines as fit, and keep a word of several parts together if possible."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
