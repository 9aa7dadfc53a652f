"""What a detector scores on photographs and AI-generated faces that it has never seen.

    BLADESCAN_DATA=... python benchmarks/shipped_detector.py [DETECTOR.onnx] > table.md

Photographs come from ``evaluation/photographic``, AI-generated faces from ``evaluation/ai-
generated``. Both sides are decoded, searched and cropped as in a scan, and then *matched*: every
crop becomes a JPEG of the same size and quality. Beside the heads stands a baseline that sees
nothing but the bytes of that JPEG: where it does well, the sets still differ in sharpness alone,
and no more should be claimed for the heads.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from bladescan.backend import Backend, BackendSettings, choose_plugin
from bladescan.calibration import clopper_pearson, p_values, photographic_scores
from bladescan.decoder_process import DecoderSettings
from bladescan.decoders import DecoderPool
from bladescan.detectors import default_detector
from bladescan.manifest import HeadName
from bladescan.records import CROP_SIZE, Scores
from bladescan.scanning import crops_of, decode_in_order, score_in_batches
from bladescan.sources import Source

MATCHED_SIDE, MATCHED_QUALITY, RATE = 192, 85, 0.05


def crops(folder: Path, pool: DecoderPool) -> NDArray[np.uint8]:
    """The highest-scored face of every image of a folder, uint8 ``[n, 224, 224, 3]``."""
    sources = [Source(str(path)) for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [crops_of([item[1]])[:1] for item in decode_in_order(sources, pool) if item and item[1].faces]
    return np.concatenate(found)


def match(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """One crop after the same rescaling and compression as all others, and the bytes it took."""
    small = Image.fromarray(pixels).resize((MATCHED_SIDE, MATCHED_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=MATCHED_QUALITY)
    back = Image.open(buffer).resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(back), buffer.tell()


def auc(photographic: NDArray[np.float64], generated: NDArray[np.float64]) -> float:
    """Area under the ROC curve of scores that are higher for photographs."""
    labels = np.r_[np.zeros(len(photographic)), np.ones(len(generated))]
    return float(roc_auc_score(labels, -np.r_[photographic, generated]))


def baseline(photographic: NDArray[np.float64], generated: NDArray[np.float64]) -> float:
    """AUC of the JPEG's size in bytes, in whichever direction it is better."""
    area = auc(photographic, generated)
    return max(area, 1 - area)


def share(head: HeadName, backend: Backend, scores: Scores) -> tuple[int, int]:
    """How many of the faces are flagged at the asked rate, of how many."""
    ranks = p_values(backend.manifest.heads[head], photographic_scores(scores, head))
    return int((ranks <= RATE).sum()), len(ranks)


def percent(count: int, n: int) -> str:
    """A share with its 95% Clopper-Pearson interval."""
    low, high = clopper_pearson(count, n)
    return f"{100 * count / n:.1f} ({100 * low:.0f}-{100 * high:.0f})"


class Side:
    """One class of images: scores as they are and matched, and the bytes of the matched JPEGs."""

    def __init__(self, folder: Path, pool: DecoderPool, backend: Backend) -> None:
        native = crops(folder, pool)
        matched = [match(pixels) for pixels in native]
        self.name = folder.name
        self.bytes = np.asarray([size for _, size in matched], np.float64)
        self.native = _scores(backend, native)
        self.matched = _scores(backend, np.stack([pixels for pixels, _ in matched]))


def _scores(backend: Backend, pixels: NDArray[np.uint8]) -> Scores:
    scores = score_in_batches(backend, pixels, 16)
    assert scores is not None
    return scores


def rows(photographic: list[Side], generated: list[Side], backend: Backend) -> Iterable[str]:
    """The table, one line each."""
    heads = list(backend.manifest.heads)
    yield (
        "| set | faces | "
        + " | ".join(
            f"{h}: AUC matched | AUC as found | % flagged, matched | % flagged, as found" for h in heads
        )
        + " | JPEG size alone: AUC |"
    )
    yield "|---|---|" + "---|---|---|---|" * len(heads) + "---|"
    sizes = np.concatenate([p.bytes for p in photographic])
    for side in [*photographic, *generated]:
        kind = "photographic" if side in photographic else "AI-generated"
        cells = [f"{kind}/{side.name}", str(len(side.bytes))]
        for head in heads:
            cells += _aucs(side, photographic, head) if side in generated else ["-", "-"]
            cells += [percent(*share(head, backend, s)) for s in (side.matched, side.native)]
        cells.append(f"{baseline(sizes, side.bytes):.3f}" if side in generated else "-")
        yield "| " + " | ".join(cells) + " |"


def _aucs(side: Side, photographic: list[Side], head: HeadName) -> list[str]:
    found = []
    for kind in ("matched", "native"):
        ours = np.concatenate([photographic_scores(getattr(p, kind), head) for p in photographic])
        found.append(f"{auc(ours, photographic_scores(getattr(side, kind), head)):.3f}")
    return found


def main() -> None:
    """Print the table as Markdown."""
    data = Path(os.environ["BLADESCAN_DATA"]) / "evaluation"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default_detector()
    backend = choose_plugin("auto", path).open(path, BackendSettings())
    with DecoderPool(2, DecoderSettings(faces=backend.manifest.face_rule.finder)) as pool:
        sides = {
            kind: [
                Side(folder, pool, backend) for folder in sorted((data / kind).iterdir()) if folder.is_dir()
            ]
            for kind in ("photographic", "ai-generated")
        }
    print("\n".join(rows(sides["photographic"], sides["ai-generated"], backend)))
    for head in backend.manifest.heads:
        scored = [share(head, backend, side.matched) for side in sides["photographic"]]
        total = percent(sum(k for k, _ in scored), sum(n for _, n in scored))
        aucs = [float(_aucs(side, sides["photographic"], head)[0]) for side in sides["ai-generated"]]
        print(
            f"\n{head}: mean AUC over generators, matched, {np.mean(aucs):.3f}; "
            f"photographs flagged at an asked rate of {100 * RATE:.0f}%, matched: {total}%."
        )
    sizes = np.concatenate([side.bytes for side in sides["photographic"]])
    areas = [baseline(sizes, side.bytes) for side in sides["ai-generated"]]
    print(f"\nJPEG size alone: mean AUC over generators {np.mean(areas):.3f}.")


if __name__ == "__main__":
    main()
