"""What contradicts itself in a recipe though every key alone is right. It reads no file."""

from __future__ import annotations

from bladescan.tasks.pretext_tasks import COARSE, MANIPULATION_TASKS, ORIGIN, TASKS, TaskKind
from bladescan.tasks.recipe import AutoencodeRecipe, Recipe, TextRecipe

_WIDTHS = {"gpt2": 768, "clip": 512}  # of the published text encoders
_HEAD_WIDTH = 64


def contradictions(recipe: Recipe) -> list[str]:
    """List the mistakes that no single key shows, one line each."""
    a = recipe.augmentation
    ranges = {
        "scale": a.scale,
        "rescale_side": a.rescale_side,
        "blur_sigma": a.blur_sigma,
        "jpeg_quality": a.jpeg_quality,
    }
    ranges = {f"augmentation.{key}": pair for key, pair in ranges.items()}
    ranges["manipulations.autoencode.side"] = recipe.manipulations.autoencode.side
    found = [
        f"{key}: smallest {low} is above largest {high}" for key, (low, high) in ranges.items() if low > high
    ]
    found += _mispaired(recipe) + _wrong_range(recipe.manipulations.autoencode)
    if 0 < recipe.losses.gamma < 1:
        found.append(
            f"losses.gamma: got {recipe.losses.gamma}; between 0 and 1 its gradient is infinite: give "
            "0, or at least 1"
        )
    if recipe.primary not in recipe.tasks:
        found.append(f"primary: {recipe.primary!r} is not one of tasks: {', '.join(recipe.tasks)}")
    if recipe.data.subject == "image":
        needless = [name for name in MANIPULATION_TASKS if name in recipe.tasks]
        found += [
            f"tasks: {name}: with data.subject image there is no face to manipulate" for name in needless
        ]
    if not recipe.manipulations.names:
        found += [
            f"manipulations.names: none, but tasks has {name}"
            for name in MANIPULATION_TASKS
            if name in recipe.tasks
        ]
        found += ["manipulations.pairs: there is no manipulation"] if recipe.manipulations.pairs else []
    if recipe.head == "scalar":
        found += _not_scalar(recipe)
    if recipe.supervised:
        found += _not_supervised(recipe)
    if recipe.inner.schedule == "plateau" and recipe.bilevel:
        found.append("inner.schedule: plateau goes with outer.enabled false, or with one task")
    return found + _unread(recipe) + _odd_heads(recipe.text)


def _mispaired(recipe: Recipe) -> list[str]:
    if not recipe.manipulations.pairs:
        alone = "autoencode" in recipe.manipulations.names
        return ["manipulations.names: autoencode needs manipulations.pairs: true"] if alone else []
    sizes = {"inner.batch_size": recipe.inner.batch_size, "outer.batch_size": recipe.outer.batch_size or 0}
    odd = {key: size for key, size in sizes.items() if size % 2}
    return [f"{key}: got {size}; manipulations.pairs needs an even number" for key, size in odd.items()]


def _wrong_range(recipe: AutoencodeRecipe) -> list[str]:
    (low, high), key = recipe.range, "manipulations.autoencode.range"
    if low >= high:
        return [f"{key}: got {low:g}, {high:g}: expected the lower value first"]
    if not recipe.files and recipe.range != AutoencodeRecipe().range:
        return [f"{key}: is of manipulations.autoencode.files, and none are named"]
    return []


def _unread(recipe: Recipe) -> list[str]:
    """List settings of a text encoder where none reads the prompts."""
    if recipe.head == "joint" and recipe.text.name != "table":
        return []
    why = f"text.name {recipe.text.name}" if recipe.head == "joint" else f"head {recipe.head}"
    given = {"text.weights": recipe.text.weights is not None, "text.frozen": recipe.text.frozen}
    return [f"{key}: with {why} no text encoder reads the prompts" for key, is_set in given.items() if is_set]


def _odd_heads(text: TextRecipe) -> list[str]:
    if text.name == "table":
        return []
    width = text.width or _WIDTHS[text.name]
    heads = text.heads or max(1, width // _HEAD_WIDTH)
    return [f"text.heads: {heads} do not divide text.width {width}"] if width % heads else []


def _not_scalar(recipe: Recipe) -> list[str]:
    odd = [n for n in recipe.tasks if n != COARSE and TASKS[n].kind is not TaskKind.ORDINAL]
    found = [f"tasks: {n}: head scalar has ordinal tags and {COARSE} only" for n in odd]
    if recipe.losses.ordinal.target != "ranking":
        found.append("losses.ordinal.target: head scalar supports only ranking")
    return found


def _not_supervised(recipe: Recipe) -> list[str]:
    """List what keeps the network that learned the origin from being a detector."""
    wrong = {
        f"tasks: {ORIGIN} is learned alone": len(recipe.tasks) > 1,
        f"head: {recipe.head}; with {ORIGIN} it is linear": recipe.head != "linear",
        f"normalise: the head of {ORIGIN} takes the embedding as it is: give false": recipe.normalise,
        f"data.subject: {ORIGIN} is learned from faces": recipe.data.subject != "face",
        f"data.patches: {ORIGIN} is learned from faces": recipe.data.patches,
        f"data.held_out: 0, but photographs kept out calibrate it with {ORIGIN}": not recipe.data.held_out,
    }
    return [said for said, is_wrong in wrong.items() if is_wrong]
