"""The GPU benchmark runs on a CPU as well, small, and its page holds what was measured."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")

from benchmarks.speed import gpu, gpu_decoding, gpu_encoder, gpu_training  # noqa: E402
from benchmarks.speed.gpu_bounds import Bounds, cost  # noqa: E402
from benchmarks.speed.gpu_encoder import (  # noqa: E402
    EAGER,
    ONNX,  # noqa: E402
    Rates,
    agreement,
    backends,
    faces,
)
from benchmarks.speed.gpu_scans import scans  # noqa: E402
from benchmarks.speed.gpu_tests import counts, run_tests, unfinished  # noqa: E402
from benchmarks.speed.made_photographs import write_photographs  # noqa: E402
from bladescan.base.errors import BackendError  # noqa: E402
from bladescan.exporting.onnx import seeded_crops  # noqa: E402
from bladescan.runtimes.backend import BackendSettings  # noqa: E402
from bladescan.runtimes.registry import get_plugin  # noqa: E402

SMALL = ("--device", "cpu", "--batches", "2", "--rounds", "1", "--images", "8", "--faces", "7")


def test_the_parts_run_on_a_cpu_and_the_page_holds_every_figure(tmp_path, capsys):
    # The others start whole programs: tests, scans, trainings.
    parts = ("machine", "agreement", "computing", "backends")
    with pytest.raises(SystemExit) as ended:
        gpu.main(["-o", str(tmp_path), "--minutes", "30", "--parts", *parts, *SMALL])
    assert not ended.value.code
    found = {name: part["figures"] for name, part in json.loads((tmp_path / "gpu.json").read_text()).items()}
    assert list(found) == list(parts)
    through = found["backends"]["per_second"]
    assert set(through) >= {EAGER, "pytorch backend, fp32, one at a time"}
    assert "onnx backend, fp32, two under way" in through
    rows = [*found["computing"]["per_second"].values(), *through.values()]
    assert min(rate for row in rows for rate in row.values()) > 0
    near = {name: row["embedding"] for name, row in found["agreement"]["rows"].items()}
    assert near["onnx backend, fp32"] < 1e-4 < near["pytorch backend, bf16"] < 0.5
    assert found["agreement"]["rows"]["onnx backend, fp32"]["binary"] == 0
    text = (tmp_path / "gpu.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    for name, row in through.items():
        assert f"| {name} | {row['2']:,.0f} |" in text


def part(name: str, measure, share: float = 0.5) -> gpu.Part:
    return gpu.Part(name, name, share, measure, lambda figures: str(figures["left"]))


def asked(folder: Path, minutes: float):
    return gpu.arguments(["-o", str(folder), "--minutes", str(minutes)])


def test_a_part_that_fails_is_written_down_and_the_next_begins(tmp_path):
    def fails(room):
        raise RuntimeError("CUDA error")

    parts = [part("first", fails), part("second", lambda room: {"left": room.left()})]
    gpu.run(asked(tmp_path, 1), parts)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["first"]["failed"] == "RuntimeError: CUDA error"
    assert "It failed: RuntimeError: CUDA error" in (tmp_path / "gpu.md").read_text()
    assert found["second"]["figures"]["left"] > 50  # all the time that the first left over


def test_what_was_measured_is_there_when_a_later_part_is_killed(tmp_path):
    def killed(room):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.run(
            asked(tmp_path, 1), [part("first", lambda room: {"left": room.left()}), part("second", killed)]
        )
    assert 0 < json.loads((tmp_path / "gpu.json").read_text())["first"]["figures"]["left"] <= 30


def test_a_part_gets_its_share_and_none_when_the_time_is_over(tmp_path):
    late = part("late", lambda room: {"left": room.left(), "has": room.has_time()}, 0.1)
    found = gpu.run(asked(tmp_path, 0.001), [part("slow", lambda room: time.sleep(0.1) or {"left": 0}), late])
    assert not found["late"]["figures"]["has"]


def test_the_last_part_gets_all_that_is_left(tmp_path):
    few = [
        part("first", lambda room: {"left": 0}, 0.1),
        part("last", lambda room: {"left": room.left()}, 0.1),
    ]
    assert gpu.run(asked(tmp_path, 1), few)["last"]["figures"]["left"] > 50


def test_the_shares_of_the_parts_are_the_whole():
    assert sum(part.share for part in gpu.PARTS) == pytest.approx(1)


def test_a_way_that_fails_leaves_the_others_their_time():
    def fails():
        raise RuntimeError("operation not permitted when stream is capturing")

    found = Rates({}, {})
    found.take("graphs", 64, fails)
    found.take("eager", 64, lambda: 5.0)
    assert found.per_second["eager"] == {"64": 5.0}
    text = gpu.show_rates(found._asdict())
    assert "| eager | 5 |" in text and "| graphs" not in text
    assert "graphs, batch 64: operation not permitted" in text


def test_the_report_of_the_tests_is_counted(tmp_path):
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure message="E1&#10;more"/>'
        '</testcase><testcase name="c"><skipped message="no device"/></testcase>'
        '<testcase name="d"><error message="boom"/></testcase></testsuite></testsuites>'
    )
    found = counts(tmp_path / "tests.xml")
    assert found == {"passed": 1, "failed": {"b": "E1", "d": "boom"}, "skipped": {"no device": 1}}
    assert "1 passed, 2 failed" in gpu.show_tests(found)


def test_tests_that_were_broken_off_are_counted_until_then():
    said = "tests/a.py::test_a[x] PASSED  [ 10%]\ntests/a.py::test_b SKIPPED (no device)\ntests/a.py::test_c "
    found = unfinished(said)
    assert found["until_then"] == {"passed": 1, "skipped": 1}
    assert "until then 1 passed, 1 skipped" in gpu.show_tests(found)


def test_the_tests_that_a_gpu_runs_are_there_and_marked(tmp_path):
    found = run_tests(tmp_path, 300)
    assert not found.get("failed") and "unfinished" not in found, found
    assert found["passed"] + sum(found["skipped"].values()) > 30


def test_a_backend_that_fails_leaves_the_others_their_agreement(tmp_path):
    class Broken:
        def submit(self, crops):
            raise BackendError("no memory")

    backend = get_plugin("onnx").open(ONNX, BackendSettings("cpu"))
    missing = {}
    rows = agreement({"broken": Broken(), "onnx": backend}, faces(tmp_path, 3), missing)
    assert rows.keys() == {"onnx"} and missing == {"broken": "no memory"}


def test_whole_scans_are_measured_while_there_is_time(tmp_path):
    times = iter([True] * 3)  # for the first folders and the decoders alone
    found = scans(gpu.arguments(["-o", "x", *SMALL]), tmp_path, lambda: next(times, False))
    (rates,) = found.values()
    assert list(rates) == ["decoders alone"] and rates["decoders alone"] > 0
    assert "decoders alone" in gpu.show_scans(found)


def decoded_by_pillow(files):
    """As nvImageCodec gives them: images that come to the host, None for what is no picture."""
    found = []
    for data in files:
        try:
            pixels = gpu_decoding.by_pillow([data])[0]
            found.append(SimpleNamespace(cpu=lambda pixels=pixels: pixels))
        except OSError:
            found.append(None)
    return found


def test_a_decoder_is_compared_with_pillow_by_pixels_and_by_verdicts():
    files = [gpu_decoding._compressed(crop, 90) for crop in seeded_crops(6, 224)]
    same = gpu_decoding.difference(decoded_by_pillow, files)
    assert (same["decoded"], same["same_pixels"], same["largest"]) == (6, 1.0, 0)
    assert same["verdicts"]["embedding"] == same["verdicts"]["binary"] == 0

    def darker(files):
        return [
            SimpleNamespace(cpu=partial(np.floor_divide, image.cpu(), 2))
            for image in decoded_by_pillow(files)
        ]

    other = gpu_decoding.difference(darker, files)
    assert other["same_pixels"] == 0 and other["largest"] > 50 and other["verdicts"]["embedding"] > 0.01
    figures = {"difference": other, "per_second": {"Pillow, one thread, 64 one by one": 83.4}}
    text = gpu.show_decoding(figures)
    assert "6 of 6 decoded" in text and "| Pillow, one thread, 64 one by one | 83.4 |" in text


def test_who_decodes_what_is_told():
    file = gpu_decoding._compressed(seeded_crops(1, 224)[0], 90)
    assert gpu_decoding.compared(decoded_by_pillow, file) == "the same pixels"
    assert gpu_decoding.compared(decoded_by_pillow, b"no picture") == "neither"
    assert gpu_decoding.compared(lambda files: [None], file) == "Pillow alone"
    always = decoded_by_pillow([file])
    assert gpu_decoding.compared(lambda files: always, b"no picture") == "nvImageCodec alone"


def test_without_nvimagecodec_the_part_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    found = gpu_decoding.decoding(gpu.arguments(["-o", "x", *SMALL]), tmp_path, lambda: True)
    assert gpu_decoding.INSTALL in gpu.show_decoding(found)


def test_nvimagecodec_itself_gives_the_pixels_of_pillow_on_the_cpu(tmp_path, capsys):
    pytest.importorskip("nvidia.nvimgcodec", reason=f"nvImageCodec is not here: {gpu_decoding.INSTALL}")
    found = gpu_decoding.decoding(gpu.arguments(["-o", "x", *SMALL]), tmp_path, lambda: True)
    assert found["difference"]["decoded"] == 7 and found["difference"]["same_pixels"] == 1
    assert min(found["per_second"].values()) > 0
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(gpu_decoding._compressed(seeded_crops(1, 224)[0], 90))
    gpu_decoding.main([str(folder), "--device", "cpu"])
    assert "| 1 | 0 | 0 | 0 | 0 |" in capsys.readouterr().out


def test_a_race_ends_when_the_time_is_over_but_not_before_a_step_that_counts(monkeypatch):
    from benchmarks.speed import train_step

    options = SimpleNamespace(steps=9, device="cpu", batch_size=1)
    monkeypatch.setattr(train_step, "recipe_of", lambda options: None)
    monkeypatch.setattr(train_step, "stepper", lambda *rest: lambda minibatch: torch.zeros(11))
    monkeypatch.setattr(train_step, "random_minibatch", lambda *rest, **named: None)
    seconds, gradients = train_step.race(options, ["a", "b"], lambda: False)
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 1, "b": 1}
    times = iter([True, True, False])
    assert len(train_step.race(options, ["a"], lambda: next(times))[0]["a"]) == 3
    assert set(gradients) == {"a", "b"}


def test_engines_are_built_once_for_all_parts(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(
        gpu_encoder, "write_export", lambda exporter, path: built.append(path) or path.touch()
    )
    asked = gpu.arguments(["-o", "x", *SMALL, "--tensorrt"])
    for _ in range(2):
        missing = {}
        with backends(asked, tmp_path, missing) as opened:
            assert "onnx backend, fp32" in opened
        assert len(missing) == 2  # none of them is an engine
    assert sorted(path.name for path in built) == ["fp16.engine", "fp32.engine"]


def test_made_photographs_have_a_face_and_every_tag(tmp_path):
    from PIL import Image

    from benchmarks.speed.workload import portrait
    from bladescan.exif.tags import EXIF_TASKS, read_exif
    from bladescan.faces.finders import open_face_finder

    folder = write_photographs(tmp_path / "made", portrait(tmp_path / "face"), 12)
    finder = open_face_finder("auto")
    for path in folder.iterdir():
        assert set(read_exif(path.read_bytes()).tags) == set(EXIF_TASKS)
        with Image.open(path) as image:
            assert finder.find(image)


@pytest.mark.integration
def test_a_short_training_is_followed_and_ended(tmp_path):
    found = gpu_training.short_run(asked(tmp_path, 1).__class__(device="cpu"), tmp_path, 10)
    assert found["recipe"] == "blades-small"
    assert "last" in found or found["said"] == "", found["said"]
    assert gpu.show_training(found).startswith("`blades-small` with")


def test_the_cost_of_a_crop_is_that_of_its_layers():
    from bladescan.detectors.shipped import shipped_detector
    from bladescan.heads.detector import load_detector

    gflop, mb = cost(load_detector(shipped_detector("blades", (".safetensors",))))
    assert 0.7 < gflop < 0.9  # EfficientNet-Lite0: 407 million multiplications, less its last convolution
    assert 20 < mb < 40


def test_each_bound_is_its_rate_over_the_cost():
    bounds = Bounds(
        bf16_tflops=700,
        memory_gb_per_s=4000,
        transfer_gb_per_s=50,
        pinning_gb_per_s=10,
        crop_gflop=0.7,
        crop_mb=20,
    )
    allowed = bounds.crops_per_second()
    assert allowed["bfloat16 arithmetic"] == pytest.approx(1e6)
    assert allowed["device memory"] == pytest.approx(2e5)
    assert allowed["crops to the device"] == pytest.approx(50e9 / (224 * 224 * 3))
    assert allowed["crops to page-locked memory"] == pytest.approx(10e9 / (224 * 224 * 3))


def test_without_a_gpu_the_default_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="sees no CUDA device here; use --device cpu"):
        gpu.main(["-o", str(tmp_path)])
