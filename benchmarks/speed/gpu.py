"""What a GPU makes of bladescan, in so many minutes: tests, agreement with the CPU, speed, scans, training.

    python -m benchmarks.speed.gpu -o FOLDER --minutes 5
    python -m benchmarks.speed.gpu -o FOLDER --minutes 12 --tensorrt --compile
    python -m benchmarks.speed.gpu -o FOLDER --minutes 2 --device cpu --batches 2 --rounds 1 --images 16
    python -m benchmarks.speed.gpu -o FOLDER --minutes 4 --parts scans decoding step training

The parts come in the order of their worth. Each has a share of the time; what one leaves over is for the
next. After each, gpu.json (figures) and gpu.md (the page) are written into FOLDER, so a run that is killed
loses only the part that it was in. A part that fails is written down and the next begins; exit code 1 then.
With ``--device cpu`` it runs small, to show that it runs. docs/gpu.md says what it must show.

Nothing is fetched: pictures and photographs are made here, from a portrait that matplotlib brings. It needs
the extra ``train``, pytest, and this tree installed (``pip install -e . --no-deps``). Where the tree must be
small, leave out ``accurate/``, ``docs/`` and ``bladescan/detectors/fast.*``, which nothing here reads; some
50 MB are left. A part without what it needs (onnxruntime-gpu, TensorRT, nvImageCodec) says so in no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.speed import gpu_training
from benchmarks.speed.gpu_bounds import bounds
from benchmarks.speed.gpu_decoding import decoding
from benchmarks.speed.gpu_encoder import agreement, backends, computing_rates, faces, rates
from benchmarks.speed.gpu_scans import scans
from benchmarks.speed.gpu_tests import run_tests
from benchmarks.speed.report import machine
from benchmarks.tables import parser, say, table

Figures = Mapping[str, Any]
PACKAGES = (
    "bladescan",
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "torch-tensorrt",
    "cuda-bindings",
    "nvidia-nvimgcodec-cu13",
)


class Room(NamedTuple):
    """What a part has.

    Attributes:
        asked: the options.
        scratch: a folder of its own.
        kept: a folder that all parts share.
        deadline: of ``time.monotonic``.
    """

    asked: argparse.Namespace
    scratch: Path
    kept: Path
    deadline: float

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def has_time(self) -> bool:
        """Tell whether the deadline is still ahead."""
        return self.left() > 0


class Part(NamedTuple):
    """One part of the page.

    Attributes:
        name: its key in the figures.
        title: its heading.
        share: of the whole time.
        measure: makes its figures.
        show: writes them as Markdown.
    """

    name: str
    title: str
    share: float
    measure: Callable[[Room], Figures]
    show: Callable[[Figures], str]


# ------------------------------------------------------------------------------------------------- measuring


def measure_machine(room: Room) -> Figures:
    cuda = room.asked.device.startswith("cuda")
    found = bounds(room.asked.device, side=8192 if cuda else 256, megabytes=1024 if cuda else 16)
    device = torch.cuda.get_device_name(room.asked.device) if cuda else platform.machine()
    about = {"device": device, "cuda": torch.version.cuda} | machine(PACKAGES)
    return about | {"bounds": found._asdict(), "crops_per_second": found.crops_per_second()}


def measure_tests(room: Room) -> Figures:
    return run_tests(room.scratch, room.left())


def measure_agreement(room: Room) -> Figures:
    missing: dict[str, str] = {}
    crops = faces(room.scratch, room.asked.faces)
    with backends(room.asked, room.kept, missing) as opened:
        return {
            "faces": len(crops),
            "rows": agreement(opened, crops, missing),
            "missing": missing,
        }


def measure_computing(room: Room) -> Figures:
    return computing_rates(room.asked, room.has_time)._asdict()


def measure_backends(room: Room) -> Figures:
    with backends(room.asked, room.kept, {}) as opened:
        return rates(room.asked, opened, room.has_time)._asdict()


def measure_scans(room: Room) -> Figures:
    return scans(room.asked, room.scratch, room.has_time)


def measure_decoding(room: Room) -> Figures:
    return decoding(room.asked, room.scratch, room.has_time)


def measure_step(room: Room) -> Figures:
    return gpu_training.one_step(room.asked, room.has_time)


def measure_training(room: Room) -> Figures:
    return gpu_training.short_run(room.asked, room.scratch, room.left() - gpu_training.END_S)


# ------------------------------------------------------------------------------------------------- the page


def show_machine(found: Figures) -> str:
    about = {key: found[key] for key in ("device", "cuda", "cores", "python")} | found["packages"]
    measured = found["bounds"]
    return "\n\n".join(
        [
            ", ".join(f"{key} {value}" for key, value in about.items()),
            "What the machine does in this run, and the crops a second that each allows alone.",
            table(["what", "crops/s"], [[k, f"{v:,.0f}"] for k, v in found["crops_per_second"].items()]),
            f"bfloat16 product {measured['bf16_tflops']:.1f} TFLOP/s, device memory "
            f"{measured['memory_gb_per_s']:.0f} GB/s, transfer {measured['transfer_gb_per_s']:.1f} GB/s, to "
            f"page-locked memory {measured['pinning_gb_per_s']:.1f} GB/s; a crop is "
            f"{measured['crop_gflop']:.2f} GFLOP and {measured['crop_mb']:.0f} MB",
        ]
    )


def show_tests(found: Figures) -> str:
    if "unfinished" in found:
        about = ", ".join(f"{n} {what}" for what, n in found["until_then"].items()) or "none"
        return f"They did not finish; until then {about}:\n\n```\n{found['unfinished']}\n```"
    parts = [f"{found['passed']} passed, {len(found['failed'])} failed"]
    parts += [f"- failed: `{name}`: {why}" for name, why in found["failed"].items()]
    parts += [f"- {n} skipped: {why}" for why, n in found["skipped"].items()]
    return "\n".join(parts)


def show_agreement(found: Figures) -> str:
    header = [
        "backend",
        "error of an embedding",
        "p-value, largest difference",
        "binary",
        "one-class",
    ]
    rows = [
        [name, f"{r['embedding']:.1e}", f"{r['p_value']:.4f}", f"{r['binary']:.1%}", f"{r['one_class']:.1%}"]
        for name, r in found["rows"].items()
    ]
    about = f"Against PyTorch on the CPU in fp32, {found['faces']} made faces; by head: verdicts that change."
    return "\n\n".join([about, table(header, rows), *(f"{k}: {why}" for k, why in found["missing"].items())])


def show_rates(found: Figures) -> str:
    rates_of = found["per_second"]
    batches = list(dict.fromkeys(n for rate in rates_of.values() for n in rate))
    rows = [
        [name, *(f"{rate[n]:,.0f}" if n in rate else "-" for n in batches)] for name, rate in rates_of.items()
    ]
    measured = table(["way", *(f"batch {n}" for n in batches)], rows)
    return "\n\n".join(["Crops a second.", measured, *(f"{k}: {why}" for k, why in found["failed"].items())])


def show_scans(found: Figures) -> str:
    rows = []
    for kind, rates_of in found.items():
        alone = rates_of.get("decoders alone")
        for name, rate in rates_of.items():
            rows.append([kind, name, f"{rate:,.1f}", f"{rate / alone:.2f}" if alone else "-"])
    return table(["pictures", "who", "images/s", "of the decoders alone"], rows)


def show_decoding(found: Figures) -> str:
    if "missing" in found:
        return str(found["missing"])
    off = found["difference"]
    parts = [f"JPEGs of 224 pixels, colours at half size: {off['decoded']} of {off['files']} decoded."]
    if "verdicts" in off:
        changed = off["verdicts"]
        parts.append(
            f"Beside Pillow: {off['same_pixels']:.1%} with the same pixels, largest difference "
            f"{off['largest']} of 255, mean {off['mean']:.2f}; verdicts that change: binary "
            f"{changed['binary']:.1%}, one-class {changed['one_class']:.1%}."
        )
    rows = [[name, f"{rate:,.1f}"] for name, rate in found["per_second"].items()]
    return "\n\n".join([*parts, table(["1024 px, one face", "pictures/s"], rows)])


def show_step(found: Figures) -> str:
    about = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
    rows = [
        [name, f"{row['seconds']:.4f}", f"{row['times_ours']:.2f}", f"{row['gradient']:.1e}"]
        for name, row in found.items()
        if name != "settings"
    ]
    return f"{about}\n\n" + table(["step", "seconds, median", "times ours", "gradient, off ours"], rows)


def show_training(found: Figures) -> str:
    about = f"`{found['recipe']}` with {' '.join(found['settings'])}, {found['photographs']} photographs."
    if "last" not in found:
        return f"{about} No line of history in the time. {found['said']}"
    first, last = found["first"]["losses"], found["last"]["losses"]
    rows = [[name, f"{first[name]:.3f}", f"{last[name]:.3f}"] for name in first]
    speed = f"{found['steps_per_s']:.2f} steps/s, " if "steps_per_s" in found else ""
    done = f"{speed}{found['last']['step']} steps; the first line after {found['first_line_after_s']:.0f} s."
    header = ["loss", f"step {found['first']['step']}", f"step {found['last']['step']}"]
    return "\n\n".join([f"{about} {done}", table(header, rows)])


PARTS = (
    Part("machine", "Machine and bounds", 0.04, measure_machine, show_machine),
    Part("tests", "Tests", 0.16, measure_tests, show_tests),
    Part("agreement", "Agreement with the CPU", 0.08, measure_agreement, show_agreement),
    Part("computing", "Computing alone, crops on the device", 0.13, measure_computing, show_rates),
    Part("backends", "Backends, from array to array", 0.12, measure_backends, show_rates),
    Part("scans", "Whole scans", 0.19, measure_scans, show_scans),
    Part("decoding", "JPEGs decoded on the device", 0.04, measure_decoding, show_decoding),
    Part("step", "One step of training", 0.10, measure_step, show_step),
    Part("training", "A short training", 0.14, measure_training, show_training),
)


# --------------------------------------------------------------------------------------------------- the run


def run(asked: argparse.Namespace, parts: Sequence[Part] = PARTS) -> dict[str, Any]:
    """Do the parts, and write what there is after each."""
    asked.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * asked.minutes
    found: dict[str, Any] = {}
    owed = sum(part.share for part in parts)
    with _scratch() as kept:
        for part in parts:
            left = max(0.0, end - time.monotonic())
            say(f"{part.name}, {left:.0f} s left")
            started = time.monotonic()
            with _scratch() as scratch:
                # What earlier parts did not use is shared out among those that are left.
                room = Room(asked, scratch, kept, started + left * part.share / owed)
                found[part.name] = _attempt(part, room)
            found[part.name]["took_s"] = round(time.monotonic() - started, 1)
            owed -= part.share
            (asked.output / "gpu.json").write_text(json.dumps(found, indent=1))
            (asked.output / "gpu.md").write_text(page(found, parts))
    return found


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _attempt(part: Part, room: Room) -> dict[str, Any]:
    try:
        return {"figures": part.measure(room)}
    except (Exception, SystemExit) as exc:  # the parts that are left are worth their time
        traceback.print_exc()
        return {"failed": f"{type(exc).__name__}: {exc}"}


def page(found: Figures, parts: Sequence[Part] = PARTS) -> str:
    """The figures as Markdown."""
    texts = []
    for part in parts:
        if part.name not in found:
            continue
        done = found[part.name]
        text = part.show(done["figures"]) if "figures" in done else f"It failed: {done['failed']}"
        texts.append(f"## {part.title}\n\n{text}\n\n({done['took_s']} s)")
    return "\n\n".join(texts) + "\n"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--minutes", type=float, default=5.0, help="for everything")
    options.add_argument("--device", default="cuda:0")
    options.add_argument("--tensorrt", action="store_true", help="build engines and run them too")
    options.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    options.add_argument("--batches", type=int, nargs="+", default=[256, 64, 1024])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--images", type=int, default=600, help="pictures of a whole scan")
    options.add_argument("--faces", type=int, default=256, help="made faces to compare scores on")
    options.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="these only")
    return options.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"{asked.device}: torch {torch.__version__} sees no CUDA device here; use --device cpu")
    found = run(asked, [part for part in PARTS if part.name in (asked.parts or part.name)])
    print((asked.output / "gpu.md").read_text())
    sys.exit(any("failed" in done for done in found.values()))


if __name__ == "__main__":
    main()
