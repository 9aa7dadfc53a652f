"""JPEGs decoded by nvImageCodec on a device beside Pillow: pictures a second, pixels, verdicts that change.

    python -m benchmarks.speed.gpu_decoding FOLDER... [--device cpu]

bladescan decodes with Pillow. `decoding`, a part of `benchmarks.speed.gpu`, says what a decoder on the device
would gain and what it would change. The command compares both on your files: who decodes what, and whether
the pixels are the same. With the device ``cpu`` the package decodes by libjpeg-turbo, as Pillow does.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.speed.gpu_bounds import to_its_end
from benchmarks.speed.gpu_encoder import SAFETENSORS, Crops, HasTime, agreement_of, faces
from benchmarks.speed.workload import TYPICAL, jpeg, portrait
from benchmarks.tables import parser, table
from benchmarks.timing import Work, best
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.scoring import score_in_batches

INSTALL = "pip install nvidia-nvimgcodec-cu13 nvidia-nvjpeg"
N_DIFFERENT = 16
BATCHES = (64, 1)
OUTCOMES = ("the same pixels", "other pixels", "Pillow alone", "nvImageCodec alone", "neither")

Pixels = NDArray[np.uint8]
Decode = Callable[[Sequence[bytes]], list[Any]]
"""Files in, pictures out; None for one that it cannot decode."""


def decoding(asked: argparse.Namespace, scratch: Path, has_time: HasTime) -> dict[str, Any]:
    """Pictures a second of both, then how far the pixels and the verdicts of the device are from Pillow's.

    Where the package is not installed the figures say how to get it, and nothing else.
    """
    try:
        decode = on_device(asked.device)
    except ImportError as exc:
        return {"missing": f"nvImageCodec is not here ({exc}): {INSTALL}"}
    crops = faces(scratch, asked.faces)
    files = [_compressed(crop, quality) for crop, quality in zip(crops, _qualities(len(crops)), strict=True)]
    found: dict[str, Any] = {"difference": difference(decode, files)}
    face = portrait(scratch / "face")
    pictures = [jpeg(TYPICAL, face, seed) for seed in range(min(N_DIFFERENT, asked.images))]
    found["per_second"] = {}
    for n in BATCHES:
        batch = [pictures[i % len(pictures)] for i in range(min(n, asked.images))]
        works: dict[str, Work] = {
            f"nvImageCodec on {asked.device}, {len(batch)} at a time": partial(
                to_its_end, asked.device, partial(decode, batch)
            ),
            f"Pillow, one thread, {len(batch)} one by one": partial(by_pillow, batch),
        }
        for name, work in works.items():
            if has_time():
                seconds = best({"": work}, asked.rounds, uncounted=1)[""]
                found["per_second"][name] = len(batch) / seconds
    return found


def on_device(device: str) -> Decode:
    """A decoder of batches, for example on ``cuda:0``; pixels as they lie in the file, in RGB.

    Raises:
        ImportError: nvImageCodec is not installed.
    """
    from nvidia import nvimgcodec

    kind, _, index = device.partition(":")
    if kind == "cpu":
        backends = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
        decoder = nvimgcodec.Decoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=backends)
    else:
        # Not by libjpeg-turbo where the device cannot: that would be Pillow's work under another name.
        kinds = (nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU)
        backends = [nvimgcodec.Backend(each) for each in kinds]
        decoder = nvimgcodec.Decoder(device_id=int(index or 0), backends=backends)
    upright = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB, apply_exif_orientation=False)

    def decode(files: Sequence[bytes]) -> list[Any]:
        return list(decoder.decode(list(files), params=upright))

    return decode


def by_pillow(files: Sequence[bytes]) -> list[Pixels]:
    """Decode one after the other, as a decoder process does."""
    found = []
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


def difference(decode: Decode, files: Sequence[bytes]) -> dict[str, Any]:
    """Compare the pixels of JPEGs of 224 pixels, and what the shipped detector says of them."""
    theirs = [None if image is None else np.asarray(image.cpu()) for image in decode(files)]
    ours = by_pillow(files)
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if b is not None and a.shape == b.shape]
    found: dict[str, Any] = {"files": len(files), "decoded": len(both)}
    if not both:
        return found
    pillow, device = (np.stack(each) for each in zip(*both, strict=True))
    off = abs(pillow.astype(np.int16) - device)
    found |= {
        "same_pixels": float((off.max((1, 2, 3)) == 0).mean()),
        "largest": int(off.max()),
        "mean": float(off.mean()),
    }
    return found | {"verdicts": _verdicts(pillow, device)}


def _verdicts(pillow: Crops, device: Crops) -> dict[str, float]:
    """Both through PyTorch on the CPU in float32, so that the decoder is the only difference."""
    backend = get_plugin("pytorch").open(SAFETENSORS, BackendSettings("cpu"))
    wanted, scores = (score_in_batches(backend, crops, 64) for crops in (pillow, device))
    assert wanted is not None and scores is not None
    return agreement_of(scores, wanted, backend)._asdict()


def _qualities(n: int) -> list[int]:
    return [(75, 85, 92, 97)[i % 4] for i in range(n)]


def _compressed(crop: Pixels, quality: int) -> bytes:
    """A JPEG with its colours at half size, where decoders differ most."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def compared(decode: Decode, data: bytes) -> str:
    """Who decodes a file, and whether the pixels are the same."""
    try:
        ours = by_pillow([data])[0]
    except Exception:  # whatever a damaged file makes Pillow raise
        ours = None
    try:
        image = decode([data])[0]
        theirs = None if image is None else np.asarray(image.cpu())
    except Exception:  # its errors are plain RuntimeErrors
        theirs = None
    if ours is None and theirs is None:
        return "neither"
    if ours is None or theirs is None:
        return "Pillow alone" if theirs is None else "nvImageCodec alone"
    return "the same pixels" if np.array_equal(ours, theirs) else "other pixels"


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    options.add_argument("--device", default="cuda:0")
    options.add_argument("--most", type=int, default=400, help="files of each folder")
    asked = options.parse_args(argv)
    decode = on_device(asked.device)
    rows = []
    for folder in asked.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        chosen = paths[:: max(1, len(paths) // asked.most)]
        counts = Counter(compared(decode, path.read_bytes()) for path in chosen)
        rows.append([folder.name, str(len(chosen)), *(str(counts[what]) for what in OUTCOMES)])
    print(table(["JPEGs", "files", *OUTCOMES], rows))


if __name__ == "__main__":
    main()
