"""Where a detector fails: false alarms by set, size, compression, filter and skin angle.

    BLADESCAN_DATA=... python -m benchmarks.quality.failures [DETECTOR] [--at-most N] > failures.md

Pictures are those that may only be measured. Nothing here is chosen by what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.quality.pictures import (
    Bench,
    Cut,
    bench_parser,
    flagged,
    join,
    mean_auc,
    open_bench,
    share_of,
)
from benchmarks.tables import cell, percent, table
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import FACE_RULE, HeadName
from bladescan.evaluation.degradations import degrade, match
from bladescan.evaluation.metrics import Sample

Crops = NDArray[np.uint8]

LOWEST, HIGHEST = 0.03, 0.07
"""The false-alarm rates that an asked 5% is said to be kept within."""

SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
CHEEKS = (slice(108, 142), slice(62, 162))
"""Rows and columns of a crop between eyes and mouth: nose and cheeks."""
LEAST_YELLOW = 2.0
"""CIELAB b* below which a picture has no skin colour to speak of: greyscale, or under blue light."""


# ----------------------------------------------------------------------------------------------- what is done


def _each(crops: Crops, change: Callable[[Crops], object]) -> Crops:
    return np.stack([np.asarray(change(crop), np.uint8) for crop in crops])


def _image(change: Callable[[Image.Image], Image.Image]) -> Callable[[Crops], Crops]:
    return lambda crops: _each(crops, lambda crop: change(Image.fromarray(crop)))


def sepia(crops: Crops) -> Crops:
    """The usual sepia tone."""
    toned: Crops = np.clip(crops @ SEPIA.T, 0, 255).astype(np.uint8)
    return toned


def smooth(crops: Crops) -> Crops:
    """Skin smoothed as beauty filters do: a bilateral filter keeps edges and takes texture."""
    return _each(crops, lambda crop: cv2.bilateralFilter(crop, 9, 40, 7))


def drawn(crops: Crops) -> Crops:
    """OpenCV's cartoon filter."""
    return _each(crops, lambda crop: cv2.stylization(crop, sigma_s=60, sigma_r=0.45))


FILTERS: Mapping[str, Callable[[Crops], Crops]] = {
    "none": lambda crops: crops,
    "greyscale": _image(lambda image: ImageOps.grayscale(image).convert("RGB")),
    "sepia": sepia,
    "contrast x 1.6": _image(lambda image: ImageEnhance.Contrast(image).enhance(1.6)),
    "saturation x 2": _image(lambda image: ImageEnhance.Color(image).enhance(2.0)),
    "skin smoothed (bilateral)": smooth,
    "cartoon (cv2.stylization)": drawn,
}


def shrunk(face_px: int, crop_scale: float = FACE_RULE.scale) -> Callable[[Crops], Crops]:
    """Crops as if the face had that side in its picture."""
    side = round(face_px * crop_scale)
    return _image(
        lambda image: image.resize((side, side), Image.Resampling.BICUBIC).resize(
            (CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC
        )
    )


HARD: Mapping[str, Callable[[Crops], Crops]] = {
    "none": lambda crops: crops,
    "JPEG 75": lambda crops: degrade(crops, "jpeg-75"),
    "half size, JPEG 40": lambda crops: match(crops, CROP_SIZE // 2, 40),
    "face of 64 px": shrunk(64),
    "face of 32 px": shrunk(32),
}


def typology_angles(crops: Crops) -> NDArray[np.float64]:
    r"""Individual typology angle in degrees of each crop ``[n]``, NaN where there is no skin colour.

    .. math:: \mathrm{ITA} = \arctan\frac{L^* - 50}{b^*} \cdot \frac{180}{\pi}

    L* and b* are medians between eyes and mouth; higher is lighter.

    References:
        Chardon, Cretois, Hourseau, "Skin colour typology and suntanning pathways", 1991.
    """
    patches = crops[(slice(None), *CHEEKS)].astype(np.float32) / 255
    lab = [cv2.cvtColor(patch, cv2.COLOR_RGB2LAB).reshape(-1, 3) for patch in patches]
    lightness, _, yellow = np.median(np.stack(lab), axis=1).T.astype(np.float64)
    angles = np.degrees(np.arctan2(lightness - 50, yellow))
    return np.where(yellow >= LEAST_YELLOW, angles, np.nan)


# ----------------------------------------------------------------------------------------------- what is said


def false_alarms(bench: Bench, side: int) -> str:
    """False-alarm rates by photographic set, matched and as found, and whether 5% is kept."""
    sets = bench.cut(bench.collection.photographic)
    everything = {**sets, "**all**": join(sets.values())}
    found = {
        (head, kind): {
            name: bench.sample(cut.matched(side) if kind == "matched" else cut, head)
            for name, cut in everything.items()
        }
        for head in bench.heads
        for kind in ("matched", "as found")
    }
    header = ["photographs", "faces", *(f"{head}, {kind}" for head, kind in found)]
    rows = [
        [name, str(len(cut.files)), *(flagged(by_set[name]) for by_set in found.values())]
        for name, cut in everything.items()
    ]
    said = [_kept(f"the {head} head, {kind},", by_set["**all**"]) for (head, kind), by_set in found.items()]
    return "\n\n".join(
        [
            "### False alarms on cameras and sites never seen",
            "Share of photographs flagged, in percent, asked for 5%, with 95% Clopper-Pearson intervals. "
            "None of these collections stands in any training, fit or calibration.",
            table(header, rows),
            "\n".join(f"- {line}" for line in said),
        ]
    )


def _kept(what: str, sample: Sample) -> str:
    n = len(sample.flagged)
    share = float(sample.flagged.mean())
    verdict = "within" if LOWEST <= share <= HIGHEST else "**outside**"
    return f"Asked for 5%, {what} flags {flagged(sample)}% of {n}: {verdict} 3 to 7%."


def hard_pictures(bench: Bench) -> str:
    """What small faces and heavy compression do to both sides."""
    ours = join(bench.cut(bench.collection.photographic).values())
    theirs = bench.cut(bench.collection.generated)
    header = ["crops", *(f"{head}: {what}" for head in bench.heads for what in ("flagged", "found", "AUC"))]
    rows = []
    for name, change in HARD.items():
        row = [name]
        for head in bench.heads:
            row += _both(bench, head, ours, theirs, change)
        rows.append(row)
    n = sum(len(cut.files) for cut in theirs.values())
    return "\n\n".join(
        [
            "### Small faces and heavy compression, made of the same pictures",
            f"Of {len(ours.files)} photographs and {n} AI-generated faces as found, all treated alike: "
            "percent of photographs flagged, percent of AI-generated faces found, AUC as the mean over "
            "generators.",
            table(header, rows),
        ]
    )


def _both(
    bench: Bench, head: HeadName, ours: Cut, theirs: Mapping[str, Cut], change: Callable[[Crops], Crops]
) -> list[str]:
    photographs = bench.sample(Cut(change(ours.crops), ours.files), head)
    generators = {name: bench.sample(Cut(change(cut.crops), cut.files), head) for name, cut in theirs.items()}
    found = np.concatenate([part.flagged for part in generators.values()])
    area = mean_auc(photographs, generators)
    return [flagged(photographs), percent(share_of(found)), cell(area)]


def filtered(bench: Bench) -> str:
    """What photo filters do to the false-alarm rate."""
    ours = join(bench.cut(bench.collection.photographic).values())
    rows = []
    for name, change in FILTERS.items():
        cut = Cut(change(ours.crops), ours.files)
        rows.append([name, *(flagged(bench.sample(cut, head)) for head in bench.heads)])
    return "\n\n".join(
        [
            "### Photo filters, make-up, drawings",
            f"Percent of {len(ours.files)} photographs, as found, that are flagged after a filter.",
            table(["filter", *bench.heads], rows),
            "Make-up: MEBeauty is a collection gathered for ratings of beauty, in which make-up, styling "
            "and retouching are common; no file says which face wears any, so its row of false alarms "
            "above is all that can be said. Drawings and paintings: the data has no labelled ones; the "
            "cartoon filter is a photograph made to look drawn, and no substitute. Age: no file of the "
            "data says one, so nothing was measured, and faces of children and of the old are too few to "
            "assume anything.",
        ]
    )


def skin(bench: Bench) -> str:
    """False alarms by thirds of the individual typology angle."""
    ours = join(bench.cut(bench.collection.photographic).values())
    angles = typology_angles(ours.crops)
    known = np.isfinite(angles)
    edges = np.percentile(angles[known], [100 / 3, 200 / 3])
    thirds = {
        f"darker, below {edges[0]:.0f} degrees": known & (angles < edges[0]),
        f"middle, {edges[0]:.0f} to {edges[1]:.0f}": known & (angles >= edges[0]) & (angles < edges[1]),
        f"lighter, from {edges[1]:.0f}": known & (angles >= edges[1]),
    }
    samples = [bench.sample(ours, head) for head in bench.heads]
    rows = [
        [name, str(int(chosen.sum()))] + [percent(share_of(one.flagged[chosen])) for one in samples]
        for name, chosen in thirds.items()
    ]
    return "\n\n".join(
        [
            "### Skin tone, as far as the pictures say",
            "Percent of photographs, as found, that are flagged, by thirds of the individual typology "
            "angle, atan((L\\* - 50) / b\\*) of the CIELAB medians between eyes and mouth (Chardon et al. "
            "1991). Light, exposure and white balance move the angle as much as skin does, and the thirds "
            "differ in where their pictures come from: this can show a large harm, and cannot show that "
            f"there is none. {int((~known).sum())} of {len(angles)} faces have no skin colour (greyscale, "
            "blue light).",
            table(["skin", "faces", *bench.heads], rows),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    bench = open_bench(bench_parser(__spec__, __doc__).parse_args(argv))
    print(false_alarms(bench, CROP_SIZE // 2), hard_pictures(bench), filtered(bench), skin(bench), sep="\n\n")


if __name__ == "__main__":
    main()
