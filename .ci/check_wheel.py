"""What the wheel must hold, and must not: ``python .ci/check_wheel.py dist/bladescan-*.whl``."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

MOST_BYTES = 95_000_000
NEEDED = (
    "bladescan/command/app.py",
    "bladescan/py.typed",
    "bladescan/evaluation/page/evaluation.html.jinja",
    "bladescan/reviewing/page/review.html.jinja",
    "bladescan/reviewing/page/review.js",
    "bladescan/reviewing/page/shell.css",
    "bladescan/detectors/blades.onnx",
    "bladescan/detectors/blades.safetensors",
    "bladescan/detectors/fast.onnx",
    "bladescan/detectors/fast.safetensors",
    "bladescan/detectors/MODEL_CARD.md",
    "bladescan/faces/yunet.onnx",
    "bladescan/faces/NOTICE.md",
    "bladescan_backends/onnx.py",
    "bladescan/networks/vocabularies/gpt2_merges.txt.gz",
    "bladescan/networks/vocabularies/clip_merges.txt.gz",
    "bladescan/networks/vocabularies/NOTICE.md",
    "bladescan_recipes/small.yaml",
)
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".heic", ".avif")
UNSAFE = (".pt", ".pth", ".pkl", ".joblib")


def problems(wheel: Path) -> list[str]:
    """Everything wrong with a wheel."""
    names = zipfile.ZipFile(wheel).namelist()
    found = [f"missing: {name}" for name in NEEDED if name not in names]
    if not any(name.endswith(".data/data/share/man/man1/bladescan.1") for name in names):
        found.append("missing: the manual page")
    found += [f"a picture or a pickle: {name}" for name in names if name.lower().endswith(PICTURES + UNSAFE)]
    found += [
        f"does not belong: {name}" for name in names if name.startswith(("tests", "docs", "benchmarks"))
    ]
    sources = {str(path) for path in Path("bladescan").rglob("*.py")}
    sources |= {f"bladescan_backends/{path.name}" for path in Path("backends").glob("*.py")}
    sources |= {f"bladescan_recipes/{path.name}" for path in Path("recipes").glob("*.yaml")}
    found += [f"missing: {name}" for name in sorted(sources - set(names))]
    if wheel.stat().st_size > MOST_BYTES:
        found.append(f"too large: {wheel.stat().st_size} bytes")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or f"{sys.argv[1]}: {Path(sys.argv[1]).stat().st_size / 1e6:.1f} MB, complete")
    sys.exit(bool(wrong))
