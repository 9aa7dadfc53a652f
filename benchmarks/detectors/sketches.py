"""Give a detector the sketches of another's calibration: how near a face is to its photographs.

    bladescan calibrate fast --photos @photographs.txt -o calibrated.onnx
    python -m benchmarks.detectors.sketches calibrated.onnx cascade.cascade -o cascade.cascade

Both must embed alike: a cascade embeds as its first part does. Heads, thresholds and all else stay.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.detectors.rewriting import rewrite
from benchmarks.tables import parser
from bladescan.base.errors import UsageError
from bladescan.command.describe import read_manifest
from bladescan.detectors.manifest import Manifest


def with_sketches(manifest: Manifest, giver: Manifest) -> Manifest:
    """Take the sketches of a detector with the same encoder.

    Raises:
        UsageError: it has none, or embeds otherwise.
    """
    if giver.neighbours is None:
        raise UsageError(f"{giver.name!r} keeps no sketches")
    if (giver.encoder, giver.preprocessing) != (manifest.encoder, manifest.preprocessing):
        raise UsageError(f"{giver.name!r} embeds otherwise than {manifest.name!r}")
    return msgspec.structs.replace(manifest, neighbours=giver.neighbours)


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("giver", type=Path, metavar="CALIBRATED")
    options.add_argument("detector", type=Path)
    options.add_argument("-o", "--output", type=Path, required=True)
    given = options.parse_args()
    giver = read_manifest(given.giver)
    rewrite(given.detector, given.output, lambda manifest: with_sketches(manifest, giver))


if __name__ == "__main__":
    main()
