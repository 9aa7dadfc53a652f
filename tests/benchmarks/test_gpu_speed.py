"""The GPU benchmark runs on a CPU as well, small, and its page holds what was measured."""

import json

import pytest

pytest.importorskip("onnx")

from benchmarks.speed import gpu  # noqa: E402


def test_the_benchmark_runs_and_its_page_holds_every_figure(tmp_path, capsys):
    gpu.main(["-o", str(tmp_path), "--device", "cpu", "--batches", "2", "--rounds", "1", "--images", "0"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found["crops_per_second"]) >= {gpu.EAGER, "pytorch backend, fp32", "onnx backend, fp32"}
    assert min(rate for row in found["crops_per_second"].values() for rate in row.values()) > 0
    assert found["errors"]["onnx backend, fp32"] < 1e-4 < found["errors"]["pytorch backend, bf16"] < 0.1
    text = (tmp_path / "gpu.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    for name, row in found["crops_per_second"].items():
        assert f"| {name} | {row['2']:,.0f} (" in text


def test_the_cost_of_a_crop_is_that_of_its_layers():
    from bladescan.detectors.shipped import SAFETENSORS
    from bladescan.heads.detector import load_detector

    gflop, mb = gpu.cost(load_detector(SAFETENSORS))
    assert 0.7 < gflop < 0.9  # EfficientNet-Lite0: 407 million multiplications, less its last convolution
    assert 20 < mb < 40


def test_each_bound_is_its_rate_over_the_cost():
    bounds = gpu.Bounds(
        bf16_tflops=700, memory_gb_per_s=4000, transfer_gb_per_s=50, crop_gflop=0.7, crop_mb=20
    )
    allowed = bounds.crops_per_second()
    assert allowed["bfloat16 arithmetic"] == pytest.approx(1e6)
    assert allowed["device memory"] == pytest.approx(2e5)
    assert allowed["crops to the device"] == pytest.approx(50e9 / (224 * 224 * 3))


def test_without_a_gpu_the_default_says_so(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="sees no CUDA device here; use --device cpu"):
        gpu.main(["-o", str(tmp_path)])
