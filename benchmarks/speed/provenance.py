"""What reading a file's own statements costs beside decoding it.

    python -m benchmarks.speed.provenance [FILE...] [--side 2000] [--rounds 20]
    python -m benchmarks.speed.provenance --scan FOLDER [--rounds 20]

Makes a JPEG, a PNG and a WebP of that many pixels a side, plain, with a generator's mark, and signed (with
the extra ``provenance``), or takes the files that are named. Prints a Markdown table: milliseconds for
decoding and for reading, and the second as a share of the first. With ``--scan``, whole scans of a folder
with ``--declared flag`` and with ``--declared ignore`` take turns instead; their detectors are loaded
before.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, PngImagePlugin

from benchmarks.signatures import action, signed
from benchmarks.tables import parser, table
from benchmarks.timing import in_turns
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from bladescan.provenance.credentials import library_version
from bladescan.provenance.reading import read_provenance
from bladescan.scanning.declarations import ProvenanceOptions
from bladescan.scanning.scan_options import ScanOptions
from bladescan.scanning.scanner import Scanner

_MARK = "a face\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"


def made(side: int) -> dict[str, bytes]:
    """Files by what they are."""
    noise = np.random.default_rng(1).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    files = {}
    for kind in ("JPEG", "PNG", "WEBP"):
        files[f"{kind}, plain"] = plain = _saved(picture, kind)
        files[f"{kind}, marked"] = _saved(picture, kind, **_marked(kind))
        if library_version():
            created = action(term="trainedAlgorithmicMedia")
            files[f"{kind}, signed"] = signed(plain, created, kind=kind)
    return files


def _marked(kind: str) -> dict[str, object]:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", _MARK)
        return {"pnginfo": info}
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + _MARK.encode("utf-16-be")
    return {"exif": exif}


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def decode(data: bytes) -> None:
    """Decode all that a scan looks at."""
    for _ in decode_image(data, Limits()).frames:
        pass


def compare_scans(folder: Path, rounds: int) -> None:
    """Scan a folder with and without reading, in turns, and print the ratio of each pair."""
    with ExitStack() as stack:
        options = {choice: ScanOptions(provenance=ProvenanceOptions(choice)) for choice in ("flag", "ignore")}
        scanners = {choice: stack.enter_context(Scanner(asked)) for choice, asked in options.items()}
        n_images = sum(1 for _ in scanners["flag"].scan(str(folder)))
        works = {choice: partial(_scan, scanner, folder) for choice, scanner in scanners.items()}
        took = in_turns(works, rounds)
    ratios = [flag / ignore for flag, ignore in zip(took["flag"], took["ignore"], strict=True)]
    rows = [(choice, f"{median(times):.2f}", f"{min(times):.2f}") for choice, times in took.items()]
    print(table(["--declared", "median, s", "fastest, s"], rows))
    print(
        f"\n{n_images} images, {rounds} rounds; flag / ignore: median of pairs {median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), fastest {min(took['flag']) / min(took['ignore']):.3f}"
    )


def _scan(scanner: Scanner, folder: Path) -> None:
    for _ in scanner.scan(str(folder)):
        pass


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__spec__, __doc__)
    options.add_argument("files", type=Path, nargs="*")
    options.add_argument("--scan", type=Path, metavar="FOLDER")
    options.add_argument("--side", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=20)
    asked = options.parse_args(argv)
    if asked.scan is not None:
        compare_scans(asked.scan, asked.rounds)
        return 0
    files = {path.name: path.read_bytes() for path in asked.files} or made(asked.side)
    rows = []
    for name, data in files.items():
        took = in_turns(
            {"decode": partial(decode, data), "read": partial(read_provenance, data)}, asked.rounds
        )
        decode_s, read_s = median(took["decode"]), median(took["read"])
        found = read_provenance(data)
        says = f"{found.declared}, {found.c2pa_status}"
        share = f"{100 * read_s / decode_s:.1f}%"
        size = f"{len(data) / 1e6:.1f}"
        rows.append((name, says, size, f"{1e3 * decode_s:.1f}", f"{1e3 * read_s:.2f}", share))
    print(table(["file", "says", "MB", "decoding, ms", "reading, ms", "share"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
