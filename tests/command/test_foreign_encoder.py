"""A stranger's encoder from its file to verdicts, with the real commands."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.foreign.networks import CHANGES, transformer


def pictures(folder: Path, n: int, seed: int) -> Path:
    """Pictures that are face crops by decree; another seed gives another texture."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        small = rng.integers(0, 256, (6 + 3 * seed, 6 + 3 * seed, 3), dtype=np.uint8)
        Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(bladescan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "vit.onnx").write_bytes(transformer()[1])
    photographs, generated = pictures(folder / "photographs", 90, 1), pictures(folder / "generated", 30, 12)
    said = (*CHANGES, "encoder.output=block1,block2", "encoder.tokens=mean,deviation")
    changes = [part for change in said for part in ("--set", change)]
    command = ["fit", "--encoder", f"onnx:{folder / 'vit.onnx'}", *changes, "--photos", photographs]
    command += ["--ai-generated", generated, "--faces", "none", "--embeddings", folder / "e.sqlite"]
    done = bladescan(*command, "-o", folder / "d.onnx")
    assert done.returncode == 0, done.stderr.decode()
    return folder, command


def test_it_scans_as_any_detector_does(bladescan, in_process, fitted):
    folder, _ = fitted
    command = ["scan", "--model", folder / "d.onnx", "--faces", "none", "--format", "csv"]
    done = bladescan(*command, folder / "photographs", folder / "generated")
    assert done.returncode in (0, 1), done.stderr.decode()
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert len(rows) == 120 and {row["head"] for row in rows} == {"binary"}
    ours, theirs = (
        np.array([float(row["p_ai_generated"]) for row in rows if f"{name}/" in row["path"]])
        for name in ("photographs", "generated")
    )
    assert (theirs[:, None] > ours).mean() > 0.85  # the area under the curve
    flagged = [row["path"] for row in rows if row["verdict"] == "ai-generated"]
    assert sum("photographs/" in path for path in flagged) <= 9
    manifest = json.loads(in_process("info", folder / "d.onnx", "--json").stdout)
    assert manifest["encoder"]["name"] == "onnx" and manifest["encoder"]["embedding_dim"] == 64
    assert manifest["heads"]["binary"]["settings"]["kind"] == "logistic"
    assert manifest["provenance"]["encoder"]["tokens"] == ["mean", "deviation"]
    shown = in_process("info", folder / "d.onnx")
    assert shown.exit_code == 0 and "vit.onnx" in shown.stdout, shown.stderr
    anew = ["--photos", folder / "photographs", "--faces", "none", "-o", folder / "c.onnx"]
    calibrated = bladescan("calibrate", folder / "d.onnx", *anew)
    assert calibrated.returncode == 0, calibrated.stderr.decode()
    manifest = json.loads(in_process("info", folder / "c.onnx", "--json").stdout)
    assert manifest["heads"]["binary"]["n_held_out"] == 90


def test_a_second_fit_takes_the_embeddings_and_gives_the_same_bytes(bladescan, in_process, fitted, tmp_path):
    folder, command = fitted
    for name in ("photographs", "generated"):  # of the same size and time, but no pictures any more
        for picture in (folder / name).iterdir():
            stat = picture.stat()
            picture.write_bytes(b"\0" * stat.st_size)
            os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = bladescan(*command, "-o", tmp_path / "d.onnx")
    assert again.returncode == 0, again.stderr.decode()
    assert (tmp_path / "d.onnx").read_bytes() == (folder / "d.onnx").read_bytes()
    other = bladescan(*command, "--binary-head", "perceptron", "-o", tmp_path / "p.onnx")
    assert other.returncode == 0, other.stderr.decode()
    manifest = json.loads(in_process("info", tmp_path / "p.onnx", "--json").stdout)
    assert manifest["heads"]["binary"]["settings"]["hidden"] == 1536


def test_it_is_put_into_integers(bladescan, in_process, fitted, tmp_path):
    folder, _ = fitted
    photographs = pictures(tmp_path / "more", 90, 1)
    command = ["export", folder / "d.onnx", "--precision", "int8", "--photos", photographs, "--faces", "none"]
    done = bladescan(*command, "-o", tmp_path / "i.onnx")
    assert done.returncode == 0, done.stderr.decode()
    operators = [node.op_type for node in onnx.load(tmp_path / "i.onnx").graph.node]
    assert operators.count("MatMulInteger") >= 8
    manifest = json.loads(in_process("info", tmp_path / "i.onnx", "--json").stdout)
    assert manifest["encoder"]["batch"] == 1
    assert min(manifest["provenance"]["int8"]["same_verdict"].values()) >= 0.95


def test_what_does_not_go_together_is_said_before_anything_is_read(in_process, fitted, tmp_path):
    folder, command = fitted
    for arguments, message in (
        ((*command, "-o", tmp_path / "d.safetensors"), "expected a name that ends in .onnx"),
        ((*command, "--backend", "pytorch", "-o", tmp_path / "d.onnx"), "runs no ONNX graph"),
        ((*command, "--set", "encoder.tokens=sum", "-o", tmp_path / "d.onnx"), "encoder.tokens"),
        ((*command, "--binary-head", "forest", "-o", tmp_path / "d.onnx"), "unknown binary head 'forest'"),
        (("fit", "--set", "encoder.input=9", "--photos", folder, "-o", tmp_path / "d.onnx"), "--set is for"),
    ):
        done = in_process(*arguments)
        assert done.exit_code == 2 and message in done.stderr, done.stderr
