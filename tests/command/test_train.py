"""Pretraining with the real commands: index, contact-sheet, train, alone and as two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import piexif
import pytest
from PIL import Image, ImageEnhance

from bladescan.base.exit_codes import ExitCode
from bladescan.tasks.pretext_tasks import PAPER_TASKS

TINY = [
    "encoder.width=8",
    "encoder.embedding_dim=32",
    "text.name=gpt2",
    "text.layers=1",
    "text.width=32",
    "inner.epochs=2",
    "inner.batch_size=4",
    "augmentation.window=64",
    "data.held_out=0.3",
    "outer.share=0.3",
    "workers=0",
]
CHANGES = [part for change in TINY for part in ("--set", change)]


@pytest.fixture(scope="module")
def portraits(samples, tmp_path_factory) -> Path:
    """Sixteen portraits by four cameras, and the sample picture without a face as a patch."""
    folder = tmp_path_factory.mktemp("portraits")
    portrait = Image.open(samples / "portrait.jpg")
    for i in range(16):
        brighter = ImageEnhance.Brightness(portrait).enhance(0.8 + 0.03 * i)
        brighter.resize((400 + 10 * i, 470 + 10 * i)).save(folder / f"{i}.jpg", exif=exif(i), quality=92)
    return folder


def exif(i: int) -> bytes:
    main = {piexif.ImageIFD.Make: ("Canon", "NIKON CORPORATION")[i % 2], piexif.ImageIFD.Model: f"M{i % 4}"}
    tags = {
        piexif.ExifIFD.ISOSpeedRatings: 100 * (i + 1),
        piexif.ExifIFD.FNumber: (28 + i, 10),
        piexif.ExifIFD.ExposureTime: (1, 60 + i),
        piexif.ExifIFD.FocalLength: (35 + i, 1),
        piexif.ExifIFD.MeteringMode: 1 + i % 3,
        piexif.ExifIFD.ExposureMode: i % 2,
        piexif.ExifIFD.WhiteBalance: i % 2,
        piexif.ExifIFD.ExposureProgram: 1 + i % 3,
    }
    return piexif.dump({"0th": main, "Exif": tags})


@pytest.fixture(scope="module")
def run(bladescan, portraits, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    options = ["--recipe", "blades-small", "--photos", portraits, "-o", out, "--tensorboard", *CHANGES]
    done = bladescan("train", *options)
    assert done.returncode == 0, done.stderr.decode()
    assert b"16 photographs with a face" in done.stderr
    assert b"text encoder gpt2: random weights" in done.stderr
    return out


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_a_run_learns_eleven_tasks_and_draws_their_course(run):
    last = history(run)[-1]
    assert set(last["losses"]) == set(last["weights"]) == set(PAPER_TASKS)
    assert last["epoch"] == 2 and last["held_out"]["coarse_manipulation"]["n"] > 0
    for name in ("losses.png", "weights.png"):
        with Image.open(run / name) as plot:
            assert min(plot.size) > 300


def test_tensorboard_reads_the_history(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    lines = history(run)
    logged = events.Scalars("weights/make")
    assert [e.step for e in logged] == [line["step"] for line in lines]
    assert [e.value for e in logged] == pytest.approx([line["weights"]["make"] for line in lines], rel=1e-6)
    assert "held_out/coarse_manipulation" in events.Tags()["scalars"]


def test_info_says_what_a_run_learned(bladescan, run):
    printed = bladescan("info", run).stdout.decode()
    assert "recipe: blades-small" in printed and "task_weights" in printed and "text: gpt2" in printed


def test_the_index_stands_beside_the_run_and_serves_the_next_one(bladescan, portraits, run, tmp_path):
    index = run.parent / "photographs.sqlite"
    before = index.stat().st_mtime_ns
    done = bladescan("index", portraits, "-o", index, "--plot", tmp_path / "tags.png")
    assert done.returncode == 0, done.stderr.decode()
    assert index.stat().st_mtime_ns == before
    printed = done.stdout.decode()
    assert "faces 16" in printed and "with all nine tags 16" in printed
    assert "Canon 8" in printed and "Nikon 8" in printed
    with Image.open(tmp_path / "tags.png") as plot:
        assert min(plot.size) > 300


def test_a_contact_sheet_shows_what_a_recipe_makes_of_photographs(bladescan, portraits, run, tmp_path):
    sheet = tmp_path / "sheet.png"
    index = ["--index", run.parent / "photographs.sqlite"]
    options = ["--recipe", "blades-small", "--photos", portraits, "--n", "8", *CHANGES, *index]
    done = bladescan("contact-sheet", *options, "-o", sheet)
    assert done.returncode == 0, done.stderr.decode()
    assert b"8 examples" in done.stderr
    with Image.open(sheet) as image:
        assert len(image.getcolors(10**6) or range(10**6)) > 1000


def test_a_finished_run_may_be_resumed_and_stays_what_it_is(bladescan, portraits, run):
    before = (run / "encoder.safetensors").read_bytes()
    options = ["--recipe", "blades-small", "--photos", portraits, "-o", run, *CHANGES]
    done = bladescan("train", *options, "--resume")
    assert done.returncode == 0, done.stderr.decode()
    assert b"resumed after step" in done.stderr
    assert (run / "encoder.safetensors").read_bytes() == before


@pytest.mark.integration
def test_two_processes_write_one_run_and_learn_what_one_does(portraits, run):
    out = run.parent / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--recipe", "blades-small", "--photos", portraits, "-o", out, "--device", "cpu", *CHANGES]
    done = subprocess.run([*launch, "-m", "bladescan", "train", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("vision encoder resnet10") == 1
    one, two = history(run), history(out)
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert two[0]["losses"] == pytest.approx(one[0]["losses"], abs=1e-4)
    assert two[-1]["weights"] == pytest.approx(one[-1]["weights"], abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:7"], "CUDA devices"),
        (["--recipe", "blade"], "Did you mean 'blades'?"),
        (["--set", "inner.lr=fast"], "inner.lr: got 'fast'"),
        (["--set", "text.weights=nowhere.safetensors"], "nowhere.safetensors"),
        (["--set", "encoder.weights=nowhere.safetensors"], "nowhere.safetensors"),
        (["--set", "inner.batch_size=64"], "but a minibatch needs 32"),
        (["--index", "{folder}"], "index"),
    ],
)
def test_what_cannot_be_trained_gets_one_clear_line(in_process, portraits, run, tmp_path, options, message):
    index = [] if "--index" in options else ["--index", run.parent / "photographs.sqlite"]
    given = [str(o).replace("{folder}", str(tmp_path)) for o in options]
    recipe = [] if "--recipe" in options else ["--recipe", "blades-small"]
    out = tmp_path / "run"
    done = in_process("train", *recipe, "--photos", portraits, "-o", out, *CHANGES, *index, *given)
    assert done.exit_code == ExitCode.FAILED
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_an_error_of_two_processes_is_said_once(portraits, run, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--recipe", "blades-small", "--photos", portraits, "-o", tmp_path, "--device", "cpu", *CHANGES]
    done = subprocess.run([*launch, "-m", "bladescan", "train", *options], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("is not empty") == 1
    assert "internal error" not in done.stderr
