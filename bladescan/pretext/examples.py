"""Examples drawn from the index: manipulation first, then augmentation, then the targets of every task.

Manipulation comes first, on the face as it was stored; then augmentation, the same for untouched and
manipulated faces, so that compression, size and sharpness say nothing about the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bladescan.base.errors import DataError
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import FACE_RULE
from bladescan.faces.crops import whole_crop
from bladescan.images.jpeg import recompress_pixels
from bladescan.photographs.cutting import BLOCK, MIN_TEXTURED_SHARE, square, textured_blocks
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph, Tags
from bladescan.pretext import manipulations
from bladescan.pretext.autoencoders import Autoencoders
from bladescan.pretext.reconstruction import reconstructed_pair
from bladescan.tasks.pretext_tasks import COARSE, FINE, TASKS, PretextTask, TaskKind
from bladescan.tasks.recipe import AugmentationRecipe, ManipulationRecipe

PATCH = "patch"
"""In place of a manipulation's name: the example shows no face."""

UNKNOWN_CLASS = -1
"""Truth of a softmax task that an example says nothing of; elsewhere it is NaN."""

_Box = tuple[float, float, float, float]
_PATCH_BOX = CROP_SIZE / FACE_RULE.scale  # so that the crop of a scan keeps the patch's own resolution
_PATCH_TRIES = 4
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def augment(
    pixels: NDArray[np.uint8], box: Sequence[float], recipe: AugmentationRecipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Crop as a scan does, a little differently each time, and let the picture pass through the world.

    Args:
        pixels: RGB with context ``[h, w, 3]``, unchanged.
        box: the face in it.
        recipe: probabilities and ranges.
        rng: the only source of chance. The draws do not depend on the pixels, so two versions of one face
            that get equal generators get equal augmentation.

    Returns:
        ``[window, window, 3]``.
    """
    dx, dy = rng.uniform(-recipe.shift, recipe.shift, 2)
    x = square(pixels, box, rng.uniform(*recipe.scale), (dx, dy))
    side = CROP_SIZE
    if rng.random() < recipe.rescale:
        side = round(float(np.exp(rng.uniform(*np.log(recipe.rescale_side)))))
    x = _resized(x, side, recipe, rng)
    if rng.random() < recipe.blur:
        x = _blurred(x, rng.uniform(*recipe.blur_sigma))
    if rng.random() < recipe.noise:
        x = _clipped(x + rng.normal(0, rng.uniform(1, 4), x.shape))
    x = _compressed(x, recipe, rng)
    x = _resized(x, CROP_SIZE, recipe, rng)
    if recipe.jpeg_twice:
        x = _compressed(x, recipe, rng)
    x = _window(x, recipe.window, rng)
    if rng.random() < recipe.flip:
        x = x[:, ::-1]
    if rng.random() < recipe.colour:
        x = _recoloured(x, rng)
    return np.ascontiguousarray(x)


def _resized(
    x: NDArray[np.uint8], side: int, recipe: AugmentationRecipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    kernel = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    if not recipe.rescale:
        return whole_crop(x, size=side)  # as a scan does
    return np.asarray(cv2.resize(x, (side, side), interpolation=kernel), np.uint8)


def _blurred(x: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    # OpenCV takes 0 for a width that it should choose by itself.
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma), np.uint8) if sigma > 0 else x


def _compressed(
    x: NDArray[np.uint8], recipe: AugmentationRecipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    if rng.random() >= recipe.jpeg:
        return x
    low, high = recipe.jpeg_quality
    return recompress_pixels(x, int(rng.integers(low, high + 1)))


def _window(x: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    room = CROP_SIZE - side
    reach = min(room // 2, CROP_SIZE // 16)
    top, left = room // 2 + rng.integers(-reach, reach + 1, 2)
    return x[top : top + side, left : left + side]


def _recoloured(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    out = x.astype(np.float32)
    if rng.random() < 0.15:
        out = np.repeat(out.mean(2, keepdims=True), 3, 2)
    out = (out - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-25, 25)
    return _clipped(out * rng.uniform(0.93, 1.07, 3))


def _clipped(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


class Drawn(NamedTuple):
    """One example as the encoder sees it, with what is known of it.

    Attributes:
        pixels: RGB ``[window, window, 3]``, augmented.
        name: of the manipulation, `bladescan.pretext.manipulations.UNTOUCHED` or `PATCH`.
        labels: 0 or 1 for each of `bladescan.pretext.manipulations.REGIONS`; None for a patch.
        tags: EXIF of the photograph.
    """

    pixels: NDArray[np.uint8]
    name: str
    labels: tuple[int, int, int] | None
    tags: Tags


class Batch(NamedTuple):
    """Examples and their targets.

    Attributes:
        pixels: uint8 ``[b, window, window, 3]``.
        targets: by task name, all tasks always. Coarse: int64 ``[b]``, 1 where manipulated, -1 unknown. Fine:
            float32 ``[b, 3]``, NaN unknown. Ordinal: float64 ``[b]``, NaN missing. Categorical: int64
            ``[b]``, -1 missing.
    """

    pixels: Tensor
    targets: dict[str, Tensor]


class Examples(Dataset[Batch]):
    """Seeded examples: item (epoch, i) is the same whoever asks, whenever.

    Args:
        index: where the photographs are.
        digests: which of them, faces and patches.
        manipulation: what is drawn.
        augmentation: what befalls all.
        seed: of every example.

    Raises:
        DataError: faces are to be reconstructed, but no autoencoder is named.
        RecipeError: a file that is named is no autoencoder.
    """

    def __init__(
        self,
        index: PhotographIndex,
        digests: Sequence[str],
        manipulation: ManipulationRecipe,
        augmentation: AugmentationRecipe,
        seed: int,
    ) -> None:
        self.index, self.digests, self.seed = index, tuple(digests), seed
        self.manipulation, self.augmentation = manipulation, augmentation
        if manipulations.AUTOENCODE in manipulation.names and not manipulation.autoencode.files:
            raise DataError(
                "no autoencoder to reconstruct faces by: name some, such as those in the folder of a run: "
                "manipulations.autoencode.files=[RUN/autoencoders]"
            )
        self._autoencoders = Autoencoders(manipulation.autoencode)

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        """Make one example, or with ``pairs`` two of the same photograph."""
        return batch_of(self.draw(item))

    def draw(self, item: tuple[int, int]) -> list[Drawn]:
        """Make the examples of one item, before they become tensors.

        One example, or with ``pairs`` two: of a face the untouched and the manipulated one, augmented alike;
        of a patch, which cannot be manipulated, two different parts, so that every item is of one size.
        """
        epoch, i = item
        photograph = self.index.get(self.digests[i])
        rng = np.random.default_rng((self.seed, epoch, i))
        if photograph.box is None or photograph.landmarks is None:
            return [self._part(photograph, rng) for _ in range(2 if self.manipulation.pairs else 1)]
        made, box = self._manipulated(photograph, rng)
        seed = int(rng.integers(2**62))
        return [
            Drawn(
                augment(e.pixels, box, self.augmentation, np.random.default_rng(seed)),
                e.name,
                e.labels,
                photograph.tags,
            )
            for e in made
        ]

    def _manipulated(
        self, photograph: Photograph, rng: np.random.Generator
    ) -> tuple[list[manipulations.Example], _Box]:
        """Make the examples of a face, and say where it is in them."""
        pixels, landmarks, box = photograph.pixels, photograph.landmarks, photograph.box
        assert landmarks is not None and box is not None, "a face"
        names = self.manipulation.names
        if not names:
            return [manipulations.apply(manipulations.UNTOUCHED, pixels, landmarks, rng)], box
        if not self.manipulation.pairs:
            return [manipulations.draw(pixels, landmarks, rng, names)], box
        name = str(rng.choice(list(names)))
        if name != manipulations.AUTOENCODE:
            both = [manipulations.apply(n, pixels, landmarks, rng) for n in (manipulations.UNTOUCHED, name)]
            return both, box
        recipe = self.manipulation.autoencode
        pair = reconstructed_pair(pixels, landmarks, self._autoencoders, recipe, rng)
        x, y = pair.zoom
        return [pair.untouched, pair.reconstructed], (x * box[0], y * box[1], x * box[2], y * box[3])

    def _part(self, photograph: Photograph, rng: np.random.Generator) -> Drawn:
        box = patch_box(photograph.pixels, self.augmentation, rng)
        pixels = augment(photograph.pixels, box, self.augmentation, rng)
        return Drawn(pixels, PATCH, None, photograph.tags)


def patch_box(
    patch: NDArray[np.uint8], recipe: AugmentationRecipe, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Choose where in a patch a face is assumed: where there is texture, with room to crop around it.

    Its side is such that the crop of a scan, 1.3 sides, is 224 pixels: the patch keeps its own resolution.

    Args:
        patch: RGB ``[h, w, 3]``.
        recipe: its ``scale`` and ``shift`` say how much room a crop takes.
        rng: source of the places that are tried; the first that is not flat is taken, else the least flat.
    """
    textured = textured_blocks(patch)
    reach = _PATCH_BOX * recipe.scale[1] * (0.5 + recipe.shift)
    low, high = zip(*((min(reach, n / 2), max(n - reach, n / 2)) for n in patch.shape[:2]), strict=True)
    centres = rng.uniform(low, high, (_PATCH_TRIES, 2))
    shares = [_texture_around(textured, y, x) for y, x in centres]
    y, x = centres[int(np.argmax(np.minimum(shares, MIN_TEXTURED_SHARE)))].tolist()
    half = _PATCH_BOX / 2
    return x - half, y - half, x + half, y + half


def _texture_around(textured: NDArray[np.bool_], y: float, x: float) -> float:
    """Measure the share of textured blocks in the square of a scan's crop."""
    top, bottom, left, right = (
        round((centre + half) / BLOCK) for centre in (y, x) for half in (-CROP_SIZE / 2, CROP_SIZE / 2)
    )
    return float(textured[max(top, 0) : bottom, max(left, 0) : right].mean())


def batch_of(drawn: Sequence[Drawn]) -> Batch:
    """Turn examples into tensors."""
    pixels = torch.from_numpy(np.stack([d.pixels for d in drawn]))
    return Batch(pixels, {name: _targets(task, drawn) for name, task in TASKS.items()})


def _targets(task: PretextTask, drawn: Sequence[Drawn]) -> Tensor:
    if task.name == COARSE:
        coarse = [
            UNKNOWN_CLASS if d.labels is None else int(d.name != manipulations.UNTOUCHED) for d in drawn
        ]
        return torch.tensor(coarse)
    if task.name == FINE:
        unknown = (float("nan"),) * len(task.classes)
        return torch.tensor([d.labels or unknown for d in drawn], dtype=torch.float32)
    values: Iterable[float | str | None] = (d.tags.get(task.name) for d in drawn)
    if task.kind is TaskKind.ORDINAL:
        return torch.tensor([float("nan") if v is None else float(v) for v in values], dtype=torch.float64)
    return torch.tensor([UNKNOWN_CLASS if v is None else task.classes.index(str(v)) for v in values])


def collate(items: Sequence[Batch]) -> Batch:
    """Join items of `Examples`, one after the other, to one batch."""
    targets = {name: torch.cat([item.targets[name] for item in items]) for name in items[0].targets}
    return Batch(torch.cat([item.pixels for item in items]), targets)
